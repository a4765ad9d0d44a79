//! A real memcached that is killed, restarted, and stopped.

use sunder::base::clock::Expiry;
use sunder::base::limits::{LINK_PROOF_US, LINK_RETRY_MAX_US};
use sunder::base::stats::Counter;
use sunder::tier::link::{Address, LinkConfig};
use sunder::tier::{Hit, Outcome, StoreMode, Tier};

use super::fixture::{Fixture, Folder, Memcached, key, words};

#[test]
fn a_killed_memcached_is_used_soon_after_its_restart() {
    let folder = Folder::new();
    let mut memcached = Memcached::start(&folder.socket(), &[]);
    let fixture = Fixture::open(&folder.socket());
    for _ in 0..3 {
        assert!(matches!(fixture.set(b"k", b"v"), Outcome::Stored { .. }));
        memcached.kill();
        assert!(matches!(fixture.get(b"k"), Outcome::Failed));
        assert!(matches!(fixture.set(b"k", b"w"), Outcome::Failed));
        // However long it is down.
        fixture.hold_clock();
        fixture.pass_ms::<()>(3000, &mut []);
        memcached.start_again();
        let attempts_us = LINK_RETRY_MAX_US / 1000 + 1;
        fixture.pass_ms::<()>(attempts_us, &mut []);
        fixture.wait_until_up();
        assert!(matches!(fixture.get(b"k"), Outcome::Miss), "it starts empty");
    }
    assert_eq!(fixture.count(Counter::LinkReconnects), 3);
}

#[test]
fn a_memcached_is_emptied_at_the_start_if_asked_to_once_it_has_read_what_was_sent_before() {
    let folder = Folder::new();
    let _memcached = Memcached::start(&folder.socket(), &[]);
    let before = Fixture::open(&folder.socket());
    assert!(matches!(before.set(b"k", b"older"), Outcome::Stored { .. }));
    let address = || Address::Unix(folder.socket());
    let again = Fixture::open(&folder.socket());
    assert!(matches!(again.get(b"k"), Outcome::Hit(_)), "only if asked to");
    let empty = |config| LinkConfig { starts_empty: true, ..config };
    let fixture = Fixture::open_as(empty, address()).unwrap_or_else(|error| panic!("{error}"));
    fixture.hold_clock();
    for _ in 0..LINK_PROOF_US / 1_000_000 {
        assert!(matches!(fixture.get(b"k"), Outcome::Failed), "it is not asked yet");
        // What an earlier process has sent and the memcached has not read until now.
        assert!(matches!(before.set(b"k", b"older"), Outcome::Stored { .. }));
        fixture.ahead_us.set(fixture.ahead_us.get() + 1_000_000);
    }
    fixture.wait_until_up();
    assert!(matches!(fixture.get(b"k"), Outcome::Miss));
    assert!(matches!(fixture.set(b"k", b"newer"), Outcome::Stored { .. }));
    assert!(matches!(fixture.get(b"k"), Outcome::Hit(_)));
}

#[test]
fn a_cas_from_before_a_restart_never_matches() {
    let folder = Folder::new();
    let mut memcached = Memcached::start(&folder.socket(), &[]);
    let fixture = Fixture::open(&folder.socket());
    let mut old = Vec::new();
    let restart = |memcached: &mut Memcached| {
        memcached.kill();
        memcached.start_again();
        fixture.get(b"k");
        fixture.wait_until_up();
    };
    for round in 0..3 {
        let Outcome::Stored { cas } = fixture.set(b"k", b"1") else { panic!("stored") };
        let Outcome::Hit(Hit { cas: seen, .. }) = fixture.get(b"k") else { panic!("a hit") };
        assert_eq!((cas, cas & 0xffff_ffff), (seen, 1), "memcached counts from 1 again");
        assert_eq!(cas >> 63, 0);
        let modes = [StoreMode::Set, StoreMode::Add, StoreMode::Replace, StoreMode::Append];
        for (&stale, mode) in old.iter().flat_map(|cas| modes.map(|mode| (cas, mode))) {
            let store = |name: &[u8]| fixture.store(mode, name, b"stale", 0, stale, Expiry::NEVER);
            assert!(matches!(store(b"k"), Outcome::Exists), "{mode:?}");
            let absent = words(&store(b"absent"), fixture.now());
            let is_extension = mode == StoreMode::Append;
            assert_eq!(absent, if is_extension { "NotStored" } else { "Miss" });
            let delete = |name| fixture.run(fixture.tier.delete(&key(name), stale, fixture.now()));
            assert!(matches!(delete(b"k"), Outcome::Exists));
            assert!(matches!(delete(b"absent"), Outcome::Miss));
        }
        let stored = fixture.store(StoreMode::Set, b"k", b"2", 0, cas, Expiry::NEVER);
        assert!(matches!(stored, Outcome::Stored { .. }), "round {round}");
        old.push(cas);
        restart(&mut memcached);
    }
}

#[test]
fn a_stopped_memcached_costs_its_clients_less_than_a_tenth_of_a_second_each() {
    let folder = Folder::new();
    let memcached = Memcached::start(&folder.socket(), &[]);
    let fixture = Fixture::open_held(&folder.socket());
    fixture.set(b"k", b"before");
    memcached.freeze();
    let large = [b'x'; 100_000];
    let mut tasks: Vec<_> = (0..100_u8).map(|i| fixture.begin_set(&[b'k', i], &large)).collect();
    tasks.push(fixture.begin_set(b"k", b"late"));
    fixture.pass_ms(59, &mut tasks);
    assert!(tasks.iter().any(|task| task.output.is_none()));
    fixture.pass_ms(2, &mut tasks);
    assert!(tasks.iter().all(|task| matches!(task.output, Some(Outcome::Failed))));
    for _ in 0..9 {
        fixture.pass_ms::<()>(100, &mut []);
        assert!(matches!(fixture.begin_get(b"k").output, Some(Outcome::Failed)));
    }
    memcached.thaw();
    fixture.wait_until_up();
    assert_eq!(fixture.count(Counter::LinkReconnects), 0);
    assert_eq!(fixture.count(Counter::LinkTimeouts), 1);
    // The late requests that were executed were executed before this one.
    assert!(matches!(fixture.set(b"k", b"after"), Outcome::Stored { .. }));
    for _ in 0..200 {
        let Outcome::Hit(hit) = fixture.get(b"k") else { panic!("a hit") };
        assert_eq!(hit.value.to_vec(), b"after");
    }
    let mine = memcached.request("get k\r\n", "END\r\n");
    assert!(mine.contains("after"), "{mine}");
}

#[test]
fn late_answers_are_never_taken_for_new_ones() {
    let folder = Folder::new();
    let memcached = Memcached::start(&folder.socket(), &[]);
    let fixture = Fixture::open_held(&folder.socket());
    let names = [*b"a", *b"b", *b"c"];
    for round in 0..20_u32 {
        for name in names {
            let value = format!("{}{round}", name[0] as char);
            assert!(matches!(fixture.set(&name, value.as_bytes()), Outcome::Stored { .. }));
        }
        memcached.freeze();
        let mut tasks: Vec<_> = names.iter().map(|name| fixture.begin_get(name)).collect();
        tasks.extend(names.iter().map(|name| fixture.begin_set(name, b"late")));
        fixture.pass_ms(u64::from(round % 3) * 30 + 1, &mut tasks);
        memcached.thaw();
        fixture.finish(&mut tasks);
        fixture.wait_until_up();
        for name in names {
            let value = format!("{}-{round}", name[0] as char);
            assert!(matches!(fixture.set(&name, value.as_bytes()), Outcome::Stored { .. }));
            let Outcome::Hit(hit) = fixture.get(&name) else { panic!("a hit") };
            assert_eq!(hit.value.to_vec(), value.as_bytes());
        }
    }
    assert_eq!(fixture.count(Counter::LinkGarbage), 0);
}

#[test]
fn an_invalidation_during_an_outage_is_done_later() {
    let folder = Folder::new();
    let memcached = Memcached::start(&folder.socket(), &[]);
    let fixture = Fixture::open_held(&folder.socket());
    for name in [b"a", b"b", b"c"] {
        fixture.set(name, b"stale");
    }
    memcached.freeze();
    let mut tasks = [fixture.begin_invalidate(b"a")];
    fixture.pass_ms(70, &mut tasks);
    assert!(tasks[0].output.is_some());
    assert!(fixture.begin_invalidate(b"b").output.is_some(), "immediately");
    memcached.thaw();
    fixture.wait_until_up();
    assert!(matches!(fixture.get(b"a"), Outcome::Miss));
    assert!(matches!(fixture.get(b"b"), Outcome::Miss));
    assert!(matches!(fixture.get(b"c"), Outcome::Hit(_)));
}

#[test]
fn a_memcached_on_a_port_works_too() {
    let mut memcached = Memcached::start_on_port();
    let address = Address::parse(&memcached.address()).expect("a port");
    let fixture = Fixture::open_with(address, 2_000_000).expect("it listens");
    for _ in 0..2 {
        assert!(matches!(fixture.set(b"k", &[7; 300_000]), Outcome::Stored { .. }));
        let Outcome::Hit(hit) = fixture.get(b"k") else { panic!("a hit") };
        assert!(hit.value.to_vec() == [7; 300_000]);
        memcached.kill();
        assert!(matches!(fixture.get(b"k"), Outcome::Failed));
        memcached.start_again();
        fixture.wait_until_up();
        assert!(matches!(fixture.get(b"k"), Outcome::Miss));
    }
}
