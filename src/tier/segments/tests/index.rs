//! The table alone.

use std::collections::HashMap;

use super::super::index::{Inserted, RecordIndex};
use super::super::region::Region;
use crate::base::random::Random;

const BYTES: usize = 8 << 20;

#[test]
fn entries_are_found_while_the_table_grows_and_others_come_and_go() {
    for seed in 0..4 {
        let mut region = Region::new(BYTES).unwrap();
        let mut index = RecordIndex::new(0, BYTES, 64 * 1024);
        let mut random = Random::of(seed);
        let mut model: HashMap<u64, usize> = HashMap::new();
        let mut hashes = Vec::new();
        for place in 1..30_000 {
            while index.is_full() {
                index.grow(&mut region);
            }
            let hash = random.draw();
            let address = index.address(hash);
            if let Inserted::Full(entry) = index.insert(&mut region, address, place) {
                // What has to go for it is an entry.
                model.retain(|_, it| *it != entry.place());
                index.remove(&mut region, entry);
                assert_eq!(index.insert(&mut region, address, place), Inserted::Done);
            }
            model.insert(hash, place);
            hashes.push(hash);
            let other = hashes[random.below(hashes.len() as u64) as usize];
            let expected = model.get(&other).copied();
            let entry =
                expected.and_then(|place| index.entry_of(&region, index.address(other), place));
            assert_eq!(entry.map(|entry| entry.place()), expected);
            match (entry, random.below(4)) {
                (Some(entry), 0) => {
                    index.remove(&mut region, entry);
                    model.remove(&other);
                }
                (Some(entry), 1) => {
                    let frequency = entry.frequency();
                    index.note_use(&mut region, entry);
                    let again = index.entry_of(&region, index.address(other), entry.place());
                    assert_eq!(again.unwrap().frequency(), (frequency + 1).min(3));
                }
                _ => {}
            }
        }
        assert_eq!(index.entries(), model.len());
        for (&hash, &place) in &model {
            assert!(index.entry_of(&region, index.address(hash), place).is_some());
        }
        assert!(index.bytes() > 20_000 * 8 && index.fulls < 20, "{index:?}");
    }
}

#[test]
fn a_table_with_few_entries_shrinks_and_grows_again() {
    let mut region = Region::new(BYTES).unwrap();
    let mut index = RecordIndex::new(0, BYTES, 64 * 1024);
    let first = index.buckets();
    let mut random = Random::of(5);
    let mut model: Vec<(u64, usize)> = Vec::new();
    for round in 0..4 {
        for place in 1..20_000 {
            if index.is_full() {
                index.grow(&mut region);
            }
            let hash = random.draw();
            let address = index.address(hash);
            if index.insert(&mut region, address, place) == Inserted::Done {
                model.push((hash, place));
            }
        }
        let bytes = index.bytes();
        let kept = [2_000, 300, 17, 0][round];
        while model.len() > kept {
            let (hash, place) = model.swap_remove(random.below(model.len() as u64) as usize);
            let entry = index.entry_of(&region, index.address(hash), place).unwrap();
            index.remove(&mut region, entry);
            if index.is_sparse() {
                index.shrink(&mut region);
            }
        }
        while index.is_sparse() {
            assert!(index.shrink(&mut region));
        }
        assert!(index.bytes() * 4 < bytes);
        assert!(kept > 0 || index.buckets() == first);
        assert_eq!(index.entries(), model.len());
        for &(hash, place) in &model {
            assert!(index.entry_of(&region, index.address(hash), place).is_some());
        }
        let listed = (0..index.buckets()).flat_map(|bucket| index.places(&region, bucket));
        assert_eq!(listed.filter(|&place| place != 0).count(), model.len());
    }
}

#[test]
fn nearly_all_slots_can_be_used_whatever_part_of_the_table_is_split() {
    for more in [0, 1000, 4096, 6000] {
        let mut region = Region::new(BYTES).unwrap();
        let mut index = RecordIndex::new(0, BYTES, 4 << 20);
        while index.buckets() < 4096 + more {
            index.grow(&mut region);
        }
        let mut random = Random::of(more as u64);
        while !index.is_full() {
            let address = index.address(random.draw());
            index.insert(&mut region, address, 1);
        }
        assert!(index.entries() * 8 >= index.buckets() * 8 * 7);
        assert_eq!(index.fulls, 0);
    }
}

#[test]
fn a_ghost_is_recalled_once_unless_many_came_after_it() {
    let mut region = Region::new(BYTES).unwrap();
    let index = RecordIndex::new(0, BYTES, 4 << 20);
    let mut random = Random::of(1);
    let address = index.address(random.draw());
    assert!(!index.recall(&mut region, address));
    index.remember(&mut region, address);
    assert!(index.recall(&mut region, address));
    assert!(!index.recall(&mut region, address));
    index.remember(&mut region, address);
    for _ in 0..100_000 {
        let other = index.address(random.draw());
        index.remember(&mut region, other);
    }
    assert!(!index.recall(&mut region, address));
}
