//! A single tier serves all operations.

use super::{Action, InL1, Operation, Orchestrator};
use crate::base::buffer::Body;
use crate::base::clock::{Clock, Now};
use crate::tier::dump::DumpedItem;
use crate::tier::{Draft, Fill, Hit, Outcome, Store, Tier};

/// Orchestrates a single tier.
#[derive(Debug)]
pub struct L1Only<T> {
    l1: T,
}

impl<T: Tier> L1Only<T> {
    /// Serves all operations from `l1`.
    pub fn new(l1: T) -> L1Only<T> {
        l1.stand_alone();
        L1Only { l1 }
    }

    /// The tier.
    pub fn l1(&self) -> &T {
        &self.l1
    }
}

impl<T: Tier> Orchestrator for L1Only<T> {
    type Value = T::Value;

    const HAS_META: bool = true;

    #[inline(always)]
    fn try_now(
        &self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Result<Outcome<T::Value>, InL1> {
        self.l1.try_now(key, action, value, now).ok_or(InL1::Unclear)
    }

    #[inline(always)]
    fn read_now(
        &self,
        key: &[u8],
        with_state: bool,
        now: Now,
        read: impl FnOnce(Option<Hit<&[u8]>>) -> bool,
    ) -> Result<(), InL1> {
        if self.l1.read_now(key, with_state, now, read) { Ok(()) } else { Err(InL1::Unasked) }
    }

    fn draft(&self, key: &[u8], store: Store, value_bytes: usize, now: Now) -> Option<Draft> {
        self.l1.draft(key, store, value_bytes, now)
    }

    fn fill_draft(&self, draft: Draft, offset: usize, fill: &mut Fill<'_>) -> usize {
        self.l1.fill_draft(draft, offset, fill)
    }

    fn store_draft(&self, key: &[u8], draft: Draft, store: Store, now: Now) -> Outcome<T::Value> {
        self.l1.store_draft(key, draft, store, now)
    }

    fn drop_draft(&self, draft: Draft) {
        self.l1.drop_draft(draft);
    }

    async fn execute(&self, operation: Operation, now: Now) -> Outcome<T::Value> {
        let Operation { key, action, value, port: _, in_l1: _ } = operation;
        match action {
            Action::Get => self.l1.get(&key, now).await,
            Action::GetWithExpiry => self.l1.get_with_expiry(&key, now).await,
            Action::GetAndTouch { expiry } => self.l1.get_and_touch(&key, expiry, now).await,
            Action::Store(store) => self.l1.store(&key, store, &value, now).await,
            Action::StoreTooLarge => {
                // A delete could fail, and the old item would be served again.
                self.l1.invalidate(&key, now).await;
                Outcome::TooLarge
            }
            Action::StoreNoRoom => {
                self.l1.invalidate(&key, now).await;
                Outcome::OutOfMemory
            }
            Action::Delete { cas } => self.l1.delete(&key, cas, now).await,
            Action::Touch { expiry } => self.l1.touch(&key, expiry, now).await,
            Action::Arithmetic(arithmetic) => self.l1.arithmetic(&key, arithmetic, now).await,
            Action::Meta(meta) => self.l1.meta(&key, meta, &value, now).await,
            Action::FlushAll { at } => self.l1.flush_all(at, now).await,
            // Not many, and a future for them would be the largest.
            Action::Dump { from } => Box::pin(self.l1.dump(from, now)).await,
        }
    }

    fn is_far(&self) -> bool {
        self.l1.is_far()
    }

    #[inline]
    fn prefetch(&self, key: &[u8]) -> u64 {
        self.l1.prefetch(key)
    }

    #[inline(always)]
    fn prefetch_more(&self, foreseen: u64) {
        self.l1.prefetch_more(foreseen);
    }

    fn turn(&self, now: Now) -> usize {
        self.l1.turn(now)
    }

    fn flush(&self, now: Now) {
        self.l1.flush(now);
    }

    fn is_starved(&self) -> bool {
        self.l1.is_starved()
    }

    fn note_evicted(&self, is_wanted: bool) {
        self.l1.note_evicted(is_wanted);
    }

    fn take_evicted(&self, each: &mut dyn FnMut(DumpedItem)) -> u64 {
        self.l1.take_evicted(each)
    }

    fn wake_at_us(&self) -> u64 {
        self.l1.wake_at_us()
    }

    fn finish(&self, clock: &Clock) -> bool {
        self.l1.finish(clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buffer::{Chain, Key};
    use crate::base::clock::Expiry;
    use crate::orchestrator::l1_l2::tests::sim::{Log, Odds, Sim};
    use crate::orchestrator::task::{Execution, Executor};

    fn run(orchestrator: &L1Only<Sim>, action: Action) -> Outcome<Chain> {
        let now = Now { uptime_us: 5_000_000, unix_s: 1_800_000_000 };
        let mut executor = Executor::new(1, |operation, now| orchestrator.execute(operation, now));
        let key = Key::new(b"k").expect("short");
        match executor.execute(Operation::new(key, action), 1, (), now) {
            Execution::Done(outcome) => return outcome,
            Execution::Waiting => {}
        }
        let mut outcome = None;
        for _ in 0..20 {
            orchestrator.turn(now);
            executor.run_woken(now, Outcome::share, |(), done| outcome = Some(done));
        }
        outcome.expect("it has finished")
    }

    #[test]
    fn a_set_too_large_removes_the_item_of_an_unreachable_tier() {
        let l1 = L1Only::new(Sim::new("L1", &Log::default(), 1, Odds::default()));
        l1.l1().put(b"k", b"old", Expiry::NEVER);
        l1.l1().lose(10);
        assert!(matches!(run(&l1, Action::StoreTooLarge), Outcome::TooLarge));
        // It is reachable by now.
        for _ in 0..20 {
            l1.turn(Now::default());
        }
        assert!(matches!(run(&l1, Action::Get), Outcome::Miss), "the old value is gone");
    }

    #[test]
    fn a_set_without_room_removes_the_item_though_the_tier_is_out_of_reach() {
        let l1 = L1Only::new(Sim::new("L1", &Log::default(), 1, Odds::default()));
        l1.l1().put(b"k", b"old", Expiry::NEVER);
        l1.l1().lose(10);
        assert!(matches!(run(&l1, Action::StoreNoRoom), Outcome::OutOfMemory));
        for _ in 0..20 {
            l1.turn(Now::default());
        }
        assert!(matches!(run(&l1, Action::Get), Outcome::Miss), "the old value is gone");
    }
}
