//! Large values after small ones: many segments emptied through the index, and an index that
//! shrinks again.

use super::*;

/// Sets a value, with as many turns as are needed for its room; returns how many.
fn set_patiently(store: &mut SegmentStore, key: &[u8], value: &[u8]) -> usize {
    for turns in 0..5_000 {
        if set(store, key, &plain(value), NOW).is_some() {
            return turns;
        }
        store.turn(NOW);
    }
    panic!("no room for {} bytes", value.len());
}

#[test]
fn large_values_find_room_among_small_ones_and_nothing_wrong_is_found() {
    for (bytes, large) in [(1 << 20, 3_000), (8 << 20, 100_000)] {
        let mut store = store(bytes);
        let mut random = Random::of(bytes as u64);
        for i in 0..bytes / 35 {
            set(&mut store, &key(i), &plain(&bytes_of(i as u64, 10)), NOW).unwrap();
            if random.below(8) == 0 {
                let i = i - random.below(1 + i as u64 / 20) as usize;
                if let Some(item) = get(&mut store, &key(i), NOW) {
                    assert_eq!(item.value, bytes_of(i as u64, 10));
                }
            }
        }
        let index_bytes = store.overview(NOW).index_bytes;
        let segments = store.overview(NOW).segments;
        let mut turns = Vec::new();
        for i in 0..3 * bytes / large {
            let value = bytes_of(1 + i as u64, large - random.below(large as u64 / 2) as usize);
            turns.push(set_patiently(&mut store, &key(bytes + i), &value));
            assert!(get(&mut store, &key(bytes + i), NOW).unwrap().value == value);
            // What is left of the small ones is right, and may be changed, read and deleted.
            for _ in 0..20 {
                let i = random.below(bytes as u64 / 35) as usize;
                if let Some(item) = get(&mut store, &key(i), NOW) {
                    assert_eq!(item.value, bytes_of(i as u64, 10));
                }
                match random.below(8) {
                    0 => drop(delete(&mut store, &key(i), NOW)),
                    1 => drop(set(&mut store, &key(i), &plain(&bytes_of(i as u64, 10)), NOW)),
                    2 => drop(touch(&mut store, &key(i), at_in(100), NOW)),
                    _ => {}
                }
            }
            if i % 64 == 0 {
                store.check();
            }
            store.turn(NOW);
        }
        store.check();
        assert!(large < 10_000 || store.counts.sweeps > 0, "{:?}", store.counts);
        for _ in 0..10_000 {
            store.turn(NOW);
        }
        store.check();
        let overview = store.overview(NOW);
        assert!(overview.index_bytes * 2 < index_bytes, "{overview:?}");
        assert!(overview.segments > segments);
        assert!(turns.iter().max() < Some(&2_000), "{:?}", turns.iter().max());
    }
}
