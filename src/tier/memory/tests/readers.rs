//! What becomes of items that are read when there is no other memory.

use super::*;
use crate::base::limits::{READER_PAUSE_PRESSED_US, READER_PAUSE_US, ROOM_PATIENCE_US};

/// A memory full of items that replies hold, half of them under their key and half not any more.
struct Full {
    bench: Bench,
    held: Vec<ItemValue>,
}

fn full(value_bytes: usize) -> Full {
    let mut bench = Bench::new(1 << 20);
    bench.now = after_s(10);
    let mut held = Vec::new();
    loop {
        let n = held.len();
        let seen = bench.set(format!("{}", n / 2), vec![n as u8; value_bytes]);
        if seen == said("OutOfMemory") {
            break;
        }
        let value = bench.hold(format!("{}", n / 2));
        value.note_progress(bench.now);
        held.push(value);
    }
    assert!(held.len() > 4, "{} items", held.len());
    Full { bench, held }
}

impl Full {
    fn pass_us(&mut self, us: u64) {
        self.bench.now.uptime_us += us;
    }

    fn set_fits(&mut self, value_bytes: usize) -> bool {
        let seen = self.bench.set("new", vec![b'n'; value_bytes]);
        assert!(
            seen == said("OutOfMemory") || matches!(&seen, Seen::Other(s) if s.contains("cas"))
        );
        seen != said("OutOfMemory")
    }

    fn lost(&self) -> Vec<usize> {
        (0..self.held.len()).filter(|&n| self.held[n].is_lost()).collect()
    }

    /// What is not lost is as it was, and of what is nothing more can be had.
    fn check(&self, value_bytes: usize) {
        for (n, value) in self.held.iter().enumerate() {
            let mut bytes = vec![0; value_bytes];
            let (copied, whole) = (value.copy_to(0, &mut bytes), vec![n as u8; value_bytes]);
            assert_eq!(value.len(), value_bytes);
            if value.is_lost() {
                assert_eq!((copied, value.show(0, &mut |_| 1)), (0, 0));
            } else {
                assert!(copied == value_bytes && bytes == whole, "{n}");
            }
        }
        self.bench.check(&self.held.iter().collect::<Vec<_>>());
    }
}

#[test]
fn an_item_is_taken_from_readers_that_have_paused_for_long_enough() {
    for value_bytes in [1_000, 40_000, 150_000] {
        let mut full = full(value_bytes);
        full.pass_us(READER_PAUSE_US - 1);
        assert!(!full.set_fits(value_bytes));
        assert!(full.lost().is_empty());
        full.check(value_bytes);
        full.pass_us(20_000);
        assert!(full.set_fits(value_bytes));
        let lost = full.lost();
        // What lies in one segment of 4 KiB is lost together.
        let most = 2 + 4096 / value_bytes;
        assert!((1..=most).contains(&lost.len()), "no more than is needed: {lost:?}");
        if value_bytes > 4096 {
            assert!(lost.iter().all(|n| n % 2 == 0), "first what nobody else can find: {lost:?}");
        }
        assert_eq!(full.bench.counter(Counter::EvictedUnread), lost.len() as u64);
        full.check(value_bytes);
        // Then what is least recently used, and it is gone for all.
        full.bench.delete("new");
        let before = full.bench.counter(Counter::Evictions);
        for n in 0..full.held.len() {
            let key = format!("new {n}");
            let seen = full.bench.set(&key, vec![b'n'; value_bytes]);
            assert_ne!(seen, said("OutOfMemory"), "{n}");
            let value = full.bench.hold(&key);
            value.note_progress(full.bench.now);
            full.held.push(value);
            full.bench.delete(&key);
            if full.bench.counter(Counter::Evictions) > before {
                break;
            }
        }
        assert!(full.bench.counter(Counter::Evictions) > before);
        assert!(full.bench.value("0").is_none());
        let bench = full.bench;
        drop(full.held);
        bench.check(&[]);
    }
}

#[test]
fn an_item_stays_while_any_of_its_readers_makes_progress() {
    let mut full = full(40_000);
    let mut others: Vec<ItemValue> = Vec::new();
    for n in 0..full.held.len() {
        if n % 2 == 1 {
            others.push(full.bench.hold(format!("{}", n / 2)));
        }
    }
    for _ in 0..20 {
        full.pass_us(READER_PAUSE_US / 2);
        // The unlinked by themselves, the others by a second reader.
        full.held.iter().step_by(2).for_each(|value| value.note_progress(full.bench.now));
        others.iter().for_each(|value| value.note_progress(full.bench.now));
        assert!(!full.set_fits(40_000));
        assert!(full.lost().is_empty());
    }
    // One pauses, and is found wherever it is. It shares two segments with others, who keep them.
    for paused in [4, 3] {
        let mut n = 0;
        while full.lost().is_empty() && n < 10 {
            full.pass_us(READER_PAUSE_US / 2);
            for other in (0..full.held.len()).filter(|&other| other != paused) {
                full.held[other].note_progress(full.bench.now);
            }
            full.set_fits(30_000);
            n += 1;
        }
        assert_eq!(full.lost(), [paused]);
        full.held.swap_remove(paused);
        full.bench.delete("new");
        let last = full.bench.set("last", vec![9; 30_000]);
        assert_ne!(last, said("OutOfMemory"));
        let value = full.bench.hold("last");
        value.note_progress(full.bench.now);
        full.held.push(value);
    }
}

#[test]
fn what_replies_hold_leaves_half_of_the_memory_to_what_is_in_use() {
    let mut full = full(40_000);
    full.pass_us(READER_PAUSE_US / 2);
    full.bench.memory.turn(full.bench.now);
    assert!(full.lost().is_empty());
    full.pass_us(READER_PAUSE_US);
    let half = full.held.len() / 2;
    let names: Vec<String> = (0..half - 3).map(|n| format!("new {n}")).collect();
    let (mut lost, mut stored) = (0, 0);
    for round in 0..2 {
        for name in &names {
            for _ in 0..5 {
                full.bench.memory.turn(full.bench.now);
                full.pass_us(1_000);
            }
            let before = full.lost().len();
            let seen = full.bench.set(name, vec![b'n' + round; 40_000]);
            assert_ne!(seen, said("OutOfMemory"));
            assert_eq!(full.lost().len(), before, "there was room before it was needed");
            stored += 1;
        }
        // All of them are there, and nobody lost more than for them.
        assert!(names.iter().all(|name| full.bench.value(name).is_some()));
        if round == 0 {
            lost = full.lost().len();
            assert!((half - 3..=half + 2).contains(&lost), "{lost} for {stored}");
            full.pass_us(10_000_000);
        }
        assert!(full.lost().len() <= half + 2, "{} for {stored}", full.lost().len());
    }
    assert!(full.bench.value("1").is_some(), "what nobody can find goes first: {lost}");
    full.check(40_000);
    full.held.clear();
    assert!(!full.bench.memory.store.borrow().segments.has_waiting_readers());
    full.bench.check(&[]);
}

#[test]
fn what_a_command_reads_is_not_taken_for_it() {
    let mut full = full(40_000);
    full.pass_us(10_000_000);
    // All have paused; the longer value has its room from others than the one that it begins with.
    for k in ["0", "1"] {
        let before = full.bench.value(k).expect("held");
        let seen = full.bench.mode(StoreMode::Append, k, [b'+'; 30_000]);
        assert!(matches!(seen, Seen::Other(said) if said.starts_with("Stored")));
        let after = full.bench.value(k).expect("stored");
        assert!(after == [&before[..], &[b'+'; 30_000]].concat());
    }
    assert!(!full.lost().is_empty());
    full.check(40_000);
}

#[test]
fn what_no_reply_has_kept_is_not_taken() {
    let mut bench = Bench::new(1 << 20);
    let mut held = Vec::new();
    for n in 0.. {
        if bench.set(format!("{n}"), vec![1; 40_000]) == said("OutOfMemory") {
            break;
        }
        held.push(bench.hold(format!("{n}")));
    }
    bench.now = after_s(100);
    assert_eq!(bench.set("new", vec![1; 40_000]), said("OutOfMemory"));
    assert!(held.iter().all(|value| !value.is_lost()));
}

/// Polls a store of 40,000 bytes in turns of a millisecond; returns after how many it is through,
/// and with what.
fn wait(full: &mut Full, mode: StoreMode, mut each_ms: impl FnMut(&Full)) -> (u64, Seen) {
    let is_append = mode == StoreMode::Append;
    let (k, value) = (key(if is_append { "1" } else { "new" }), Chain::from_slice(&[b'w'; 40_000]));
    let request = StoreRequest { mode, flags: 0, expiry: Expiry::NEVER, cas: 0 };
    let memory = Memory { store: Rc::clone(&full.bench.memory.store), waiting: Waiting::default() };
    memory.stand_alone();
    let mut store = pin!(memory.store(&k, request, &value, full.bench.now));
    for ms in 0..1_000 {
        if let Poll::Ready(outcome) = store.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            assert_eq!(memory.wake_at_us(), u64::MAX);
            memory.turn(full.bench.now);
            let pause_us = memory.store.borrow().segments.reader_pause_us;
            assert_eq!(pause_us, READER_PAUSE_US, "nobody waits any more");
            return (ms, full.bench.seen(outcome));
        }
        assert!(memory.wake_at_us() <= full.bench.now.uptime_us + 1_000);
        full.bench.now.uptime_us += 1_000;
        each_ms(full);
        memory.turn(full.bench.now);
    }
    panic!("it waits for ever");
}

#[test]
fn a_store_waits_for_readers_that_pause_and_not_for_long() {
    for mode in [StoreMode::Set, StoreMode::Add, StoreMode::Append] {
        let mut full = full(40_000);
        full.pass_us(1_000);
        let no_memory = full.bench.counter(Counter::StoreNoMemory);
        let (ms, seen) = wait(&mut full, mode, |_| ());
        assert!(matches!(&seen, Seen::Other(said) if said.starts_with("Stored")), "{seen:?}");
        assert!((READER_PAUSE_PRESSED_US / 1_000..100).contains(&ms), "{ms} ms");
        assert_eq!(full.bench.counter(Counter::StoreNoMemory), no_memory);
        full.check(40_000);
    }
    // They read on.
    let mut full = full(40_000);
    let no_memory = full.bench.counter(Counter::StoreNoMemory);
    let (ms, seen) = wait(&mut full, StoreMode::Set, |full| {
        full.held.iter().for_each(|value| value.note_progress(full.bench.now));
    });
    assert_eq!((ms, seen), (ROOM_PATIENCE_US / 1_000, said("OutOfMemory")));
    assert_eq!(full.bench.counter(Counter::StoreNoMemory), no_memory + 1);
    assert!(full.lost().is_empty());
    full.check(40_000);
}
