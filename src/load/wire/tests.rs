//! Both directions of all dialects: bytes that are known, every cut, every spoilt byte.

use super::Dialect::{Binary, Meta, Text};
use super::*;
use proptest::prelude::*;

fn bytes_of(dialect: Dialect, request: &ClientRequest<'_>) -> Vec<u8> {
    let mut out = vec![];
    encode(dialect, request, &mut out);
    out
}

fn many(dialect: Dialect) -> Vec<u8> {
    let mut out = vec![];
    encode_many(dialect, Verb::Get, [&b"a"[..], b"bc"], &mut out);
    out
}

#[track_caller]
fn asks(dialect: Dialect, request: &ClientRequest<'_>, expected: &[u8]) {
    let bytes = bytes_of(dialect, request);
    assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn text_requests() {
    let set = ClientRequest::store(Verb::Set, b"k", 7, b"abc");
    asks(Text, &set, b"set k 7 0 3\r\nabc\r\n");
    let cas = ClientRequest { verb: Verb::Cas, unique: 9, exptime: -1, ..set };
    asks(Text, &cas, b"cas k 7 -1 3 9\r\nabc\r\n");
    let gat = ClientRequest { exptime: 60, ..ClientRequest::new(Verb::Gat, b"k") };
    asks(Text, &gat, b"gat 60 k\r\n");
    asks(Text, &ClientRequest { verb: Verb::Touch, ..gat }, b"touch k 60\r\n");
    asks(Text, &ClientRequest::new(Verb::Incr, b"k"), b"incr k 1\r\n");
    asks(Text, &ClientRequest::new(Verb::Flush, b""), b"flush_all\r\n");
    assert_eq!(many(Text), b"get a bc\r\n");
}

#[test]
fn meta_requests() {
    let set = ClientRequest { opaque: 5, ..ClientRequest::store(Verb::Set, b"k", 7, b"abc") };
    asks(Meta, &set, b"ms k 3 F7 k O5\r\nabc\r\n");
    asks(Meta, &ClientRequest { verb: Verb::Add, ..set }, b"ms k 3 F7 ME k O5\r\nabc\r\n");
    let cas = ClientRequest { verb: Verb::Cas, unique: 9, exptime: 30, ..set };
    asks(Meta, &cas, b"ms k 3 F7 T30 C9 k O5\r\nabc\r\n");
    asks(Meta, &ClientRequest::new(Verb::Gets, b"k"), b"mg k f c v k O0\r\n");
    asks(Meta, &ClientRequest::new(Verb::Touch, b"k"), b"mg k T0 k O0\r\n");
    asks(Meta, &ClientRequest::new(Verb::Decr, b"k"), b"ma k MD v k O0\r\n");
    assert_eq!(many(Meta), b"mg a f v k q O0\r\nmg bc f v k q O1\r\nmn\r\n");
}

#[test]
fn binary_requests() {
    let set = ClientRequest { opaque: 5, ..ClientRequest::store(Verb::Set, b"k", 7, b"abc") };
    let bytes =
        b"\x80\x01\0\x01\x08\0\0\0\0\0\0\x0c\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0kabc";
    asks(Binary, &set, bytes);
    let incr = bytes_of(Binary, &ClientRequest::new(Verb::Incr, b"k"));
    assert_eq!(incr[24..], *b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\xff\xff\xff\xffk");
    let append = bytes_of(Binary, &ClientRequest { verb: Verb::Append, ..set });
    assert_eq!(append[24..], *b"kabc");
    let many = many(Binary);
    assert_eq!((many[1], many[15], many[24]), (0x0d, 0, b'a'));
    assert_eq!((many[26], many[40], many[52]), (0x0d, 1, 0x0a));
}

fn binary(opcode: u8, status: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let body_bytes = (extras.len() + key.len() + value.len()) as u32;
    let mut bytes = vec![0x81, opcode, 0, key.len() as u8, extras.len() as u8, 0, 0, status];
    bytes.extend(body_bytes.to_be_bytes());
    bytes.extend(3_u32.to_be_bytes());
    bytes.extend(99_u64.to_be_bytes());
    bytes.extend([extras, key, value].concat());
    bytes
}

const ITEM: Item<'_> = Item { key: b"k", flags: 5, value: b"\r\n", unique: 77 };

/// Replies with their opaque and what they mean.
fn replies() -> Vec<(Dialect, Vec<u8>, Option<u32>, Reply<'static>)> {
    let text = |line: &str, reply| (Text, format!("{line}\r\n").into_bytes(), None, reply);
    let meta =
        |line: &str, opaque, reply| (Meta, format!("{line}\r\n").into_bytes(), opaque, reply);
    let mut all = vec![
        text("VALUE k 5 2 77\r\n\r\n", Reply::Item(ITEM)),
        text("VALUE k 5 0\r\n", Reply::Item(Item { value: b"", unique: 0, ..ITEM })),
        text("END", Reply::End),
        text("STORED", Reply::Stored),
        text("NOT_STORED", Reply::NotStored),
        text("EXISTS", Reply::Exists),
        text("NOT_FOUND", Reply::NotFound),
        text("DELETED", Reply::Deleted),
        text("TOUCHED", Reply::Touched),
        text("OK", Reply::Ok),
        text("18446744073709551615", Reply::Number(u64::MAX)),
        text("SERVER_ERROR object too large for cache", Reply::TooLarge),
        text("SERVER_ERROR no", Reply::Failed(b"SERVER_ERROR no")),
        text("ERROR", Reply::Refused(b"ERROR")),
        text("CLIENT_ERROR bad", Reply::Refused(b"CLIENT_ERROR bad")),
        meta("VA 2 f5 c77 kk O3\r\n\r\n", Some(3), Reply::Item(ITEM)),
        meta("HD", None, Reply::Done),
        meta("HD kk O8", Some(8), Reply::Done),
        meta("EN", None, Reply::Miss),
        meta("MN", None, Reply::End),
        meta("NF O1", Some(1), Reply::NotFound),
        meta("NS O1 kk", Some(1), Reply::NotStored),
        meta("EX", None, Reply::Exists),
        meta("OK", None, Reply::Ok),
        meta("SERVER_ERROR no", None, Reply::Failed(b"SERVER_ERROR no")),
    ];
    let flags = &5_u32.to_be_bytes();
    for (opcode, status, extras, key, value, reply) in [
        (
            0x00,
            0,
            &flags[..],
            &b""[..],
            &b"ab"[..],
            Reply::Item(Item { key: b"", flags: 5, value: b"ab", unique: 99 }),
        ),
        (0x0d, 0, flags, b"k", b"\r\n", Reply::Item(Item { unique: 99, ..ITEM })),
        (0x00, 1, b"", b"", b"Not found", Reply::Miss),
        (0x0a, 0, b"", b"", b"", Reply::End),
        (0x01, 0, b"", b"", b"", Reply::Stored),
        (0x02, 2, b"", b"", b"Data exists for key.", Reply::NotStored),
        (0x01, 2, b"", b"", b"", Reply::Exists),
        (0x03, 1, b"", b"", b"", Reply::NotStored),
        (0x0e, 5, b"", b"", b"", Reply::NotStored),
        (0x04, 0, b"", b"", b"", Reply::Deleted),
        (0x04, 1, b"", b"", b"", Reply::NotFound),
        (0x05, 0, b"", b"", &[0, 0, 0, 0, 0, 0, 0, 7], Reply::Number(7)),
        (0x08, 0, b"", b"", b"", Reply::Ok),
        (0x1c, 0, b"", b"", b"", Reply::Touched),
        (0x01, 3, b"", b"", b"Too large.", Reply::TooLarge),
        (0x01, 0x82, b"", b"", b"Out of memory", Reply::Failed(b"Out of memory")),
        (0x01, 0x81, b"", b"", b"Unknown command", Reply::Refused(b"Unknown command")),
    ] {
        all.push((Binary, binary(opcode, status, extras, key, value), Some(3), reply));
    }
    all
}

#[test]
fn replies_come_whole_or_not_at_all() {
    for (dialect, bytes, opaque, reply) in replies() {
        let shown = bytes.escape_ascii().to_string();
        for cut in 0..bytes.len() {
            let step = decode(dialect, &bytes[..cut]);
            let Step::NeedMore(more) = step else { panic!("{shown} cut at {cut}: {step:?}") };
            assert!((1..=bytes.len() - cut).contains(&more), "{shown} cut at {cut}: {more}");
        }
        let whole = Step::Reply { reply, opaque, consumed: bytes.len() };
        assert_eq!(decode(dialect, &bytes), whole, "{shown}");
        // What is behind a reply changes nothing of it.
        for behind in [&b"\r\n"[..], b"END\r\n", b"\x81", b"9", &[0xff; 40]] {
            assert_eq!(decode(dialect, &[&bytes, behind].concat()), whole, "{shown}");
        }
    }
}

#[test]
fn what_is_no_reply_is_garbage() {
    let lines: &[&[u8]] = &[
        b"VALUE k 5 1\r\nabEND\r\n",
        b"VALUE k 5 -1\r\n",
        b"VALUE k 5 9999999999999\r\n",
        b"VALUE k 99999999999 1\r\na\r\n",
        b"VALUE k 5 1 1 1\r\na\r\n",
        b"VALUE  5 1\r\na\r\n",
        b"VALUE k 5\r\n",
        b"STORED\n",
        b"HTTP/1.1 400 Bad ClientRequest\r\n",
        b"12x\r\n",
        b"99999999999999999999\r\n",
        b"\r\n",
        &[b'x'; LINE_BYTES_MAX],
    ];
    for bytes in lines {
        let step = decode(Text, bytes);
        assert!(matches!(step, Step::Garbage(_)), "{}: {step:?}", bytes.escape_ascii());
    }
    let lines: &[&[u8]] = &[
        b"VA\r\n",
        b"VA x\r\n",
        b"VA 1 f\r\na\r\n",
        b"HD Ox\r\n",
        b"HD \r\n",
        b"QQ\r\n",
        b"H\r\n",
    ];
    for bytes in lines {
        let step = decode(Meta, bytes);
        assert!(matches!(step, Step::Garbage(_)), "{}: {step:?}", bytes.escape_ascii());
    }
    let mut too_long = binary(0, 0, b"", b"", b"");
    too_long[8..12].fill(0xff);
    let mut key_too_long = binary(0, 0, b"", b"", b"");
    key_too_long[2] = 1;
    for bytes in [
        b"HTTP/1.1 400 Bad ClientRequest\r\n".to_vec(),
        b"S".to_vec(),
        too_long,
        key_too_long,
        binary(0x00, 0, b"", b"", b"ab"),
        binary(0x05, 0, b"", b"", b"7"),
        binary(0x77, 0, b"", b"", b""),
    ] {
        let step = decode(Binary, &bytes);
        assert!(matches!(step, Step::Garbage(_)), "{}: {step:?}", bytes.escape_ascii());
    }
}

fn dialects() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Text), Just(Binary), Just(Meta)]
}

/// What must hold of any bytes whatever.
fn holds(dialect: Dialect, input: &[u8]) {
    match decode(dialect, input) {
        Step::NeedMore(more) => assert!(more > 0),
        Step::Reply { consumed, .. } => {
            assert!((1..=input.len()).contains(&consumed));
            let short = decode(dialect, &input[..consumed - 1]);
            assert!(matches!(short, Step::NeedMore(_)), "{short:?}");
        }
        Step::Garbage(_) => {}
    }
}

proptest! {
    #[test]
    fn any_bytes_are_something(dialect in dialects(), input in any::<Vec<u8>>()) {
        holds(dialect, &input);
    }

    #[test]
    fn spoilt_replies_are_something(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let all = replies();
        let (dialect, mut bytes, _, _) = all[which.index(all.len())].clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.extend(b"END\r\n");
        holds(dialect, &bytes);
    }

    #[test]
    fn items_come_back_as_they_were(
        dialect in dialects(),
        value in prop::collection::vec(any::<u8>(), 0..300),
        flags in any::<u32>(),
        unique in any::<u64>(),
    ) {
        let head = match dialect {
            Text => format!("VALUE key {flags} {} {unique}\r\n", value.len()),
            _ => format!("VA {} kkey f{flags} c{unique}\r\n", value.len()),
        };
        let bytes = if dialect == Binary {
            let mut bytes = binary(0x0d, 0, &flags.to_be_bytes(), b"key", &value);
            bytes[16..24].copy_from_slice(&unique.to_be_bytes());
            bytes
        } else {
            [head.as_bytes(), &value, b"\r\n"].concat()
        };
        let Step::Reply { reply, consumed, .. } = decode(dialect, &bytes) else { panic!() };
        prop_assert_eq!(reply, Reply::Item(Item { key: b"key", flags, value: &value, unique }));
        prop_assert_eq!(consumed, bytes.len());
    }
}
