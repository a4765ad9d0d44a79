//! What is counted, and what is said of a store as a whole.

use crate::tier::dump::DumpedItem;

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentCounts {
    /// Items published.
    pub stored: u64,
    /// Live items removed to make room.
    pub evictions: u64,
    /// Those of them that were not used since they came or were last spared.
    pub evicted_unused: u64,
    /// Expired items removed without being asked for.
    pub reclaimed: u64,
    /// Those of them that were not used since they came or were last spared.
    pub reclaimed_unused: u64,
    /// Items found expired when they were asked for.
    pub found_expired: u64,
    /// Flushed items removed without being asked for.
    pub flushed: u64,
    /// Items found flushed when they were asked for.
    pub found_flushed: u64,
    /// Items that could not be made for want of room.
    pub no_memory: u64,
    /// Records copied forward.
    pub moved: u64,
    /// Their bytes.
    pub moved_bytes: u64,
    /// Segments emptied.
    pub emptied: u64,
    /// Times that many segments were emptied together.
    pub sweeps: u64,
    /// Records looked at while emptying.
    pub scanned: u64,
    /// Of the items evicted, those whose buckets were full.
    pub crowded: u64,
    /// New items that were evicted shortly before.
    pub recalled: u64,
}

impl SegmentCounts {
    /// A number that changes whenever something was removed that nobody asked to.
    #[inline(always)]
    pub fn removals(&self) -> u64 {
        self.evictions + self.reclaimed + self.found_expired + self.found_flushed + self.flushed
    }
}

/// Figures about a [`SegmentStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentOverview {
    /// Items kept.
    pub items: u64,
    /// Bytes of their records, headers included.
    pub bytes_used: usize,
    /// Bytes of all segments.
    pub bytes_total: usize,
    /// Bytes of the index.
    pub index_bytes: usize,
    /// Seconds since the oldest segment was opened.
    pub oldest_age_s: u32,
    /// Free segments.
    pub free: u32,
    /// Segments in all.
    pub segments: u32,
}

/// Items that were evicted.
#[derive(Debug, Default)]
pub struct EvictedItems {
    pub(super) items: Vec<DumpedItem>,
    /// How many more there were.
    pub(super) lost: u64,
}
