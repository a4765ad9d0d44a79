//! Which flushes of all keys are in flight, and which delayed one is pending.
//!
//! This module never calls a tier: it only counts.

use std::cell::Cell;

use crate::base::clock::{Expiry, Now};
use crate::base::limits::FLUSH_SKEW_S;

/// Which flushes are in flight. The period in which the tiers may execute a delayed one counts as
/// one more.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    begun: Cell<u64>,
    ended: Cell<u64>,
    delayed: Cell<Delayed>,
}

/// The delayed flush that the tiers have received.
#[derive(Clone, Copy, Debug, Default)]
enum Delayed {
    /// None.
    #[default]
    None,
    /// Pending, for this Unix time in seconds.
    Ahead(u32),
    /// Due at this Unix time, plus or minus the difference between the clocks.
    Due(u32),
}

impl Flushes {
    /// Notes a requested flush. Returns whether it is immediate; then [`Flushes::end`] ends it.
    pub(super) fn begin(&self, at: Expiry, now: Now) -> bool {
        if at == Expiry::NEVER || at.is_past(now) {
            self.begun.set(self.begun.get() + 1);
            return true;
        }
        // A new one replaces the pending one, as in memcached.
        if let Delayed::Due(_) = self.delayed.replace(Delayed::Ahead(at.unix_s())) {
            self.end();
        }
        self.turn(now);
        false
    }

    /// Notes that an immediate flush has finished.
    pub(super) fn end(&self) {
        self.ended.set(self.ended.get() + 1);
    }

    /// Updates the state of the delayed flush.
    #[inline]
    pub(super) fn turn(&self, now: Now) {
        match self.delayed.get() {
            Delayed::None => {}
            Delayed::Ahead(at_s) => {
                if now.unix_s.saturating_add(FLUSH_SKEW_S) >= at_s {
                    self.begun.set(self.begun.get() + 1);
                    self.delayed.set(Delayed::Due(at_s));
                }
            }
            Delayed::Due(at_s) => {
                if now.unix_s > at_s.saturating_add(FLUSH_SKEW_S) {
                    self.end();
                    self.delayed.set(Delayed::None);
                }
            }
        }
    }

    /// The state at the start of an operation, for [`Flushes::is_clear_since`].
    pub(super) fn seen(&self) -> u64 {
        self.ended.get()
    }

    /// Whether no flush has been in flight since then.
    pub(super) fn is_clear_since(&self, seen: u64) -> bool {
        self.begun.get() == seen
    }
}
