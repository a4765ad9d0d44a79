//! Bytes that stay with a connection between two visits: unconsumed input, unsent output.
//!
//! A [`Queue`] takes its buffer from the worker's [`Pool`] and returns it as soon as it is empty,
//! so an idle connection has none. It never holds more than [`KERNEL_BUFFER_BYTES`].

use crate::base::limits::{
    KERNEL_BUFFER_BYTES, KERNEL_BUFFERS_KEPT, KERNEL_SMALL_BUFFER_BYTES, KERNEL_SMALL_BUFFERS_KEPT,
};

/// Free buffers of one worker.
#[derive(Debug)]
pub(super) struct Pool {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
}

fn new_buffer(bytes: usize) -> Box<[u8]> {
    vec![0; bytes].into_boxed_slice()
}

impl Pool {
    pub(super) fn new() -> Pool {
        let mut pool = Pool {
            small: Vec::with_capacity(KERNEL_SMALL_BUFFERS_KEPT),
            large: Vec::with_capacity(KERNEL_BUFFERS_KEPT),
        };
        pool.small.resize_with(KERNEL_SMALL_BUFFERS_KEPT, || new_buffer(KERNEL_SMALL_BUFFER_BYTES));
        pool.large.resize_with(KERNEL_BUFFERS_KEPT, || new_buffer(KERNEL_BUFFER_BYTES));
        pool
    }

    #[cfg(test)]
    pub(super) fn free_buffers(&self) -> (usize, usize) {
        (self.small.len(), self.large.len())
    }

    /// A buffer for at least `bytes` bytes, which are at most [`KERNEL_BUFFER_BYTES`].
    fn take(&mut self, bytes: usize) -> Box<[u8]> {
        assert!(bytes <= KERNEL_BUFFER_BYTES);
        let (free, size) = if bytes <= KERNEL_SMALL_BUFFER_BYTES {
            (&mut self.small, KERNEL_SMALL_BUFFER_BYTES)
        } else {
            (&mut self.large, KERNEL_BUFFER_BYTES)
        };
        free.pop().unwrap_or_else(|| new_buffer(size))
    }

    fn give(&mut self, buffer: Box<[u8]>) {
        let free = match buffer.len() {
            KERNEL_SMALL_BUFFER_BYTES => &mut self.small,
            _ => &mut self.large,
        };
        if free.len() < free.capacity() {
            free.push(buffer);
        }
    }
}

/// Bytes in order, contiguous.
#[derive(Debug, Default)]
pub(super) struct Queue {
    buffer: Box<[u8]>,
    start: u32,
    end: u32,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes that [`Queue::append`] and [`Queue::room`] can still accept.
    pub(super) fn room_bytes(&self) -> usize {
        KERNEL_BUFFER_BYTES - self.len()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.buffer[self.start as usize..self.end as usize]
    }

    /// Drops the first `bytes` bytes; with the last one the buffer is returned to `pool`.
    pub(super) fn consume(&mut self, bytes: usize, pool: &mut Pool) {
        assert!(bytes <= self.len());
        self.start += bytes as u32;
        if self.is_empty() {
            self.release(pool);
        }
    }

    /// Drops everything and returns the buffer.
    pub(super) fn release(&mut self, pool: &mut Pool) {
        self.start = 0;
        self.end = 0;
        if !self.buffer.is_empty() {
            pool.give(std::mem::take(&mut self.buffer));
        }
    }

    /// All free room, contiguous, to be filled from its start; then [`Queue::filled`] is called.
    /// Empty if [`Queue::room_bytes`] is 0.
    pub(super) fn room(&mut self, pool: &mut Pool) -> &mut [u8] {
        self.make_capacity(KERNEL_BUFFER_BYTES, pool);
        &mut self.buffer[self.end as usize..]
    }

    /// Adds the first `bytes` bytes of [`Queue::room`].
    pub(super) fn filled(&mut self, bytes: usize, pool: &mut Pool) {
        assert!(bytes <= self.buffer.len() - self.end as usize);
        self.end += bytes as u32;
        if self.is_empty() {
            self.release(pool);
        }
    }

    /// Adds `bytes`, at most [`Queue::room_bytes`].
    pub(super) fn append(&mut self, bytes: &[u8], pool: &mut Pool) {
        if bytes.is_empty() {
            return;
        }
        self.make_capacity(self.len() + bytes.len(), pool);
        let end = self.end as usize;
        self.buffer[end..end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len() as u32;
    }

    /// Ensures that `capacity` bytes, including those already here, fit contiguously.
    fn make_capacity(&mut self, capacity: usize, pool: &mut Pool) {
        if self.start as usize + capacity <= self.buffer.len() {
            return;
        }
        if self.buffer.len() < capacity {
            let mut buffer = pool.take(capacity);
            buffer[..self.len()].copy_from_slice(self.as_slice());
            let old = std::mem::replace(&mut self.buffer, buffer);
            if !old.is_empty() {
                pool.give(old);
            }
        } else {
            self.buffer.copy_within(self.start as usize..self.end as usize, 0);
        }
        self.end -= self.start;
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_returns_bytes_in_order_and_its_buffer_when_empty() {
        let mut pool = Pool::new();
        let (small, large) = (pool.small.len(), pool.large.len());
        let mut queue = Queue::default();
        let bytes: Vec<u8> = (0..KERNEL_BUFFER_BYTES).map(|i| (i * 7 % 253) as u8).collect();
        queue.append(&bytes[..3000], &mut pool);
        assert_eq!((pool.small.len(), pool.large.len()), (small - 1, large));
        queue.consume(1000, &mut pool);
        queue.append(&bytes[3000..], &mut pool);
        assert_eq!((pool.small.len(), pool.large.len()), (small, large - 1));
        assert_eq!(queue.as_slice(), &bytes[1000..]);
        assert_eq!(queue.room_bytes(), 1000);
        let room = queue.room(&mut pool);
        assert_eq!(room.len(), 1000);
        room.copy_from_slice(&bytes[..1000]);
        queue.filled(1000, &mut pool);
        assert_eq!(queue.room_bytes(), 0);
        assert!(queue.room(&mut pool).is_empty());
        assert_eq!(queue.as_slice()[queue.len() - 1000..], bytes[..1000]);
        queue.consume(KERNEL_BUFFER_BYTES, &mut pool);
        assert!(queue.is_empty() && queue.buffer.is_empty());
        assert_eq!((pool.small.len(), pool.large.len()), (small, large));
    }

    #[test]
    fn unused_room_holds_no_buffer() {
        let mut pool = Pool::new();
        let mut queue = Queue::default();
        assert_eq!(queue.room(&mut pool).len(), KERNEL_BUFFER_BYTES);
        queue.filled(0, &mut pool);
        assert!(queue.buffer.is_empty());
    }

    #[test]
    fn a_pool_keeps_at_most_its_limit() {
        let mut pool = Pool::new();
        let mut queues = Vec::new();
        for _ in 0..2 * KERNEL_BUFFERS_KEPT {
            let mut queue = Queue::default();
            queue.append(&[1; KERNEL_BUFFER_BYTES], &mut pool);
            queues.push(queue);
        }
        for queue in &mut queues {
            queue.release(&mut pool);
        }
        assert_eq!(pool.large.len(), KERNEL_BUFFERS_KEPT);
    }
}
