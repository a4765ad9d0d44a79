//! The start of the region: what tells a store from other bytes, and what a later start needs.
//!
//! ```text
//! | magic 8 | version 4 | shift 4 | bytes 8 | segments 4 | base bits 4 | hash seed 8 |
//! | next sequence 8 | flushed below 8 | worker 4 | workers 4 |
//! ```

use super::region::Region;

const MAGIC: u64 = u64::from_le_bytes(*b"sunderL1");
const VERSION: u32 = 1;
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const SHIFT_AT: usize = 12;
const BYTES_AT: usize = 16;
const SEGMENTS_AT: usize = 24;
const SEED_AT: usize = 32;
const SEQUENCE_AT: usize = 40;
const FLUSHED_AT: usize = 48;
const WORKER_AT: usize = 56;
const WORKERS_AT: usize = 60;

/// Bytes before the index: a page, or two lines where memory is short.
pub fn header_bytes(bytes: usize) -> usize {
    if bytes >= 1 << 20 { 4096 } else { 128 }
}

/// What never changes in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub bytes: usize,
    /// A segment has 2^shift bytes.
    pub shift: u32,
    pub seed: u64,
    pub worker: u32,
    pub workers: u32,
}

/// Begins a region. The magic number comes last: what has it has all the rest.
pub fn begin(region: &mut Region, geometry: Geometry, segments: u32) {
    region.set_u32(VERSION_AT, VERSION);
    region.set_u32(SHIFT_AT, geometry.shift);
    region.set_u64(BYTES_AT, geometry.bytes as u64);
    region.set_u64(SEED_AT, geometry.seed);
    region.set_u32(WORKER_AT, geometry.worker);
    region.set_u32(WORKERS_AT, geometry.workers);
    set_segments(region, segments);
    region.in_order();
    region.set_u64(MAGIC_AT, MAGIC);
}

/// What a region says of itself; None if it is not a store's.
pub fn geometry(region: &Region) -> Option<Geometry> {
    if region.u64(MAGIC_AT) != MAGIC || region.u32(VERSION_AT) != VERSION {
        return None;
    }
    let geometry = Geometry {
        bytes: region.u64(BYTES_AT) as usize,
        shift: region.u32(SHIFT_AT),
        seed: region.u64(SEED_AT),
        worker: region.u32(WORKER_AT),
        workers: region.u32(WORKERS_AT),
    };
    (geometry.bytes == region.bytes() && geometry.shift < usize::BITS).then_some(geometry)
}

/// Segments that the index does not have.
pub fn segments(region: &Region) -> u32 {
    region.u32(SEGMENTS_AT)
}

/// The index has taken a segment.
pub fn set_segments(region: &mut Region, segments: u32) {
    region.set_u32(SEGMENTS_AT, segments);
    region.in_order();
}

/// Sequence numbers below this may have been used.
pub fn set_sequence(region: &mut Region, next: u64) {
    region.set_u64(SEQUENCE_AT, next);
    region.in_order();
}

/// What lies in segments with a lower sequence number is flushed.
pub fn flushed_below(region: &Region) -> u64 {
    region.u64(FLUSHED_AT)
}

/// Everything in segments with a lower sequence number is flushed now.
pub fn set_flushed_below(region: &mut Region, sequence: u64) {
    region.set_u64(FLUSHED_AT, sequence);
}
