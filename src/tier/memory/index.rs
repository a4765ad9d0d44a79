//! Where each key's item is: a hash table of fixed size with linear probing.
//!
//! A slot is 8 bytes: an item's offset and 32 bits of its key's hash. Those bits also decide where
//! the slot's search begins, so that a removal can close the gap without looking at items: there
//! are no tombstones, and a search that fails touches no item. A cache line holds eight slots.
//! This must never grow: who inserts makes room first.

use std::io;

use memmap2::MmapMut;

use crate::base::buffer;

pub const SLOT_BYTES: usize = 8;

/// The table.
#[derive(Debug)]
pub struct Index {
    map: MmapMut,
    slots: usize,
    len: usize,
}

/// A slot's content: offset 0 names no item, so 0 is an empty slot.
#[inline]
fn pack(tag: u32, item: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(item)
}

impl Index {
    /// An empty table of `slots`.
    ///
    /// # Errors
    /// The kernel's, if it has no such amount of memory.
    pub fn new(slots: usize) -> io::Result<Index> {
        let slots = slots.max(8);
        Ok(Index { map: buffer::map_huge(slots * SLOT_BYTES)?, slots, len: 0 })
    }

    /// Slots in all.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Bytes of the table.
    pub fn bytes(&self) -> usize {
        self.slots * SLOT_BYTES
    }

    /// Whether one more item would make searches long: over 7 of 8 slots hold one.
    pub fn is_full(&self) -> bool {
        self.len >= self.slots - self.slots / 8
    }

    /// Where the search for `tag` begins; grows with the tag.
    #[inline]
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.slots as u64) >> 32) as usize
    }

    #[inline]
    fn slot(&self, slot: usize) -> u64 {
        let start = slot * SLOT_BYTES;
        let mut bytes = [0; SLOT_BYTES];
        bytes.copy_from_slice(&self.map[start..start + SLOT_BYTES]);
        u64::from_ne_bytes(bytes)
    }

    #[inline]
    fn set_slot(&mut self, slot: usize, content: u64) {
        let start = slot * SLOT_BYTES;
        self.map[start..start + SLOT_BYTES].copy_from_slice(&content.to_ne_bytes());
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.slots { 0 } else { slot + 1 }
    }

    /// Asks the CPU to bring the place close where the search for `tag` begins.
    #[inline]
    pub fn prefetch(&self, tag: u32) {
        buffer::prefetch(&self.map[self.home(tag) * SLOT_BYTES]);
    }

    /// An item that is likely to be the one under `tag`; for hints only.
    #[inline]
    pub fn guess(&self, tag: u32) -> Option<u32> {
        let content = self.slot(self.home(tag));
        if (content >> 32) as u32 == tag { Some(content as u32) } else { None }
    }

    /// The item under `tag` for which `is_it` holds.
    #[inline]
    pub fn find(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut slot = self.home(tag);
        loop {
            let content = self.slot(slot);
            if content == 0 {
                return None;
            }
            if (content >> 32) as u32 == tag && is_it(content as u32) {
                return Some(content as u32);
            }
            slot = self.after(slot);
        }
    }

    /// Adds an item.
    ///
    /// # Panics
    /// If the index is full.
    pub fn insert(&mut self, tag: u32, item: u32) {
        assert!(!self.is_full(), "room is made before an item is linked");
        let mut slot = self.home(tag);
        while self.slot(slot) != 0 {
            slot = self.after(slot);
        }
        self.set_slot(slot, pack(tag, item));
        self.len += 1;
    }

    /// Removes an item.
    ///
    /// # Panics
    /// If it is not there.
    pub fn remove(&mut self, tag: u32, item: u32) {
        let mut gap = self.home(tag);
        while self.slot(gap) != pack(tag, item) {
            assert!(self.slot(gap) != 0, "a linked item is in the index");
            gap = self.after(gap);
        }
        let mut slot = gap;
        loop {
            slot = self.after(slot);
            let content = self.slot(slot);
            if content == 0 {
                break;
            }
            // It may move into the gap unless its search begins behind the gap.
            let home = self.home((content >> 32) as u32);
            let begins_behind =
                if gap <= slot { gap < home && home <= slot } else { gap < home || home <= slot };
            if !begins_behind {
                self.set_slot(gap, content);
                gap = slot;
            }
        }
        self.set_slot(gap, 0);
        self.len -= 1;
    }

    /// The item in `slot`, if one is.
    pub fn item_in(&self, slot: usize) -> Option<u32> {
        match self.slot(slot) as u32 {
            0 => None,
            item => Some(item),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn searches_wrap_around_the_end() {
        let mut index = Index::new(8).unwrap();
        for item in 1..=6 {
            index.insert(u32::MAX, item);
        }
        for item in 1..=6 {
            assert_eq!(index.find(u32::MAX, |it| it == item), Some(item));
        }
        index.remove(u32::MAX, 1);
        assert_eq!(index.find(u32::MAX, |it| it == 1), None);
        assert_eq!(index.find(u32::MAX, |it| it == 6), Some(6));
        assert_eq!(index.find(0, |_| true), None);
    }

    proptest! {
        #[test]
        fn every_item_is_found_until_it_is_removed(
            steps in prop::collection::vec((any::<bool>(), 0_u32..12), 1..400),
        ) {
            let mut index = Index::new(64).unwrap();
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            for (i, (insert, tag)) in steps.into_iter().enumerate() {
                let item = i as u32 + 1;
                let tag = tag * (u32::MAX / 11);
                if insert && !index.is_full() {
                    index.insert(tag, item);
                    model.insert(item, tag);
                } else if let Some((&item, &tag)) = model.iter().find(|&(_, &it)| it == tag) {
                    index.remove(tag, item);
                    model.remove(&item);
                }
                for (&item, &tag) in &model {
                    prop_assert_eq!(index.find(tag, |it| it == item), Some(item));
                }
                let slots = (0..index.slots()).filter(|&slot| index.item_in(slot).is_some());
                prop_assert_eq!(slots.count(), model.len());
            }
        }
    }
}
