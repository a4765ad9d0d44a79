//! What meta commands need to know and change of an item: its marks, a cas that a client chose, and
//! what is known of its use.
//!
//! Nothing here is kept for items that have no cas of their own.

use super::record::{self, RecordMarks};
use super::store::{FoundRecord, MadeRecord, OFFSET_BITS, SegmentStore};
use crate::base::clock::Now;

impl SegmentStore {
    /// The item of `key`, though it may have expired: what was just published.
    pub fn peek(&self, key: &[u8], hash: u64) -> Option<FoundRecord> {
        self.lookup(key, self.index.address(hash))
    }

    /// An item's marks.
    #[inline]
    pub fn marks(&self, found: &FoundRecord) -> RecordMarks {
        found.head.marks(&self.region, found.place)
    }

    /// Whether it was used lately: what is not used is forgotten when the store looks for something
    /// to evict.
    #[inline]
    pub fn is_used(&self, found: &FoundRecord) -> bool {
        found.entry.frequency() > 0
    }

    /// Seconds since its segment was begun, so at least as long as since it was stored or moved.
    #[inline]
    pub fn age_s(&self, found: &FoundRecord, now: Now) -> u32 {
        now.unix_s.saturating_sub(self.table.get(self.table.of(found.place)).opened_s)
    }

    /// A cas that no item has, above `cas` unless a client chose that: a client with an older one
    /// is recognized by it.
    pub fn cas_above(&mut self, cas: u64) -> u64 {
        if self.counter_cas <= cas {
            self.counter_cas = self.next_sequence() << OFFSET_BITS;
        }
        self.next_counter_cas()
    }

    /// As [`SegmentStore::publish`], with marks, and with this cas if it is not None. The item was
    /// made with room for them.
    pub fn publish_as(
        &mut self,
        made: MadeRecord,
        hash: u64,
        old: Option<&FoundRecord>,
        (cas, marks): (Option<u64>, RecordMarks),
    ) -> u64 {
        debug_assert!(made.head.has_cas());
        let next = self.publish(made, hash, old);
        let cas = cas.unwrap_or(next);
        let head = record::head(&self.region, made.place);
        head.set_cas(&mut self.region, made.place, cas, marks);
        head.write_check(&mut self.region, made.place);
        cas
    }
}
