//! Where each key's record is: a cuckoo table that grows bucket by bucket.
//!
//! A bucket is a cache line of eight slots; a key has two buckets. A slot is one word:
//!
//! ```text
//! | tag 26 | in its second bucket 1 | frequency 2 | place 35 |
//! ```
//!
//! The second bucket follows from the first and the tag, so an entry moves without its key being
//! read (Fan et al., "MemC3", NSDI 2013). An address is the bits of the hash below the tag's and
//! those that are the tag's lowest, so a bucket is split (linear hashing) without reading a key
//! either: the table grows with the number of records, and one that holds large values stays small.
//!
//! Eight buckets and a line of ghosts make a unit. A ghost is 16 bits of the hash of a key that was
//! evicted before it was read: if it comes back soon, it was evicted too early.
//!
//! ```text
//! unit: | bucket | bucket | bucket | bucket | bucket | bucket | bucket | bucket | ghosts |
//! ```

use super::line;
use super::region::{LINE_BYTES, Region};

const SLOTS: usize = 8;
const SLOT_BYTES: usize = 8;
const UNIT_BUCKETS: usize = 8;

/// Bytes of eight buckets and their ghosts.
pub const UNIT_BYTES: usize = (UNIT_BUCKETS + 1) * LINE_BYTES;

/// Bits of a place.
pub const PLACE_BITS: u32 = 35;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;
const FREQUENCY_SHIFT: u32 = PLACE_BITS;
const MARK_SHIFT: u32 = FREQUENCY_SHIFT + 2;
const TAG_SHIFT: u32 = MARK_SHIFT + 1;

/// Highest frequency.
pub const FREQUENCY_MAX: u8 = 3;

/// A mark is the tag and, in this bit, whether the bucket is the key's second one.
const SECOND: u32 = 1;

/// Bits of the tag that an address may use: the table grows to 512 times its first size.
const EXTENSION_BITS: u32 = 9;
const EXTENSION_MASK: usize = (1 << EXTENSION_BITS) - 1;

/// Ghosts in a line; its last number says which goes next.
const GHOSTS: usize = LINE_BYTES / 2 - 1;

/// Entries for each 16 slots before the table grows: fewer while it is small, for then they differ
/// more from bucket to bucket.
const FULL_SIXTEENTHS: usize = 14;
const SMALL_FULL_SIXTEENTHS: usize = 13;
const SMALL_BUCKETS: usize = 1024;

/// With fewer entries for each 16 slots the table shrinks.
const SPARSE_SIXTEENTHS: usize = 7;

/// Where a key's entry may be: in one of two buckets.
#[derive(Clone, Copy, Debug)]
pub struct IndexAddress {
    hash: u64,
}

impl IndexAddress {
    /// The mark in the key's first bucket. The highest bit of a tag is always 1: no mark is 0.
    #[inline(always)]
    fn mark(self) -> u32 {
        (self.hash >> MARK_SHIFT) as u32 & !SECOND | 1 << (u64::BITS - MARK_SHIFT - 1)
    }

    #[inline(always)]
    fn ghost(self) -> u16 {
        (self.hash as u16).max(1)
    }
}

/// A slot that has an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Offset of the slot in the region.
    slot: usize,
    word: u64,
}

impl IndexEntry {
    /// Offset of its slot in the region.
    #[inline(always)]
    pub fn slot(self) -> usize {
        self.slot
    }

    /// Where the record is.
    #[inline(always)]
    pub fn place(self) -> usize {
        (self.word & PLACE_MASK) as usize
    }

    /// How often it was used, up to [`FREQUENCY_MAX`].
    #[inline(always)]
    pub fn frequency(self) -> u8 {
        (self.word >> FREQUENCY_SHIFT) as u8 & FREQUENCY_MAX
    }
}

/// What came of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is there.
    Done,
    /// There is no free slot for it: this entry has to go first.
    Full(IndexEntry),
}

/// The table.
#[derive(Clone, Debug)]
pub struct RecordIndex {
    start: usize,
    /// End of the bytes that it may use.
    end: usize,
    base_bits: u32,
    buckets: usize,
    /// Largest power of two up to `buckets`, less 1.
    low_mask: usize,
    entries: usize,
    /// Changes whenever an entry moves, comes or goes.
    stamp: u64,
    /// Entries that were moved to their other bucket.
    pub kicks: u64,
    /// Insertions that found no room.
    pub fulls: u64,
    /// All buckets before this one were looked at by a sweep; 0 without one.
    swept: usize,
    /// Buckets that got an entry afterwards that had not been looked at.
    missed: Vec<u32>,
    /// There were more of them.
    has_missed: bool,
}

/// Buckets that a sweep remembers.
const MISSED: usize = 256;

/// Bytes of the smallest table for a region of `bytes`: enough for records of 4 KiB each.
pub fn bytes_min(bytes: usize) -> usize {
    (1 << base_bits(bytes)) / UNIT_BUCKETS * UNIT_BYTES
}

/// In what the addresses of a key differ: all bits of the tag count, and the lowest is always 1.
#[inline(always)]
fn mixed(mark: u32) -> usize {
    let tag = u64::from(mark & !SECOND);
    (tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize | 1
}

fn base_bits(bytes: usize) -> u32 {
    (bytes / 512 / LINE_BYTES).max(UNIT_BUCKETS).ilog2()
}

impl RecordIndex {
    /// An empty table that may use the bytes from `start` to `end`, which are 0, of a region of
    /// `bytes`.
    pub fn new(start: usize, end: usize, bytes: usize) -> RecordIndex {
        let base_bits = base_bits(bytes);
        assert!(start.is_multiple_of(LINE_BYTES) && start + bytes_min(bytes) <= end);
        RecordIndex {
            start,
            end,
            base_bits,
            buckets: 1 << base_bits,
            low_mask: (1 << base_bits) - 1,
            entries: 0,
            stamp: 0,
            kicks: 0,
            fulls: 0,
            swept: 0,
            missed: Vec::with_capacity(MISSED),
            has_missed: false,
        }
    }

    /// The same with `buckets`, as they are and with so many entries; None if it cannot have so
    /// many buckets.
    pub fn resumed(&self, buckets: usize, entries: usize) -> Option<RecordIndex> {
        let buckets_max = 1 << (self.base_bits + EXTENSION_BITS);
        if !(self.buckets..=buckets_max).contains(&buckets) {
            return None;
        }
        let low_mask = (1 << buckets.ilog2()) - 1;
        let index = RecordIndex { buckets, low_mask, entries, ..self.clone() };
        (index.start + index.bytes() <= index.end).then_some(index)
    }

    /// Empties it.
    pub fn clear(&mut self, region: &mut Region) {
        region.clear(self.start, self.bytes());
        self.entries = 0;
        self.stamp += 1;
    }

    /// Its bytes.
    pub fn contents<'r>(&self, region: &'r Region) -> &'r [u8] {
        region.slice(self.start, self.bytes())
    }

    /// Entries in it.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Bytes that it uses.
    pub fn bytes(&self) -> usize {
        self.buckets.div_ceil(UNIT_BUCKETS) * UNIT_BYTES
    }

    /// A number that changes whenever an entry moves, comes or goes.
    #[inline(always)]
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    #[inline(always)]
    fn at(&self, bucket: usize) -> usize {
        self.start + (bucket + bucket / UNIT_BUCKETS) * LINE_BYTES
    }

    #[inline(always)]
    fn ghosts_at(&self, bucket: usize) -> usize {
        self.start + bucket / UNIT_BUCKETS * UNIT_BYTES + UNIT_BUCKETS * LINE_BYTES
    }

    /// The bucket for an address of all bits.
    #[inline(always)]
    fn fold(&self, address: usize) -> usize {
        let bucket = address & (self.low_mask << 1 | 1);
        if bucket < self.buckets { bucket } else { address & self.low_mask }
    }

    /// Where the entry of a key with this hash may be.
    #[inline(always)]
    pub fn address(&self, hash: u64) -> IndexAddress {
        IndexAddress { hash }
    }

    /// The address of a key's first bucket. Its upper bits are not part of it: no bucket has a
    /// number that needs them.
    #[inline(always)]
    fn first_address(&self, address: IndexAddress) -> usize {
        (address.hash >> (TAG_SHIFT - self.base_bits)) as usize
    }

    /// The first bucket of a key.
    #[inline(always)]
    fn first(&self, address: IndexAddress) -> usize {
        self.fold(self.first_address(address))
    }

    /// The second bucket of a key.
    #[inline(always)]
    fn second(&self, address: IndexAddress) -> usize {
        self.fold(self.first_address(address) ^ mixed(address.mark()))
    }

    /// The bucket an entry in `bucket` belongs to now, and its other one.
    #[inline]
    fn own_and_other(&self, bucket: usize, mark: u32) -> [usize; 2] {
        let base_mask = (1 << self.base_bits) - 1;
        let mixed = mixed(mark);
        let extension = (mark >> 1) as usize & EXTENSION_MASK;
        let is_second = mark & SECOND != 0;
        let base = (if is_second { bucket ^ mixed } else { bucket }) & base_mask;
        let first = extension << self.base_bits | base;
        let second = first ^ mixed;
        let [own, other] = if is_second { [second, first] } else { [first, second] };
        [self.fold(own), self.fold(other)]
    }

    /// Prefetches the two buckets of a key.
    #[inline(always)]
    pub fn prefetch(&self, region: &Region, address: IndexAddress) {
        region.prefetch(self.at(self.first(address)));
        region.prefetch(self.at(self.second(address)));
    }

    /// Which slots of a bucket have the mark, a bit for each.
    #[inline(always)]
    fn matches(&self, region: &Region, bucket: usize, mark: u32) -> u32 {
        line::marks_equal(&region.array(self.at(bucket)), mark)
    }

    /// The entry under `address` whose record is the one, as `is_it` says.
    #[inline(always)]
    pub fn find(
        &self,
        region: &Region,
        address: IndexAddress,
        mut is_it: impl FnMut(usize) -> bool,
    ) -> Option<IndexEntry> {
        let mark = address.mark();
        // Spelt out: `or_else` would not be inlined.
        if let Some(entry) = self.find_in(region, self.first(address), mark, &mut is_it) {
            return Some(entry);
        }
        self.find_in(region, self.second(address), mark | SECOND, &mut is_it)
    }

    /// The entry under `address` in a slot that [`IndexEntry::slot`] named, if that is where it is.
    /// The table must not have shrunk since.
    #[inline(always)]
    pub fn entry_at(
        &self,
        region: &Region,
        slot: usize,
        address: IndexAddress,
    ) -> Option<IndexEntry> {
        let word = region.u64(slot);
        let mark = (word >> MARK_SHIFT) as u32 & !SECOND;
        (mark == address.mark()).then_some(IndexEntry { slot, word })
    }

    /// A slot, for [`RecordIndex::entry_at`].
    pub fn first_slot(&self) -> usize {
        self.start
    }

    #[inline(always)]
    fn find_in(
        &self,
        region: &Region,
        bucket: usize,
        mark: u32,
        is_it: &mut impl FnMut(usize) -> bool,
    ) -> Option<IndexEntry> {
        let start = self.at(bucket);
        let mut mask = line::marks_equal(&region.array(start), mark);
        while mask != 0 {
            let slot = start + mask.trailing_zeros() as usize * SLOT_BYTES;
            let entry = IndexEntry { slot, word: region.u64(slot) };
            if is_it(entry.place()) {
                return Some(entry);
            }
            mask &= mask - 1;
        }
        None
    }

    /// The entry under `address` of the record at `place`.
    #[inline]
    pub fn entry_of(
        &self,
        region: &Region,
        address: IndexAddress,
        place: usize,
    ) -> Option<IndexEntry> {
        self.find(region, address, |found| found == place)
    }

    /// Counts a use of an entry.
    #[inline(always)]
    pub fn note_use(&self, region: &mut Region, entry: IndexEntry) {
        if entry.frequency() < FREQUENCY_MAX {
            region.set_u64(entry.slot, entry.word + (1 << FREQUENCY_SHIFT));
        }
    }

    /// Gives an entry another place and frequency.
    #[inline]
    pub fn replace(&mut self, region: &mut Region, entry: IndexEntry, place: usize, frequency: u8) {
        debug_assert_eq!(region.u64(entry.slot) >> MARK_SHIFT, entry.word >> MARK_SHIFT);
        let mark = entry.word >> MARK_SHIFT;
        let word = mark << MARK_SHIFT | u64::from(frequency) << FREQUENCY_SHIFT | place as u64;
        region.set_u64(entry.slot, word);
        self.stamp += 1;
    }

    /// Removes an entry.
    #[inline]
    pub fn remove(&mut self, region: &mut Region, entry: IndexEntry) {
        debug_assert_ne!(region.u64(entry.slot), 0);
        region.set_u64(entry.slot, 0);
        self.entries -= 1;
        self.stamp += 1;
    }

    /// A free slot of a bucket. No entry has mark 0.
    #[inline(always)]
    fn free_slot(&self, region: &Region, bucket: usize) -> Option<usize> {
        let free = self.matches(region, bucket, 0);
        (free != 0).then(|| self.at(bucket) + free.trailing_zeros() as usize * SLOT_BYTES)
    }

    /// Adds an entry. There must be none of the same key.
    #[inline]
    pub fn insert(&mut self, region: &mut Region, address: IndexAddress, place: usize) -> Inserted {
        let Some((slot, second)) = self.slot_for(region, address) else {
            self.fulls += 1;
            return Inserted::Full(self.least_used(region, self.first(address)));
        };
        let mark = u64::from(address.mark() | second);
        region.set_u64(slot, mark << MARK_SHIFT | place as u64);
        self.entries += 1;
        self.stamp += 1;
        Inserted::Done
    }

    /// A free slot for a key, and [`SECOND`] if that is in its second bucket.
    #[inline(always)]
    fn slot_for(&mut self, region: &mut Region, address: IndexAddress) -> Option<(usize, u32)> {
        if let Some(slot) = self.free_slot(region, self.first(address)) {
            return Some((slot, 0));
        }
        if let Some(slot) = self.free_slot(region, self.second(address)) {
            return Some((slot, SECOND));
        }
        self.make_room(region, address)
    }

    /// Moves an entry of a key's full buckets to its other bucket, at need after another had to
    /// make room there; returns what [`RecordIndex::slot_for`] does.
    #[inline(never)]
    fn make_room(&mut self, region: &mut Region, address: IndexAddress) -> Option<(usize, u32)> {
        let buckets = [(self.first(address), 0), (self.second(address), SECOND)];
        for (bucket, second) in buckets {
            if let Some(slot) = self.move_one(region, bucket) {
                return Some((slot, second));
            }
        }
        for (bucket, second) in buckets {
            if let Some(slot) = self.move_two(region, bucket) {
                return Some((slot, second));
            }
        }
        None
    }

    /// For each slot of a bucket the other bucket of its entry, or `bucket` if it has none.
    #[inline]
    fn others(&self, region: &Region, bucket: usize) -> [usize; SLOTS] {
        let line: [u8; LINE_BYTES] = region.array(self.at(bucket));
        let (words, _) = line.as_chunks::<SLOT_BYTES>();
        std::array::from_fn(|slot| match u64::from_le_bytes(words[slot]) >> MARK_SHIFT {
            // No entry has mark 0.
            0 => bucket,
            mark => self.own_and_other(bucket, mark as u32)[1],
        })
    }

    /// Moves an entry of a bucket to its other bucket, if one of those has room.
    fn move_one(&mut self, region: &mut Region, bucket: usize) -> Option<usize> {
        let others = self.others(region, bucket);
        // Otherwise each probe waits for its own cache miss.
        others.iter().for_each(|&other| region.prefetch(self.at(other)));
        let (slot, to) = others.into_iter().enumerate().find_map(|(slot, other)| {
            let to = (other != bucket).then(|| self.free_slot(region, other))??;
            Some((slot, to))
        })?;
        let from = self.at(bucket) + slot * SLOT_BYTES;
        self.move_entry(region, from, to);
        Some(from)
    }

    fn move_two(&mut self, region: &mut Region, bucket: usize) -> Option<usize> {
        let others = self.others(region, bucket);
        others.into_iter().enumerate().filter(|&(_, other)| other != bucket).find_map(
            |(slot, other)| {
                let to = self.move_one(region, other)?;
                let from = self.at(bucket) + slot * SLOT_BYTES;
                self.move_entry(region, from, to);
                Some(from)
            },
        )
    }

    fn move_entry(&mut self, region: &mut Region, from: usize, to: usize) {
        region.set_u64(to, region.u64(from) ^ u64::from(SECOND) << MARK_SHIFT);
        region.set_u64(from, 0);
        self.kicks += 1;
        self.note_moved(from, to);
    }

    /// An entry has moved past a sweep.
    fn note_moved(&mut self, from: usize, to: usize) {
        // One of those that were missed may move on.
        let is_seen = self.bucket_of(from) < self.swept && self.missed.is_empty();
        if self.swept == 0 || is_seen {
            return;
        }
        let to = self.bucket_of(to);
        if to < self.swept {
            if self.missed.len() == MISSED {
                self.has_missed = true;
            } else {
                self.missed.push(to as u32);
            }
        }
    }

    /// The bucket that a slot is in.
    fn bucket_of(&self, slot: usize) -> usize {
        let line = (slot - self.start) / LINE_BYTES;
        line - line / (UNIT_BUCKETS + 1)
    }

    /// The next bucket that a sweep has to look at; None: there is none left.
    #[inline]
    pub fn next_swept(&mut self) -> Option<usize> {
        if self.swept < self.buckets {
            self.swept += 1;
            return Some(self.swept - 1);
        }
        self.missed.pop().map(|bucket| bucket as usize)
    }

    /// Ends a sweep; false: it may have missed some entries, and must begin again.
    pub fn end_sweep(&mut self) -> bool {
        self.swept = 0;
        self.missed.clear();
        !std::mem::take(&mut self.has_missed)
    }

    /// The entries in a bucket.
    #[inline(always)]
    pub fn entries_in(
        &self,
        region: &Region,
        bucket: usize,
    ) -> impl Iterator<Item = IndexEntry> + use<> {
        let start = self.at(bucket);
        let line: [u8; LINE_BYTES] = region.array(start);
        (0..SLOTS).filter_map(move |slot| {
            let word =
                line[slot * SLOT_BYTES..].first_chunk().map_or(0, |it| u64::from_le_bytes(*it));
            (word != 0).then_some(IndexEntry { slot: start + slot * SLOT_BYTES, word })
        })
    }

    fn least_used(&self, region: &Region, bucket: usize) -> IndexEntry {
        let mut least: Option<IndexEntry> = None;
        for slot in 0..SLOTS {
            let slot = self.at(bucket) + slot * SLOT_BYTES;
            let entry = IndexEntry { slot, word: region.u64(slot) };
            if least.is_none_or(|least| entry.frequency() < least.frequency()) {
                least = Some(entry);
            }
        }
        least.expect("a bucket has slots")
    }

    /// Whether there are so many entries that the table should grow.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        let small = self.buckets < SMALL_BUCKETS;
        let sixteenths = if small { SMALL_FULL_SIXTEENTHS } else { FULL_SIXTEENTHS };
        self.entries >= self.buckets * SLOTS / 16 * sixteenths
    }

    /// Whether it may ever be larger than it is.
    pub fn may_grow(&self) -> bool {
        self.buckets < 1 << (self.base_bits + EXTENSION_BITS)
    }

    /// Whether it has the bytes to grow by a bucket.
    pub fn can_grow(&self) -> bool {
        self.may_grow()
            && (!self.buckets.is_multiple_of(UNIT_BUCKETS)
                || self.start + self.bytes() + UNIT_BYTES <= self.end)
    }

    /// Lets it use the bytes up to `end`, whatever is in them.
    pub fn extend(&mut self, end: usize) {
        debug_assert!(end >= self.end);
        self.end = end;
    }

    /// Splits a bucket: half of its entries move to a new one.
    pub fn grow(&mut self, region: &mut Region) {
        debug_assert!(self.can_grow());
        let new = self.buckets;
        if new > (self.low_mask << 1 | 1) {
            self.low_mask = self.low_mask << 1 | 1;
        }
        let old = new & self.low_mask;
        let (from, to) = (self.at(old), self.at(new));
        region.clear(to, LINE_BYTES);
        if new.is_multiple_of(UNIT_BUCKETS) {
            region.copy(self.ghosts_at(old), self.ghosts_at(new), LINE_BYTES);
        }
        self.buckets += 1;
        for slot in 0..SLOTS {
            let word = region.u64(from + slot * SLOT_BYTES);
            let mark = (word >> MARK_SHIFT) as u32;
            if word != 0 && self.own_and_other(old, mark)[0] == new {
                region.set_u64(to + slot * SLOT_BYTES, word);
                region.set_u64(from + slot * SLOT_BYTES, 0);
            }
        }
        self.stamp += 1;
    }

    /// Whether there are so few entries that the table should shrink.
    #[inline(always)]
    pub fn is_sparse(&self) -> bool {
        self.buckets > 1 << self.base_bits
            && self.entries < self.buckets * SLOTS / 16 * SPARSE_SIXTEENTHS
    }

    /// Merges the last bucket into the one that it was split from. False: there is no room in that
    /// now.
    pub fn shrink(&mut self, region: &mut Region) -> bool {
        debug_assert!(self.is_sparse() && self.swept == 0);
        let last = self.buckets - 1;
        let low_mask = if last <= self.low_mask { self.low_mask >> 1 } else { self.low_mask };
        let into = last & low_mask;
        for _ in 0..SLOTS {
            if self.fit_in_one(region, [last, into])
                || self.move_one(region, into).is_none() && self.move_one(region, last).is_none()
            {
                break;
            }
        }
        // An entry may have moved from the one to the other.
        if !self.fit_in_one(region, [last, into]) {
            return false;
        }
        self.buckets = last;
        self.low_mask = low_mask;
        for entry in self.entries_in(region, last) {
            if let Some(to) = self.free_slot(region, into) {
                region.set_u64(to, entry.word);
                region.set_u64(entry.slot, 0);
            }
        }
        self.stamp += 1;
        true
    }

    fn fit_in_one(&self, region: &Region, buckets: [usize; 2]) -> bool {
        let free = buckets.map(|bucket| self.matches(region, bucket, 0).count_ones() as usize);
        free[0] + free[1] >= SLOTS
    }

    /// Gives its last bytes back, up to which it may use them from now on; false if it needs them.
    pub fn retreat(&mut self, end: usize) -> bool {
        let can = self.start + self.bytes() + UNIT_BYTES <= end;
        if can {
            self.end = end;
        }
        can
    }

    /// Remembers that the key was evicted; the oldest in its line is forgotten.
    pub fn remember(&self, region: &mut Region, address: IndexAddress) {
        let line = self.ghosts_at(self.first(address));
        let next = usize::from(region.u8(line + 2 * GHOSTS)) % GHOSTS;
        let [low, high] = address.ghost().to_le_bytes();
        region.set_u8(line + 2 * next, low);
        region.set_u8(line + 2 * next + 1, high);
        region.set_u8(line + 2 * GHOSTS, (next + 1) as u8);
    }

    /// Whether the key was evicted lately; that is forgotten.
    #[inline]
    pub fn recall(&self, region: &mut Region, address: IndexAddress) -> bool {
        let line_at = self.ghosts_at(self.first(address));
        let mask = line::ghosts_equal(&region.array(line_at), address.ghost());
        if mask == 0 {
            return false;
        }
        let ghost = mask.trailing_zeros() as usize;
        region.set_u8(line_at + 2 * ghost, 0);
        region.set_u8(line_at + 2 * ghost + 1, 0);
        true
    }

    /// Prefetches the line of a key's ghosts.
    #[inline(always)]
    pub fn prefetch_ghosts(&self, region: &Region, address: IndexAddress) {
        region.prefetch(self.ghosts_at(self.first(address)));
    }

    /// The places of the records in the next buckets from `bucket` on, and how many there are.
    pub fn places(&self, region: &Region, bucket: usize) -> [usize; SLOTS] {
        std::array::from_fn(|slot| {
            let at = self.at(bucket % self.buckets) + slot * SLOT_BYTES;
            (region.u64(at) & PLACE_MASK) as usize
        })
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> usize {
        self.buckets
    }
}
