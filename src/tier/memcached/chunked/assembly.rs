//! Splitting a value into chunks, and assembling it from them.
//!
//! Nothing here does I/O.

use super::layout::{Metadata, Shape};
use super::token::{TOKEN_BYTES, Token};
use crate::base::buffer::{self, Chain, Gather};

/// Splits a value that lies in pieces into runs of other lengths.
pub struct Cutter<'a, I> {
    pieces: I,
    rest: &'a [u8],
}

impl<'a, I: Iterator<Item = &'a [u8]>> Cutter<'a, I> {
    /// Splits the value in `pieces`.
    pub fn new(pieces: I) -> Cutter<'a, I> {
        Cutter { pieces, rest: b"" }
    }

    /// Calls `take` with the next `bytes` bytes, piece by piece.
    ///
    /// # Panics
    /// If fewer bytes are left.
    #[inline]
    pub fn cut(&mut self, bytes: usize, mut take: impl FnMut(&[u8])) {
        let mut left = bytes;
        while left > 0 {
            if self.rest.is_empty() {
                self.rest = self.pieces.next().expect("a value has its stated length");
            }
            let (now, later) = self.rest.split_at(left.min(self.rest.len()));
            take(now);
            left -= now.len();
            self.rest = later;
        }
    }
}

/// Why a value cannot be assembled from its chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A chunk no longer exists.
    Missing,
    /// A chunk belongs to another value, or is not a chunk.
    Foreign,
    /// There is no memory to gather it now; the item may be intact.
    NoRoom,
}

/// Assembles a value from its chunks, which arrive in order, each in pieces of any length. Returns
/// the complete value or none of it.
#[derive(Debug, Default)]
pub struct Assembly {
    shape: Shape,
    token: Token,
    /// The next chunk.
    next: u32,
    /// Bytes of the current chunk that have arrived.
    come: usize,
    value: Gather,
    /// The reason, and its chunk.
    broken: Option<(Broken, u32)>,
}

impl Assembly {
    /// For the value that `metadata` describes, from chunk `first` on.
    pub fn new(metadata: &Metadata, first: u32) -> Assembly {
        let Metadata { shape, token, .. } = *metadata;
        let value = Gather::new();
        let mut assembly = Assembly { shape, token, next: first, come: 0, value, broken: None };
        if !buffer::may_gather(assembly.left_bytes()) {
            assembly.fail(Broken::NoRoom);
        }
        assembly
    }

    /// The next chunk begins, as an item with a value of `bytes` bytes; None if there is no item.
    #[inline]
    pub fn begin(&mut self, bytes: Option<usize>) {
        self.come = 0;
        match bytes {
            None => self.fail(Broken::Missing),
            Some(bytes) if bytes != self.shape.chunk_item_bytes() => self.fail(Broken::Foreign),
            Some(_) if self.next == self.shape.chunks => self.fail(Broken::Foreign),
            Some(_) if !buffer::may_gather(self.left_bytes()) => self.fail(Broken::NoRoom),
            Some(_) => {}
        }
    }

    /// Bytes missing from the next chunk on.
    fn left_bytes(&self) -> usize {
        (self.shape.length as usize).saturating_sub(self.shape.offset(self.next))
    }

    /// The next bytes of the chunk.
    #[inline]
    pub fn bytes(&mut self, mut bytes: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        if self.come < TOKEN_BYTES {
            let (token, data) = bytes.split_at(bytes.len().min(TOKEN_BYTES - self.come));
            if token != &self.token[self.come..self.come + token.len()] {
                return self.fail(Broken::Foreign);
            }
            self.come += token.len();
            bytes = data;
        }
        let data_come = self.come.saturating_sub(TOKEN_BYTES);
        let wanted = self.shape.bytes_in(self.next).saturating_sub(data_come);
        self.value.extend(&bytes[..bytes.len().min(wanted)]);
        self.come += bytes.len();
    }

    /// The chunk is complete.
    #[inline]
    pub fn end(&mut self) {
        self.next += 1;
    }

    fn fail(&mut self, broken: Broken) {
        self.broken.get_or_insert((broken, self.next));
    }

    /// The next chunk.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Why there will be no value, if that is known already.
    pub fn broken(&self) -> Option<Broken> {
        self.broken.map(|(broken, _)| broken)
    }

    /// Whether the missing chunk is the very first of the value.
    pub fn has_lost_first(&self) -> bool {
        self.broken == Some((Broken::Missing, 0))
    }

    /// The value, or its part from the first chunk on.
    ///
    /// # Errors
    /// Not all chunks arrived intact.
    pub fn finish(self) -> Result<Chain, Broken> {
        match self.broken {
            Some((broken, _)) => Err(broken),
            None if self.next < self.shape.chunks => Err(Broken::Missing),
            None => Ok(self.value.finish()),
        }
    }
}
