//! The orchestrator over two simulated tiers: every row of the ports' tables, the races between
//! operations on two tiers, and random histories against a model.

mod model;
mod races;
mod rows;
pub(in crate::orchestrator) mod sim;

use std::sync::Arc;

use sim::{Log, Odds, Sim};

use super::{L1L2, OF_L2, PairValue};
use crate::base::buffer::{Body, Chain, Key};
use crate::base::clock::{Expiry, Now};
use crate::base::stats::WorkerStats;
use crate::orchestrator::task::{Execution, Executor};
use crate::orchestrator::{Action, InL1, Operation, Orchestrator, PortRole};
use crate::tier::memory::{self, Memory};
use crate::tier::{Arithmetic, Outcome, Store, StoreMode, Value};

type Pair = L1L2<Sim, Sim>;

const START: Now = Now { uptime_us: 5_000_000, unix_s: 1_800_000_000 };

/// Turns in which any operation of a test finishes, and a lost tier recovers.
const TURNS_MAX: usize = 200;

fn pair(seed: u64, l1: Odds, l2: Odds) -> (Pair, Log) {
    let log = Log::default();
    let stats = Arc::new(WorkerStats::default());
    let l1 = Sim::new("L1", &log, seed, l1);
    let l2 = Sim::new("L2", &log, seed + 1_000_003, l2);
    (L1L2::new(l1, l2, stats), log)
}

fn store(mode: StoreMode) -> Action {
    Action::Store(Store { mode, flags: 7, expiry: Expiry::NEVER, cas: 0 })
}

fn incr(delta: u64) -> Action {
    Action::Arithmetic(Arithmetic { decrement: false, delta, initial: None, cas: 0 })
}

fn operation(key: &[u8], action: Action, value: &[u8], port: PortRole) -> Operation {
    let key = Key::new(key).expect("short");
    Operation { value: Chain::from_slice(value), port, ..Operation::new(key, action) }
}

fn bytes<V: Value>(value: &V) -> Vec<u8> {
    let mut out = vec![0; value.len()];
    assert_eq!(value.copy_to(0, &mut out), out.len());
    out
}

/// The outcome in words, including the tier of its cas.
fn words<V: Value>(outcome: &Outcome<V>) -> String {
    let whose = |cas: u64| if cas & OF_L2 == 0 { "L1" } else { "L2" };
    match outcome {
        Outcome::Hit(hit) => {
            format!("hit {} {}", String::from_utf8_lossy(&bytes(&hit.value)), whose(hit.cas))
        }
        Outcome::Stored { cas } => format!("stored {}", whose(*cas)),
        Outcome::Touched { cas } => format!("touched {}", whose(*cas)),
        Outcome::Number { value, cas } => format!("number {value} {}", whose(*cas)),
        Outcome::Changed(info) => format!("changed {}", whose(info.cas)),
        Outcome::Miss => "miss".into(),
        Outcome::NotStored => "not stored".into(),
        Outcome::Exists => "exists".into(),
        Outcome::Deleted => "deleted".into(),
        Outcome::NonNumeric => "non-numeric".into(),
        Outcome::TooLarge => "too large".into(),
        Outcome::OutOfMemory => "out of memory".into(),
        Outcome::Unsupported => "unsupported".into(),
        Outcome::Flushed => "flushed".into(),
        Outcome::Dumped(_) => "dumped".into(),
        Outcome::Throttled => "throttled".into(),
        Outcome::Failed => "failed".into(),
    }
}

fn hash(key: &[u8]) -> u64 {
    key.iter().fold(1, |hash, byte| hash * 131 + u64::from(*byte))
}

/// Executes all operations in one turn and runs until the last has finished, then until both tiers
/// have recovered. Returns the outcomes, in the order of the operations.
fn run(pair: &Pair, operations: Vec<Operation>) -> Vec<Outcome<PairValue<Chain, Chain>>> {
    run_at(pair, operations, START)
}

/// Like [`run`], at another time.
fn run_at(
    pair: &Pair,
    operations: Vec<Operation>,
    now: Now,
) -> Vec<Outcome<PairValue<Chain, Chain>>> {
    let mut executor = Executor::new(64, |operation, now| pair.execute(operation, now));
    let mut outcomes: Vec<Option<Outcome<_>>> = operations.iter().map(|_| None).collect();
    for (index, operation) in operations.into_iter().enumerate() {
        let key_hash = hash(operation.key.as_bytes());
        if let Execution::Done(outcome) = executor.execute(operation, key_hash, index, now) {
            outcomes[index] = Some(outcome);
        }
    }
    for _ in 0..TURNS_MAX {
        pair.turn(now);
        executor.run_woken(now, Outcome::share, |index, outcome| outcomes[index] = Some(outcome));
        pair.flush(now);
    }
    outcomes.into_iter().map(|outcome| outcome.expect("it has finished")).collect()
}

fn run_one(pair: &Pair, key: &[u8], action: Action, value: &[u8], port: PortRole) -> String {
    words(&run(pair, vec![operation(key, action, value, port)])[0])
}

/// L1 has the same item as L2, or none; if L2 lost the item, L1 may have it.
fn assert_agreement(pair: &Pair, why: &str) {
    for key in pair.l1().keys() {
        let Some(mut in_l1) = pair.l1().item(&key) else { continue };
        let Some(in_l2) = pair.l2().item(&key) else { continue };
        in_l1.cas = in_l2.cas;
        assert_eq!(in_l1, in_l2, "{why}: {}", String::from_utf8_lossy(&key));
    }
}

#[test]
fn only_a_get_that_hits_l1_is_answered_immediately() {
    let log = Log::default();
    let l1 = Sim::new("L1", &log, 1, Odds::default()).answering_now();
    let l2 = Sim::new("L2", &log, 2, Odds::default()).answering_now();
    let pair = L1L2::new(l1, l2, Arc::new(WorkerStats::default()));
    pair.l1().put(b"k", b"v", Expiry::NEVER);
    pair.l2().put(b"k", b"v", Expiry::NEVER);
    pair.l2().put(b"far", b"v", Expiry::NEVER);
    let now = |key: &[u8], action| pair.try_now(key, action, Body::EMPTY, START);
    assert_eq!(words(&now(b"k", Action::Get).expect("in L1")), "hit v L1");
    let in_l1 = |key: &[u8], action| now(key, action).expect_err("L2 is involved");
    assert_eq!(in_l1(b"far", Action::Get), InL1::No);
    assert_eq!(in_l1(b"none", Action::Get), InL1::No);
    assert_eq!(in_l1(b"k", Action::GetAndTouch { expiry: Expiry::NEVER }), InL1::Unclear);
    assert_eq!(in_l1(b"k", store(StoreMode::Set)), InL1::Unclear);
    assert_eq!(in_l1(b"k", Action::Delete { cas: 0 }), InL1::Unclear);
    assert_eq!(in_l1(b"", Action::FlushAll { at: Expiry::NEVER }), InL1::Unclear);
    assert!(pair.l1().item(b"k").is_some(), "nothing was done");
}

fn memory() -> Memory {
    let config = memory::MemoryConfig {
        bytes: 4 << 20,
        item_bytes_max: 1 << 20,
        worker: 0,
        workers: 1,
        stats: Arc::new(WorkerStats::default()),
    };
    Memory::new(config).expect("mapped")
}

/// A worker has room for thousands of operations, each of which has some hits of 40 bytes.
const FUTURE_BYTES_MAX: usize = 1152;

#[test]
fn an_operation_on_two_tiers_has_a_small_future() {
    let memories = L1L2::new(memory(), memory(), Arc::new(WorkerStats::default()));
    let future = memories.execute(operation(b"k", Action::Get, b"", PortRole::Main), START);
    let memory_bytes = size_of_val(&future);
    println!("operation {} bytes, its future {memory_bytes}", size_of::<Operation>());
    assert!(memory_bytes <= FUTURE_BYTES_MAX, "{memory_bytes} bytes");
}

#[test]
fn a_value_that_can_be_read_only_once_is_copied_for_l1() {
    let pair = L1L2::new(memory(), memory(), Arc::new(WorkerStats::default()));
    let mut executor = Executor::new(4, |operation, now| pair.execute(operation, now));
    let value: Vec<u8> = (0..300_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let mut ask = |action, value: &[u8], port| {
        let operation = operation(b"k", action, value, port);
        let Execution::Done(outcome) = executor.execute(operation, 1, (), START) else {
            panic!("memory does not wait");
        };
        outcome
    };
    assert_eq!(words(&ask(store(StoreMode::Set), &value, PortRole::Batch)), "stored L2");
    for (port, whose) in [(PortRole::Batch, "L2"), (PortRole::Main, "L1"), (PortRole::Main, "L1")] {
        let outcome = ask(Action::Get, b"", port);
        assert!(words(&outcome).ends_with(whose), "{port:?}");
        let Outcome::Hit(hit) = outcome else { panic!("{port:?}") };
        assert!(bytes(&hit.value) == value, "{port:?}");
        assert_eq!(hit.flags, 7);
    }
}
