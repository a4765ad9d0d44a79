//! The commands, beyond what the model test compares: times, cas, conditions.

use sunder::base::buffer::Chain;
use sunder::base::clock::Expiry;
use sunder::base::work;
use sunder::tier::{Arithmetic, Outcome, Store, StoreMode, Tier};

use super::rig::{REND, Rig, Server, value};
use crate::memcached_tier::fixture::key;

fn touch(rig: &Rig, name: &[u8], expiry: Expiry) -> Outcome<Chain> {
    rig.run(rig.tier.touch(&key(name), expiry, rig.now()))
}

fn count(rig: &Rig, name: &[u8], delta: u64) -> Outcome<Chain> {
    let arithmetic = Arithmetic { decrement: false, delta, initial: None, cas: 0 };
    rig.run(rig.tier.arithmetic(&key(name), arithmetic, rig.now()))
}

#[test]
fn a_touch_reaches_every_chunk_and_leaves_the_cas() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    let cas = rig.set(b"k", &value(1, 10_240));
    for (seconds, by_gat) in [(500, false), (2_000, true), (100, false), (50 * 86_400, true)] {
        let expiry = Expiry::from_unix_s(rig.now().unix_s + seconds);
        if by_gat {
            let outcome = rig.run(rig.tier.get_and_touch(&key(b"k"), expiry, rig.now()));
            let Outcome::Hit(hit) = outcome else { panic!("{outcome:?}") };
            assert_eq!((hit.cas, hit.expiry), (cas, expiry));
            assert!(hit.value.to_vec() == value(1, 10_240));
        } else {
            let outcome = touch(&rig, b"k", expiry);
            assert!(matches!(outcome, Outcome::Touched { cas: c } if c == cas), "{outcome:?}");
        }
        for item in ["k-meta", "k-0", "k-5", "k-9"] {
            assert!((raw.left_s(item) - i64::from(seconds)).abs() <= 2, "{item}");
        }
        assert_eq!(rig.cas(b"k"), cas);
    }
    let before = work::bytes();
    touch(&rig, b"k", Expiry::NEVER);
    assert!(work::since(before) >= 10_240, "a short request, and work for a long value");
    assert_eq!((raw.left_s("k-meta"), raw.left_s("k-9")), (-1, -1));
    let Outcome::Hit(hit) = rig.get(b"k") else { panic!("a hit") };
    assert_eq!(hit.expiry, Expiry::NEVER);
}

#[test]
fn a_touch_into_the_past_ends_the_item() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    rig.set(b"k", &value(1, 5_000));
    assert!(matches!(touch(&rig, b"k", Expiry::PAST), Outcome::Touched { .. }));
    assert_eq!(rig.value(b"k"), None);
    assert!(matches!(touch(&rig, b"k", Expiry::PAST), Outcome::Miss));
    rig.set(b"k", &value(1, 5_000));
    let outcome = rig.run(rig.tier.get_and_touch(&key(b"k"), Expiry::PAST, rig.now()));
    assert!(matches!(outcome, Outcome::Hit(_)), "{outcome:?}");
    assert_eq!(rig.value(b"k"), None);
    let past = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::PAST, cas: 0 };
    rig.set(b"k", &value(1, 5_000));
    assert!(matches!(rig.store_as(past, b"k", b"v"), Outcome::Stored { .. }));
    assert_eq!(rig.value(b"k"), None);
}

#[test]
fn changes_keep_flags_and_expiry_of_every_chunk() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    let expiry = Expiry::from_unix_s(rig.now().unix_s + 1_000);
    let store = Store { mode: StoreMode::Set, flags: 42, expiry, cas: 0 };
    rig.store_as(store, b"k", &[b'7'; 3_000]);
    rig.store(StoreMode::Append, b"k", &value(1, 3_000), 0);
    rig.store(StoreMode::Prepend, b"k", &value(2, 3_000), 0);
    for item in ["k-meta", "k-0", "k-2", "k-8"] {
        assert_eq!(raw.get(item).expect("there").0, 42);
        assert!((raw.left_s(item) - 1_000).abs() <= 2, "{item}");
    }
    // A number that is incremented very often does not live longer.
    rig.store_as(store, b"n", b"5");
    for n in 1..=50 {
        assert!(matches!(count(&rig, b"n", 1), Outcome::Number { value, .. } if value == 5 + n));
        let Outcome::Hit(hit) = rig.get(b"n") else { panic!("a hit") };
        assert_eq!(hit.flags, 42);
        let (_, metadata) = raw.get("n-meta").expect("metadata");
        assert_eq!(metadata[20..24], expiry.unix_s().to_be_bytes(), "it drifts");
    }
    // After a touch the new expiry applies, not the one in the metadata.
    let later = Expiry::from_unix_s(rig.now().unix_s + 5_000);
    touch(&rig, b"n", later);
    count(&rig, b"n", 1);
    assert!((raw.left_s("n-0") - 5_000).abs() <= 2);
}

#[test]
fn the_cas_changes_with_every_change_and_is_checked() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut seen = vec![rig.set(b"k", b"5")];
    let mut next = |cas: u64| {
        assert_eq!(rig.cas(b"k"), cas);
        assert!(!seen.contains(&cas));
        seen.push(cas);
    };
    let Outcome::Number { cas, .. } = count(&rig, b"k", 1) else { panic!("a number") };
    next(cas);
    for mode in [StoreMode::Append, StoreMode::Prepend, StoreMode::Replace, StoreMode::Set] {
        let before = rig.cas(b"k");
        let outcome = rig.store(mode, b"k", b"1", before + 1000);
        assert!(matches!(outcome, Outcome::Exists), "{mode:?}: {outcome:?}");
        let Outcome::Stored { cas } = rig.store(mode, b"k", b"1", before) else {
            panic!("{mode:?}")
        };
        next(cas);
        let outcome = rig.store(mode, b"nothing", b"1", before);
        let is_extension = matches!(mode, StoreMode::Append | StoreMode::Prepend);
        assert_eq!(matches!(outcome, Outcome::NotStored), is_extension, "{mode:?}: {outcome:?}");
        assert_eq!(matches!(outcome, Outcome::Miss), !is_extension, "{mode:?}: {outcome:?}");
    }
    let cas = rig.cas(b"k");
    let stale = Arithmetic { decrement: false, delta: 1, initial: None, cas: cas + 1000 };
    let outcome = rig.run(rig.tier.arithmetic(&key(b"k"), stale, rig.now()));
    assert!(matches!(outcome, Outcome::Exists));
    let outcome = rig.run(rig.tier.delete(&key(b"k"), cas + 1000, rig.now()));
    assert!(matches!(outcome, Outcome::Exists));
    assert_eq!(rig.cas(b"k"), cas);
    assert!(matches!(rig.run(rig.tier.delete(&key(b"k"), cas, rig.now())), Outcome::Deleted));
    assert!(matches!(rig.run(rig.tier.delete(&key(b"k"), cas, rig.now())), Outcome::Miss));
}

#[test]
fn a_refused_command_does_not_change_the_item() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    let kept = value(1, 5_000);
    let cas = rig.set(b"k", &kept);
    let refused = [
        rig.store(StoreMode::Add, b"k", &value(2, 6_000), 0),
        rig.store(StoreMode::Set, b"k", &value(2, 6_000), cas + 1),
        rig.store(StoreMode::Replace, b"nothing", &value(2, 6_000), 0),
        rig.store(StoreMode::Append, b"nothing", b"x", 0),
        count(&rig, b"k", 1),
        count(&rig, b"nothing", 1),
        // Over --max-item-size.
        rig.store(StoreMode::Append, b"k", &vec![b'x'; 64 << 20], 0),
        rig.store(StoreMode::Prepend, b"k", &vec![b'x'; 64 << 20], 0),
    ];
    let words: Vec<String> = refused.iter().map(|outcome| rig.words(outcome)).collect();
    let expected = [
        "NotStored",
        "Exists",
        "NotStored",
        "NotStored",
        "NonNumeric",
        "Miss",
        "NotStored",
        "NotStored",
    ];
    assert_eq!(words, expected);
    assert!(rig.value(b"k").expect("a hit") == kept);
    assert_eq!(rig.cas(b"k"), cas);
    assert_eq!(raw.items(), 6);
}

#[test]
fn flush_all_and_invalidate_remove_items() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let mut raw = server.raw();
    rig.set(b"k", &value(1, 5_000));
    rig.set(b"other", &value(2, 5_000));
    rig.run(rig.tier.invalidate(&key(b"k"), rig.now()));
    rig.run(rig.tier.invalidate(&key(b"never stored"), rig.now()));
    assert_eq!(rig.value(b"k"), None);
    assert!(rig.value(b"other").is_some());
    assert_eq!(raw.items(), 6);
    assert!(matches!(rig.run(rig.tier.flush_all(Expiry::NEVER, rig.now())), Outcome::Flushed));
    assert_eq!(rig.value(b"other"), None);
}

#[test]
fn an_invalidation_at_a_lost_server_is_done_later() {
    let mut server = Server::start(&[]);
    let rig = server.tier(REND);
    let patient = value(1, 5_000);
    for name in [&b"k"[..], b"a key that is not fit for text", &[b'x'; 250]] {
        rig.set(name, &patient);
        server.memcached.freeze();
        let key = key(name);
        let mut asked = [crate::common::task::Task::new(rig.tier.invalidate(&key, rig.now()))];
        rig.ahead_us.set(rig.ahead_us.get() + 10_000_000);
        let start = std::time::Instant::now();
        while asked[0].output.is_none() {
            assert!(start.elapsed() < crate::memcached_tier::fixture::PATIENCE);
            rig.turn(&mut asked);
        }
        server.memcached.thaw();
        while !rig.tier.link().is_up() {
            assert!(start.elapsed() < crate::memcached_tier::fixture::PATIENCE);
            rig.turn::<()>(&mut []);
        }
        assert_eq!(rig.value(name), None);
    }
    server.memcached.kill();
    let start = std::time::Instant::now();
    while !matches!(rig.get(b"k"), Outcome::Failed) {
        assert!(start.elapsed() < crate::memcached_tier::fixture::PATIENCE);
    }
    server.memcached.start_again();
}

/// A worker has room for all its tasks from the start, so a task must be small.
#[test]
fn a_waiting_operation_takes_little_memory() {
    let server = Server::start(&[]);
    let rig = server.tier(REND);
    let (name, now, chain) = (key(b"k"), rig.now(), Chain::new());
    let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
    let arithmetic = Arithmetic { decrement: false, delta: 1, initial: None, cas: 0 };
    let sizes = [
        size_of_val(&rig.tier.get(&name, now)),
        size_of_val(&rig.tier.store(&name, store, &chain, now)),
        size_of_val(&rig.tier.delete(&name, 0, now)),
        size_of_val(&rig.tier.touch(&name, Expiry::NEVER, now)),
        size_of_val(&rig.tier.arithmetic(&name, arithmetic, now)),
        size_of_val(&rig.tier.invalidate(&name, now)),
    ];
    assert!(sizes.iter().all(|&bytes| bytes <= 2048), "{sizes:?}");
}
