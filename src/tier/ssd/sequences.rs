//! The numbers of records: which come next, and which count for nothing.
//!
//! Records have sequences without gaps, in the order in which they took effect. Those below
//! `flushed_below` were flushed; stretches of others were cut off by a recovery (*voids*). This
//! must never give a sequence, or a cas that an item may have, out twice.

use super::format::Void;
use crate::base::clock::{Expiry, Now};

/// The numbers of a log's records.
#[derive(Debug)]
pub(super) struct Sequences {
    next: u64,
    /// Items refused since the last record, for cas numbers that no item has.
    refused: u64,
    flushed_below: u64,
    /// When a flush_all takes effect, as Unix time in seconds by the log's clock; 0: none is to
    /// come.
    flush_at_s: u32,
    voids: Vec<Void>,
}

impl Sequences {
    /// Goes on with `next`, where a recovery found the rest.
    pub(super) fn new(next: u64, flushed_below: u64, flush_at_s: u32, voids: Vec<Void>) -> Self {
        Sequences { next, refused: 0, flushed_below, flush_at_s, voids }
    }

    /// The sequence of the next record.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The sequence of the last record.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// The next sequence was given to a record.
    pub(super) fn advance(&mut self) {
        self.next += 1;
        self.refused = 0;
    }

    /// The cas of an item that the next record makes.
    pub(super) fn next_cas(&self) -> u64 {
        cas_of(self.next)
    }

    /// A cas that no item has or gets.
    pub(super) fn unused_cas(&mut self) -> u64 {
        self.refused = self.refused % 255 + 1;
        self.next_cas() | self.refused
    }

    /// Records below this were flushed.
    pub(super) fn flushed_below(&self) -> u64 {
        self.flushed_below
    }

    /// Whether a record with this sequence was flushed.
    pub(super) fn is_flushed(&self, sequence: u64) -> bool {
        sequence < self.flushed_below
    }

    /// Flushes every record that there is.
    pub(super) fn flush(&mut self) {
        self.flushed_below = self.next;
    }

    /// When a flush_all takes effect, as Unix time in seconds; 0: none is to come.
    pub(super) fn flush_at_s(&self) -> u32 {
        self.flush_at_s
    }

    /// Flushes every record that there is at `at`, or now if that is past or never. Takes the place
    /// of one that is to come.
    pub(super) fn flush_at(&mut self, at: Expiry, now: Now) {
        if at == Expiry::NEVER || at.is_past(now) {
            self.flush_at_s = 0;
            self.flush();
        } else {
            self.flush_at_s = at.unix_s();
        }
    }

    /// Lets a flush_all take effect whose time has come. Whether one did.
    pub(super) fn tick(&mut self, now: Now) -> bool {
        let is_due = self.flush_at_s != 0 && self.flush_at_s <= now.unix_s;
        if is_due {
            self.flush_at_s = 0;
            self.flush();
        }
        is_due
    }

    /// Whether a recovery cut a record with this sequence off.
    pub(super) fn is_void(&self, sequence: u64) -> bool {
        self.voids.iter().any(|void| void.first <= sequence && sequence <= void.last)
    }

    /// What recoveries cut off.
    pub(super) fn voids(&self) -> &[Void] {
        &self.voids
    }

    /// Forgets what was cut off below `first`, which no segment has any more.
    pub(super) fn forget_voids_below(&mut self, first: u64) {
        self.voids.retain(|void| void.last >= first);
    }
}

/// The cas of an item that became what it is with this record.
fn cas_of(sequence: u64) -> u64 {
    sequence << 8 & ((1 << 62) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { uptime_us: 0, unix_s: 1_000 };

    fn sequences() -> Sequences {
        Sequences::new(5, 2, 0, vec![Void { first: 3, last: 4 }])
    }

    #[test]
    fn no_refused_item_gets_a_cas_that_an_item_has() {
        let mut sequences = sequences();
        let mut stored = Vec::new();
        let mut refused = Vec::new();
        for i in 0..300 {
            refused.push(sequences.unused_cas());
            if i % 3 == 0 {
                stored.push(sequences.next_cas());
                sequences.advance();
            }
        }
        assert!(stored.is_sorted_by(|a, b| a < b));
        assert!(refused.iter().all(|cas| !stored.contains(cas)));
        assert_eq!(cas_of(1 << 60), 0, "two bits are the orchestrator's");
    }

    #[test]
    fn a_flush_takes_effect_at_its_time_and_hits_what_is_there_then() {
        let mut sequences = sequences();
        assert!(sequences.is_flushed(1) && !sequences.is_flushed(2));
        sequences.flush_at(Expiry::from_unix_s(1_010), NOW);
        assert!(!sequences.tick(NOW) && sequences.flushed_below() == 2);
        sequences.advance();
        assert!(sequences.tick(Now { unix_s: 1_010, ..NOW }));
        assert_eq!((sequences.flushed_below(), sequences.flush_at_s()), (6, 0));
        assert!(!sequences.tick(Now { unix_s: 1_011, ..NOW }), "once");
        sequences.advance();
        sequences.flush_at(Expiry::from_unix_s(2_000), NOW);
        sequences.flush_at(Expiry::NEVER, NOW);
        assert_eq!((sequences.flushed_below(), sequences.flush_at_s()), (7, 0));
    }

    #[test]
    fn voids_are_known_until_their_segments_are_gone() {
        let mut sequences = sequences();
        assert_eq!([2, 3, 4, 5].map(|it| sequences.is_void(it)), [false, true, true, false]);
        sequences.forget_voids_below(4);
        assert_eq!(sequences.voids().len(), 1);
        sequences.forget_voids_below(5);
        assert!(!sequences.is_void(4));
    }
}
