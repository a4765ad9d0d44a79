//! A disk that fails as disks do: for tests of what stands above one.
//!
//! One seed decides everything that it does, given the same I/Os and the same times. It completes
//! I/Os late and in any order, cuts them short, interrupts them, fails them, returns bits that were
//! never written, and forgets at a cut of its power what was not flushed: each sector by itself.
//! It must never do what no disk does: what was flushed stays, and what is read is of some write to
//! that very place. Its clock is the `now` of its turns.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::flight::{Flight, Next};
use super::{Disk, Done, Io, Op, Pool};
use crate::base::clock::Now;
use crate::base::limits::{SSD_DONE_PER_TURN, SSD_QUEUE_DEPTH};
use crate::base::random::Random;

/// What lands, or is lost, as one, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// All of a million.
pub const ALWAYS: u32 = 1_000_000;

/// How often what goes wrong: rates in I/Os of a million.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Reads that fail with EIO.
    pub read_error: u32,
    /// Writes that fail with EIO; some of their sectors land.
    pub write_error: u32,
    /// Flushes that fail with EIO; nothing becomes durable by them.
    pub flush_error: u32,
    /// Every write fails with EROFS, and nothing of it lands.
    pub refuse_writes: bool,
    /// Writes for which there is no room; some of their sectors land.
    pub no_space: u32,
    /// Reads and writes that come back with less than was asked for.
    pub short: u32,
    /// I/Os that are interrupted and have to be submitted again.
    pub interrupted: u32,
    /// Reads of which one bit is wrong; on the disk it stays as it is.
    pub read_flip: u32,
    /// Writes that are done and of which one sector does not land.
    pub lost_sector: u32,
    /// How long an I/O takes, in microseconds.
    pub delay_us: RangeInclusive<u64>,
    /// What a discard does.
    pub discard: Discard,
}

/// What a discard does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// What is discarded reads as zeros.
    Zeros,
    /// It reads as what was there.
    Kept,
    /// Either, block by block.
    Either,
    /// The disk has none.
    Unsupported,
}

impl Default for Faults {
    /// None, and no delay.
    fn default() -> Faults {
        Faults {
            read_error: 0,
            write_error: 0,
            flush_error: 0,
            refuse_writes: false,
            no_space: 0,
            short: 0,
            interrupted: 0,
            read_flip: 0,
            lost_sector: 0,
            delay_us: 0..=0,
            discard: Discard::Zeros,
        }
    }
}

impl Faults {
    /// Each of reads, writes and flushes fails at this rate of a million.
    pub fn failing(rate: u32) -> Faults {
        Faults { read_error: rate, write_error: rate, flush_error: rate, ..Faults::default() }
    }
}

/// What is left of what was not flushed when the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All that was done, and of what was under way nothing: as if only the process had died.
    Kept,
    /// Nothing.
    Lost,
    /// Of every sector what was flushed or what any later write put there, of those under way too.
    Torn,
}

/// How many I/Os a disk has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reads that succeeded.
    pub reads: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Bytes of those writes.
    pub written_bytes: u64,
    /// Flushes that succeeded.
    pub flushes: u64,
    /// Discards that succeeded.
    pub discards: u64,
    /// I/Os that failed.
    pub failed: u64,
}

/// A simulated disk.
#[derive(Debug)]
pub struct SimDisk {
    medium: SimHandle,
    pool: Pool,
    size_bytes: u64,
    /// Submitted since the last turn.
    submitted: VecDeque<Pending>,
    under_way: Vec<Pending>,
    next_number: u64,
}

#[derive(Debug)]
struct Pending {
    /// Counts submissions.
    number: u64,
    due_us: u64,
    /// Of a flush: what was done when it was submitted.
    done_mark: u64,
    flight: Flight,
}

/// The medium of a [`SimDisk`] and what goes wrong with it: to look at and change it while whatever
/// is tested has the disk. Copies are the same, on any thread.
#[derive(Clone, Debug)]
pub struct SimHandle(Arc<Mutex<Medium>>);

#[derive(Debug)]
struct Medium {
    /// What survives everything.
    durable: Vec<u8>,
    /// What a read sees.
    visible: Vec<u8>,
    /// Done since the last flush, oldest first.
    unflushed: VecDeque<Landed>,
    /// Submitted and not done, by number.
    writing: Vec<Landed>,
    /// Counts what was done to the medium.
    done_count: u64,
    random: Random,
    faults: Faults,
    tally: Tally,
    done_per_turn: usize,
    next_due_us: Option<u64>,
}

/// Bytes at a place of the medium.
#[derive(Clone, Debug)]
struct Landed {
    /// Which write it is: how many were done when this was, or its submission's number.
    number: u64,
    offset_bytes: usize,
    bytes: Vec<u8>,
}

impl SimDisk {
    /// A disk of zeros.
    pub fn new(size_bytes: usize, pool: Pool, seed: u64) -> SimDisk {
        SimDisk::from_image(vec![0; size_bytes], pool, seed)
    }

    /// A disk with these bytes on it, all of them durable.
    pub fn from_image(image: Vec<u8>, pool: Pool, seed: u64) -> SimDisk {
        let size_bytes = image.len() as u64;
        let medium = Medium {
            visible: image.clone(),
            durable: image,
            unflushed: VecDeque::new(),
            writing: Vec::new(),
            done_count: 0,
            random: Random::new(seed),
            faults: Faults::default(),
            tally: Tally::default(),
            done_per_turn: SSD_DONE_PER_TURN,
            next_due_us: None,
        };
        SimDisk {
            medium: SimHandle(Arc::new(Mutex::new(medium))),
            pool,
            size_bytes,
            submitted: VecDeque::new(),
            under_way: Vec::new(),
            next_number: 0,
        }
    }

    /// The medium.
    pub fn handle(&self) -> SimHandle {
        self.medium.clone()
    }
}

impl SimHandle {
    fn lock(&self) -> MutexGuard<'_, Medium> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the next turn on this goes wrong.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// How many I/Os it has done.
    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    /// When the next I/O is done, in microseconds of uptime; None: none that the disk knows of is
    /// under way.
    pub fn next_due_us(&self) -> Option<u64> {
        self.lock().next_due_us
    }

    /// At most so many I/Os are done in one turn. With one of them, [`SimHandle::image`] after
    /// every turn is a cut at every boundary between two writes.
    ///
    /// # Panics
    /// If it is none.
    pub fn set_done_per_turn(&self, count: usize) {
        assert!(count > 0, "a disk that never gets anything done");
        self.lock().done_per_turn = count.min(SSD_DONE_PER_TURN);
    }

    /// What is on the disk after its power is cut now. The disk itself goes on as if it were not.
    pub fn image(&self, cut: Cut) -> Vec<u8> {
        self.lock().image(cut)
    }

    /// What a read sees.
    pub fn visible(&self) -> Vec<u8> {
        self.lock().visible.clone()
    }

    /// Turns one bit of the medium over, for good, somewhere in `range`. Returns its byte.
    ///
    /// # Panics
    /// If the range is empty or beyond the disk.
    pub fn flip_bit(&self, range: std::ops::Range<usize>) -> usize {
        let medium = &mut *self.lock();
        let at = range.start + medium.random.below(range.len() as u64) as usize;
        let bit = 1 << medium.random.below(8);
        medium.visible[at] ^= bit;
        medium.durable[at] ^= bit;
        at
    }
}

impl Disk for SimDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn submit(&mut self, io: Io) -> Result<(), Io> {
        if self.in_flight() == SSD_QUEUE_DEPTH {
            return Err(io);
        }
        let flight = Flight::new(io, self.size_bytes);
        let number = self.next_number;
        self.next_number += 1;
        let medium = &mut *self.medium.lock();
        if let Op::Write { offset_bytes, bytes } = &flight.io.op {
            let (offset_bytes, bytes) = (*offset_bytes as usize, bytes.to_vec());
            medium.writing.push(Landed { number, offset_bytes, bytes });
        }
        let done_mark = medium.done_count;
        self.submitted.push_back(Pending { number, due_us: 0, done_mark, flight });
        Ok(())
    }

    fn turn(&mut self, now: Now, done: &mut Vec<Done>) -> usize {
        let medium = &mut *self.medium.lock();
        for mut pending in self.submitted.drain(..) {
            pending.due_us = now.uptime_us.saturating_add(medium.delay_us());
            self.under_way.push(pending);
        }
        let mut count = 0;
        while count < medium.done_per_turn {
            let due = |pending: &Pending| pending.due_us <= now.uptime_us;
            let due_count = self.under_way.iter().filter(|pending| due(pending)).count();
            if due_count == 0 {
                break;
            }
            // Any of them, whichever came first.
            let nth = medium.random.below(due_count as u64) as usize;
            let mut places = (0..self.under_way.len()).filter(|i| due(&self.under_way[*i]));
            let Some(place) = places.nth(nth) else { unreachable!("counted above") };
            let mut pending = self.under_way.swap_remove(place);
            let result = medium.carry_out(&mut pending);
            match pending.flight.completed(result) {
                Next::Rest(flight) => {
                    let due_us = now.uptime_us.saturating_add(medium.delay_us());
                    self.under_way.push(Pending { flight, due_us, ..pending });
                }
                Next::Over(over) => {
                    medium.over(pending.number, &over);
                    done.push(over);
                    count += 1;
                }
            }
        }
        medium.next_due_us = self.under_way.iter().map(|pending| pending.due_us).min();
        count
    }

    fn in_flight(&self) -> usize {
        self.submitted.len() + self.under_way.len()
    }
}

impl Medium {
    fn delay_us(&mut self) -> u64 {
        let (first, last) = (*self.faults.delay_us.start(), *self.faults.delay_us.end());
        first + self.random.below(last.saturating_sub(first).saturating_add(1))
    }

    /// Does an I/O, or part of it, or nothing; returns what a kernel would.
    fn carry_out(&mut self, pending: &mut Pending) -> i32 {
        if happens(&mut self.random, self.faults.interrupted) {
            let errno =
                if happens(&mut self.random, ALWAYS / 2) { Errno::INTR } else { Errno::AGAIN };
            return -errno.raw_os_error();
        }
        let (offset_bytes, len_bytes) = pending.flight.left();
        let (offset, len) = (offset_bytes as usize, len_bytes as usize);
        let done_bytes = pending.flight.done_bytes;
        match &mut pending.flight.io.op {
            Op::Read { buffer, .. } => {
                self.read(offset, &mut buffer.open_mut()[done_bytes..done_bytes + len])
            }
            Op::Write { bytes, .. } => self.write(offset, &bytes[done_bytes..]),
            Op::Flush => self.flush(pending.done_mark),
            Op::Discard { .. } => self.discard(offset, len),
        }
    }

    /// How much of `len` bytes is done at once: all, or whole sectors of it, at least one.
    fn share(&mut self, len: usize) -> usize {
        if len <= SECTOR_BYTES || !happens(&mut self.random, self.faults.short) {
            return len;
        }
        SECTOR_BYTES * (1 + self.random.below((len / SECTOR_BYTES - 1) as u64) as usize)
    }

    fn read(&mut self, offset: usize, into: &mut [u8]) -> i32 {
        if happens(&mut self.random, self.faults.read_error) {
            // A read that failed leaves anything.
            into.fill(0xA5);
            return -Errno::IO.raw_os_error();
        }
        let share = self.share(into.len());
        into[..share].copy_from_slice(&self.visible[offset..offset + share]);
        if happens(&mut self.random, self.faults.read_flip) {
            into[self.random.below(share as u64) as usize] ^= 1 << self.random.below(8);
        }
        share as i32
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> i32 {
        if self.faults.refuse_writes {
            return -Errno::ROFS.raw_os_error();
        }
        for (rate, errno) in
            [(self.faults.write_error, Errno::IO), (self.faults.no_space, Errno::NOSPC)]
        {
            if happens(&mut self.random, rate) {
                for (i, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if happens(&mut self.random, ALWAYS / 2) {
                        self.land(offset + i * SECTOR_BYTES, sector);
                    }
                }
                return -errno.raw_os_error();
            }
        }
        let share = self.share(bytes.len());
        if !happens(&mut self.random, self.faults.lost_sector) {
            self.land(offset, &bytes[..share]);
            return share as i32;
        }
        let lost = self.random.below((share / SECTOR_BYTES) as u64) as usize;
        for (i, sector) in bytes[..share].chunks(SECTOR_BYTES).enumerate() {
            if i != lost {
                self.land(offset + i * SECTOR_BYTES, sector);
            }
        }
        share as i32
    }

    fn land(&mut self, offset_bytes: usize, bytes: &[u8]) {
        self.visible[offset_bytes..offset_bytes + bytes.len()].copy_from_slice(bytes);
        self.done_count += 1;
        let (number, bytes) = (self.done_count, bytes.to_vec());
        self.unflushed.push_back(Landed { number, offset_bytes, bytes });
    }

    fn flush(&mut self, done_mark: u64) -> i32 {
        if happens(&mut self.random, self.faults.flush_error) {
            return -Errno::IO.raw_os_error();
        }
        while let Some(landed) = self.unflushed.front()
            && landed.number <= done_mark
        {
            let range = landed.offset_bytes..landed.offset_bytes + landed.bytes.len();
            self.durable[range].copy_from_slice(&landed.bytes);
            self.unflushed.pop_front();
        }
        0
    }

    fn discard(&mut self, offset: usize, len: usize) -> i32 {
        const BLOCK: usize = crate::base::limits::SSD_BLOCK_BYTES;
        match self.faults.discard {
            Discard::Unsupported => return -Errno::OPNOTSUPP.raw_os_error(),
            Discard::Kept => {}
            Discard::Zeros => self.land(offset, &vec![0; len]),
            Discard::Either => {
                for at in (offset..offset + len).step_by(BLOCK) {
                    if happens(&mut self.random, ALWAYS / 2) {
                        self.land(at, &[0; BLOCK]);
                    }
                }
            }
        }
        0
    }

    /// Counts what is over, and forgets it among what is being written.
    fn over(&mut self, number: u64, over: &Done) {
        self.writing.retain(|landed| landed.number != number);
        if over.result.is_err() {
            self.tally.failed += 1;
            return;
        }
        match &over.io.op {
            Op::Read { .. } => self.tally.reads += 1,
            Op::Write { bytes, .. } => {
                self.tally.writes += 1;
                self.tally.written_bytes += bytes.len() as u64;
            }
            Op::Flush => self.tally.flushes += 1,
            Op::Discard { .. } => self.tally.discards += 1,
        }
    }

    fn image(&mut self, cut: Cut) -> Vec<u8> {
        let mut image = match cut {
            Cut::Kept => return self.visible.clone(),
            Cut::Lost | Cut::Torn => self.durable.clone(),
        };
        if cut == Cut::Lost {
            return image;
        }
        let random = &mut self.random;
        // How likely a sector lands differs from cut to cut: sometimes nearly all, or nearly none.
        let rate = random.below(u64::from(ALWAYS) + 1) as u32;
        for landed in self.unflushed.iter().chain(&self.writing) {
            for (i, sector) in landed.bytes.chunks(SECTOR_BYTES).enumerate() {
                let at = landed.offset_bytes + i * SECTOR_BYTES;
                if happens(random, rate) {
                    image[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        image
    }
}

fn happens(random: &mut Random, rate: u32) -> bool {
    rate > 0 && random.below(u64::from(ALWAYS)) < u64::from(rate)
}

#[cfg(test)]
mod tests;
