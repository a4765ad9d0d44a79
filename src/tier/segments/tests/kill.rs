//! A stop after any write leaves at worst a miss.

use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};

use super::super::SegmentStore;
use super::super::region::{Killed, WRITES_LEFT};
use super::commands::{Set, delete, find, get, open, plain, set, store, touch};
use super::commands::{copy, kept_store, resume};
use super::{NOW, at_in, bytes_of, key};
use crate::base::random::Random;

/// What is done, and to which key.
#[derive(Debug)]
enum Command {
    Set(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Touch(Vec<u8>),
    Get(Vec<u8>),
    Turn,
}

fn any(random: &mut Random) -> Command {
    let key = key(random.below(150) as usize);
    match random.below(10) {
        0..6 => {
            let n = match random.below(12) {
                0 => random.below(9000),
                _ => random.below(400),
            };
            Command::Set(key, bytes_of(random.draw(), n as usize))
        }
        6 => Command::Delete(key),
        7 => Command::Touch(key),
        8 => Command::Get(key),
        _ => Command::Turn,
    }
}

fn carry_out(store: &mut SegmentStore, command: &Command) {
    match command {
        Command::Set(key, value) => {
            set(store, key, &plain(value), NOW);
        }
        Command::Delete(key) => {
            delete(store, key, NOW);
        }
        Command::Touch(key) => {
            touch(store, key, at_in(100), NOW);
        }
        Command::Get(key) => {
            get(store, key, NOW);
        }
        Command::Turn => store.turn(NOW),
    }
}

/// What each key was set to last, unless it was deleted since.
type Model = HashMap<Vec<u8>, Vec<u8>>;

fn note(model: &mut Model, command: &Command) {
    match command {
        Command::Set(key, value) => {
            model.insert(key.clone(), value.clone());
        }
        Command::Delete(key) => {
            model.remove(key);
        }
        _ => {}
    }
}

/// Compares what a later start finds with what the commands were; returns how many items it finds.
fn compare(store: &SegmentStore, model: &Model, last: &Command) -> usize {
    let survivors = store.survivors();
    for (key, found) in &survivors {
        assert_eq!(found.len(), 1, "{} has two values", key.escape_ascii());
        let is_old = model.get(key) == Some(&found[0].value);
        let is_new =
            matches!(last, Command::Set(to, value) if to == key && *value == found[0].value);
        assert!(is_old || is_new, "{} has a wrong value after {last:?}", key.escape_ascii());
    }
    survivors.len()
}

/// The same of a start after the stop, which is to find as much.
fn compare_resumed(store: &SegmentStore, model: &Model, last: &Command, items: usize) {
    let (mut resumed, opening) = resume(copy(store), NOW);
    assert_eq!((opening.items, opening.damaged), (items, 0), "after {last:?}");
    resumed.check();
    for i in 0..150 {
        let key = key(i);
        let Some(item) = get(&mut resumed, &key, NOW) else { continue };
        let is_old = model.get(&key) == Some(&item.value);
        let is_new = matches!(last, Command::Set(to, value) if *to == key && *value == item.value);
        assert!(is_old || is_new, "{} has a wrong value after {last:?}", key.escape_ascii());
    }
}

#[test]
fn a_stop_after_any_write_leaves_no_wrong_value() {
    let mut killed = 0;
    for seed in 0..600 {
        let mut random = Random::of(seed);
        let mut store = if seed % 2 == 0 { store(64 * 1024) } else { kept_store(64 * 1024) };
        let mut model = Model::new();
        let readers = random.below(4) as usize;
        for i in 0..300 + random.below(500) {
            let command = any(&mut random);
            carry_out(&mut store, &command);
            note(&mut model, &command);
            if i < readers as u64 {
                // A segment that is held is emptied in another way.
                open(&mut store, &key(random.below(150) as usize), NOW);
            }
        }
        loop {
            let command = any(&mut random);
            WRITES_LEFT.set(random.below(60));
            let run = AssertUnwindSafe(|| carry_out(&mut store, &command));
            let is_killed = panic::catch_unwind(run).is_err_and(|payload| {
                if payload.is::<Killed>() { true } else { panic::resume_unwind(payload) }
            });
            WRITES_LEFT.set(u64::MAX);
            let found = compare(&store, &model, &command);
            if seed % 2 == 1 {
                compare_resumed(&store, &model, &command, found);
            }
            note(&mut model, &command);
            if is_killed {
                killed += 1;
                assert!(found > 20, "only {found} items are left");
                break;
            }
        }
    }
    assert_eq!(killed, 600);
}

#[test]
fn what_a_later_start_finds_is_what_is_there() {
    let mut store = store(1 << 20);
    for i in 0..5000 {
        let value = bytes_of(i as u64, if i % 50 == 0 { 20_000 } else { i % 500 });
        let request = Set { flags: i as u32 % 3, ..plain(&value) };
        set(&mut store, &key(i), &request, NOW).unwrap();
    }
    let survivors = store.survivors();
    assert_eq!(survivors.len(), store.items());
    for (key, found) in survivors {
        assert!(find(&mut store, &key, NOW).is_some());
        assert!(get(&mut store, &key, NOW).unwrap().value == found[0].value);
    }
}
