//! Where the next record goes: in the open segment of its queue and group, or in one that is opened
//! for it.
//!
//! Nothing here writes a record, or evicts more than a new record may.

use super::record::WORD_BYTES;
use super::store::SegmentStore;
use super::table::{NIL, NO_EXPIRY, SEGMENT_HEADER_BYTES, SegmentQueue, SegmentState};
use crate::base::clock::{Expiry, Now};

/// How far ahead of a new record its segment's bytes are prefetched.
const APPEND_AHEAD_BYTES: usize = 512;

impl SegmentStore {
    /// Bytes that are left in the open segment of a queue and group.
    #[inline(always)]
    pub(super) fn room(&self, queue: SegmentQueue, group: u8) -> usize {
        match self.open[queue as usize][usize::from(group)] {
            NIL => 0,
            segment => {
                let used = self.table.get(segment).used as usize;
                self.table.segment_bytes() - WORD_BYTES - used
            }
        }
    }

    /// Most bytes that a segment can have of records.
    pub(super) fn room_max(&self) -> usize {
        self.table.segment_bytes() - WORD_BYTES - SEGMENT_HEADER_BYTES
    }

    /// A place for a record of `bytes` in an open segment. The last free segments are not for new
    /// records: without them none could be emptied.
    #[inline(always)]
    pub(super) fn append(
        &mut self,
        (queue, group): (SegmentQueue, u8),
        bytes: usize,
        expiry: Expiry,
        (keep, now): (u32, Now),
    ) -> Option<usize> {
        if self.room(queue, group) < bytes {
            self.open_segment(queue, group, bytes, (keep, now))?;
        }
        let segment = self.open[queue as usize][usize::from(group)];
        let entry = self.table.get_mut(segment);
        let at = entry.used as usize;
        entry.used += bytes as u32;
        let expiry_s = if expiry == Expiry::NEVER { NO_EXPIRY } else { expiry.unix_s() };
        entry.expiry_max_s = entry.expiry_max_s.max(expiry_s);
        let place = self.table.start(segment) + at;
        // Of the records to come.
        self.region.prefetch_record(place + APPEND_AHEAD_BYTES);
        Some(place)
    }

    #[cold]
    #[inline(never)]
    fn open_segment(
        &mut self,
        queue: SegmentQueue,
        group: u8,
        bytes: usize,
        (keep, now): (u32, Now),
    ) -> Option<()> {
        if self.table.free() <= keep || bytes > self.room_max() {
            return None;
        }
        self.seal(queue, group);
        let sequence = self.next_sequence();
        let segment = self.table.open(&mut self.region, sequence, (queue, group), now.unix_s)?;
        self.open[queue as usize][usize::from(group)] = segment;
        Some(())
    }

    /// Adds no more to the open segment of a queue and group.
    pub(super) fn seal(&mut self, queue: SegmentQueue, group: u8) {
        let open = &mut self.open[queue as usize][usize::from(group)];
        let segment = std::mem::replace(open, NIL);
        if segment == NIL {
            return;
        }
        self.table.get_mut(segment).state = SegmentState::Sealed;
        self.retire_if_empty(segment);
    }

    pub(super) fn retire_if_empty(&mut self, segment: u32) {
        let entry = self.table.get(segment);
        let is_scanned = self.scan.as_ref().is_some_and(|scan| scan.segment == segment);
        if entry.live_records == 0
            && entry.drafts == 0
            && entry.state == SegmentState::Sealed
            && !is_scanned
        {
            self.table.retire(&mut self.region, segment);
        }
    }

    /// A place for a new record, for which something is evicted at once if there is none.
    #[inline(always)]
    pub(super) fn append_paying(
        &mut self,
        to: (SegmentQueue, u8),
        bytes: usize,
        expiry: Expiry,
        now: Now,
    ) -> Option<usize> {
        match self.append(to, bytes, expiry, (1, now)) {
            Some(place) => Some(place),
            None => self.append_at_once(to, bytes, expiry, now),
        }
    }

    #[cold]
    #[inline(never)]
    fn append_at_once(
        &mut self,
        to: (SegmentQueue, u8),
        bytes: usize,
        expiry: Expiry,
        now: Now,
    ) -> Option<usize> {
        self.pay_at_once(now);
        self.append(to, bytes, expiry, (1, now))
    }
}
