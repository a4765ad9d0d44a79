//! Random operations on the tier and on the memory tier, which answers like memcached: equal
//! answers from both, whatever the server behind the tier lacks.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config as RunnerConfig, TestRunner};
use sunder::base::buffer::Chain;
use sunder::base::clock::{Expiry, Now};
use sunder::base::limits::ITEM_BYTES_MAX_DEFAULT;
use sunder::base::stats::WorkerStats;
use sunder::tier::memory::{Memory, MemoryConfig};
use sunder::tier::{Arithmetic, Outcome, Store, StoreMode, Tier};

use super::fake::{FakeRend, Kind, START_UNIX_S};
use super::fixture::{Fixture, Sunder, key, words};

/// A cas that no item ever has.
const NOBODYS_CAS: u64 = 0x7fff_dead_beef;

#[derive(Clone, Copy, Debug)]
enum What {
    Get,
    GetWithExpiry,
    GetAndTouch,
    Touch,
    Delete,
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Count { decrement: bool, delta: u64, initial: Option<u64> },
    Invalidate,
}

#[derive(Clone, Debug)]
struct Step {
    what: What,
    name: usize,
    value: &'static [u8],
    flags: u32,
    /// Seconds from now; 0: never.
    seconds: i64,
    with_cas: bool,
    /// Time since the previous step, in seconds.
    pause_s: u32,
}

const NAMES: [&[u8]; 3] = [b"plain", b"with space \r\n\0\xff", b"third"];
const VALUES: [&[u8]; 6] = [b"", b"5", b"0099  ", b"18446744073709551615", b"no number", b"\r\n"];
const DAY_S: i64 = 24 * 60 * 60;

fn step() -> impl Strategy<Value = Step> {
    let count = (any::<bool>(), 0..200_u64, prop::option::of(0..20_u64))
        .prop_map(|(decrement, delta, initial)| What::Count { decrement, delta, initial });
    let what = prop_oneof![
        Just(What::Get),
        Just(What::GetWithExpiry),
        Just(What::GetAndTouch),
        Just(What::Touch),
        Just(What::Delete),
        Just(What::Set),
        Just(What::Set),
        Just(What::Add),
        Just(What::Replace),
        Just(What::Append),
        Just(What::Prepend),
        count,
        Just(What::Invalidate),
    ];
    let value = prop::sample::select(VALUES.to_vec());
    let seconds = prop::sample::select(vec![0, 0, -1, 2, 10, 40 * DAY_S]);
    let pause_s = prop::sample::select(vec![0, 0, 0, 1, 2, 9, 10, 11]);
    let with_cas = prop::bool::weighted(0.1);
    (what, 0..NAMES.len(), value, 0..3_u32, seconds, with_cas, pause_s).prop_map(
        |(what, name, value, flags, seconds, with_cas, pause_s)| Step {
            what,
            name,
            value,
            flags,
            seconds,
            with_cas,
            pause_s,
        },
    )
}

/// The answer of a tier to one step.
async fn take<T: Tier>(tier: &T, step: &Step, now: Now) -> Outcome<T::Value> {
    let key = &key(NAMES[step.name]);
    let expiry = match step.seconds {
        0 => Expiry::NEVER,
        seconds => Expiry::from_unix_s((i64::from(now.unix_s) + seconds) as u32),
    };
    let cas = if step.with_cas { NOBODYS_CAS } else { 0 };
    let mode = match step.what {
        What::Get => return tier.get(key, now).await,
        What::GetWithExpiry => return tier.get_with_expiry(key, now).await,
        What::GetAndTouch => return tier.get_and_touch(key, expiry, now).await,
        What::Touch => return tier.touch(key, expiry, now).await,
        What::Delete => return tier.delete(key, cas, now).await,
        What::Count { decrement, delta, initial } => {
            let initial = initial.map(|number| (number, expiry));
            let arithmetic = Arithmetic { decrement, delta, initial, cas };
            return tier.arithmetic(key, arithmetic, now).await;
        }
        What::Invalidate => {
            tier.invalidate(key, now).await;
            return Outcome::Deleted;
        }
        What::Set => StoreMode::Set,
        What::Add => StoreMode::Add,
        What::Replace => StoreMode::Replace,
        What::Append => StoreMode::Append,
        What::Prepend => StoreMode::Prepend,
    };
    // Like the parsers: with a cas, an add or a replace is a set.
    let is_set = cas != 0 && matches!(mode, StoreMode::Add | StoreMode::Replace);
    let mode = if is_set { StoreMode::Set } else { mode };
    let store = Store { mode, flags: step.flags, expiry, cas };
    tier.store(key, store, &Chain::from_slice(step.value), now).await
}

fn memory() -> Memory {
    let config = MemoryConfig {
        bytes: 16 * 1024 * 1024,
        item_bytes_max: ITEM_BYTES_MAX_DEFAULT,
        worker: 0,
        workers: 1,
        stats: Arc::new(WorkerStats::default()),
    };
    Memory::new(config).expect("memory")
}

fn assert_same(fixture: &Fixture, steps: &[Step], mut pause: impl FnMut(u32)) {
    let model = memory();
    let mut said = Vec::new();
    for step in steps {
        pause(step.pause_s);
        let now = fixture.now();
        let expected = fixture.run(take(&model, step, now));
        let outcome = fixture.run(take(&fixture.tier, step, now));
        let (expected, outcome) = (words(&expected, now), words(&outcome, now));
        said.push(format!("{step:?}: {outcome}"));
        assert_eq!(outcome, expected, "after\n{}", said.join("\n"));
    }
}

fn check(cases: u32, run: impl Fn(&[Step])) {
    let mut runner = TestRunner::new(RunnerConfig {
        cases,
        failure_persistence: None,
        ..RunnerConfig::default()
    });
    let steps = prop::collection::vec(step(), 1..40);
    let result = runner.run(&steps, |steps| {
        run(&steps);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

fn against_fake(kind: Kind) {
    let fake = FakeRend::start(kind);
    let fixture = Fixture::of_fake(&fake);
    check(200, |steps| {
        fake.clear();
        let mut unix_s = START_UNIX_S;
        assert_same(&fixture, steps, |pause_s| {
            unix_s += pause_s;
            fake.set_unix_s(unix_s);
            fixture.unix_s.set(Some(unix_s));
        });
    });
    assert_eq!(fake.unknown(), b"", "no unknown opcode");
}

#[test]
fn a_rend_lmdb_answers_as_memcached_through_the_tier() {
    against_fake(Kind::Lmdb);
}

#[test]
fn rends_own_memory_answers_as_memcached_through_the_tier() {
    against_fake(Kind::Memory);
}

#[test]
fn another_sunder_answers_as_memcached_through_the_tier() {
    let sunder = Sunder::start();
    let fixture = Fixture::of_sunder(&sunder);
    check(100, |steps| {
        // Its clock is the host's, and the test does not wait for it: only past times expire.
        let steps: Vec<Step> = steps
            .iter()
            .map(|step| Step {
                seconds: if step.seconds > 0 { 40 * DAY_S } else { step.seconds },
                ..step.clone()
            })
            .collect();
        let now = fixture.now();
        fixture.run(fixture.tier.flush_all(Expiry::NEVER, now));
        assert_same(&fixture, &steps, |_| {});
    });
}
