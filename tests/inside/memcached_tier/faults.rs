//! Scripted servers that split answers, send wrong ones, stop and close.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use sunder::base::buffer::Chain;
use sunder::base::limits::{LINK_INPUT_BYTES, LINK_INVALIDATIONS_MAX, LINK_PATIENCE};
use sunder::base::stats::Counter;
use sunder::tier::link::Address;
use sunder::tier::{Arithmetic, Outcome, Tier};

use crate::common::task::Task;

use super::fixture::{
    Fixture, Folder, HELD_TIMEOUT_US, Memcached, Scripted, close, greet, key, receive, words,
};

fn said(task: &Task<'_, Outcome<Chain>>, fixture: &Fixture) -> String {
    task.output.as_ref().map_or("waits".into(), |outcome| words(outcome, fixture.now()))
}

/// A scripted server, a link to it, and the server's side of the connection.
fn pair() -> (Scripted, Fixture, UnixStream) {
    let server = Scripted::start();
    let fixture = Fixture::open_held(&server.folder.socket());
    let stream = server.accept(&fixture);
    (server, fixture, stream)
}

#[test]
fn answers_may_be_split_anywhere() {
    let (_server, fixture, mut stream) = pair();
    let mut number = 0;
    let mut cut = 0;
    loop {
        let now = fixture.now();
        let count = Arithmetic { decrement: false, delta: 1, initial: None, cas: 0 };
        let (tier, k) = (&fixture.tier, &key(b"k"));
        let mut tasks = [
            fixture.begin_get(b"k"),
            fixture.begin_get(b"k"),
            fixture.begin_set(b"k", b"abc"),
            Task::new(async move { tier.arithmetic(k, count, now).await }),
            fixture.begin_get(b"k"),
        ];
        fixture.turn(&mut tasks);
        receive(&mut stream, &format!("mg k O{} f c v\r\n", number + 4)).expect("asked");
        let answers = format!(
            "VA 7 O{} f5 c9\r\nhe\r\nllo\r\nEN O{}\r\nHD O{} c3\r\nVA 2 O{} c4\r\n17\r\nVA 0 O{} f0 c1\r\n\r\n",
            number,
            number + 1,
            number + 2,
            number + 3,
            number + 4
        );
        let (first, second) = answers.as_bytes().split_at(cut);
        for part in [first, second] {
            stream.write_all(part).expect("the link reads");
            fixture.turn(&mut tasks);
        }
        let outcomes: Vec<String> = tasks.iter().map(|task| said(task, &fixture)).collect();
        let expected = ["hit 5 -1 he\\r\\nllo", "Miss", "stored", "number 17", "hit 0 -1 "];
        assert_eq!(outcomes, expected, "cut at {cut}");
        number += 5;
        cut += 1;
        if cut > answers.len() {
            break;
        }
    }
    assert_eq!(fixture.count(Counter::LinkReconnects), 0);
}

#[test]
fn an_invalid_answer_ends_the_connection_and_fails_outstanding_requests() {
    let answers = [
        "VALUE k 0 1\r\nx\r\nEND\r\n",
        "VA 1 O1 f0 c1\r\nx\r\n",
        "EN O7\r\n",
        "VA 1 O0 f0 c1\r\nxy\r\n",
        "VA 9999999999999 O0 f0 c1\r\nxy\r\n",
        "CLIENT_ERROR bad command line format\r\n",
        "\0\0\0\0\0\0\0\0\n",
        "VA 2 O0 f0 c1\r\nab\r\nEN O1\r\nEN O2\r\n",
    ];
    for answer in answers {
        let (server, fixture, mut stream) = pair();
        let mut tasks = [fixture.begin_get(b"k"), fixture.begin_get(b"k")];
        fixture.turn(&mut tasks);
        assert_eq!(fixture.count(Counter::LinkOperationsL1), 2);
        receive(&mut stream, "O1 f c v\r\n").expect("asked");
        stream.write_all(answer.as_bytes()).expect("the link reads");
        fixture.turn(&mut tasks);
        assert_eq!(said(&tasks[1], &fixture).replace("Miss", "Failed"), "Failed", "{answer}");
        assert!(!fixture.tier.link().is_up(), "{answer}");
        assert_eq!(fixture.count(Counter::LinkGarbage), 1, "{answer}");
        // Nothing is sent, and there is no new connection, before the server has closed.
        fixture.pass_ms::<()>(500, &mut []);
        assert_eq!(said(&fixture.begin_get(b"k"), &fixture), "Failed", "{answer}");
        assert_eq!(receive(&mut stream, "anything"), None, "{answer}");
        assert_eq!(fixture.count(Counter::LinkReconnects), 0, "{answer}");
        close(stream);
        let mut stream = server.accept(&fixture);
        fixture.wait_until_up();
        let mut tasks = [fixture.begin_get(b"k")];
        fixture.turn(&mut tasks);
        let asked = receive(&mut stream, "f c v\r\n").expect("asked");
        let opaque = asked.split(' ').nth(2).expect("mg k O..");
        stream.write_all(format!("VA 1 {opaque} f0 c1\r\nz\r\n").as_bytes()).expect("reads");
        fixture.turn(&mut tasks);
        assert_eq!(said(&tasks[0], &fixture), "hit 0 -1 z", "{answer}");
    }
}

#[test]
fn an_unsolicited_answer_ends_the_connection() {
    let (server, fixture, mut stream) = pair();
    stream.write_all(b"EN\r\n").expect("the link reads");
    fixture.pass_ms::<()>(100, &mut []);
    assert!(!fixture.tier.link().is_up());
    close(stream);
    server.accept(&fixture);
    fixture.wait_until_up();
}

#[test]
fn a_truncated_value_is_not_returned() {
    let answer = "VA 5 O0 f0 c1\r\nhello\r\n";
    for cut in 0..answer.len() {
        let (server, fixture, mut stream) = pair();
        let mut tasks = [fixture.begin_get(b"k")];
        fixture.turn(&mut tasks);
        receive(&mut stream, "f c v\r\n").expect("asked");
        stream.write_all(&answer.as_bytes()[..cut]).expect("the link reads");
        close(stream);
        fixture.turn(&mut tasks);
        fixture.turn(&mut tasks);
        assert_eq!(said(&tasks[0], &fixture), "Failed", "{cut}");
        server.accept(&fixture);
        fixture.wait_until_up();
        assert_eq!(fixture.count(Counter::LinkReconnects), 1);
    }
}

#[test]
fn a_late_server_gets_no_requests_until_all_its_answers_have_arrived() {
    let (_server, fixture, mut stream) = pair();
    let mut tasks = [fixture.begin_set(b"k", b"old"), fixture.begin_get(b"k")];
    fixture.pass_ms(59, &mut tasks);
    assert_eq!(said(&tasks[0], &fixture), "waits");
    fixture.pass_ms(2, &mut tasks);
    assert_eq!(said(&tasks[0], &fixture), "Failed");
    assert_eq!(said(&tasks[1], &fixture), "Failed");
    assert_eq!(fixture.count(Counter::LinkTimeouts), 1);
    fixture.pass_ms(900, &mut tasks);
    assert_eq!(said(&fixture.begin_set(b"k", b"new"), &fixture), "Failed", "immediately");
    stream.write_all(b"HD O0 c1\r\nVA 3 O1 f0 c1\r\nol").expect("the link reads");
    fixture.pass_ms(5, &mut tasks);
    assert!(!fixture.tier.link().is_up(), "a late answer is missing");
    stream.write_all(b"d\r\n").expect("the link reads");
    fixture.pass_ms(1, &mut tasks);
    assert!(fixture.tier.link().is_up());
    let mut tasks = [fixture.begin_set(b"k", b"new")];
    fixture.turn(&mut tasks);
    receive(&mut stream, "ms k 3 O2 c\r\nnew\r\n").expect("sent after the late answers");
    stream.write_all(b"HD O2 c2\r\n").expect("the link reads");
    fixture.turn(&mut tasks);
    assert_eq!(said(&tasks[0], &fixture), "stored");
    assert_eq!(fixture.count(Counter::LinkReconnects), 0, "it is the same connection");
}

#[test]
fn answers_before_the_time_out_count() {
    let (_server, fixture, mut stream) = pair();
    let mut tasks = [fixture.begin_get(b"a"), fixture.begin_get(b"b")];
    fixture.turn(&mut tasks);
    receive(&mut stream, "mg b O1 f c v\r\n").expect("asked");
    stream.write_all(b"VA 1 O0 f0 c1\r\nx\r\nVA 1 O1").expect("the link reads");
    fixture.ahead_us.set(fixture.ahead_us.get() + 61_000);
    fixture.turn(&mut tasks);
    assert_eq!(said(&tasks[0], &fixture), "hit 0 -1 x");
    assert_eq!(said(&tasks[1], &fixture), "Failed");
    stream.write_all(b" f0 c1\r\ny\r\n").expect("the link reads");
    fixture.turn(&mut tasks);
    assert!(fixture.tier.link().is_up());
}

/// Large answers may together exceed the time-out, as long as they keep arriving; not for ever.
#[test]
fn a_server_that_keeps_sending_is_not_frozen() {
    let (_server, fixture, mut stream) = pair();
    let mut tasks = [fixture.begin_get(b"a"), fixture.begin_get(b"b")];
    fixture.turn(&mut tasks);
    let pieces = 2 * LINK_PATIENCE as usize;
    let head = format!("VA {} O0 f0 c1\r\n", pieces * LINK_INPUT_BYTES);
    stream.write_all(head.as_bytes()).expect("the link reads");
    let mut waited_ms = 0;
    for _ in 0..pieces {
        stream.write_all(&vec![b'v'; LINK_INPUT_BYTES]).expect("the link reads");
        fixture.pass_ms(40, &mut tasks);
        if said(&tasks[1], &fixture) == "Failed" {
            break;
        }
        waited_ms += 40;
    }
    let patience_ms = LINK_PATIENCE * HELD_TIMEOUT_US / 1000;
    assert!(waited_ms > patience_ms / 2 && waited_ms <= patience_ms, "{waited_ms} ms");
    assert_eq!(said(&tasks[0], &fixture), "Failed");
}

#[test]
fn a_frozen_server_that_exits_is_reconnected() {
    let (server, fixture, stream) = pair();
    let mut tasks = [fixture.begin_get(b"k")];
    fixture.pass_ms(70, &mut tasks);
    assert_eq!(said(&tasks[0], &fixture), "Failed");
    close(stream);
    server.accept(&fixture);
    fixture.wait_until_up();
}

#[test]
fn remembered_invalidations_are_sent_before_other_requests() {
    let server = Scripted::start_greeting_once();
    let fixture = Fixture::open_held(&server.folder.socket());
    let mut stream = server.accept(&fixture);
    // One is sent and not answered, one is answered, one is made during the outage.
    let mut tasks = [fixture.begin_invalidate(b"b"), fixture.begin_invalidate(b"a")];
    fixture.turn(&mut tasks);
    receive(&mut stream, "md b O0\r\nmd a O1\r\n").expect("asked");
    stream.write_all(b"NF O0\r\n").expect("the link reads");
    fixture.turn(&mut tasks);
    assert_eq!(said(&tasks[0], &fixture), "Deleted");
    assert_eq!(said(&tasks[1], &fixture), "waits");
    close(stream);
    fixture.turn(&mut tasks);
    fixture.turn(&mut tasks);
    assert_eq!(said(&tasks[1], &fixture), "Deleted", "the link remembers it");
    assert!(!fixture.tier.link().is_up());
    assert_eq!(said(&fixture.begin_invalidate(b"c"), &fixture), "Deleted");
    let mut stream = server.accept(&fixture);
    greet(&mut stream);
    fixture.pass_ms::<()>(5, &mut []);
    assert!(!fixture.tier.link().is_up(), "not before they are answered");
    receive(&mut stream, "md a O2\r\nmd c O3\r\n").expect("only these two");
    assert_eq!(said(&fixture.begin_get(b"a"), &fixture), "Failed");
    // Lost again: both must be sent again, the answered one too, because others wait with it.
    stream.write_all(b"HD O2\r\n").expect("the link reads");
    fixture.turn::<()>(&mut []);
    close(stream);
    let mut stream = server.accept(&fixture);
    greet(&mut stream);
    fixture.pass_ms::<()>(5, &mut []);
    receive(&mut stream, "md c O4\r\n").expect("the remaining one");
    stream.write_all(b"NF O4\r\n").expect("the link reads");
    fixture.wait_until_up();
    let mut tasks = [fixture.begin_get(b"a")];
    fixture.turn(&mut tasks);
    receive(&mut stream, "mg a O5 f c v\r\n").expect("nothing else in between");
}

#[test]
fn a_late_invalidation_is_sent_again() {
    let (_server, fixture, mut stream) = pair();
    let mut tasks = [fixture.begin_invalidate(b"a")];
    fixture.pass_ms(70, &mut tasks);
    assert_eq!(said(&tasks[0], &fixture), "Deleted", "the link remembers it");
    assert_eq!(said(&fixture.begin_invalidate(b"b"), &fixture), "Deleted", "the link remembers it");
    receive(&mut stream, "md a O0\r\n").expect("asked");
    stream.write_all(b"HD O0\r\n").expect("the link reads");
    fixture.pass_ms::<()>(2, &mut []);
    receive(&mut stream, "md a O1\r\nmd b O2\r\n").expect("asked");
    assert!(!fixture.tier.link().is_up());
    // New ones are sent before any other new request.
    fixture.begin_invalidate(b"d");
    stream.write_all(b"HD O1\r\nNF O2\r\n").expect("the link reads");
    fixture.turn::<()>(&mut []);
    assert!(fixture.tier.link().is_up());
    let mut tasks = [fixture.begin_get(b"d")];
    fixture.turn(&mut tasks);
    receive(&mut stream, "md d O3\r\nmg d O4 f c v\r\n").expect("in this order");
    stream.write_all(b"HD O3\r\nEN O4\r\n").expect("the link reads");
    fixture.turn(&mut tasks);
    assert_eq!(said(&tasks[0], &fixture), "Miss");
}

#[test]
fn too_many_remembered_keys_flush_everything() {
    let server = Scripted::start_greeting_once();
    let fixture = Fixture::open_held(&server.folder.socket());
    close(server.accept(&fixture));
    fixture.pass_ms::<()>(60, &mut []);
    assert!(!fixture.tier.link().is_up());
    for i in 0..=LINK_INVALIDATIONS_MAX {
        assert!(fixture.begin_invalidate(&i.to_be_bytes()).output.is_some());
    }
    let mut stream = server.accept(&fixture);
    greet(&mut stream);
    fixture.pass_ms::<()>(5, &mut []);
    receive(&mut stream, "flush_all\r\n").expect("asked");
    assert!(!fixture.tier.link().is_up());
    stream.write_all(b"OK\r\n").expect("the link reads");
    fixture.wait_until_up();
}

#[test]
fn reconnects_to_a_server_that_closes_immediately_are_limited() {
    let server = Scripted::start();
    let fixture = Fixture::open_held(&server.folder.socket());
    close(server.accept(&fixture));
    for _ in 0..1000 {
        fixture.pass_ms::<()>(1, &mut []);
        // The greeting thread closes the connection afterwards.
        server.try_accept().into_iter().for_each(close);
        std::thread::sleep(Duration::from_micros(200));
    }
    let reconnects = fixture.count(Counter::LinkReconnects);
    assert!((2..30).contains(&reconnects), "{reconnects} in a second");
}

#[test]
fn an_abandoned_batch_does_no_harm() {
    let (_server, fixture, mut stream) = pair();
    let mut number = 0;
    for _ in 0..100 {
        drop(fixture.begin_get(b"dropped"));
        let mut tasks = [fixture.begin_get(b"kept")];
        fixture.turn(&mut tasks);
        receive(&mut stream, &format!("mg kept O{} f c v\r\n", number + 1)).expect("asked");
        let answers =
            format!("VA 3 O{number} f0 c1\r\nabc\r\nVA 3 O{} f0 c1\r\nxyz\r\n", number + 1);
        stream.write_all(answers.as_bytes()).expect("the link reads");
        fixture.turn(&mut tasks);
        assert_eq!(said(&tasks[0], &fixture), "hit 0 -1 xyz");
        number += 2;
    }
    let left = fixture.begin_get(b"left");
    fixture.turn::<()>(&mut []);
    drop(left);
    fixture.pass_ms::<()>(70, &mut []);
    assert_eq!(fixture.count(Counter::LinkTimeouts), 1, "it was sent nevertheless");
}

fn refusal(server: &Scripted) -> String {
    match Fixture::try_open(&server.folder.socket()) {
        Ok(_) => panic!("it is not a memcached"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_unusable_server_is_refused_in_one_line() {
    let says = |answer: &'static [u8]| {
        let server = Scripted::start_with(move |mut stream| {
            receive(&mut stream, "version\r\n")?;
            stream.write_all(answer).ok()?;
            Some(stream)
        });
        refusal(&server)
    };
    let redis = says(b"-ERR unknown command 'version'\r\n");
    let expected =
        r"the server there is not a memcached: it answers '-ERR unknown command \'version\''";
    assert!(redis.ends_with(expected), "{redis}");
    let old = says(b"VERSION 1.4.39\r\nERROR\r\n");
    assert!(
        old.contains(": memcached 1.4.39 has no meta commands; a memcached of 1.6 or later"),
        "{old}"
    );
    assert!(says(b"VERS").ends_with(": it does not answer"));
    let closing = Scripted::start_with(|stream| {
        close(stream);
        None
    });
    let closed = refusal(&closing);
    assert!(closed.contains("closes the connection") || closed.contains("lost while"), "{closed}");
    let folder = Folder::new();
    let absent = Fixture::try_open(&folder.socket()).err().expect("there is no server");
    assert!(absent.is_absence());
    let expected =
        format!("memcached at unix:{}: no server listens there", folder.socket().display());
    assert_eq!(absent.to_string(), expected);
    drop(UnixListener::bind(folder.socket()).expect("a socket"));
    // A process that another test is starting may hold the listener until it has executed its
    // program.
    while UnixStream::connect(folder.socket()).is_ok() {
        std::thread::yield_now();
    }
    let dead = Fixture::try_open(&folder.socket()).err().expect("the listener is closed");
    assert_eq!(dead.to_string(), expected);
}

#[test]
fn a_frozen_memcached_is_refused_at_start() {
    let folder = Folder::new();
    let memcached = Memcached::start(&folder.socket(), &[]);
    memcached.freeze();
    let error = Fixture::try_open(&folder.socket()).err().expect("it is frozen");
    memcached.thaw();
    assert!(error.to_string().ends_with(": it does not answer"), "{error}");
}

#[test]
fn addresses_are_read() {
    let unix = Address::parse("unix:/run/a b").expect("a path");
    assert_eq!(unix.to_string(), "unix:/run/a b");
    assert_eq!(Address::parse("/run/x"), Address::parse("unix:/run/x"));
    assert_eq!(Address::parse("127.0.0.1:11213").expect("a port").to_string(), "127.0.0.1:11213");
    assert_eq!(Address::parse("[::1]:1").expect("a port").to_string(), "[::1]:1");
    for text in ["", "unix:", "127.0.0.1", "x", ":", "127.0.0.1:99999"] {
        assert_eq!(Address::parse(text), None, "{text}");
    }
}
