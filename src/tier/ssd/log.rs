//! The log of one worker, put together from its parts, and what becomes of completions.
//!
//! ```text
//! Log ── queue: I/Os on their way (disk, reads, retries)      index: where keys' records are
//!    ├── segments, sequences, identity: what is on the disk   admission: what is worth a write
//!    ├── writer: open segments      kills: tombstones to come
//!    ├── checkpoint: how far it is durable      doubt: whether the disk is believed
//!    └── reclaim: giving segments up            clock
//! ```
//!
//! Each part knows its own subject; what concerns several happens here, at once: who waits for the
//! disk does so in [`super::Ssd`], outside of any borrow. This must never overtake: while a kill
//! waits for its tombstone, no other record is added.

use std::sync::Arc;

use super::admission::Admission;
use super::checkpoint::Checkpoint;
use super::disk::{Disk, Done, Io, Op};
use super::doubt::{Deeds, Doubt};
use super::format::{Kind, Link, SUPERBLOCKS, Superblock};
use super::identity::Identity;
use super::index::Index;
use super::kills::Kills;
use super::open::{Open, Phase};
use super::own_clock::OwnClock;
use super::queue::Queue;
use super::reclaim::{Reclaim, Step};
use super::segments::{SegmentState, Segments};
use super::sequences::Sequences;
use super::tasks::Task;
use super::writer::{Added, Need, NewRecord, Parts, Writer};
use crate::base::clock::{Expiry, Now};
use crate::base::latency::Level;
use crate::base::limits::{SSD_BLOCK_BYTES, SSD_KILLS_PER_CALL, SSD_UNIT_BYTES};
use crate::base::stats::{Counter, WorkerStats};

/// The log of one worker.
pub(super) struct Log<D> {
    pub(super) identity: Identity,
    pub(super) queue: Queue<D>,
    pub(super) index: Index,
    pub(super) segments: Segments,
    pub(super) sequences: Sequences,
    pub(super) writer: Writer,
    pub(super) kills: Kills,
    pub(super) checkpoint: Checkpoint,
    pub(super) reclaim: Reclaim,
    pub(super) doubt: Doubt,
    pub(super) admission: Admission,
    pub(super) clock: OwnClock,
    pub(super) stats: Arc<WorkerStats>,
    /// The tier that it is.
    pub(super) level: Level,
    /// Reads that clients waited for.
    pub(super) reads_over: u32,
}

impl<D: Disk> Log<D> {
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.identity.hash(key)
    }

    pub(super) fn count(&self, counter: Counter, n: u64) {
        self.stats.add(counter, n);
    }

    /// Length of the longest record, in bytes.
    pub(super) fn record_bytes_max(&self) -> usize {
        let room = super::record_room_bytes(self.segments.segment_bytes() as usize);
        room.min(self.queue.pool().read_bytes_max())
    }

    /// The writer, and the parts that it works with.
    fn writing(&mut self) -> (&mut Writer, Parts<'_, D>) {
        let parts = Parts {
            queue: &mut self.queue,
            segments: &mut self.segments,
            sequences: &mut self.sequences,
            checkpoint: &mut self.checkpoint,
            identity: &self.identity,
            stats: &self.stats,
        };
        (&mut self.writer, parts)
    }

    /// The reclaim, and what it works with.
    fn reclaiming(&mut self, now: Now) -> (&mut Reclaim, Step<'_, D>) {
        let is_killing = self.is_killing();
        let parts = Parts {
            queue: &mut self.queue,
            segments: &mut self.segments,
            sequences: &mut self.sequences,
            checkpoint: &mut self.checkpoint,
            identity: &self.identity,
            stats: &self.stats,
        };
        let (index, writer) = (&mut self.index, &mut self.writer);
        (&mut self.reclaim, Step { index, writer, parts, is_killing, now })
    }

    /// A bounded piece of everything there is to do. Returns how many I/Os were done.
    pub(super) fn turn(&mut self, now: Now) -> usize {
        let now = self.clock.at(now);
        self.tick(now);
        self.clock.set(now);
        let (mut done, count) = self.queue.turn(now);
        for done in done.drain(..) {
            self.handle(done, now);
        }
        self.queue.put_back(done);
        self.drain_kills(now);
        let (reclaim, mut step) = self.reclaiming(now);
        reclaim.advance(&mut step);
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

    fn has_room_for_tombstone(&self) -> bool {
        self.writer.has_room_for_tombstone(self.sequences.next(), &self.segments)
    }

    /// Whether room will never come: every segment may wait for a checkpoint that waits for
    /// tombstones, which wait for room. That takes more failures than the reserve of `writer` is
    /// for.
    fn is_stuck(&self) -> bool {
        let is_waiting = self.kills.has_lost() || self.reclaim.is_waiting(&self.segments);
        if !is_waiting || self.has_room_for_tombstone() || self.writer.lost() > 0 {
            return false;
        }
        // What waits for a checkpoint comes if one can begin.
        let can_begin = !self.kills.has_lost();
        let comes = |state| match state {
            SegmentState::Dead | SegmentState::Discarded => true,
            SegmentState::Emptied { .. } | SegmentState::Freeing | SegmentState::Freed => can_begin,
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
            && !self.writer.opens().iter().any(is_ending)
    }

    /// Whether a record waits for a tombstone that there will never be a name for.
    fn is_used_up(&self) -> bool {
        let is_waiting = !self.kills.is_empty() || self.reclaim.is_waiting(&self.segments);
        is_waiting && self.segments.fills_left() == 0 && !self.has_room_for_tombstone()
    }

    /// What can be done without looking at completions.
    pub(super) fn work(&mut self, now: Now) {
        self.queue.resend(now);
        if !self.queue.is_quiet(now) {
            let (writer, mut parts) = self.writing();
            writer.advance(&mut parts);
        }
        self.advance_checkpoint(now);
        self.queue.submit();
    }

    /// Lets a flush_all take effect whose time has come.
    fn tick(&mut self, now: Now) {
        if self.sequences.tick(now) {
            self.checkpoint.want();
        }
    }

    /// By when there is something to do though nobody asks for anything.
    pub(super) fn wake_at_us(&self) -> u64 {
        let now = self.clock.now();
        let weigh_at_us = self.doubt.weigh_at_us(&self.checkpoint, now.uptime_us);
        if self.queue.wants_turn() {
            0
        } else if self.queue.is_quiet(now) {
            self.queue.quiet_until_us().min(weigh_at_us)
        } else if self.may_begin_checkpoint() && self.sequences.last() > self.checkpoint.durable() {
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

    /// Notes how long a read took that is over.
    #[inline]
    fn note_read(&mut self, slot: u32, now: Now) {
        self.reads_over = self.reads_over.wrapping_add(1);
        let weight = self.stats.latencies().weight(self.reads_over);
        if weight > 0 {
            let took_ns = self.queue.reads_mut().took_us(slot, now) * 1_000;
            self.stats.latencies().tier(self.level).record(took_ns, u64::from(weight));
        }
    }

    fn handle(&mut self, done: Done, now: Now) {
        let (task, what) = Task::of(done.io.token);
        if let Some(error) = self.queue.note_done(task, &done, now) {
            self.doubt.disk_failed(task, error, now);
        }
        let is_ok = done.result.is_ok();
        if task == Task::Data {
            return self.data_written(what, done.io, is_ok);
        }
        match (task, done.io.op) {
            (Task::Read, Op::Read { buffer, .. }) => {
                self.note_read(what as u32, now);
                self.queue.reads_mut().done(what as u32, done.result.map(|()| buffer));
            }
            (Task::Seal, _) => {
                let at = self.writer.position(what, &self.segments);
                let sealed = at.and_then(|at| self.writer.seal_written(at, is_ok));
                sealed.into_iter().for_each(|segment| self.segments.seal(segment));
            }
            (Task::Free, _) => {
                let state = if is_ok {
                    SegmentState::Freed
                } else {
                    SegmentState::Emptied { checkpoint: 0 }
                };
                self.segments.get_mut(what as u32).state = state;
                self.checkpoint.want();
            }
            (Task::Superblock, _) => self.superblock_written(is_ok, now),
            (Task::Flush, _) => self.flushed(is_ok, now),
            (Task::Discard, _) => self.segments.give(what as u32),
            (Task::Summary, Op::Read { buffer, .. }) => {
                let (reclaim, step) = self.reclaiming(now);
                reclaim.summary_read(what as usize, is_ok.then_some(buffer), &step.parts);
            }
            (Task::Records, Op::Read { buffer, .. }) => {
                let (reclaim, mut step) = self.reclaiming(now);
                reclaim.records_read(what as usize, is_ok.then_some(buffer), &mut step.parts);
            }
            (Task::Move, Op::Read { buffer, .. }) => {
                let (reclaim, mut step) = self.reclaiming(now);
                reclaim.move_read(what, is_ok.then_some(buffer), &mut step);
            }
            (task, op) => unreachable!("{task:?} with {op:?}"),
        }
    }

    fn data_written(&mut self, what: u64, io: Io, is_ok: bool) {
        let Op::Write { offset_bytes, .. } = io.op else { unreachable!("data is written") };
        let before = self.queue.take_failed(io.token, offset_bytes);
        let Some(at) = self.writer.position(what, &self.segments) else { return };
        let segment = self.writer.opens()[at].segment;
        let start = (offset_bytes - self.segments.start_bytes(segment)) as u32;
        if is_ok {
            self.writer.written(at, start);
        } else if !self.queue.retry(io, offset_bytes, before) {
            self.abandon(at, start);
        }
    }

    /// Gives up what was to be written to an open segment from `start` on.
    pub(super) fn abandon(&mut self, at: usize, start: u32) {
        self.checkpoint.restart();
        self.writer.abandon(at, start);
    }

    /// Adds a record. None: there is no room for it now, and nothing was done.
    pub(super) fn append(&mut self, new: &NewRecord<'_>, need: Need) -> Option<Added> {
        let (writer, mut parts) = self.writing();
        writer.append(new, need, &mut parts)
    }

    /// Whether anything waits for its tombstone, or is yet to be found to need one.
    pub(super) fn is_killing(&self) -> bool {
        !self.kills.is_empty() || self.writer.lost() > 0
    }

    /// Writes tombstones for the next records that wait for one, if they find room.
    pub(super) fn drain_kills(&mut self, now: Now) {
        self.forget_lost();
        for _ in 0..SSD_KILLS_PER_CALL {
            let Some(link) = self.kills.first() else { return };
            let (writer, mut parts) = self.writing();
            if !writer.add_tombstone(link, now, &mut parts) {
                return;
            }
            self.queue.note_step();
            self.kills.pop();
        }
    }

    /// Forgets the next records that failed writes have lost.
    fn forget_lost(&mut self) {
        if self.writer.lost() == 0 {
            return;
        }
        for _ in 0..SSD_KILLS_PER_CALL {
            let Some((segment, entry)) = self.writer.take_lost() else { break };
            let unit = self.segments.unit(segment, entry.unit * SSD_UNIT_BYTES as u32);
            if entry.kind == Kind::Item {
                self.index.remove(entry.hash, unit);
            }
            let sequence = self.segments.get(segment).first_sequence + u64::from(entry.sequence);
            // Whoever knows that its sequence was given up knows what was flushed, too.
            if self.sequences.is_flushed(sequence) {
                continue;
            }
            if entry.kind == Kind::Item {
                // It may be on the disk all the same. If a tombstone is, nobody minds.
                self.kill(unit);
            }
            self.kill_link(entry.kills);
        }
        self.kills.mark_lost();
        self.queue.note_step();
    }

    /// Sees to it that a record that was taken out of the index is not found again after a crash.
    pub(super) fn kill(&mut self, unit: u64) {
        let link = self.segments.link(unit);
        self.kill_link(link);
    }

    fn kill_link(&mut self, link: Link) {
        if self.segments.target(link).is_some() && !self.kills.push(link) {
            self.drop_all();
        }
    }

    /// Gives everything up that there is: the answer where nothing less is certain to be right.
    fn drop_all(&mut self) {
        self.count(Counter::SsdDrops, 1);
        self.doubt.was_given_up(self.clock.now());
        self.sequences.flush();
        self.kills.clear();
        self.checkpoint.want();
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

    /// Whether nothing but the time stands before the next checkpoint. While what a failed write
    /// lost waits for its tombstones none begins: the sequences that are gone count as given up
    /// only then. Other kills do not hold it up, or else there would be no room for theirs.
    pub(super) fn may_begin_checkpoint(&self) -> bool {
        self.checkpoint.is_idle() && !self.kills.has_lost() && self.writer.lost() == 0
    }

    /// Takes the next step of a checkpoint, if there is one to take.
    fn advance_checkpoint(&mut self, now: Now) {
        let is_quiet = self.queue.is_quiet(now);
        let last = self.sequences.last();
        if !is_quiet && self.may_begin_checkpoint() && self.checkpoint.is_due(last, now) {
            let (writer, mut parts) = self.writing();
            let mut marks = writer.hand_over(&mut parts);
            marks.extend(self.segments.unsealed());
            self.checkpoint.begin(marks, last, &self.segments);
        }
        let (writer, segments) = (&self.writer, &self.segments);
        if self.checkpoint.is_drained(|mark| writer.has_written(mark, segments)) {
            self.checkpoint.flush_begins(segments);
            self.queue.flush();
        } else if self.checkpoint.is_noting() && !is_quiet {
            self.write_superblock();
        }
    }

    /// The disk has flushed, or has failed to.
    fn flushed(&mut self, is_ok: bool, now: Now) {
        if !is_ok {
            return self.checkpoint_failed(now);
        }
        for segment in self.checkpoint.flush_succeeded() {
            self.reclaim.died(segment, &mut self.segments);
        }
        self.write_superblock();
    }

    fn write_superblock(&mut self) {
        let superblock = self.superblock();
        let (offset_bytes, what) = (superblock_at(&superblock), (Task::Superblock, 0));
        if self.queue.write_blocks(what, offset_bytes, 1, |block| superblock.encode(block)) {
            self.checkpoint.superblock_begins(superblock.flushed_below);
        }
    }

    /// What the next superblock says.
    pub(super) fn superblock(&mut self) -> Superblock {
        if !self.sequences.voids().is_empty() {
            let first = self.segments.first_sequence().unwrap_or(u64::MAX);
            self.sequences.forget_voids_below(first);
        }
        let clock_s = self.clock.now().unix_s;
        self.checkpoint.superblock(&self.identity, &self.sequences, clock_s)
    }

    /// A superblock is written, or could not be.
    fn superblock_written(&mut self, is_ok: bool, now: Now) {
        if !is_ok {
            return self.checkpoint_failed(now);
        }
        self.checkpoint.superblock_succeeded(now);
        let flushed_below = self.checkpoint.settled_flushed_below();
        self.segments.settle(flushed_below, self.checkpoint.next_incarnation_durable());
        self.count(Counter::SsdCheckpoints, 1);
    }

    fn checkpoint_failed(&mut self, now: Now) {
        self.queue.back_off(now);
        self.checkpoint.failed();
    }

    /// Counts what the disk has done for the log: a disk that works moves on.
    pub(super) fn moved(&self) -> u64 {
        self.queue.writes_done() + self.checkpoint.flushes_done()
    }

    /// Looks at how late the disk is with what was done.
    fn weigh(&mut self, now: Now) {
        let deeds = Deeds {
            last: self.sequences.last(),
            flushed_below: self.sequences.flushed_below(),
            kills: self.kills.queued(),
            kills_done: self.kills.done(),
            has_lost: self.writer.lost() > 0,
        };
        self.doubt.weigh(&deeds, &mut self.checkpoint, &self.identity.log, now);
        self.stats.set(Counter::SsdDegraded, u64::from(self.doubt.is_doubted()));
    }

    /// What becomes of the log is known: it was closed, or it could not be. Begins to note that.
    pub(super) fn close(&mut self, is_closed: bool) {
        self.doubt.close(is_closed, &self.identity.log);
    }

    /// Invalidates every item stored before `at`, or before now if that is past or never.
    pub(super) fn flush_all(&mut self, at: Expiry, now: Now) {
        self.sequences.flush_at(at, now);
    }
}

/// Where a superblock goes on the part, in bytes.
pub(super) fn superblock_at(superblock: &Superblock) -> u64 {
    superblock.generation % SUPERBLOCKS as u64 * SSD_BLOCK_BYTES as u64
}
