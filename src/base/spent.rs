//! Where the time of an operation goes that waits, while somebody watches slow requests.
//!
//! A tier's future says for whose answer it waits, and what polls operations adds up the time
//! between two polls for that tier. Each thread, and so each worker, has its own. While nobody
//! watches, a poll looks at one number. Nothing here decides anything or reads a clock: the time is
//! that of the worker's turn.

use std::cell::Cell;

use super::latency::Level;

thread_local! {
    /// The turn's time in microseconds; 0: nobody watches.
    static NOW_US: Cell<u64> = const { Cell::new(0) };
    /// What the operation waits for that was polled last.
    static AWAITED: Cell<Option<Level>> = const { Cell::new(None) };
    /// Of the operation that ended last.
    static LAST: Cell<Option<Spent>> = const { Cell::new(None) };
}

/// Where the time of an operation went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// When it began, in microseconds of uptime.
    pub begun_us: u64,
    /// It waited for so long for the first tier.
    pub l1_us: u64,
    /// And for the second.
    pub l2_us: u64,
}

/// What is kept of an operation between two polls. While `polled_us` is 0, the rest is of another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    spent: Spent,
    /// When it was polled last; 0: not while somebody watched.
    polled_us: u64,
    awaited: Option<Level>,
}

impl Times {
    /// Another operation begins, which was not polled yet.
    #[inline]
    pub fn forget(&mut self) {
        self.polled_us = 0;
    }

    /// It is about to be polled.
    #[cold]
    pub fn begin(&mut self) {
        let now_us = NOW_US.get();
        if self.polled_us == 0 {
            self.spent = Spent { begun_us: now_us, ..Spent::default() };
        } else {
            let us = now_us.saturating_sub(self.polled_us);
            match self.awaited {
                Some(Level::L1) => self.spent.l1_us += us,
                Some(Level::L2) => self.spent.l2_us += us,
                None => {}
            }
        }
        AWAITED.set(None);
    }

    /// It was polled.
    #[cold]
    pub fn end(&mut self, is_over: bool) {
        if is_over {
            LAST.set(Some(self.spent));
        } else {
            self.polled_us = NOW_US.get();
            self.awaited = AWAITED.get();
        }
    }
}

/// It is this time in microseconds, and somebody watches; 0: nobody does.
pub fn watch(now_us: u64) {
    NOW_US.set(now_us);
    if now_us == 0 {
        LAST.set(None);
    }
}

/// Whether somebody watches.
#[inline]
pub fn is_watched() -> bool {
    NOW_US.get() != 0
}

/// The operation that is polled waits for this tier.
#[inline]
pub fn awaits(level: Level) {
    AWAITED.set(Some(level));
}

/// Of the operation that ended last while somebody watched.
#[inline]
pub fn last() -> Option<Spent> {
    LAST.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_between_polls_is_the_tiers_that_was_awaited() {
        let mut times = Times::default();
        let mut poll = |now_us, awaited: Option<Level>, is_over| {
            watch(now_us);
            times.begin();
            awaited.into_iter().for_each(awaits);
            times.end(is_over);
        };
        poll(100, Some(Level::L1), false);
        poll(130, Some(Level::L2), false);
        // Woken for nothing.
        poll(140, Some(Level::L2), false);
        poll(190, None, false);
        // For something that is no tier's.
        poll(200, None, true);
        assert!(is_watched());
        assert_eq!(last(), Some(Spent { begun_us: 100, l1_us: 30, l2_us: 60 }));
        watch(0);
        assert!(!is_watched());
        assert_eq!(last(), None);
    }
}
