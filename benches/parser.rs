//! What one request costs in the parsers and encoders alone, in nanoseconds.
//!
//! `cargo bench --bench parser [CASE]` times all cases, or those whose name contains CASE.
//! `parser --once CASE N` does N rounds of one case and nothing else: for an instruction count, run
//! it under `valgrind --tool=callgrind` with two values of N and divide the difference.

use std::hint::black_box;
use std::time::Instant;

use sunder::clock::{Expiry, Now};
use sunder::limits::ITEM_BYTES_MAX_DEFAULT;
use sunder::protocol::{Command, Form, Head, Limits, Step, binary, encode, text};
use sunder::tier::{Hit, Outcome};

const NOW: Now = Now { uptime_us: 1, unix_s: 1_800_000_000 };
const LIMITS: Limits =
    Limits { item_bytes_max: ITEM_BYTES_MAX_DEFAULT, shutdown: false, flush: true };

const KEY: &[u8] = b"user:1234567890:name";

fn hit() -> Outcome<()> {
    Outcome::Hit(Hit { flags: 0, expiry: Expiry::NEVER, cas: 123_456, value: () })
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
    match text::parse(black_box(input), &LIMITS, NOW) {
        Step::Done { command, consumed } => {
            black_box(&command);
            consumed
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
    match binary::parse(black_box(input), &LIMITS, NOW) {
        Step::Done { command, consumed } => {
            black_box(&command);
            consumed
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

type Case = (&'static str, Box<dyn FnMut() -> usize>);

fn cases() -> Vec<Case> {
    let key = String::from_utf8_lossy(KEY).into_owned();
    // What follows is what a pipelining client has already sent.
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
        ("text get", Box::new(move || parse_text(&get))),
        ("text gets", Box::new(move || parse_text(&gets))),
        ("text set of 100 B", Box::new(move || parse_text(&set))),
        ("text incr", Box::new(move || parse_text(&incr))),
        ("text get of 10 keys", Box::new(move || parse_text_keys(&multi))),
        ("text hit", Box::new(move || encode_into(&mut head, text_get, &hit()))),
        ("text stored", Box::new(move || encode_into(&mut other_head, text_line, &stored))),
        ("binary get", Box::new(move || parse_binary(&binary_get))),
        ("binary set of 100 B", Box::new(move || parse_binary(&binary_set))),
        ("binary hit", Box::new(move || encode_into(&mut binary_head, form, &hit()))),
    ]
}

/// The best of several batches: what disturbs a measurement only ever adds to it.
fn best_ns(run: &mut dyn FnMut() -> usize) -> f64 {
    const ROUNDS: u32 = 200_000;
    let batch = |run: &mut dyn FnMut() -> usize| {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            assert!(black_box(run()) > 0);
        }
        start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
    };
    (0..15).map(|_| batch(run)).fold(f64::INFINITY, f64::min)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [once, name, rounds] = &arguments[..]
        && once == "--once"
    {
        let rounds: u64 = rounds.parse().expect("a number of rounds");
        let mut all = cases();
        let (_, run) = all.iter_mut().find(|(case, _)| case == name).expect("a case");
        for _ in 0..rounds {
            assert!(black_box(run()) > 0);
        }
        return;
    }
    let filter = arguments.first().map_or("", String::as_str);
    println!("one core, key of {} bytes, best of 15 batches", KEY.len());
    for (name, mut run) in cases().into_iter().filter(|(name, _)| name.contains(filter)) {
        println!("{name:<24}{:>8.1} ns", best_ns(&mut run));
    }
}
