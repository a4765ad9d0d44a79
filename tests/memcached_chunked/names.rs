//! The first chunk's two names, and names that two keys share.

use std::collections::HashMap;

use sunder::buffer::Chain;
use sunder::clock::Expiry;
use sunder::stats::Counter;
use sunder::tier::{Arithmetic, Outcome, StoreMode, Tier};

use crate::fixture::key;
use crate::format::set_by_hand;
use crate::rig::{REND, Raw, Rig, Server, value};

/// Writes the item `k` as other versions do, and gives the first chunk.
fn set_dashed(raw: &mut Raw, server: &Server, rig: &Rig, value: &[u8]) -> Vec<u8> {
    set_by_hand(raw, (b"k", b"-0"), 7, (100, rig.now().unix_s), value);
    let (flags, first) = server.raw().get("k-0").expect("there");
    assert_eq!(flags, 7);
    first
}

fn count(rig: &Rig, name: &[u8]) -> Outcome<Chain> {
    let one = Arithmetic { decrement: false, delta: 1, initial: None, cas: 0 };
    rig.run(rig.tier.arithmetic(&key(name), one, rig.now()))
}

#[test]
fn a_first_chunk_with_a_dash_is_read_and_touched_where_it_is() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for len in [1, 1_096, 5_000, 400_000] {
        let written = value(len as u8, len);
        set_dashed(&mut raw, &server, &rig, &written);
        let items = server.raw().items();
        assert!(rig.value(b"k").expect("a hit") == written);
        let expiry = Expiry::from_unix_s(rig.now().unix_s + 1_000);
        let touched = rig.run(rig.tier.touch(&key(b"k"), expiry, rig.now()));
        assert!(matches!(touched, Outcome::Touched { .. }), "{touched:?}");
        assert!((server.raw().left_s("k-0") - 1_000).abs() <= 2);
        let expiry = Expiry::from_unix_s(rig.now().unix_s + 3_000);
        let hit = rig.run(rig.tier.get_and_touch(&key(b"k"), expiry, rig.now()));
        assert!(matches!(hit, Outcome::Hit(_)), "{hit:?}");
        assert!((server.raw().left_s("k-0") - 3_000).abs() <= 2);
        assert!(rig.value(b"k").expect("a hit") == written);
        assert_eq!(server.raw().items(), items);
        // Without it the value is a miss all the same.
        server.raw().delete("k-0");
        assert_eq!(rig.value(b"k"), None);
        assert_eq!(server.raw().items(), 0);
    }
    assert_eq!(rig.count(Counter::ChunkMissing), 4);
    assert_eq!(rig.count(Counter::ChunkForeign), 0);
}

#[test]
fn an_item_with_a_dash_is_changed_and_leaves_nothing_behind() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    let mut written = [b'5'].to_vec();
    for len in [1, 1_095, 1_096, 1_097, 5_000, 400_000] {
        written.resize(len, b' ');
        for mode in [StoreMode::Append, StoreMode::Prepend] {
            rig.run(rig.tier.invalidate(&key(b"k"), rig.now()));
            set_dashed(&mut raw, &server, &rig, &written);
            assert!(matches!(rig.store(mode, b"k", b" ", 0), Outcome::Stored { .. }));
            let found = rig.value(b"k").expect("a hit");
            assert!(found.trim_ascii() == b"5" && found.len() == len + 1, "{mode:?} {len}");
            assert_eq!(server.raw().items(), 1 + (len + 1).div_ceil(1_096));
            // Where the first chunk was written it has our name; an append behind it lets it lie.
            let is_left = mode == StoreMode::Append && len >= 1_096;
            assert_eq!(server.raw().get("k-0").is_some(), is_left, "{mode:?} {len}");
            assert_eq!(server.raw().get("k0").is_some(), !is_left, "{mode:?} {len}");
        }
        rig.run(rig.tier.invalidate(&key(b"k"), rig.now()));
        set_dashed(&mut raw, &server, &rig, &written);
        let counted = count(&rig, b"k");
        assert!(matches!(counted, Outcome::Number { value: 6, .. }), "{counted:?}");
        assert!(rig.value(b"k").expect("a hit").trim_ascii() == b"6");
        assert_eq!(server.raw().items(), 1 + len.div_ceil(1_096));
        server.raw().delete("k0");
        assert_eq!(rig.value(b"k"), None);

        set_dashed(&mut raw, &server, &rig, &written);
        let deleted = rig.run(rig.tier.delete(&key(b"k"), 0, rig.now()));
        assert!(matches!(deleted, Outcome::Deleted), "{deleted:?}");
        assert_eq!(rig.value(b"k"), None);
        assert_eq!(server.raw().items(), 0);
    }
}

/// A write that moves the first chunk takes a token that the one left behind does not have, so that
/// this one is no part of the new value when the new one's own first chunk is lost.
#[test]
fn a_first_chunk_left_behind_is_never_taken_for_the_new_one() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    let modes = [StoreMode::Set, StoreMode::Replace, StoreMode::Append, StoreMode::Prepend];
    // None: incr.
    for mode in modes.map(Some).into_iter().chain([None]) {
        // An append behind a first chunk that is full does not move it.
        let longest = if mode == Some(StoreMode::Append) { 1_095 } else { 5_000 };
        for len in [1, 100, longest] {
            let before = [b"5", &vec![b' '; len - 1][..]].concat();
            let first = set_dashed(&mut raw, &server, &rig, &before);
            let outcome = match mode {
                None => count(&rig, b"k"),
                Some(mode) => rig.store(mode, b"k", &value(2, len), 0),
            };
            let is_done = matches!(outcome, Outcome::Stored { .. } | Outcome::Number { .. });
            assert!(is_done, "{mode:?} {len}: {outcome:?}");
            let expected = rig.value(b"k").expect("a hit");
            // As though it could not be deleted.
            server.raw().set("k-0", 7, 100, &first);
            assert!(rig.value(b"k").expect("a hit") == expected);
            server.raw().delete("k0");
            assert_eq!(rig.value(b"k"), None, "{mode:?} {len}");
            assert_eq!(server.raw().items(), 0);
        }
    }
}

/// The other way round: what other versions write over an item of ours.
#[test]
fn an_item_with_a_dash_over_one_without_is_whole_or_a_miss() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for len in [1, 5_000] {
        rig.set(b"k", &value(1, len));
        set_dashed(&mut raw, &server, &rig, &value(2, len));
        assert_eq!(rig.value(b"k"), None, "the first chunk is another value's");
        set_dashed(&mut raw, &server, &rig, &value(3, len));
        assert!(rig.value(b"k").expect("a hit") == value(3, len));
        rig.run(rig.tier.delete(&key(b"k"), 0, rig.now()));
    }
}

#[test]
fn the_usual_path_asks_for_nothing_that_is_not_there() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let asked = || server.raw().stats(["get_misses", "delete_misses", "touch_misses", "get_hits"]);
    rig.set(b"k", &value(1, 10_000));
    let [misses, deletes, touches, hits] = asked();
    for name in [&b"k"[..], b"not a text", &[b'k'; 250]] {
        rig.set(name, &value(1, 10_000));
        rig.set(name, &value(2, 8_000));
        assert!(rig.value(name).is_some());
        assert!(matches!(rig.store(StoreMode::Append, name, b"x", 0), Outcome::Stored { .. }));
        assert!(matches!(rig.store(StoreMode::Prepend, name, b"x", 0), Outcome::Stored { .. }));
        rig.run(rig.tier.touch(&key(name), Expiry::NEVER, rig.now()));
        rig.run(rig.tier.get_and_touch(&key(name), Expiry::NEVER, rig.now()));
        rig.run(rig.tier.delete(&key(name), 0, rig.now()));
    }
    // Two metadata items that are not there yet.
    assert_eq!(asked()[..3], [misses + 2, deletes, touches]);
    rig.set(b"k", &value(1, 10_000));
    let hits_before = asked()[3];
    assert!(hits_before > hits);
    assert!(rig.value(b"k").is_some());
    assert_eq!(asked()[3], hits_before + 1 + 10, "the metadata and each chunk, once");
}

/// In Rend's naming `foo-10` is chunk 10 of `foo` and the first chunk of `foo-1`.
#[test]
fn keys_that_share_a_chunks_name_displace_one_another() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for (last, other) in [(b"foo", &b"foo-1"[..]), (b"foo", b"foo-2")] {
        for other_len in [1, 1_000, 5_000, 30_000] {
            let (long, short) = (value(1, 30_000), value(2, other_len));
            rig.set(last, &long);
            assert!(rig.value(last).expect("a hit") == long);
            rig.set(other, &short);
            assert!(rig.value(other).expect("a hit") == short);
            assert_eq!(rig.value(last), None);
            rig.set(other, &short);
            rig.set(last, &long);
            assert!(rig.value(last).expect("a hit") == long);
            assert_eq!(rig.value(other), None);
            rig.run(rig.tier.invalidate(&key(last), rig.now()));
            rig.run(rig.tier.invalidate(&key(other), rig.now()));
            assert_eq!(raw.items(), 0);
            // A value too short for a chunk 10 has nothing to share.
            rig.set(last, &long[..10_000]);
            rig.set(other, &short);
            assert!(rig.value(last).expect("a hit") == long[..10_000]);
            assert!(rig.value(other).expect("a hit") == short);
            rig.run(rig.tier.invalidate(&key(last), rig.now()));
            rig.run(rig.tier.invalidate(&key(other), rig.now()));
        }
    }
}

#[test]
fn keys_that_share_chunks_names_are_never_mixed() {
    let server = Server::start(&[]);
    let rigs = [server.tier(REND), server.tier(REND), server.tier(512)];
    let mut rend = server.raw();
    let names: [&[u8]; 6] = [b"foo", b"foo-1", b"foo-", b"foo-1-", b"foo-10", b"foo-1-1"];
    let mut state = 88_172_645_463_325_252_u64;
    let mut below = |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % end as usize
    };
    let mut written: HashMap<&[u8], Vec<u8>> = HashMap::new();
    let (mut hits, mut misses) = (0, 0);
    for round in 0..4_000_usize {
        let rig = &rigs[below(3)];
        let name = names[below(6)];
        let piece = value(round as u8, below(20_000) / [1, 1, 30][below(3)]);
        match below(12) {
            0..3 => {
                rig.set(name, &piece);
                written.insert(name, piece);
            }
            3 => {
                // By Rend, or by a version whose first chunk has a dash.
                let suffix = [&b"0"[..], b"-0"][below(2)];
                set_by_hand(&mut rend, (name, suffix), 0, (0, rig.now().unix_s), &piece);
                written.insert(name, piece);
            }
            4 => {
                if matches!(rig.store(StoreMode::Append, name, &piece, 0), Outcome::Stored { .. }) {
                    written.get_mut(name).expect("there was one").extend(piece);
                }
            }
            5 => {
                if matches!(rig.store(StoreMode::Prepend, name, &piece, 0), Outcome::Stored { .. })
                {
                    written.get_mut(name).expect("there was one").splice(..0, piece);
                }
            }
            6 if below(4) == 0 => {
                rig.run(rig.tier.delete(&key(name), 0, rig.now()));
                written.remove(name);
            }
            7 => {
                rig.run(rig.tier.touch(&key(name), Expiry::NEVER, rig.now()));
            }
            _ => match rig.value(name) {
                Some(found) => {
                    hits += 1;
                    assert!(Some(&found) == written.get(name), "round {round}: {name:?}");
                }
                None => {
                    misses += usize::from(written.remove(name).is_some());
                }
            },
        }
    }
    assert!(hits > 100 && misses > 100, "{hits} hits, {misses} misses");
}
