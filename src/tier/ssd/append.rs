//! Adding records, and bringing open segments to the disk.
//!
//! Records of one class go to one open segment, in the order of their sequences. A full segment
//! gets its summary, and its seal once all before is durable. This must never overtake: while a
//! kill waits for its tombstone, no other record is added.

use super::disk::Disk;
use super::format::{ENTRIES_PER_BLOCK, summary_blocks};
use super::format::{
    Entry, HEADER_BLOCKS, Kind, Link, RECORD_HEADER_BYTES, Record, SEAL_BLOCKS, Seal,
    SegmentHeader, Span, encode_summary,
};
use super::log::{Log, Task, cas_of};
use super::open::{Open, Phase};
use super::segments::class_of;
use crate::base::buffer::Body;
use crate::base::clock::Now;
use crate::base::limits::{
    SSD_BLOCK_BYTES, SSD_CROSSING_BYTES_MAX, SSD_KILLS_PER_CALL, SSD_OPEN_SEGMENTS_MAX,
    SSD_UNIT_BYTES, SSD_WRITE_BYTES,
};
use crate::base::stats::Counter;

/// Blocks of a summary that one turn adds.
const SUMMARY_BLOCKS_PER_TURN: u32 = 64;

/// Segments opened at most between two checkpoints that are durable; recovery skips as many
/// numbers.
pub(super) const OPENS_PER_CHECKPOINT: u32 = 512;

/// Why a record is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// For its own sake: a client's item, or one that is kept at reclaim.
    Wish,
    /// A tombstone: without it no space comes back.
    Must,
}

/// Segments that only tombstones open, and that nothing else is added to: so there is room for what
/// waits for its tombstone, and for those that the segment being reclaimed needs, at most one for
/// each of its records, none of which is shorter. While fewer can be opened, nothing but tombstones
/// is added; giving segments up brings them back.
const RESERVE: usize = 2;

/// A record to be added.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewRecord<'a> {
    pub kind: Kind,
    pub hash: u64,
    pub key: &'a [u8],
    /// The value's parts, one behind the other.
    pub value: [Body<'a>; 2],
    pub flags: u32,
    pub expiry_s: u32,
    /// None: of its own.
    pub cas: Option<u64>,
    pub kills: Link,
    pub class: u8,
}

/// A record that was added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Added {
    pub unit: u64,
    pub span: Span,
    pub cas: u64,
}

impl<D: Disk> Log<D> {
    /// The class of an item with this expiry.
    pub(super) fn class(&self, expiry_s: u32, now: Now) -> u8 {
        class_of(expiry_s, now, self.classes)
    }

    /// Length of the longest record, in bytes.
    pub(super) fn record_bytes_max(&self) -> usize {
        let room = super::record_room_bytes(self.segments.segment_bytes() as usize);
        room.min(self.disk.pool().read_bytes_max())
    }

    /// Adds a record. None: there is no room for it now, and nothing was done.
    pub(super) fn append(&mut self, new: &NewRecord<'_>, need: Need) -> Option<Added> {
        let mut record = Record {
            kind: new.kind,
            key_bytes: new.key.len() as u8,
            value_bytes: new.value.iter().map(|part| part.len() as u32).sum(),
            flags: new.flags,
            expiry_s: new.expiry_s,
            incarnation: 0,
            sequence: self.next_sequence,
            cas: new.cas.unwrap_or(cas_of(self.next_sequence)),
            kills: new.kills,
        };
        let len_bytes = record.len_bytes();
        let (at, start) = self.place(new.class, len_bytes, need)?;
        let open = &mut self.opens[at];
        let pool = self.disk.pool();
        if !open.cover(start + len_bytes as u32, || pool.write_buffer()) {
            return None;
        }
        let unit = self.segments.unit(open.segment, start);
        let segment = self.segments.get_mut(open.segment);
        record.incarnation = segment.incarnation;
        let head = record.encode(unit, |take| {
            take(new.key);
            new.value.iter().for_each(|part| part.for_each_piece(&mut *take));
        });
        open.begin(start, start + len_bytes as u32);
        open.add(&head);
        open.add(new.key);
        new.value.iter().for_each(|part| part.for_each_piece(|piece| open.add(piece)));
        let span = Span::of(unit, len_bytes);
        open.entries.push(Entry {
            hash: new.hash,
            kills: new.kills,
            unit: start / SSD_UNIT_BYTES as u32,
            kind: new.kind,
            span,
            sequence: (record.sequence - segment.first_sequence) as u32,
        });
        segment.last_sequence = record.sequence;
        segment.note_expiry(new.expiry_s);
        self.next_sequence += 1;
        self.refused = 0;
        Some(Added { unit, span, cas: record.cas })
    }

    /// The open segment for a record, and where in it the record goes.
    fn place(&mut self, class: u8, len_bytes: usize, need: Need) -> Option<(usize, u32)> {
        let spare = self.spare();
        // Nobody else fills what tombstones have opened of the reserve.
        if need == Need::Wish && spare < RESERVE {
            return None;
        }
        let full = self.filling(|open| open.class == class);
        if let Some(at) = full
            && self.has_room(&self.opens[at], len_bytes)
        {
            return Some((at, self.opens[at].next_start(len_bytes)));
        }
        if spare <= RESERVE {
            // Whatever lives shorter or longer beside it is better than to be stuck.
            let at = self.filling(|open| self.has_room(open, len_bytes));
            if let Some(at) = at.filter(|_| need == Need::Must) {
                return Some((at, self.opens[at].next_start(len_bytes)));
            }
            if spare == 0 || need == Need::Wish {
                return None;
            }
        }
        let at = self.open_segment(class)?;
        if let Some(full) = full {
            self.opens[full].end();
        }
        let start = self.opens[at].next_start(len_bytes);
        self.opens[at].has_room(start, len_bytes).then_some((at, start))
    }

    fn filling(&self, is: impl Fn(&Open) -> bool) -> Option<usize> {
        self.opens.iter().position(|open| open.phase == Phase::Filling && is(open))
    }

    fn has_room(&self, open: &Open, len_bytes: usize) -> bool {
        let sequences = self.next_sequence - self.segments.get(open.segment).first_sequence;
        open.has_room(open.next_start(len_bytes), len_bytes) && sequences <= u64::from(u32::MAX)
    }

    /// Whether there is room for a tombstone, if there is memory.
    pub(super) fn has_room_for_tombstone(&self) -> bool {
        self.spare() > 0 || self.filling(|open| self.has_room(open, RECORD_HEADER_BYTES)).is_some()
    }

    /// Whether a record waits for a tombstone that there will never be a name for.
    pub(super) fn is_used_up(&self) -> bool {
        let is_waiting = !self.kills.is_empty() || self.is_reclaim_waiting();
        is_waiting && self.segments.fills_left() == 0 && !self.has_room_for_tombstone()
    }

    /// How many segments can be opened now.
    fn spare(&self) -> usize {
        let unsealed = self.opens.len() + self.segments.on_their_way();
        let opens_left = OPENS_PER_CHECKPOINT.saturating_sub(self.opened()) as usize;
        let free = self.segments.free_count();
        let left = opens_left.min(self.segments.fills_left() as usize);
        free.min(SSD_OPEN_SEGMENTS_MAX.saturating_sub(unsealed)).min(left)
    }

    /// Segments opened since the last checkpoint that is durable.
    fn opened(&self) -> u32 {
        self.segments.next_incarnation() - self.checkpoint.next_incarnation_durable()
    }

    fn open_segment(&mut self, class: u8) -> Option<usize> {
        self.checkpoint.is_wanted |= self.opened() >= OPENS_PER_CHECKPOINT / 2;
        // A record that begins within a block must be read with the longest buffer, too.
        let crossing_bytes_max = self.disk.pool().read_bytes_max() - SSD_BLOCK_BYTES;
        let crossing_bytes_max = crossing_bytes_max.min(SSD_CROSSING_BYTES_MAX);
        let mut open = Open::new(0, class, self.segments.segment_bytes(), crossing_bytes_max);
        let header_end = (HEADER_BLOCKS * SSD_BLOCK_BYTES) as u32;
        let pool = self.disk.pool();
        if !open.cover(header_end, || pool.write_buffer()) {
            return None;
        }
        open.segment = self.segments.open(class, self.next_sequence)?;
        let header = self.header(open.segment, true);
        let mut block = [0; SSD_BLOCK_BYTES];
        header.encode(&mut block);
        open.begin(0, header_end);
        (0..HEADER_BLOCKS).for_each(|_| open.add(&block));
        self.opens.push(open);
        Some(self.opens.len() - 1)
    }

    pub(super) fn header(&self, segment: u32, is_used: bool) -> SegmentHeader {
        let it = self.segments.get(segment);
        SegmentHeader {
            log: self.id,
            segment,
            incarnation: it.incarnation,
            is_used,
            class: it.class,
            first_sequence: it.first_sequence,
        }
    }

    /// Whether anything waits for its tombstone, or is yet to be found to need one.
    pub(super) fn is_killing(&self) -> bool {
        !self.kills.is_empty() || self.lost_entries > 0
    }

    /// Writes tombstones for the next records that wait for one, if they find room.
    pub(super) fn drain_kills(&mut self, now: Now) {
        self.forget_lost();
        for _ in 0..SSD_KILLS_PER_CALL {
            let Some(&link) = self.kills.front() else { return };
            if !self.add_tombstone(link, now) {
                return;
            }
            self.has_stepped = true;
            self.kills.pop_front();
            self.lost_kills = self.lost_kills.saturating_sub(1);
        }
    }

    /// Adds a tombstone for a record, unless the record is gone already. False: there is no room.
    pub(super) fn add_tombstone(&mut self, kills: Link, now: Now) -> bool {
        let Some(segment) = self.segments.target(kills) else { return true };
        let expiry_s = self.segments.get(segment).expiry_max_s;
        let tombstone = NewRecord {
            kind: Kind::Tombstone,
            hash: 0,
            key: b"",
            value: [Body::EMPTY; 2],
            flags: 0,
            expiry_s,
            cas: Some(0),
            kills,
            class: self.class(expiry_s, now),
        };
        let is_added = self.append(&tombstone, Need::Must).is_some();
        self.count(Counter::SsdTombstones, u64::from(is_added));
        is_added
    }

    /// Hands over what is ready of the open segments, and brings those to an end that are full.
    pub(super) fn advance_opens(&mut self, now: Now) {
        if self.retries.is_quiet(now) {
            return;
        }
        // From behind: one that is given up leaves its place to the last.
        for at in (0..self.opens.len()).rev() {
            match self.opens[at].phase {
                Phase::Filling => self.write_ready(at, false),
                Phase::Summing { block } => self.add_summary(at, block),
                Phase::Unsealed => {
                    let open = &mut self.opens[at];
                    if !open.is_writing() && open.completed() >= open.head() {
                        open.release();
                        let checkpoints = self.checkpoint.next_flush();
                        open.phase = Phase::Waiting { checkpoints };
                        self.checkpoint.is_wanted = true;
                        self.has_stepped = true;
                    }
                }
                Phase::Waiting { checkpoints } if self.checkpoint.flushes_done() >= checkpoints => {
                    self.write_seal(at);
                }
                Phase::Waiting { .. } | Phase::Sealing => {}
            }
        }
    }

    /// Hands over whole pieces, or, if it is `forced`, all there is.
    pub(super) fn write_ready(&mut self, at: usize, is_forced: bool) {
        let start_bytes = self.segments.start_bytes(self.opens[at].segment);
        let what = self.use_of(self.opens[at].segment);
        while let Some((start, bytes)) = self.opens[at].next_write(SSD_WRITE_BYTES, is_forced) {
            self.write(Task::Data, what, start_bytes + u64::from(start), bytes);
        }
    }

    fn add_summary(&mut self, at: usize, first: u32) {
        let open = &mut self.opens[at];
        if open.lost > 0 || !open.resume() {
            return;
        }
        if open.entries.is_empty() {
            // There is nothing in it. No write to it may come after it is given up.
            if !open.is_writing() {
                let segment = self.opens.swap_remove(at).segment;
                self.segments.empty(segment, self.checkpoint.next());
                self.checkpoint.is_wanted = true;
                self.has_stepped = true;
            }
            return;
        }
        let incarnation = self.segments.get(open.segment).incarnation;
        let blocks = summary_blocks(open.entries.len()) as u32;
        let mut next = first;
        while next < blocks.min(first + SUMMARY_BLOCKS_PER_TURN) {
            let pool = self.disk.pool();
            let end = open.head() + SSD_BLOCK_BYTES as u32;
            if !open.cover(end, || pool.write_buffer()) {
                break;
            }
            let from = next as usize * ENTRIES_PER_BLOCK;
            let to = open.entries.len().min(from + ENTRIES_PER_BLOCK);
            let mut bytes = [0; SSD_BLOCK_BYTES];
            encode_summary(&mut bytes, incarnation, next, &open.entries[from..to]);
            open.begin(open.head(), end);
            open.add(&bytes);
            next += 1;
            self.has_stepped = true;
        }
        let is_whole = next == blocks;
        open.phase = if is_whole { Phase::Unsealed } else { Phase::Summing { block: next } };
        self.write_ready(at, is_whole);
    }

    /// What a seal of a segment says.
    pub(super) fn seal(&self, segment: u32) -> Seal {
        let it = self.segments.get(segment);
        Seal {
            log: self.id,
            segment,
            incarnation: it.incarnation,
            data_end_bytes: it.data_end_bytes,
            entries: it.entries,
            first_sequence: it.first_sequence,
            last_sequence: it.last_sequence,
            expiry_max_s: it.expiry_max_s,
        }
    }

    fn write_seal(&mut self, at: usize) {
        let open = &self.opens[at];
        let segment = open.segment;
        let it = self.segments.get_mut(segment);
        (it.data_end_bytes, it.entries) = (open.data_end, open.entries.len() as u32);
        let seal = self.seal(segment);
        let end_bytes = self.segments.start_bytes(segment) + self.segments.segment_bytes() as u64;
        let offset_bytes = end_bytes - (SEAL_BLOCKS * SSD_BLOCK_BYTES) as u64;
        let what = (Task::Seal, self.use_of(segment));
        if self.write_blocks(what, offset_bytes, SEAL_BLOCKS, |block| seal.encode(block)) {
            self.opens[at].phase = Phase::Sealing;
        }
    }

    /// A write to an open segment failed: what was to be written from `start` on is lost, and the
    /// segment ends there. Its records will be forgotten and what they killed killed anew, some a
    /// call; until then nobody finds them, and nothing but tombstones is added.
    pub(super) fn abandon(&mut self, at: usize, start: u32) {
        self.checkpoint.restart();
        let open = &mut self.opens[at];
        let is_summary = open.phase != Phase::Filling && start >= open.data_end;
        let end = open.failed(start);
        if is_summary {
            // Again from its beginning, which may be written already and is the same.
            open.end_at(open.records_end);
            return;
        }
        let unit_bytes = SSD_UNIT_BYTES as u32;
        let begun = open.entries.partition_point(|entry| entry.unit <= end / unit_bytes);
        // The last one that begins before the end is cut in two.
        let kept = begun.saturating_sub(1).min(open.entries.len() - open.lost);
        // Not where the write failed, but where that record begins: recovery walks no farther, and
        // must not miss anything then.
        let lost_start = open.entries.get(kept).map_or(end, |first| first.unit * unit_bytes);
        open.end_at(end.min(lost_start));
        let lost = open.entries.len() - kept;
        self.lost_entries += lost - open.lost;
        open.lost = lost;
    }

    /// Forgets the next records that failed writes have lost.
    fn forget_lost(&mut self) {
        if self.lost_entries == 0 {
            return;
        }
        for _ in 0..SSD_KILLS_PER_CALL {
            let Some(open) = self.opens.iter_mut().find(|open| open.lost > 0) else { break };
            let (segment, Some(entry)) = (open.segment, open.entries.pop()) else { break };
            open.lost -= 1;
            self.lost_entries -= 1;
            let unit = self.segments.unit(segment, entry.unit * SSD_UNIT_BYTES as u32);
            if entry.kind == Kind::Item {
                self.index.remove(entry.hash, unit);
            }
            let sequence = self.segments.get(segment).first_sequence + u64::from(entry.sequence);
            // Whoever knows that its sequence was given up knows what was flushed, too.
            if sequence < self.flushed_below {
                continue;
            }
            if entry.kind == Kind::Item {
                // It may be on the disk all the same. If a tombstone is, nobody minds.
                self.kill(unit);
            }
            self.kill_link(entry.kills);
        }
        self.lost_kills = self.kills.len();
        self.has_stepped = true;
    }

    /// Ends all open segments.
    pub(super) fn end_all(&mut self) {
        for open in self.opens.iter_mut().filter(|open| open.phase == Phase::Filling) {
            open.end();
        }
    }
}
