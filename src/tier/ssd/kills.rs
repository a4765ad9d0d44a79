//! Records that must not be found again, whose tombstones are to come.
//!
//! First come, first served. This must never hold more than its limit: who finds it full has to
//! give everything up.

use std::collections::VecDeque;

use super::format::Link;
use crate::base::limits::SSD_KILLS_MAX;

/// The records that wait for a tombstone.
#[derive(Debug)]
pub(super) struct Kills {
    waiting: VecDeque<Link>,
    /// So many of them, from the first on, are of records that a failed write lost or of what those
    /// had killed.
    lost: usize,
    /// How many ever waited.
    queued: u64,
}

impl Kills {
    pub(super) fn new() -> Kills {
        // All at once, though hardly ever used: to grow would copy them all in one turn. What is
        // not used takes no memory.
        Kills { waiting: VecDeque::with_capacity(SSD_KILLS_MAX), lost: 0, queued: 0 }
    }

    /// Adds one; false if there is no room.
    pub(super) fn push(&mut self, link: Link) -> bool {
        let has_room = self.waiting.len() < SSD_KILLS_MAX;
        if has_room {
            self.waiting.push_back(link);
            self.queued += 1;
        }
        has_room
    }

    /// The next one that gets its tombstone.
    pub(super) fn first(&self) -> Option<Link> {
        self.waiting.front().copied()
    }

    /// The first one has its tombstone, or needs none.
    pub(super) fn pop(&mut self) {
        self.waiting.pop_front();
        self.lost = self.lost.saturating_sub(1);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All that wait now are there because of a failed write, or before something that is.
    pub(super) fn mark_lost(&mut self) {
        self.lost = self.waiting.len();
    }

    /// Whether any is of what a failed write lost: no checkpoint begins before they have their
    /// tombstones.
    pub(super) fn has_lost(&self) -> bool {
        self.lost > 0
    }

    /// None waits any more: everything was given up.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.lost = 0;
    }

    /// How many ever waited.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    /// How many of those wait no more.
    pub(super) fn done(&self) -> u64 {
        self.queued - self.waiting.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_ones_are_counted_until_the_last_of_them_has_its_tombstone() {
        let mut kills = Kills::new();
        assert!(kills.push(Link::new(1, 1)) && kills.push(Link::new(2, 1)));
        assert!(!kills.has_lost());
        kills.mark_lost();
        assert!(kills.push(Link::new(3, 1)));
        assert_eq!(kills.first(), Some(Link::new(1, 1)));
        kills.pop();
        assert!(kills.has_lost());
        kills.pop();
        assert!(!kills.has_lost() && !kills.is_empty());
        assert_eq!((kills.queued(), kills.done()), (3, 2));
        kills.pop();
        assert!(kills.is_empty());
        assert_eq!((kills.queued(), kills.done()), (3, 3));
    }

    #[test]
    fn a_full_line_takes_none() {
        let mut kills = Kills::new();
        assert!((0..SSD_KILLS_MAX as u64).all(|i| kills.push(Link::new(i, 1))));
        assert!(!kills.push(Link::new(0, 1)));
        assert_eq!(kills.queued(), SSD_KILLS_MAX as u64);
        kills.mark_lost();
        kills.clear();
        assert!(kills.is_empty() && !kills.has_lost() && kills.push(Link::new(0, 1)));
        assert_eq!(
            (kills.queued(), kills.done()),
            (SSD_KILLS_MAX as u64 + 1, SSD_KILLS_MAX as u64)
        );
    }
}
