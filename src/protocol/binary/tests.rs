//! Tests of the binary protocol: memcached's answers, and inputs that caused failures elsewhere.

use proptest::prelude::*;

use super::header::MAGIC_RESPONSE;
use super::*;
use crate::orchestrator::Action;
use crate::protocol::testing::{Client, LIMITS, NOW, table};
use crate::tier::{Hit, ItemState, StoreMode};

const TABLE: &str = include_str!("../conformance/binary.tsv");

/// A request as a client would send it, with lengths that may be overridden by wrong ones.
#[derive(Clone, Debug)]
struct Sent {
    opcode: u8,
    key: Vec<u8>,
    extras: Vec<u8>,
    value: Vec<u8>,
    cas: u64,
    body_bytes: Option<u32>,
}

impl Sent {
    fn new(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Sent {
        let [key, extras, value] = [key, extras, value].map(<[u8]>::to_vec);
        Sent { opcode, key, extras, value, cas: 0, body_bytes: None }
    }

    fn head(&self) -> Vec<u8> {
        let body = self.key.len() + self.extras.len() + self.value.len();
        let mut bytes = vec![MAGIC_REQUEST, self.opcode];
        bytes.extend((self.key.len() as u16).to_be_bytes());
        bytes.extend([self.extras.len() as u8, 0, 0, 0]);
        bytes.extend(self.body_bytes.unwrap_or(body as u32).to_be_bytes());
        bytes.extend(0xdead_beef_u32.to_be_bytes());
        bytes.extend(self.cas.to_be_bytes());
        bytes.extend(&self.extras);
        bytes.extend(&self.key);
        bytes
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head(), self.value.clone()].concat()
    }
}

const STORE_EXTRAS: &[u8] = &[0, 0, 0, 7, 0, 0, 0, 0];

/// Every cas other than 0 replaced by 1, as in the table.
fn masked(mut replies: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while at + HEADER_BYTES <= replies.len() && replies[at] == MAGIC_RESPONSE {
        let body = u32::from_be_bytes(*replies[at + 8..].first_chunk().unwrap());
        let cas = &mut replies[at + 16..at + 24];
        if cas.iter().any(|&byte| byte != 0) {
            cas.copy_from_slice(&1_u64.to_be_bytes());
        }
        at += HEADER_BYTES + body as usize;
    }
    replies
}

/// Status and body of the only reply, and whether the connection was then closed.
fn only_reply(request: &[u8]) -> (u16, String, bool) {
    let client = Client::converse([request]);
    let out = &client.output;
    let body = u32::from_be_bytes(*out[8..].first_chunk().unwrap()) as usize;
    assert_eq!(out.len(), HEADER_BYTES + body, "{}", out.escape_ascii());
    let status = u16::from_be_bytes(*out[6..].first_chunk().unwrap());
    (status, out[HEADER_BYTES..].escape_ascii().to_string(), client.is_closed)
}

fn done(input: &[u8]) -> (Command<'_>, usize) {
    match parse(input, &LIMITS, NOW) {
        Step::Done { command, consumed } => (command, consumed),
        Step::NeedMore => panic!("not done: {}", input.escape_ascii()),
    }
}

#[test]
fn replies_are_memcacheds_to_the_byte() {
    let mut rows = 0;
    for (request, reply, closes) in table(TABLE) {
        let client = Client::converse([&request[..]]);
        let shown = request[..request.len().min(200)].escape_ascii();
        let mine = masked(client.output).escape_ascii().to_string();
        assert_eq!(mine, reply.escape_ascii().to_string(), "to {shown}");
        assert_eq!(client.is_closed, closes, "after {shown}");
        rows += 1;
    }
    assert!(rows > 70, "{rows} rows");
}

#[test]
fn replies_do_not_depend_on_where_the_input_is_cut() {
    for (request, _, _) in table(TABLE).filter(|(request, ..)| request.len() < 10_000) {
        let whole = Client::converse([&request[..]]);
        let bytes = Client::converse(request.chunks(1));
        assert_eq!(whole.output, bytes.output, "to {}", request.escape_ascii());
        assert_eq!(whole.is_closed, bytes.is_closed, "to {}", request.escape_ascii());
    }
}

#[test]
fn gete_is_rends() {
    let mut input = Sent::new(opcode::SET, &[0, 0, 0, 7, 0, 0, 0, 10], b"k", b"value").bytes();
    input.extend(Sent::new(opcode::GETE, b"", b"k", b"").bytes());
    input.extend(Sent::new(opcode::GETEQ, b"", b"k", b"").bytes());
    input.extend(Sent::new(opcode::GETE, b"", b"miss", b"").bytes());
    input.extend(Sent::new(opcode::GETEQ, b"", b"miss", b"").bytes());
    input.extend(Sent::new(opcode::NOOP, b"", b"", b"").bytes());
    let output = masked(Client::converse([&input[..]]).output);
    let expires = (NOW.unix_s + 10).to_be_bytes();
    let mut expected = Vec::new();
    expected.extend(b"\x81\x01\0\0\0\0\0\0\0\0\0\0\xde\xad\xbe\xef\0\0\0\0\0\0\0\x01");
    for _ in 0..2 {
        expected.extend(b"\x81\x40\0\0\x08\0\0\0\0\0\0\x0d\xde\xad\xbe\xef\0\0\0\0\0\0\0\x01");
        expected.extend([&[0, 0, 0, 7], &expires[..], b"value"].concat());
    }
    expected.extend(b"\x81\x40\0\0\0\0\0\x01\0\0\0\0\xde\xad\xbe\xef\0\0\0\0\0\0\0\0");
    expected.extend(b"\x81\x0a\0\0\0\0\0\0\0\0\0\0\xde\xad\xbe\xef\0\0\0\0\0\0\0\0");
    assert_eq!(output.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn gete_accepts_only_a_key() {
    for opcode in [opcode::GETE, opcode::GETEQ] {
        for request in [
            Sent::new(opcode, b"", b"", b""),
            Sent::new(opcode, &[0; 4], b"k", b""),
            Sent::new(opcode, b"", b"k", b"value"),
        ] {
            let (status, _, is_closed) = only_reply(&request.bytes());
            assert_eq!((status, is_closed), (4, true), "{request:?}");
        }
    }
}

#[test]
fn gete_of_an_item_that_never_expires_says_0() {
    let hit =
        Hit { flags: 1, expiry: Expiry::NEVER, cas: 2, state: ItemState::default(), value: () };
    let mut head = Head::new();
    let form = Form { opcode: opcode::GETE, opaque: 0 };
    encode(form, b"k", &Outcome::Hit(hit), 0, &mut head);
    assert_eq!(head[24..], [0, 0, 0, 1, 0, 0, 0, 0]);
}

#[test]
fn version_and_noop() {
    let request = Sent::new(opcode::VERSION, b"", b"", b"").bytes();
    let version = crate::protocol::VERSION;
    assert_eq!(only_reply(&request), (0, version.into(), false));
}

#[test]
fn an_unknown_opcode_is_skipped_with_its_key() {
    // memcached 1.6.18 skips the key twice and loses track of the stream.
    for sent in [
        Sent::new(0x50, b"", b"abc", b""),
        Sent::new(0x50, b"abc", b"", b""),
        Sent::new(0x1b, b"1234", b"k", b"value"),
        Sent::new(opcode::SASL_AUTH, b"", b"PLAIN", b"\0user\0secret"),
    ] {
        let input = [sent.bytes(), Sent::new(opcode::NOOP, b"", b"", b"").bytes()].concat();
        let output = Client::converse([&input[..]]).output;
        assert_eq!(output.len(), 2 * HEADER_BYTES + "Unknown command".len());
        assert_eq!(output[HEADER_BYTES + "Unknown command".len() + 1], opcode::NOOP);
    }
}

#[test]
fn a_disabled_flush_is_an_auth_error() {
    let limits = Limits { flush: false, ..LIMITS };
    let request = Sent::new(opcode::FLUSHQ, b"", b"", b"").bytes();
    let Step::Done { command: Command::Bad { reply, close: false, .. }, .. } =
        parse(&request, &limits, NOW)
    else {
        panic!()
    };
    assert_eq!(reply.as_bytes()[6..8], [0, 0x20]);
    assert!(reply.as_bytes().ends_with(b"Auth failure."));
}

#[test]
fn a_set_over_the_limit_removes_the_item_and_skips_the_value() {
    let limits = Limits { item_bytes_max: 1024, ..LIMITS };
    let size = 1024 - 56 - 2 - 2 - 4_u32;
    let sent = |opcode, size| {
        Sent { body_bytes: Some(9 + size), ..Sent::new(opcode, STORE_EXTRAS, b"k", b"") }.head()
    };
    assert!(matches!(
        parse(&sent(opcode::SET, size), &limits, NOW),
        Step::Done { command: Command::Store { value_bytes: 960, is_text: false, .. }, .. }
    ));
    let large = sent(opcode::SETQ, size + 1);
    let Step::Done { command: Command::Operation { request, skip_bytes: 961 }, .. } =
        parse(&large, &limits, NOW)
    else {
        panic!()
    };
    assert!(matches!(request.action, Action::StoreTooLarge));
    assert!(matches!(
        parse(&sent(opcode::ADD, size + 1), &limits, NOW),
        Step::Done { command: Command::Bad { skip_bytes: 961, close: false, .. }, .. }
    ));
}

#[test]
fn a_cas_makes_add_and_replace_a_set() {
    for opcode in [opcode::SET, opcode::ADD, opcode::REPLACEQ] {
        let input = Sent { cas: 9, ..Sent::new(opcode, STORE_EXTRAS, b"k", b"v") }.head();
        let input = [input, b"v".to_vec()].concat();
        let (Command::Store { request, .. }, _) = done(&input) else { panic!() };
        let Action::Store(store) = request.action else { panic!() };
        assert_eq!((store.mode, store.cas), (StoreMode::Set, 9));
    }
}

// Vulnerabilities of similar servers.

#[test]
fn cve_2011_4971_body_near_2_to_the_32() {
    let mut request = b"\x80\x12\0\x01\x08\0\0\0\xff\xff\xff\xe8".to_vec();
    request.resize(1024, 0);
    assert_eq!(only_reply(&request), (4, "Invalid arguments".into(), true));
}

#[test]
fn cve_2016_8704_8705_and_2017_9951_key_and_extras_longer_than_body() {
    for opcode in [0x0e, 0x0f, 0x19, 0x1a, 0x01, 0x02, 0x03, 0x11, 0x12, 0x13] {
        let extras = if opcode & 0x0f < 4 { STORE_EXTRAS } else { b"" };
        for body_bytes in [0, 1, 8, 0xf9] {
            let key = [b'k'; 0xfa];
            let sent =
                Sent { body_bytes: Some(body_bytes), ..Sent::new(opcode, extras, &key, b"") };
            assert_eq!(only_reply(&sent.head()), (0x81, "Unknown command".into(), true));
            // Not before as much as the header claims has arrived.
            let client = Client::converse([&sent.head()[..24]]);
            assert!(client.output.is_empty() && !client.is_closed);
        }
    }
}

#[test]
fn cve_2016_8706_sasl_key_longer_than_body() {
    let sent = Sent { body_bytes: Some(1), ..Sent::new(0x21, b"", &[b'k'; 32], b"") };
    assert_eq!(only_reply(&sent.bytes()), (0x81, "Unknown command".into(), true));
}

#[test]
fn cve_2020_10931_more_extras_than_the_opcode_has() {
    for opcode in 0..=0x24 {
        for extras in [1, 9, 21, 24, 25, 255] {
            let sent = Sent::new(opcode, &vec![0; extras], b"k", b"");
            if Shape::of(opcode) == Shape::Unknown {
                continue;
            }
            let reply = only_reply(&sent.bytes());
            assert_eq!(reply, (4, "Invalid arguments".into(), true), "{opcode:02x} {extras}");
        }
    }
}

#[test]
fn commit_229cf41_body_over_a_gibibyte_on_every_opcode() {
    for opcode in 0..=255 {
        for body_bytes in [0x4000_0001, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
            let sent = Sent { body_bytes: Some(body_bytes), ..Sent::new(opcode, b"", b"k", b"") };
            let reply = only_reply(&sent.bytes());
            assert_eq!(reply, (4, "Invalid arguments".into(), true), "{opcode:02x}");
        }
    }
}

#[test]
fn rend_lengths_do_not_underflow() {
    // Rend computes the value's length as TotalBody - Extra - Key in 32 bits.
    let sent = Sent { body_bytes: Some(3), ..Sent::new(opcode::SET, STORE_EXTRAS, b"key", b"") };
    assert_eq!(only_reply(&sent.head()), (0x81, "Unknown command".into(), true));
}

#[test]
fn a_stream_that_is_no_longer_binary_is_closed() {
    // As memcached, not before a header is whole.
    for first in [b'\x81', b'v', b'\0'] {
        let input = [first; HEADER_BYTES + 1];
        assert!(matches!(parse(&input[..HEADER_BYTES - 1], &LIMITS, NOW), Step::NeedMore));
        let (command, consumed) = done(&input);
        assert!(matches!(command, Command::Bad { reply: Fixed::NONE, close: true, .. }));
        assert_eq!(consumed, input.len());
    }
    assert!(matches!(parse(b"", &LIMITS, NOW), Step::NeedMore));
    assert!(matches!(parse(b"\x80", &LIMITS, NOW), Step::NeedMore));
}

fn sent() -> impl Strategy<Value = Sent> {
    let bytes = |n| prop::collection::vec(any::<u8>(), 0..n);
    let opcode = prop_oneof![8 => 0_u8..0x42, 1 => any::<u8>()];
    let extras =
        prop_oneof![prop::sample::select(vec![0, 4, 8, 20]).prop_map(|n| vec![1; n]), bytes(30),];
    let body = prop_oneof![8 => Just(None), 1 => any::<u32>().prop_map(Some)];
    (opcode, extras, bytes(260), bytes(40), any::<u64>(), body).prop_map(
        |(opcode, extras, key, value, cas, body_bytes)| Sent {
            opcode,
            key,
            extras,
            value,
            cas,
            body_bytes,
        },
    )
}

proptest! {
    #[test]
    fn parse_consumes_at_most_the_input(mut input in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Some(first) = input.first_mut() {
            *first = MAGIC_REQUEST;
        }
        if let Step::Done { consumed, .. } = parse(&input, &LIMITS, NOW) {
            prop_assert!(0 < consumed && consumed <= input.len());
        }
    }

    #[test]
    fn conversations_do_not_depend_on_cuts(
        requests in prop::collection::vec(sent(), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let input: Vec<u8> = requests.iter().flat_map(Sent::bytes).collect();
        let at = cut.index(input.len());
        let whole = Client::converse([&input[..]]);
        let halves = Client::converse([&input[..at], &input[at..]]);
        prop_assert_eq!(whole.output, halves.output);
        prop_assert_eq!(whole.is_closed, halves.is_closed);
    }

    #[test]
    fn a_request_is_parsed_as_it_was_sent(
        key in prop::collection::vec(any::<u8>(), 1..=250),
        flags: u32, exptime in 0..=i32::MAX as u32, size in 0..1_000_000_u32, cas: u64,
    ) {
        let extras = [flags.to_be_bytes(), exptime.to_be_bytes()].concat();
        let body_bytes = Some(8 + key.len() as u32 + size);
        let sent = Sent { cas, body_bytes, ..Sent::new(opcode::SET, &extras, &key, b"") };
        let head = sent.head();
        for end in 0..head.len() {
            prop_assert!(matches!(parse(&head[..end], &LIMITS, NOW), Step::NeedMore));
        }
        let (command, consumed) = done(&head);
        let Command::Store { request, value_bytes, is_text: false } = command else { panic!() };
        prop_assert_eq!((value_bytes, consumed), (size as usize, head.len()));
        prop_assert_eq!(request.key, &key[..]);
        let form = Form { opcode: opcode::SET, opaque: 0xdead_beef };
        prop_assert_eq!(request.form, AnyForm::Binary(form));
        let Action::Store(store) = request.action else { panic!() };
        prop_assert_eq!((store.flags, store.cas), (flags, cas));
        prop_assert_eq!(store.expiry, Expiry::from_exptime(exptime.into(), NOW));
    }

    #[test]
    fn an_encoded_header_can_be_read_back(
        opcode in prop::sample::select(vec![
            opcode::GET, opcode::GETQ, opcode::GETK, opcode::GETKQ, opcode::GAT, opcode::GATKQ,
            opcode::GETE,
        ]),
        key in prop::collection::vec(any::<u8>(), 1..=250),
        flags: u32, opaque: u32, cas: u64, expires: u32, size in 0..0xffff_0000_usize,
    ) {
        let mut head = Head::new();
        let (expiry, state) = (Expiry::from_unix_s(expires), ItemState::default());
        let hit = Hit { flags, expiry, cas, state, value: () };
        let form = Form { opcode, opaque };
        let encoded = encode(form, &key, &Outcome::Hit(hit), size, &mut head);
        prop_assert!(encoded.with_value && encoded.tail.is_empty());
        // A response differs from a request only in its magic.
        let header = Header::read(&head).unwrap();
        prop_assert_eq!(header.magic, MAGIC_RESPONSE);
        prop_assert_eq!((header.opcode, header.opaque, header.cas), (opcode, opaque, cas));
        prop_assert_eq!(header.key_bytes, if form.needs_key() { key.len() } else { 0 });
        prop_assert_eq!(HEADER_BYTES + header.body_bytes, head.len() + size);
        prop_assert_eq!(head[24..28].to_vec(), flags.to_be_bytes().to_vec());
        if form.needs_key() {
            prop_assert_eq!(&head[28..], &key[..]);
        }
    }
}
