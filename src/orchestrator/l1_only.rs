//! One tier answers everything.

use super::{Action, Operation, Orchestrator};
use crate::buffer::Body;
use crate::clock::Now;
use crate::tier::{Outcome, Tier};

/// Orchestrates a single tier.
#[derive(Debug)]
pub struct L1Only<T> {
    l1: T,
}

impl<T: Tier> L1Only<T> {
    /// Answers everything from `l1`.
    pub fn new(l1: T) -> L1Only<T> {
        L1Only { l1 }
    }

    /// The tier.
    pub fn l1(&self) -> &T {
        &self.l1
    }
}

impl<T: Tier> Orchestrator for L1Only<T> {
    type Value = T::Value;

    #[inline(always)]
    fn try_now(
        &self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Option<Outcome<T::Value>> {
        self.l1.try_now(key, action, value, now)
    }

    async fn execute(&self, operation: Operation, now: Now) -> Outcome<T::Value> {
        let Operation { key, action, value, port: _ } = operation;
        match action {
            Action::Get => self.l1.get(&key, now).await,
            Action::GetWithExpiry => self.l1.get_with_expiry(&key, now).await,
            Action::GetAndTouch { expiry } => self.l1.get_and_touch(&key, expiry, now).await,
            Action::Store(store) => self.l1.store(&key, store, &value, now).await,
            Action::StoreTooLarge => {
                self.l1.delete(&key, 0, now).await;
                Outcome::TooLarge
            }
            Action::Delete { cas } => self.l1.delete(&key, cas, now).await,
            Action::Touch { expiry } => self.l1.touch(&key, expiry, now).await,
            Action::Arithmetic(arithmetic) => self.l1.arithmetic(&key, arithmetic, now).await,
            Action::FlushAll { at } => self.l1.flush_all(at, now).await,
        }
    }

    fn is_far(&self) -> bool {
        self.l1.is_far()
    }

    #[inline]
    fn prefetch(&self, key: &[u8]) -> u32 {
        self.l1.prefetch(key)
    }

    #[inline]
    fn prefetch_more(&self, foreseen: u32) {
        self.l1.prefetch_more(foreseen);
    }

    fn turn(&self, now: Now) -> usize {
        self.l1.turn(now)
    }

    fn flush(&self, now: Now) {
        self.l1.flush(now);
    }

    fn wake_at_us(&self) -> u64 {
        self.l1.wake_at_us()
    }
}
