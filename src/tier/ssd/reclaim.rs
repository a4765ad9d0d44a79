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

use super::append::{Added, Need, NewRecord};
use super::disk::{Buffer, Disk, Io, Op};
use super::format::{
    ENTRIES_PER_BLOCK, Entry, HEADER_BLOCKS, Kind, RECORD_HEADER_BYTES, Record, decode_summary,
    summary_blocks,
};
use super::log::{Log, Task, token};
use super::scan::{entry_of, head_of};
use super::segments::State;
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
pub(super) struct Victim {
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
pub(super) struct Leaving {
    segment: u32,
    entries: Vec<Entry>,
}

impl<D: Disk> Log<D> {
    /// Takes a few steps towards free segments.
    pub(super) fn advance_reclaim(&mut self, now: Now) {
        self.give_up_one(now);
        self.bury();
        let is_idle = self.is_stopping && !self.is_killing();
        if is_idle || self.victim.is_none() && !self.choose(now) {
            return;
        }
        let Some(victim) = &self.victim else { return };
        if victim.is_reading {
            return;
        }
        let blocks = summary_blocks(self.segments.get(victim.segment).entries as usize);
        if let Some(at) = victim.walked_bytes {
            self.read_records(at);
        } else if victim.blocks < blocks {
            self.read_summary(blocks);
        } else {
            self.save(now);
        }
    }

    /// Whether a segment is being reclaimed and its next step adds a record.
    pub(super) fn is_reclaim_waiting(&self) -> bool {
        self.victim.as_ref().is_some_and(|victim| {
            let blocks = summary_blocks(self.segments.get(victim.segment).entries as usize);
            !victim.is_reading && victim.blocks == blocks && victim.next < victim.entries.len()
        })
    }

    fn choose(&mut self, now: Now) -> bool {
        let wanted = self.classes + SSD_FREE_SEGMENTS;
        if self.segments.free_count() + self.segments.on_their_way() >= wanted {
            return false;
        }
        let settled = self.checkpoint.settled();
        let Some(segment) = self.segments.reclaim(settled, self.flushed_below, now) else {
            // What there is may be too young: the next checkpoint settles it.
            self.checkpoint.is_wanted |= self.next_sequence - 1 > settled;
            return false;
        };
        self.has_stepped = true;
        let entries = self.segments.get(segment).entries as usize;
        self.victim = Some(Victim {
            segment,
            entries: Vec::with_capacity(entries),
            blocks: 0,
            walked_bytes: None,
            is_reading: false,
            next: 0,
            is_next_killed: false,
            is_next_moved: false,
            moved_bytes: 0,
        });
        true
    }

    fn read_summary(&mut self, blocks: usize) {
        let Some(victim) = &self.victim else { return };
        let start_bytes = self.segments.get(victim.segment).data_end_bytes as usize
            + victim.blocks * SSD_BLOCK_BYTES;
        self.read_piece(Task::Summary, start_bytes, (blocks - victim.blocks) * SSD_BLOCK_BYTES);
    }

    /// Reads a piece of the victim from `start_bytes` on, where `left_bytes` are wanted.
    fn read_piece(&mut self, task: Task, start_bytes: usize, left_bytes: usize) {
        let Some(victim) = &mut self.victim else { return };
        let len_bytes = left_bytes.min(READ_BLOCKS * SSD_BLOCK_BYTES);
        let Some(buffer) = self.disk.pool().read_buffer(len_bytes) else { return };
        let offset_bytes = self.segments.start_bytes(victim.segment) + start_bytes as u64;
        victim.is_reading = true;
        let op = Op::Read { offset_bytes, len_bytes, buffer };
        self.outbox.push_back(Io { token: token(task, len_bytes as u64), op });
    }

    /// A piece of the summary is there, or could not be read.
    pub(super) fn summary_read(&mut self, len_bytes: usize, buffer: Option<Buffer>) {
        let Some(victim) = &mut self.victim else { return };
        victim.is_reading = false;
        let segment = self.segments.get(victim.segment);
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
            let blocks = summary_blocks(self.segments.get(victim.segment).entries as usize);
            let expected = self.segments.get(victim.segment).entries as usize;
            is_ok &= victim.blocks < blocks || victim.entries.len() == expected;
            is_ok &= victim.entries.len() <= victim.blocks * ENTRIES_PER_BLOCK;
        }
        if !is_ok {
            victim.entries.clear();
            victim.blocks = 0;
            victim.walked_bytes = Some(HEADER_BLOCKS * SSD_BLOCK_BYTES);
            self.count(Counter::SsdBadSummaries, 1);
        }
    }

    /// Reads the records from `at` on, of a segment whose summary is damaged.
    fn read_records(&mut self, at: usize) {
        let Some(victim) = &self.victim else { return };
        let start_bytes = at - at % SSD_BLOCK_BYTES;
        let end_bytes = self.segments.get(victim.segment).data_end_bytes as usize;
        self.read_piece(Task::Records, start_bytes, end_bytes - start_bytes);
    }

    /// Records are there, or could not be read. Their heads and keys tell what a summary does.
    pub(super) fn records_read(&mut self, len_bytes: usize, buffer: Option<Buffer>) {
        let Some(victim) = &mut self.victim else { return };
        victim.is_reading = false;
        let Some(mut at) = victim.walked_bytes else { return };
        let start_bytes = at - at % SSD_BLOCK_BYTES;
        let segment = *self.segments.get(victim.segment);
        let (data_end_bytes, expected) =
            (segment.data_end_bytes as usize, segment.entries as usize);
        let of = (segment.incarnation, segment.first_sequence);
        let mut is_ok = buffer.is_some();
        let bytes = buffer.as_ref().map_or(&[][..], |buffer| &buffer[..len_bytes]);
        while is_ok && victim.entries.len() < expected && at < start_bytes + len_bytes {
            let bytes = &bytes[at - start_bytes..];
            let unit = self.segments.unit(victim.segment, at as u32);
            if let Some(record) = head_of(bytes, unit, of, data_end_bytes - at) {
                // The key is in the block of the head.
                is_ok = bytes.len() >= RECORD_HEADER_BYTES + usize::from(record.key_bytes);
                if is_ok {
                    let key = (record.kind == Kind::Item).then(|| record.key(bytes));
                    let entry = entry_of(&record, key, self.hash_key, (at, unit), of.1);
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
            segment.into_iter().for_each(|segment| self.segments.seal(segment));
        }
    }

    /// Writes anew what must outlive the segment, of its next entries.
    fn save(&mut self, now: Now) {
        for _ in 0..SSD_RECLAIM_PER_TURN {
            let Some(victim) = &self.victim else { return };
            let (segment, is_killed, is_moved) =
                (victim.segment, victim.is_next_killed, victim.is_next_moved);
            let Some(&entry) = victim.entries.get(victim.next) else {
                let entries = self.victim.take().map_or(Vec::new(), |victim| victim.entries);
                self.leaving.push(Leaving { segment, entries });
                self.segments.empty(segment, self.checkpoint.next());
                self.checkpoint.is_wanted = true;
                self.has_stepped = true;
                return;
            };
            let first_sequence = self.segments.get(segment).first_sequence;
            let is_void = self.is_void(first_sequence + u64::from(entry.sequence));
            let target = self.segments.target(entry.kills);
            if !is_void && !is_killed && target.is_some_and(|target| target != segment) {
                if !self.add_tombstone(entry.kills, now) {
                    return;
                }
                if let Some(victim) = &mut self.victim {
                    victim.is_next_killed = true;
                }
            }
            if entry.kind == Kind::Item && !is_moved && self.begin_move(segment, &entry) {
                return;
            }
            self.has_stepped = true;
            if let Some(victim) = &mut self.victim {
                victim.next += 1;
                (victim.is_next_killed, victim.is_next_moved) = (false, false);
            }
        }
    }

    /// Takes the next entries of dead segments out of the index.
    fn bury(&mut self) {
        let is_dead = |it: &Leaving| self.segments.get(it.segment).state == State::Dead;
        let Some(at) = self.leaving.iter().position(is_dead) else { return };
        let segment = self.leaving[at].segment;
        self.has_stepped = true;
        for _ in 0..SSD_RECLAIM_PER_TURN {
            let Some(entry) = self.leaving[at].entries.pop() else {
                self.leaving.swap_remove(at);
                self.count(Counter::SsdReclaimed, 1);
                return self.discard(segment);
            };
            let unit = self.segments.unit(segment, entry.unit * SSD_UNIT_BYTES as u32);
            if entry.kind == Kind::Item && self.index.remove(entry.hash, unit) {
                self.count(Counter::SsdEvicted, 1);
            }
        }
    }

    /// Begins to move a record that was used, as long as not too many are.
    fn begin_move(&mut self, segment: u32, entry: &Entry) -> bool {
        let unit = self.segments.unit(segment, entry.unit * SSD_UNIT_BYTES as u32);
        let found = self.index.find(entry.hash).find(|found| found.unit == unit);
        let (Some(found), Some(victim)) = (found, &mut self.victim) else { return false };
        let limit = self.segments.segment_bytes() as usize * SSD_REINSERT_PERCENT / 100;
        if found.uses < USES_TO_MOVE || victim.moved_bytes >= limit {
            return false;
        }
        let len_bytes_max = self.disk.pool().read_bytes_max();
        let (offset_bytes, len_bytes) = self.segments.extent(found.unit, found.span, len_bytes_max);
        let Some(buffer) = self.disk.pool().read_buffer(len_bytes) else { return false };
        victim.is_reading = true;
        let op = Op::Read { offset_bytes, len_bytes, buffer };
        self.outbox.push_back(Io { token: token(Task::Move, found.unit), op });
        true
    }

    /// A record to be moved is there, or could not be read; then it stays where it is and goes with
    /// its segment.
    pub(super) fn move_read(&mut self, unit: u64, buffer: Option<Buffer>, now: Now) {
        let Some(victim) = &mut self.victim else { return };
        victim.is_reading = false;
        victim.is_next_moved = true;
        let Some(&entry) = victim.entries.get(victim.next) else { return };
        let moved = buffer.and_then(|buffer| self.move_record(&entry, unit, &buffer, now));
        if let (Some((added, len_bytes)), Some(victim)) = (moved, &mut self.victim) {
            victim.moved_bytes += len_bytes;
            self.index.relocate(entry.hash, unit, added.unit, added.span);
            self.count(Counter::SsdMoved, 1);
        }
    }

    fn move_record(
        &mut self,
        entry: &Entry,
        unit: u64,
        buffer: &Buffer,
        now: Now,
    ) -> Option<(Added, usize)> {
        let bytes = &buffer[unit as usize * SSD_UNIT_BYTES % SSD_BLOCK_BYTES..];
        let record = Record::decode(bytes, unit)?;
        let is_alive = self.index.has(entry.hash, unit)
            && record.incarnation == self.segments.link(unit).incarnation()
            && record.sequence >= self.flushed_below
            && !Expiry::from_unix_s(record.expiry_s).is_past(now)
            && !self.is_killing();
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
            kills: self.segments.link(unit),
            class: self.class(record.expiry_s, now),
        };
        let added = self.append(&copy, Need::Wish)?;
        Some((added, record.len_bytes()))
    }

    /// A segment's giving up is durable.
    pub(super) fn died(&mut self, segment: u32) {
        self.segments.get_mut(segment).state = State::Dead;
        if self.leaving.iter().all(|it| it.segment != segment) {
            self.leaving.push(Leaving { segment, entries: Vec::new() });
        }
    }

    /// Gives up what can be: the disk is told first.
    fn give_up_one(&mut self, now: Now) {
        if self.retries.is_quiet(now) {
            return;
        }
        let settled = self.checkpoint.settled_checkpoint();
        let is_ready =
            |state| matches!(state, State::Emptied { checkpoint } if checkpoint <= settled);
        let Some(segment) = self.segments.any(is_ready) else {
            let is_emptied = |state| matches!(state, State::Emptied { .. });
            self.checkpoint.is_wanted |= self.segments.any(is_emptied).is_some();
            return;
        };
        let header = self.header(segment, false);
        let offset_bytes = self.segments.start_bytes(segment);
        let what = (Task::Free, u64::from(segment));
        if self.write_blocks(what, offset_bytes, 2, |block| header.encode(block)) {
            self.segments.get_mut(segment).state = State::Freeing;
        }
    }

    /// The disk may forget a segment's bytes.
    fn discard(&mut self, segment: u32) {
        if !self.can_discard {
            return self.segments.give(segment);
        }
        self.segments.get_mut(segment).state = State::Discarded;
        let header_bytes = 2 * SSD_BLOCK_BYTES as u64;
        let op = Op::Discard {
            offset_bytes: self.segments.start_bytes(segment) + header_bytes,
            len_bytes: u64::from(self.segments.segment_bytes()) - header_bytes,
        };
        self.outbox.push_back(Io { token: token(Task::Discard, u64::from(segment)), op });
    }
}
