//! The log's state, and what becomes of completions.
//!
//! One worker has one [`Log`] over its part of the disk. Everything here happens at once; who waits
//! for the disk does so in [`super::Ssd`], outside of any borrow. The parts of the log that have a
//! file of their own add their functions to the same type: `append`, `checkpoint`, `reclaim`.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use super::admission::Admission;
use super::checkpoint::Checkpoint;
use super::disk::{Disk, DiskError, Done, Frozen, Io, Op};
use super::doubt::Doubt;
use super::format::{Geometry, Link, LogId, Void};
use super::index::Index;
use super::open::{Open, Phase};
use super::own_clock::OwnClock;
use super::reads::Reads;
use super::reclaim::{Leaving, Victim};
use super::retries::Retries;
use super::segments::{Segments, State};
use crate::base::clock::{Expiry, Now};
use crate::base::limits::{SSD_BLOCK_BYTES, SSD_DONE_PER_TURN, SSD_KILLS_MAX};
use crate::base::stats::{Counter, WorkerStats};

/// What an I/O is for; the rest of its token says of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Task {
    /// A client's read, by slot.
    Read,
    /// Bytes of an open segment.
    Data,
    /// A segment's seal.
    Seal,
    /// The header that gives a segment up.
    Free,
    /// A superblock.
    Superblock,
    /// A flush.
    Flush,
    /// A discard of a segment.
    Discard,
    /// A summary to be reclaimed.
    Summary,
    /// Records of a segment whose summary is damaged.
    Records,
    /// A record to be moved.
    Move,
}

const TASKS: [Task; 10] = [
    Task::Read,
    Task::Data,
    Task::Seal,
    Task::Free,
    Task::Superblock,
    Task::Flush,
    Task::Discard,
    Task::Summary,
    Task::Records,
    Task::Move,
];

pub(super) fn token(task: Task, what: u64) -> u64 {
    debug_assert!(what >> 56 == 0);
    (task as u64) << 56 | what
}

/// The log of one worker.
pub(super) struct Log<D> {
    pub(super) disk: D,
    pub(super) index: Index,
    pub(super) segments: Segments,
    pub(super) opens: Vec<Open>,
    pub(super) checkpoint: Checkpoint,
    pub(super) doubt: Doubt,
    /// The log that was there before was given up, for it was noted that it was old.
    pub(super) was_distrusted: bool,
    /// It was given up, for the clock was far ahead when it was written.
    pub(super) was_far_ahead: bool,
    pub(super) victim: Option<Victim>,
    pub(super) leaving: Vec<Leaving>,
    pub(super) reads: Reads,
    pub(super) admission: Admission,
    /// Records that must not be found again, whose tombstones are to come; first come first.
    pub(super) kills: VecDeque<Link>,
    /// So many of them, from the first on, are of records that a failed write lost or of what those
    /// had killed: no checkpoint begins before they have their tombstones.
    pub(super) lost_kills: usize,
    /// Records of open segments that failed writes have lost and that are yet to be forgotten.
    pub(super) lost_entries: usize,
    /// A clean stop is under way: nothing is reclaimed that tombstones do not need.
    pub(super) is_stopping: bool,
    /// I/Os that the disk has not taken yet.
    pub(super) outbox: VecDeque<Io>,
    pub(super) id: LogId,
    pub(super) hash_key: [u64; 2],
    pub(super) geometry: Geometry,
    pub(super) next_sequence: u64,
    /// Items refused since the last record, for cas numbers that no item has.
    pub(super) refused: u64,
    pub(super) flushed_below: u64,
    pub(super) flush_at_s: u32,
    pub(super) voids: Vec<Void>,
    pub(super) retries: Retries,
    pub(super) classes: usize,
    pub(super) can_discard: bool,
    pub(super) item_bytes_max: usize,
    pub(super) stats: Arc<WorkerStats>,
    pub(super) done: Vec<Done>,
    pub(super) clock: OwnClock,
    /// In this turn something was done of which there may be more to do at once.
    pub(super) has_stepped: bool,
}

impl<D: Disk> Log<D> {
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        hash(self.hash_key, key)
    }

    pub(super) fn count(&self, counter: Counter, n: u64) {
        self.stats.add(counter, n);
    }

    /// A bounded piece of everything there is to do. Returns how many I/Os were done.
    pub(super) fn turn(&mut self, now: Now) -> usize {
        let now = self.clock.at(now);
        self.tick(now);
        self.clock.set(now);
        self.has_stepped = false;
        self.submit();
        let mut done = std::mem::take(&mut self.done);
        done.clear();
        let count = self.disk.turn(now, &mut done);
        debug_assert!(count <= SSD_DONE_PER_TURN);
        for done in done.drain(..) {
            self.handle(done, now);
        }
        self.done = done;
        self.drain_kills(now);
        self.advance_reclaim(now);
        self.work(now);
        if self.is_stuck() || self.is_used_up() {
            self.drop_all();
        }
        self.weigh(now);
        self.note_gauges();
        count
    }

    /// Says how much there is.
    pub(super) fn note_gauges(&self) {
        let segments = &self.segments;
        let (all, free) = (u64::from(segments.count()), segments.free_count() as u64);
        let segment_bytes = u64::from(segments.segment_bytes());
        let stats = &self.stats;
        stats.set(Counter::SsdItems, self.index.len() - self.index.large());
        stats.set(Counter::SsdIndexBytes, self.index.bytes() as u64);
        stats.set(Counter::SsdSizeBytes, all * segment_bytes);
        stats.set(Counter::SsdUsedBytes, (all - free) * segment_bytes);
        stats.set(Counter::SsdSegments, all);
        stats.set(Counter::SsdSegmentsFree, free);
        stats.set(Counter::SsdFillsLeft, u64::from(segments.fills_left()));
    }

    /// Whether room will never come: every segment may wait for a checkpoint that waits for
    /// tombstones, which wait for room. That takes more failures than the reserve of `append` is
    /// for.
    fn is_stuck(&self) -> bool {
        if self.lost_kills == 0 && !self.is_reclaim_waiting() || self.has_room_for_tombstone() {
            return false;
        }
        if self.lost_entries > 0 {
            return false;
        }
        // What waits for a checkpoint comes if one can begin.
        let can_begin = self.lost_kills == 0;
        let comes = |state| match state {
            State::Dead | State::Discarded => true,
            State::Emptied { .. } | State::Freeing | State::Freed => can_begin,
            _ => false,
        };
        let flushes_done = self.checkpoint.flushes_done();
        let is_ending = |open: &Open| match open.phase {
            Phase::Filling => false,
            Phase::Summing { .. } | Phase::Unsealed => can_begin,
            Phase::Waiting { checkpoints } => can_begin || checkpoints <= flushes_done,
            Phase::Sealing => true,
        };
        self.checkpoint.is_idle()
            && self.segments.any(comes).is_none()
            && !self.opens.iter().any(is_ending)
    }

    /// What can be done without looking at completions.
    pub(super) fn work(&mut self, now: Now) {
        if !self.retries.is_quiet(now) {
            self.outbox.extend(self.retries.due());
        }
        self.advance_opens(now);
        self.advance_checkpoint(now);
        self.submit();
    }

    /// Lets a flush_all take effect whose time has come.
    pub(super) fn tick(&mut self, now: Now) {
        if self.flush_at_s != 0 && self.flush_at_s <= now.unix_s {
            self.flush_at_s = 0;
            self.flushed_below = self.next_sequence;
            self.checkpoint.is_wanted = true;
        }
    }

    pub(super) fn submit(&mut self) {
        while let Some(io) = self.outbox.pop_front() {
            if let Err(io) = self.disk.submit(io) {
                self.outbox.push_front(io);
                return;
            }
        }
        self.reads.submit(&mut self.disk);
    }

    /// By when there is something to do though nobody asks for anything. What waits for the disk
    /// comes with a completion, and who waits for memory gets it from one.
    pub(super) fn wake_at_us(&self) -> u64 {
        let in_flight = self.disk.in_flight();
        let is_polled = in_flight > 0 && !self.disk.wakes();
        let is_queued = !self.outbox.is_empty() || self.reads.has_queued();
        let weigh_at_us = self.weigh_at_us();
        if is_polled || is_queued && in_flight == 0 || self.has_stepped {
            0
        } else if self.retries.is_quiet(self.clock.now()) {
            self.retries.at_us().min(weigh_at_us)
        } else if self.may_begin_checkpoint() && self.next_sequence - 1 > self.checkpoint.durable()
        {
            self.checkpoint.due_us().min(weigh_at_us)
        } else {
            weigh_at_us
        }
    }

    /// Takes note of the time at the start of an operation.
    pub(super) fn see(&mut self, now: Now) {
        let now = self.clock.at(now);
        self.clock.see(now);
        self.tick(now);
    }

    /// Invalidates every item stored before `at`, or before now if that is past or never.
    pub(super) fn flush_all(&mut self, at: Expiry, now: Now) {
        if at == Expiry::NEVER || at.is_past(now) {
            self.flush_at_s = 0;
            self.flushed_below = self.next_sequence;
        } else {
            self.flush_at_s = at.unix_s();
        }
    }

    pub(super) fn write(&mut self, task: Task, what: u64, offset_bytes: u64, bytes: Frozen) {
        self.count(Counter::SsdBytesWritten, bytes.len() as u64);
        let op = Op::Write { offset_bytes, bytes };
        self.outbox.push_back(Io { token: token(task, what), op });
    }

    /// A write of a few blocks that `fill` makes; false if there is no memory for it now.
    pub(super) fn write_blocks(
        &mut self,
        (task, what): (Task, u64),
        offset_bytes: u64,
        blocks: usize,
        mut fill: impl FnMut(&mut [u8]),
    ) -> bool {
        let len_bytes = blocks * SSD_BLOCK_BYTES;
        let Some(mut buffer) = self.disk.pool().read_buffer(len_bytes) else { return false };
        buffer.open_mut()[..len_bytes].chunks_mut(SSD_BLOCK_BYTES).for_each(&mut fill);
        let bytes = buffer.freeze(len_bytes);
        self.write(task, what, offset_bytes, bytes);
        true
    }

    fn handle(&mut self, done: Done, now: Now) {
        let what = done.io.token & ((1 << 56) - 1);
        let task = TASKS[(done.io.token >> 56) as usize];
        if let Err(error) = done.result
            && error != DiskError::Unsupported
        {
            let is_read = matches!(done.io.op, Op::Read { .. });
            self.count(if is_read { Counter::SsdReadErrors } else { Counter::SsdWriteErrors }, 1);
            if !is_read {
                self.retries.back_off(now);
            }
            self.disk_failed(task, error, now);
        }
        // A client's read changes nothing for anybody else.
        self.has_stepped |= task != Task::Read;
        let is_ok = done.result.is_ok();
        if is_ok && matches!(done.io.op, Op::Write { .. }) {
            self.retries.succeeded();
        }
        if task == Task::Data {
            return self.data_written(what, done.io, is_ok);
        }
        match (task, done.io.op) {
            (Task::Read, Op::Read { buffer, .. }) => {
                self.reads.done(what as u32, done.result.map(|()| buffer));
            }
            (Task::Seal, _) => self.seal_written(what, is_ok),
            (Task::Free, _) => {
                let state = if is_ok { State::Freed } else { State::Emptied { checkpoint: 0 } };
                self.segments.get_mut(what as u32).state = state;
                self.checkpoint.is_wanted = true;
            }
            (Task::Superblock, _) => self.superblock_written(is_ok, now),
            (Task::Flush, _) => self.flushed(is_ok, now),
            (Task::Discard, _) => {
                self.can_discard &= done.result != Err(DiskError::Unsupported);
                self.segments.give(what as u32);
            }
            (Task::Summary, Op::Read { buffer, .. }) => {
                self.summary_read(what as usize, is_ok.then_some(buffer));
            }
            (Task::Records, Op::Read { buffer, .. }) => {
                self.records_read(what as usize, is_ok.then_some(buffer));
            }
            (Task::Move, Op::Read { buffer, .. }) => {
                self.move_read(what, is_ok.then_some(buffer), now);
            }
            (task, op) => unreachable!("{task:?} with {op:?}"),
        }
    }

    /// The token of a segment's present use, for [`Log::open_of`].
    pub(super) fn use_of(&self, segment: u32) -> u64 {
        u64::from(self.segments.get(segment).incarnation) << 24 | u64::from(segment)
    }

    /// The open segment that a token of [`Log::use_of`] names, if it still is open.
    pub(super) fn open_of(&self, what: u64) -> Option<usize> {
        let segment = (what & 0xff_ffff) as u32;
        let at = self.opens.iter().position(|open| open.segment == segment)?;
        (self.use_of(segment) == what).then_some(at)
    }

    fn data_written(&mut self, what: u64, io: Io, is_ok: bool) {
        let Op::Write { offset_bytes, .. } = io.op else { unreachable!("data is written") };
        let before = self.retries.take(io.token, offset_bytes);
        let Some(at) = self.open_of(what) else { return };
        let open = &mut self.opens[at];
        let start = (offset_bytes - self.segments.start_bytes(open.segment)) as u32;
        if is_ok {
            return open.written(start);
        }
        if !self.retries.failed(io, offset_bytes, before) {
            self.abandon(at, start);
        }
    }

    fn seal_written(&mut self, what: u64, is_ok: bool) {
        let Some(at) = self.open_of(what) else { return };
        if is_ok {
            let open = self.opens.swap_remove(at);
            self.segments.seal(open.segment);
        } else {
            self.opens[at].phase = Phase::Unsealed;
        }
    }

    /// Sees to it that a record that was taken out of the index is not found again after a crash.
    pub(super) fn kill(&mut self, unit: u64) {
        let link = self.segments.link(unit);
        self.kill_link(link);
    }

    pub(super) fn kill_link(&mut self, link: Link) {
        if self.segments.target(link).is_none() {
            return;
        }
        if self.kills.len() == SSD_KILLS_MAX {
            self.drop_all();
        } else {
            self.kills.push_back(link);
            self.doubt.kills += 1;
        }
    }

    /// Gives everything up that there is: the answer where nothing less is certain to be right.
    pub(super) fn drop_all(&mut self) {
        self.count(Counter::SsdDrops, 1);
        self.was_given_up();
        self.flushed_below = self.next_sequence;
        self.kills.clear();
        self.lost_kills = 0;
        self.checkpoint.is_wanted = true;
    }

    /// Takes a record out of the index, for good.
    pub(super) fn forget(&mut self, hash: u64, unit: u64) {
        if self.index.remove(hash, unit) {
            self.kill(unit);
        }
    }

    /// Takes everything that may be the key's out of the index, for good. Returns whether there was
    /// anything.
    pub(super) fn forget_all(&mut self, hash: u64) -> bool {
        let mut was_there = false;
        while let Some(unit) = self.index.take(hash) {
            self.kill(unit);
            was_there = true;
        }
        was_there
    }

    /// A cas that no item has or gets.
    pub(super) fn unused_cas(&mut self) -> u64 {
        self.refused = self.refused % 255 + 1;
        cas_of(self.next_sequence) | self.refused
    }

    pub(super) fn is_void(&self, sequence: u64) -> bool {
        self.voids.iter().any(|void| void.first <= sequence && sequence <= void.last)
    }
}

/// The cas of an item that became what it is with this record.
pub(super) fn cas_of(sequence: u64) -> u64 {
    sequence << 8 & ((1 << 62) - 1)
}

/// The hash of a key under a log's own key, the same in every run: SipHash-1-3, so that nobody
/// outside can choose keys that share a bucket.
pub(super) fn hash(hash_key: [u64; 2], key: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(hash_key[0], hash_key[1]);
    hasher.write(key);
    hasher.finish()
}
