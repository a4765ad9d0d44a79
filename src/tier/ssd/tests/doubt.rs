//! A disk that takes no writes any more, and is read again later: whole, and old.

use super::super::disk::sim::Faults;
use super::*;

const KEYS: usize = 200;

/// What goes wrong with every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It fails at once, as on a file system that was remounted read-only.
    Refused,
    /// It never ends, as on one that is frozen.
    Frozen,
}

const FAULTS: [Fault; 2] = [Fault::Refused, Fault::Frozen];

impl Fault {
    fn begin(self, medium: &SimHandle) {
        let all = crate::tier::ssd::disk::sim::ALWAYS;
        medium.set_faults(match self {
            // Reads still work.
            Fault::Refused => Faults { refuse_writes: true, flush_error: all, ..Faults::default() },
            Fault::Frozen => Faults { delay_us: 1 << 40..=1 << 40, ..Faults::default() },
        });
    }
}

/// A log with all keys, old and durable, whose witness is given.
fn old(witness: &Arc<Noted>) -> Bench {
    let image = vec![0; part_bytes(SEGMENTS, SEGMENT_BYTES)];
    let mut bench = Bench::with(image, with(witness), 1);
    for i in 0..KEYS {
        bench.set(format!("key{i}"), b"old", Expiry::NEVER);
    }
    bench.settle();
    bench
}

fn with(witness: &Arc<Noted>) -> Options {
    Options { witness: Arc::clone(witness) as Arc<dyn Witness>, ..options() }
}

/// Turns for so long.
fn pass(bench: &mut Bench, time_us: u64) {
    let end_us = bench.now.uptime_us + time_us;
    while bench.now.uptime_us < end_us {
        bench.now.uptime_us += 10_000;
        bench.turn();
    }
}

fn try_set(bench: &mut Bench, key: usize, value: &[u8]) -> Outcome<Chain> {
    let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
    bench.store(format!("key{key}").as_bytes(), value, store)
}

/// What is found after the process was killed and the disk works again.
fn after_a_kill(bench: &Bench, witness: &Arc<Noted>) -> Bench {
    Bench::with(bench.medium.image(Cut::Kept), with(witness), 2)
}

#[test]
fn what_could_not_be_written_brings_nothing_old_back() {
    for fault in FAULTS {
        for ends_with_a_stop in [false, true] {
            let what = format!("{fault:?}, stop {ends_with_a_stop}");
            let witness = Arc::new(Noted::default());
            let mut bench = old(&witness);
            fault.begin(&bench.medium);
            for i in 0..KEYS / 2 {
                bench.set(format!("key{i}"), b"new", Expiry::NEVER);
            }
            // Just long enough for a disk that does not answer at all.
            pass(&mut bench, 11_000_000);
            for i in 0..KEYS / 4 {
                assert!(bench.ssd.log.borrow_mut().doubt.is_noted(), "{what}");
                let stored = try_set(&mut bench, i, b"newer");
                assert!(matches!(stored, Outcome::Stored { .. }), "{what}: {stored:?}");
            }
            for i in 0..KEYS / 2 {
                let found = bench.ssd.try_now(
                    format!("key{i}").as_bytes(),
                    Action::Get,
                    Body::EMPTY,
                    bench.now,
                );
                let Some(found) = found else { continue };
                let is_old = matches!(&found, Outcome::Hit(hit) if hit.value.to_vec() == b"old");
                assert!(!is_old, "{what}: {i} is old while it is served");
            }
            if ends_with_a_stop {
                let now = bench.now;
                let turns = std::cell::Cell::new(0);
                let clock = || {
                    turns.set(turns.get() + 1);
                    Now { uptime_us: now.uptime_us + turns.get() * 1_000, ..now }
                };
                let is_over = || turns.get() > 10_000;
                assert!(!bench.ssd.stop(clock, is_over), "{what}: it cannot be closed");
                bench.ssd.log.borrow_mut().close(false);
            }
            let mut again = after_a_kill(&bench, &witness);
            assert!(again.ssd.was_distrusted(), "{what}");
            for i in 0..KEYS {
                assert_eq!(again.get(format!("key{i}")), None, "{what}: {i}");
            }
            // It is as good as new, and the note is gone.
            assert!(witness.logs.lock().expect("whole").is_empty());
            again.set("key1", b"newest", Expiry::NEVER);
            again.restart();
            assert!(!again.ssd.was_distrusted());
            assert_eq!(again.get("key1"), Some(b"newest".to_vec()), "{what}");
        }
    }
}

#[test]
fn a_stop_soon_after_the_first_failure_is_noted_too() {
    let witness = Arc::new(Noted::default());
    let mut bench = old(&witness);
    Fault::Refused.begin(&bench.medium);
    bench.set("key0", b"new", Expiry::NEVER);
    let (now, turns) = (bench.now, std::cell::Cell::new(0));
    let clock = || Now { uptime_us: now.uptime_us + turns.get() * 1_000, ..now };
    let is_over = || {
        turns.set(turns.get() + 1);
        turns.get() > 100
    };
    assert!(!bench.ssd.stop(clock, is_over));
    bench.ssd.log.borrow_mut().close(false);
    let mut again = after_a_kill(&bench, &witness);
    assert!(again.ssd.was_distrusted());
    assert_eq!(again.get("key0"), None);
}

#[test]
fn a_log_that_is_written_again_is_believed_again() {
    for fault in FAULTS {
        let witness = Arc::new(Noted::default());
        let mut bench = old(&witness);
        // A disk that comes back after some minutes.
        match fault {
            Fault::Refused => fault.begin(&bench.medium),
            Fault::Frozen => bench
                .medium
                .set_faults(Faults { delay_us: 120_000_000..=120_000_000, ..Faults::default() }),
        }
        for i in 0..KEYS / 2 {
            bench.set(format!("key{i}"), b"new", Expiry::NEVER);
        }
        // Which asks a disk that is frozen first.
        let is_deleted = fault == Fault::Refused && bench.delete("key150");
        assert_eq!(is_deleted, fault == Fault::Refused);
        pass(&mut bench, 20_000_000);
        assert!(bench.ssd.log.borrow().doubt.is_noted(), "{fault:?}");
        bench.medium.set_faults(Faults::default());
        pass(&mut bench, 130_000_000);
        bench.settle();
        assert!(!bench.ssd.log.borrow().doubt.is_noted(), "{fault:?}");
        assert!(witness.logs.lock().expect("whole").is_empty(), "{fault:?}");
        let mut again = after_a_kill(&bench, &witness);
        assert!(!again.ssd.was_distrusted(), "{fault:?}");
        assert_eq!(again.get("key150").is_none(), is_deleted, "{fault:?}");
        for i in 0..KEYS / 2 {
            assert_ne!(again.get(format!("key{i}")), Some(b"old".to_vec()), "{fault:?}: {i}");
        }
        assert_eq!(again.get("key151"), Some(b"old".to_vec()), "{fault:?}: never changed");
    }
}

#[test]
fn without_a_place_for_a_note_nothing_is_changed_that_could_come_back() {
    for fault in FAULTS {
        for is_hung in [false, true] {
            let what = format!("{fault:?}, hung {is_hung}");
            let witness = Arc::new(Noted::default());
            witness.is_broken.store(true, Relaxed);
            witness.is_hung.store(is_hung, Relaxed);
            let mut bench = old(&witness);
            fault.begin(&bench.medium);
            // What was done in the first moments may be lost, as in any crash.
            bench.set("key0", b"new", Expiry::NEVER);
            pass(&mut bench, 13_000_000);
            assert!(bench.ssd.log.borrow().doubt.is_refusing(), "{what}");
            for i in 1..KEYS {
                let stored = try_set(&mut bench, i, b"new");
                assert!(matches!(stored, Outcome::Failed), "{what}: {stored:?}");
            }
            if fault == Fault::Refused {
                let deleted = bench.run(b"key1", Action::Delete { cas: 0 }, b"");
                assert!(matches!(deleted, Outcome::Failed), "{what}: {deleted:?}");
                let flushed = bench.run(b"", Action::FlushAll { at: Expiry::NEVER }, b"");
                assert!(matches!(flushed, Outcome::Failed), "{what}: {flushed:?}");
                // What was not changed is what it is, now and later.
                assert_eq!(bench.get("key1"), Some(b"old".to_vec()), "{what}");
                let mut again = after_a_kill(&bench, &witness);
                assert_eq!(again.get("key1"), Some(b"old".to_vec()), "{what}");
                bench.medium.set_faults(Faults::default());
                pass(&mut bench, 3_000_000);
                assert!(!bench.ssd.log.borrow().doubt.is_refusing(), "{what}: it works again");
                bench.set("key1", b"new", Expiry::NEVER);
                assert_eq!(bench.get_from_disk("key1"), Some(b"new".to_vec()));
            }
        }
    }
}

#[test]
fn a_flush_all_ends_and_holds_after_the_next_start() {
    for fault in FAULTS {
        for is_broken in [false, true] {
            let what = format!("{fault:?}, no note {is_broken}");
            let witness = Arc::new(Noted::default());
            witness.is_broken.store(is_broken, Relaxed);
            let mut bench = old(&witness);
            fault.begin(&bench.medium);
            bench.set("key0", b"new", Expiry::NEVER);
            bench.turn_us = 1_000;
            let begun_us = bench.now.uptime_us;
            let outcome = bench.run(b"", Action::FlushAll { at: Expiry::NEVER }, b"");
            let took_us = bench.now.uptime_us - begun_us;
            assert!(took_us < 6_000_000, "{what}: {took_us} us");
            let mut again = after_a_kill(&bench, &witness);
            if is_broken {
                assert!(matches!(outcome, Outcome::Failed), "{what}: {outcome:?}");
                continue;
            }
            assert!(matches!(outcome, Outcome::Flushed), "{what}: {outcome:?}");
            for i in 0..KEYS {
                assert_eq!(again.get(format!("key{i}")), None, "{what}: {i}");
            }
        }
    }
}

#[test]
fn a_host_that_was_paused_and_a_log_that_rests_are_not_doubted() {
    let witness = Arc::new(Noted::default());
    let mut bench = old(&witness);
    for round in 0..10 {
        bench.set("key0", &[round; 1_000], Expiry::NEVER);
        bench.turn();
        // In the middle of what the disk is doing.
        bench.now.uptime_us += 110_000_000;
        pass(&mut bench, 1_000_000);
        bench.now.uptime_us += 3_600_000_000;
    }
    assert!(!bench.ssd.log.borrow().doubt.is_noted());
    assert!(witness.logs.lock().expect("whole").is_empty());
}
