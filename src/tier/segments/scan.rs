//! How far the emptying of segments has come.

use super::table::NIL;

/// Records whose buckets are prefetched ahead of the scan.
pub const AHEAD: usize = 8;

/// Most segments that are emptied together.
pub const SWEEP_SEGMENTS_MAX: usize = 256;

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

/// The segments that are being emptied together.
#[derive(Debug)]
pub struct Sweep {
    pub segments: Vec<u32>,
    /// A bit for each segment.
    pub has: Vec<u64>,
    /// Records found no room lately: until then, as an uptime in microseconds, much is kept free.
    pub pressed_until_us: u64,
}

impl Sweep {
    /// None, of `segments`.
    pub fn new(segments: u32) -> Sweep {
        Sweep {
            segments: Vec::with_capacity(SWEEP_SEGMENTS_MAX),
            has: vec![0; segments.div_ceil(u64::BITS) as usize],
            pressed_until_us: 0,
        }
    }

    /// Whether there are any.
    #[inline(always)]
    pub fn is_running(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Whether a segment is one of them.
    #[inline(always)]
    pub fn has(&self, segment: u32) -> bool {
        self.has[(segment / u64::BITS) as usize] >> (segment % u64::BITS) & 1 != 0
    }

    /// Adds a segment.
    pub fn add(&mut self, segment: u32) {
        self.segments.push(segment);
        self.has[(segment / u64::BITS) as usize] |= 1 << (segment % u64::BITS);
    }
}
