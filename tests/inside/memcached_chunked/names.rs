//! The first chunk's two names, and names that two keys share.

use std::collections::HashMap;

use sunder::base::buffer::Chain;
use sunder::base::clock::Expiry;
use sunder::base::stats::Counter;
use sunder::tier::{Arithmetic, Outcome, StoreMode, Tier};

use super::format::set_by_hand;
use super::rig::{REND, Raw, Rig, Server, value};
use crate::memcached_tier::fixture::key;

/// Writes the item `k` like older versions, and returns the first chunk.
fn set_bare(raw: &mut Raw, server: &Server, rig: &Rig, value: &[u8]) -> Vec<u8> {
    set_by_hand(raw, (b"k", b"0"), 7, (100, rig.now().unix_s), value);
    let (flags, first) = server.raw().get("k0").expect("there");
    assert_eq!(flags, 7);
    first
}

fn count(rig: &Rig, name: &[u8]) -> Outcome<Chain> {
    let one = Arithmetic { decrement: false, delta: 1, initial: None, cas: 0 };
    rig.run(rig.tier.arithmetic(&key(name), one, rig.now()))
}

/// The commands that change a value; None: incr.
fn changes() -> impl Iterator<Item = Option<StoreMode>> {
    let modes = [StoreMode::Set, StoreMode::Replace, StoreMode::Append, StoreMode::Prepend];
    modes.map(Some).into_iter().chain([None])
}

fn change(rig: &Rig, mode: Option<StoreMode>, value: &[u8]) {
    let outcome = match mode {
        None => count(rig, b"k"),
        Some(mode) => rig.store(mode, b"k", value, 0),
    };
    let is_done = matches!(outcome, Outcome::Stored { .. } | Outcome::Number { .. });
    assert!(is_done, "{mode:?}: {outcome:?}");
}

#[test]
fn a_first_chunk_without_a_dash_is_read_and_touched() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for len in [1, 1_096, 5_000, 400_000] {
        let written = value(len as u8, len);
        set_bare(&mut raw, &server, &rig, &written);
        let items = server.raw().items();
        assert!(rig.value(b"k").expect("a hit") == written);
        let plain = rig.run(rig.tier.get(&key(b"k"), rig.now()));
        assert!(matches!(plain, Outcome::Hit(hit) if hit.value.to_vec() == written));
        let expiry = Expiry::from_unix_s(rig.now().unix_s + 1_000);
        let touched = rig.run(rig.tier.touch(&key(b"k"), expiry, rig.now()));
        assert!(matches!(touched, Outcome::Touched { .. }), "{touched:?}");
        assert!((server.raw().left_s("k0") - 1_000).abs() <= 2);
        let expiry = Expiry::from_unix_s(rig.now().unix_s + 3_000);
        let hit = rig.run(rig.tier.get_and_touch(&key(b"k"), expiry, rig.now()));
        assert!(matches!(hit, Outcome::Hit(_)), "{hit:?}");
        assert!((server.raw().left_s("k0") - 3_000).abs() <= 2);
        assert!(rig.value(b"k").expect("a hit") == written);
        assert_eq!(server.raw().items(), items);
        // Without it the value is a miss.
        server.raw().delete("k0");
        assert_eq!(rig.value(b"k"), None);
        assert_eq!(server.raw().items(), 0);
    }
    assert_eq!(rig.count(Counter::ChunkMissing), 4);
    assert_eq!(rig.count(Counter::ChunkForeign), 0);
}

/// Every command that writes the item again, append included, gives it the names that Rend's last
/// version reads.
#[test]
fn a_changed_item_has_names_with_a_dash_only() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for len in [1, 1_095, 1_096, 1_097, 5_000, 400_000] {
        let written = [b"5", &vec![b' '; len - 1][..]].concat();
        for mode in changes() {
            set_bare(&mut raw, &server, &rig, &written);
            change(&rig, mode, b" ");
            let found = rig.value(b"k").expect("a hit");
            let expected = match mode {
                None => (&b"6"[..], len),
                Some(StoreMode::Set | StoreMode::Replace) => (&b""[..], 1),
                Some(_) => (&b"5"[..], len + 1),
            };
            assert_eq!((found.trim_ascii(), found.len()), expected, "{mode:?} {len}");
            assert_eq!(server.raw().items(), 1 + found.len().div_ceil(1_096), "{mode:?} {len}");
            assert!(server.raw().get("k-0").is_some(), "{mode:?} {len}");
            assert!(server.raw().get("k0").is_none(), "{mode:?} {len}");
            rig.run(rig.tier.invalidate(&key(b"k"), rig.now()));
            assert_eq!(server.raw().items(), 0);
        }
        set_bare(&mut raw, &server, &rig, &written);
        let deleted = rig.run(rig.tier.delete(&key(b"k"), 0, rig.now()));
        assert!(matches!(deleted, Outcome::Deleted), "{deleted:?}");
        assert_eq!(rig.value(b"k"), None);
        assert_eq!(server.raw().items(), 0);
    }
}

/// A write uses a new token, so that a first chunk left over is not taken for part of the new value
/// if the new first chunk is lost.
#[test]
fn a_leftover_first_chunk_is_never_taken_for_the_new_one() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for mode in changes() {
        for len in [1, 100, 5_000] {
            let before = [b"5", &vec![b' '; len - 1][..]].concat();
            let first = set_bare(&mut raw, &server, &rig, &before);
            change(&rig, mode, &value(2, len));
            let expected = rig.value(b"k").expect("a hit");
            // As if it could not be deleted.
            server.raw().set("k0", 7, 100, &first);
            assert!(rig.value(b"k").expect("a hit") == expected);
            server.raw().delete("k-0");
            assert_eq!(rig.value(b"k"), None, "{mode:?} {len}");
            assert_eq!(server.raw().items(), 0);
        }
    }
}

/// The reverse: older versions, and Rend's last, overwrite an item with the other kind of name.
#[test]
fn an_item_over_one_of_another_kind_is_complete_or_a_miss() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    for len in [1, 5_000] {
        rig.set(b"k", &value(1, len));
        set_bare(&mut raw, &server, &rig, &value(2, len));
        assert_eq!(rig.value(b"k"), None, "the first chunk is another value's");
        set_bare(&mut raw, &server, &rig, &value(3, len));
        assert!(rig.value(b"k").expect("a hit") == value(3, len));
        set_by_hand(&mut raw, (b"k", b"-0"), 7, (100, rig.now().unix_s), &value(4, len));
        assert!(rig.value(b"k").expect("a hit") == value(4, len));
        let deleted = rig.run(rig.tier.delete(&key(b"k"), 0, rig.now()));
        assert!(matches!(deleted, Outcome::Deleted), "{deleted:?}");
        assert_eq!(server.raw().items(), 0, "the older one's first chunk is deleted too");
    }
}

#[test]
fn the_usual_path_makes_no_unnecessary_lookups() {
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
    // Two missing metadata items.
    assert_eq!(asked()[..3], [misses + 2, deletes, touches]);
    rig.set(b"k", &value(1, 10_000));
    let hits_before = asked()[3];
    assert!(hits_before > hits);
    assert!(rig.value(b"k").is_some());
    assert_eq!(asked()[3], hits_before + 1 + 10, "the metadata and each chunk, once");
}

/// `foo-10` is chunk 10 of `foo`, and was the first chunk of `foo-1`; `foo-0` is the first of
/// `foo`, and was that of `foo-`.
#[test]
fn keys_whose_older_names_are_shared_coexist() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    let mut rend = server.raw();
    let long = value(1, 30_000);
    for other in [&b"foo-1"[..], b"foo-2", b"foo-"] {
        for other_len in [1, 1_000, 5_000, 30_000] {
            let short = value(2, other_len);
            let foreign = rig.count(Counter::ChunkForeign);
            for _ in 0..2 {
                rig.set(b"foo", &long);
                rig.set(other, &short);
                assert!(rig.value(b"foo").expect("a hit") == long);
                assert!(rig.value(other).expect("a hit") == short);
            }
            // A lost first chunk, and a value of Rend's that is overwritten or deleted, do not
            // affect the other key.
            let first = [other, b"-0"].concat();
            raw.delete(std::str::from_utf8(&first).expect("text"));
            assert_eq!(rig.value(other), None);
            for _ in 0..2 {
                let times = (0, rig.now().unix_s);
                set_by_hand(&mut rend, (other, b"-0"), 0, times, &short);
                assert!(rig.value(other).expect("a hit") == short);
                rig.set(other, &short);
                set_by_hand(&mut rend, (other, b"-0"), 0, times, &short);
                rig.run(rig.tier.delete(&key(other), 0, rig.now()));
            }
            assert!(rig.value(b"foo").expect("a hit") == long);
            assert_eq!(rig.count(Counter::ChunkForeign), foreign);
            rig.run(rig.tier.invalidate(&key(b"foo"), rig.now()));
            assert_eq!(raw.items(), 0);
            // An older version's first chunk is the long value's: one of the two is a miss.
            rig.set(b"foo", &long);
            set_by_hand(&mut rend, (other, b"0"), 0, (0, rig.now().unix_s), &short);
            assert!(rig.value(other).expect("a hit") == short);
            assert_eq!(rig.value(b"foo"), None);
            rig.set(b"foo", &long);
            assert_eq!(rig.value(other), None);
            assert!(rig.value(b"foo").expect("a hit") == long);
            rig.run(rig.tier.invalidate(&key(b"foo"), rig.now()));
            assert_eq!(raw.items(), 0);
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
                // By an older version, or by Rend's last.
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
