//! Emptying many segments of small records at once, through the index.
//!
//! Where a store is full of small records and room for large ones is asked for, emptying one
//! segment after another costs two cache misses for each record. A sweep goes through the index
//! instead, bucket by bucket, and removes all entries that name records of the segments that it
//! empties: a few nanoseconds for each entry that there is, so it pays off for many segments. What
//! was used is copied forward as ever.
//!
//! Records are not marked as dead here. Their segments are therefore taken out of sight of a later
//! start before the first entry is removed. A segment with pieces or heads of long values is not
//! swept: pieces have no entries.

use super::evict::Fate;
use super::record;
use super::scan::{SWEEP_SEGMENTS_MAX, Why};
use super::store::SegmentStore;
use super::table::{NIL, SegmentQueue, SegmentState};
use crate::base::clock::Now;

/// What a bucket costs, in points.
const BUCKET_POINTS: usize = 2;

/// What it costs in addition to remove an entry.
const EVICTED_POINTS: usize = 1;

/// What a record would cost if its segment were emptied by itself.
const RECORD_POINTS: usize = 8;

/// Most segments of a sweep, as a share (1/n) of all.
const SEGMENTS_SHARE: u32 = 8;

/// How long many segments are kept free after the last record that needs it, in microseconds.
const PRESSED_US: u64 = 1_000_000;

impl SegmentStore {
    /// There was no room for a record.
    #[cold]
    pub(super) fn press(&mut self, now: Now) {
        self.sweep.pressed_until_us = now.uptime_us + PRESSED_US;
    }

    /// A record was made that needs much room: there may be more such records.
    #[inline]
    pub(super) fn keep_pressed(&mut self, now: Now) {
        if self.sweep.pressed_until_us > now.uptime_us {
            self.press(now);
        }
    }

    /// Free segments that are kept ahead of use now.
    #[inline]
    pub(super) fn free_wanted(&self, now: Now) -> u32 {
        if self.sweep.pressed_until_us > now.uptime_us {
            self.reserve.max(self.table.count() / SEGMENTS_SHARE)
        } else {
            self.reserve
        }
    }

    /// Begins to empty the oldest segments of a queue together, if that is cheaper than one after
    /// the other.
    pub(super) fn begin_sweep(&mut self, queue: SegmentQueue, now: Now) {
        if self.sweep.pressed_until_us <= now.uptime_us {
            return;
        }
        let most = ((self.table.count() / SEGMENTS_SHARE) as usize).min(SWEEP_SEGMENTS_MAX);
        let oldest = self.table.queue(queue).oldest;
        let (mut records, mut next) = (0, oldest);
        for _ in 0..most {
            next = self.sweepable(next);
            if next == NIL {
                break;
            }
            records += self.table.get(next).live_records as usize;
            next = self.table.newer(next);
        }
        if records * RECORD_POINTS < BUCKET_POINTS * self.index.buckets() {
            // What there is now is emptied fast enough.
            self.sweep.pressed_until_us = 0;
            return;
        }
        next = oldest;
        for _ in 0..most {
            let segment = self.sweepable(next);
            if segment == NIL {
                break;
            }
            next = self.table.newer(segment);
            self.table.begin_sweep(&mut self.region, segment);
            self.sweep.add(segment);
        }
    }

    /// The first segment from this one on that can be swept.
    fn sweepable(&self, mut segment: u32) -> u32 {
        let can = |segment| {
            let entry = self.table.get(segment);
            let is_full = entry.state == SegmentState::Sealed;
            is_full && entry.pins == 0 && entry.drafts == 0 && !entry.has_chains
        };
        while segment != NIL && !can(segment) {
            segment = self.table.newer(segment);
        }
        segment
    }

    /// Looks at buckets for about so many points; returns what is left of them.
    pub(super) fn sweep_some(&mut self, points: u32, now: Now) -> u32 {
        let mut left = points as i32;
        while left > 0 {
            let Some(bucket) = self.index.next_swept() else {
                self.end_sweep();
                break;
            };
            left -= self.sweep_bucket(bucket, now) as i32;
        }
        left.max(0) as u32
    }

    /// Empties what is being emptied; not bounded.
    pub(super) fn finish_sweep(&mut self, now: Now) {
        while self.sweep.is_running() {
            self.sweep_some(u32::MAX >> 1, now);
        }
    }

    #[inline]
    fn sweep_bucket(&mut self, bucket: usize, now: Now) -> usize {
        let mut points = BUCKET_POINTS;
        for entry in self.index.entries_in(&self.region, bucket) {
            let segment = self.table.of(entry.place());
            if !self.sweep.has(segment) {
                continue;
            }
            if entry.frequency() > 0 {
                points += self.sweep_used(entry.place(), entry, now);
                continue;
            }
            self.count_eviction(entry);
            self.index.remove(&mut self.region, entry);
            self.table.remove_live(entry.place(), 0);
            points += EVICTED_POINTS;
        }
        points
    }

    /// What was used is copied forward, if there is room for it.
    #[cold]
    fn sweep_used(&mut self, place: usize, entry: super::index::IndexEntry, now: Now) -> usize {
        let head = record::head(&self.region, place);
        let expiry = head.expiry(&self.region, place);
        match self.fate(place, entry, expiry, Why::Evict, now) {
            Fate::Kept { queue, frequency } => {
                if let Some(points) = self.copy_forward((place, head), entry, queue, frequency, now)
                {
                    return points as usize;
                }
                self.count_eviction(entry);
            }
            Fate::Reclaimed => self.count_reclaimed(entry.frequency(), expiry.is_past(now)),
            Fate::Evicted => self.count_eviction(entry),
        }
        self.remove(entry);
        RECORD_POINTS
    }

    /// What was swept is free now, or waits for its readers.
    fn end_sweep(&mut self) {
        if !self.index.end_sweep() {
            return;
        }
        while let Some(segment) = self.sweep.segments.pop() {
            self.table.retire(&mut self.region, segment);
            self.counts.emptied += 1;
        }
        self.sweep.has.fill(0);
        self.counts.sweeps += 1;
    }
}
