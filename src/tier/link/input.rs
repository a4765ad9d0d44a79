//! What a link has read and not yet taken, and how it flows.
//!
//! Nothing here knows what the bytes mean.

use crate::base::limits::LINK_INPUT_BYTES;

/// The bytes read from a server.
#[derive(Debug)]
pub(super) struct Input {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// When the last whole [`LINK_INPUT_BYTES`] had arrived, and how many bytes have arrived since.
    flowed_us: u64,
    flowed_bytes: usize,
}

impl Input {
    pub(super) fn new() -> Input {
        Input {
            bytes: vec![0; LINK_INPUT_BYTES].into(),
            start: 0,
            end: 0,
            flowed_us: 0,
            flowed_bytes: 0,
        }
    }

    /// Where more is read into.
    #[inline]
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// So many bytes of the space were read.
    #[inline]
    pub(super) fn add(&mut self, n: usize, now_us: u64) {
        self.end += n;
        self.flowed_bytes += n;
        if self.flowed_bytes >= LINK_INPUT_BYTES {
            self.flowed_bytes = 0;
            self.flowed_us = now_us;
        }
    }

    /// When so much had last arrived that the server is surely at it.
    pub(super) fn flowed_us(&self) -> u64 {
        self.flowed_us
    }

    /// What is not taken.
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes the next `n` bytes.
    #[inline]
    pub(super) fn take(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end);
    }

    /// Takes the next `n` bytes: where in [`Input::at`] they are until room is made.
    #[inline]
    pub(super) fn take_at(&mut self, n: usize) -> usize {
        let at = self.start;
        self.take(n);
        at
    }

    /// Bytes that were taken since room was made last.
    #[inline]
    pub(super) fn at(&self, start: usize, len: usize) -> &[u8] {
        &self.bytes[start..start + len]
    }

    /// Takes everything.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Makes room for more behind what is not taken.
    pub(super) fn make_room(&mut self) {
        if self.is_empty() {
            self.clear();
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &mut Input, bytes: &[u8], now_us: u64) {
        input.space()[..bytes.len()].copy_from_slice(bytes);
        input.add(bytes.len(), now_us);
    }

    #[test]
    fn what_is_not_taken_stays_when_room_is_made() {
        let mut input = Input::new();
        read(&mut input, b"head value", 1);
        assert_eq!(input.take_at(5), 0);
        assert_eq!((input.at(0, 4), input.unread()), (&b"head"[..], &b"value"[..]));
        input.make_room();
        assert_eq!(input.unread(), b"value");
        assert_eq!(input.space().len(), LINK_INPUT_BYTES - 5);
        input.take(5);
        assert!(input.is_empty());
        input.make_room();
        assert_eq!(input.space().len(), LINK_INPUT_BYTES);
        read(&mut input, b"rest", 2);
        input.clear();
        assert!(input.is_empty());
    }

    #[test]
    fn a_server_flows_only_when_a_whole_buffer_has_arrived() {
        let mut input = Input::new();
        read(&mut input, &vec![0; LINK_INPUT_BYTES - 1], 5);
        assert_eq!(input.flowed_us(), 0);
        input.clear();
        read(&mut input, b"x", 7);
        assert_eq!(input.flowed_us(), 7);
        read(&mut input, b"x", 9);
        assert_eq!(input.flowed_us(), 7);
    }
}
