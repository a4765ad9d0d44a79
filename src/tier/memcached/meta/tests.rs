//! Requests as bytes, and answers cut at every position.

use super::*;
use crate::tier::memcached::key::ENCODED_KEY_BYTES_MAX;
use crate::tier::{self, MetaFlags, MetaVerb};

const NOW: Now = Now { uptime_us: 0, unix_s: 1_800_000_000 };

fn written(write: impl FnOnce(&mut RequestWriter<'_>)) -> String {
    let mut out = Vec::new();
    write(&mut RequestWriter::new(&mut out, 42));
    out.escape_ascii().to_string()
}

fn head(text: &str) -> Result<Option<(Head, usize)>, Garbage> {
    Meta::head(text.as_bytes(), NOW)
}

#[test]
fn requests_are_memcached_s() {
    let at = |seconds: u32| Expiry::from_unix_s(NOW.unix_s + seconds);
    assert_eq!(written(|r| get(r, b"k", Get::Value)), r"mg k O42 f c v\r\n");
    assert_eq!(written(|r| get(r, b"k", Get::ValueAndExpiry)), r"mg k O42 f c t v\r\n");
    assert_eq!(written(|r| get(r, b"a b", Get::Existence)), r"mg YSBi b O42\r\n");
    assert_eq!(written(|r| touch(r, b"k", at(5), NOW)), r"mg k O42 T5 c\r\n");
    assert_eq!(written(|r| touch(r, b"k", Expiry::PAST, NOW)), r"mg k O42 T-1 c\r\n");
    assert_eq!(written(|r| touch(r, b"k", Expiry::NEVER, NOW)), r"mg k O42 T0 c\r\n");
    let month = RELATIVE_EXPTIME_MAX_S as u32;
    assert_eq!(written(|r| touch(r, b"k", at(month), NOW)), r"mg k O42 T2592000 c\r\n");
    assert_eq!(written(|r| touch(r, b"k", at(month + 1), NOW)), r"mg k O42 T1802592001 c\r\n");
    let far = Expiry::from_unix_s(u32::MAX);
    assert_eq!(written(|r| get_and_touch(r, b"k", far, NOW)), r"mg k O42 T2147483647 f c v\r\n");
    let how = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
    assert_eq!(written(|r| store(r, b"k", &how, 3, NOW)), r"ms k 3 O42 c\r\n");
    let how = Store { mode: StoreMode::Add, flags: 9, expiry: at(1), cas: 0 };
    assert_eq!(written(|r| store(r, b"\0", &how, 3, NOW)), r"ms AA== 3 b O42 F9 T1 ME c\r\n");
    let how = Store { cas: 7, ..how };
    assert_eq!(written(|r| store(r, b"k", &how, 0, NOW)), r"ms k 0 O42 F9 T1 C7 c\r\n");
    assert_eq!(written(|r| delete(r, b"k", 0)), r"md k O42\r\n");
    assert_eq!(written(|r| delete(r, b"k", 8)), r"md k O42 C8\r\n");
    let up = Arithmetic { decrement: false, delta: 3, initial: Some((4, at(2))), cas: 5 };
    assert_eq!(written(|r| arithmetic(r, b"k", &up, NOW)), r"ma k O42 N2 J4 MI D3 C5 c v\r\n");
    let down = Arithmetic { decrement: true, delta: 3, initial: None, cas: 0 };
    assert_eq!(written(|r| arithmetic(r, b"k", &down, NOW)), r"ma k O42 MD D3 c v\r\n");
    assert_eq!(written(|r| flush_all(r, Expiry::NEVER, NOW)), r"flush_all\r\n");
    assert_eq!(written(|r| flush_all(r, at(9), NOW)), r"flush_all 10\r\n");
}

#[test]
fn commands_of_clients_keep_the_order_of_their_effects() {
    let at = |seconds: u32| Expiry::from_unix_s(NOW.unix_s + seconds);
    let with = |verb, flags: &[MetaFlags]| tier::Meta {
        with: flags.iter().fold(MetaFlags::NONE, |all, &flag| all.and(flag)),
        expiry: at(1),
        vivify: at(2),
        recache: at(3),
        new_cas: 9,
        ..tier::Meta::new(verb)
    };
    let line = |meta| written(|r| requests::command(r, b"k", &meta, 7, 5, NOW));
    let get = |flags: &[MetaFlags]| line(with(MetaVerb::Get, flags));
    use MetaFlags as F;
    assert_eq!(get(&[]), r"mg k O42 f c h l t\r\n");
    assert_eq!(get(&[F::NEW_CAS, F::VALUE, F::NO_USE]), r"mg k O42 f c h l t u v\r\n");
    assert_eq!(get(&[F::TOUCH, F::RECACHE]), r"mg k O42 f c h l R3 t T1\r\n");
    let late = [F::TOUCH, F::RECACHE, F::EXPIRY_AFTER_TOUCH, F::RECACHE_AFTER_TOUCH];
    assert_eq!(get(&late), r"mg k O42 f c h l T1 t R3\r\n");
    let both = [F::TOUCH, F::VIVIFY, F::NEW_CAS, F::EXPIRY_AFTER_VIVIFY];
    assert_eq!(get(&both), r"mg k O42 f c h l N2 t T1 E9\r\n");
    let both = [F::TOUCH, F::VIVIFY, F::VIVIFY_AFTER_TOUCH, F::EXPIRY_AFTER_TOUCH];
    assert_eq!(get(&both), r"mg k O42 f c h l T1 t N2\r\n");
    let store = |mode, flags: &[MetaFlags]| line(with(MetaVerb::Store(mode), flags));
    assert_eq!(store(StoreMode::Set, &[]), r"ms k 5 O42 T1 c\r\n");
    let all = [F::CAS, F::NEW_CAS, F::INVALIDATE, F::VIVIFY];
    assert_eq!(store(StoreMode::Append, &all), r"ms k 5 O42 T1 C7 E9 I N2 MA c\r\n");
    let delete = |flags: &[MetaFlags]| line(with(MetaVerb::Delete, flags));
    assert_eq!(delete(&[F::NEW_CAS, F::TOUCH]), r"md k O42\r\n");
    assert_eq!(delete(&[F::CAS, F::INVALIDATE, F::TOUCH]), r"md k O42 C7 I T1\r\n");
    assert_eq!(delete(&[F::EMPTY, F::NEW_CAS]), r"md k O42 x T1 E9\r\n");
    let count = |flags: &[MetaFlags]| line(with(MetaVerb::Count { decrement: true }, flags));
    assert_eq!(count(&[]), r"ma k O42 MD D1 t c v\r\n");
    assert_eq!(count(&[F::CAS, F::VIVIFY]), r"ma k O42 MD D1 J0 C7 t N2 c v\r\n");
}

#[test]
fn no_request_is_longer_than_its_room() {
    let key = [0; ENCODED_KEY_BYTES_MAX];
    let far = Expiry::from_unix_s(u32::MAX);
    let most = u64::MAX;
    let how = Store { mode: StoreMode::Append, flags: u32::MAX, expiry: far, cas: most };
    let number = Arithmetic { decrement: true, delta: most, initial: Some((most, far)), cas: most };
    for key in [&key[..], &[b'k'; KEY_BYTES_MAX]] {
        let mut out = Vec::new();
        store(&mut RequestWriter::new(&mut out, u32::MAX), key, &how, usize::MAX, NOW);
        end_of_value(&mut RequestWriter::new(&mut out, u32::MAX));
        assert!(out.len() <= room(key, 0));
        out.clear();
        for verb in [
            MetaVerb::Get,
            MetaVerb::Store(StoreMode::Append),
            MetaVerb::Delete,
            MetaVerb::Count { decrement: true },
        ] {
            let everything = tier::Meta {
                with: MetaFlags::ALL,
                flags: u32::MAX,
                expiry: far,
                vivify: far,
                recache: far,
                new_cas: most,
                delta: most,
                initial: most,
                ..tier::Meta::new(verb)
            };
            let request = &mut RequestWriter::new(&mut out, u32::MAX);
            requests::command(request, key, &everything, most, usize::MAX, NOW);
            assert!(out.len() + 2 <= room(key, 0), "{verb:?}");
            out.clear();
        }
        arithmetic(&mut RequestWriter::new(&mut out, u32::MAX), key, &number, NOW);
        assert!(out.len() <= room(key, 0));
    }
}

#[test]
fn base64_is_padded() {
    let encoded = |bytes: &[u8]| written(|r| put_base64(r, bytes));
    assert_eq!(encoded(b"f"), "Zg==");
    assert_eq!(encoded(b"fo"), "Zm8=");
    assert_eq!(encoded(b"foo"), "Zm9v");
    assert_eq!(encoded(&[0xff; 4]), "/////w==");
    assert!(can_carry(&[0; 186]) && !can_carry(&[0; 187]));
    assert!(can_carry(&[b'k'; 250]) && !can_carry(&[b'k'; 251]) && !can_carry(b""));
}

#[test]
fn heads_are_parsed_completely_or_not_at_all() {
    let answers = [
        ("VA 3 O1 f7 c9 t-1\r\n", Status::Value, Some(1), 7, 9, 0, 3),
        (
            "VA 0 O4294967295 f4294967295 c18446744073709551615 t10\r\n",
            Status::Value,
            Some(u32::MAX),
            u32::MAX,
            u64::MAX,
            NOW.unix_s + 10,
            0,
        ),
        ("VA 12 O1 f0 c9 W X Z\r\n", Status::Value, Some(1), 0, 9, 0, 12),
        ("HD O1 f0 c9 h1 l5 X\r\n", Status::Done, Some(1), 0, 9, 0, 0),
        ("HD O1 f0 c9 h0 l0\r\n", Status::Done, Some(1), 0, 9, 0, 0),
        ("CLIENT_ERROR invalid flag\r\n", Status::Unsupported, None, 0, 0, 0, 0),
        ("HD O5 c6\r\n", Status::Done, Some(5), 0, 6, 0, 0),
        ("HD\r\n", Status::Done, None, 0, 0, 0, 0),
        ("EN\r\n", Status::Miss, None, 0, 0, 0, 0),
        ("EN O6\r\n", Status::Miss, Some(6), 0, 0, 0, 0),
        ("NF O6\r\n", Status::Miss, Some(6), 0, 0, 0, 0),
        ("NS O6 c0\r\n", Status::NotStored, Some(6), 0, 0, 0, 0),
        ("EX O6 c0\r\n", Status::Exists, Some(6), 0, 0, 0, 0),
        ("OK\r\n", Status::Done, None, 0, 0, 0, 0),
        ("VALUE k-1 7 1123 45\r\n", Status::Value, None, 7, 45, 0, 1123),
        ("END\r\n", Status::End, None, 0, 0, 0, 0),
        ("SERVER_ERROR object too large for cache\r\n", Status::TooLarge, None, 0, 0, 0, 0),
        ("SERVER_ERROR out of memory storing object\r\n", Status::NoMemory, None, 0, 0, 0, 0),
        ("SERVER_ERROR whatever\r\n", Status::Refused, None, 0, 0, 0, 0),
        ("CLIENT_ERROR flush_all not allowed\r\n", Status::Refused, None, 0, 0, 0, 0),
        (
            "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            Status::NonNumeric,
            None,
            0,
            0,
            0,
            0,
        ),
    ];
    for (text, status, opaque, flags, cas, unix_s, value_bytes) in answers {
        for cut in 0..text.len() {
            assert_eq!(head(&text[..cut]), Ok(None), "{text} at {cut}");
        }
        let expiry = Expiry::from_unix_s(unix_s);
        let key_bytes = if text.starts_with("VALUE") { 3 } else { 0 };
        let mut marks = Marks::default();
        for (name, mark) in [
            (" W", Marks::WON),
            (" X", Marks::STALE),
            (" Z", Marks::TOKEN_SENT),
            (" h1", Marks::FETCHED),
        ] {
            marks.set(mark, text.contains(name));
        }
        let idle_s = if text.contains(" l5") { 5 } else { 0 };
        let numbers = Head { idle_s, marks, ..Head::default() };
        let expected =
            Head { status, opaque, flags, cas, expiry, value_bytes, key_bytes, ..numbers };
        assert_eq!(head(text), Ok(Some((expected, text.len()))), "{text}");
        assert_eq!(head(&format!("{text}HD")), Ok(Some((expected, text.len()))), "{text}");
    }
}

#[test]
fn a_line_that_answers_no_request_is_garbage() {
    let long = "x".repeat(LINE_MAX);
    let garbage = [
        "\n",
        "\r\n",
        "V\r\n",
        "VA\r\n",
        "VA \r\n",
        "VA x\r\n",
        "VA -1\r\n",
        "VA 3 O\r\n",
        "VA 99999999999999999999999\r\n",
        "VA 3 f4294967296\r\n",
        "VA 3 O4294967296\r\n",
        "HD O1 q7\r\n",
        "HD  O1\r\n",
        "HD O1 \r\n",
        "HD O1x\r\n",
        "HD\n",
        "ME k\r\n",
        "MN\r\n",
        "ERROR\r\n",
        "CLIENT_ERROR bad command line format\r\n",
        "VALUE k 0\r\n",
        "VALUE k 0 1\r\n",
        "VALUE k 0 1 2 3\r\n",
        "VALUE k 0 1 x\r\n",
        "VALUE k -1 1 2\r\n",
        "VALUE k\r\n",
        "STORED\r\n",
        "ENDED\r\n",
        "VA 3 t-2\r\n",
        &long,
    ];
    for text in garbage {
        assert_eq!(head(text), Err(Garbage), "{}", text.escape_debug());
    }
}

#[test]
fn a_memcached_is_recognized() {
    let greeting = |text: &str| Meta::greeting(text.as_bytes());
    let whole = "VERSION 1.6.18\r\nMN\r\n";
    for cut in 0..whole.len() {
        assert_eq!(greeting(&whole[..cut]), Ok(None), "{cut}");
    }
    assert_eq!(greeting(whole), Ok(Some(())));
    let refused = |text: &str| greeting(text).expect_err(text).0;
    let old = refused("VERSION 1.4.39\r\nERROR\r\n");
    assert!(old.contains("memcached 1.4.39 has no meta commands"), "{old}");
    assert!(old.contains("rend,addr="), "{old}");
    for other in ["-ERR unknown command\r\n", "HTTP/1.1 400\r\n", "\0\0\0", "ERROR\r\n"] {
        assert!(refused(other).contains("not a memcached"), "{other}");
    }
    assert!(refused("CLIENT_ERROR unauthenticated\r\n").contains("password"));
    assert!(refused("VERSION 1.6.18\r\nMN\r\nMN\r\n").contains("not a memcached"));
    assert!(refused(&format!("VERSION {}", "x".repeat(LINE_MAX))).contains("not a memcached"));
}
