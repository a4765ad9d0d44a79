//! One request that is being written.

use crate::base::buffer::Body;

/// One request that is being written. Everything written here is sent.
#[derive(Debug)]
pub struct RequestWriter<'a> {
    out: &'a mut Vec<u8>,
    opaque: u32,
}

impl<'a> RequestWriter<'a> {
    /// A request with this number, written to `out`.
    pub fn new(out: &'a mut Vec<u8>, opaque: u32) -> RequestWriter<'a> {
        RequestWriter { out, opaque }
    }

    /// The number that the answer must repeat.
    pub fn opaque(&self) -> u32 {
        self.opaque
    }

    /// Appends bytes.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends a number in decimal digits.
    #[inline]
    pub fn number(&mut self, number: u64) {
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Appends a value.
    #[inline]
    pub fn value(&mut self, value: Body<'_>) {
        self.out.reserve(value.len());
        value.for_each_piece(|piece| self.out.extend_from_slice(piece));
    }

    /// Appends `count` zero bytes.
    pub fn zeros(&mut self, count: usize) {
        self.out.resize(self.out.len() + count, 0);
    }
}
