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
//! for good after the next one's flush. Nothing here does an I/O: it says what is to be done, and
//! is told what came of it. It must never take anything for durable that was added after it had
//! begun.

use std::task::Waker;

use super::format::{Mark, Superblock};
use super::identity::Identity;
use super::segments::{SegmentState, Segments};
use super::sequences::Sequences;
use crate::base::clock::Now;

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
    is_wanted: bool,
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
    /// Continues where everything up to the sequence `durable` is durable in these segments and
    /// everything below `flushed_below` was flushed, as the next superblocks will say
    /// ([`Checkpoint::note_start`]). The latest one on the disk has the number `generation`.
    pub(super) fn new(
        interval_us: u64,
        generation: u64,
        durable: u64,
        flushed_below: u64,
        segments: &Segments,
        now: Now,
    ) -> Checkpoint {
        let next_incarnation = segments.next_incarnation();
        Checkpoint {
            is_wanted: false,
            stage: Stage::Idle,
            interval_us,
            due_us: now.uptime_us + interval_us,
            target: durable,
            marks: Vec::new(),
            next_incarnation,
            segments_used: segments.used(),
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

    /// One is to be made at once.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// What both superblocks say was flushed.
    pub(super) fn settled_flushed_below(&self) -> u64 {
        self.noted[0].flushed_below
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

    /// Whether the next step is the superblock.
    pub(super) fn is_noting(&self) -> bool {
        self.stage == Stage::Noting
    }

    /// Whether one is to begin, with `last` the latest sequence.
    pub(super) fn is_due(&self, last: u64, now: Now) -> bool {
        let has_news = last > self.durable;
        self.is_wanted || has_news && now.uptime_us >= self.due_us
    }

    /// Begins one of everything up to the sequence `last`, with how far each segment that is not
    /// sealed is gathered.
    pub(super) fn begin(&mut self, marks: Vec<Mark>, last: u64, segments: &Segments) {
        debug_assert!(self.is_idle());
        self.marks = marks;
        self.target = last;
        self.note_segments(segments);
        self.begun += 1;
        self.is_wanted = false;
        self.stage = Stage::Draining;
    }

    fn note_segments(&mut self, segments: &Segments) {
        self.next_incarnation = segments.next_incarnation();
        self.segments_used = segments.used();
    }

    /// Whether all that was gathered is written, as `is_written` says of a mark; the next step is
    /// the flush then.
    pub(super) fn is_drained(&self, is_written: impl Fn(&Mark) -> bool) -> bool {
        self.stage == Stage::Draining && self.marks.iter().all(is_written)
    }

    /// The flush is asked for.
    pub(super) fn flush_begins(&mut self, segments: &Segments) {
        self.freed.clear();
        self.freed.extend(segments.all(|state| state == SegmentState::Freed));
        self.superblocks_flushing = self.superblocks_done;
        self.flushes_started += 1;
        self.stage = Stage::Flushing;
    }

    /// The disk has flushed. The segments that are durably given up with that.
    pub(super) fn flush_succeeded(&mut self) -> Vec<u32> {
        self.flushes_done = self.flushes_started;
        self.durable = self.target;
        self.superblocks_durable = self.superblocks_flushing;
        self.stage = Stage::Noting;
        self.wake();
        std::mem::take(&mut self.freed)
    }

    /// What the next superblock says. `clock_s`: the log's clock.
    pub(super) fn superblock(
        &self,
        identity: &Identity,
        sequences: &Sequences,
        clock_s: u32,
    ) -> Superblock {
        Superblock {
            log: identity.log,
            hash_key: identity.hash_key,
            geometry: identity.geometry,
            generation: self.generation + 1,
            durable_sequence: self.target,
            next_incarnation: self.next_incarnation,
            segments_used: self.segments_used,
            flushed_below: sequences.flushed_below(),
            flush_at_s: sequences.flush_at_s(),
            clock_s,
            starts: identity.starts,
            marks: self.marks.clone(),
            voids: sequences.voids().to_vec(),
        }
    }

    /// A log was just opened, with nothing under way: the next superblock is written there and
    /// then.
    pub(super) fn note_start(&mut self, superblock: &Superblock) {
        self.generation = superblock.generation;
    }

    /// The superblock is asked for, which says that this was flushed.
    pub(super) fn superblock_begins(&mut self, flushed_below: u64) {
        self.superblocks_started += 1;
        self.flushed_below = flushed_below;
        self.stage = Stage::Writing;
    }

    /// The superblock is written.
    pub(super) fn superblock_succeeded(&mut self, now: Now) {
        self.generation += 1;
        self.superblocks_done += 1;
        let noted = Noted {
            checkpoint: self.begun,
            sequence: self.target,
            next_incarnation: self.next_incarnation,
            flushed_below: self.flushed_below,
        };
        self.noted = [self.noted[1], noted];
        self.due_us = now.uptime_us + self.interval_us;
        self.stage = Stage::Idle;
        self.is_wanted |= !self.waiters.is_empty();
    }

    /// The flush or the superblock has failed: from the beginning.
    pub(super) fn failed(&mut self) {
        self.failures += 1;
        self.is_wanted = true;
        self.stage = Stage::Idle;
        self.wake();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::format::{Geometry, SEGMENTS_AT_BYTES};
    use super::*;
    use crate::base::woken::Woken;

    const NOW: Now = Now { uptime_us: 1_000, unix_s: 1 };

    fn segments() -> Segments {
        Segments::new(SEGMENTS_AT_BYTES + 16 * 65536, 65536)
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint::new(500, 7, 10, 0, &segments(), NOW)
    }

    /// One whole checkpoint of what there is up to `last`.
    fn pass(checkpoint: &mut Checkpoint, last: u64) {
        checkpoint.begin(Vec::new(), last, &segments());
        assert!(checkpoint.is_drained(|_| true));
        checkpoint.flush_begins(&segments());
        checkpoint.flush_succeeded();
        assert!(checkpoint.is_noting());
        checkpoint.superblock_begins(last);
        checkpoint.superblock_succeeded(NOW);
    }

    #[test]
    fn it_is_due_when_somebody_waits_or_after_the_interval_if_there_is_news() {
        let mut checkpoint = checkpoint();
        let later = Now { uptime_us: NOW.uptime_us + 500, ..NOW };
        assert!(!checkpoint.is_due(11, NOW) && checkpoint.is_due(11, later));
        assert!(!checkpoint.is_due(10, later), "there is no news");
        checkpoint.want();
        assert!(checkpoint.is_due(10, NOW) && checkpoint.due_us() == 0);
    }

    #[test]
    fn what_is_flushed_is_settled_only_when_both_superblocks_know_it() {
        let mut checkpoint = checkpoint();
        pass(&mut checkpoint, 20);
        assert_eq!((checkpoint.durable(), checkpoint.settled()), (20, 10));
        assert_eq!((checkpoint.flushed_below(), checkpoint.settled_flushed_below()), (20, 0));
        pass(&mut checkpoint, 30);
        assert_eq!((checkpoint.durable(), checkpoint.settled()), (30, 20));
        assert_eq!((checkpoint.flushed_below(), checkpoint.settled_flushed_below()), (30, 20));
        assert_eq!((checkpoint.settled_checkpoint(), checkpoint.next()), (1, 3));
    }

    #[test]
    fn what_is_not_written_is_not_flushed() {
        let mut checkpoint = checkpoint();
        let mark = |segment| Mark { segment, incarnation: 1, end_bytes: 4096 };
        checkpoint.begin(vec![mark(0), mark(1)], 20, &segments());
        assert!(!checkpoint.is_drained(|mark| mark.segment == 0));
        assert_eq!(checkpoint.next_flush(), 2, "the next one has what is added from now on");
        checkpoint.restart();
        assert!(checkpoint.is_idle() && checkpoint.is_due(10, NOW));
        assert_eq!(checkpoint.next_flush(), 1);
    }

    #[test]
    fn who_has_a_ticket_waits_for_two_superblocks_and_a_flush_or_is_told_of_a_failure() {
        let mut checkpoint = checkpoint();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let ticket = checkpoint.ticket();
        for flushes in 1..=3 {
            assert_eq!(checkpoint.poll(ticket, &waker), None, "after {} flushes", flushes - 1);
            assert!(checkpoint.is_waited_for());
            pass(&mut checkpoint, 20);
            assert_eq!(woken.count(), flushes);
        }
        assert_eq!(checkpoint.poll(ticket, &waker), Some(true));
        let ticket = checkpoint.ticket();
        checkpoint.begin(Vec::new(), 20, &segments());
        checkpoint.flush_begins(&segments());
        checkpoint.failed();
        assert_eq!(checkpoint.poll(ticket, &waker), Some(false));
        assert!(checkpoint.is_idle() && checkpoint.is_due(0, NOW), "again");
    }

    #[test]
    fn segments_given_up_before_the_flush_are_gone_with_it() {
        let (mut checkpoint, mut segments) = (checkpoint(), segments());
        let give_up = |segments: &mut Segments| {
            let segment = segments.open(0, 11).unwrap();
            segments.empty(segment, 1);
            segments.get_mut(segment).state = SegmentState::Freed;
            segment
        };
        let first = give_up(&mut segments);
        checkpoint.begin(Vec::new(), 20, &segments);
        checkpoint.flush_begins(&segments);
        give_up(&mut segments);
        assert_eq!(checkpoint.flush_succeeded(), [first]);
    }

    #[test]
    fn a_superblock_says_what_the_checkpoint_was_of() {
        let (mut checkpoint, mut segments) = (checkpoint(), segments());
        segments.open(0, 11).unwrap();
        let mark = Mark { segment: 0, incarnation: 1, end_bytes: 4096 };
        checkpoint.begin(vec![mark], 20, &segments);
        segments.open(0, 21).unwrap();
        let geometry = Geometry { part_bytes: 1, segment_bytes: 2, worker: 3, workers: 4 };
        let identity = Identity { log: [1; 16], hash_key: [2, 3], geometry, starts: 1 };
        let sequences = Sequences::new(30, 5, 6, Vec::new());
        let superblock = checkpoint.superblock(&identity, &sequences, 9);
        assert_eq!((superblock.generation, superblock.durable_sequence), (8, 20));
        assert_eq!((superblock.next_incarnation, superblock.segments_used), (2, 1));
        assert_eq!((superblock.flushed_below, superblock.flush_at_s), (5, 6));
        assert_eq!((superblock.clock_s, superblock.marks.as_slice()), (9, &[mark][..]));
    }
}
