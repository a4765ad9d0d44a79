//! Who holds bytes: readers pin segments, and lose them if they pause while memory is needed.
//!
//! A pin keeps a segment's bytes as they are, whatever becomes of its items. A reader of a chain
//! pins the head's segment and that of each piece; how many read a chain is noted in its head, so
//! that their pins can be undone when the head's segment is taken. What was taken is known by its
//! segment's sequence number, which is another one then. Nothing here may take bytes from a reader
//! that made progress in the time that is allowed for a pause.

use super::record::{self, RecordKind};
use super::scan::Why;
use super::store::{FoundRecord, OpenedRecord, SegmentStore};
use super::table::{SegmentQueue, SegmentState};
use crate::base::clock::Now;
use crate::base::limits::KEPT_SHARE;

/// Most pins with which one more is given: a chain's pieces may need a few more.
const PINS_MAX: u32 = u32::MAX / 2;

/// Memory is scarce with fewer than this fraction (1/n) of the segments free.
const SCARCE_SHARE: u32 = 8;

/// Segments among which it is looked for the one whose readers paused first.
const PAUSED_LOOKS: usize = 64;

impl SegmentStore {
    /// Holds an item's bytes for a reader until [`SegmentStore::close`]. None if its segment has so
    /// many readers that one more could not be counted.
    #[inline(always)]
    pub fn open(&mut self, found: &FoundRecord) -> Option<OpenedRecord> {
        let FoundRecord { place, head, .. } = *found;
        let segment = self.table.of(place);
        let entry = self.table.get_mut(segment);
        if entry.pins >= PINS_MAX {
            return None;
        }
        entry.pins += 1;
        let sequence = entry.sequence;
        let is_chain = head.kind() == RecordKind::Chain;
        if is_chain {
            self.pin_chain(place);
        }
        Some(OpenedRecord::new(place, sequence, self.value_bytes(found), is_chain))
    }

    /// Lets go of an item's bytes.
    #[inline(always)]
    pub fn close(&mut self, opened: &OpenedRecord) {
        let place = opened.place;
        let segment = self.table.of(place);
        if self.table.get(segment).sequence as u32 != opened.sequence {
            return;
        }
        if opened.is_chain() {
            self.unpin_chain(place);
        }
        self.unpin(segment, 1);
    }

    /// Whether bytes of an item that is held were taken.
    #[inline]
    pub fn is_lost(&self, opened: &OpenedRecord) -> bool {
        let place = opened.place;
        self.sequence_of(place) as u32 != opened.sequence
            || self.takes > 0 && opened.is_chain() && self.has_lost_pieces(place)
    }

    #[cold]
    fn has_lost_pieces(&self, place: usize) -> bool {
        let (_, below) = record::pins(&self.region, self.list_of(place));
        self.pieces_of(place).any(|piece| !self.is_pinned_below(self.table.of(piece), below))
    }

    /// Whether a segment is still the one that was pinned while all sequence numbers were below
    /// `below`.
    pub(super) fn is_pinned_below(&self, segment: u32, below: u64) -> bool {
        let sequence = self.table.get(segment).sequence;
        sequence != 0 && sequence < below
    }

    #[cold]
    fn pin_chain(&mut self, place: usize) {
        let list = self.list_of(place);
        let (pins, below) = match record::pins(&self.region, list) {
            (pins, below) if pins > 0 && below > self.begun => (pins, below),
            _ => (0, self.sequence_next),
        };
        record::set_pins(&mut self.region, list, pins + 1, below);
        if pins == 0 {
            let offset = self.table.offset(place) as u32;
            let entry = self.table.get_mut(self.table.of(place));
            let next = std::mem::replace(&mut entry.pinned_head, offset);
            record::set_next_pinned(&mut self.region, list, next);
        }
        self.for_pieces(place, |store, piece| {
            let segment = store.table.of(piece);
            store.table.get_mut(segment).pins += 1;
        });
    }

    #[cold]
    fn unpin_chain(&mut self, place: usize) {
        let list = self.list_of(place);
        let (pins, below) = record::pins(&self.region, list);
        record::set_pins(&mut self.region, list, pins - 1, below);
        if pins == 1 {
            self.unlist_head(place);
        }
        self.for_pieces(place, |store, piece| {
            let segment = store.table.of(piece);
            if store.is_pinned_below(segment, below) {
                store.unpin(segment, 1);
            }
        });
    }

    /// Takes a head without readers out of the list of those that have some.
    fn unlist_head(&mut self, place: usize) {
        let segment = self.table.of(place);
        let (start, offset) = (self.table.start(segment), self.table.offset(place) as u32);
        let next = record::next_pinned(&self.region, self.list_of(place));
        let mut at = self.table.get(segment).pinned_head;
        if at == offset {
            self.table.get_mut(segment).pinned_head = next;
            return;
        }
        while at != 0 {
            let list = self.list_of(start + at as usize);
            at = record::next_pinned(&self.region, list);
            if at == offset {
                return record::set_next_pinned(&mut self.region, list, next);
            }
        }
        unreachable!("a head with readers is listed");
    }

    /// Where the list of the head at `place` is, dead or not.
    fn list_of(&self, place: usize) -> usize {
        record::head(&self.region, place).body_at(place)
    }

    #[inline(always)]
    fn unpin(&mut self, segment: u32, n: u32) {
        let entry = self.table.get_mut(segment);
        entry.pins -= n;
        if entry.pins == 0 && entry.needs_care {
            self.table.end_care(segment);
        }
    }

    /// A reader that waits made progress, or begins to wait.
    pub fn note_progress(&mut self, opened: &OpenedRecord, now: Now) {
        let place = opened.place;
        let segment = self.table.of(place);
        if self.table.get(segment).sequence as u32 != opened.sequence {
            return;
        }
        self.table.note_progress(segment, now.uptime_us);
        if opened.is_chain() {
            let (_, below) = record::pins(&self.region, self.list_of(place));
            self.for_pieces(place, |store, piece| {
                let segment = store.table.of(piece);
                if store.is_pinned_below(segment, below) {
                    store.table.note_progress(segment, now.uptime_us);
                }
            });
        }
    }

    /// Whether readers that wait hold any segment.
    pub fn has_waiting_readers(&self) -> bool {
        self.table.kept > 0
    }

    /// Whether the readers of a segment made no progress for a while.
    pub(super) fn has_paused(&self, segment: u32, now: Now) -> bool {
        let entry = self.table.get(segment);
        entry.read_us > 0 && entry.read_us + self.reader_pause_us <= now.uptime_us
    }

    /// As if so many held an item that nobody more can.
    #[cfg(test)]
    pub fn set_pins(&mut self, opened: &OpenedRecord, pins: u32) {
        let segment = self.table.of(opened.place);
        self.table.get_mut(segment).pins = pins;
    }

    /// Keeps what waiting readers hold within their share while memory is scarce; returns how many
    /// of the points are left.
    #[cold]
    pub(super) fn limit_readers(&mut self, mut points: u32, now: Now) -> u32 {
        while points > 0
            && self.scan.is_none()
            && self.table.kept > self.table.count() / KEPT_SHARE
            && self.table.free() < self.table.count() / SCARCE_SHARE
            && self.take_paused(now)
        {
            points = self.step(points, now);
        }
        points
    }

    /// Frees a segment whose readers have all paused, or begins to empty one: first what nobody
    /// else can find any more. False if there is none.
    #[cold]
    pub(super) fn take_paused(&mut self, now: Now) -> bool {
        if self.table.kept == 0 || now.uptime_us < self.readers_seen_us {
            return false;
        }
        if let Some(segment) = self.paused_and_held(now) {
            self.take(segment);
            return true;
        }
        let queues = [SegmentQueue::Small, SegmentQueue::Main];
        if let Some(segment) = queues.into_iter().find_map(|queue| self.oldest_paused(queue, now)) {
            self.scan = Some(self.begin(segment, Why::Evict));
            return true;
        }
        // To look at all of them for each of many stores would take long.
        self.readers_seen_us = now.uptime_us + 1;
        false
    }

    /// Takes a segment that only readers hold, if they have paused.
    pub(super) fn take_if_paused(&mut self, segment: u32, now: Now) {
        if self.table.get(segment).state == SegmentState::Held && self.has_paused(segment, now) {
            self.take(segment);
        }
    }

    fn paused_and_held(&mut self, now: Now) -> Option<u32> {
        if self.table.held == 0 {
            return None;
        }
        let count = self.table.count();
        let next = self.look.next_held;
        let segment = (0..count).map(|n| (next + n) % count).find(|&segment| {
            self.table.get(segment).state == SegmentState::Held && self.has_paused(segment, now)
        })?;
        self.look.next_held = segment;
        Some(segment)
    }

    /// Of a queue's oldest segments whose readers have paused, the one in which that was first.
    fn oldest_paused(&self, queue: SegmentQueue, now: Now) -> Option<u32> {
        let paused = self
            .segments_of(queue)
            .filter(|&segment| self.may_be_emptied(segment) && self.has_paused(segment, now));
        paused.take(PAUSED_LOOKS).min_by_key(|&segment| self.table.get(segment).read_us)
    }

    /// Frees a segment that only readers hold.
    fn take(&mut self, segment: u32) {
        // The readers of chains whose heads are taken will not find the pieces that they pinned.
        let start = self.table.start(segment);
        let mut offset = self.table.get(segment).pinned_head;
        while offset != 0 {
            let place = start + offset as usize;
            let list = self.list_of(place);
            offset = record::next_pinned(&self.region, list);
            let (pins, below) = record::pins(&self.region, list);
            self.for_pieces(place, |store, piece| {
                let other = store.table.of(piece);
                if other != segment && store.is_pinned_below(other, below) {
                    store.unpin(other, pins);
                }
            });
        }
        self.takes += 1;
        self.table.set_free(segment);
    }
}
