//! Reads that clients wait for.
//!
//! Each has a slot from when it is asked for until its answer is fetched, or until it is done if
//! nobody wants it any more. Reads for which there is no buffer wait their turn here, short ones
//! and long ones apart. This must never hold more of them than its limit.

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use super::disk::{Buffer, Disk, DiskError, Io, Op};
use super::tasks::Task;
use crate::base::clock::Now;
use crate::base::limits::{SSD_BLOCK_BYTES, SSD_READS_MAX};

#[derive(Debug)]
enum ReadState {
    Free,
    Queued { offset_bytes: u64, len_bytes: usize },
    Reading,
    Abandoned,
    Done(Result<Buffer, DiskError>),
}

#[derive(Debug)]
struct Slot {
    state: ReadState,
    /// When it was asked for, as an uptime in microseconds.
    at_us: u64,
    waker: Option<Waker>,
}

/// The reads under way.
#[derive(Debug)]
pub struct Reads {
    /// The time of the last turn.
    now: Now,
    slots: Vec<Slot>,
    free: Vec<u32>,
    short: VecDeque<u32>,
    long: VecDeque<u32>,
}

impl Reads {
    /// Room for [`SSD_READS_MAX`] reads.
    pub fn new() -> Reads {
        Reads {
            now: Now::default(),
            slots: (0..SSD_READS_MAX)
                .map(|_| Slot { state: ReadState::Free, at_us: 0, waker: None })
                .collect(),
            free: (0..SSD_READS_MAX as u32).rev().collect(),
            short: VecDeque::with_capacity(SSD_READS_MAX),
            long: VecDeque::with_capacity(SSD_READS_MAX),
        }
    }

    /// Asks for a read. None: there are too many.
    pub fn begin(&mut self, offset_bytes: u64, len_bytes: usize) -> Option<u32> {
        let slot = self.free.pop()?;
        self.slots[slot as usize].at_us = self.now.uptime_us;
        self.slots[slot as usize].state = ReadState::Queued { offset_bytes, len_bytes };
        let is_short = len_bytes <= SSD_BLOCK_BYTES;
        if is_short { &mut self.short } else { &mut self.long }.push_back(slot);
        Some(slot)
    }

    /// A turn begins.
    pub fn turn(&mut self, now: Now) {
        self.now = now;
    }

    /// Whether some wait for a buffer or the disk.
    pub fn has_queued(&self) -> bool {
        !self.short.is_empty() || !self.long.is_empty()
    }

    /// Hands over what finds a buffer and room in the disk's queue.
    pub fn submit(&mut self, disk: &mut impl Disk) {
        let Reads { slots, free, short, long, now: _ } = self;
        for queue in [short, long] {
            while let Some(&slot) = queue.front() {
                let ReadState::Queued { offset_bytes, len_bytes } = slots[slot as usize].state
                else {
                    // Nobody wants it any more.
                    queue.pop_front();
                    slots[slot as usize].state = ReadState::Free;
                    free.push(slot);
                    continue;
                };
                let Some(buffer) = disk.pool().read_buffer(len_bytes) else { break };
                let op = Op::Read { offset_bytes, len_bytes, buffer };
                if disk.submit(Io { token: Task::Read.token(u64::from(slot)), op }).is_err() {
                    break;
                }
                queue.pop_front();
                slots[slot as usize].state = ReadState::Reading;
            }
        }
    }

    /// How long a read that is over took, its wait for a buffer included, in microseconds.
    pub fn took_us(&self, slot: u32, now: Now) -> u64 {
        now.uptime_us.saturating_sub(self.slots[slot as usize].at_us)
    }

    /// A read is over.
    pub fn done(&mut self, slot: u32, result: Result<Buffer, DiskError>) {
        let it = &mut self.slots[slot as usize];
        if matches!(it.state, ReadState::Abandoned) {
            it.state = ReadState::Free;
            self.free.push(slot);
            return;
        }
        it.state = ReadState::Done(result);
        if let Some(waker) = it.waker.take() {
            waker.wake();
        }
    }

    /// The answer, which is forgotten here; or `waker` is called when it is there.
    pub fn poll(&mut self, slot: u32, waker: &Waker) -> Poll<Result<Buffer, DiskError>> {
        let it = &mut self.slots[slot as usize];
        match std::mem::replace(&mut it.state, ReadState::Free) {
            ReadState::Done(result) => {
                self.free.push(slot);
                Poll::Ready(result)
            }
            state => {
                it.state = state;
                if !it.waker.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
                    it.waker = Some(waker.clone());
                }
                Poll::Pending
            }
        }
    }

    /// Nobody waits for it any more.
    pub fn abandon(&mut self, slot: u32) {
        let it = &mut self.slots[slot as usize];
        it.waker = None;
        match it.state {
            ReadState::Queued { .. } | ReadState::Reading => it.state = ReadState::Abandoned,
            _ => {
                it.state = ReadState::Free;
                self.free.push(slot);
            }
        }
    }
}
