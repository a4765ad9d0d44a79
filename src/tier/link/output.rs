//! Requests of a link that the kernel does not have yet.
//!
//! At the end there may be a lookup that more keys can join. Nothing here knows what the bytes
//! mean.

use std::io;

use crate::base::limits::{LINK_LOOKUP_BYTES, LINK_OUTPUT_BYTES};

/// Freed capacity beyond this goes back to the allocator.
const BYTES_KEPT: usize = 2 * LINK_OUTPUT_BYTES;

/// The bytes to be sent to a server.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// How many of them the kernel has.
    sent: usize,
    /// Bytes of the lookup at the end that more keys may join; 0: there is none.
    lookup_bytes: usize,
}

impl Output {
    pub(super) fn new() -> Output {
        Output { bytes: Vec::with_capacity(LINK_OUTPUT_BYTES), sent: 0, lookup_bytes: 0 }
    }

    /// Where requests are written, behind all others. No lookup is at the end.
    #[inline]
    pub(super) fn end_mut(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.lookup_bytes == 0);
        &mut self.bytes
    }

    /// Bytes that the kernel does not have.
    #[inline]
    pub(super) fn unsent_bytes(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether a key finds no room in the lookup at the end.
    #[inline]
    pub(super) fn is_lookup_full(&self, key: &[u8]) -> bool {
        self.lookup_bytes + 1 + key.len() > LINK_LOOKUP_BYTES
    }

    /// Adds a key to the lookup at the end, which begins with `begin` if there is none.
    #[inline]
    pub(super) fn look_up(&mut self, begin: &[u8], key: &[u8]) {
        if self.lookup_bytes == 0 {
            self.bytes.extend_from_slice(begin);
            self.lookup_bytes = begin.len();
        }
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(key);
        self.lookup_bytes += 1 + key.len();
    }

    /// Ends the lookup at the end with `end`. False: there was none.
    #[inline]
    pub(super) fn end_lookup(&mut self, end: &[u8]) -> bool {
        let was_there = self.lookup_bytes > 0;
        if was_there {
            self.bytes.extend_from_slice(end);
            self.lookup_bytes = 0;
        }
        was_there
    }

    /// Gives `write`, which says how much it takes, as much as that is.
    ///
    /// # Errors
    /// As `write` says.
    pub(super) fn send(
        &mut self,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while self.sent < self.bytes.len() {
            match write(&self.bytes[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
            self.bytes.shrink_to(BYTES_KEPT);
        } else if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(BYTES_KEPT);
        (self.sent, self.lookup_bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that takes so many bytes and then no more.
    fn taking(mut left: usize, sent: &mut Vec<u8>) -> impl FnMut(&[u8]) -> io::Result<usize> {
        move |bytes| {
            let n = left.min(bytes.len()).min(3);
            left -= n;
            sent.extend_from_slice(&bytes[..n]);
            if n == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(n) }
        }
    }

    #[test]
    fn what_the_kernel_does_not_take_is_sent_later_in_order() {
        let (mut output, mut sent) = (Output::new(), Vec::new());
        output.end_mut().extend_from_slice(b"0123456789");
        output.send(taking(4, &mut sent)).unwrap();
        assert_eq!(output.unsent_bytes(), 6);
        output.end_mut().extend_from_slice(b"ab");
        output.send(taking(3, &mut sent)).unwrap();
        output.send(taking(100, &mut sent)).unwrap();
        assert_eq!((sent.as_slice(), output.unsent_bytes()), (&b"0123456789ab"[..], 0));
        output.end_mut().push(b'c');
        assert!(output.send(|_| Err(io::ErrorKind::BrokenPipe.into())).is_err());
        output.clear();
        assert_eq!(output.unsent_bytes(), 0);
    }

    #[test]
    fn keys_join_the_lookup_at_the_end_until_it_is_ended_or_full() {
        let (mut output, mut sent) = (Output::new(), Vec::new());
        assert!(!output.end_lookup(b"\r\n"));
        output.look_up(b"get", b"a");
        output.look_up(b"get", b"b");
        assert!(output.end_lookup(b"\r\n") && !output.end_lookup(b"\r\n"));
        output.look_up(b"get", b"c");
        assert!(!output.is_lookup_full(b"key") && output.is_lookup_full(&[0; LINK_LOOKUP_BYTES]));
        output.send(taking(100, &mut sent)).unwrap();
        assert_eq!(sent, b"get a b\r\nget c");
    }
}
