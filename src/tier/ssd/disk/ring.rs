//! A real disk: direct I/O over io_uring.
//!
//! Two rings, because one that polls its device can only read and write: `data` for reads and
//! writes, from registered buffers to a registered file, and `slow` for flushes and discards. Both
//! belong to the thread that made them and run the kernel's share of the work when that thread
//! enters it, never in an interrupt of something else. A turn enters a ring at its beginning if the
//! kernel says that something came back, and at its end if there is something to hand over, and
//! else reads two words of shared memory. It never waits; only dropping the disk does, for the I/Os
//! under way, because the kernel may still write into their memory.
//!
//! Required reading: io_uring_setup(2) on IOPOLL, SINGLE_ISSUER, DEFER_TASKRUN and TASKRUN_FLAG;
//! io_uring_enter(2) on the operations.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::types::{Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use mio::unix::SourceFd;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::flight::{Flight, Next};
use super::open::{Kind, Part};
use super::{Disk, Done, Io, Op, Pool};
use crate::base::clock::Now;
use crate::base::limits::{
    SSD_BLOCK_BYTES, SSD_CLOSE_WAITS, SSD_DONE_PER_TURN, SSD_DONE_PER_TURN_MIN, SSD_FIRST_WAITS,
    SSD_QUEUE_DEPTH, SSD_SLOW_QUEUE_DEPTH, SSD_WAIT_MS,
};
use crate::base::readiness::Readiness;

/// How completions of reads and writes are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completions {
    /// The turn asks the device (IOPOLL).
    Polled,
    /// The device interrupts, and the turn collects: it has no poll queues.
    Interrupts,
    /// The same, without having tried: a worker that sleeps has to be woken.
    Sleeping,
}

/// How a disk runs; shown at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// How completions are noticed.
    pub completions: Completions,
    /// Whether the kernel holds the buffers mapped; else it maps them for each I/O, because the
    /// limit on locked memory is too low.
    pub is_registered: bool,
}

/// Why a disk could not be driven.
#[derive(Debug)]
pub struct RingError {
    step: &'static str,
    source: io::Error,
}

impl RingError {
    fn at(step: &'static str) -> impl FnOnce(io::Error) -> RingError {
        move |source| RingError { step, source }
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RingError { step, source } = self;
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSYS | Errno::INVAL) => {
                write!(f, "{step}: {source}; it needs io_uring of Linux 6.1 or newer")
            }
            Some(Errno::PERM) => {
                write!(
                    f,
                    "{step}: {source}; allow it: sysctl kernel.io_uring_disabled=0, and in a \
                     container or a service a seccomp filter that lets io_uring_setup, _enter and \
                     _register pass"
                )
            }
            Some(Errno::NOMEM) => write!(
                f,
                "{step}: {source}; raise the limit on locked memory (ulimit -l, LimitMEMLOCK=) or \
                 that of its cgroup's memory"
            ),
            _ => write!(f, "{step}: {source}"),
        }
    }
}

impl std::error::Error for RingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Whether this process may have a ring at all.
///
/// # Errors
/// If the kernel has no io_uring, or does not allow it.
pub fn try_ring() -> Result<(), RingError> {
    IoUring::new(1).map(|_| ()).map_err(RingError::at("setting up io_uring"))
}

/// A part of a real disk, driven by the thread that made it.
pub struct RingDisk {
    part: Part,
    mode: Mode,
    data: Queue,
    slow: Queue,
    pool: Pool,
    /// Where both rings say that a turn has something to do; watched by the worker.
    waker: Option<OwnedFd>,
    /// I/Os submitted since the last turn.
    submitted: usize,
    /// Some of them were not handed over.
    is_rest_left: bool,
    /// There is something to do for a turn of which the waker does not tell.
    is_pending: bool,
}

impl RingDisk {
    /// Drives `part` with buffers of `pool`, from this thread alone. `readiness` wakes the worker
    /// when something is done. A device that is polled wakes nobody: it is polled only for a worker
    /// whose readiness is [`Readiness::none`].
    ///
    /// May read one block, and waits for it.
    ///
    /// # Errors
    /// If the kernel has no io_uring as it is needed here, or does not allow it.
    pub fn new(part: Part, pool: Pool, readiness: &Readiness) -> Result<RingDisk, RingError> {
        let slow = Queue::new(&part, SSD_SLOW_QUEUE_DEPTH, false)?;
        let may_poll = !readiness.wakes() && part.has_poll_queues();
        let polled = if may_poll { Queue::polled(&part, &pool)? } else { None };
        let completions = match (&polled, readiness.wakes()) {
            (Some(_), _) => Completions::Polled,
            (None, false) => Completions::Interrupts,
            (None, true) => Completions::Sleeping,
        };
        let mut data = match polled {
            Some(data) => data,
            None => Queue::new(&part, SSD_QUEUE_DEPTH, false)?,
        };
        let is_registered = data.register(&pool)?;
        let waker = match readiness.wakes() {
            true => Some(waker(&[&data, &slow], readiness)?),
            false => None,
        };
        let mode = Mode { completions, is_registered };
        Ok(RingDisk {
            part,
            mode,
            data,
            slow,
            pool,
            waker,
            submitted: 0,
            is_rest_left: false,
            is_pending: false,
        })
    }

    /// How it runs.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

impl Disk for RingDisk {
    fn size_bytes(&self) -> u64 {
        self.part.size_bytes()
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn submit(&mut self, io: Io) -> Result<(), Io> {
        let queue = match io.op {
            Op::Read { .. } | Op::Write { .. } => &mut self.data,
            Op::Flush | Op::Discard { .. } => &mut self.slow,
        };
        if queue.free.is_empty() {
            return Err(io);
        }
        queue.push(Flight::new(io, self.part.size_bytes()));
        self.submitted += 1;
        self.is_rest_left = true;
        Ok(())
    }

    fn hand_over(&mut self) {
        if !std::mem::take(&mut self.is_rest_left) {
            return;
        }
        for queue in [&mut self.data, &mut self.slow] {
            if queue.is_rest_left() {
                queue.enter();
            }
            self.is_rest_left |= queue.is_rest_left();
            self.is_pending |= queue.is_answered();
        }
    }

    fn turn(&mut self, _: Now, done: &mut Vec<Done>) -> usize {
        // Not all at once that the device answers for at once: who gets a few answers asks for
        // more, and so it is not idle while the rest is answered. But no fewer than come in.
        let budget = self.submitted.clamp(SSD_DONE_PER_TURN_MIN, SSD_DONE_PER_TURN);
        self.submitted = 0;
        let mut count = 0;
        // Flushes first: they are few, and reads without end must not keep them from being told.
        for queue in [&mut self.slow, &mut self.data] {
            if queue.in_flight() > 0 {
                count += queue.turn(done, budget - count);
            }
        }
        self.is_rest_left = self.data.is_rest_left() || self.slow.is_rest_left();
        self.is_pending = self.data.is_answered() || self.slow.is_answered();
        count
    }

    /// A file's blocks would go back to its file system. It has to find others for the next write,
    /// whose thread waits for that apart from the ring, one write at a time; and who takes them
    /// meanwhile leaves us without.
    fn wants_discards(&self) -> bool {
        self.part.kind() == Kind::BlockDevice
    }

    fn wakes(&self) -> bool {
        self.waker.is_some() && !self.is_pending && !self.is_rest_left
    }

    fn in_flight(&self) -> usize {
        self.data.in_flight() + self.slow.in_flight()
    }
}

impl fmt::Debug for RingDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingDisk({:?}, {} in flight)", self.mode, self.in_flight())
    }
}

/// What becomes readable when there is something to do for a turn. Not the rings themselves: a
/// ring that leaves its work to its thread wakes nobody who waits for its descriptor.
fn waker(queues: &[&Queue], readiness: &Readiness) -> Result<OwnedFd, RingError> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let waker = eventfd(0, flags).map_err(|errno| RingError::at("eventfd")(errno.into()))?;
    for queue in queues {
        queue
            .ring
            .submitter()
            .register_eventfd(waker.as_raw_fd())
            .map_err(RingError::at("registering an eventfd"))?;
    }
    // Nobody reads it: every addition to it wakes whoever watches it edge-triggered.
    readiness
        .watch(&mut SourceFd(&waker.as_raw_fd()))
        .map_err(RingError::at("watching an eventfd"))?;
    Ok(waker)
}

/// A ring and the I/Os that are in it. However it ends, it gives no memory away that the kernel may
/// still write to.
struct Queue {
    ring: IoUring,
    part: Part,
    is_polled: bool,
    is_registered: bool,
    /// By what the kernel knows them by.
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
}

impl Queue {
    fn new(part: &Part, depth: usize, is_polled: bool) -> Result<Queue, RingError> {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_submit_all();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        if is_polled {
            builder.setup_iopoll();
        }
        // Twice as many completions as submissions have room, and no more I/Os than those are ever
        // under way: completions cannot overflow.
        let ring = builder.build(depth as u32).map_err(RingError::at("setting io_uring up"))?;
        ring.submitter()
            .register_files(&[part.file().as_raw_fd()])
            .map_err(RingError::at("registering the disk"))?;
        let flights = (0..depth).map(|_| None).collect();
        let free = (0..depth as u32).rev().collect();
        Ok(Queue { ring, part: part.clone(), is_polled, is_registered: false, flights, free })
    }

    /// A ring that polls the device, if the device can be polled: one block is read to see. That
    /// alone proves nothing, for a block of a file that was never written is not read from the
    /// device; the device has to say that it has poll queues, too.
    fn polled(part: &Part, pool: &Pool) -> Result<Option<Queue>, RingError> {
        let mut queue = match Queue::new(part, SSD_QUEUE_DEPTH, true) {
            Ok(queue) => queue,
            // A kernel that lets nothing be polled refuses the ring.
            Err(RingError { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some(buffer) = pool.read_buffer(SSD_BLOCK_BYTES) else { return Ok(None) };
        let op = Op::Read { offset_bytes: 0, len_bytes: SSD_BLOCK_BYTES, buffer };
        queue.push(Flight::new(Io { token: 0, op }, part.size_bytes()));
        let mut done = Vec::with_capacity(1);
        queue.wait(&mut done, SSD_FIRST_WAITS);
        let can_poll = matches!(&done[..], [Done { result: Ok(()), .. }]);
        Ok(can_poll.then_some(queue))
    }

    /// Lets the kernel map the pool's memory once and for all. False: it may not lock so much.
    fn register(&mut self, pool: &Pool) -> Result<bool, RingError> {
        let base = pool.start().as_ptr().cast();
        let region = libc::iovec { iov_base: base, iov_len: pool.size_bytes() };
        // SAFETY: the region stays mapped as long as anybody holds a buffer of it, which every
        // flight of this ring does, and the kernel touches it for those only.
        #[allow(unsafe_code, reason = "the kernel gets an address")]
        let registered = unsafe { self.ring.submitter().register_buffers(&[region]) };
        match registered {
            Ok(()) => self.is_registered = true,
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {}
            Err(error) => return Err(RingError::at("registering buffers")(error)),
        }
        Ok(self.is_registered)
    }

    fn in_flight(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    /// Puts what is left of `flight` where the kernel will look for it.
    ///
    /// # Panics
    /// If there is no slot free.
    fn push(&mut self, flight: Flight) {
        let Some(slot) = self.free.pop() else { panic!("an I/O more than has room") };
        let flight = self.flights[slot as usize].insert(flight);
        let entry = entry(flight, &self.part, self.is_registered).user_data(u64::from(slot));
        // SAFETY: the memory that the entry names belongs to the flight's buffer or frozen piece,
        // which is in `flights` until the kernel has answered for it: `turn` takes it out only
        // then, and `drop` waits for it or leaks it. The kernel writes only into a
        // read's buffer, which nobody else has, and which `Flight::new` has seen to be long enough.
        #[allow(unsafe_code, reason = "the kernel gets an address")]
        let pushed = unsafe { self.ring.submission().push(&entry) };
        assert!(pushed.is_ok(), "as many submissions have room as there are slots");
    }

    /// Whether the kernel has not taken everything yet.
    fn is_rest_left(&mut self) -> bool {
        !self.ring.submission().is_empty()
    }

    /// Whether the kernel has answered for something that no turn has told.
    fn is_answered(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Enters the kernel, if there is a reason to.
    fn enter(&mut self) {
        let submission = self.ring.submission();
        let is_idle = submission.is_empty() && !submission.taskrun() && !submission.cq_overflow();
        drop(submission);
        if is_idle && !self.is_polled {
            return;
        }
        // Asks for completions as well if there are any to run.
        match self.ring.submit() {
            Ok(_) => {}
            // What was not taken stays in the ring, for the next turn.
            Err(error) if is_passing(&error) => {}
            Err(error) => panic!("io_uring_enter: {error}"),
        }
    }

    fn turn(&mut self, done: &mut Vec<Done>, budget: usize) -> usize {
        self.enter();
        let mut count = 0;
        let mut is_rest_left = false;
        while count < budget
            && let Some((slot, result)) = self.completion()
        {
            let Some(flight) = self.flights[slot as usize].take() else {
                panic!("the kernel completes an I/O that is not under way");
            };
            self.free.push(slot);
            match flight.completed(result) {
                Next::Rest(flight) => {
                    self.push(flight);
                    is_rest_left = true;
                }
                Next::Over(over) => {
                    done.push(over);
                    count += 1;
                }
            }
        }
        if is_rest_left {
            // At once: a worker that finds nothing else to do may sleep now.
            self.enter();
        }
        count
    }

    fn completion(&mut self) -> Option<(u32, i32)> {
        let entry = self.ring.completion().next()?;
        Some((entry.user_data() as u32, entry.result()))
    }

    /// Waits until everything is done, but not for ever: at most `times` times in vain. Only for
    /// start and end.
    fn wait(&mut self, done: &mut Vec<Done>, times: usize) {
        let mut in_vain = 0;
        while self.in_flight() > 0 && in_vain < times {
            let timeout = Timespec::new().nsec(SSD_WAIT_MS * 1_000_000);
            let arguments = SubmitArgs::new().timespec(&timeout);
            // Whatever it answers, we look again. It may return after each completion, of how many
            // there may be, so a wait that brought one is not in vain.
            let _ = self.ring.submitter().submit_with_args(1, &arguments);
            in_vain += usize::from(self.turn(done, 1) == 0);
        }
    }
}

impl Drop for Queue {
    /// Waits for what is under way. What a device has not answered for by then keeps its memory for
    /// ever, because the device may still write there.
    fn drop(&mut self) {
        self.wait(&mut Vec::new(), SSD_CLOSE_WAITS);
        if self.in_flight() > 0 {
            std::mem::forget(std::mem::take(&mut self.flights));
            self.free.clear();
        }
        // The kernel closes a ring some time after us; the disk is free for the next at once.
        let _ = self.ring.submitter().unregister_files();
    }
}

fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(errno, Some(libc::EAGAIN | libc::EBUSY | libc::EINTR | libc::ENOMEM | libc::ETIME))
}

/// A command to a block device: forget a range (include/uapi/linux/blkdev.h,
/// BLOCK_URING_CMD_DISCARD, `_IO(0x12, 0)`). Linux 6.12 and newer.
const BLOCK_DISCARD: u32 = 0x12 << 8;

/// What the kernel is asked for.
fn entry(flight: &mut Flight, part: &Part, is_registered: bool) -> squeue::Entry {
    let (offset_bytes, len_bytes) = flight.left();
    let offset = part.start_bytes() + offset_bytes;
    let done_bytes = flight.done_bytes;
    let disk = Fixed(0);
    match &mut flight.io.op {
        Op::Read { buffer, .. } => {
            let address = buffer.address().as_ptr().wrapping_add(done_bytes);
            let len = len_bytes as u32;
            match is_registered {
                true => opcode::ReadFixed::new(disk, address, len, 0).offset(offset).build(),
                false => opcode::Read::new(disk, address, len).offset(offset).build(),
            }
        }
        Op::Write { bytes, .. } => {
            let address = bytes.address().as_ptr().wrapping_add(done_bytes).cast_const();
            let len = len_bytes as u32;
            match is_registered {
                true => opcode::WriteFixed::new(disk, address, len, 0).offset(offset).build(),
                false => opcode::Write::new(disk, address, len).offset(offset).build(),
            }
        }
        Op::Flush => opcode::Fsync::new(disk).flags(FsyncFlags::DATASYNC).build(),
        Op::Discard { .. } => match part.kind() {
            Kind::File => {
                let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                let mode = mode.bits() as i32;
                opcode::Fallocate::new(disk, len_bytes).offset(offset).mode(mode).build()
            }
            Kind::BlockDevice => {
                let mut command = [0; 16];
                command[..8].copy_from_slice(&len_bytes.to_ne_bytes());
                opcode::UringCmd16::new(disk, BLOCK_DISCARD).addr(Some(offset)).cmd(command).build()
            }
        },
    }
}

#[cfg(test)]
mod tests;
