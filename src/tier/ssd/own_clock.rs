//! The log's own clock.
//!
//! It never goes back, from one start to the next: where the host's was set back the log's is
//! ahead, and an item lives no longer than was asked for when it was stored.

use crate::base::clock::{Expiry, Now};

/// The log's clock as it was last read, and how far it is ahead of the host's.
#[derive(Debug)]
pub(super) struct OwnClock {
    now: Now,
    ahead_s: u32,
}

impl OwnClock {
    /// One that is not ahead.
    pub(super) fn new(now: Now) -> OwnClock {
        OwnClock { now, ahead_s: 0 }
    }

    /// It is ahead by so many seconds.
    pub(super) fn set_ahead_s(&mut self, ahead_s: u32) {
        self.ahead_s = ahead_s;
    }

    /// Whether it shows what the host's shows.
    pub(super) fn is_hosts(&self) -> bool {
        self.ahead_s == 0
    }

    /// What it showed when it was last read.
    pub(super) fn now(&self) -> Now {
        self.now
    }

    /// Reads it in a turn: `now` is by this clock.
    pub(super) fn set(&mut self, now: Now) {
        self.now = now;
    }

    /// The same between turns, where what is older counts for nothing.
    pub(super) fn see(&mut self, now: Now) {
        if now.uptime_us >= self.now.uptime_us {
            self.now = now;
        }
    }

    /// What it shows when the host's says `now`.
    pub(super) fn at(&self, now: Now) -> Now {
        Now { unix_s: now.unix_s.saturating_add(self.ahead_s), ..now }
    }

    /// A time of the host's clock on this one.
    pub(super) fn own_expiry(&self, expiry: Expiry) -> Expiry {
        match expiry {
            Expiry::NEVER | Expiry::PAST => expiry,
            _ => Expiry::from_unix_s(expiry.unix_s().saturating_add(self.ahead_s)),
        }
    }

    /// A time of this clock on the host's.
    pub(super) fn host_expiry(&self, expiry_s: u32) -> Expiry {
        match expiry_s {
            0 | u32::MAX => Expiry::from_unix_s(expiry_s),
            _ => Expiry::from_unix_s(expiry_s.saturating_sub(self.ahead_s).max(1)),
        }
    }
}
