//! The time of one request in the parsers and encoders alone: a 20-byte key, a 100-byte value.

use std::hint::black_box;

use sunder::base::clock::{Expiry, Now};
use sunder::protocol::{Command, Form, Head, Limits, Step, binary, encode, text};
use sunder::tier::{Hit, Outcome};

const NOW: Now = Now { uptime_us: 1, unix_s: 1_800_000_000 };
const LIMITS: Limits = Limits::DEFAULT;

const KEY: &[u8] = b"user:1234567890:name";

fn hit() -> Outcome<()> {
    Outcome::Hit(Hit {
        flags: 0,
        expiry: Expiry::NEVER,
        cas: 123_456,
        state: Default::default(),
        value: (),
    })
}

fn packet(opcode: u8, extras: &[u8], value_bytes: usize) -> Vec<u8> {
    let body_bytes = (extras.len() + KEY.len() + value_bytes) as u32;
    let mut bytes = vec![0x80, opcode, 0, KEY.len() as u8, extras.len() as u8, 0, 0, 0];
    bytes.extend(body_bytes.to_be_bytes());
    bytes.extend([0; 12]);
    bytes.extend([extras, KEY].concat());
    bytes.resize(bytes.len() + value_bytes, b'v');
    bytes
}

fn parse_text(input: &[u8]) -> usize {
    // By reference: moving it is not part of parsing.
    match &text::parse(black_box(input), &LIMITS, NOW) {
        Step::Done { command, consumed } => {
            black_box(command);
            *consumed
        }
        Step::NeedMore => 0,
    }
}

fn parse_text_keys(input: &[u8]) -> usize {
    let Step::Done { command: Command::Keys(_), mut consumed } =
        text::parse(black_box(input), &LIMITS, NOW)
    else {
        return 0;
    };
    loop {
        match text::next_key(&input[consumed..]) {
            text::KeyStep::Key { key, consumed: bytes } => {
                black_box(key);
                consumed += bytes;
            }
            text::KeyStep::End { consumed: bytes } => return consumed + bytes,
            _ => return 0,
        }
    }
}

fn parse_binary(input: &[u8]) -> usize {
    match &binary::parse(black_box(input), &LIMITS, NOW) {
        Step::Done { command, consumed } => {
            black_box(command);
            *consumed
        }
        Step::NeedMore => 0,
    }
}

fn encode_into(head: &mut Head, form: Form, outcome: &Outcome<()>) -> usize {
    head.clear();
    let encoded = encode(black_box(form), black_box(KEY), black_box(outcome), 100, head);
    black_box(&head);
    black_box(encoded);
    head.len()
}

/// A name and one operation.
pub type Case = (&'static str, Box<dyn FnMut()>);

/// Every case with its name.
pub fn cases() -> Vec<Case> {
    let key = String::from_utf8_lossy(KEY).into_owned();
    // Followed by what a pipelining client has already sent.
    let get = format!("get {key}\r\nget {key}\r\n").into_bytes();
    let gets = format!("gets {key}\r\n").into_bytes();
    let set = format!("set {key} 0 3600 100\r\n{}\r\n", "v".repeat(100)).into_bytes();
    let incr = format!("incr {key} 1\r\n").into_bytes();
    let multi = format!("get{}\r\n", format!(" {key}").repeat(10)).into_bytes();
    let binary_get = packet(0x00, b"", 0);
    let binary_set = packet(0x01, &[0; 8], 100);
    let mut head = Head::new();
    let mut other_head = Head::new();
    let mut binary_head = Head::new();
    let text_get = Form::Text(text::Form::Get { with_cas: false, last: true });
    let text_line = Form::Text(text::Form::Line);
    let form = Form::Binary(binary::Form { opcode: 0, opaque: 7 });
    let stored = Outcome::Stored { cas: 1 };
    vec![
        ("text-get", checked(move || parse_text(&get))),
        ("text-gets", checked(move || parse_text(&gets))),
        ("text-set", checked(move || parse_text(&set))),
        ("text-incr", checked(move || parse_text(&incr))),
        ("text-get-10-keys", checked(move || parse_text_keys(&multi))),
        ("text-hit", checked(move || encode_into(&mut head, text_get, &hit()))),
        ("text-stored", checked(move || encode_into(&mut other_head, text_line, &stored))),
        ("binary-get", checked(move || parse_binary(&binary_get))),
        ("binary-set", checked(move || parse_binary(&binary_set))),
        ("binary-hit", checked(move || encode_into(&mut binary_head, form, &hit()))),
    ]
}

/// Parsing or encoding must yield bytes; a failing case would be fast.
fn checked(mut run: impl FnMut() -> usize + 'static) -> Box<dyn FnMut()> {
    Box::new(move || assert!(black_box(run()) > 0))
}
