//! Tests of the text protocol: memcached's answers, and inputs that caused failures elsewhere.

use proptest::prelude::*;

use super::*;
use crate::base::clock::Expiry;
use crate::orchestrator::Action;
use crate::protocol::testing::{Client, LIMITS, NOW, table};
use crate::protocol::{Direct, Form as AnyForm, Keys, Request};
use crate::tier::{Hit, ItemState, StoreMode};

const TABLE: &str = include_str!("../conformance/text.tsv");

fn done(input: &[u8]) -> (Command<'_>, usize) {
    match parse(input, &LIMITS, NOW) {
        Step::Done { command, consumed } => (command, consumed),
        Step::NeedMore => panic!("not done: {}", input.escape_ascii()),
    }
}

/// The replies to a client that sends `input`, and whether it is then disconnected.
fn converse(input: &[u8]) -> (String, bool) {
    let client = Client::converse([input]);
    (client.output.escape_ascii().to_string(), client.is_closed)
}

fn reply_to(input: &[u8]) -> String {
    converse(input).0
}

#[test]
fn replies_are_memcacheds_to_the_byte() {
    let version = format!("VERSION {}\\r\\n", crate::protocol::VERSION);
    let mut rows = 0;
    for (request, reply, closes) in table(TABLE) {
        let (mine, is_closed) = converse(&request);
        let mine = mine.replace(&version, "VERSION @\\r\\n");
        let shown = request[..request.len().min(200)].escape_ascii();
        assert_eq!(mine, reply.escape_ascii().to_string(), "to {shown}");
        assert_eq!(is_closed, closes, "after {shown}");
        rows += 1;
    }
    assert!(rows > 150, "{rows} rows");
}

#[test]
fn replies_do_not_depend_on_where_the_input_is_cut() {
    for (request, _, _) in table(TABLE) {
        // A line over the limit is answered only if it arrives in one piece, also by memcached.
        if request.split(|&b| b == b'\n').any(|line| line.len() > LINE_BYTES_MAX) {
            continue;
        }
        let whole = Client::converse([&request[..]]);
        let bytes = Client::converse(request.chunks(1));
        assert_eq!(
            (whole.output.escape_ascii().to_string(), whole.is_closed),
            (bytes.output.escape_ascii().to_string(), bytes.is_closed),
            "to {}",
            request.escape_ascii()
        );
    }
}

#[test]
fn a_get_of_one_key_is_one_operation() {
    let (command, consumed) = done(b"get key\r\nget");
    let Command::Operation { request, skip_bytes: 0 } = command else { panic!("{command:?}") };
    assert_eq!(request.key, b"key");
    assert!(matches!(request.action, Action::Get));
    assert_eq!(request.form, AnyForm::Text(Form::Get { with_cas: false, last: true }));
    assert_eq!(consumed, 9);
}

#[test]
fn the_keys_of_a_longer_get_are_read_one_by_one() {
    let input = b"gats 10  a bc \r\nget x\r\n";
    let (command, mut at) = done(input);
    let Command::Keys(keys) = command else { panic!("{command:?}") };
    assert!(keys.with_cas);
    assert_eq!(keys.expiry, Some(Expiry::from_exptime(10, NOW)));
    let mut found = Vec::new();
    loop {
        match next_key(&input[at..]) {
            KeyStep::Key { key, consumed } => {
                found.push(key);
                at += consumed;
            }
            KeyStep::End { consumed } => {
                at += consumed;
                break;
            }
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(found, [&b"a"[..], b"bc"]);
    assert_eq!(&input[at..], b"get x\r\n");
}

#[test]
fn a_store_has_the_length_of_its_body() {
    let (command, consumed) = done(b"set k 5 10 3\r\nabc\r\n");
    let Command::Store { request, value_bytes: 3, is_text: true } = command else {
        panic!("{command:?}")
    };
    let Request { key: b"k", action: Action::Store(store), form } = request else { panic!() };
    assert_eq!(store.mode, StoreMode::Set);
    assert_eq!((store.flags, store.cas), (5, 0));
    assert_eq!(store.expiry, Expiry::from_exptime(10, NOW));
    assert_eq!(form, AnyForm::Text(Form::Line));
    assert_eq!(consumed, 14);
}

#[test]
fn a_set_over_the_limit_removes_the_item_and_skips_the_value() {
    let limits = Limits { item_bytes_max: 1024, ..LIMITS };
    // 56 for the item, 2 for the key, 2 for the line end.
    assert!(matches!(
        parse(b"set k 0 0 964\r\n", &limits, NOW),
        Step::Done { command: Command::Store { value_bytes: 964, .. }, .. }
    ));
    let Step::Done { command: Command::Operation { request, skip_bytes: 967 }, .. } =
        parse(b"set k 0 0 965\r\n", &limits, NOW)
    else {
        panic!()
    };
    assert!(matches!(request.action, Action::StoreTooLarge));
    // Flags other than 0 take four bytes.
    assert!(matches!(
        parse(b"add k 1 0 961\r\n", &limits, NOW),
        Step::Done { command: Command::Bad { skip_bytes: 963, close: false, .. }, .. }
    ));
}

#[test]
fn cas_0_matches_no_item() {
    let (command, _) = done(b"cas k 0 0 1 0\r\n");
    let Command::Store { request, .. } = command else { panic!("{command:?}") };
    let Action::Store(store) = request.action else { panic!() };
    assert_ne!(store.cas, 0);
}

#[test]
fn disabled_commands_say_so() {
    let off = Limits { flush: false, ..LIMITS };
    let on = Limits { shutdown: true, ..LIMITS };
    let reply = |input: &'static [u8], limits: &Limits| match parse(input, limits, NOW) {
        Step::Done { command: Command::Bad { reply, .. }, .. } => {
            reply.as_bytes().escape_ascii().to_string()
        }
        step => panic!("{step:?}"),
    };
    assert_eq!(reply(b"flush_all\r\n", &off), "CLIENT_ERROR flush_all not allowed\\r\\n");
    assert_eq!(reply(b"flush_all noreply\r\n", &off), "");
    assert_eq!(reply(b"shutdown\r\n", &LIMITS), "ERROR: shutdown not enabled\\r\\n");
    assert_eq!(reply(b"shutdown now\r\n", &on), "CLIENT_ERROR invalid shutdown mode\\r\\n");
    for (input, graceful) in [(&b"shutdown\r\n"[..], false), (b"shutdown graceful\r\n", true)] {
        let Step::Done { command: Command::Control { control, .. }, .. } = parse(input, &on, NOW)
        else {
            panic!()
        };
        assert_eq!(control, Control::Shutdown { graceful });
    }
}

#[test]
fn watch_may_be_refused() {
    let off = Limits { watch: false, ..LIMITS };
    for (request, reply) in [
        ("watch\r\n", "CLIENT_ERROR watch commands not allowed\r\n"),
        ("watch foo\r\n", "CLIENT_ERROR watch commands not allowed\r\n"),
        ("watch fetchers noreply\r\n", ""),
    ] {
        let Step::Done { command: Command::Bad { reply: given, .. }, .. } =
            parse(request.as_bytes(), &off, NOW)
        else {
            panic!("{request}: it is not allowed");
        };
        assert_eq!(given.as_bytes(), reply.as_bytes(), "{request}");
    }
    let step = parse(b"watch mutations slow=5\r\n", &LIMITS, NOW);
    let Step::Done { command: Command::Watch(wanted), .. } = step else { panic!("{step:?}") };
    assert_eq!(wanted.slow_us, 5);
}

#[test]
fn tuning_commands_are_refused_as_by_memcached() {
    for (request, reply) in [
        ("watch foo", "ERROR"),
        ("watch fetchers foo", "ERROR"),
        ("slabs reassign 1 2", "CLIENT_ERROR slab reassignment disabled"),
        ("slabs automove 1", "ERROR"),
        ("slabs automove x", "CLIENT_ERROR bad command line format"),
        ("lru_crawler crawl all", "CLIENT_ERROR lru crawler disabled"),
        ("lru_crawler metadump foo", "BADCLASS invalid class id"),
        ("lru_crawler metadump 64", "BADCLASS invalid class id"),
        ("lru_crawler metadump 0,1", "BADCLASS invalid class id"),
        ("lru_crawler metadump 2,3", "END"),
        ("lru_crawler mgdump 63", "EN"),
        ("lru_crawler metadump", "ERROR"),
        ("lru_crawler mgdump all x", "ERROR"),
        ("lru_crawler sleep x", "CLIENT_ERROR bad command line format"),
        ("lru_crawler sleep 2000000", "CLIENT_ERROR sleep must be one second or less"),
        ("lru_crawler enable", "ERROR"),
        ("lru mode flat", "ERROR"),
        ("cache_memlimit 64", "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust"),
        ("mg a v", "ERROR"),
        ("mn", "ERROR"),
        ("noop", "ERROR"),
    ] {
        assert_eq!(reply_to(format!("{request}\r\n").as_bytes()), format!("{reply}\\r\\n"));
    }
}

#[test]
fn the_value_of_a_meta_set_is_never_read_as_commands() {
    for line in ["ms k 9", "ms k 9 T30 c", "ms k  9 b q", "  ms k 9\0"] {
        for split in 0..line.len() + 20 {
            let request = format!("{line}\r\nflush_all\r\nversion\r\n");
            let (front, back) = request.as_bytes().split_at(split);
            let client = Client::converse([front, back]);
            let output = String::from_utf8_lossy(&client.output);
            assert!(output.starts_with("ERROR\r\nVERSION "), "{line}: {output}");
            assert!(!client.is_closed);
        }
    }
    // If the length is not given, the connection is closed.
    for line in ["ms k S9", "ms k T0 S9", "ms k -1", "ms k 2147483647", "ms k 9x"] {
        let request = format!("{line}\r\nflush_all\r\nversion\r\n");
        let client = Client::converse([request.as_bytes()]);
        assert_eq!(client.output, b"ERROR\r\n", "{line}");
        assert!(client.is_closed, "{line}");
    }
    // No value was announced.
    for line in ["ms", "ms k", "mg k v", "md k", "ma k", "mn", "me k"] {
        let reply = reply_to(format!("{line}\r\n").as_bytes());
        assert_eq!(reply, "ERROR\\r\\n", "{line}");
    }
}

#[test]
fn a_flush_takes_effect_a_second_early_and_not_before_the_start() {
    let at = |line: &'static [u8]| match done(line).0 {
        Command::Operation { request, .. } => match request.action {
            Action::FlushAll { at } => Some(at),
            action => panic!("{action:?}"),
        },
        Command::Bad { reply, .. } => {
            assert_eq!(reply.as_bytes(), b"OK\r\n");
            None
        }
        command => panic!("{command:?}"),
    };
    assert_eq!(at(b"flush_all\r\n"), Some(Expiry::NEVER));
    assert_eq!(at(b"flush_all -5\r\n"), Some(Expiry::NEVER));
    assert_eq!(at(b"flush_all 1\r\n"), Some(Expiry::from_unix_s(NOW.unix_s)));
    assert_eq!(at(b"flush_all 10\r\n"), Some(Expiry::from_unix_s(NOW.unix_s + 9)));
    assert_eq!(at(b"flush_all 1900000000\r\n"), Some(Expiry::from_unix_s(1_899_999_999)));
    assert_eq!(at(b"flush_all 2592001\r\n"), None);
}

// Vulnerabilities of similar servers.

#[test]
fn cve_2009_2415_value_length_out_of_range() {
    for size in ["-1", "4294967295", "2147483647"] {
        let request = format!("set k 0 0 {size}\r\n");
        assert_eq!(
            reply_to(request.as_bytes()),
            "CLIENT_ERROR bad command line format\\r\\n",
            "{size}"
        );
    }
}

#[test]
fn cve_2010_1152_endless_line_closes_the_connection() {
    let line = [b'x'; LINE_BYTES_MAX + 1];
    assert!(matches!(parse(&line[..LINE_BYTES_MAX], &LIMITS, NOW), Step::NeedMore));
    let (command, _) = done(&line);
    assert!(matches!(command, Command::Bad { reply: Fixed::NONE, close: true, .. }));
    let get = [&b"gat 0 "[..], &line].concat();
    assert!(matches!(done(&get).0, Command::Bad { close: true, .. }));
    let get = [&[b' '; 101][..], b"get ", &line].concat();
    assert!(matches!(done(&get).0, Command::Bad { close: true, .. }));
}

#[test]
fn an_endless_get_is_answered_key_by_key() {
    let request = [&[b' '; 100][..], b"gets", &b" key".repeat(5000), b"\r\nversion\r\n"].concat();
    let whole = Client::converse([&request[..]]);
    let pieces = Client::converse(request.chunks(2500));
    assert_eq!(whole.output, pieces.output);
    assert!(whole.output.starts_with(b"END\r\nVERSION"));
}

#[test]
fn mcrouter_156_bad_key_late_in_a_get_longer_than_the_buffer() {
    let bad = [b'k'; 251];
    let request =
        [&b"get"[..], &b" key".repeat(5000), b" ", &bad, b" more\r\nversion\r\n"].concat();
    let whole = Client::converse([&request[..]]);
    let pieces = Client::converse(request.chunks(2500));
    assert_eq!(whole.output, pieces.output);
    assert!(whole.output.starts_with(b"CLIENT_ERROR bad command line format\r\nVERSION"));
    assert!(!pieces.is_closed);
}

#[test]
fn cve_2019_11596_and_2020_22570_lru_and_meta_without_arguments() {
    for line in ["lru mode", "lru temp_ttl", "lru", "mg", "ms", "md", "ma", "me", "mz"] {
        assert_eq!(reply_to(format!("{line}\r\n").as_bytes()), "ERROR\\r\\n", "{line}");
    }
}

#[test]
fn cve_2023_46852_spaces_before_the_keys() {
    for spaces in [200, 772] {
        let request = [&b"get"[..], &b" ".repeat(spaces), b"key1 key2\r\n"].concat();
        assert_eq!(reply_to(&request), "END\\r\\n");
    }
}

#[test]
fn cve_2023_46853_lone_newline() {
    assert_eq!(
        reply_to(b"set k 0 0 1\nv\r\nget k\nget k j\n"),
        r"STORED\r\nVALUE k 0 1\r\nv\r\nEND\r\nVALUE k 0 1\r\nv\r\nEND\r\n"
    );
}

#[test]
fn cve_2026_90698_line_of_spaces() {
    for spaces in [1, 100, 2047] {
        let request = [&b" ".repeat(spaces)[..], b"\r\n"].concat();
        assert_eq!(converse(&request), ("ERROR\\r\\n".into(), false));
    }
}

#[test]
fn twemproxy_357_empty_key_and_115_long_key() {
    assert_eq!(reply_to(b"get \r\n"), "ERROR\\r\\n");
    let request = [&b"get "[..], &[b'k'; 303], b"\r\n"].concat();
    assert_eq!(reply_to(&request), "CLIENT_ERROR bad command line format\\r\\n");
}

#[test]
fn rend_unbounded_length_and_line() {
    // Rend allocates as much as the length says.
    assert_eq!(reply_to(b"set k 0 0 4294967294\r\n"), "CLIENT_ERROR bad command line format\\r\\n");
    let (command, _) = done(b"set k 0 0 2147483645\r\n");
    assert!(matches!(command, Command::Operation { skip_bytes: 2_147_483_647, .. }));
}

#[test]
fn rend_swallows_no_block_after_a_bad_line() {
    // memcached 1.6.18 does not either; but Rend's answer differs from memcached's.
    assert_eq!(
        reply_to(b"set k x 0 1\r\nv\r\nset k 0 0 1\r\nv\r\n"),
        r"CLIENT_ERROR bad command line format\r\nERROR\r\nSTORED\r\n"
    );
}

#[test]
fn heads_are_those_of_memcached() {
    let hit = |flags, cas| Hit {
        flags,
        expiry: Expiry::NEVER,
        cas,
        state: ItemState::default(),
        value: (),
    };
    let mut head = Head::new();
    let form = Form::Get { with_cas: false, last: true };
    let encoded = encode(form, b"key", &Outcome::Hit(hit(7, 9)), 100, &mut head);
    assert_eq!(&head[..], b"VALUE key 7 100\r\n");
    assert_eq!(encoded, Encoded { with_value: true, tail: b"\r\nEND\r\n" });
    head.clear();
    let form = Form::Get { with_cas: true, last: false };
    let encoded = encode(form, b"key", &Outcome::Hit(hit(0, u64::MAX)), 0, &mut head);
    assert_eq!(&head[..], b"VALUE key 0 0 18446744073709551615\r\n");
    assert_eq!(encoded, Encoded { with_value: true, tail: b"\r\n" });
}

#[test]
fn every_number_is_written_in_decimal() {
    let large = (0..=u64::MAX.ilog10()).flat_map(|n| [10_u64.pow(n) - 1, 10_u64.pow(n), u64::MAX]);
    for number in (0..20_000).chain(large) {
        let mut head = Head::new();
        push_number(&mut head, number);
        let mut out = [0; 32];
        let mut direct = Direct::new(&mut out);
        push_number(&mut direct, number);
        let len = direct.len;
        assert_eq!(&head[..], number.to_string().as_bytes());
        assert_eq!(&out[..len], number.to_string().as_bytes());
    }
}

#[test]
fn the_longest_head_fits() {
    let mut head = Head::new();
    let hit = Hit {
        flags: u32::MAX,
        expiry: Expiry::NEVER,
        cas: u64::MAX,
        state: ItemState::default(),
        value: (),
    };
    let form = Form::Get { with_cas: true, last: true };
    encode(form, &[b'k'; 250], &Outcome::Hit(hit), u32::MAX as usize, &mut head);
    assert_eq!(head.len(), 6 + 250 + 1 + 10 + 1 + 10 + 1 + 20 + 2);
}

#[test]
fn failures_are_errors_where_the_protocol_allows_one() {
    let line = |form, outcome: &Outcome<()>| {
        let mut head = Head::new();
        encode(form, b"k", outcome, 0, &mut head);
        head.escape_ascii().to_string()
    };
    let get = |last| Form::Get { with_cas: false, last };
    assert_eq!(line(get(true), &Outcome::Miss), "END\\r\\n");
    assert_eq!(line(get(true), &Outcome::Failed), "SERVER_ERROR backend failure\\r\\n");
    assert_eq!(line(get(false), &Outcome::Failed), "");
    assert_eq!(line(Form::Line, &Outcome::Throttled), "SERVER_ERROR temporarily overloaded\\r\\n");
    assert_eq!(line(Form::Silent, &Outcome::Failed), "");
    assert_eq!(line(Form::Append, &Outcome::TooLarge), "NOT_STORED\\r\\n");
    assert_eq!(line(Form::Number, &Outcome::OutOfMemory), "SERVER_ERROR out of memory\\r\\n");
}

#[test]
fn keys_are_refused_only_for_their_length() {
    let keys = Keys { with_cas: false, expiry: None };
    assert_eq!(keys.end().as_bytes(), b"END\r\n");
    assert_eq!(next_key(b"   "), KeyStep::NeedMore);
    assert_eq!(next_key(b" ab"), KeyStep::NeedMore);
    assert_eq!(next_key(b" ab\r"), KeyStep::NeedMore);
    assert_eq!(next_key(b" a\tb c"), KeyStep::Key { key: b"a\tb", consumed: 4 });
    assert_eq!(next_key(b" \r\nx"), KeyStep::End { consumed: 3 });
    let long = [b'k'; 252];
    assert_eq!(next_key(&long[..251]), KeyStep::NeedMore);
    assert_eq!(next_key(&long), KeyStep::Bad { reply: BAD_FORMAT, consumed: 0 });
    let fits = [&long[..250], b"\r\n"].concat();
    assert_eq!(next_key(&fits), KeyStep::Key { key: &long[..250], consumed: 250 });
    assert_eq!(skip_line(b"abc\r\nd"), Some(5));
    assert_eq!(skip_line(b"abc"), None);
}

/// Bytes that look like commands.
fn nearly_a_request() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => prop::sample::select(vec![
            "get", "gets", "gat", "gats", "set", "add", "replace", "append", "prepend", "cas",
            "incr", "decr", "delete", "touch", "flush_all", "version", "verbosity", "stats",
            "quit", "noreply", "0", "1", "5", "-1", "4294967295", "99999999999999999999", "a",
            "key", "HTTP/1.1", "mg", "bget", "shutdown", "lru", "slabs", "cache_memlimit",
        ]).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ];
    let separator = prop::sample::select(vec![" ", "  ", "\r\n", "\n", "\0", "\r", "\t", ""]);
    prop::collection::vec((word, prop_oneof![4 => Just(" "), 1 => separator]), 0..12).prop_map(
        |words| {
            words
                .into_iter()
                .flat_map(|(word, separator)| word.into_iter().chain(separator.bytes()))
                .collect()
        },
    )
}

proptest! {
    #[test]
    fn parse_consumes_at_most_the_input(input in nearly_a_request()) {
        if let Step::Done { command, consumed } = parse(&input, &LIMITS, NOW) {
            prop_assert!(0 < consumed && consumed <= input.len());
            if let Command::Operation { request, .. } | Command::Store { request, .. } = command {
                prop_assert!(request.key.len() <= KEY_BYTES_MAX);
                prop_assert!(!request.key.contains(&b' ') && !request.key.contains(&0));
            }
        }
    }

    #[test]
    fn next_key_consumes_at_most_the_input(input in nearly_a_request()) {
        match next_key(&input) {
            KeyStep::NeedMore => {}
            KeyStep::Key { key, consumed } => {
                prop_assert!(consumed <= input.len());
                prop_assert!(!key.is_empty() && key.len() <= KEY_BYTES_MAX);
            }
            KeyStep::End { consumed } | KeyStep::Bad { consumed, .. } => {
                prop_assert!(consumed <= input.len());
            }
        }
    }

    #[test]
    fn random_conversations_do_not_depend_on_cuts(
        input in nearly_a_request(),
        cut in any::<prop::sample::Index>(),
    ) {
        let input = [&input[..], b"\r\n"].concat();
        let at = cut.index(input.len());
        let whole = Client::converse([&input[..]]);
        let halves = Client::converse([&input[..at], &input[at..]]);
        // A connection may have been closed with more or less input unread.
        let shown = |client: &Client| client.output.escape_ascii().to_string();
        prop_assert_eq!(shown(&whole), shown(&halves));
        prop_assert_eq!(whole.is_closed, halves.is_closed);
    }

    #[test]
    fn every_prefix_of_a_line_needs_more(
        key in "[a-z]{1,250}", flags in any::<u32>(), exptime in any::<i32>(), size in 0..1_000_000,
    ) {
        let line = format!("set {key} {flags} {exptime} {size}\r\n");
        for end in 0..line.len() {
            prop_assert!(matches!(parse(&line.as_bytes()[..end], &LIMITS, NOW), Step::NeedMore));
        }
        let (command, consumed) = done(line.as_bytes());
        let Command::Store { request, value_bytes, .. } = command else { panic!() };
        prop_assert_eq!(request.key, key.as_bytes());
        prop_assert_eq!((value_bytes, consumed), (size as usize, line.len()));
        let Action::Store(store) = request.action else { panic!() };
        prop_assert_eq!(store.flags, flags);
        prop_assert_eq!(store.expiry, Expiry::from_exptime(exptime.into(), NOW));
    }
}

/// Numbers in a line, valid and invalid.
fn number_word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0_u64..10_000).prop_map(|number| number.to_string()),
        2 => any::<u64>().prop_map(|number| number.to_string()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => "[0-9]{1,24}",
        1 => "[-+ \t0-9a]{0,6}",
    ]
}

proptest! {
    /// The fast path for a plain set gives the same result as the general one, or None.
    #[test]
    fn a_plain_set_is_parsed_like_any_line(
        start in prop_oneof![9 => Just("set "), 1 => Just("set"), 1 => Just("set  ")],
        key in prop_oneof![6 => "[a-z]{1,40}", 1 => "[a-z]{248,253}", 1 => "[a-z\t\r]{0,9}"],
        flags in number_word(),
        exptime in number_word(),
        value_bytes in number_word(),
        end in prop_oneof![
            6 => Just("\r\n"), 2 => Just("\n"), 1 => Just(" \r\n"), 1 => Just("\r\r\n"),
            1 => Just(" noreply\r\n"), 1 => Just("\0\r\n"), 1 => Just("\r"), 1 => Just(""),
        ],
        behind in "[a-z\r\n]{0,24}",
    ) {
        let input = format!("{start}{key} {flags} {exptime} {value_bytes}{end}{behind}");
        let input = input.as_bytes();
        let plain = store::parse_plain_set(input, &LIMITS, NOW);
        let mut words = Words::new();
        let long = words.read(input).map(|consumed| {
            let command = store::parse(&words, store::Verb::Set, &LIMITS, NOW);
            format!("{:?}", Step::Done { command, consumed })
        });
        if let Some(plain) = plain {
            prop_assert_eq!(Some(format!("{plain:?}")), long);
        }
    }
}

#[test]
fn a_set_with_plain_numbers_takes_the_fast_path() {
    for line in ["set k 5 10 3\r\n", "set k 1234567 2147483647 0\r\n", "set k 0 0 99999\r\n"] {
        let input = format!("{line}and a value's start");
        let plain = store::parse_plain_set(input.as_bytes(), &LIMITS, NOW);
        assert!(plain.is_some(), "{line}");
    }
}
