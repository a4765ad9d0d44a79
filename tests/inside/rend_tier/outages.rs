//! Servers that are killed, freeze, and send invalid answers.

use std::time::Instant;

use sunder::base::clock::Expiry;
use sunder::base::stats::Counter;
use sunder::tier::{Arithmetic, Outcome, StoreMode, Tier};

use super::fake::{FakeRend, Kind};
use super::fixture::{Fixture, Sunder, key, words};
use crate::support::PATIENCE;

fn stored(fixture: &Fixture, name: &[u8], value: &[u8]) -> String {
    words(&fixture.set(name, value), fixture.now())
}

/// Time-out of links to servers that freeze, in microseconds: enough for a busy host.
const TIMEOUT_US: u64 = 300_000;

const FLUSH: u8 = 0x08;

#[test]
fn a_killed_server_fails_immediately_and_serves_again_after_its_restart() {
    let mut fake = FakeRend::start(Kind::Lmdb);
    let fixture = Fixture::of_fake(&fake);
    assert_eq!(stored(&fixture, b"k", b"1"), "stored");
    for _ in 0..3 {
        fake.kill();
        assert_eq!(fixture.found(b"k"), "failed");
        assert_eq!(stored(&fixture, b"k", b"2"), "failed");
        assert!(!fixture.tier.link().is_up());
        fake.restart();
        fixture.wait_until_up();
        // On disk.
        assert_eq!(fixture.found(b"k"), "hit 0 -1 1");
    }
    assert_eq!(fixture.count(Counter::LinkGarbage), 0);
}

#[test]
fn outstanding_requests_fail_when_the_server_is_killed() {
    let mut fake = FakeRend::start(Kind::Lmdb);
    let fixture = Fixture::of_fake(&fake);
    fake.freeze(true);
    let now = fixture.now();
    let keys: Vec<_> = (0..50).map(|n: u32| key(&n.to_be_bytes())).collect();
    let asked: Vec<_> = keys.iter().map(|key| fixture.tier.get(key, now)).collect();
    let killer = std::thread::spawn(move || {
        // It has read the first request, or has it in its socket; both are lost with it.
        fake.kill();
        fake
    });
    let answers = fixture.run_all(asked);
    assert!(answers.iter().all(|answer| matches!(answer, Outcome::Failed)));
    let mut fake = killer.join().expect("it ends");
    fake.restart();
    fixture.wait_until_up();
    assert_eq!(stored(&fixture, b"k", b"1"), "stored");
}

#[test]
fn a_frozen_server_times_out_and_its_late_answers_are_dropped() {
    let fake = FakeRend::start(Kind::Lmdb);
    let fixture = Fixture::of_fake_with(&fake, TIMEOUT_US);
    assert_eq!(stored(&fixture, b"k", b"old"), "stored");
    fake.freeze(true);
    let start = fixture.now().uptime_us;
    assert_eq!(stored(&fixture, b"k", b"late"), "failed");
    let took_us = fixture.now().uptime_us - start;
    assert!(took_us >= TIMEOUT_US, "the time-out was not reached: {took_us} us");
    // Without another request to it.
    assert_eq!(fixture.found(b"k"), "failed");
    assert_eq!(stored(&fixture, b"other", b"x"), "failed");
    fake.freeze(false);
    fixture.wait_until_up();
    // The late set was executed, but before any newer request.
    assert_eq!(fixture.found(b"k"), "hit 0 -1 late");
    assert_eq!(stored(&fixture, b"k", b"new"), "stored");
    assert_eq!(fixture.found(b"k"), "hit 0 -1 new");
    assert_eq!(fixture.found(b"other"), "miss");
    assert_eq!(fixture.count(Counter::LinkReconnects), 0);
    assert_eq!(fixture.count(Counter::LinkTimeouts), 1);
}

#[test]
fn a_stopped_sunder_times_out_and_continues() {
    let sunder = Sunder::start();
    let fixture =
        Fixture::open(sunder.address(), sunder::tier::rend::probe::Server::Whole, TIMEOUT_US);
    let Outcome::Stored { cas } = fixture.set(b"k", b"1") else { panic!("stored") };
    sunder.freeze();
    assert_eq!(fixture.found(b"k"), "failed");
    sunder.thaw();
    fixture.wait_until_up();
    assert_eq!(fixture.found(b"k"), "hit 0 -1 1");
    // It is the same process, and the cas is the same.
    let answer = fixture.store(StoreMode::Set, b"k", b"2", 0, cas, Expiry::NEVER);
    assert_eq!(words(&answer, fixture.now()), "stored");
}

#[test]
fn a_cas_does_not_outlive_the_sunder_that_gave_it() {
    let mut sunder = Sunder::start();
    let fixture = Fixture::of_sunder(&sunder);
    let Outcome::Stored { cas } = fixture.set(b"k", b"1") else { panic!("stored") };
    sunder.kill();
    assert_eq!(fixture.found(b"k"), "failed");
    sunder.start_again();
    fixture.wait_until_up();
    let again = |cas| {
        words(&fixture.store(StoreMode::Set, b"k", b"2", 0, cas, Expiry::NEVER), fixture.now())
    };
    assert_eq!(again(cas), "miss");
    // It counts from the start again, so this item has the cas of the first one.
    let Outcome::Stored { cas: new } = fixture.set(b"k", b"1") else { panic!("stored") };
    assert_ne!(new, cas);
    assert_eq!(again(cas), "exists");
    let plus = Arithmetic { decrement: false, delta: 1, initial: None, cas };
    let number = fixture.run(fixture.tier.arithmetic(&key(b"k"), plus, fixture.now()));
    assert_eq!(words(&number, fixture.now()), "exists");
    assert_eq!(again(new), "stored");
}

#[test]
fn an_invalid_answer_closes_the_connection() {
    let other_opaque = [&b"\x81\0\0\0\x08\0\0\0\0\0\0\x09\0\xff\xff\xff"[..], &[0; 17]].concat();
    let endless = [&b"\x81\0\0\0\x08\0\0\0\xff\xff\xff\xff"[..], &[0; 30]].concat();
    let long_error = [&b"\x81\0\0\0\0\0\0\x01\x00\x10\0\0"[..], &[0; 30]].concat();
    let text = b"END\r\n".to_vec();
    for nonsense in [other_opaque, endless, long_error, text] {
        let fake = FakeRend::start(Kind::Lmdb);
        let fixture = Fixture::of_fake(&fake);
        assert_eq!(stored(&fixture, b"k", b"1"), "stored");
        fake.answer_instead(Some(&nonsense));
        assert_eq!(fixture.found(b"k"), "failed", "{}", nonsense.escape_ascii());
        assert_eq!(fixture.count(Counter::LinkGarbage), 1);
        fake.answer_instead(None);
        fixture.wait_until_up();
        assert_eq!(fixture.found(b"k"), "hit 0 -1 1");
    }
}

#[test]
fn a_server_that_closes_halfway_leaves_nothing_reported_as_done() {
    const SET: u8 = 0x01;
    const DELETE: u8 = 0x04;
    const TOUCH: u8 = 0x1c;
    let fake = FakeRend::start(Kind::Lmdb);
    let fixture = Fixture::of_fake(&fake);
    assert_eq!(stored(&fixture, b"n", b"5"), "stored");
    let now = fixture.now();
    let plus = Arithmetic { decrement: false, delta: 1, initial: None, cas: 0 };
    fake.hang_up_on(Some(SET));
    let answer = fixture.run(fixture.tier.arithmetic(&key(b"n"), plus, now));
    assert_eq!(words(&answer, now), "failed");
    fixture.wait_until_up();
    fake.hang_up_on(Some(DELETE));
    let answer = fixture.run(fixture.tier.delete(&key(b"n"), 0, now));
    assert_eq!(words(&answer, now), "failed");
    fixture.wait_until_up();
    fake.hang_up_on(Some(TOUCH));
    let answer = fixture.run(fixture.tier.get_and_touch(&key(b"n"), Expiry::NEVER, now));
    assert_eq!(words(&answer, now), "failed");
    fixture.wait_until_up();
    fake.hang_up_on(None);
    assert_eq!(fixture.found(b"n"), "hit 0 -1 5");
}

#[test]
fn invalidated_items_are_deleted_before_any_other_request() {
    let mut fake = FakeRend::start(Kind::Lmdb);
    let fixture = Fixture::of_fake(&fake);
    assert_eq!(stored(&fixture, b"stale", b"1"), "stored");
    assert_eq!(stored(&fixture, b"fresh", b"1"), "stored");
    fake.kill();
    assert_eq!(fixture.found(b"stale"), "failed");
    fixture.run(fixture.tier.invalidate(&key(b"stale"), fixture.now()));
    fake.restart();
    fixture.wait_until_up();
    assert_eq!(fake.keys(), [b"fresh".to_vec()]);
    assert_eq!(fixture.found(b"stale"), "miss");
    assert_eq!(fixture.found(b"fresh"), "hit 0 -1 1");
}

#[test]
fn a_rend_that_cannot_delete_items_stays_out_of_service() {
    let mut fake = FakeRend::start(Kind::Lmdb);
    let fixture = Fixture::of_fake(&fake);
    assert_eq!(stored(&fixture, b"k", b"1"), "stored");
    fake.kill();
    assert_eq!(fixture.found(b"k"), "failed");
    for n in 0..=sunder::base::limits::LINK_INVALIDATIONS_MAX as u32 {
        fixture.run(fixture.tier.invalidate(&key(&n.to_be_bytes()), fixture.now()));
    }
    fake.restart();
    let start = Instant::now();
    while !fake.unknown().contains(&FLUSH) {
        assert!(start.elapsed() < PATIENCE, "it is asked to delete everything");
        fixture.turn::<()>(&mut []);
    }
    assert_eq!(fixture.found(b"k"), "failed");
}
