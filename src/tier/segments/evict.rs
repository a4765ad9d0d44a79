//! Emptying segments: eviction, expiry, compaction, and handing memory to the index.
//!
//! One segment at a time is scanned, record by record, in steps that are limited in points: about
//! 20 ns each. What is dead is passed over, what has expired or was flushed is removed, and of the
//! rest what was used is copied forward. At the end the segment is free, or waits for its readers.
//!
//! Which segment is next:
//!
//! 1. the one next to the index, if that asks for memory;
//! 2. one whose records have all expired or were flushed;
//! 3. if too few are free: one with so few live bytes that copying them costs less than they give;
//! 4. the oldest of the small queue while that has more than its share, else of the main queue.
//!
//! Free segments are kept ahead of use, by every turn and by every new record in proportion to its
//! bytes and to what is missing. The closer to none, the more is evicted of what would be spared.

use super::header;
use super::index::IndexEntry;
use super::record::{self, RecordHead, RecordKind};
use super::scan::{AHEAD, SegmentScan, Why};
use super::store::SegmentStore;
use super::table::{NIL, SEGMENT_HEADER_BYTES, SegmentQueue, SegmentState};
use crate::base::clock::{Expiry, Now};

/// What is looked at and done, in points.
const RECORD_POINTS: u32 = 1;
const LIVE_POINTS: u32 = 8;
const BYTES_PER_POINT: usize = 128;

/// Most points of a turn, of a new record, and of one for which nothing is free.
const TURN_POINTS: u32 = 2000;
const NEW_POINTS: u32 = 1500;
const AT_ONCE_POINTS: u32 = 2500;

/// How far ahead of the record that is looked at next its segment's bytes are prefetched.
const SCAN_AHEAD_BYTES: usize = 1024;

/// The small queue's share (1/n) of live bytes.
const SMALL_SHARE: u64 = 10;

/// Uses that a record of the small queue needs to get into the main queue.
const SPARED_FREQUENCY: u8 = 1;

/// Segments that only readers hold come to this share (1/n) by eviction.
const HELD_SHARE: u32 = 16;

/// Buckets of the index that a turn merges.
const MERGES: usize = 16;

/// Segments that a look around takes in.
const LOOKS: u32 = 8;

/// How long it takes to look at all segments while there is enough that is free, in microseconds.
const LOOK_PERIOD_US: u64 = 60 * 1_000_000;

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Reclaimed,
    Evicted,
    Kept { queue: SegmentQueue, frequency: u8 },
}

impl SegmentStore {
    /// Bounded work of a turn: what has expired is removed, and free segments are made ahead.
    pub fn turn(&mut self, now: Now) {
        self.flush_if_due(now);
        self.note_time(now);
        let mut points = match self.has_waiting_readers() {
            true => self.limit_readers(TURN_POINTS, now),
            false => TURN_POINTS,
        };
        if self.sweep.is_running() {
            // It frees nothing before its end: if there is need, one segment after another is
            // emptied in the meantime.
            let is_short = self.table.free() <= self.reserve;
            let sweep_points = if is_short { points / 2 } else { points };
            points -= sweep_points - self.sweep_some(sweep_points, now);
        }
        self.step(points, now);
        self.shrink_index();
    }

    /// Work that a new record of `bytes` does for the room that it takes.
    #[inline(always)]
    pub(super) fn pay(&mut self, bytes: usize, now: Now) {
        self.at_once_points = AT_ONCE_POINTS;
        if bytes > self.table.segment_bytes() / 16 {
            self.keep_pressed(now);
        }
        if self.table.free() < self.free_wanted(now) || self.is_index_short {
            self.pay_some(bytes, now);
        }
    }

    #[inline(never)]
    fn pay_some(&mut self, bytes: usize, now: Now) {
        let wanted = self.free_wanted(now);
        let missing = wanted.saturating_sub(self.table.free());
        // Of ten records some seven may be copied before three are gone: four times as much as is
        // taken keeps pace with that, and more makes up for what is missing.
        let factor = 4 + 28 * missing / wanted;
        let points = factor * (LIVE_POINTS + (bytes / BYTES_PER_POINT) as u32 + 1);
        let mut points = points.min(NEW_POINTS);
        if self.sweep.is_running() && self.table.free() > self.reserve {
            points = self.sweep_some(points, now);
        }
        self.step(points, now);
    }

    /// Work for an item for which there is no room: all of its pieces together have one share.
    #[cold]
    pub(super) fn pay_at_once(&mut self, now: Now) {
        self.press(now);
        self.at_once_points = self.step(self.at_once_points, now);
    }

    /// Does about so much, unless there is less to do; returns how much is left of it.
    pub(super) fn step(&mut self, points: u32, now: Now) -> u32 {
        let mut left = points as i32;
        while left > 0 {
            if self.scan.is_none() {
                self.look_around(now);
                self.scan = self.choose(now);
                left -= LOOKS as i32;
                let is_short = self.scan.is_none() && self.table.free() <= 1;
                if is_short && self.take_paused(now) {
                    continue;
                }
            }
            let Some(mut scan) = self.scan.take() else { break };
            self.look_ahead(&mut scan);
            if scan.len == 0 {
                self.finish(&scan);
                continue;
            }
            let (offset, hash) = scan.ahead[scan.first];
            scan.first = (scan.first + 1) % AHEAD;
            scan.len -= 1;
            let place = self.table.start(scan.segment) + offset as usize;
            let why = scan.why;
            self.scan = Some(scan);
            left -= self.empty_record(place, hash, why, now) as i32;
        }
        left.max(0) as u32
    }

    /// Prefetches the buckets of the next records.
    #[inline]
    fn look_ahead(&self, scan: &mut SegmentScan) {
        let start = self.table.start(scan.segment);
        let is_small = self.table.get(scan.segment).queue == SegmentQueue::Small;
        while scan.len < AHEAD && scan.next < scan.end {
            let place = start + scan.next;
            // Nobody has looked at these bytes for long, and the CPU does not see the pattern:
            // other work lies between two records.
            self.region.prefetch_record(place + SCAN_AHEAD_BYTES);
            let head = record::head(&self.region, place);
            if head.is_live() {
                let hash = match head.kind() {
                    RecordKind::Piece => self.owner_of_piece(place, head).0,
                    _ => self.hash(head.key(&self.region, place)),
                };
                let address = self.index.address(hash);
                self.index.prefetch(&self.region, address);
                if is_small {
                    self.index.prefetch_ghosts(&self.region, address);
                }
                scan.ahead[(scan.first + scan.len) % AHEAD] = (scan.next as u32, hash);
                scan.len += 1;
            }
            scan.next += head.bytes(&self.region);
        }
    }

    /// Decides about a record and carries that out; returns what it cost.
    #[inline]
    fn empty_record(&mut self, place: usize, hash: u64, why: Why, now: Now) -> u32 {
        self.counts.scanned += 1;
        let head = record::head(&self.region, place);
        if !head.is_live() {
            return RECORD_POINTS;
        }
        if head.kind() == RecordKind::Piece {
            return self.empty_piece((place, head), hash, why, now);
        }
        let address = self.index.address(hash);
        let entry = self.index.entry_of(&self.region, address, place);
        let entry = entry.expect("a live record is in the index");
        let expiry = head.expiry(&self.region, place);
        match self.fate(place, entry, expiry, why, now) {
            Fate::Kept { queue, frequency } => {
                if let Some(points) = self.copy_forward((place, head), entry, queue, frequency, now)
                {
                    return points;
                }
                self.count_eviction(entry);
            }
            Fate::Reclaimed => self.count_reclaimed(entry.frequency(), expiry.is_past(now)),
            Fate::Evicted => {
                self.count_eviction(entry);
                if self.table.get(self.table.of(place)).queue == SegmentQueue::Small {
                    self.index.remember(&mut self.region, address);
                }
            }
        }
        let pieces = if head.kind() == RecordKind::Chain { head.body_bytes() / 4 } else { 0 };
        self.remove(entry);
        LIVE_POINTS + pieces as u32
    }

    /// What becomes of a live record.
    #[inline]
    pub(super) fn fate(
        &self,
        place: usize,
        entry: IndexEntry,
        expiry: Expiry,
        why: Why,
        now: Now,
    ) -> Fate {
        let segment = self.table.get(self.table.of(place));
        if segment.sequence < self.flushed_below || expiry.is_past(now) {
            return Fate::Reclaimed;
        }
        let frequency = entry.frequency();
        if why == Why::Compact {
            return Fate::Kept { queue: segment.queue, frequency };
        }
        // With nearly nothing free there is no copying any more.
        let free = self.table.free();
        let strictness = match free {
            0 => 4,
            _ if free <= (self.reserve / 4).max(1) => 1,
            _ => 0,
        };
        match segment.queue {
            SegmentQueue::Small if frequency >= SPARED_FREQUENCY + strictness => {
                Fate::Kept { queue: SegmentQueue::Main, frequency: 0 }
            }
            SegmentQueue::Main if frequency > strictness => {
                Fate::Kept { queue: SegmentQueue::Main, frequency: frequency - 1 }
            }
            _ => Fate::Evicted,
        }
    }

    pub(super) fn count_reclaimed(&mut self, frequency: u8, is_expired: bool) {
        if is_expired {
            self.counts.reclaimed += 1;
            self.counts.reclaimed_unused += u64::from(frequency == 0);
        } else {
            self.counts.flushed += 1;
        }
    }

    /// Copies a record; returns what it cost, or None if there is no room for it.
    pub(super) fn copy_forward(
        &mut self,
        (place, head): (usize, RecordHead),
        entry: IndexEntry,
        queue: SegmentQueue,
        frequency: u8,
        now: Now,
    ) -> Option<u32> {
        let bytes = head.bytes(&self.region);
        let copy = self.copy_record((place, head), queue, now)?;
        self.supersede(entry, frequency, copy);
        Some(LIVE_POINTS + (bytes / BYTES_PER_POINT) as u32)
    }

    /// Copies a record, unpublished.
    fn copy_record(
        &mut self,
        (place, head): (usize, RecordHead),
        queue: SegmentQueue,
        now: Now,
    ) -> Option<usize> {
        let bytes = head.bytes(&self.region);
        let from = *self.table.get(self.table.of(place));
        let expiry = match head.kind() {
            // Its head's is not known here: as long as any in its segment.
            RecordKind::Piece if from.expiry_max_s == super::table::NO_EXPIRY => Expiry::NEVER,
            RecordKind::Piece => Expiry::from_unix_s(from.expiry_max_s),
            _ => head.expiry(&self.region, place),
        };
        let copy = self.append((queue, from.group), bytes, expiry, (0, now))?;
        self.region.copy(place, copy, bytes);
        head.withhold(&mut self.region, copy);
        if head.kind() == RecordKind::Chain {
            record::forget_pins(&mut self.region, head.body_at(copy));
        }
        if head.kind() != RecordKind::Plain {
            self.note_chain(copy);
        }
        self.table.commit(&mut self.region, self.table.of(copy));
        self.counts.moved += 1;
        self.counts.moved_bytes += bytes as u64;
        Some(copy)
    }

    /// As [`SegmentStore::empty_record`], for a piece: it shares its head's fate, but does not
    /// reduce its frequency.
    #[inline(never)]
    fn empty_piece(
        &mut self,
        (place, head): (usize, RecordHead),
        hash: u64,
        why: Why,
        now: Now,
    ) -> u32 {
        let (_, position) = self.owner_of_piece(place, head);
        let address = self.index.address(hash);
        let owner = self
            .index
            .find(&self.region, address, |owner| self.listed_at(owner, position, place).is_some());
        let entry = owner.expect("a live piece has a head");
        let owner = entry.place();
        let owner_head = record::head(&self.region, owner);
        let expiry = owner_head.expiry(&self.region, owner);
        let is_flushed = self.table.get(self.table.of(owner)).sequence < self.flushed_below;
        let fate = match self.fate(place, entry, expiry, why, now) {
            _ if is_flushed => Fate::Reclaimed,
            fate => fate,
        };
        match fate {
            Fate::Kept { queue, .. } => {
                if self.move_piece((place, head), queue, (entry, position), now).is_some() {
                    return LIVE_POINTS + (head.bytes(&self.region) / BYTES_PER_POINT) as u32;
                }
                self.count_eviction(entry);
            }
            Fate::Reclaimed => self.count_reclaimed(entry.frequency(), expiry.is_past(now)),
            Fate::Evicted => self.count_eviction(entry),
        }
        self.remove(entry);
        LIVE_POINTS + (owner_head.body_bytes() / 4) as u32
    }

    fn move_piece(
        &mut self,
        (place, head): (usize, RecordHead),
        queue: SegmentQueue,
        (entry, position): (IndexEntry, usize),
        now: Now,
    ) -> Option<()> {
        let owner = entry.place();
        let owner_head = record::head(&self.region, owner);
        // Its head is made anew while somebody reads by it.
        let new_owner = if self.is_unheld(owner) {
            None
        } else {
            let queue = self.table.get(self.table.of(owner)).queue;
            Some(self.copy_record((owner, owner_head), queue, now)?)
        };
        // Its segment may be sealed by the next copy, and would be empty.
        new_owner.inspect(|&new_owner| self.add_draft(new_owner, 1));
        let copy = self.copy_record((place, head), queue, now);
        let Some(copy) = copy else {
            new_owner.inspect(|&new_owner| self.add_draft(new_owner, -1));
            return None;
        };
        let listed_at = self.listed_at(new_owner.unwrap_or(owner), position, place);
        head.publish(&mut self.region, copy);
        record::set_place(&mut self.region, listed_at.expect("a piece is listed"), copy);
        if let Some(new_owner) = new_owner {
            self.supersede(entry, entry.frequency(), new_owner);
            self.add_draft(new_owner, -1);
        }
        head.bury(&mut self.region, place);
        self.table.add_live(copy, head.bytes(&self.region));
        if self.table.remove_live(place, head.bytes(&self.region)) {
            self.retire_if_empty(self.table.of(place));
        }
        Some(())
    }

    /// An emptied segment is free, or waits for its readers.
    fn finish(&mut self, scan: &SegmentScan) {
        let segment = scan.segment;
        self.counts.emptied += 1;
        self.retire_if_empty(segment);
        debug_assert_eq!(self.table.get(segment).live_records, 0);
        if self.is_index_short && segment == self.table.boundary() {
            self.hand_over();
        }
    }

    /// Merges a few buckets of an index with few entries, and takes back what it needs no more.
    #[inline]
    fn shrink_index(&mut self) {
        if self.index.is_sparse() && !self.sweep.is_running() {
            self.shrink_index_some();
        }
    }

    #[cold]
    fn shrink_index_some(&mut self) {
        for _ in 0..MERGES {
            if !self.index.is_sparse() || !self.index.shrink(&mut self.region) {
                break;
            }
        }
        self.forget_foreseen();
        if self.table.has_given()
            && self.index.retreat(self.table.bottom() - self.table.segment_bytes())
        {
            self.table.take_back(&mut self.region);
            header::set_segments(&mut self.region, self.table.count());
        }
    }

    /// Gives the segment next to the index to the index, if it is free.
    fn hand_over(&mut self) {
        if self.table.get(self.table.boundary()).state != SegmentState::Free {
            return;
        }
        self.table.hand_over();
        header::set_segments(&mut self.region, self.table.count());
        self.index.extend(self.table.bottom());
        self.is_index_short = false;
    }

    /// Takes in a few more segments. Unless memory is short, all are looked at once a minute.
    fn look_around(&mut self, now: Now) {
        if self.table.free() >= self.reserve && now.uptime_us < self.look.next_us {
            return;
        }
        let period_us = LOOK_PERIOD_US * u64::from(LOOKS) / u64::from(self.table.count());
        self.look.next_us = now.uptime_us + period_us;
        for _ in 0..LOOKS.min(self.table.count()) {
            let segment = self.look.next;
            self.look.next = if segment + 1 >= self.table.count() { 0 } else { segment + 1 };
            if segment >= self.table.count() || !self.may_be_emptied(segment) {
                continue;
            }
            if self.is_dead(segment, now) {
                // The rest is looked at when this one is empty: there may be more of them.
                self.look.dead = segment;
                self.look.next_us = 0;
                break;
            }
            let entry = self.table.get(segment);
            let is_sparser = match self.look.sparse {
                NIL => true,
                sparse if !self.may_be_emptied(sparse) => true,
                sparse => entry.live_bytes < self.table.get(sparse).live_bytes,
            };
            if entry.state == SegmentState::Sealed && entry.pins == 0 && is_sparser {
                self.look.sparse = segment;
            }
        }
    }

    fn is_dead(&self, segment: u32, now: Now) -> bool {
        let entry = self.table.get(segment);
        entry.sequence < self.flushed_below
            || entry.used > SEGMENT_HEADER_BYTES as u32
                && Expiry::from_unix_s(entry.expiry_max_s).is_past(now)
    }

    pub(super) fn may_be_emptied(&self, segment: u32) -> bool {
        let entry = self.table.get(segment);
        segment < self.table.count()
            && matches!(entry.state, SegmentState::Open | SegmentState::Sealed)
            && entry.drafts == 0
    }

    /// The segment to be emptied next, and what for.
    fn choose(&mut self, now: Now) -> Option<SegmentScan> {
        if self.is_index_short {
            self.take_if_paused(self.table.boundary(), now);
            self.hand_over();
        }
        if self.is_index_short && self.may_be_emptied(self.table.boundary()) {
            return Some(self.begin(self.table.boundary(), Why::Compact));
        }
        let dead = std::mem::replace(&mut self.look.dead, NIL);
        if dead != NIL && self.may_be_emptied(dead) && self.is_dead(dead, now) {
            return Some(self.begin(dead, Why::Compact));
        }
        let wanted = self.free_wanted(now);
        if self.table.free() >= wanted {
            return None;
        }
        let sparse = std::mem::replace(&mut self.look.sparse, NIL);
        if sparse != NIL
            && self.may_be_emptied(sparse)
            && self.table.get(sparse).pins == 0
            && self.table.free() > 1
            && (self.table.get(sparse).live_bytes as usize) < self.table.segment_bytes() / 2
        {
            return Some(self.begin(sparse, Why::Compact));
        }
        let small = self.table.queue_live_bytes(SegmentQueue::Small);
        let is_small_over = small * SMALL_SHARE > self.table.live_bytes();
        let order = match is_small_over {
            true => [SegmentQueue::Small, SegmentQueue::Main],
            false => [SegmentQueue::Main, SegmentQueue::Small],
        };
        if !self.sweep.is_running() {
            self.begin_sweep(order[0], now);
        }
        if self.sweep.is_running() && self.table.free() > self.reserve {
            return None;
        }
        let segment = order.into_iter().find_map(|queue| self.oldest(queue, now))?;
        Some(self.begin(segment, Why::Evict))
    }

    /// A queue's oldest segment that may be emptied. What readers hold would not be free then: it
    /// waits while there is much of that already. If they have paused it is taken last.
    fn oldest(&self, queue: SegmentQueue, now: Now) -> Option<u32> {
        let may_be_held = self.table.held < self.table.count() / HELD_SHARE;
        self.segments_of(queue).find(|&segment| {
            let is_unheld = self.table.get(segment).pins == 0;
            self.may_be_emptied(segment)
                && (is_unheld || may_be_held && !self.has_paused(segment, now))
        })
    }

    /// A queue's segments, the oldest first.
    pub(super) fn segments_of(&self, queue: SegmentQueue) -> impl Iterator<Item = u32> {
        let oldest = self.table.queue(queue).oldest;
        let some = |segment| (segment != NIL).then_some(segment);
        std::iter::successors(some(oldest), move |&segment| some(self.table.newer(segment)))
    }

    pub(super) fn begin(&mut self, segment: u32, why: Why) -> SegmentScan {
        let entry = *self.table.get(segment);
        let open = &mut self.open[entry.queue as usize][usize::from(entry.group)];
        if *open == segment {
            *open = NIL;
            self.table.get_mut(segment).state = SegmentState::Sealed;
        }
        SegmentScan {
            segment,
            why,
            next: SEGMENT_HEADER_BYTES,
            end: entry.used as usize,
            ahead: [(0, 0); AHEAD],
            first: 0,
            len: 0,
        }
    }
}
