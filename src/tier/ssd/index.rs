//! Where each key's record is: 8 bytes of memory for each place, as many places as were asked for.
//!
//! ```text
//! bucket: 8 slots in one cache line      slot: | tag 21 | span 7 | uses 2 | location 34 |
//! ```
//!
//! A key may be in either of two buckets and goes to the emptier one, so that nearly all places
//! fill before any bucket is full. The index knows keys only by their hash: of a search it says
//! which slots may be it, and the key itself is on the disk. It must never grow, and never forget a
//! record without saying which: for whoever asks the disk, a record that is not in the index must
//! be dead (see the proof in [`super`]).

use std::io;

use memmap2::MmapMut;

use super::format::{LOCATION_BITS, Span};
use crate::base::buffer::{self, prefetch_range};

/// Bytes of a bucket: a cache line.
const BUCKET_BYTES: usize = 64;

/// Slots of a bucket.
pub const BUCKET_SLOTS: usize = BUCKET_BYTES / size_of::<u64>();

const LOCATION_MASK: u64 = (1 << LOCATION_BITS) - 1;
const USES_SHIFT: u32 = LOCATION_BITS;
const SPAN_SHIFT: u32 = USES_SHIFT + 2;
const TAG_SHIFT: u32 = SPAN_SHIFT + Span::BITS;

/// Uses are counted up to this.
pub const USES_MAX: u8 = 3;

/// Share of the places that are expected to be taken, in percent: with two buckets to choose from
/// about one key in ten thousand then finds both full.
const LOAD_PERCENT: u64 = 75;

/// The table.
#[derive(Debug)]
pub struct Index {
    map: MmapMut,
    buckets: u64,
    len: u64,
    /// Objects of more blocks than are ever read.
    large: u64,
    /// The first span that only such objects have.
    large_from: u8,
}

/// A slot that may be the one that is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The slot, for who comes back to it without searching again.
    pub slot: usize,
    /// Where the record is, in units.
    pub unit: u64,
    /// What a read of it takes.
    pub span: Span,
    /// How often it was used, up to [`USES_MAX`].
    pub uses: u8,
}

/// The slot for a new record.
#[derive(Debug, PartialEq, Eq)]
pub struct NewSlot {
    slot: usize,
    /// The record that is there now and has to be forgotten.
    pub evicted: Option<u64>,
}

impl Index {
    /// An empty table for so many objects, of which those are counted that have more than
    /// `blocks_max` blocks.
    ///
    /// # Errors
    /// The kernel's, if it has no such amount of memory.
    pub fn new(objects: u64, blocks_max: usize) -> io::Result<Index> {
        let buckets = (objects * 100 / LOAD_PERCENT).div_ceil(BUCKET_SLOTS as u64).max(2);
        let bytes = usize::try_from(buckets)
            .ok()
            .and_then(|buckets| buckets.checked_mul(BUCKET_BYTES))
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let is_large = |code: &u8| Span::from_bits(*code).blocks_min() > blocks_max;
        let large_from = (1..1 << Span::BITS).find(is_large).unwrap_or(u8::MAX);
        Ok(Index { map: buffer::map_huge(bytes)?, buckets, len: 0, large: 0, large_from })
    }

    /// Objects in it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Objects of more blocks than are read, as far as that can be told of where they are: up to an
    /// eighth above it cannot.
    pub fn large(&self) -> u64 {
        self.large
    }

    /// Bytes of the table.
    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    fn slot(&self, slot: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.map[slot * 8..slot * 8 + 8]);
        u64::from_ne_bytes(bytes)
    }

    fn is_large(&self, content: u64) -> bool {
        Span::from_bits((content >> SPAN_SHIFT) as u8).bits() >= self.large_from
    }

    fn set_slot(&mut self, slot: usize, content: u64) {
        self.large -= u64::from(self.is_large(self.slot(slot)));
        self.large += u64::from(self.is_large(content));
        self.map[slot * 8..slot * 8 + 8].copy_from_slice(&content.to_ne_bytes());
    }

    fn tag(hash: u64) -> u64 {
        // Of all bits: those that choose the buckets are the same for all keys in them.
        hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> TAG_SHIFT
    }

    /// First slots of the two buckets of a hash; they may be the same.
    fn homes(&self, hash: u64) -> [usize; 2] {
        [hash >> 32, hash & 0xffff_ffff].map(|half| {
            let bucket = (half * self.buckets) >> 32;
            bucket as usize * BUCKET_SLOTS
        })
    }

    /// The slots in the buckets of `hash`, each once.
    fn slots(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let [first, second] = self.homes(hash);
        let others = if first == second { 0 } else { BUCKET_SLOTS };
        (first..first + BUCKET_SLOTS).chain(second..second + others)
    }

    /// Asks the CPU to bring the buckets of `hash` close.
    pub fn prefetch(&self, hash: u64) {
        for home in self.homes(hash) {
            prefetch_range::<BUCKET_BYTES>(self.map.as_ptr().addr() + home * 8);
        }
    }

    /// The records that may be the key's: nearly always none or one. Two when another key has its
    /// tag.
    pub fn find(&self, hash: u64) -> impl Iterator<Item = Candidate> + '_ {
        let tag = Index::tag(hash);
        self.slots(hash)
            .map(|slot| (slot, self.slot(slot)))
            .filter(move |(_, content)| content >> TAG_SHIFT == tag)
            .filter_map(|(slot, content)| self.candidate(slot, content))
    }

    fn position(&self, hash: u64, unit: u64) -> Option<usize> {
        self.slots(hash).find(|&slot| self.is_at(slot, hash, unit))
    }

    /// Whether a slot of the hash's buckets still has the record at `unit`.
    pub fn is_at(&self, slot: usize, hash: u64, unit: u64) -> bool {
        let content = self.slot(slot);
        content & LOCATION_MASK == unit && content >> TAG_SHIFT == Index::tag(hash)
    }

    /// Whether the record at `unit` is in the index.
    pub fn has(&self, hash: u64, unit: u64) -> bool {
        self.position(hash, unit).is_some()
    }

    /// Forgets the record at `unit`; false if it is not there.
    pub fn remove(&mut self, hash: u64, unit: u64) -> bool {
        let Some(slot) = self.position(hash, unit) else { return false };
        self.set_slot(slot, 0);
        self.len -= 1;
        true
    }

    /// Forgets one of the records that may be the key's, and says where it is.
    pub fn take(&mut self, hash: u64) -> Option<u64> {
        let unit = self.find(hash).next()?.unit;
        self.remove(hash, unit);
        Some(unit)
    }

    /// The records in at most `slots` slots from slot `from` on, and the slot behind them; 0 for
    /// the end.
    pub fn piece(&self, from: u64, slots: usize) -> (Vec<Candidate>, u64) {
        let end = self.buckets as usize * BUCKET_SLOTS;
        let from = usize::try_from(from).map_or(end, |from| from.min(end));
        let until = from.saturating_add(slots).min(end);
        let records = (from..until).filter_map(|slot| self.candidate(slot, self.slot(slot)));
        (records.collect(), if until == end { 0 } else { until as u64 })
    }

    /// What a slot has that is not empty.
    #[inline(always)]
    fn candidate(&self, slot: usize, content: u64) -> Option<Candidate> {
        (content != 0).then_some(Candidate {
            slot,
            unit: content & LOCATION_MASK,
            span: Span::from_bits((content >> SPAN_SHIFT) as u8),
            uses: (content >> USES_SHIFT) as u8 & USES_MAX,
        })
    }

    /// Counts a use of the record at `unit`, if the slot still has it.
    pub fn note_use(&mut self, slot: usize, hash: u64, unit: u64) {
        if !self.is_at(slot, hash, unit) {
            return;
        }
        let content = self.slot(slot);
        if content >> USES_SHIFT & u64::from(USES_MAX) < u64::from(USES_MAX) {
            self.set_slot(slot, content + (1 << USES_SHIFT));
        }
    }

    /// Whether the record at `unit` was used since it came there, if the slot still has it.
    pub fn is_used(&self, slot: usize, hash: u64, unit: u64) -> bool {
        self.is_at(slot, hash, unit) && self.slot(slot) >> USES_SHIFT & u64::from(USES_MAX) > 0
    }

    /// Replaces a record of the key by a moved copy of it, if it is still there.
    pub fn relocate(&mut self, hash: u64, from: u64, to: u64, span: Span) -> bool {
        let Some(slot) = self.position(hash, from) else { return false };
        self.set_slot(slot, pack(hash, to, span));
        true
    }

    /// The slot for a new record: in the emptier of its buckets, and if both are full where the
    /// oldest record is, as `age` says of a location (lower is older). The index does not change.
    pub fn new_slot(&self, hash: u64, age: impl Fn(u64) -> u64) -> NewSlot {
        let free =
            |home: usize| (home..home + BUCKET_SLOTS).filter(move |&slot| self.slot(slot) == 0);
        let [first, second] = self.homes(hash);
        let home = if free(second).count() > free(first).count() { second } else { first };
        if let Some(slot) = free(home).next() {
            return NewSlot { slot, evicted: None };
        }
        let oldest = self
            .slots(hash)
            .min_by_key(|&slot| age(self.slot(slot) & LOCATION_MASK))
            .unwrap_or(first);
        NewSlot { slot: oldest, evicted: Some(self.slot(oldest) & LOCATION_MASK) }
    }

    /// Enters a record in the slot that was just found for it.
    pub fn put(&mut self, at: NewSlot, hash: u64, unit: u64, span: Span) {
        if at.evicted.is_none() {
            self.len += 1;
        }
        self.set_slot(at.slot, pack(hash, unit, span));
    }
}

fn pack(hash: u64, unit: u64, span: Span) -> u64 {
    debug_assert!(unit != 0 && unit <= LOCATION_MASK);
    Index::tag(hash) << TAG_SHIFT | u64::from(span.bits()) << SPAN_SHIFT | unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn span() -> Span {
        Span::of_blocks(1)
    }

    /// What an ordinary hash gives, and the same in every run.
    fn hash(i: u64) -> u64 {
        let mut x = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    #[test]
    fn an_object_takes_less_than_sixteen_bytes_and_all_expected_ones_fit() {
        let objects = 200_000;
        let mut index = Index::new(objects, 8).unwrap();
        assert!(index.bytes() as u64 <= objects * 11, "{}", index.bytes());
        let mut evicted = Vec::new();
        for i in 0..objects {
            let at = index.new_slot(hash(i), |unit| unit);
            evicted.extend(at.evicted);
            index.put(at, hash(i), i + 1, span());
        }
        assert!(evicted.len() as u64 <= objects / 10_000, "{} evicted", evicted.len());
        assert_eq!(index.len() + evicted.len() as u64, objects);
        let wrong: usize = (0..objects)
            .filter(|i| !evicted.contains(&(i + 1)))
            .map(|i| {
                assert!(index.find(hash(i)).any(|found| found.unit == i + 1));
                index.find(hash(i)).count() - 1
            })
            .sum();
        assert!(wrong <= 20, "{wrong} keys have the tag of another");
        let misses = (objects..2 * objects).filter(|i| index.find(hash(*i)).next().is_some());
        assert!(misses.count() <= 20);
    }

    #[test]
    fn a_full_index_gives_up_the_oldest_of_the_buckets() {
        let mut index = Index::new(1, 8).unwrap();
        let mut evicted = Vec::new();
        for i in 1..=64 {
            let at = index.new_slot(hash(i), |unit| unit);
            evicted.extend(at.evicted);
            index.put(at, hash(i), i, span());
        }
        assert_eq!(index.len() + evicted.len() as u64, 64);
        assert!(index.len() <= 16);
        assert!(evicted.contains(&1) && !evicted.contains(&64));
    }

    #[test]
    fn uses_are_counted_up_to_their_limit_and_begin_again_with_a_copy() {
        let mut index = Index::new(100, 8).unwrap();
        let at = index.new_slot(7, |_| 0);
        index.put(at, 7, 99, span());
        let slot = index.position(7, 99).unwrap();
        for _ in 0..9 {
            index.note_use(slot, 7, 99);
            index.note_use(slot, 7, 98);
        }
        let found = |index: &Index| index.find(7).collect::<Vec<_>>();
        assert_eq!(found(&index), [Candidate { slot, unit: 99, span: span(), uses: USES_MAX }]);
        assert!(!index.relocate(7, 98, 5, span()));
        assert!(index.relocate(7, 99, 5, Span::of_blocks(3)));
        assert_eq!(found(&index), [Candidate { slot, unit: 5, span: Span::of_blocks(3), uses: 0 }]);
        assert!(!index.remove(7, 99));
        assert_eq!(index.take(7), Some(5));
        assert_eq!((index.take(7), index.len()), (None, 0));
    }

    #[test]
    fn objects_too_large_to_be_read_are_counted_while_they_are_there() {
        let mut index = Index::new(100, 17).unwrap();
        for (i, blocks) in [(1, 1), (2, 16), (3, 17), (4, 18), (5, 19), (6, 300)] {
            let at = index.new_slot(hash(i), |_| 0);
            index.put(at, hash(i), i, Span::of_blocks(blocks));
        }
        // The span of 17 blocks is that of 18, too.
        assert_eq!((index.len(), index.large()), (6, 2));
        index.note_use(index.position(hash(6), 6).unwrap(), hash(6), 6);
        assert!(index.relocate(hash(6), 6, 7, Span::of_blocks(300)));
        assert_eq!(index.large(), 2);
        assert!(index.remove(hash(6), 7) && index.remove(hash(4), 4));
        assert_eq!((index.len(), index.large()), (4, 1));
    }

    proptest! {
        #[test]
        fn every_record_is_found_until_it_is_removed_or_evicted(
            steps in prop::collection::vec((any::<bool>(), 0_u64..40), 1..400),
        ) {
            let mut index = Index::new(12, 8).unwrap();
            let mut model: BTreeMap<u64, u64> = BTreeMap::new();
            for (i, (insert, key)) in steps.into_iter().enumerate() {
                let unit = i as u64 + 1;
                if insert {
                    while let Some(gone) = index.take(hash(key)) {
                        model.retain(|_, kept| *kept != gone);
                    }
                    let at = index.new_slot(hash(key), |unit| unit);
                    if let Some(evicted) = at.evicted {
                        model.retain(|_, kept| *kept != evicted);
                    }
                    index.put(at, hash(key), unit, span());
                    model.insert(key, unit);
                } else if let Some(unit) = model.remove(&key) {
                    prop_assert!(index.remove(hash(key), unit));
                }
                prop_assert_eq!(index.len(), model.len() as u64);
                for (&key, &unit) in &model {
                    prop_assert!(index.find(hash(key)).any(|found| found.unit == unit));
                    prop_assert!(index.has(hash(key), unit));
                }
            }
        }
    }
}
