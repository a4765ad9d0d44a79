//! What a store keeps, and that nothing else is ever found in it.

mod commands;
mod file;
mod index;
mod kill;
mod model;
mod restart;
mod sweep;

use super::header::{self, Found};
use super::record::{self, RecordKind, RecordShape};
use super::region::Region;
use super::{BYTES_MAX, BYTES_MIN, PieceCursor, SegmentStore, SegmentStoreConfig};
use crate::base::clock::Expiry;
use crate::base::random::Random;
use commands::{NOW, Set, append, at, delete, find, get, make, open, plain, publish, read, set};
use commands::{store, touch, turns};

fn bytes_of(seed: u64, n: usize) -> Vec<u8> {
    let mut random = Random::of(seed);
    (0..n).map(|_| random.draw() as u8).collect()
}

fn key(i: usize) -> Vec<u8> {
    format!("key:{i}").into_bytes()
}

#[test]
fn values_of_every_size_come_back() {
    let mut store = store(32 << 20);
    let sizes = (0..300).chain([4000, 4096, 16_000, 65_535, 65_536, 100_000, 300_000, 4 << 20]);
    for n in sizes {
        for (flags, expiry) in [(0, Expiry::NEVER), (7, Expiry::NEVER), (u32::MAX, at_in(60))] {
            let value = bytes_of(n as u64, n);
            let key = bytes_of(flags.into(), 1 + n % 250);
            let request = Set { value: &value, flags, expiry, is_counter: n % 3 == 0 };
            let cas = set(&mut store, &key, &request, NOW).unwrap();
            let item = get(&mut store, &key, NOW).unwrap();
            assert!(item.value == value, "{n} bytes");
            assert_eq!((item.flags, item.expiry, item.cas), (flags, expiry, cas));
        }
    }
    store.check();
}

fn at_in(seconds: u32) -> Expiry {
    Expiry::from_unix_s(NOW.unix_s + seconds)
}

#[test]
fn a_record_costs_three_bytes_and_what_it_needs() {
    let region = Region::new(64).unwrap();
    let bytes = |flags, expiry, body| {
        let shape = RecordShape::new(RecordKind::Plain, (flags, expiry, false), 20, body);
        shape.bytes(&region) - 20 - body
    };
    assert_eq!(bytes(0, Expiry::NEVER, 100), 3);
    assert_eq!(bytes(0, Expiry::NEVER, 255), 3);
    assert_eq!(bytes(0, Expiry::NEVER, 256), 5);
    assert_eq!(bytes(1, at_in(1), 1000), 13);
}

#[test]
fn no_single_flipped_bit_brings_a_dead_record_to_life() {
    let mut region = Region::new(4096).unwrap();
    for bits in 0..8 {
        let flags = bits & 1;
        let expiry = if bits & 2 == 0 { Expiry::NEVER } else { at_in(1) };
        for kind in [RecordKind::Plain, RecordKind::Chain, RecordKind::Piece] {
            let shape = RecordShape::new(kind, (flags, expiry, bits & 4 != 0), 3, 300);
            shape.write(&mut region, 64, b"key");
            let head = record::head(&region, 64);
            assert!(head.is_known() && !head.is_live());
            head.publish(&mut region, 64);
            assert!(record::head(&region, 64).is_live());
            head.bury(&mut region, 64);
            let dead = region.u8(64);
            for bit in 0..8 {
                region.set_u8(64, dead ^ 1 << bit);
                assert!(!record::head(&region, 64).is_live());
            }
        }
    }
}

#[test]
fn the_smallest_store_keeps_what_was_set_last() {
    for bytes in [BYTES_MIN, BYTES_MIN + 1000, 100_000, 1 << 20] {
        let mut store = store(bytes);
        let mut random = Random::of(bytes as u64);
        for i in 0..20_000 {
            let value = bytes_of(i as u64, random.below(600) as usize);
            assert!(set(&mut store, &key(i), &plain(&value), NOW).is_some(), "set {i}");
            assert_eq!(get(&mut store, &key(i), NOW).map(|item| item.value), Some(value));
            if i % 100 == 0 {
                store.check();
            }
        }
        assert!(store.items() > bytes / 600);
    }
}

#[test]
fn figures_out_of_range_are_refused() {
    let with =
        |bytes, worker, workers| SegmentStore::new(SegmentStoreConfig { bytes, worker, workers });
    assert!(with(BYTES_MIN - 1, 0, 1).is_err());
    assert!(with(BYTES_MAX + 1, 0, 1).is_err());
    assert!(with(BYTES_MIN, 1, 1).is_err());
    assert!(with(BYTES_MIN, 0, 1).is_ok());
}

#[test]
fn another_region_is_not_taken_for_a_store() {
    let store = store(BYTES_MIN);
    assert!(matches!(header::geometry(&store.region), Found::Store(_)));
    assert_eq!(header::geometry(&Region::new(BYTES_MIN).unwrap()), Found::Nothing);
    for bit in 0..8 * 56 {
        let mut region = Region::new(BYTES_MIN).unwrap();
        region.write(0, store.region.slice(0, 128));
        let (at, mask) = (bit / 8, 1 << (bit % 8));
        region.set_u8(at, region.u8(at) ^ mask);
        assert!(!matches!(header::geometry(&region), Found::Store(_)), "bit {bit}");
    }
}

#[test]
fn what_readers_hold_stays_as_it_was() {
    let mut store = store(2 << 20);
    let mut held = Vec::new();
    for i in 0..40 {
        let value = bytes_of(i, [100, 3000, 40_000][i as usize % 3]);
        set(&mut store, &key(i as usize), &plain(&value), NOW).unwrap();
        held.push((open(&mut store, &key(i as usize), NOW).unwrap(), value));
    }
    for i in 1000..20_000 {
        // Without room there is none, but nothing else happens.
        set(&mut store, &key(i), &plain(&bytes_of(i as u64, i % 2000)), NOW);
        if i % 3 == 0 {
            delete(&mut store, &key(i % 40), NOW);
        }
        store.turn(NOW);
    }
    for (opened, value) in &held {
        assert!(read(&store, opened) == *value);
    }
    store.check();
    held.iter().for_each(|(opened, _)| store.close(opened));
    for i in 0..10_000 {
        store.turn(NOW);
        assert!(set(&mut store, &key(i), &plain(&[1; 100]), NOW).is_some());
    }
    store.check();
}

#[test]
fn without_room_a_set_fails_until_readers_let_go() {
    let mut store = store(BYTES_MIN);
    let mut held = Vec::new();
    let failed = (0..10_000).find(|&i| {
        let is_stored = set(&mut store, &key(i), &plain(&[1; 500]), NOW).is_some();
        held.extend(open(&mut store, &key(i), NOW));
        !is_stored
    });
    assert!(failed.is_some() && store.is_starved && store.counts.no_memory > 0);
    store.check();
    held.iter().for_each(|opened| store.close(opened));
    (0..100).for_each(|_| store.turn(NOW));
    assert!(set(&mut store, b"again", &plain(&[1; 500]), NOW).is_some());
    store.check();
}

#[test]
fn the_index_grows_with_the_items_and_takes_its_memory_from_the_segments() {
    let mut store = store(8 << 20);
    let before = store.overview(NOW);
    for i in 0..600_000 {
        assert!(set(&mut store, &key(i), &plain(b""), NOW).is_some());
        if i % 50_000 == 0 {
            store.check();
        }
    }
    let after = store.overview(NOW);
    assert!(after.segments < before.segments && after.index_bytes > 20 * before.index_bytes);
    // A key of some 10 bytes, 3 of the record, 10 of the index, and a few of what is spare.
    assert!(store.items() > (8 << 20) / 26, "{} items", store.items());
    assert!(store.counts.crowded < 1000, "{:?}", store.counts);
    // Large values after that get what is left, as soon as the small ones have made room.
    for i in 0..200 {
        let is_stored = |_| {
            store.turn(NOW);
            set(&mut store, &key(i), &plain(&vec![3; 50_000]), NOW).is_some()
        };
        assert!((0..30).any(is_stored), "set {i}");
    }
    store.check();
}

#[test]
fn what_expires_is_not_found_and_its_memory_comes_back() {
    let mut store = store(1 << 20);
    for i in 0..2000 {
        let request = Set { expiry: at_in(10 + i as u32 % 3), ..plain(&[1; 100]) };
        set(&mut store, &key(i), &request, NOW).unwrap();
    }
    set(&mut store, b"stays", &plain(b"1"), NOW).unwrap();
    let before = store.overview(NOW);
    assert!(get(&mut store, &key(0), at(NOW.unix_s + 9)).is_some());
    assert!(get(&mut store, &key(0), at(NOW.unix_s + 10)).is_none());
    assert_eq!(store.counts.found_expired, 1);
    turns(&mut store, 100, NOW.unix_s + 13);
    assert_eq!((store.items(), store.counts.reclaimed), (1, 1999));
    assert!(store.overview(NOW).free > before.free + 40);
    assert!(get(&mut store, b"stays", at(NOW.unix_s + 13)).is_some());
    store.check();
}

#[test]
fn a_flush_ends_what_was_stored_before_it() {
    let mut store = store(1 << 20);
    for i in 0..1000 {
        set(&mut store, &key(i), &plain(&[1; 100]), NOW).unwrap();
    }
    store.flush(Expiry::NEVER, NOW);
    set(&mut store, b"after", &plain(b"1"), NOW).unwrap();
    assert!(find(&mut store, &key(1), NOW).is_none());
    assert_eq!(store.counts.found_flushed, 1);
    assert_eq!(store.survivors().len(), 1);
    turns(&mut store, 100, NOW.unix_s);
    assert_eq!(store.items(), 1);
    store.flush(at_in(5), NOW);
    assert!(find(&mut store, b"after", at(NOW.unix_s + 4)).is_some());
    set(&mut store, b"more", &plain(b"1"), at(NOW.unix_s + 4)).unwrap();
    assert!(find(&mut store, b"after", at(NOW.unix_s + 5)).is_none());
    set(&mut store, b"last", &plain(b"1"), at(NOW.unix_s + 5)).unwrap();
    assert!(find(&mut store, b"more", at(NOW.unix_s + 5)).is_none());
    assert!(find(&mut store, b"last", at(NOW.unix_s + 5)).is_some());
    store.check();
}

#[test]
fn a_cas_is_never_given_twice_whoever_gives_it() {
    let config = SegmentStoreConfig { bytes: BYTES_MIN, worker: 0, workers: 2 };
    let mut stores =
        [0, 1].map(|worker| SegmentStore::new(SegmentStoreConfig { worker, ..config }).unwrap());
    let mut seen = std::collections::BTreeSet::new();
    for i in 0..5000 {
        for store in &mut stores {
            let request = Set { is_counter: i % 5 == 0, ..plain(&[1; 50]) };
            let cas = set(store, &key(i % 300), &request, NOW).unwrap();
            assert!(0 < cas && cas < 1 << 62 && seen.insert(cas), "cas {cas} of set {i}");
        }
    }
}

#[test]
fn a_counter_changes_in_place_unless_it_is_read() {
    let mut store = store(1 << 20);
    let request = Set { is_counter: true, ..plain(b"10") };
    let first = set(&mut store, b"counter", &request, NOW).unwrap();
    let found = find(&mut store, b"counter", NOW).unwrap();
    let second = store.set_counter(&found, b"11").unwrap();
    assert!(store.set_counter(&found, b"100").is_none());
    assert_ne!(first, second);
    let item = get(&mut store, b"counter", NOW).unwrap();
    assert_eq!((&item.value[..], item.cas), (&b"11"[..], second));
    let reader = open(&mut store, b"counter", NOW).unwrap();
    assert!(store.set_counter(&found, b"12").is_none());
    store.close(&reader);
    set(&mut store, b"other", &plain(b"10"), NOW).unwrap();
    let found = find(&mut store, b"other", NOW).unwrap();
    assert!(store.set_counter(&found, b"12").is_none());
    store.check();
}

#[test]
fn an_expiry_is_changed_in_place_or_with_the_record() {
    let mut store = store(4 << 20);
    for n in [0, 100, 200_000] {
        let value = bytes_of(9, n);
        let cas = set(&mut store, b"key", &plain(&value), NOW).unwrap();
        assert_eq!(touch(&mut store, b"key", Expiry::NEVER, NOW), Some(cas));
        let moved = touch(&mut store, b"key", at_in(10), NOW).unwrap();
        assert_eq!(moved, cas, "what is only touched is not changed");
        assert_eq!(touch(&mut store, b"key", at_in(5), NOW), Some(moved));
        let item = get(&mut store, b"key", at(NOW.unix_s + 4)).unwrap();
        assert!(item.value == value && item.expiry == at_in(5));
        assert_eq!(touch(&mut store, b"key", Expiry::NEVER, NOW), Some(moved));
        store.check();
        assert_eq!(touch(&mut store, b"key", at_in(5), NOW), Some(moved));
        assert!(get(&mut store, b"key", at(NOW.unix_s + 5)).is_none());
        store.check();
    }
    assert_eq!(touch(&mut store, b"none", at_in(5), NOW), None);
}

#[test]
fn a_draft_outlives_whatever_happens_while_it_is_written() {
    let mut store = store(2 << 20);
    let other = |i: usize| key(1_000_000 + i);
    for n in [10, 3000, 150_000] {
        let value = bytes_of(n as u64, n);
        let made = make(&mut store, &key(n), &plain(&value), NOW).unwrap();
        let made = store.hold(made);
        let dropped = make(&mut store, b"dropped", &plain(&value), NOW).unwrap();
        let dropped = store.hold(dropped);
        let mut cursor = PieceCursor::default();
        let mut done = 0;
        while done < n {
            let (room, next) = store.room_at(made, cursor, done);
            let part = room.len().min(1000).min(n - done);
            room[..part].copy_from_slice(&value[done..done + part]);
            (cursor, done) = (next, done + part);
            for i in 0..300 {
                set(&mut store, &other(i), &plain(&[2; 700]), NOW).unwrap();
                store.turn(NOW);
            }
        }
        assert!(find(&mut store, &key(n), NOW).is_none());
        publish(&mut store, &key(n), made, NOW);
        store.abandon(dropped);
        assert!(get(&mut store, &key(n), NOW).unwrap().value == value);
        assert!(find(&mut store, b"dropped", NOW).is_none());
        store.check();
    }
    assert!(store.may_hold());
}

#[test]
fn an_append_keeps_what_was_there_however_long() {
    let mut store = store(4 << 20);
    let mut expected = bytes_of(1, 10);
    set(&mut store, b"key", &plain(&expected), NOW).unwrap();
    for n in [1, 300, 5000, 80_000, 300_000] {
        expected.extend_from_slice(&bytes_of(n, n as usize));
        let (value, cas) = append(&mut store, b"key", &bytes_of(n, n as usize), NOW).unwrap();
        assert!(value == expected);
        let item = get(&mut store, b"key", NOW).unwrap();
        assert!(item.value == expected && item.cas == cas);
        store.check();
    }
}

#[test]
fn used_items_outlive_those_that_nobody_asks_for() {
    let mut store = store(1 << 20);
    for i in 0..100 {
        set(&mut store, &key(i), &plain(&[1; 100]), NOW).unwrap();
    }
    for i in 1000..50_000 {
        set(&mut store, &key(i), &plain(&[1; 100]), NOW).unwrap();
        find(&mut store, &key(i % 100), NOW).inspect(|found| store.note_use(found));
    }
    let kept = (0..100).filter(|&i| find(&mut store, &key(i), NOW).is_some()).count();
    assert!(kept >= 98, "{kept} of 100 are kept");
    assert!(store.counts.evicted_unused > 0);
}

#[test]
fn no_call_does_more_than_its_share() {
    let mut store = store(4 << 20);
    let mut random = Random::of(5);
    let value = vec![1; 400_000];
    for i in 0..40_000 {
        // Many small ones make room for few large ones.
        let n = if random.below(200) == 0 { 400_000 } else { random.below(30) as usize };
        let before = store.counts;
        set(&mut store, &key(random.below(60_000) as usize), &plain(&value[..n]), NOW);
        let pieces = 2 + n as u64 / 1000;
        let scanned = store.counts.scanned - before.scanned;
        let moved_bytes = store.counts.moved_bytes - before.moved_bytes;
        assert!(scanned <= 1600 * pieces, "set {i} looked at {scanned} records");
        assert!(moved_bytes <= 600_000 * pieces, "set {i} copied {moved_bytes} bytes");
        let before = store.counts;
        store.turn(NOW);
        assert!(store.counts.scanned - before.scanned <= 2000);
        assert!(store.counts.moved_bytes - before.moved_bytes <= 600_000);
    }
    store.check();
}
