//! Two tiers: a small fast one, L1, in front of a large one, L2.
//!
//! L2 is authoritative. For a given key, L1 has either no item, or the same item as L2 with the
//! same flags and expiry, or the item that L2 had when it lost it; never an older one. So L1 may
//! lose any item, and a write goes to L2 first:
//!
//! - If L2 refuses or fails, so does the operation. After a failure L2 may have the new item, and
//!   if L2 has no item L1 must not have one either; in both cases the item in L1 is invalidated.
//! - If L2 confirms, that is the answer. L1 is updated; if that fails, or if it is not certain that
//!   both are equal now, L1 is invalidated ([`Tier::invalidate`] takes effect even if L1 is
//!   unreachable).
//!
//! Differences between the ports are in `main_port` and `batch_port`.
//!
//! **Numbers for cas.** A client gets L1's number for an item if L1 has the item, and otherwise
//! L2's with bit 62 set. L2 checks a condition on one of its own numbers. A condition on a number
//! of L1's is checked by a lookup in L1; if L1 has lost the item meanwhile it cannot be checked,
//! and the answer is that the item has changed. So a condition may fail although it holds, and
//! never succeeds where it does not.
//!
//! **flush_all.** Operations on one key are serialized, but a flush concerns all keys and runs
//! concurrently: an operation that has read from L2 before the flush could write to L1 after it.
//! Therefore every operation that overlaps a flush ends by invalidating L1, as does every operation
//! around the time of a delayed flush, which the tiers' clocks may place differently.
//!
//! Nothing here may answer from L1 what L2 has denied, or write to L1 what L2 has not confirmed.

mod batch_port;
mod flushes;
mod main_port;
mod meta;
mod pair;
mod value;

use self::pair::{Answer, OF_L2, PairValueOf, from_l2};
pub use self::{pair::L1L2, value::PairValue};
use super::{Action, InL1, Operation, Orchestrator, PortRole};
use crate::base::buffer::{Body, Key};
use crate::base::clock::{Clock, Expiry, Now};
use crate::base::latency::Level;
use crate::tier::dump::DumpedItem;
use crate::tier::{Arithmetic, Hit, Outcome, Store, StoreMode, Tier};

/// The state of an operation's cas condition before L2 executes the operation.
enum Condition<V> {
    /// There is no condition.
    None,
    /// L1 has the item with this number.
    Met,
    /// L2 must check whether the item has this number.
    InL2(u64),
    /// The key has no item.
    NoItem,
    /// It is not met, or neither tier can check it: the answer.
    Unmet(Outcome<V>),
}

impl<A: Tier, B: Tier> L1L2<A, B> {
    async fn answer(&self, operation: &Operation, now: Now) -> Answer<A, B> {
        let &Operation { ref key, in_l1, .. } = operation;
        match (operation.action, operation.port) {
            (Action::Get, PortRole::Main) => main_port::get(self, key, false, in_l1, now).await,
            (Action::Get, PortRole::Batch) => batch_port::get(self, key, false, in_l1, now).await,
            (Action::GetWithExpiry, PortRole::Main) => {
                main_port::get(self, key, true, in_l1, now).await
            }
            (Action::GetWithExpiry, PortRole::Batch) => {
                batch_port::get(self, key, true, in_l1, now).await
            }
            (Action::GetAndTouch { expiry }, PortRole::Main) => {
                main_port::get_and_touch(self, key, expiry, now).await
            }
            (Action::GetAndTouch { expiry }, PortRole::Batch) => {
                batch_port::get_and_touch(self, key, expiry, now).await
            }
            (Action::Store(store), _) => self.store(operation, store, now).await,
            (Action::StoreTooLarge, _) => self.refuse_set(key, true, now).await,
            (Action::StoreNoRoom, _) => self.refuse_set(key, false, now).await,
            (Action::Delete { cas }, _) => self.delete(key, cas, now).await,
            (Action::Touch { expiry }, _) => self.touch(key, expiry, now).await,
            (Action::Arithmetic(arithmetic), port) => {
                self.arithmetic(key, arithmetic, port, now).await
            }
            // Not many, and a future for them would be the largest.
            (Action::Meta(_) | Action::Dump { .. }, _) => {
                Box::pin(self.answer_rare(operation, now)).await
            }
            (Action::FlushAll { at }, _) => self.flush_all(at, now).await,
        }
    }

    async fn answer_rare(&self, operation: &Operation, now: Now) -> Answer<A, B> {
        match operation.action {
            Action::Meta(meta) => meta::execute(self, operation, meta, now).await,
            // L1 has no item that L2 has not.
            Action::Dump { from } => from_l2(self.l2.dump(from, now).await),
            _ => unreachable!("not a rare action"),
        }
    }

    async fn store(&self, operation: &Operation, store: Store, now: Now) -> Answer<A, B> {
        let Operation { key, value, port, .. } = operation;
        let is_extension = matches!(store.mode, StoreMode::Append | StoreMode::Prepend);
        let mut request = store;
        match self.condition(key, store.cas, now).await {
            Condition::None => {}
            Condition::Met => {
                request.cas = 0;
                if !is_extension {
                    request.mode = StoreMode::Replace;
                }
            }
            Condition::InL2(cas) => request.cas = cas,
            Condition::NoItem if is_extension => return Outcome::NotStored,
            Condition::NoItem => return Outcome::Miss,
            Condition::Unmet(answer) => return answer,
        }
        let cas = match self.l2.store(key, request, value, now).await {
            Outcome::Stored { cas } => cas,
            Outcome::Exists => return Outcome::Exists,
            Outcome::NotStored if request.mode == StoreMode::Add => return Outcome::NotStored,
            outcome => {
                self.l1.invalidate(key, now).await;
                return match outcome {
                    Outcome::NotStored if store.cas != 0 && !is_extension => Outcome::Miss,
                    outcome => from_l2(outcome),
                };
            }
        };
        let mode = match port {
            PortRole::Main => main_port::mode_in_l1(store.mode),
            PortRole::Batch => batch_port::mode_in_l1(store.mode),
        };
        let request = Store { mode, cas: 0, ..store };
        let in_l1 = self.l1.store(key, request, value, now).await;
        // An append that is not stored may have found no item, or no memory for a longer one.
        let is_miss = mode == StoreMode::Replace && matches!(in_l1, Outcome::NotStored);
        let in_l1 = if is_miss { Outcome::Miss } else { in_l1 };
        Outcome::Stored { cas: self.reconcile(key, in_l1, cas, now).await }
    }

    /// Removes what was there, and refuses the set: it is too large, or there is no room for it.
    async fn refuse_set(&self, key: &Key, is_too_large: bool, now: Now) -> Answer<A, B> {
        let in_l2 = self.l2.delete(key, 0, now).await;
        self.l1.invalidate(key, now).await;
        match in_l2 {
            Outcome::Deleted | Outcome::Miss if is_too_large => Outcome::TooLarge,
            Outcome::Deleted | Outcome::Miss => Outcome::OutOfMemory,
            outcome => from_l2(outcome),
        }
    }

    async fn delete(&self, key: &Key, cas: u64, now: Now) -> Answer<A, B> {
        let cas = match self.condition(key, cas, now).await {
            Condition::None | Condition::Met => 0,
            Condition::InL2(cas) => cas,
            Condition::NoItem => return Outcome::Miss,
            Condition::Unmet(answer) => return answer,
        };
        let is_in_l2 = match self.l2.delete(key, cas, now).await {
            Outcome::Deleted => true,
            Outcome::Exists => return Outcome::Exists,
            // L1's item cannot be compared with a number of L2's.
            Outcome::Miss if cas == 0 => false,
            outcome => {
                self.l1.invalidate(key, now).await;
                return from_l2(outcome);
            }
        };
        let is_in_l1 = match self.l1.delete(key, 0, now).await {
            Outcome::Deleted => true,
            Outcome::Miss => false,
            _ => {
                self.l1.invalidate(key, now).await;
                false
            }
        };
        if is_in_l2 || is_in_l1 { Outcome::Deleted } else { Outcome::Miss }
    }

    async fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> Answer<A, B> {
        match self.l2.touch(key, expiry, now).await {
            Outcome::Touched { cas } => {
                let in_l1 = self.l1.touch(key, expiry, now).await;
                Outcome::Touched { cas: self.reconcile(key, in_l1, cas, now).await }
            }
            outcome => {
                self.l1.invalidate(key, now).await;
                from_l2(outcome)
            }
        }
    }

    async fn arithmetic(
        &self,
        key: &Key,
        arithmetic: Arithmetic,
        port: PortRole,
        now: Now,
    ) -> Answer<A, B> {
        let cas = match self.condition(key, arithmetic.cas, now).await {
            Condition::None | Condition::Met => 0,
            Condition::InL2(cas) => cas,
            // memcached creates the number whatever the condition.
            Condition::NoItem if arithmetic.initial.is_some() => 0,
            Condition::NoItem => return Outcome::Miss,
            Condition::Unmet(answer) => return answer,
        };
        let (value, cas) =
            match self.l2.arithmetic(key, Arithmetic { cas, ..arithmetic }, now).await {
                Outcome::Number { value, cas } => (value, cas),
                // The item exists, unchanged.
                Outcome::NonNumeric => return Outcome::NonNumeric,
                Outcome::Exists => return Outcome::Exists,
                outcome => {
                    self.l1.invalidate(key, now).await;
                    return from_l2(outcome);
                }
            };
        // A number that may have been created just now may have other flags and another expiry than
        // the item in L1.
        let is_old = arithmetic.initial.is_none_or(|(initial, _)| initial != value);
        if is_old {
            let request = Arithmetic { initial: None, cas: 0, ..arithmetic };
            match self.l1.arithmetic(key, request, now).await {
                Outcome::Number { value: in_l1, cas } if in_l1 == value => {
                    return Outcome::Number { value, cas };
                }
                Outcome::Miss => return Outcome::Number { value, cas: cas | OF_L2 },
                _ => {}
            }
        }
        self.l1.invalidate(key, now).await;
        // Now, so that the cas in the answer is the one that a get will return.
        if !is_old
            && port == PortRole::Main
            && let Outcome::Hit(hit) = main_port::get(self, key, false, InL1::Unasked, now).await
        {
            return Outcome::Number { value, cas: hit.cas };
        }
        Outcome::Number { value, cas: cas | OF_L2 }
    }

    async fn flush_all(&self, at: Expiry, now: Now) -> Answer<A, B> {
        let is_now = self.flushes.begin(at, now);
        // In this order: a get between the two could fill L1 with an item that L2 is about to
        // flush.
        let in_l2 = self.l2.flush_all(at, now).await;
        let in_l1 = self.l1.flush_all(at, now).await;
        if is_now {
            self.flushes.end();
        }
        match in_l2 {
            Outcome::Flushed => in_l1.map_value(PairValue::L1),
            outcome => from_l2(outcome),
        }
    }

    /// Determines the state of the condition that the item has the number `cas`, as the client
    /// knows it; 0 = none.
    async fn condition(&self, key: &Key, cas: u64, now: Now) -> Condition<PairValueOf<A, B>> {
        if cas == 0 {
            return Condition::None;
        }
        // A tier without cas returns 0, which L2 would take for no condition.
        if cas & OF_L2 != 0 && cas != OF_L2 {
            return Condition::InL2(cas & !OF_L2);
        }
        let mut is_l1_lost = false;
        if cas & OF_L2 == 0 {
            match self.l1.get(key, now).await {
                Outcome::Hit(hit) if hit.cas == cas => return Condition::Met,
                Outcome::Hit(_) => return Condition::Unmet(Outcome::Exists),
                Outcome::Miss => {}
                _ => is_l1_lost = true,
            }
        }
        match self.l2.get(key, now).await {
            Outcome::Hit(_) => Condition::Unmet(Outcome::Exists),
            Outcome::Miss => {
                if is_l1_lost {
                    self.l1.invalidate(key, now).await;
                }
                Condition::NoItem
            }
            outcome => Condition::Unmet(from_l2(outcome)),
        }
    }
}

impl<A: Tier, B: Tier> Orchestrator for L1L2<A, B> {
    type Value = PairValueOf<A, B>;

    const HAS_META: bool = true;
    const LAST: Level = Level::L2;

    #[inline]
    fn try_now(
        &self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Result<Answer<A, B>, InL1> {
        if !matches!(action, Action::Get) {
            return meta::try_now(self, key, action, now);
        }
        match self.l1.try_now(key, action, value, now) {
            Some(Outcome::Hit(hit)) => Ok(Outcome::Hit(hit).map_value(PairValue::L1)),
            Some(Outcome::Miss) => Err(InL1::No),
            _ => Err(InL1::Unclear),
        }
    }

    #[inline]
    fn read_now(
        &self,
        key: &[u8],
        with_state: bool,
        now: Now,
        read: impl FnOnce(Option<Hit<&[u8]>>) -> bool,
    ) -> Result<(), InL1> {
        let mut in_l1 = InL1::Unasked;
        let is_read = self.l1.read_now(key, with_state, now, |hit| {
            // L2 must confirm a miss.
            if hit.is_none() {
                in_l1 = InL1::No;
                return false;
            }
            read(hit)
        });
        if is_read { Ok(()) } else { Err(in_l1) }
    }

    #[allow(clippy::manual_async_fn, reason = "it would hold the operation twice")]
    fn execute(&self, operation: Operation, now: Now) -> impl Future<Output = Answer<A, B>> {
        async move {
            let operation = &operation;
            let seen = self.flushes.seen();
            let answer = self.answer(operation, now).await;
            let has_no_key =
                matches!(operation.action, Action::FlushAll { .. } | Action::Dump { .. });
            if !has_no_key && !self.flushes.is_clear_since(seen) {
                self.l1.invalidate(&operation.key, now).await;
            }
            answer
        }
    }

    fn is_starved(&self) -> bool {
        self.l1.is_starved() || self.l2.is_starved()
    }

    fn is_far(&self) -> bool {
        self.l1.is_far()
    }

    #[inline]
    fn prefetch(&self, key: &[u8]) -> u64 {
        self.l1.prefetch(key)
    }

    #[inline]
    fn prefetch_more(&self, foreseen: u64) {
        self.l1.prefetch_more(foreseen);
    }

    fn turn(&self, now: Now) -> usize {
        self.flushes.turn(now);
        self.l1.turn(now) + self.l2.turn(now)
    }

    fn flush(&self, now: Now) {
        self.l1.flush(now);
        self.l2.flush(now);
    }

    fn note_evicted(&self, is_wanted: bool) {
        self.l1.note_evicted(is_wanted);
    }

    fn take_evicted(&self, each: &mut dyn FnMut(DumpedItem)) -> u64 {
        self.l1.take_evicted(each)
    }

    fn wake_at_us(&self) -> u64 {
        self.l1.wake_at_us().min(self.l2.wake_at_us())
    }

    fn finish(&self, clock: &Clock) -> bool {
        self.l1.finish(clock) & self.l2.finish(clock)
    }
}

#[cfg(test)]
pub(super) mod tests;
