//! How far the emptying of segments has come.

use super::table::NIL;

/// Records whose buckets are prefetched ahead of the scan.
pub const AHEAD: usize = 8;

/// Why a segment is emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// To make room: what was not used goes.
    Evict,
    /// What is live stays, elsewhere.
    Compact,
}

/// How far a segment has been emptied.
#[derive(Debug)]
pub struct SegmentScan {
    pub segment: u32,
    pub why: Why,
    /// Offset in the segment of the next record to be looked at in advance.
    pub next: usize,
    pub end: usize,
    /// Records whose buckets were prefetched: offset in the segment and hash.
    pub ahead: [(u32, u64); AHEAD],
    pub first: usize,
    pub len: usize,
}

/// What was seen when looking around.
#[derive(Clone, Copy, Debug)]
pub struct LookAround {
    pub next: u32,
    /// Uptime from which on it is looked at, in microseconds.
    pub next_us: u64,
    /// Where a segment is looked for that only readers hold.
    pub next_held: u32,
    /// A segment that has expired or was flushed.
    pub dead: u32,
    /// The segment with the fewest live bytes.
    pub sparse: u32,
}

impl Default for LookAround {
    fn default() -> LookAround {
        LookAround { next: 0, next_us: 0, next_held: 0, dead: NIL, sparse: NIL }
    }
}
