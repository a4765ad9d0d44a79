//! What decides which tier does what for one operation.
//!
//! Orchestrators are async functions over tiers, run by [`task::Owner`]. What needs no waiting,
//! such as a hit in memory, is done by [`Orchestrator::try_now`] and never becomes a task.

pub mod l1_only;
pub mod tally;
pub mod task;

use crate::buffer::{Body, Chain, Key};
use crate::clock::Now;
pub use crate::tier::Action;
use crate::tier::{Outcome, Value};

/// One operation on one key, or on all of them, owned, so that it can wait and cross workers.
#[derive(Debug)]
pub struct Operation {
    /// The key; empty for [`Action::FlushAll`].
    pub key: Key,
    /// What to do with it.
    pub action: Action,
    /// What to store; empty for all but [`Action::Store`].
    pub value: Chain,
}

/// The composition of tiers behind one port.
#[allow(async_fn_in_trait, reason = "a worker's futures stay on their thread by design")]
pub trait Orchestrator {
    /// What holds the bytes of a hit.
    type Value: Value;

    /// Executes one operation if that takes no waiting, without copying anything that is not kept:
    /// the way of a hit in memory. None: nothing was done, and [`Orchestrator::execute`] has to.
    fn try_now(
        &self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Option<Outcome<Self::Value>>;

    /// Executes one operation. The caller sees to it that no other operation on the same key is
    /// under way.
    async fn execute(&self, operation: Operation, now: Now) -> Outcome<Self::Value>;

    /// Whether [`Orchestrator::prefetch`] is worth the while now.
    fn is_far(&self) -> bool {
        false
    }

    /// A hint: `key` will be asked for in a moment. See [`crate::net::Handler::foresee`].
    fn prefetch(&self, _key: &[u8]) -> u32 {
        0
    }

    /// See [`crate::net::Handler::foresee_more`].
    fn prefetch_more(&self, _foreseen: u32) {}

    /// A bounded piece of the tiers' own work, once a turn.
    fn turn(&self, now: Now);
}
