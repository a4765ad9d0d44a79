//! Where segments lie in a region: counted from its end, so that the last lies behind the index.

/// Where segments lie.
#[derive(Clone, Copy, Debug)]
pub struct SegmentPlaces {
    /// Where the first one ends.
    pub end: usize,
    /// A segment has 2^shift bytes.
    pub shift: u32,
}

impl SegmentPlaces {
    /// The segment that a place is in.
    #[inline(always)]
    pub fn of(self, place: usize) -> u32 {
        ((self.end - 1 - place) >> self.shift) as u32
    }

    /// Where a segment starts.
    #[inline(always)]
    pub fn start(self, segment: u32) -> usize {
        self.end - ((segment as usize + 1) << self.shift)
    }

    /// Where the segment that a place is in starts.
    #[inline(always)]
    pub fn start_of(self, place: usize) -> usize {
        self.start(self.of(place))
    }
}
