//! A first-in, first-out queue of bytes in pooled blocks.
//!
//! Nothing here bounds its length: code that pushes accounts for the bytes against a budget from
//! `limits`.

use std::collections::VecDeque;
use std::fmt;

use super::{Block, CACHE, give_block, take_block};
use crate::base::limits::BLOCK_BYTES;

/// A first-in, first-out queue of bytes in pooled blocks.
///
/// It has its own budget, and therefore does not count in [`super::bytes_in_use`].
#[derive(Default)]
pub struct Fifo {
    /// Oldest first; all but the newest are full.
    blocks: VecDeque<Box<Block>>,
    /// Bytes of the oldest block that are consumed already.
    start: usize,
    len: usize,
}

impl Fifo {
    /// An empty one with room for `blocks` blocks.
    pub fn with_blocks(blocks: usize) -> Fifo {
        Fifo { blocks: VecDeque::with_capacity(blocks), start: 0, len: 0 }
    }

    /// Drops all bytes.
    pub fn clear(&mut self) {
        self.consume(self.len);
    }

    /// Bytes in the queue.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Total size of its blocks, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// Appends `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = self.held_bytes() - self.start - self.len;
            if room == 0 {
                self.blocks.push_back(take_block());
                CACHE.with_borrow_mut(|cache| cache.count(-1));
                continue;
            }
            let (now, later) = rest.split_at(room.min(rest.len()));
            let block = self.blocks.back_mut().expect("there is room in it");
            let at = BLOCK_BYTES - room;
            block.bytes[at..at + now.len()].copy_from_slice(now);
            self.len += now.len();
            rest = later;
        }
    }

    /// The oldest bytes, as many as are contiguous; empty only if there are none.
    pub fn front(&self) -> &[u8] {
        let Some(block) = self.blocks.front() else { return &[] };
        &block.bytes[self.start..BLOCK_BYTES.min(self.start + self.len)]
    }

    /// Copies the oldest bytes into `out`, at most its length; returns how many.
    pub fn copy_to(&self, out: &mut [u8]) -> usize {
        let total = self.len.min(out.len());
        let (mut done, mut start) = (0, self.start);
        for block in &self.blocks {
            let n = (BLOCK_BYTES - start).min(total - done);
            out[done..done + n].copy_from_slice(&block.bytes[start..start + n]);
            done += n;
            start = 0;
        }
        done
    }

    /// Drops the oldest `bytes` bytes, which must exist.
    pub fn consume(&mut self, bytes: usize) {
        self.len = self.len.checked_sub(bytes).expect("consumed at most what is queued");
        self.start += bytes;
        while self.start >= BLOCK_BYTES {
            self.start -= BLOCK_BYTES;
            self.drop_oldest();
        }
        if self.len == 0 {
            self.start = 0;
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(block) = self.blocks.pop_front() {
            let _ = CACHE.try_with(|cache| cache.borrow_mut().count(1));
            give_block(block);
        }
    }
}

impl fmt::Debug for Fifo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fifo({} bytes)", self.len)
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        while !self.blocks.is_empty() {
            self.drop_oldest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_returns_bytes_in_order() {
        let bytes: Vec<u8> = (0..50 * BLOCK_BYTES).map(|i| (i * 31 % 251) as u8).collect();
        let steps = [1, 7, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5, 0];
        let mut fifo = Fifo::default();
        let (mut pushed, mut consumed) = (0, 0);
        for round in 0..200 {
            let n = steps[round % steps.len()].min(bytes.len() - pushed);
            fifo.push(&bytes[pushed..pushed + n]);
            pushed += n;
            let mut seen = vec![0; 2 * BLOCK_BYTES + 9];
            let n = fifo.copy_to(&mut seen);
            assert_eq!(n, (pushed - consumed).min(seen.len()));
            assert_eq!(seen[..n], bytes[consumed..consumed + n]);
            let front = fifo.front();
            assert_eq!(front, &bytes[consumed..consumed + front.len()]);
            assert_eq!(front.is_empty(), fifo.is_empty());
            let n = steps[(round * 3 + 1) % steps.len()].min(fifo.len());
            fifo.consume(n);
            consumed += n;
            assert!(fifo.held_bytes() <= fifo.len() + 2 * BLOCK_BYTES);
            assert_eq!(fifo.held_bytes() == 0, fifo.is_empty());
        }
        assert_eq!(pushed, bytes.len());
    }
}
