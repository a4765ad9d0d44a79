//! Clients' operations, one by one, with each kind of server.

use sunder::base::clock::Expiry;
use sunder::base::limits::{ITEM_BYTES_MAX_DEFAULT, KEY_BYTES_MAX};
use sunder::tier::{Arithmetic, Outcome, StoreMode, Tier};

use super::fake::{FakeRend, Kind};
use super::fixture::{Fixture, Sunder, key, words};

const DAY_S: u32 = 24 * 60 * 60;

/// Runs a test with a sunder and with both stores of Rend.
fn on_each(test: impl Fn(&Fixture, &str)) {
    let sunder = Sunder::start();
    test(&Fixture::of_sunder(&sunder), "sunder");
    for kind in [Kind::Lmdb, Kind::Memory] {
        let fake = FakeRend::start(kind);
        test(&Fixture::of_fake(&fake), &format!("{kind:?}"));
        assert_eq!(fake.unknown(), b"", "{kind:?} hung up");
    }
}

fn value(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

fn assert_value(fixture: &Fixture, name: &[u8], expected: &[u8], what: &str) {
    match fixture.get(name) {
        Outcome::Hit(hit) => assert!(hit.value.to_vec() == expected, "{what}: other bytes"),
        other => panic!("{what}: {}", words(&other, fixture.now())),
    }
}

#[test]
fn values_of_every_size_are_returned_unchanged() {
    // Near the sizes of buffers, up to the largest value of an item.
    let largest = ITEM_BYTES_MAX_DEFAULT - 64;
    let mut sizes = vec![0, 1, 2, 100, 1000, 10_000, 300_000, largest];
    for end in [4080, 4096, 64 * 1024] {
        sizes.extend(end - 33..=end - 31);
        sizes.extend(end - 1..=end + 1);
    }
    on_each(|fixture, server| {
        for &bytes in &sizes {
            let what = format!("{bytes} bytes on {server}");
            let value = value(bytes);
            assert!(matches!(fixture.set(b"k", &value), Outcome::Stored { .. }), "{what}");
            assert_value(fixture, b"k", &value, &what);
        }
    });
}

#[test]
fn keys_may_have_any_bytes() {
    let every_byte: Vec<u8> = (0..KEY_BYTES_MAX).map(|n| (n + 3) as u8).collect();
    let low: Vec<u8> = (0..=31).chain([127, 128, 255, b' ']).collect();
    on_each(|fixture, server| {
        for (n, name) in
            [&every_byte, &low, &vec![0; 1], &vec![b'k'; KEY_BYTES_MAX]].into_iter().enumerate()
        {
            let value = [n as u8];
            assert!(matches!(fixture.set(name, &value), Outcome::Stored { .. }), "{server}");
            assert_value(fixture, name, &value, server);
        }
    });
}

#[test]
fn the_expiry_is_stored_and_returned() {
    on_each(|fixture, server| {
        let now = fixture.now();
        let at = |seconds| Expiry::from_unix_s(now.unix_s + seconds);
        let expiry = |name: &[u8]| match fixture.get(name) {
            Outcome::Hit(hit) => hit.expiry,
            other => panic!("{server}: {}", words(&other, now)),
        };
        // The server's clock may have advanced by a second.
        let is = |found: Expiry, expected: Expiry| {
            let off_s = found.unix_s().wrapping_sub(expected.unix_s());
            assert!(off_s <= u32::from(server == "sunder"), "{server}: {found:?}");
        };
        for expected in [Expiry::NEVER, at(1000), at(30 * DAY_S), at(40 * DAY_S), at(400 * DAY_S)] {
            fixture.store(StoreMode::Set, b"set", b"x", 0, 0, expected);
            is(expiry(b"set"), expected);
            fixture.store(StoreMode::Append, b"set", b"y", 0, 0, at(7));
            is(expiry(b"set"), expected);
            fixture.store(StoreMode::Set, b"touched", b"x", 0, 0, at(2000));
            let touched = fixture.run(fixture.tier.touch(&key(b"touched"), expected, now));
            assert_eq!(words(&touched, now), "touched", "{server}");
            is(expiry(b"touched"), expected);
            fixture.store(StoreMode::Set, b"both", b"x", 0, 0, at(2000));
            match fixture.run(fixture.tier.get_and_touch(&key(b"both"), expected, now)) {
                Outcome::Hit(hit) => is(hit.expiry, expected),
                other => panic!("{server}: {}", words(&other, now)),
            }
            is(expiry(b"both"), expected);
            fixture.store(StoreMode::Set, b"n", b"9", 5, 0, expected);
            let plus = Arithmetic { decrement: false, delta: 1, initial: None, cas: 0 };
            let number = fixture.run(fixture.tier.arithmetic(&key(b"n"), plus, now));
            assert_eq!(words(&number, now), "number 10", "{server}");
            is(expiry(b"n"), expected);
        }
    });
}

#[test]
fn an_item_expires_in_the_second_of_its_expiry() {
    for kind in [Kind::Lmdb, Kind::Memory] {
        let fake = FakeRend::start(kind);
        let fixture = Fixture::of_fake(&fake);
        let start_s = fixture.now().unix_s;
        let set = || {
            fixture.unix_s.set(Some(start_s));
            fake.set_unix_s(start_s);
            let expiry = Expiry::from_unix_s(start_s + 10);
            fixture.store(StoreMode::Set, b"k", b"1", 0, 0, expiry);
        };
        let later = |seconds| {
            fixture.unix_s.set(Some(start_s + seconds));
            fake.set_unix_s(start_s + seconds);
        };
        set();
        later(9);
        assert_eq!(fixture.found(b"k"), "hit 0 1 1", "{kind:?}");
        for seconds in [10, 11, 1000] {
            set();
            later(seconds);
            let now = fixture.now();
            let never = Expiry::NEVER;
            assert_eq!(fixture.found(b"k"), "miss", "{kind:?} after {seconds} s");
            let touched = fixture.run(fixture.tier.touch(&key(b"k"), never, now));
            assert_eq!(words(&touched, now), "miss", "{kind:?} after {seconds} s");
            let replaced = fixture.store(StoreMode::Replace, b"k", b"2", 0, 0, never);
            assert_eq!(words(&replaced, now), "not stored", "{kind:?} after {seconds} s");
            let deleted = fixture.run(fixture.tier.delete(&key(b"k"), 0, now));
            assert_eq!(words(&deleted, now), "miss", "{kind:?} after {seconds} s");
            let added = fixture.store(StoreMode::Add, b"k", b"3", 0, 0, never);
            assert_eq!(words(&added, now), "stored", "{kind:?} after {seconds} s");
            assert_eq!(fixture.found(b"k"), "hit 0 -1 3", "{kind:?} after {seconds} s");
        }
    }
}

#[test]
fn a_sunder_keeps_its_cas_and_its_flush_all() {
    let sunder = Sunder::start();
    let fixture = Fixture::of_sunder(&sunder);
    let now = fixture.now();
    let Outcome::Stored { cas } = fixture.set(b"k", b"1") else { panic!("stored") };
    let Outcome::Hit(hit) = fixture.get(b"k") else { panic!("a hit") };
    assert_eq!(hit.cas, cas);
    let store =
        |mode, cas| words(&fixture.store(mode, b"k", b"2", 0, cas, Expiry::NEVER), fixture.now());
    assert_eq!(store(StoreMode::Set, cas), "stored");
    assert_eq!(store(StoreMode::Set, cas), "exists");
    assert_eq!(store(StoreMode::Append, cas), "exists");
    let deleted = fixture.run(fixture.tier.delete(&key(b"k"), cas, now));
    assert_eq!(words(&deleted, now), "exists");
    let Outcome::Hit(hit) = fixture.get(b"k") else { panic!("a hit") };
    let plus = Arithmetic { decrement: false, delta: 40, initial: None, cas: hit.cas };
    let number = fixture.run(fixture.tier.arithmetic(&key(b"k"), plus, now));
    assert_eq!(words(&number, now), "number 42");
    let number = fixture.run(fixture.tier.arithmetic(&key(b"k"), plus, now));
    assert_eq!(words(&number, now), "exists");
    let flushed = fixture.run(fixture.tier.flush_all(Expiry::NEVER, now));
    assert_eq!(words(&flushed, now), "flushed");
    assert_eq!(fixture.found(b"k"), "miss");
    assert_eq!(store(StoreMode::Set, cas), "miss");
    assert_eq!(store(StoreMode::Append, cas), "not stored");
}

#[test]
fn operations_that_a_rend_cannot_execute_are_never_reported_as_done() {
    let fake = FakeRend::start(Kind::Lmdb);
    let fixture = Fixture::of_fake(&fake);
    let now = fixture.now();
    let Outcome::Stored { cas: stored } = fixture.set(b"k", b"1") else { panic!("stored") };
    let Outcome::Hit(hit) = fixture.get(b"k") else { panic!("a hit") };
    // A cas of 0 would mean none, and a store with it would be unconditional.
    assert!(stored != 0 && hit.cas != 0 && hit.cas != stored);
    for cas in [stored, hit.cas, 1, u64::MAX] {
        let answer = fixture.store(StoreMode::Set, b"k", b"2", 0, cas, Expiry::NEVER);
        assert_eq!(words(&answer, now), "exists");
        let answer = fixture.store(StoreMode::Set, b"none", b"2", 0, cas, Expiry::NEVER);
        assert_eq!(words(&answer, now), "miss");
        let answer = fixture.run(fixture.tier.delete(&key(b"k"), cas, now));
        assert_eq!(words(&answer, now), "exists");
    }
    let answer = fixture.run(fixture.tier.flush_all(Expiry::NEVER, now));
    assert_eq!(words(&answer, now), "failed");
    assert_eq!(fixture.found(b"k"), "hit 0 -1 1");
    assert_eq!(fake.unknown(), b"");
}

#[test]
fn an_append_that_makes_an_item_too_large_is_not_stored() {
    on_each(|fixture, server| {
        let half = value(ITEM_BYTES_MAX_DEFAULT / 2);
        fixture.set(b"k", &half);
        for mode in [StoreMode::Append, StoreMode::Prepend] {
            let answer = fixture.store(mode, b"k", &half, 0, 0, Expiry::NEVER);
            assert_eq!(words(&answer, fixture.now()), "not stored", "{server}");
        }
        assert_value(fixture, b"k", &half, server);
    });
}

#[test]
fn concurrent_operations_each_get_their_own_answer() {
    on_each(|fixture, server| {
        let names: Vec<_> = (0..400).map(|n| format!("key {n}")).collect();
        for (n, name) in names.iter().enumerate() {
            // Misses between the hits: a Rend's answers to them do not identify the request.
            if n % 3 != 0 {
                fixture.set(name.as_bytes(), name.repeat(1 + n % 50).as_bytes());
            }
        }
        let now = fixture.now();
        let keys: Vec<_> = names.iter().map(|name| key(name.as_bytes())).collect();
        for _ in 0..3 {
            let answers = fixture.run_all(keys.iter().map(|key| fixture.tier.get(key, now)));
            for (n, (name, answer)) in names.iter().zip(&answers).enumerate() {
                let expected = match n % 3 {
                    0 => "miss".to_string(),
                    _ => format!("hit 0 -1 {}", name.repeat(1 + n % 50)),
                };
                assert_eq!(words(answer, now), expected, "{server}");
            }
        }
    });
}
