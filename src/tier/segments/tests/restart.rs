//! What a later start finds: everything after a clean stop, what was there after a kill, and never
//! a value that is not what was set, whatever became of the bytes.

use super::super::header::{Companion, LOOK_BYTES};
use super::super::recover::Terms;
use super::super::region::Region;
use super::super::{BYTES_MIN, Beginning, Emptied, SegmentStore, SegmentStoreConfig, StartError};
use super::commands::{Set, TERMS, copy, find, get, kept_store, make, plain, resume, set, touch};
use super::{NOW, at, at_in, bytes_of, key};
use crate::base::clock::{Expiry, Now};
use crate::base::random::Random;

/// The value of an item that never has another.
fn value_of(i: usize) -> Vec<u8> {
    bytes_of(i as u64, [10, 100, 700, 9000][i % 4])
}

fn fill(store: &mut SegmentStore, items: usize) {
    for i in 0..items {
        let expiry = if i % 3 == 0 { at_in(100 + i as u32) } else { Expiry::NEVER };
        let value = value_of(i);
        let request = Set { value: &value, flags: i as u32 % 2, expiry, is_counter: i % 7 == 0 };
        set(store, &key(i), &request, NOW).unwrap();
    }
}

/// How many of the items are there, all as they were set.
fn readable(store: &mut SegmentStore, items: usize, now: Now) -> usize {
    let is_there = |i: &usize| {
        let Some(item) = get(store, &key(*i), now) else { return false };
        assert!(item.value == value_of(*i) && item.flags == *i as u32 % 2, "item {i}");
        true
    };
    (0..items).filter(is_there).count()
}

#[test]
fn a_clean_stop_keeps_everything_as_it_was() {
    for bytes in [BYTES_MIN, 1 << 20, 8 << 20] {
        let mut store = kept_store(bytes);
        let items = bytes / 4000;
        fill(&mut store, items);
        let there = readable(&mut store, items, NOW);
        let all: Vec<_> = (0..items).map(|i| get(&mut store, &key(i), NOW)).collect();
        store.stop(NOW).unwrap();
        let (mut next, opening) = resume(copy(&store), NOW);
        assert_eq!((opening.beginning, opening.items), (Beginning::Clean, there));
        next.check();
        for (i, item) in all.into_iter().enumerate() {
            assert_eq!(get(&mut next, &key(i), NOW), item);
        }
        // The mark does not last.
        set(&mut next, b"new", &plain(b"1"), NOW).unwrap();
        let (mut third, opening) = resume(copy(&next), NOW);
        assert_eq!((opening.beginning, opening.items), (Beginning::Rebuilt, there + 1));
        assert_eq!(readable(&mut third, items, NOW), there);
        third.check();
    }
}

#[test]
fn a_store_goes_on_after_a_start_as_before_it() {
    let mut store = kept_store(BYTES_MIN);
    let mut seen = std::collections::BTreeSet::new();
    let mut random = Random::of(3);
    for round in 0..30 {
        for i in 0..200 {
            let n = random.below(1200) as usize;
            let value = bytes_of(i, n);
            let request = Set { is_counter: i % 4 == 0, ..plain(&value) };
            let Some(new) = set(&mut store, &key(i as usize), &request, NOW) else {
                panic!("no room in round {round}")
            };
            assert!(seen.insert(new), "a cas comes back");
            store.turn(NOW);
        }
        if round % 2 == 0 {
            store.stop(NOW).unwrap();
        }
        let items = store.items();
        (store, _) = resume(copy(&store), NOW);
        assert_eq!(store.items(), items);
        store.check();
    }
}

#[test]
fn time_goes_on_while_nothing_runs() {
    let mut store = kept_store(1 << 20);
    fill(&mut store, 300);
    store.turn(NOW);
    store.stop(NOW).unwrap();
    for is_clean in [true, false] {
        let later = at(NOW.unix_s + 250);
        let region = copy(&store);
        let mut region = if is_clean { region } else { resume(region, NOW).0.region };
        let (mut next, opening) = resume(std::mem::replace(&mut region, empty()), later);
        assert_eq!(opening.beginning == Beginning::Clean, is_clean);
        // Every third item expires, from 100 s on, one after another.
        assert_eq!(readable(&mut next, 300, later), 200 + 50 - 1);
        next.check();
    }
}

fn empty() -> Region {
    Region::new(64).unwrap()
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_live_longer() {
    let mut store = kept_store(1 << 20);
    fill(&mut store, 300);
    let stop = at(NOW.unix_s + 40);
    store.turn(stop);
    for is_clean in [false, true] {
        if is_clean {
            store.stop(stop).unwrap();
        }
        let earlier = at(NOW.unix_s - 3600);
        let (mut next, opening) = resume(copy(&store), earlier);
        assert_eq!(opening.back_s, 3640);
        assert_eq!(opening.beginning == Beginning::Clean, is_clean);
        // Item 0 had 60 s left at the stop.
        assert!(get(&mut next, &key(0), at(earlier.unix_s + 59)).is_some());
        assert!(get(&mut next, &key(0), at(earlier.unix_s + 60)).is_none());
        assert!(get(&mut next, &key(1), at(u32::MAX)).is_some());
        next.check();
        // A clock that goes right again ends what is too old, and nothing else.
        let (mut third, opening) = resume(copy(&next), at(NOW.unix_s + 100));
        assert_eq!(opening.back_s, 0);
        assert_eq!(readable(&mut third, 300, at(NOW.unix_s + 100)), 200);
    }
}

#[test]
fn a_flush_and_one_to_come_outlast_the_process() {
    for is_clean in [false, true] {
        let mut store = kept_store(1 << 20);
        fill(&mut store, 100);
        store.flush(Expiry::NEVER, NOW);
        set(&mut store, b"after", &plain(b"1"), NOW).unwrap();
        store.flush(at_in(50), NOW);
        if is_clean {
            store.stop(NOW).unwrap();
        }
        let (mut next, _) = resume(copy(&store), at(NOW.unix_s + 20));
        assert_eq!(next.items(), 1);
        assert!(get(&mut next, b"after", at(NOW.unix_s + 49)).is_some());
        let (mut late, _) = resume(copy(&next), at(NOW.unix_s + 50));
        assert!(get(&mut late, b"after", at(NOW.unix_s + 50)).is_none());
        set(&mut late, b"last", &plain(b"1"), at(NOW.unix_s + 50)).unwrap();
        let (mut last, _) = resume(copy(&late), at(NOW.unix_s + 60));
        assert!(get(&mut last, b"last", at(NOW.unix_s + 60)).is_some());
        assert_eq!(last.items(), 1);
    }
}

#[test]
fn what_was_not_whole_is_not_there() {
    let mut store = kept_store(1 << 20);
    fill(&mut store, 100);
    for n in [10, 3000, 100_000] {
        let value = bytes_of(1, n);
        let made = make(&mut store, b"draft", &plain(&value), NOW).unwrap();
        let made = store.hold(made);
        store.write_value(made, Default::default(), 0, &value);
        let (mut next, opening) = resume(copy(&store), NOW);
        assert_eq!((opening.items, opening.damaged), (100, 0));
        assert!(find(&mut next, b"draft", NOW).is_none());
        next.check();
    }
}

#[test]
fn a_touch_is_there_after_a_start() {
    let mut store = kept_store(1 << 20);
    set(&mut store, b"key", &Set { expiry: at_in(10), ..plain(b"value") }, NOW).unwrap();
    touch(&mut store, b"key", at_in(500), NOW).unwrap();
    set(&mut store, b"counter", &Set { is_counter: true, ..plain(b"10") }, NOW).unwrap();
    let found = find(&mut store, b"counter", NOW).unwrap();
    let cas = store.set_counter(&found, b"11").unwrap();
    let (mut next, opening) = resume(copy(&store), at(NOW.unix_s + 400));
    assert_eq!((opening.items, opening.damaged), (2, 0));
    assert_eq!(get(&mut next, b"key", NOW).unwrap().expiry, at_in(500));
    let counter = get(&mut next, b"counter", NOW).unwrap();
    assert_eq!((&counter.value[..], counter.cas), (&b"11"[..], cas));
}

#[test]
fn an_index_that_had_grown_is_made_again() {
    let mut store = kept_store(4 << 20);
    for i in 0..300_000 {
        assert!(set(&mut store, &key(i), &plain(b""), NOW).is_some());
    }
    let before = store.overview(NOW);
    let (mut next, opening) = resume(copy(&store), NOW);
    assert_eq!((opening.items, opening.damaged), (store.items(), 0));
    let after = next.overview(NOW);
    assert_eq!((after.items, after.segments), (before.items, before.segments));
    next.check();
    for i in 0..300_000 {
        let is_there = get(&mut store, &key(i), NOW).is_some();
        assert_eq!(get(&mut next, &key(i), NOW).is_some(), is_there);
    }
}

fn refusal(region: Region, config: SegmentStoreConfig, terms: &Terms) -> StartError {
    match SegmentStore::resume(region, &config, terms, NOW) {
        Err(error) => error,
        Ok((_, opening)) => panic!("{opening:?}"),
    }
}

#[test]
fn what_is_not_this_store_is_refused() {
    let mut store = kept_store(BYTES_MIN);
    fill(&mut store, 20);
    let config = SegmentStoreConfig { bytes: BYTES_MIN, worker: 0, workers: 1 };
    let text = |config, change: &dyn Fn(&mut Region)| {
        let mut region = copy(&store);
        change(&mut region);
        refusal(region, config, &TERMS).to_string()
    };
    let nothing = |_: &mut Region| {};
    let workers = SegmentStoreConfig { workers: 2, ..config };
    assert_eq!(text(workers, &nothing), "made with 1 worker, not 2");
    let bytes = SegmentStoreConfig { bytes: 2 * BYTES_MIN, ..config };
    assert_eq!(text(bytes, &nothing), "made with 65536 bytes a worker, not 131072");
    assert_eq!(text(config, &|region| region.set_u8(3, 1)), "not a store of sunder's");
    let version = |region: &mut Region| region.set_u32(8, 77);
    assert_eq!(text(config, &version), "written by another version of sunder (format 77)");
    assert_eq!(text(config, &|region| region.set_u8(33, 9)), "its header is damaged");
    let states = |region: &mut Region| region.clear(LOOK_BYTES, 448);
    assert_eq!(text(config, &states), "its header is damaged");
    let keys = Terms { key_seed: 1, ..TERMS };
    let error = refusal(copy(&store), config, &keys);
    assert_eq!(error.to_string(), "it does not go with the other workers' files");
    // Nothing of that is there once it is given up.
    let afresh = Terms { is_afresh: true, ..TERMS };
    let mut region = copy(&store);
    region.set_u32(8, 77);
    let (mut next, opening) = SegmentStore::resume(region, &config, &afresh, NOW).unwrap();
    assert_eq!(opening.beginning, Beginning::Emptied(Emptied::Asked));
    assert_eq!(readable(&mut next, 20, NOW), 0);
    next.check();
}

#[test]
fn a_store_whose_log_was_used_without_it_starts_empty() {
    let companion = Companion { log: [7; 16], run: 3 };
    let config = SegmentStoreConfig { bytes: BYTES_MIN, worker: 0, workers: 1 };
    let mut store = kept_store(BYTES_MIN);
    fill(&mut store, 20);
    store.set_companion(Some(companion));
    assert_eq!(store.companion(), Some(companion));
    let start = |run| {
        let terms = Terms { companion: Some(Companion { run, ..companion }), ..TERMS };
        SegmentStore::resume(copy(&store), &config, &terms, NOW).unwrap()
    };
    assert!(start(3).1.items > 0);
    let (mut next, opening) = start(4);
    assert_eq!(opening.beginning, Beginning::Emptied(Emptied::Companion));
    assert_eq!((next.items(), readable(&mut next, 20, NOW)), (0, 0));
    // Who did not say so since does not know.
    assert_eq!(start(3).0.companion(), None);
}

#[test]
fn a_machine_that_restarted_leaves_only_what_was_stopped() {
    let config = SegmentStoreConfig { bytes: BYTES_MIN, worker: 0, workers: 1 };
    let mut store = kept_store(BYTES_MIN);
    fill(&mut store, 20);
    let terms = Terms { boot: 2, ..TERMS };
    let (next, opening) = SegmentStore::resume(copy(&store), &config, &terms, NOW).unwrap();
    assert_eq!(opening.beginning, Beginning::Emptied(Emptied::Rebooted));
    next.check();
    store.stop(NOW).unwrap();
    let (_, opening) = SegmentStore::resume(copy(&store), &config, &terms, NOW).unwrap();
    assert_eq!(opening.beginning, Beginning::Clean);
}

/// How many times bits are flipped: more of them on demand.
fn flips() -> u64 {
    std::env::var("SUNDER_FLIPS").map_or(2000, |text| text.parse().expect("a number"))
}

fn copy_of(region: &Region) -> Region {
    let mut copy = Region::new(region.bytes()).unwrap();
    copy.write(0, region.slice(0, region.bytes()));
    copy
}

#[test]
fn flipped_bits_never_give_a_wrong_value() {
    const KEYS: usize = 100;
    let mut store = kept_store(BYTES_MIN);
    for i in 0..KEYS {
        set(&mut store, &key(i), &plain(b"an older value"), NOW).unwrap();
    }
    fill(&mut store, 30);
    let set: Vec<_> = (0..KEYS).map(|i| get(&mut store, &key(i), NOW)).collect();
    let there = set.iter().flatten().count();
    let killed = copy(&store);
    store.stop(NOW).unwrap();
    let clean = copy(&store);
    let config = SegmentStoreConfig { bytes: BYTES_MIN, worker: 0, workers: 1 };
    let mut random = Random::of(11);
    let (mut kept, mut refused) = (0, 0);
    for i in 0..flips() {
        let mut region = copy_of(if i % 2 == 0 { &clean } else { &killed });
        for _ in 0..[1, 2, 10, 100][random.below(4) as usize] {
            // Half of them in header and index.
            let end = if random.below(2) == 0 { 2000 } else { region.bytes() as u64 };
            let at = random.below(end) as usize;
            let byte = region.u8(at);
            region.set_u8(at, byte ^ 1 << random.below(8));
        }
        let Ok((mut next, _)) = SegmentStore::resume(region, &config, &TERMS, NOW) else {
            refused += 1;
            continue;
        };
        next.check();
        for (i, expected) in set.iter().enumerate() {
            let item = get(&mut next, &key(i), NOW);
            assert!(item.is_none() || item == *expected, "item {i}: {item:?}");
            kept += usize::from(item.is_some());
        }
    }
    let asked = flips() as usize * there;
    assert!(kept > asked / 4, "{kept} of {asked} items, {refused} starts refused");
    assert!(refused > 0);
}
