//! The races listed in Rend's comments that concern chunks, and interleaved writers.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};

use sunder::base::buffer::Chain;
use sunder::base::clock::Expiry;
use sunder::tier::{Outcome, Store, StoreMode, Tier};

use super::rig::{REND, Rig, Server, chunk_name, value};
use crate::common::task::Task;
use crate::memcached_tier::fixture::{Scripted, greet, key};

fn set() -> Store {
    Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 }
}

/// Polls and flushes two writers in the given order, until both have finished.
fn interleave(
    rigs: [&Rig; 2],
    tasks: &mut [[Task<'_, Outcome<Chain>>; 1]; 2],
    order: impl Fn(usize) -> usize,
) {
    let mut step = 0;
    while tasks.iter().any(|task| task[0].output.is_none()) {
        let who = order(step);
        rigs[who].turn(&mut tasks[who]);
        step += 1;
        assert!(step < 10_000_000, "both end");
    }
}

/// Race 1: concurrent chunked sets collide. The chunks contain their writer's token, so a read
/// returns the complete value of one writer or a miss.
#[test]
fn race_1_concurrent_sets_of_one_key_never_mix() {
    let server = Server::start(&[]);
    let rigs = [server.tier(REND), server.tier(REND)];
    let reader = server.tier(REND);
    let name = key(b"k");
    let mut seen = [0; 3];
    for round in 0..60_usize {
        // Longer than a link's output, so that a set takes many turns.
        let lengths = [3_000_000 + round * 1_000, 2_000_000 + round * 3_000];
        let values = [value(1, lengths[0]), value(2, lengths[1])];
        let chains = [Chain::from_slice(&values[0]), Chain::from_slice(&values[1])];
        let mut tasks = [0, 1].map(|i| {
            let rig = &rigs[i];
            [Task::new(rig.tier.store(&name, set(), &chains[i], rig.now()))]
        });
        interleave([&rigs[0], &rigs[1]], &mut tasks, |step| {
            // Runs of turns, in another order each round.
            value(round as u8, 97)[step / 4 % 97] as usize % 2
        });
        for task in tasks {
            let [Task { output: Some(Outcome::Stored { .. }), .. }] = task else {
                panic!("both are stored")
            };
        }
        match reader.value(b"k") {
            None => seen[2] += 1,
            Some(found) if found == values[0] => seen[0] += 1,
            Some(found) if found == values[1] => seen[1] += 1,
            Some(_) => panic!("a mix"),
        }
    }
    assert!(seen[2] > 0, "some collided: {seen:?}");
}

/// Race 1, with Rend as the other writer: it writes its metadata first and then its chunks.
#[test]
fn race_1_a_second_client_that_overwrites_chunks_makes_a_miss() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for index in 0..5 {
        rig.set(b"other", &value(2, 5_000));
        rig.set(b"k", &value(1, 5_000));
        for i in 0..=index {
            let (_, theirs) = raw.get(&chunk_name("other", i)).expect("a chunk");
            raw.set(&chunk_name("k", i), 0, 0, &theirs);
        }
        assert_eq!(rig.value(b"k"), None, "chunks 0 to {index}");
    }
}

/// Race 8: a chunk cannot be written. Nothing of the value is left, nor of the previous one.
#[test]
fn race_8_a_failed_chunk_write_leaves_no_orphans() {
    let server = Server::start(&["-I", "256k", "-o", "slab_chunk_max=128"]);
    let small = server.tier(REND);
    let large = server.tier(512 * 1024);
    let mut raw = server.raw();
    for mode in [StoreMode::Set, StoreMode::Replace] {
        small.set(b"k", &value(1, 50_000));
        assert_eq!(raw.items(), 1 + 46);
        assert!(matches!(large.store(mode, b"k", &value(2, 600_000), 0), Outcome::TooLarge));
        assert_eq!(raw.items(), 0);
        assert_eq!(small.value(b"k"), None);
    }
    assert!(matches!(large.store(StoreMode::Add, b"k", &value(2, 600_000), 0), Outcome::TooLarge));
    assert_eq!(raw.items(), 0);
}

/// A server without items that has no memory for the chunk `k-3`. It reports which keys were
/// deleted.
fn serve_without_memory(stream: UnixStream, deleted: &Sender<String>) -> Option<()> {
    let mut output = stream.try_clone().ok()?;
    greet(&mut output).then_some(())?;
    let mut input = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let opaque = words.iter().find(|word| word.starts_with('O'))?;
        let answer = match words[0] {
            "ms" => {
                let mut value = vec![0; words[2].parse::<usize>().ok()? + 2];
                input.read_exact(&mut value).ok()?;
                match words[1] {
                    "k-3" => "SERVER_ERROR out of memory storing object\r\n".to_owned(),
                    _ => format!("HD {opaque} c7\r\n"),
                }
            }
            "md" => {
                deleted.send(words[1].to_owned()).ok()?;
                format!("HD {opaque}\r\n")
            }
            _ => format!("EN {opaque}\r\n"),
        };
        output.write_all(answer.as_bytes()).ok()?;
    }
}

/// Race 8: one chunk of many cannot be written.
#[test]
fn race_8_if_one_chunk_cannot_be_stored_all_are_deleted() {
    let (sender, receiver) = mpsc::channel();
    let script = Scripted::start_with(move |stream| {
        serve_without_memory(stream, &sender);
        None
    });
    let rig = Rig::open(&script.folder.socket(), REND);
    for mode in [StoreMode::Set, StoreMode::Add] {
        let outcome = rig.store(mode, b"k", &value(1, 5_000), 0);
        assert!(matches!(outcome, Outcome::OutOfMemory), "{outcome:?}");
        let deleted: Vec<String> = receiver.try_iter().collect();
        assert_eq!(deleted, ["k-meta", "k-0", "k-1", "k-2", "k-3", "k-4"]);
    }
}

/// Race 8: a writer disappears in the middle. Readers get the old value, the new one or a miss.
#[test]
fn race_8_an_interrupted_set_is_never_half_a_value() {
    let server = Server::start(&[]);
    let reader = server.tier(REND);
    let (old, new) = (value(1, 2_500_000), value(2, 2_500_000));
    let chain = Chain::from_slice(&new);
    let name = key(b"k");
    let mut misses = 0;
    for turns in 0..12 {
        reader.set(b"k", &old);
        let writer = server.tier(REND);
        {
            let mut tasks = [Task::new(writer.tier.store(&name, set(), &chain, writer.now()))];
            for _ in 0..turns {
                writer.turn(&mut tasks);
            }
        }
        drop(writer);
        match reader.value(b"k") {
            None => misses += 1,
            Some(found) => assert!(found == old || found == new, "after {turns} turns"),
        }
    }
    assert!(misses > 0);
}

#[test]
fn an_interrupted_append_leaves_the_old_value() {
    let server = Server::start(&[]);
    let reader = server.tier(REND);
    let (old, more) = (value(1, 5_000), value(2, 2_500_000));
    let chain = Chain::from_slice(&more);
    let name = key(b"k");
    let store = Store { mode: StoreMode::Append, ..set() };
    let mut olds = 0;
    for turns in 0..12 {
        reader.set(b"k", &old);
        let writer = server.tier(REND);
        {
            let mut tasks = [Task::new(writer.tier.store(&name, store, &chain, writer.now()))];
            for _ in 0..turns * 20 {
                writer.turn(&mut tasks);
            }
        }
        drop(writer);
        let found = reader.value(b"k").expect("an append removes nothing");
        if found == old {
            olds += 1;
        } else {
            assert!(found == [&old[..], &more[..]].concat(), "after {turns} turns");
        }
    }
    assert!(olds > 0);
}

/// A cas, an add and a replace that lose against a client that writes between their two steps.
#[test]
fn conditions_hold_against_writers_between_the_steps() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let other = server.tier(REND);
    let name = key(b"k");
    let long = value(1, 2_500_000);
    let chain = Chain::from_slice(&long);
    // The condition was checked, and the chunks are being sent, when `between` runs.
    let lose = |store: Store, between: &dyn Fn()| {
        let mut tasks = [Task::new(rig.tier.store(&name, store, &chain, rig.now()))];
        for _ in 0..1_000_000 {
            rig.turn(&mut tasks);
            if server.raw().get("k-0").is_some_and(|(_, chunk)| chunk[16..] == long[..1096]) {
                break;
            }
        }
        between();
        while tasks[0].output.is_none() {
            rig.turn(&mut tasks);
        }
        let [Task { output, .. }] = tasks;
        output.expect("finished")
    };
    let add = Store { mode: StoreMode::Add, ..set() };
    let outcome = lose(add, &|| {
        other.set(b"k", b"theirs");
    });
    assert!(matches!(outcome, Outcome::NotStored), "{outcome:?}");
    assert_ne!(rig.value(b"k"), Some(long.clone()));

    let cas = rig.set(b"k", b"before");
    let outcome = lose(Store { cas, ..set() }, &|| {
        other.set(b"k", b"theirs");
    });
    assert!(matches!(outcome, Outcome::Exists), "{outcome:?}");
    assert_ne!(rig.value(b"k"), Some(long.clone()));

    let cas = rig.set(b"k", b"before");
    let delete =
        || assert!(matches!(other.run(other.tier.delete(&name, 0, other.now())), Outcome::Deleted));
    let outcome = lose(Store { cas, ..set() }, &delete);
    assert!(matches!(outcome, Outcome::Miss), "{outcome:?}");
    assert_eq!(rig.value(b"k"), None);

    rig.set(b"k", b"before");
    let outcome = lose(Store { mode: StoreMode::Replace, ..set() }, &delete);
    assert!(matches!(outcome, Outcome::NotStored), "{outcome:?}");
    assert_eq!(rig.value(b"k"), None);
}
