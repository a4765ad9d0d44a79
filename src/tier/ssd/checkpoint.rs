//! Making durable what was written, and remembering how far that is.
//!
//! ```text
//! idle ─> draining ──────────> flushing ─> superblock ─> idle
//!         all gathered so far   the disk's   says what the
//!         is on its way or      own cache    flush made
//!         there                              durable
//! ```
//!
//! A checkpoint is made when the flush interval is over and anything was added, or at once when
//! somebody waits for one. Superblocks alternate between two blocks; what a checkpoint says holds
//! for good after the next one's flush. This must never begin while what a failed write lost waits
//! for its tombstones: the sequences that are gone count as given up only then. Other kills do not
//! hold it up, or else there would be no room for theirs.

use std::task::Waker;

use super::disk::{Disk, Io, Op};
use super::format::{Mark, SUPERBLOCKS, Superblock};
use super::log::{Log, Task, token};
use super::open::Phase;
use super::segments::State;
use crate::base::clock::Now;
use crate::base::limits::SSD_BLOCK_BYTES;
use crate::base::stats::Counter;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Draining,
    Flushing,
    /// The superblock waits for memory.
    Noting,
    /// The superblock is on its way.
    Writing,
}

/// How far the log is durable.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// Somebody waits for one.
    pub(super) is_wanted: bool,
    stage: Stage,
    interval_us: u64,
    due_us: u64,
    /// The sequence up to which the one under way makes everything durable.
    target: u64,
    marks: Vec<Mark>,
    next_incarnation: u32,
    segments_used: u32,
    /// What the superblock on its way says was flushed.
    flushed_below: u64,
    /// Segments whose giving up becomes durable with the flush under way.
    freed: Vec<u32>,
    durable: u64,
    flushes_started: u64,
    flushes_done: u64,
    failures: u64,
    generation: u64,
    superblocks_started: u64,
    superblocks_done: u64,
    /// Of those done, how many were so when the flush under way was submitted, and at the last one
    /// done.
    superblocks_flushing: u64,
    superblocks_durable: u64,
    /// What the two latest superblocks say, the older one first.
    noted: [Noted; 2],
    /// How many were begun.
    begun: u64,
    waiters: Vec<Waker>,
}

impl Checkpoint {
    /// Goes on where both superblocks say `durable`, `next_incarnation` and `flushed_below`, the
    /// later one being number `generation`.
    pub(super) fn new(
        interval_us: u64,
        generation: u64,
        durable: u64,
        next_incarnation: u32,
        flushed_below: u64,
        now: Now,
    ) -> Checkpoint {
        Checkpoint {
            is_wanted: false,
            stage: Stage::Idle,
            interval_us,
            due_us: now.uptime_us + interval_us,
            target: durable,
            marks: Vec::new(),
            next_incarnation,
            segments_used: 0,
            flushed_below,
            freed: Vec::new(),
            durable,
            flushes_started: 0,
            flushes_done: 0,
            failures: 0,
            generation,
            superblocks_started: 0,
            superblocks_done: 0,
            superblocks_flushing: 0,
            superblocks_durable: 0,
            noted: [Noted { checkpoint: 0, sequence: durable, next_incarnation, flushed_below }; 2],
            begun: 0,
            waiters: Vec::new(),
        }
    }

    /// Incarnations below this are known to every superblock that a crash may leave.
    pub(super) fn next_incarnation_durable(&self) -> u32 {
        self.noted[0].next_incarnation
    }

    /// Records up to this sequence are durable whichever superblock a crash leaves: recovery does
    /// not look for them.
    pub(super) fn settled(&self) -> u64 {
        self.noted[0].sequence
    }

    /// How often one is made, in microseconds.
    pub(super) fn interval_us(&self) -> u64 {
        self.interval_us
    }

    /// What the latest superblock says was flushed.
    pub(super) fn flushed_below(&self) -> u64 {
        self.noted[1].flushed_below
    }

    /// Whether somebody waits for superblocks.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// Whether none is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    /// The first checkpoint of which everything is that was added until now.
    pub(super) fn next(&self) -> u64 {
        self.begun + 1
    }

    /// The last checkpoint that is there whichever superblock a crash leaves. To be flushed is not
    /// enough: where a failed write has left a gap, the log ends at it for a superblock that does
    /// not know that it was given up.
    pub(super) fn settled_checkpoint(&self) -> u64 {
        self.noted[0].checkpoint
    }

    /// Records up to this sequence are durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Flushes that succeeded.
    pub(super) fn flushes_done(&self) -> u64 {
        self.flushes_done
    }

    /// The number of the flush that makes durable what was added until now.
    pub(super) fn next_flush(&self) -> u64 {
        self.flushes_started + if self.stage == Stage::Draining { 2 } else { 1 }
    }

    /// What was gathered for the one under way is not what it was.
    pub(super) fn restart(&mut self) {
        if self.stage == Stage::Draining {
            self.stage = Stage::Idle;
            self.is_wanted = true;
        }
    }

    /// When the next one is due, as an uptime in microseconds.
    pub(super) fn due_us(&self) -> u64 {
        if self.is_wanted { 0 } else { self.due_us }
    }

    /// What to wait for after a change of what superblocks say: both of them saying so, durably.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.is_wanted = true;
        Ticket { superblocks: self.superblocks_started + 2, failures: self.failures }
    }

    /// Whether what a ticket waits for is there; Some(false) if it failed. Else `waker` is called
    /// when it may be.
    pub(super) fn poll(&mut self, ticket: Ticket, waker: &Waker) -> Option<bool> {
        if self.superblocks_durable >= ticket.superblocks {
            return Some(true);
        }
        if self.failures > ticket.failures {
            return Some(false);
        }
        self.is_wanted = true;
        if !self.waiters.iter().any(|kept| kept.will_wake(waker)) {
            self.waiters.push(waker.clone());
        }
        None
    }

    /// Has everybody look who waits.
    pub(super) fn wake(&mut self) {
        self.waiters.drain(..).for_each(Waker::wake);
    }
}

/// What a superblock says.
#[derive(Clone, Copy, Debug)]
struct Noted {
    checkpoint: u64,
    sequence: u64,
    next_incarnation: u32,
    flushed_below: u64,
}

/// See [`Checkpoint::ticket`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    superblocks: u64,
    failures: u64,
}

impl<D: Disk> Log<D> {
    /// Takes the next step of a checkpoint, if there is one to take.
    pub(super) fn advance_checkpoint(&mut self, now: Now) {
        let is_quiet = self.retries.is_quiet(now);
        match self.checkpoint.stage {
            Stage::Idle if !is_quiet => self.begin_checkpoint(now),
            Stage::Draining if self.is_drained() => self.flush_disk(),
            Stage::Noting if !is_quiet => self.write_superblock(),
            _ => {}
        }
    }

    /// Whether nothing but the time stands before the next one.
    pub(super) fn may_begin_checkpoint(&self) -> bool {
        self.checkpoint.is_idle() && self.lost_kills == 0 && self.lost_entries == 0
    }

    fn begin_checkpoint(&mut self, now: Now) {
        let has_news = self.next_sequence - 1 > self.checkpoint.durable;
        let is_due = has_news && now.uptime_us >= self.checkpoint.due_us;
        if !(is_due || self.checkpoint.is_wanted) || !self.may_begin_checkpoint() {
            return;
        }
        let mut marks = Vec::with_capacity(self.opens.len());
        for at in 0..self.opens.len() {
            let is_filling = self.opens[at].phase == Phase::Filling;
            if is_filling {
                self.write_ready(at, true);
            }
            let open = &self.opens[at];
            marks.push(Mark {
                segment: open.segment,
                incarnation: self.segments.get(open.segment).incarnation,
                end_bytes: if is_filling { open.head() } else { open.records_end },
            });
        }
        // Given up before they were sealed, and perhaps not durably so.
        for segment in self.segments.all(|_| true) {
            let it = self.segments.get(segment);
            if it.data_end_bytes == 0 {
                marks.push(Mark { segment, incarnation: it.incarnation, end_bytes: 0 });
            }
        }
        let checkpoint = &mut self.checkpoint;
        checkpoint.marks = marks;
        checkpoint.target = self.next_sequence - 1;
        checkpoint.next_incarnation = self.segments.next_incarnation();
        checkpoint.segments_used = self.segments.used();
        checkpoint.begun += 1;
        checkpoint.is_wanted = false;
        checkpoint.stage = Stage::Draining;
        self.advance_checkpoint(now);
    }

    fn is_drained(&self) -> bool {
        self.checkpoint.marks.iter().all(|mark| {
            let open = self.opens.iter().find(|open| open.segment == mark.segment);
            let is_same = self.segments.get(mark.segment).incarnation == mark.incarnation;
            !is_same || open.is_none_or(|open| open.completed() >= mark.end_bytes)
        })
    }

    fn flush_disk(&mut self) {
        let checkpoint = &mut self.checkpoint;
        checkpoint.freed.clear();
        let freed = self.segments.all(|state| state == State::Freed);
        checkpoint.freed.extend(freed);
        checkpoint.superblocks_flushing = checkpoint.superblocks_done;
        checkpoint.flushes_started += 1;
        checkpoint.stage = Stage::Flushing;
        self.outbox.push_back(Io { token: token(Task::Flush, 0), op: Op::Flush });
    }

    /// The disk has flushed, or has failed to.
    pub(super) fn flushed(&mut self, is_ok: bool, now: Now) {
        if !is_ok {
            return self.checkpoint_failed(now);
        }
        let checkpoint = &mut self.checkpoint;
        checkpoint.flushes_done = checkpoint.flushes_started;
        checkpoint.durable = checkpoint.target;
        checkpoint.superblocks_durable = checkpoint.superblocks_flushing;
        checkpoint.stage = Stage::Noting;
        checkpoint.wake();
        for segment in std::mem::take(&mut self.checkpoint.freed) {
            self.died(segment);
        }
        self.write_superblock();
    }

    fn write_superblock(&mut self) {
        let superblock = self.superblock();
        let offset_bytes = superblock.generation % SUPERBLOCKS as u64 * SSD_BLOCK_BYTES as u64;
        let what = (Task::Superblock, 0);
        if self.write_blocks(what, offset_bytes, 1, |block| superblock.encode(block)) {
            self.checkpoint.superblocks_started += 1;
            self.checkpoint.flushed_below = superblock.flushed_below;
            self.checkpoint.stage = Stage::Writing;
        }
    }

    /// What the next superblock says.
    fn superblock(&mut self) -> Superblock {
        if !self.voids.is_empty() {
            let first = self.segments.first_sequence().unwrap_or(u64::MAX);
            self.voids.retain(|void| void.last >= first);
        }
        Superblock {
            log: self.id,
            hash_key: self.hash_key,
            geometry: self.geometry,
            generation: self.checkpoint.generation + 1,
            durable_sequence: self.checkpoint.target,
            next_incarnation: self.checkpoint.next_incarnation,
            segments_used: self.checkpoint.segments_used,
            flushed_below: self.flushed_below,
            flush_at_s: self.flush_at_s,
            clock_s: self.clock.now().unix_s,
            marks: self.checkpoint.marks.clone(),
            voids: self.voids.clone(),
        }
    }

    /// The next superblock of a log that was just opened, with nothing under way.
    pub(super) fn superblock_at_start(&mut self) -> Superblock {
        self.checkpoint.next_incarnation = self.segments.next_incarnation();
        self.checkpoint.segments_used = self.segments.used();
        let superblock = self.superblock();
        self.checkpoint.generation += 1;
        superblock
    }

    /// A superblock is written, or could not be.
    pub(super) fn superblock_written(&mut self, is_ok: bool, now: Now) {
        if !is_ok {
            return self.checkpoint_failed(now);
        }
        let checkpoint = &mut self.checkpoint;
        checkpoint.generation += 1;
        checkpoint.superblocks_done += 1;
        let noted = Noted {
            checkpoint: checkpoint.begun,
            sequence: checkpoint.target,
            next_incarnation: checkpoint.next_incarnation,
            flushed_below: checkpoint.flushed_below,
        };
        checkpoint.noted = [checkpoint.noted[1], noted];
        self.segments.flushed_below = checkpoint.noted[0].flushed_below;
        checkpoint.due_us = now.uptime_us + checkpoint.interval_us;
        checkpoint.stage = Stage::Idle;
        checkpoint.is_wanted |= !checkpoint.waiters.is_empty();
        self.count(Counter::SsdCheckpoints, 1);
    }

    /// Counts what the disk has done for the log: a disk that works moves on.
    pub(super) fn moved(&self) -> u64 {
        self.retries.writes_done() + self.checkpoint.flushes_done
    }

    fn checkpoint_failed(&mut self, now: Now) {
        self.retries.back_off(now);
        let checkpoint = &mut self.checkpoint;
        checkpoint.failures += 1;
        checkpoint.is_wanted = true;
        checkpoint.stage = Stage::Idle;
        checkpoint.wake();
    }
}
