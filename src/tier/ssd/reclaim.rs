//! Making room: giving segments up, one after another.
//!
//! ```text
//! choose ─> read its summary ─> entry by entry, a few a turn ─> emptied ─> given up ─> dead
//!           whole, checked;      what it kills: a tombstone      │          header,     the rest
//!           if damaged, the      used often: moved               │          flush       leaves
//!           records' heads       else: stays for now             └ once that is settled the index
//! ```
//!
//! It works ahead, so that there is always a free segment. A record stays in the index until its
//! segment is durably dead: else a newer one of its key would not know what to kill, and a crash
//! would bring both back. This must never give a segment up whose records are not all known: what
//! those killed would come back too.

use super::disk::{Buffer, Disk};
use super::format::{
    ENTRIES_PER_BLOCK, Entry, HEADER_BLOCKS, Kind, RECORD_HEADER_BYTES, Record, decode_summary,
    summary_blocks,
};
use super::index::Index;
use super::scan::{entry_of, head_of};
use super::segments::{SegmentState, Segments};
use super::tasks::Task;
use super::writer::{Added, Need, NewRecord, Parts, Writer};
use crate::base::buffer::Body;
use crate::base::clock::{Expiry, Now};
use crate::base::limits::{
    SSD_BLOCK_BYTES, SSD_FREE_SEGMENTS, SSD_RECLAIM_PER_TURN, SSD_REINSERT_PERCENT, SSD_UNIT_BYTES,
};
use crate::base::stats::Counter;

/// Blocks of a summary, or of records, that one read takes.
const READ_BLOCKS: usize = 16;

/// Uses of a record that make it worth moving.
const USES_TO_MOVE: u8 = 2;

/// The segment that is being reclaimed.
#[derive(Debug)]
struct Victim {
    segment: u32,
    entries: Vec<Entry>,
    /// Blocks of the summary read so far.
    blocks: usize,
    /// Where the next record is, in bytes from the start of the segment, if its summary is damaged.
    walked_bytes: Option<usize>,
    is_reading: bool,
    /// The next entry.
    next: usize,
    /// Its kill has a tombstone already.
    is_next_killed: bool,
    /// It was moved already, or could not be.
    is_next_moved: bool,
    moved_bytes: usize,
}

/// A segment whose entries leave the index once it is dead.
#[derive(Debug)]
struct Leaving {
    segment: u32,
    entries: Vec<Entry>,
}

/// The segments that are being given up.
#[derive(Debug, Default)]
pub(super) struct Reclaim {
    victim: Option<Victim>,
    leaving: Vec<Leaving>,
    /// A clean stop is under way: nothing is reclaimed that tombstones do not need.
    is_stopping: bool,
}

/// What a step works with.
pub(super) struct Step<'a, D> {
    pub index: &'a mut Index,
    pub writer: &'a mut Writer,
    pub parts: Parts<'a, D>,
    /// Records wait for their tombstones: nothing else is added.
    pub is_killing: bool,
    pub now: Now,
}

impl Reclaim {
    /// A clean stop is under way.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Takes a few steps towards free segments.
    pub(super) fn advance<D: Disk>(&mut self, step: &mut Step<'_, D>) {
        give_up_one(step);
        self.bury(step);
        let is_idle = self.is_stopping && !step.is_killing;
        if is_idle || self.victim.is_none() && !self.choose(step) {
            return;
        }
        let Some(victim) = &self.victim else { return };
        if victim.is_reading {
            return;
        }
        let blocks = victim.summary_blocks(step.parts.segments);
        if let Some(at) = victim.walked_bytes {
            self.read_records(at, step);
        } else if victim.blocks < blocks {
            self.read_summary(blocks, step);
        } else {
            self.save(step);
        }
    }

    /// Whether a segment is being reclaimed and its next step adds a record.
    pub(super) fn is_waiting(&self, segments: &Segments) -> bool {
        self.victim.as_ref().is_some_and(|victim| {
            let blocks = victim.summary_blocks(segments);
            !victim.is_reading && victim.blocks == blocks && victim.next < victim.entries.len()
        })
    }

    fn choose<D: Disk>(&mut self, step: &mut Step<'_, D>) -> bool {
        let parts = &mut step.parts;
        let segments = &mut *parts.segments;
        if segments.free_count() + segments.on_their_way() >= segments.classes() + SSD_FREE_SEGMENTS
        {
            return false;
        }
        let settled = parts.checkpoint.settled();
        let flushed_below = parts.sequences.flushed_below();
        let Some(segment) = segments.reclaim(settled, flushed_below, step.now) else {
            // What there is may be too young: the next checkpoint settles it.
            if parts.sequences.last() > settled {
                parts.checkpoint.want();
            }
            return false;
        };
        parts.queue.note_step();
        self.victim = Some(Victim::new(segment, segments.get(segment).entries as usize));
        true
    }

    fn read_summary<D: Disk>(&mut self, blocks: usize, step: &mut Step<'_, D>) {
        let Some(victim) = &mut self.victim else { return };
        let data_end_bytes = step.parts.segments.get(victim.segment).data_end_bytes as usize;
        let start_bytes = data_end_bytes + victim.blocks * SSD_BLOCK_BYTES;
        let left_bytes = (blocks - victim.blocks) * SSD_BLOCK_BYTES;
        victim.read_piece(Task::Summary, start_bytes, left_bytes, &mut step.parts);
    }

    /// A piece of the summary is there, or could not be read.
    pub(super) fn summary_read<D: Disk>(
        &mut self,
        len_bytes: usize,
        buffer: Option<Buffer>,
        parts: &Parts<'_, D>,
    ) {
        let Some(victim) = &mut self.victim else { return };
        victim.is_reading = false;
        let segment = parts.segments.get(victim.segment);
        let of = (segment.incarnation, segment.data_end_bytes);
        let mut is_ok = false;
        if let Some(buffer) = buffer {
            is_ok = true;
            for block in buffer[..len_bytes].chunks(SSD_BLOCK_BYTES) {
                let index = victim.blocks as u32;
                let entries = &mut victim.entries;
                is_ok &= decode_summary(block, of, index, |entry| entries.push(entry));
                victim.blocks += 1;
            }
            let expected = segment.entries as usize;
            is_ok &= victim.blocks < summary_blocks(expected) || victim.entries.len() == expected;
            is_ok &= victim.entries.len() <= victim.blocks * ENTRIES_PER_BLOCK;
        }
        if !is_ok {
            victim.entries.clear();
            victim.blocks = 0;
            victim.walked_bytes = Some(HEADER_BLOCKS * SSD_BLOCK_BYTES);
            parts.stats.add(Counter::SsdBadSummaries, 1);
        }
    }

    /// Reads the records from `at` on, of a segment whose summary is damaged.
    fn read_records<D: Disk>(&mut self, at: usize, step: &mut Step<'_, D>) {
        let Some(victim) = &mut self.victim else { return };
        let start_bytes = at - at % SSD_BLOCK_BYTES;
        let end_bytes = step.parts.segments.get(victim.segment).data_end_bytes as usize;
        let left_bytes = end_bytes - start_bytes;
        victim.read_piece(Task::Records, start_bytes, left_bytes, &mut step.parts);
    }

    /// Records are there, or could not be read. Their heads and keys tell what a summary does.
    pub(super) fn records_read<D: Disk>(
        &mut self,
        len_bytes: usize,
        buffer: Option<Buffer>,
        parts: &mut Parts<'_, D>,
    ) {
        let Some(victim) = &mut self.victim else { return };
        victim.is_reading = false;
        let Some(mut at) = victim.walked_bytes else { return };
        let start_bytes = at - at % SSD_BLOCK_BYTES;
        let segment = *parts.segments.get(victim.segment);
        let (data_end_bytes, expected) =
            (segment.data_end_bytes as usize, segment.entries as usize);
        let of = (segment.incarnation, segment.first_sequence);
        let mut is_ok = buffer.is_some();
        let bytes = buffer.as_ref().map_or(&[][..], |buffer| &buffer[..len_bytes]);
        while is_ok && victim.entries.len() < expected && at < start_bytes + len_bytes {
            let bytes = &bytes[at - start_bytes..];
            let unit = parts.segments.unit(victim.segment, at as u32);
            if let Some(record) = head_of(bytes, unit, of, data_end_bytes - at) {
                // The key is in the block of the head.
                is_ok = bytes.len() >= RECORD_HEADER_BYTES + usize::from(record.key_bytes);
                if is_ok {
                    let key = (record.kind == Kind::Item).then(|| record.key(bytes));
                    let hash_key = parts.identity.hash_key;
                    let entry = entry_of(&record, key, hash_key, (at, unit), of.1);
                    victim.entries.push(entry);
                }
                at = (at + record.len_bytes()).next_multiple_of(SSD_UNIT_BYTES);
            } else {
                let rest = at.next_multiple_of(SSD_BLOCK_BYTES) - at;
                is_ok = rest > 0 && bytes[..rest].iter().all(|byte| *byte == 0);
                at += rest;
            }
        }
        victim.walked_bytes = Some(at);
        if victim.entries.len() == expected {
            victim.walked_bytes = None;
            victim.blocks = summary_blocks(expected);
        } else if !is_ok || at >= data_end_bytes {
            // Behind all others; nothing came of it yet.
            let segment = self.victim.take().map(|victim| victim.segment);
            segment.into_iter().for_each(|segment| parts.segments.seal(segment));
        }
    }

    /// Writes anew what must outlive the segment, of its next entries.
    fn save<D: Disk>(&mut self, step: &mut Step<'_, D>) {
        for _ in 0..SSD_RECLAIM_PER_TURN {
            let Some(victim) = &mut self.victim else { return };
            let segment = victim.segment;
            let Some(&entry) = victim.entries.get(victim.next) else {
                let entries = self.victim.take().map_or(Vec::new(), |victim| victim.entries);
                self.leaving.push(Leaving { segment, entries });
                step.parts.segments.empty(segment, step.parts.checkpoint.next());
                step.parts.checkpoint.want();
                step.parts.queue.note_step();
                return;
            };
            let parts = &mut step.parts;
            let first_sequence = parts.segments.get(segment).first_sequence;
            let is_void = parts.sequences.is_void(first_sequence + u64::from(entry.sequence));
            let target = parts.segments.target(entry.kills);
            if !is_void && !victim.is_next_killed && target.is_some_and(|target| target != segment)
            {
                if !step.writer.add_tombstone(entry.kills, step.now, parts) {
                    return;
                }
                victim.is_next_killed = true;
            }
            if entry.kind == Kind::Item && !victim.is_next_moved && victim.begin_move(&entry, step)
            {
                return;
            }
            step.parts.queue.note_step();
            victim.next += 1;
            (victim.is_next_killed, victim.is_next_moved) = (false, false);
        }
    }

    /// Takes the next entries of dead segments out of the index.
    fn bury<D: Disk>(&mut self, step: &mut Step<'_, D>) {
        let parts = &mut step.parts;
        let is_dead = |it: &Leaving| parts.segments.get(it.segment).state == SegmentState::Dead;
        let Some(at) = self.leaving.iter().position(is_dead) else { return };
        let segment = self.leaving[at].segment;
        parts.queue.note_step();
        for _ in 0..SSD_RECLAIM_PER_TURN {
            let Some(entry) = self.leaving[at].entries.pop() else {
                self.leaving.swap_remove(at);
                parts.stats.add(Counter::SsdReclaimed, 1);
                return discard(segment, parts);
            };
            let unit = parts.segments.unit(segment, entry.unit * SSD_UNIT_BYTES as u32);
            if entry.kind == Kind::Item && step.index.remove(entry.hash, unit) {
                parts.stats.add(Counter::SsdEvicted, 1);
            }
        }
    }

    /// A record to be moved is there, or could not be read; then it stays where it is and goes with
    /// its segment.
    pub(super) fn move_read<D: Disk>(
        &mut self,
        unit: u64,
        buffer: Option<Buffer>,
        step: &mut Step<'_, D>,
    ) {
        let Some(victim) = &mut self.victim else { return };
        victim.is_reading = false;
        victim.is_next_moved = true;
        let Some(&entry) = victim.entries.get(victim.next) else { return };
        let moved = buffer.and_then(|buffer| move_record(&entry, unit, &buffer, step));
        if let Some((added, len_bytes)) = moved {
            victim.moved_bytes += len_bytes;
            step.index.relocate(entry.hash, unit, added.unit, added.span);
            step.parts.stats.add(Counter::SsdMoved, 1);
        }
    }

    /// A segment's giving up is durable.
    pub(super) fn died(&mut self, segment: u32, segments: &mut Segments) {
        segments.get_mut(segment).state = SegmentState::Dead;
        if self.leaving.iter().all(|it| it.segment != segment) {
            self.leaving.push(Leaving { segment, entries: Vec::new() });
        }
    }
}

impl Victim {
    fn new(segment: u32, entries: usize) -> Victim {
        Victim {
            segment,
            entries: Vec::with_capacity(entries),
            blocks: 0,
            walked_bytes: None,
            is_reading: false,
            next: 0,
            is_next_killed: false,
            is_next_moved: false,
            moved_bytes: 0,
        }
    }

    fn summary_blocks(&self, segments: &Segments) -> usize {
        summary_blocks(segments.get(self.segment).entries as usize)
    }

    /// Reads a piece from `start_bytes` on, where `left_bytes` are wanted.
    fn read_piece<D: Disk>(
        &mut self,
        task: Task,
        start_bytes: usize,
        left_bytes: usize,
        parts: &mut Parts<'_, D>,
    ) {
        let len_bytes = left_bytes.min(READ_BLOCKS * SSD_BLOCK_BYTES);
        let offset_bytes = parts.segments.start_bytes(self.segment) + start_bytes as u64;
        self.is_reading = parts.queue.read((task, len_bytes as u64), offset_bytes, len_bytes);
    }

    /// Begins to move a record that was used, as long as not too many are.
    fn begin_move<D: Disk>(&mut self, entry: &Entry, step: &mut Step<'_, D>) -> bool {
        let segments = &step.parts.segments;
        let unit = segments.unit(self.segment, entry.unit * SSD_UNIT_BYTES as u32);
        let found = step.index.find(entry.hash).find(|found| found.unit == unit);
        let Some(found) = found else { return false };
        let limit = segments.segment_bytes() as usize * SSD_REINSERT_PERCENT / 100;
        if found.uses < USES_TO_MOVE || self.moved_bytes >= limit {
            return false;
        }
        let len_bytes_max = step.parts.queue.pool().read_bytes_max();
        let (offset_bytes, len_bytes) = segments.extent(found.unit, found.span, len_bytes_max);
        let what = (Task::Move, found.unit);
        self.is_reading = step.parts.queue.read(what, offset_bytes, len_bytes);
        self.is_reading
    }
}

/// Adds a record anew that is alive; and its length in bytes.
fn move_record<D: Disk>(
    entry: &Entry,
    unit: u64,
    buffer: &Buffer,
    step: &mut Step<'_, D>,
) -> Option<(Added, usize)> {
    let bytes = &buffer[unit as usize * SSD_UNIT_BYTES % SSD_BLOCK_BYTES..];
    let record = Record::decode(bytes, unit)?;
    let segments = &step.parts.segments;
    let is_alive = step.index.has(entry.hash, unit)
        && record.incarnation == segments.link(unit).incarnation()
        && !step.parts.sequences.is_flushed(record.sequence)
        && !Expiry::from_unix_s(record.expiry_s).is_past(step.now)
        && !step.is_killing;
    if !is_alive {
        return None;
    }
    let copy = NewRecord {
        kind: Kind::Item,
        hash: entry.hash,
        key: record.key(bytes),
        value: [Body::Slice(record.value(bytes)), Body::EMPTY],
        flags: record.flags,
        expiry_s: record.expiry_s,
        cas: Some(record.cas),
        marks: record.marks,
        kills: segments.link(unit),
        class: segments.class(record.expiry_s, step.now),
    };
    let added = step.writer.append(&copy, Need::Wish, &mut step.parts)?;
    Some((added, record.len_bytes()))
}

/// Gives up what can be: the disk is told first.
fn give_up_one<D: Disk>(step: &mut Step<'_, D>) {
    let parts = &mut step.parts;
    if parts.queue.is_quiet(step.now) {
        return;
    }
    let settled = parts.checkpoint.settled_checkpoint();
    let is_ready =
        |state| matches!(state, SegmentState::Emptied { checkpoint } if checkpoint <= settled);
    let Some(segment) = parts.segments.any(is_ready) else {
        if parts.segments.any(|state| matches!(state, SegmentState::Emptied { .. })).is_some() {
            parts.checkpoint.want();
        }
        return;
    };
    let header = parts.segments.header(&parts.identity.log, segment, false);
    let offset_bytes = parts.segments.start_bytes(segment);
    let what = (Task::Free, u64::from(segment));
    if parts.queue.write_blocks(what, offset_bytes, HEADER_BLOCKS, |block| header.encode(block)) {
        parts.segments.get_mut(segment).state = SegmentState::Freeing;
    }
}

/// The disk may forget a segment's bytes.
fn discard<D: Disk>(segment: u32, parts: &mut Parts<'_, D>) {
    let header_bytes = (HEADER_BLOCKS * SSD_BLOCK_BYTES) as u64;
    let offset_bytes = parts.segments.start_bytes(segment) + header_bytes;
    let len_bytes = u64::from(parts.segments.segment_bytes()) - header_bytes;
    if parts.queue.discard(u64::from(segment), offset_bytes, len_bytes) {
        parts.segments.get_mut(segment).state = SegmentState::Discarded;
    } else {
        parts.segments.give(segment);
    }
}
