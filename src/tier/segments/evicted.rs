//! What was evicted, noted for somebody who watches. Costs nothing while nobody does, and never
//! holds up what evicts: what nobody has taken in time is only counted.

use super::index::IndexEntry;
use super::record;
use super::store::SegmentStore;
use crate::base::buffer::Key;
use crate::base::limits::EVICTED_NOTED;
use crate::tier::dump::DumpedItem;

impl SegmentStore {
    /// Whether to note what is evicted from here on.
    pub fn note_evicted(&mut self, is_wanted: bool) {
        match (is_wanted, &self.evicted) {
            (true, None) => self.evicted = Some(Box::default()),
            (false, Some(_)) => self.evicted = None,
            _ => {}
        }
    }

    /// Passes on what was noted since the last call, oldest first; returns how many more there
    /// were.
    pub fn take_evicted(&mut self, each: &mut dyn FnMut(DumpedItem)) -> u64 {
        let Some(noted) = &mut self.evicted else { return 0 };
        noted.items.drain(..).for_each(each);
        std::mem::take(&mut noted.lost)
    }

    /// Notes an item that is about to be removed.
    #[cold]
    #[inline(never)]
    pub(super) fn note_eviction(&mut self, entry: IndexEntry) {
        let place = entry.place();
        let head = record::head(&self.region, place);
        let item = Key::new(head.key(&self.region, place)).map(|key| DumpedItem {
            key,
            flags: head.flags(&self.region, place),
            expiry: head.expiry(&self.region, place),
            used_s: self.table.get(self.table.of(place)).opened_s,
            cas: self.cas_at(head, place),
            is_fetched: entry.frequency() > 0,
            value_bytes: self.value_bytes_at(head, place),
        });
        let Some(noted) = &mut self.evicted else { return };
        match item {
            Some(item) if noted.items.len() < EVICTED_NOTED => noted.items.push(item),
            _ => noted.lost += 1,
        }
    }
}
