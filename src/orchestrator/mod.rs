//! What decides which tier does what for one operation.
//!
//! Orchestrators are async functions over tiers, run by [`task::Executor`]: polled once where the
//! request was parsed, so that a memory hit never becomes a task.

pub mod l1_only;
pub mod tally;
pub mod task;

use crate::buffer::Key;
use crate::clock::{Expiry, Now};
use crate::tier::{Arithmetic, Outcome, Store, Value};

/// One operation on one key, or on all of them, owned, so that it can wait and cross workers.
#[derive(Debug)]
pub struct Operation {
    /// The key; empty for [`Action::FlushAll`].
    pub key: Key,
    /// What to do with it.
    pub action: Action,
}

/// What to do with the key.
#[derive(Debug)]
pub enum Action {
    Get,
    /// Get, with the expiry in the answer (Rend's GETE).
    GetWithExpiry,
    GetAndTouch {
        expiry: Expiry,
    },
    Store(Store),
    /// A set whose value is over the limit: memcached removes what was there.
    StoreTooLarge,
    Delete {
        cas: u64,
    },
    Touch {
        expiry: Expiry,
    },
    Arithmetic(Arithmetic),
    FlushAll {
        at: Expiry,
    },
}

/// The composition of tiers behind one port.
#[allow(async_fn_in_trait, reason = "a worker's futures stay on their thread by design")]
pub trait Orchestrator {
    /// What holds the bytes of a hit.
    type Value: Value;

    /// Executes one operation. The caller sees to it that no other operation on the same key is
    /// under way.
    async fn execute(&self, operation: Operation, now: Now) -> Outcome<Self::Value>;

    /// A bounded piece of the tiers' own work, once a turn.
    fn turn(&self, now: Now);
}
