//! The log's I/Os on their way to the disk, and back.
//!
//! Everything that is written waits here until the disk takes it; clients' reads wait in
//! [`Reads`]. This must never wait itself, and knows nothing of what the I/Os are for.

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::{Disk, DiskError, Done, Frozen, Io, Op, Pool};
use super::reads::Reads;
use super::retries::{FailedWrite, Retries};
use super::tasks::Task;
use crate::base::clock::Now;
use crate::base::limits::{SSD_BLOCK_BYTES, SSD_DONE_PER_TURN};
use crate::base::stats::{Counter, WorkerStats};

/// A disk, and what it is asked for.
pub(super) struct Queue<D> {
    disk: D,
    reads: Reads,
    /// I/Os that the disk has not taken yet.
    outbox: VecDeque<Io>,
    retries: Retries,
    can_discard: bool,
    /// Kept for its memory.
    done: Vec<Done>,
    /// In this turn something was done of which there may be more to do at once.
    has_stepped: bool,
    stats: Arc<WorkerStats>,
}

impl<D: Disk> Queue<D> {
    /// Nothing is on its way.
    pub(super) fn new(disk: D, stats: Arc<WorkerStats>) -> Queue<D> {
        Queue {
            can_discard: disk.wants_discards(),
            disk,
            reads: Reads::new(),
            outbox: VecDeque::new(),
            retries: Retries::default(),
            done: Vec::with_capacity(SSD_DONE_PER_TURN),
            has_stepped: false,
            stats,
        }
    }

    /// The memory of I/Os.
    pub(super) fn pool(&self) -> &Pool {
        self.disk.pool()
    }

    /// The disk, for who waits for it: only before serving.
    pub(super) fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// The disk, given back; what is on its way is not.
    pub(super) fn into_disk(self) -> D {
        self.disk
    }

    /// Reads that clients wait for.
    pub(super) fn reads_mut(&mut self) -> &mut Reads {
        &mut self.reads
    }

    /// Asks for a write.
    pub(super) fn write(&mut self, task: Task, what: u64, offset_bytes: u64, bytes: Frozen) {
        self.stats.add(Counter::SsdBytesWritten, bytes.len() as u64);
        self.push(task, what, Op::Write { offset_bytes, bytes });
    }

    /// Asks for a write of a few blocks that `fill` makes; false if there is no memory for it now.
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

    /// Asks for a read of the log's own; false if there is no memory for it now.
    pub(super) fn read(
        &mut self,
        (task, what): (Task, u64),
        offset_bytes: u64,
        len_bytes: usize,
    ) -> bool {
        let Some(buffer) = self.disk.pool().read_buffer(len_bytes) else { return false };
        self.push(task, what, Op::Read { offset_bytes, len_bytes, buffer });
        true
    }

    /// Asks for a flush.
    pub(super) fn flush(&mut self) {
        self.push(Task::Flush, 0, Op::Flush);
    }

    /// Tells the disk that bytes are no longer needed; false if it does not want to know.
    pub(super) fn discard(&mut self, what: u64, offset_bytes: u64, len_bytes: u64) -> bool {
        if self.can_discard {
            self.push(Task::Discard, what, Op::Discard { offset_bytes, len_bytes });
        }
        self.can_discard
    }

    fn push(&mut self, task: Task, what: u64, op: Op) {
        self.outbox.push_back(Io { token: task.token(what), op });
    }

    /// Gives the disk what it takes now.
    pub(super) fn submit(&mut self) {
        while let Some(io) = self.outbox.pop_front() {
            if let Err(io) = self.disk.submit(io) {
                self.outbox.push_front(io);
                return;
            }
        }
        self.reads.submit(&mut self.disk);
    }

    /// Asks anew for the failed writes whose time has come.
    pub(super) fn resend(&mut self, now: Now) {
        if !self.retries.is_quiet(now) {
            self.outbox.extend(self.retries.due());
        }
    }

    /// Has the device begin with what was submitted.
    pub(super) fn hand_over(&mut self) {
        self.disk.hand_over();
    }

    /// A turn of the disk: what it has done, which goes back to [`Queue::put_back`], and how much.
    pub(super) fn turn(&mut self, now: Now) -> (Vec<Done>, usize) {
        self.has_stepped = false;
        self.reads.turn(now);
        self.submit();
        let mut done = std::mem::take(&mut self.done);
        done.clear();
        let count = self.disk.turn(now, &mut done);
        self.stats.set(Counter::SsdQueueDepth, self.disk.in_flight() as u64);
        debug_assert!(count <= SSD_DONE_PER_TURN);
        (done, count)
    }

    /// See [`Queue::turn`].
    pub(super) fn put_back(&mut self, done: Vec<Done>) {
        self.done = done;
    }

    /// Takes note of how an I/O ended. The error, if that is the disk's failure.
    pub(super) fn note_done(&mut self, task: Task, done: &Done, now: Now) -> Option<DiskError> {
        // A client's read changes nothing for anybody else.
        self.has_stepped |= task != Task::Read;
        match done.result {
            Ok(()) if matches!(done.io.op, Op::Write { .. }) => self.retries.succeeded(),
            Ok(()) => {}
            // Only discards may find that.
            Err(DiskError::Unsupported) => self.can_discard &= task != Task::Discard,
            Err(error) if matches!(done.io.op, Op::Read { .. }) => {
                self.stats.add(Counter::SsdReadErrors, 1);
                return Some(error);
            }
            Err(error) => {
                self.stats.add(Counter::SsdWriteErrors, 1);
                self.retries.back_off(now);
                return Some(error);
            }
        }
        None
    }

    /// A write to an open segment is done: what was known of it, if it had failed before.
    pub(super) fn take_failed(&mut self, token: u64, offset_bytes: u64) -> Option<FailedWrite> {
        self.retries.take(token, offset_bytes)
    }

    /// A write to an open segment has failed, `before` too if that was known: it is asked for
    /// again. False: its place is given up.
    pub(super) fn retry(&mut self, io: Io, offset_bytes: u64, before: Option<FailedWrite>) -> bool {
        self.retries.failed(io, offset_bytes, before)
    }

    /// Whether nothing is written now, after a failure.
    pub(super) fn is_quiet(&self, now: Now) -> bool {
        self.retries.is_quiet(now)
    }

    /// Until when nothing is written, as an uptime in microseconds.
    pub(super) fn quiet_until_us(&self) -> u64 {
        self.retries.at_us()
    }

    /// Something that takes writes to mend has failed: nothing is written for a while.
    pub(super) fn back_off(&mut self, now: Now) {
        self.retries.back_off(now);
    }

    /// Writes that succeeded.
    pub(super) fn writes_done(&self) -> u64 {
        self.retries.writes_done()
    }

    /// Something was done in this turn of which there may be more to do at once.
    pub(super) fn note_step(&mut self) {
        self.has_stepped = true;
    }

    /// Whether anything was.
    pub(super) fn has_stepped(&self) -> bool {
        self.has_stepped
    }

    /// Whether there is something to do at once. What waits for the disk comes with a completion,
    /// and who waits for memory gets it from one.
    pub(super) fn wants_turn(&self) -> bool {
        let in_flight = self.disk.in_flight();
        let is_polled = in_flight > 0 && !self.disk.wakes();
        let is_queued = !self.outbox.is_empty() || self.reads.has_queued();
        is_polled || is_queued && in_flight == 0 || self.has_stepped
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::sim::SimDisk;
    use super::*;

    const NOW: Now = Now { uptime_us: 0, unix_s: 1 };

    fn queue() -> Queue<SimDisk> {
        let pool = Pool::with_buffers(&[(SSD_BLOCK_BYTES, 2)], (SSD_BLOCK_BYTES, 1)).unwrap();
        let disk = SimDisk::from_image(vec![0; 1 << 20], pool, 1);
        Queue::new(disk, Arc::default())
    }

    /// Turns until something is done.
    fn done(queue: &mut Queue<SimDisk>, now: &mut Now) -> Vec<Done> {
        for _ in 0..10_000 {
            now.uptime_us += 1_000;
            let (done, count) = queue.turn(*now);
            if count > 0 {
                return done;
            }
        }
        panic!("nothing is ever done");
    }

    #[test]
    fn what_is_asked_for_comes_back_with_its_token() {
        let (mut queue, mut now) = (queue(), NOW);
        assert!(!queue.wants_turn());
        assert!(queue.write_blocks((Task::Superblock, 3), 0, 1, |block| block.fill(7)));
        assert!(queue.wants_turn(), "it is to be submitted");
        let write = done(&mut queue, &mut now).pop().unwrap();
        assert_eq!(Task::of(write.io.token), (Task::Superblock, 3));
        assert_eq!(queue.note_done(Task::Superblock, &write, now), None);
        assert_eq!((queue.writes_done(), queue.has_stepped()), (1, true));
        assert_eq!(queue.stats.get(Counter::SsdBytesWritten), SSD_BLOCK_BYTES as u64);
        drop(write);
        assert!(queue.read((Task::Move, 9), 0, SSD_BLOCK_BYTES));
        let read = done(&mut queue, &mut now).pop().unwrap();
        assert_eq!(Task::of(read.io.token), (Task::Move, 9));
        let Op::Read { buffer, .. } = &read.io.op else { unreachable!("a read") };
        assert!(buffer.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_finds_no_memory_is_not_asked_for() {
        let mut queue = queue();
        assert!(queue.read((Task::Move, 1), 0, SSD_BLOCK_BYTES));
        assert!(queue.read((Task::Move, 2), 0, SSD_BLOCK_BYTES));
        assert!(!queue.read((Task::Move, 3), 0, SSD_BLOCK_BYTES));
        assert!(!queue.write_blocks((Task::Seal, 3), 0, 1, |_| ()));
        assert_eq!(queue.outbox.len(), 2);
        let depth = |queue: &Queue<SimDisk>| queue.stats.get(Counter::SsdQueueDepth);
        let (mut now, mut seen) = (NOW, Vec::new());
        queue.disk.handle().set_done_per_turn(1);
        for _ in 0..2 {
            done(&mut queue, &mut now);
            seen.push(depth(&queue));
        }
        assert_eq!(seen, [1, 0]);
    }

    #[test]
    fn a_failed_write_makes_it_quiet_and_a_failed_read_does_not() {
        let mut queue = queue();
        let ended = |task: Task, op| Done {
            io: Io { token: task.token(0), op },
            result: Err(DiskError::NoSpace),
        };
        let buffer = queue.pool().read_buffer(SSD_BLOCK_BYTES).unwrap();
        let read =
            ended(Task::Summary, Op::Read { offset_bytes: 0, len_bytes: SSD_BLOCK_BYTES, buffer });
        assert_eq!(queue.note_done(Task::Summary, &read, NOW), Some(DiskError::NoSpace));
        assert!(!queue.is_quiet(NOW));
        let flush = ended(Task::Flush, Op::Flush);
        assert_eq!(queue.note_done(Task::Flush, &flush, NOW), Some(DiskError::NoSpace));
        assert!(queue.is_quiet(NOW) && queue.quiet_until_us() > 0);
        let errors = [Counter::SsdReadErrors, Counter::SsdWriteErrors];
        assert_eq!(errors.map(|counter| queue.stats.get(counter)), [1, 1]);
    }

    #[test]
    fn a_disk_that_wants_no_discards_is_asked_for_one_at_most() {
        let mut queue = queue();
        assert!(queue.discard(5, 65536, 4096));
        let op = Op::Discard { offset_bytes: 65536, len_bytes: 4096 };
        let io = Io { token: Task::Discard.token(5), op };
        let done = Done { io, result: Err(DiskError::Unsupported) };
        assert_eq!(queue.note_done(Task::Discard, &done, NOW), None);
        assert!(!queue.discard(6, 65536, 4096) && !queue.is_quiet(NOW));
        assert_eq!(queue.stats.get(Counter::SsdWriteErrors), 0);
    }
}
