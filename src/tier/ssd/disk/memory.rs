//! A disk in memory: for tests and benches of what stands above a disk.
//!
//! It does everything in the next turn, never fails and forgets everything when it is dropped.

use std::collections::VecDeque;

use super::flight::{Flight, Next};
use super::{Disk, Done, Io, Op, Pool};
use crate::base::clock::Now;
use crate::base::limits::{SSD_DONE_PER_TURN, SSD_QUEUE_DEPTH};

/// A disk in memory.
#[derive(Debug)]
pub struct MemoryDisk {
    bytes: Vec<u8>,
    pool: Pool,
    queue: VecDeque<Flight>,
}

impl MemoryDisk {
    /// A disk of zeros.
    pub fn new(size_bytes: usize, pool: Pool) -> MemoryDisk {
        MemoryDisk::from_image(vec![0; size_bytes], pool)
    }

    /// A disk with these bytes on it.
    pub fn from_image(bytes: Vec<u8>, pool: Pool) -> MemoryDisk {
        MemoryDisk { bytes, pool, queue: VecDeque::with_capacity(SSD_QUEUE_DEPTH) }
    }

    /// What is on it.
    pub fn image(&self) -> &[u8] {
        &self.bytes
    }
}

impl Disk for MemoryDisk {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn submit(&mut self, io: Io) -> Result<(), Io> {
        if self.queue.len() == SSD_QUEUE_DEPTH {
            return Err(io);
        }
        self.queue.push_back(Flight::new(io, self.bytes.len() as u64));
        Ok(())
    }

    fn turn(&mut self, _: Now, done: &mut Vec<Done>) -> usize {
        let count = self.queue.len().min(SSD_DONE_PER_TURN);
        for mut flight in self.queue.drain(..count) {
            let (offset_bytes, len_bytes) = flight.left();
            let range = offset_bytes as usize..(offset_bytes + len_bytes) as usize;
            match &mut flight.io.op {
                Op::Read { buffer, .. } => {
                    buffer.open_mut()[..range.len()].copy_from_slice(&self.bytes[range]);
                }
                Op::Write { bytes, .. } => self.bytes[range].copy_from_slice(bytes),
                Op::Flush => {}
                Op::Discard { .. } => self.bytes[range].fill(0),
            }
            let is_counted = matches!(flight.io.op, Op::Read { .. } | Op::Write { .. });
            let result = if is_counted { len_bytes as i32 } else { 0 };
            let Next::Over(over) = flight.completed(result) else { unreachable!("all of it") };
            done.push(over);
        }
        count
    }

    fn in_flight(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tier::ssd::disk::suite;

    #[test]
    fn it_is_a_disk() {
        suite::run(|| MemoryDisk::new(suite::SIZE_BYTES, suite::pool()));
    }
}
