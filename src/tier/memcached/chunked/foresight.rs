//! How many chunks to ask for together with an item's metadata, before it is known how many it has.
//!
//! One too few costs a round trip, one too many a lookup that finds nothing, so the guess is a low
//! one. It must never matter to anything but time.

use std::cell::Cell;

use crate::base::limits::CHUNK_FORESIGHT_ITEMS;

/// As many chunks as the smallest of the last few items had.
#[derive(Debug)]
pub(super) struct Foresight {
    chunks: Cell<u32>,
    /// Of the items since that was decided.
    seen: Cell<u32>,
    fewest: Cell<u32>,
}

impl Foresight {
    pub(super) fn new() -> Foresight {
        Foresight { chunks: Cell::new(0), seen: Cell::new(0), fewest: Cell::new(u32::MAX) }
    }

    /// How many chunks the next item has, probably.
    pub(super) fn chunks(&self) -> u32 {
        self.chunks.get()
    }

    /// An item had `chunks` chunks worth asking for at once; 0: there was no item.
    pub(super) fn learn(&self, chunks: u32) {
        let seen = self.seen.get() + 1;
        let fewest = self.fewest.get().min(chunks);
        if seen == CHUNK_FORESIGHT_ITEMS {
            self.chunks.set(fewest);
            self.seen.set(0);
            self.fewest.set(u32::MAX);
        } else {
            self.seen.set(seen);
            self.fewest.set(fewest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_of_late_decides() {
        let foresight = Foresight::new();
        let guess = |items: [u32; CHUNK_FORESIGHT_ITEMS as usize]| {
            items.iter().for_each(|&chunks| foresight.learn(chunks));
            foresight.chunks()
        };
        assert_eq!(guess([10; 8]), 10);
        assert_eq!(guess([94, 94, 94, 94, 7, 94, 94, 94]), 7);
        assert_eq!(guess([94, 94, 94, 94, 94, 94, 94, 0]), 0);
        assert_eq!(guess([94; 8]), 94);
    }
}
