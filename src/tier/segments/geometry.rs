//! What is made of a size: how many bytes are header, index and segments, and how long these are.
//!
//! A later start makes the same of the same size. Whatever changes that raises the header's
//! version.

use super::index;
use super::places::SegmentPlaces;
use super::region::LINE_BYTES;

/// Smallest [`SegmentStoreConfig::bytes`].
pub const BYTES_MIN: usize = 64 * 1024;

/// Largest [`SegmentStoreConfig::bytes`].
pub const BYTES_MAX: usize = 1 << index::PLACE_BITS;

const SEGMENT_BYTES_MIN: usize = 4 * 1024;
const SEGMENT_BYTES_MAX: usize = 1 << 20;
const SEGMENTS: usize = 512;

/// Least bytes of a header.
pub const HEADER_BYTES_MIN: usize = 512;

/// What a [`SegmentStore`] is made with.
#[derive(Clone, Copy, Debug)]
pub struct SegmentStoreConfig {
    /// Bytes for everything, [`BYTES_MIN`] to [`BYTES_MAX`].
    pub bytes: usize,
    /// The worker whose keys these are, counted from 0.
    pub worker: usize,
    /// Workers in all; cas numbers of different workers are different.
    pub workers: usize,
}

/// Bytes before the index: a page, or less where memory is short.
pub fn header_bytes(bytes: usize) -> usize {
    if bytes >= 1 << 20 { 4096 } else { HEADER_BYTES_MIN }
}

/// What never changes in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub bytes: usize,
    /// A segment has 2^shift bytes.
    pub shift: u32,
    pub seed: u64,
    /// What decides which worker owns a key; the same in all workers' stores.
    pub key_seed: u64,
    pub worker: u32,
    pub workers: u32,
}

/// Bytes of a segment in a region of `bytes`.
fn segment_bytes(bytes: usize) -> usize {
    let wanted = 1 << (bytes / SEGMENTS).max(1).ilog2();
    usize::clamp(wanted, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
}

impl SegmentStoreConfig {
    pub(super) fn is_in_range(&self) -> bool {
        (BYTES_MIN..=BYTES_MAX).contains(&self.bytes) && self.worker < self.workers
    }

    /// What a new store of it never changes.
    pub(super) fn geometry(&self, seed: u64, key_seed: u64) -> Geometry {
        let bytes = self.bytes / LINE_BYTES * LINE_BYTES;
        let shift = segment_bytes(bytes).ilog2();
        let (worker, workers) = (self.worker as u32, self.workers as u32);
        Geometry { bytes, shift, seed, key_seed, worker, workers }
    }
}

impl Geometry {
    /// Where segments lie.
    pub fn places(&self) -> SegmentPlaces {
        SegmentPlaces { end: self.bytes, shift: self.shift }
    }

    /// Segments while the index has its least size.
    pub fn segments(&self) -> u32 {
        let bytes = self.bytes - header_bytes(self.bytes) - index::bytes_min(self.bytes);
        (bytes >> self.shift) as u32
    }
}
