//! Listing the items of a store in the order of its index.

use super::record;
use super::store::SegmentStore;
use crate::base::buffer::Key;
use crate::base::clock::Now;
use crate::tier::dump::{Dumped, DumpedItem};

impl SegmentStore {
    /// The items in at most `buckets` buckets from bucket `from` on.
    pub fn dump(&mut self, from: u64, buckets: usize, now: Now) -> Dumped {
        self.flush_if_asked(now);
        let end = self.index.buckets();
        let from = usize::try_from(from).map_or(end, |from| from.min(end));
        let until = from.saturating_add(buckets).min(end);
        // One record after another would be one cache miss after another.
        for bucket in from..until {
            for entry in self.index.entries_in(&self.region, bucket) {
                self.region.prefetch(entry.place());
            }
        }
        let mut items = Vec::new();
        for bucket in from..until {
            for entry in self.index.entries_in(&self.region, bucket) {
                let place = entry.place();
                let head = record::head(&self.region, place);
                let expiry = head.expiry(&self.region, place);
                if self.is_flushed(place) || expiry.is_past(now) {
                    continue;
                }
                let Some(key) = Key::new(head.key(&self.region, place)) else { continue };
                items.push(DumpedItem {
                    key,
                    flags: head.flags(&self.region, place),
                    expiry,
                    used_s: self.table.get(self.table.of(place)).opened_s,
                    cas: self.cas_at(head, place),
                    is_fetched: entry.frequency() > 0,
                    value_bytes: self.value_bytes_at(head, place),
                });
            }
        }
        Dumped { items, next: if until == end { 0 } else { until as u64 } }
    }
}
