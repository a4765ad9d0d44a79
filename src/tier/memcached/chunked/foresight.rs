//! How many chunks to request together with an item's metadata, before its number of chunks is
//! known.
//!
//! One too few costs a round trip, one too many an unnecessary lookup, so the estimate is low. It
//! must never affect anything but time.

use std::cell::Cell;

use crate::base::limits::CHUNK_FORESIGHT_ITEMS;

/// The number of chunks of the smallest of the last few items.
#[derive(Debug)]
pub(super) struct Foresight {
    chunks: Cell<u32>,
    /// Items since the last decision.
    seen: Cell<u32>,
    fewest: Cell<u32>,
}

impl Foresight {
    pub(super) fn new() -> Foresight {
        Foresight { chunks: Cell::new(0), seen: Cell::new(0), fewest: Cell::new(u32::MAX) }
    }

    /// The probable number of chunks of the next item.
    pub(super) fn chunks(&self) -> u32 {
        self.chunks.get()
    }

    /// An item had `chunks` chunks worth requesting together; 0: there was no item.
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
    fn the_smallest_recent_item_decides() {
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
