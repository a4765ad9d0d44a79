//! A disk that fails: misses and counters, nothing wrong, and all well soon after.

use super::super::disk::sim::Faults;
use super::*;

#[test]
fn with_one_operation_in_a_hundred_failing_nothing_is_wrong_and_little_is_missing() {
    let mut bench = Bench::new();
    bench.turn_us = 500;
    bench.medium.set_faults(Faults::failing(10_000));
    let value = |i: usize, round: usize| vec![(i * 7 + round) as u8; 100 + i % 700];
    let (mut hits, mut gets) = (0, 0);
    for round in 0..40 {
        for i in 0..200 {
            bench.set(format!("key{i}"), &value(i, round), Expiry::NEVER);
            bench.turn();
        }
        for i in 0..200 {
            gets += 1;
            if let Some(found) = bench.get(format!("key{i}")) {
                assert!(found == value(i, round), "key{i} in round {round}");
                hits += 1;
            }
        }
    }
    assert!(bench.counter(Counter::SsdWriteErrors) > 0);
    assert!(bench.counter(Counter::SsdReadErrors) > 0);
    assert!(hits * 10 > gets * 5, "{hits} of {gets}");
}

#[test]
fn a_disk_that_fails_wholly_answers_at_once_and_is_used_again_when_it_works() {
    let mut bench = Bench::new();
    for i in 0..100 {
        bench.set(format!("key{i}"), &[1; 1_000], Expiry::NEVER);
    }
    bench.settle();
    bench.medium.set_faults(Faults::failing(1_000_000));
    for i in 0..3_000 {
        bench.set(format!("new{i}"), &[2; 1_000], Expiry::NEVER);
        bench.delete(format!("key{}", i % 50));
        bench.turn();
    }
    assert!(bench.counter(Counter::SsdNotWritten) > 0);
    bench.medium.set_faults(Faults::default());
    let start_us = bench.now.uptime_us;
    while bench.now.uptime_us < start_us + 1_000_000 {
        bench.turn();
        bench.now.uptime_us += 1_000;
    }
    bench.set("after", b"v", Expiry::NEVER);
    assert_eq!(bench.get_from_disk("after"), Some(b"v".to_vec()));
    for i in 0..50 {
        assert_eq!(bench.get(format!("key{i}")), None, "deleted while the disk failed");
    }
    assert!((50..100).any(|i| bench.get(format!("key{i}")).is_some()), "the others are there");
}

#[test]
fn a_disk_that_takes_five_seconds_holds_nothing_up() {
    let mut bench = Bench::new();
    for i in 0..100 {
        bench.set(format!("key{i}"), &[1; 1_000], Expiry::NEVER);
    }
    bench.settle();
    bench.restart();
    bench.medium.set_faults(Faults { delay_us: 5_000_000..=5_000_000, ..Faults::default() });
    // More reads than can wait: each of the rest is answered at once.
    let keys: Vec<Key> = (0..2_000).map(|i| key(format!("key{}", i % 100))).collect();
    let now = bench.now;
    let ssd = &bench.ssd;
    let mut gets: Vec<_> = keys.iter().map(|key| Box::pin(ssd.get(key, now))).collect();
    let mut context = Context::from_waker(Waker::noop());
    let mut throttled = 0;
    gets.retain_mut(|get| match get.as_mut().poll(&mut context) {
        Poll::Ready(Outcome::Throttled) => {
            throttled += 1;
            false
        }
        Poll::Ready(other) => panic!("{other:?}"),
        Poll::Pending => true,
    });
    assert_eq!(throttled, 2_000 - crate::limits::SSD_READS_MAX);
    // Half of those that wait go away; the reads own their memory.
    gets.truncate(500);
    let mut later = now;
    let mut hits = 0;
    for _ in 0..2_000 {
        later.uptime_us += 100_000;
        ssd.turn(later);
        ssd.flush(later);
        gets.retain_mut(|get| match get.as_mut().poll(&mut context) {
            Poll::Ready(Outcome::Hit(_)) => {
                hits += 1;
                false
            }
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => true,
        });
    }
    assert_eq!((hits, gets.len()), (500, 0));
}

#[test]
fn a_damaged_record_is_a_miss_and_leaves_the_index() {
    let mut bench = Bench::new();
    for i in 0..20 {
        bench.set(format!("key{i}"), &[i; 1_000], Expiry::NEVER);
    }
    bench.restart();
    bench.medium.set_faults(Faults { read_flip: 1_000_000, ..Faults::default() });
    let items = bench.ssd.items();
    // One bit of a block: not always within the record.
    let missing = (0..20).filter(|i| bench.get(format!("key{i}")).is_none()).count() as u64;
    assert!(missing > 0);
    assert_eq!(bench.counter(Counter::SsdCorrupt), missing);
    assert_eq!(bench.ssd.items(), items - missing);
}
