//! Meta lines and replies, apart from items.

use super::meta_reply::encode;
use super::{MetaCommand, MetaRefusal, parse, parse_meta, parse_plain_meta};
use crate::base::clock::Expiry;
use crate::base::limits::{KEY_BYTES_MAX, OPAQUE_BYTES_MAX};
use crate::protocol::testing::{LIMITS, NOW};
use crate::protocol::{Command, Head, Limits, Step};
use crate::tier::meta::LEFT_FOR_EVER;
use crate::tier::{Hit, ItemInfo, ItemState, Meta, MetaFlags, MetaVerb, Outcome, StoreMode};

const WITH_META: Limits = Limits { meta: true, ..LIMITS };

fn command(line: &[u8]) -> Command<'_> {
    let Step::Done { command, consumed } = parse(line, &WITH_META, NOW) else {
        panic!("{} is a line", line.escape_ascii())
    };
    assert_eq!(consumed, line.len());
    command
}

/// The line of a meta command, read; the error is its refusal.
fn read(line: &[u8]) -> Result<MetaCommand<'_>, MetaRefusal> {
    match command(line) {
        Command::Meta { line } => parse_meta(line, &WITH_META, NOW),
        other => panic!("{}: {other:?}", line.escape_ascii()),
    }
}

fn meta(line: &[u8]) -> MetaCommand<'_> {
    match read(line) {
        Ok(meta) => meta,
        other => panic!("{}: {other:?}", line.escape_ascii()),
    }
}

/// The reply to a line that is refused, and how many bytes are skipped behind it.
fn refusal(line: &[u8]) -> (String, usize) {
    match read(line) {
        Err(MetaRefusal { reply, skip_bytes }) => {
            (String::from_utf8_lossy(reply.as_bytes()).trim_end().to_owned(), skip_bytes)
        }
        other => panic!("{}: {other:?}", line.escape_ascii()),
    }
}

fn reply(line: &[u8], outcome: &Outcome<()>, value_bytes: usize) -> String {
    let command = meta(line);
    let mut room = [0; KEY_BYTES_MAX];
    let (key, mut head) = (command.key_in(&mut room), Head::new());
    encode(command.form, key, command.opaque, outcome, value_bytes, &mut head);
    String::from_utf8_lossy(&head).into_owned()
}

fn hit(state: ItemState) -> Outcome<()> {
    Outcome::Hit(Hit { flags: 7, expiry: Expiry::NEVER, cas: 9, state, value: () })
}

#[test]
fn arguments_are_read() {
    let get = meta(b"mg k T30 N60 R10 E5 u v\r\n");
    let with = [
        MetaFlags::TOUCH,
        MetaFlags::VIVIFY,
        MetaFlags::VIVIFY_AFTER_TOUCH,
        MetaFlags::RECACHE,
        MetaFlags::RECACHE_AFTER_TOUCH,
        MetaFlags::NEW_CAS,
        MetaFlags::VALUE,
        MetaFlags::NO_USE,
    ];
    let with = with.into_iter().fold(MetaFlags::NONE, MetaFlags::and);
    let at = |seconds| Expiry::from_exptime(seconds, NOW);
    let expected = Meta {
        with,
        expiry: at(30),
        vivify: at(60),
        recache: at(10),
        new_cas: 5,
        ..Meta::new(MetaVerb::Get)
    };
    assert_eq!((get.key, get.meta), (&b"k"[..], expected));
    let store = meta(b"ms k 3 MA F9 C4 Oabc\r\n");
    assert_eq!(store.meta.verb, MetaVerb::Store(StoreMode::Append));
    assert_eq!((store.meta.flags, store.meta.cas, store.value_bytes), (9, 4, 3));
    assert_eq!(store.opaque, b"abc");
    let count = meta(b"ma k M- D5 J13 N0\r\n");
    assert_eq!(count.meta.verb, MetaVerb::Count { decrement: true });
    assert_eq!((count.meta.delta, count.meta.initial), (5, 13));
    assert_eq!(meta(b"ma k\r\n").meta.delta, 1);
    assert_eq!(meta(b"md k I x\r\n").meta.with, MetaFlags::INVALIDATE.and(MetaFlags::EMPTY));
    assert_eq!(meta(b"me k\r\n").meta.verb, MetaVerb::Debug);
}

#[test]
fn a_key_in_base64_is_decoded_and_returned_as_it_came() {
    let command = meta(b"mg AAEgeQ== b k\r\n");
    assert_eq!(command.key_in(&mut [0; KEY_BYTES_MAX]), b"\0\x01 y");
    assert_eq!(reply(b"mg AAEgeQ== b k\r\n", &Outcome::Miss, 0), "EN kAAEgeQ== b\r\n");
    let longest = [b'A'; 248];
    let line = [b"mg ", &longest[..], b" b\r\n"].concat();
    assert_eq!(meta(&line).key_in(&mut [0; KEY_BYTES_MAX]), [0; 186]);
    for bad in ["A", "AA", "AAA", "A===", "====", "AA=A", "AA*=", "AAAAA"] {
        let (reply, _) = refusal(format!("mg {bad} b\r\n").as_bytes());
        assert_eq!(reply, "CLIENT_ERROR error decoding key", "{bad}");
    }
}

#[test]
fn what_is_wrong_with_a_line_is_said_as_memcached_says_it() {
    let long = "k".repeat(251);
    for (line, expected) in [
        ("mg", "CLIENT_ERROR bad command line format"),
        (&*format!("mg {long}"), "CLIENT_ERROR bad command line format"),
        ("mg k v v", "CLIENT_ERROR duplicate flag"),
        ("mg k \u{80}", "CLIENT_ERROR duplicate flag"),
        ("mg k S1", "CLIENT_ERROR invalid flag"),
        ("mg k Tx", "CLIENT_ERROR bad token in command line format"),
        ("mg k T", "CLIENT_ERROR bad token in command line format"),
        ("mg k Tx b", "CLIENT_ERROR error decoding key"),
        ("mg k Tx v v", "CLIENT_ERROR duplicate flag"),
        ("md k C-1", "CLIENT_ERROR bad token in command line format"),
        ("md k E4611686018427387904", "CLIENT_ERROR bad token in command line format"),
        ("ma k Dx", "CLIENT_ERROR invalid or duplicate flag"),
        ("ma k M", "CLIENT_ERROR invalid mode for ma M token"),
        ("ma k MA", "CLIENT_ERROR invalid mode for ma M token"),
        ("ms", "CLIENT_ERROR bad command line format"),
        ("ms k", "CLIENT_ERROR bad command line format"),
        ("ms k S3", "CLIENT_ERROR bad command line format"),
        ("ms k -1", "CLIENT_ERROR bad command line format"),
        ("ms k 2147483647", "CLIENT_ERROR bad command line format"),
    ] {
        assert_eq!(refusal(format!("{line}\r\n").as_bytes()), (expected.to_owned(), 0), "{line}");
    }
    let flags = "b c f h k l q s t u v x I C1 E1 F1 N1 T1 R1";
    let (reply, _) = refusal(format!("mg k {flags}\r\n").as_bytes());
    assert_eq!(reply, "CLIENT_ERROR options flags are too long");
    let opaque = "o".repeat(OPAQUE_BYTES_MAX);
    assert_eq!(meta(format!("mg k O{opaque}\r\n").as_bytes()).opaque, opaque.as_bytes());
    for (line, skipped) in [("mg k", 0), ("md k", 0), ("ma k", 0), ("ms k 5", 7)] {
        let refused = refusal(format!("{line} O{opaque}o\r\n").as_bytes());
        assert_eq!(refused, ("CLIENT_ERROR opaque token too long".to_owned(), skipped));
    }
}

#[test]
fn the_value_of_a_refused_store_is_skipped() {
    let long = "k".repeat(251);
    for line in [format!("ms {long} 5"), "ms k 5 S".into(), "ms k 5 Mx".into(), "ms k 5 b".into()] {
        assert_eq!(refusal(format!("{line}\r\n").as_bytes()).1, 7, "{line}");
    }
    assert!(meta(b"ms k 2000000\r\n").is_too_large);
    assert!(!meta(b"ms k 1000\r\n").is_too_large);
}

#[test]
fn flags_return_in_the_order_of_the_request() {
    let state = ItemState { is_fetched: true, idle_s: 4, left_s: 30, ..ItemState::default() };
    let line = b"mg k v t s h l f c Ox k\r\n";
    assert_eq!(reply(line, &hit(state), 5), "VA 5 t30 s5 h1 l4 f7 c9 Ox kk\r\n");
    assert_eq!(reply(b"mg k k c\r\n", &hit(state), 5), "HD kk c9\r\n");
    let state = ItemState { left_s: LEFT_FOR_EVER, is_stale: true, is_won: true, ..state };
    assert_eq!(reply(b"mg k t\r\n", &hit(state), 5), "HD t-1 X W\r\n");
    let state = ItemState { is_token_sent: true, is_won: false, ..state };
    assert_eq!(reply(b"mg k\r\n", &hit(state), 5), "HD Z X\r\n");
    let info = ItemInfo { cas: 3, number: 120, value_bytes: 6, left_s: 8, is_new: false };
    assert_eq!(reply(b"ma k t v c Oy\r\n", &Outcome::Changed(info), 0), "VA 3 t8 c3 Oy\r\n120\r\n");
    assert_eq!(reply(b"ms k 2 s c k\r\n", &Outcome::Changed(info), 0), "HD s6 c3 kk\r\n");
    assert_eq!(reply(b"ms k 2 s c\r\n", &Outcome::Exists, 0), "EX s2 c0\r\n");
    assert_eq!(reply(b"ma k c t Oz\r\n", &Outcome::Miss, 0), "NF Oz\r\n");
}

#[test]
fn quiet_commands_leave_out_only_what_is_usual() {
    let info = ItemInfo { cas: 3, number: 1, value_bytes: 6, left_s: 8, is_new: false };
    for (line, outcome, expected) in [
        ("mg k q", Outcome::Miss, ""),
        ("mg k q", hit(ItemState::default()), "HD\r\n"),
        ("mg k q", Outcome::Failed, "SERVER_ERROR backend failure\r\n"),
        ("ms k 1 q", Outcome::Changed(info), ""),
        ("ms k 1 q", Outcome::NotStored, "NS\r\n"),
        ("ms k 1 q", Outcome::TooLarge, "SERVER_ERROR object too large for cache\r\n"),
        ("md k q", Outcome::Deleted, ""),
        ("md k q", Outcome::Miss, "NF\r\n"),
        ("md k q", Outcome::Exists, "EX\r\n"),
        ("ma k q v", Outcome::Changed(info), ""),
        ("ma k q v", Outcome::Miss, "NF\r\n"),
    ] {
        assert_eq!(reply(format!("{line}\r\n").as_bytes(), &outcome, 0), expected, "{line}");
    }
}

#[test]
fn the_longest_reply_fits() {
    let (key, opaque) = ("A".repeat(248), "o".repeat(OPAQUE_BYTES_MAX));
    let state = ItemState {
        is_stale: true,
        is_token_sent: true,
        is_won: true,
        is_fetched: true,
        idle_s: u32::MAX,
        left_s: u32::MAX - 1,
    };
    let outcome = Outcome::Hit(Hit {
        flags: u32::MAX,
        expiry: Expiry::NEVER,
        cas: u64::MAX,
        state,
        value: (),
    });
    let line = format!("mg {key} b v c f h k l s t O{opaque}\r\n");
    assert!(reply(line.as_bytes(), &outcome, u32::MAX as usize).len() > KEY_BYTES_MAX + 100);
    assert!(reply(format!("me {key} b\r\n").as_bytes(), &outcome, usize::MAX >> 8).contains("ME "));
    let left_s = u32::MAX - 1;
    let info =
        ItemInfo { cas: u64::MAX, number: u64::MAX, value_bytes: u32::MAX, left_s, is_new: true };
    let line = format!("ma {key} b v c k t O{opaque}\r\n");
    assert!(reply(line.as_bytes(), &Outcome::Changed(info), 0).ends_with("\r\n"));
}

const HOSTILE_WORDS: &[&str] = &[
    "mg",
    "ms",
    "md",
    "ma",
    "me",
    "mn",
    "k",
    "AAAA",
    "3",
    "-1",
    "99999999999",
    "b",
    "c",
    "f",
    "h",
    "k",
    "l",
    "q",
    "s",
    "t",
    "u",
    "v",
    "x",
    "I",
    "T",
    "T0",
    "T-1",
    "Tx",
    "N30",
    "R30",
    "C1",
    "E18446744073709551615",
    "D",
    "J1",
    "MA",
    "M",
    "O",
    "Oaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "F-1",
    "S1",
    "\u{7f}",
    "\u{80}",
    "\0",
    "\t",
    "",
    "  ",
];

#[test]
fn hostile_lines_are_answered_and_consumed() {
    use crate::base::random::Random;
    let mut random = Random::new(14);
    let mut plains = 0;
    for round in 0..20_000 {
        let count = random.below(if round % 2 == 0 { 26 } else { 5 }) as usize;
        let picked =
            (0..count).map(|_| HOSTILE_WORDS[random.below(HOSTILE_WORDS.len() as u64) as usize]);
        let start = if round % 2 == 0 { "" } else { "mg key " };
        let line = format!("{start}{}\r\n", picked.collect::<Vec<_>>().join(" "));
        for cut in 0..line.len() {
            assert!(matches!(parse(&line.as_bytes()[..cut], &WITH_META, NOW), Step::NeedMore));
        }
        let Command::Meta { .. } = command(line.as_bytes()) else { continue };
        let (whole, plain) = (read(line.as_bytes()), parse_plain_meta(line.as_bytes()));
        if let Ok(meta) = &whole {
            assert!(meta.key_in(&mut [0; KEY_BYTES_MAX]).len() <= KEY_BYTES_MAX);
        }
        if let Some(plain) = plain {
            let meta = whole.expect("a plain mg is right");
            assert_eq!((plain.key, plain.opaque), (meta.key, meta.opaque), "{line}");
            assert_eq!((plain.form, plain.consumed), (meta.form, line.len()), "{line}");
            let asked = MetaFlags::VALUE.and(MetaFlags::LEFT);
            assert!(asked.has(meta.meta.with), "{line}");
            let with = MetaFlags::NONE;
            assert_eq!(Meta { with, ..meta.meta }, Meta::new(MetaVerb::Get), "{line}");
            plains += 1;
        }
    }
    assert!(plains > 100, "{plains} plain mg");
}
