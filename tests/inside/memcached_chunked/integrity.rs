//! A value is complete and from one writer, or it is a miss.

use sunder::base::stats::Counter;
use sunder::tier::{Outcome, StoreMode, Tier};

use super::rig::{REND, Server, chunk_name, value};
use crate::memcached_tier::fixture::key;

#[test]
fn a_lost_chunk_is_a_miss_and_what_is_left_is_deleted() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for index in 0..10 {
        rig.set(b"k", &value(index as u8, 10_240));
        assert_eq!(raw.items(), 11);
        raw.delete(&chunk_name("k", index));
        assert_eq!(rig.value(b"k"), None);
        assert_eq!(raw.items(), 0, "chunk {index}");
        assert_eq!(rig.count(Counter::ChunkMissing), index as u64 + 1);
        // So that an add works again.
        assert!(matches!(rig.store(StoreMode::Add, b"k", b"v", 0), Outcome::Stored { .. }));
    }
}

#[test]
fn every_command_sees_a_lost_chunk() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    let name = key(b"k");
    let expiry = sunder::base::clock::Expiry::NEVER;
    let lose = |raw: &mut super::rig::Raw, index: usize| {
        assert_eq!(raw.items(), 0, "nothing is left of the previous item");
        rig.set(b"k", &[b'1'; 5_000]);
        raw.delete(&chunk_name("k", index));
    };
    lose(&mut raw, 0);
    assert!(matches!(rig.run(rig.tier.get_and_touch(&name, expiry, rig.now())), Outcome::Miss));
    lose(&mut raw, 1);
    assert!(matches!(rig.run(rig.tier.touch(&name, expiry, rig.now())), Outcome::Miss));
    lose(&mut raw, 4);
    assert!(matches!(rig.store(StoreMode::Append, b"k", b"x", 0), Outcome::NotStored));
    lose(&mut raw, 0);
    assert!(matches!(rig.store(StoreMode::Prepend, b"k", b"x", 0), Outcome::NotStored));
    lose(&mut raw, 2);
    let one = sunder::tier::Arithmetic { decrement: false, delta: 1, initial: None, cas: 0 };
    assert!(matches!(rig.run(rig.tier.arithmetic(&name, one, rig.now())), Outcome::Miss));
    assert_eq!(rig.count(Counter::ChunkMissing), 5);
    assert_eq!(raw.items(), 0);
}

#[test]
fn a_foreign_chunk_at_any_place_is_a_miss() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for index in 0..10 {
        rig.set(b"k", &value(1, 10_240));
        let (_, old) = raw.get(&chunk_name("k", index)).expect("a chunk");
        rig.set(b"k", &value(2, 10_240));
        raw.set(&chunk_name("k", index), 0, 0, &old);
        assert_eq!(rig.value(b"k"), None, "chunk {index}");
        assert_eq!(rig.count(Counter::ChunkForeign), index as u64 + 1);
        assert_eq!(raw.items(), 0);
    }
}

#[test]
fn a_chunk_of_another_length_is_a_miss() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for change in [-1096_isize, -1080, -1, 1, 5_000] {
        rig.set(b"k", &value(1, 5_000));
        let (_, mut chunk) = raw.get("k-2").expect("a chunk");
        chunk.resize(chunk.len().saturating_add_signed(change), 0);
        raw.set("k-2", 0, 0, &chunk);
        assert_eq!(rig.value(b"k"), None, "{change}");
    }
}

#[test]
fn invalid_metadata_is_a_miss_and_is_deleted() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    // Which of the six numbers, and its wrong value.
    let lies = [
        (0, 0),
        (0, 9_999),
        (0, u32::MAX),
        (2, 0),
        (2, 4),
        (2, 6),
        (2, u32::MAX),
        (3, 0),
        (3, 1),
        (3, 2_000),
        (3, u32::MAX),
    ];
    for (count, (word, lie)) in (1..).zip(lies) {
        rig.set(b"k", &value(1, 5_000));
        let (_, mut metadata) = raw.get("k-meta").expect("metadata");
        metadata[4 * word..4 * word + 4].copy_from_slice(&lie.to_be_bytes());
        raw.set("k-meta", 0, 0, &metadata);
        assert_eq!(rig.value(b"k"), None, "{word} {lie}");
        assert_eq!(rig.count(Counter::ChunkMetadataBad), count);
        assert!(raw.get("k-meta").is_none());
        assert!(matches!(rig.store(StoreMode::Add, b"k", b"v", 0), Outcome::Stored { .. }));
        assert_eq!(rig.value(b"k").expect("a hit"), b"v");
    }
    for metadata in [&b""[..], b"short", &[0; 39]] {
        raw.set("k-meta", 0, 0, metadata);
        assert_eq!(rig.value(b"k"), None);
    }
    // A wrong value that is possible in itself: its chunks differ from the stored ones.
    rig.set(b"k", &value(1, 5_000));
    let (_, mut metadata) = raw.get("k-meta").expect("metadata");
    metadata[..16].copy_from_slice(&[0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 10]);
    raw.set("k-meta", 0, 0, &metadata);
    assert_eq!(rig.value(b"k"), None);
}

#[test]
fn a_shorter_value_leaves_no_surplus_chunks() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for mode in [StoreMode::Set, StoreMode::Replace] {
        rig.set(b"k", &value(1, 200_000));
        for len in [100_000, 20_000, 19_999, 1_097, 1, 0] {
            let written = value(2, len);
            assert!(matches!(rig.store(mode, b"k", &written, 0), Outcome::Stored { .. }));
            assert!(rig.value(b"k").expect("a hit") == written);
            assert_eq!(raw.items(), 1 + len.div_ceil(1096));
        }
    }
    let cas = rig.set(b"k", &value(1, 20_000));
    assert!(matches!(rig.store(StoreMode::Set, b"k", b"v", cas), Outcome::Stored { .. }));
    assert_eq!(raw.items(), 2);
}

#[test]
fn values_beyond_memcacheds_own_limit_are_stored_and_changed() {
    let server = Server::start(&["-m", "256"]);
    let mut raw = server.raw();
    for chunk_bytes in [REND, 16 * 1024] {
        let rig = server.tier(chunk_bytes);
        let long = value(1, 5 << 20);
        rig.set(b"k", &long);
        assert!(rig.value(b"k").expect("a hit") == long);
        assert!(matches!(rig.store(StoreMode::Append, b"k", b"tail", 0), Outcome::Stored { .. }));
        assert!(matches!(rig.store(StoreMode::Prepend, b"k", b"head", 0), Outcome::Stored { .. }));
        assert!(rig.value(b"k").expect("a hit") == [b"head", &long[..], b"tail"].concat());
        let name = key(b"k");
        let expiry = sunder::base::clock::Expiry::from_unix_s(rig.now().unix_s + 100);
        let touched = rig.run(rig.tier.touch(&name, expiry, rig.now()));
        assert!(matches!(touched, Outcome::Touched { .. }));
        assert!(matches!(rig.run(rig.tier.delete(&name, 0, rig.now())), Outcome::Deleted));
        assert_eq!(raw.items(), 0);
    }
}

#[test]
fn a_value_that_memcached_evicts_from_is_never_served_in_part() {
    let server = Server::start(&["-m", "8"]);
    let rig = server.tier(REND);
    let (mut hits, mut misses) = (0, 0);
    for round in 0..300_u32 {
        let name = format!("key-{}", round % 60);
        rig.set(name.as_bytes(), &value(round as u8, 300_000));
        let probe = round * 7 % 60;
        match rig.value(format!("key-{probe}").as_bytes()) {
            Some(found) => {
                hits += 1;
                let last = (0..=round).rev().find(|n| n % 60 == probe).expect("it was written");
                assert!(found == value(last as u8, 300_000), "round {round}");
            }
            None => misses += 1,
        }
    }
    assert!(hits > 0 && misses > 0, "{hits} hits, {misses} misses");
}
