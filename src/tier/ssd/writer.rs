//! Adding records, and bringing open segments to the disk.
//!
//! Records of one class go to one open segment, in the order of their sequences. A full segment
//! gets its summary, and its seal once all before is durable. This must never let a record be found
//! that a failed write has lost.

use super::checkpoint::Checkpoint;
use super::disk::Disk;
use super::format::{ENTRIES_PER_BLOCK, encode_summary, summary_blocks};
use super::format::{
    Entry, HEADER_BLOCKS, ItemMarks, Kind, Link, Mark, RECORD_HEADER_BYTES, Record, SEAL_BLOCKS,
    Span,
};
use super::identity::Identity;
use super::open::{Open, Phase};
use super::queue::Queue;
use super::segments::{OPENS_PER_CHECKPOINT, Segments};
use super::sequences::Sequences;
use super::tasks::Task;
use crate::base::buffer::Body;
use crate::base::clock::Now;
use crate::base::limits::{
    SSD_BLOCK_BYTES, SSD_CROSSING_BYTES_MAX, SSD_OPEN_SEGMENTS_MAX, SSD_UNIT_BYTES, SSD_WRITE_BYTES,
};
use crate::base::stats::{Counter, WorkerStats};

/// Blocks of a summary that one turn adds.
const SUMMARY_BLOCKS_PER_TURN: u32 = 64;

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
    pub marks: ItemMarks,
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

/// The other parts of a log that a record passes on its way to the disk.
pub(super) struct Parts<'a, D> {
    pub queue: &'a mut Queue<D>,
    pub segments: &'a mut Segments,
    pub sequences: &'a mut Sequences,
    pub checkpoint: &'a mut Checkpoint,
    pub identity: &'a Identity,
    pub stats: &'a WorkerStats,
}

/// The open segments of a log.
#[derive(Debug, Default)]
pub(super) struct Writer {
    opens: Vec<Open>,
    /// Records in them that failed writes have lost and that are yet to be forgotten.
    lost: usize,
}

impl Writer {
    /// Open segments, those that wait for their seal counted.
    pub(super) fn opens(&self) -> &[Open] {
        &self.opens
    }

    /// One of them.
    pub(super) fn open_of(&self, segment: u32) -> Option<&Open> {
        self.opens.iter().find(|open| open.segment == segment)
    }

    /// Where the open segment is whose present use has this name, if it still is open.
    pub(super) fn position(&self, what: u64, segments: &Segments) -> Option<usize> {
        let segment = segments.used_as(what)?;
        self.opens.iter().position(|open| open.segment == segment)
    }

    /// Records that failed writes have lost and that are yet to be forgotten.
    pub(super) fn lost(&self) -> usize {
        self.lost
    }

    /// Whether a failed write has lost the record at a place, which is yet to be forgotten.
    pub(super) fn has_lost(&self, segment: u32, offset: u32) -> bool {
        self.lost > 0 && self.open_of(segment).is_some_and(|open| open.has_lost(offset))
    }

    /// Adds a record. None: there is no room for it now, and nothing was done.
    pub(super) fn append<D: Disk>(
        &mut self,
        new: &NewRecord<'_>,
        need: Need,
        parts: &mut Parts<'_, D>,
    ) -> Option<Added> {
        let mut record = Record {
            kind: new.kind,
            key_bytes: new.key.len() as u8,
            marks: new.marks,
            value_bytes: new.value.iter().map(|part| part.len() as u32).sum(),
            flags: new.flags,
            expiry_s: new.expiry_s,
            incarnation: 0,
            sequence: parts.sequences.next(),
            cas: new.cas.unwrap_or(parts.sequences.next_cas()),
            kills: new.kills,
        };
        let len_bytes = record.len_bytes();
        let (at, start) = self.place(new.class, len_bytes, need, parts)?;
        let open = &mut self.opens[at];
        let pool = parts.queue.pool();
        if !open.cover(start + len_bytes as u32, || pool.write_buffer()) {
            return None;
        }
        let unit = parts.segments.unit(open.segment, start);
        let segment = parts.segments.get_mut(open.segment);
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
        parts.sequences.advance();
        Some(Added { unit, span, cas: record.cas })
    }

    /// Adds a tombstone for a record, unless the record is gone already. False: there is no room.
    pub(super) fn add_tombstone<D: Disk>(
        &mut self,
        kills: Link,
        now: Now,
        parts: &mut Parts<'_, D>,
    ) -> bool {
        let Some(segment) = parts.segments.target(kills) else { return true };
        let expiry_s = parts.segments.get(segment).expiry_max_s;
        let tombstone = NewRecord {
            kind: Kind::Tombstone,
            hash: 0,
            key: b"",
            value: [Body::EMPTY; 2],
            flags: 0,
            expiry_s,
            cas: Some(0),
            marks: ItemMarks::default(),
            kills,
            class: parts.segments.class(expiry_s, now),
        };
        let is_added = self.append(&tombstone, Need::Must, parts).is_some();
        parts.stats.add(Counter::SsdTombstones, u64::from(is_added));
        is_added
    }

    /// The open segment for a record, and where in it the record goes.
    fn place<D: Disk>(
        &mut self,
        class: u8,
        len_bytes: usize,
        need: Need,
        parts: &mut Parts<'_, D>,
    ) -> Option<(usize, u32)> {
        let spare = self.spare(parts.segments);
        // Nobody else fills what tombstones have opened of the reserve.
        if need == Need::Wish && spare < RESERVE {
            return None;
        }
        let next = parts.sequences.next();
        let has_room = |open: &Open| has_room(open, len_bytes, next, parts.segments);
        let full = self.filling(|open| open.class == class);
        if let Some(at) = full
            && has_room(&self.opens[at])
        {
            return Some((at, self.opens[at].next_start(len_bytes)));
        }
        if spare <= RESERVE {
            // Whatever lives shorter or longer beside it is better than to be stuck.
            let at = self.filling(has_room);
            if let Some(at) = at.filter(|_| need == Need::Must) {
                return Some((at, self.opens[at].next_start(len_bytes)));
            }
            if spare == 0 || need == Need::Wish {
                return None;
            }
        }
        let at = self.open_segment(class, parts)?;
        if let Some(full) = full {
            self.opens[full].end();
        }
        let start = self.opens[at].next_start(len_bytes);
        self.opens[at].has_room(start, len_bytes).then_some((at, start))
    }

    fn filling(&self, is: impl Fn(&Open) -> bool) -> Option<usize> {
        self.opens.iter().position(|open| open.phase == Phase::Filling && is(open))
    }

    /// Whether there is room for a tombstone, if there is memory; `next`: its sequence.
    pub(super) fn has_room_for_tombstone(&self, next: u64, segments: &Segments) -> bool {
        let has_room = |open: &Open| has_room(open, RECORD_HEADER_BYTES, next, segments);
        self.spare(segments) > 0 || self.filling(has_room).is_some()
    }

    /// How many segments can be opened now.
    fn spare(&self, segments: &Segments) -> usize {
        let unsealed = self.opens.len() + segments.on_their_way();
        let left = segments.opens_left().min(segments.fills_left()) as usize;
        segments.free_count().min(SSD_OPEN_SEGMENTS_MAX.saturating_sub(unsealed)).min(left)
    }

    fn open_segment<D: Disk>(&mut self, class: u8, parts: &mut Parts<'_, D>) -> Option<usize> {
        if parts.segments.opened() >= OPENS_PER_CHECKPOINT / 2 {
            parts.checkpoint.want();
        }
        let pool = parts.queue.pool();
        // A record that begins within a block must be read with the longest buffer, too.
        let crossing_bytes_max = pool.read_bytes_max() - SSD_BLOCK_BYTES;
        let crossing_bytes_max = crossing_bytes_max.min(SSD_CROSSING_BYTES_MAX);
        let mut open = Open::new(0, class, parts.segments.segment_bytes(), crossing_bytes_max);
        let header_end = (HEADER_BLOCKS * SSD_BLOCK_BYTES) as u32;
        if !open.cover(header_end, || pool.write_buffer()) {
            return None;
        }
        open.segment = parts.segments.open(class, parts.sequences.next())?;
        let header = parts.segments.header(&parts.identity.log, open.segment, true);
        let mut block = [0; SSD_BLOCK_BYTES];
        header.encode(&mut block);
        open.begin(0, header_end);
        (0..HEADER_BLOCKS).for_each(|_| open.add(&block));
        self.opens.push(open);
        Some(self.opens.len() - 1)
    }

    /// Hands over what is ready of the open segments, and brings those to an end that are full.
    pub(super) fn advance<D: Disk>(&mut self, parts: &mut Parts<'_, D>) {
        // From behind: one that is given up leaves its place to the last.
        for at in (0..self.opens.len()).rev() {
            match self.opens[at].phase {
                Phase::Filling => self.write_ready(at, false, parts),
                Phase::Summing { block } => self.add_summary(at, block, parts),
                Phase::Unsealed => {
                    let open = &mut self.opens[at];
                    if !open.is_writing() && open.completed() >= open.head() {
                        open.release();
                        let checkpoints = parts.checkpoint.next_flush();
                        open.phase = Phase::Waiting { checkpoints };
                        parts.checkpoint.want();
                        parts.queue.note_step();
                    }
                }
                Phase::Waiting { checkpoints }
                    if parts.checkpoint.flushes_done() >= checkpoints =>
                {
                    self.write_seal(at, parts);
                }
                Phase::Waiting { .. } | Phase::Sealing => {}
            }
        }
    }

    /// Hands over all there is, for a checkpoint; how far each open segment is gathered.
    pub(super) fn hand_over<D: Disk>(&mut self, parts: &mut Parts<'_, D>) -> Vec<Mark> {
        let mut marks = Vec::with_capacity(self.opens.len());
        for at in 0..self.opens.len() {
            let is_filling = self.opens[at].phase == Phase::Filling;
            if is_filling {
                self.write_ready(at, true, parts);
            }
            let open = &self.opens[at];
            marks.push(Mark {
                segment: open.segment,
                incarnation: parts.segments.get(open.segment).incarnation,
                end_bytes: if is_filling { open.head() } else { open.records_end },
            });
        }
        marks
    }

    /// Whether what a mark is of is written.
    pub(super) fn has_written(&self, mark: &Mark, segments: &Segments) -> bool {
        segments.get(mark.segment).incarnation != mark.incarnation
            || self.open_of(mark.segment).is_none_or(|open| open.completed() >= mark.end_bytes)
    }

    /// Hands over whole pieces, or, if it is `forced`, all there is.
    fn write_ready<D: Disk>(&mut self, at: usize, is_forced: bool, parts: &mut Parts<'_, D>) {
        let segment = self.opens[at].segment;
        let start_bytes = parts.segments.start_bytes(segment);
        let what = parts.segments.use_of(segment);
        while let Some((start, bytes)) = self.opens[at].next_write(SSD_WRITE_BYTES, is_forced) {
            parts.queue.write(Task::Data, what, start_bytes + u64::from(start), bytes);
        }
    }

    fn add_summary<D: Disk>(&mut self, at: usize, first: u32, parts: &mut Parts<'_, D>) {
        let open = &mut self.opens[at];
        if open.lost > 0 || !open.resume() {
            return;
        }
        if open.entries.is_empty() {
            // There is nothing in it. No write to it may come after it is given up.
            if !open.is_writing() {
                let segment = self.opens.swap_remove(at).segment;
                parts.segments.empty(segment, parts.checkpoint.next());
                parts.checkpoint.want();
                parts.queue.note_step();
            }
            return;
        }
        let incarnation = parts.segments.get(open.segment).incarnation;
        let blocks = summary_blocks(open.entries.len()) as u32;
        let mut next = first;
        while next < blocks.min(first + SUMMARY_BLOCKS_PER_TURN) {
            let pool = parts.queue.pool();
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
            parts.queue.note_step();
        }
        let is_whole = next == blocks;
        open.phase = if is_whole { Phase::Unsealed } else { Phase::Summing { block: next } };
        self.write_ready(at, is_whole, parts);
    }

    fn write_seal<D: Disk>(&mut self, at: usize, parts: &mut Parts<'_, D>) {
        let open = &mut self.opens[at];
        let segment = open.segment;
        let it = parts.segments.get_mut(segment);
        (it.data_end_bytes, it.entries) = (open.data_end, open.entries.len() as u32);
        let seal = parts.segments.seal_of(&parts.identity.log, segment);
        let segment_bytes = u64::from(parts.segments.segment_bytes());
        let end_bytes = parts.segments.start_bytes(segment) + segment_bytes;
        let offset_bytes = end_bytes - (SEAL_BLOCKS * SSD_BLOCK_BYTES) as u64;
        let what = (Task::Seal, parts.segments.use_of(segment));
        if parts.queue.write_blocks(what, offset_bytes, SEAL_BLOCKS, |block| seal.encode(block)) {
            open.phase = Phase::Sealing;
        }
    }

    /// A piece of an open segment is written, which starts there in it.
    pub(super) fn written(&mut self, at: usize, start: u32) {
        self.opens[at].written(start);
    }

    /// The seal of an open segment is written, or could not be. The segment, if it is whole now.
    pub(super) fn seal_written(&mut self, at: usize, is_ok: bool) -> Option<u32> {
        if is_ok {
            return Some(self.opens.swap_remove(at).segment);
        }
        self.opens[at].phase = Phase::Unsealed;
        None
    }

    /// A write to an open segment failed: what was to be written from `start` on is lost, and the
    /// segment ends there. Its records are to be forgotten and what they killed killed anew, some a
    /// call; until then nobody finds them, and nothing but tombstones is added.
    pub(super) fn abandon(&mut self, at: usize, start: u32) {
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
        self.lost += lost - open.lost;
        open.lost = lost;
    }

    /// Takes the next record out that a failed write has lost, and says in which segment it was.
    pub(super) fn take_lost(&mut self) -> Option<(u32, Entry)> {
        let open = self.opens.iter_mut().find(|open| open.lost > 0)?;
        let entry = open.entries.pop()?;
        open.lost -= 1;
        self.lost -= 1;
        Some((open.segment, entry))
    }

    /// Ends all open segments.
    pub(super) fn end_all(&mut self) {
        for open in self.opens.iter_mut().filter(|open| open.phase == Phase::Filling) {
            open.end();
        }
    }
}

fn has_room(open: &Open, len_bytes: usize, next: u64, segments: &Segments) -> bool {
    let sequences = next - segments.get(open.segment).first_sequence;
    open.has_room(open.next_start(len_bytes), len_bytes) && sequences <= u64::from(u32::MAX)
}
