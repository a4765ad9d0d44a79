//! Lookups of many keys in one request, with scripted servers that answer in every wrong way.

use std::future::poll_fn;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::task::Poll;

use sunder::base::limits::{KEY_BYTES_MAX, LINK_LOOKUP_BYTES};
use sunder::base::stats::Counter;
use sunder::tier::link::{Down, One, Status};
use sunder::tier::memcached::plain::Plain;

use super::fixture::{Fixture, Folder, Memcached, Scripted, receive};
use crate::common::task::Task;

/// How many of the keys had an item, and how many had none.
type KeyCounts = Result<(u32, u32), Down>;

async fn look_up(tier: &Plain, keys: Vec<Vec<u8>>) -> KeyCounts {
    let mut batches = Vec::new();
    for key in keys {
        let mut batch = tier.link().begin(One::default())?;
        batch.look_up(&key).await?;
        batches.push(batch);
    }
    let mut waits: Vec<_> = batches.into_iter().map(|batch| Box::pin(batch.wait())).collect();
    let mut told: Vec<Option<Result<Status, Down>>> = vec![None; waits.len()];
    poll_fn(|context| {
        for (wait, told) in waits.iter_mut().zip(&mut told).filter(|(_, told)| told.is_none()) {
            if let Poll::Ready(one) = wait.as_mut().poll(context) {
                *told = Some(one.map(|one| one.head.status));
            }
        }
        if told.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let statuses: Vec<Status> = told.into_iter().flatten().collect::<Result<_, _>>()?;
    let count = |of| statuses.iter().filter(|status| **status == of).count() as u32;
    Ok((count(Status::Value), count(Status::Miss)))
}

fn names(names: &str) -> Vec<Vec<u8>> {
    names.split(' ').map(|name| name.as_bytes().to_vec()).collect()
}

fn pair() -> (Scripted, Fixture, UnixStream) {
    let server = Scripted::start();
    let fixture = Fixture::open_held(&server.folder.socket());
    let stream = server.accept(&fixture);
    (server, fixture, stream)
}

/// Sends `gets a b`, and in the next turn `gets x y` and two more keys of another task.
fn begin<'f>(fixture: &'f Fixture, stream: &mut UnixStream) -> [Task<'f, KeyCounts>; 3] {
    let task = |keys| Task::new(look_up(&fixture.tier, names(keys)));
    let mut first = [task("a b")];
    fixture.turn(&mut first);
    assert_eq!(receive(stream, "\r\n").as_deref(), Some("gets a b\r\n"));
    let mut others = [task("x y"), task("x z")];
    fixture.turn(&mut others);
    assert_eq!(receive(stream, "\r\n").as_deref(), Some("gets x y x z\r\n"), "one line for two");
    let ([first], [second, third]) = (first, others);
    [first, second, third]
}

fn results(tasks: &[Task<'_, KeyCounts>]) -> Vec<Option<KeyCounts>> {
    tasks.iter().map(|task| task.output).collect()
}

#[test]
fn each_gets_its_own_values_wherever_the_answer_is_split() {
    let answer = "VALUE b 0 1 5\r\nB\r\nEND\r\nVALUE x 0 0 6\r\n\r\nVALUE x 0 5 6\r\nEND\r\n\r\n\
                  VALUE z 0 1 7\r\nZ\r\nEND\r\n";
    for cut in 0..=answer.len() {
        let (_server, fixture, mut stream) = pair();
        let mut tasks = begin(&fixture, &mut stream);
        let (first, second) = answer.as_bytes().split_at(cut);
        for part in [first, second] {
            stream.write_all(part).expect("the link reads");
            fixture.turn(&mut tasks);
        }
        let expected = [(1, 1), (1, 1), (2, 0)].map(|found| Some(Ok(found)));
        assert_eq!(results(&tasks), expected, "cut at {cut}");
        assert_eq!(fixture.count(Counter::LinkGarbage), 0);
    }
}

#[test]
fn an_answer_that_does_not_fit_the_lookup_ends_the_connection() {
    let a = "VALUE a 0 1 5\r\nA\r\n";
    let b = "VALUE b 0 1 5\r\nB\r\n";
    let x = "VALUE x 0 1 5\r\nX\r\n";
    let end = "END\r\n";
    let answers = [
        ("another order", [b, a, end].concat()),
        ("twice", [a, a, end].concat()),
        ("the last one twice", [a, b, b, end].concat()),
        ("no end", [a, b, x, end].concat()),
        ("no end, and nothing found", [x, end].concat()),
        ("one of the next lookup's", [b, x, end, x, end].concat()),
        ("ends too many", [a, end, end, end].concat()),
        ("an unknown key", ["VALUE c 0 1 5\r\nC\r\n", end].concat()),
        ("half a key", ["VALUE  0 1 5\r\nA\r\n", end].concat()),
        ("a longer key", ["VALUE ab 0 1 5\r\nA\r\n", end].concat()),
        ("no cas", ["VALUE a 0 1\r\nA\r\n", end].concat()),
        ("a value longer than said", ["VALUE a 0 1 5\r\nAA\r\n", end].concat()),
        ("a value of 2^64 bytes", ["VALUE a 0 18446744073709551615 5\r\n", end].concat()),
        ("another protocol's hit", ["VA 1 O0 f0 c1\r\nA\r\n", end].concat()),
        ("another protocol's miss", ["EN\r\n", end].concat()),
    ];
    for (why, answer) in answers {
        let (_server, fixture, mut stream) = pair();
        let mut tasks = begin(&fixture, &mut stream);
        stream.write_all(answer.as_bytes()).expect("the link reads");
        fixture.turn(&mut tasks);
        assert_eq!(fixture.count(Counter::LinkGarbage), 1, "{why}");
        assert!(!fixture.tier.link().is_up(), "{why}");
        // An early end is a miss of the later keys; nothing else after the fault is an answer.
        let rest = if why == "ends too many" { Ok((0, 2)) } else { Err(Down) };
        assert_eq!(results(&tasks)[1..], [Some(rest), Some(rest)], "{why}");
    }
}

#[test]
fn an_error_instead_of_the_rest_is_the_answer_for_those_keys_only() {
    let (_server, fixture, mut stream) = pair();
    let mut tasks = begin(&fixture, &mut stream);
    let answer = "VALUE a 0 1 5\r\nA\r\nSERVER_ERROR out of memory writing get response\r\n\
                  VALUE x 0 1 5\r\nX\r\nEND\r\n";
    stream.write_all(answer.as_bytes()).expect("the link reads");
    fixture.turn(&mut tasks);
    assert_eq!(results(&tasks), [(1, 0), (1, 1), (0, 2)].map(|found| Some(Ok(found))));
    assert_eq!(fixture.count(Counter::LinkGarbage), 0);
}

/// Longest keys, all bytes except those that end a word, the same key many times, and more of them
/// than one line can hold.
#[test]
fn keys_of_every_shape_are_found_by_a_memcached() {
    let folder = Folder::new();
    let _memcached = Memcached::start(&folder.socket(), &[]);
    let fixture = Fixture::open(&folder.socket());
    let odd: Vec<u8> = (1..=u8::MAX).filter(|byte| !b"\r\n ".contains(byte)).collect();
    let long = |n: usize| format!("{n:0>width$}", width = KEY_BYTES_MAX).into_bytes();
    let mut keys = vec![odd[..130].to_vec(), odd[130..].to_vec(), b"VALUE".to_vec()];
    keys.extend((0..40).map(long));
    assert!(keys.iter().map(Vec::len).sum::<usize>() > 2 * LINK_LOOKUP_BYTES);
    for key in &keys {
        fixture.set(key, b"END\r\n");
    }
    let asked: Vec<Vec<u8>> = keys
        .iter()
        .flat_map(|key| [key.clone(), b"missing".to_vec(), key.clone(), key.clone()])
        .collect();
    let lookups = (0..20).map(|_| look_up(&fixture.tier, asked.clone()));
    for found in fixture.run_all(lookups) {
        assert_eq!(found, Ok((3 * keys.len() as u32, keys.len() as u32)));
    }
    assert_eq!(fixture.count(Counter::LinkGarbage), 0);
}
