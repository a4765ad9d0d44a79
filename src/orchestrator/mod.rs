//! Orchestrators decide which tier executes which part of an operation.
//!
//! They are async functions over tiers, run by [`task::Executor`]. An operation that needs no
//! waiting, such as a hit in memory, is executed by [`Orchestrator::try_now`] and never becomes a
//! task.

pub mod l1_l2;
pub mod l1_only;
pub mod tally;
pub mod task;

use crate::base::buffer::{Body, Chain, Key};
use crate::base::clock::{Clock, Now};
use crate::base::latency::Level;
pub use crate::tier::Action;
use crate::tier::dump::DumpedItem;
use crate::tier::{Draft, Fill, Hit, Outcome, Store, Value};

/// The port of a client, which decides how its operations use the tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortRole {
    /// The main port.
    #[default]
    Main,
    /// The batch port: for jobs that read and write many items that clients do not need soon, so L1
    /// is not filled with them.
    Batch,
}

impl PortRole {
    /// The port of the transport's listener number `listener`.
    pub fn of_listener(listener: usize) -> PortRole {
        if listener == 0 { PortRole::Main } else { PortRole::Batch }
    }

    /// The number of the listeners of this port.
    pub fn listener(self) -> usize {
        match self {
            PortRole::Main => 0,
            PortRole::Batch => 1,
        }
    }
}

/// Whether L1 has the item of an operation that could not be executed immediately: the result of
/// the first lookup, so that there is no second one. Valid until another operation on the key is
/// executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InL1 {
    /// No lookup was made.
    #[default]
    Unasked,
    /// A lookup was made, and needs to wait.
    Unclear,
    /// L1 has no item.
    No,
}

/// One operation on one key, or on all keys, owned, so that it can wait and cross workers.
#[derive(Debug)]
pub struct Operation {
    /// The key; empty for [`Action::FlushAll`].
    pub key: Key,
    /// The operation on it.
    pub action: Action,
    /// The value to store; empty for all but [`Action::Store`].
    pub value: Chain,
    /// Where it was requested.
    pub port: PortRole,
    /// The result of a lookup of the key in L1.
    pub in_l1: InL1,
}

impl Operation {
    /// An operation without a value, from the main port.
    pub fn new(key: Key, action: Action) -> Operation {
        Operation { key, action, value: Chain::new(), port: PortRole::Main, in_l1: InL1::Unasked }
    }
}

/// The composition of tiers behind one port.
#[allow(async_fn_in_trait, reason = "a worker's futures stay on their thread by design")]
pub trait Orchestrator {
    /// What holds the bytes of a hit.
    type Value: Value;

    /// Whether it executes [`Action::Meta`].
    const HAS_META: bool = false;

    /// The last tier that is asked for an item.
    const LAST: Level = Level::L1;

    /// Executes one operation if it needs no waiting, and copies only what is stored: the path of a
    /// hit in memory. An error: nothing was done; [`Orchestrator::execute`] must execute it, and
    /// receives the result of the lookup in L1.
    fn try_now(
        &self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Result<Outcome<Self::Value>, InL1>;

    /// Executes a get without holding the value; see [`crate::tier::Tier::read_now`]. An error:
    /// `read` did not accept it, and another function must be called; see
    /// [`Orchestrator::try_now`].
    fn read_now(
        &self,
        _key: &[u8],
        _with_state: bool,
        _now: Now,
        _read: impl FnOnce(Option<Hit<&[u8]>>) -> bool,
    ) -> Result<(), InL1> {
        Err(InL1::Unasked)
    }

    /// See [`crate::tier::Tier::draft`].
    fn draft(&self, _key: &[u8], _store: Store, _value_bytes: usize, _now: Now) -> Option<Draft> {
        None
    }

    /// See [`crate::tier::Tier::fill_draft`].
    fn fill_draft(&self, _draft: Draft, _offset: usize, _fill: &mut Fill<'_>) -> usize {
        unreachable!("there are no drafts")
    }

    /// See [`crate::tier::Tier::store_draft`].
    fn store_draft(
        &self,
        _key: &[u8],
        _draft: Draft,
        _store: Store,
        _now: Now,
    ) -> Outcome<Self::Value> {
        unreachable!("there are no drafts")
    }

    /// See [`crate::tier::Tier::drop_draft`].
    fn drop_draft(&self, _draft: Draft) {
        unreachable!("there are no drafts")
    }

    /// Executes one operation. The caller ensures that no other operation on the same key is in
    /// flight.
    async fn execute(&self, operation: Operation, now: Now) -> Outcome<Self::Value>;

    /// Whether [`Orchestrator::prefetch`] pays off now.
    fn is_far(&self) -> bool {
        false
    }

    /// A hint: `key` will be requested soon. See `net::Handler::foresee`.
    fn prefetch(&self, _key: &[u8]) -> u64 {
        0
    }

    /// See `net::Handler::foresee_more`.
    fn prefetch_more(&self, _foreseen: u64) {}

    /// A bounded piece of the tiers' own work, at the start of a turn. Returns how many completions
    /// there were; see [`crate::tier::Tier::turn`].
    fn turn(&self, now: Now) -> usize;

    /// Sends or submits what the turn's operations have queued, at the end of the turn.
    fn flush(&self, now: Now);

    /// Whether an operation needs memory that readers hold; see [`crate::tier::Tier::is_starved`].
    fn is_starved(&self) -> bool {
        false
    }

    /// See [`crate::tier::Tier::note_evicted`].
    fn note_evicted(&self, _is_wanted: bool) {}

    /// See [`crate::tier::Tier::take_evicted`].
    fn take_evicted(&self, _each: &mut dyn FnMut(DumpedItem)) -> u64 {
        0
    }

    /// When [`Orchestrator::turn`] must be called again even if nothing arrives, as an uptime in
    /// microseconds; `u64::MAX`: never.
    fn wake_at_us(&self) -> u64;

    /// See [`crate::tier::Tier::finish`].
    fn finish(&self, clock: &Clock) -> bool;
}
