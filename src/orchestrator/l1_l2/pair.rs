//! The two tiers, and code that both ports share.
//!
//! Nothing here may depend on the port.

use std::sync::Arc;

use super::flushes::Flushes;
use super::value::PairValue;
use crate::base::buffer::{Chain, Gather, Key};
use crate::base::clock::Now;
use crate::base::stats::WorkerStats;
use crate::tier::{Hit, ItemInfo, Outcome, Store, StoreMode, Tier, Value};

/// Set in every cas that a client got from L2. Not the highest bit: some clients read the number as
/// a signed one.
pub(super) const OF_L2: u64 = 1 << 62;

/// What holds the bytes of a hit of two tiers.
pub(super) type PairValueOf<A, B> = PairValue<<A as Tier>::Value, <B as Tier>::Value>;

/// The outcome of an operation on two tiers.
pub(super) type Answer<A, B> = Outcome<PairValue<<A as Tier>::Value, <B as Tier>::Value>>;

/// Orchestrates a fast tier in front of a large one.
#[derive(Debug)]
pub struct L1L2<A, B> {
    pub(super) l1: A,
    pub(super) l2: B,
    pub(super) stats: Arc<WorkerStats>,
    pub(super) flushes: Flushes,
}

impl<A: Tier, B: Tier> L1L2<A, B> {
    /// Caches in `l1` the requested items of `l2`. Counts in `stats`.
    pub fn new(l1: A, l2: B, stats: Arc<WorkerStats>) -> L1L2<A, B> {
        L1L2 { l1, l2, stats, flushes: Flushes::default() }
    }

    /// The fast tier.
    pub fn l1(&self) -> &A {
        &self.l1
    }

    /// The large tier.
    pub fn l2(&self) -> &B {
        &self.l2
    }

    /// The item's cas for the client after L2 has executed an operation under `cas` and L1 has
    /// answered `in_l1` to the same operation. Invalidates L1 unless it has done the same or has no
    /// item.
    pub(super) fn reconcile(
        &self,
        key: &Key,
        in_l1: Outcome<A::Value>,
        cas: u64,
        now: Now,
    ) -> impl Future<Output = u64> {
        let (cas, is_certain) = match in_l1 {
            Outcome::Stored { cas } | Outcome::Touched { cas } => (cas, true),
            in_l1 => (cas | OF_L2, matches!(in_l1, Outcome::Miss)),
        };
        async move {
            if !is_certain {
                self.l1.invalidate(key, now).await;
            }
            cas
        }
    }

    /// Stores in L1, which has no item, the value found in L2, and answers with it.
    pub(super) fn fill(
        &self,
        key: &Key,
        hit: Hit<B::Value>,
        now: Now,
    ) -> impl Future<Output = Answer<A, B>> {
        let Hit { flags, expiry, cas, state, value } = hit;
        let value: PairValueOf<A, B> = match value.as_chain() {
            Some(_) => PairValue::L2(value),
            // It can be read only once, for the reply.
            None => PairValue::Copied(copy(&value)),
        };
        async move {
            let Some(chain) = value.as_chain() else { unreachable!("a chain, or copied into one") };
            let store = Store { mode: StoreMode::Set, flags, expiry, cas: 0 };
            let in_l1 = self.l1.store(key, store, chain, now).await;
            let cas = self.reconcile(key, in_l1, cas, now).await;
            Outcome::Hit(Hit { flags, expiry, cas, state, value })
        }
    }
}

/// Copies a value, so that it can be both stored and read.
fn copy<V: Value>(value: &V) -> Chain {
    let mut gather = Gather::new();
    gather.fill(value.len(), |offset, out| value.copy_to(offset, out));
    gather.finish()
}

/// An outcome in L2 as the client receives it, with the mark in its cas.
pub(super) fn from_l2<V1, V2>(outcome: Outcome<V2>) -> Outcome<PairValue<V1, V2>> {
    match outcome {
        Outcome::Hit(hit) => Outcome::Hit(Hit {
            flags: hit.flags,
            expiry: hit.expiry,
            cas: hit.cas | OF_L2,
            state: hit.state,
            value: PairValue::L2(hit.value),
        }),
        Outcome::Stored { cas } => Outcome::Stored { cas: cas | OF_L2 },
        Outcome::Touched { cas } => Outcome::Touched { cas: cas | OF_L2 },
        Outcome::Number { value, cas } => Outcome::Number { value, cas: cas | OF_L2 },
        Outcome::Changed(info) => Outcome::Changed(ItemInfo { cas: info.cas | OF_L2, ..info }),
        outcome => outcome.map_value(PairValue::L2),
    }
}
