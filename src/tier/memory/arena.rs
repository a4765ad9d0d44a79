//! Hands out extents of one region: a two-level segregated fit (Masmano et al., "TLSF: a New
//! Dynamic Memory Allocator for Real-Time Systems", ECRTS 2004).
//!
//! Taking and giving back an extent costs the same whatever the region holds. Offsets count units
//! of [`UNIT_BYTES`] from the start of the region, so that an extent's name fits 31 bits; 0 names
//! none. Nothing here knows what extents are for, but each has a link to another extent, because
//! its header has room for one. This must never allocate and never look at the time.
//!
//! ```text
//! in use: | size | link·P | user bytes ...                 |
//! free:   | size·F | next·P | previous | ...        | size |
//! ```
//!
//! F: this extent is free. P: the one right before it in the region is free, and its last word is
//! its size. Two free extents never touch. The first and the last unit are always in use, so that
//! no extent has to ask whether it has a neighbour.

use std::io;

use memmap2::MmapMut;

use crate::base::buffer;

/// Extents start at, and are, multiples of this many bytes.
pub const UNIT_BYTES: usize = 16;

/// Bytes of an extent that the arena keeps for itself.
pub const EXTENT_HEADER_BYTES: usize = 8;

/// Largest region, in bytes: offsets have 31 bits.
pub const REGION_BYTES_MAX: usize = (1 << 31) * UNIT_BYTES;

/// No extent.
pub const NIL: u32 = 0;

/// Top bit of the first word: free; of the second word: the extent before is free.
const FLAG: u32 = 1 << 31;

/// Each power of two is cut into this many size classes.
const CLASSES_PER_ROW: u32 = 16;
const CLASS_BITS: u32 = CLASSES_PER_ROW.trailing_zeros();

/// Row 0 holds the sizes below `CLASSES_PER_ROW` one by one, then a row for each power of two up to
/// 2^30 units.
const ROWS: usize = 31 - CLASS_BITS as usize + 1;

/// Extents of a class looked at for one that is large enough, before a larger class is taken. Any
/// extent of a larger class fits; in the own class it depends.
const OWN_CLASS_LOOKS: usize = 4;

/// One region and the lists of what is free in it.
#[derive(Debug)]
pub struct Arena {
    region: MmapMut,
    /// Units of the region, the first and the last included.
    units: u32,
    units_free: u32,
    /// Rows that have a class with an extent.
    rows: u32,
    /// For each row, its classes that have an extent.
    classes: [u16; ROWS],
    /// First extent of each class.
    heads: [[u32; CLASSES_PER_ROW as usize]; ROWS],
}

/// The class that holds free extents of `units`.
fn class_of(units: u32) -> (usize, usize) {
    if units < CLASSES_PER_ROW {
        return (0, units as usize);
    }
    let log = units.ilog2();
    let class = (units >> (log - CLASS_BITS)) & (CLASSES_PER_ROW - 1);
    ((log - CLASS_BITS + 1) as usize, class as usize)
}

/// How many units hold `bytes`.
pub fn units_for(bytes: usize) -> u32 {
    bytes.div_ceil(UNIT_BYTES) as u32
}

impl Arena {
    /// An arena of `bytes`, rounded down to units, everything in it free.
    ///
    /// # Errors
    /// `bytes` is too few to hold anything or too many to name, or the kernel has no such amount.
    pub fn new(bytes: usize) -> io::Result<Arena> {
        if !(4 * UNIT_BYTES..=REGION_BYTES_MAX).contains(&bytes) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        // Offsets must fit 31 bits, the end of the region too.
        let units = (bytes / UNIT_BYTES).min(FLAG as usize - 1) as u32;
        let mut arena = Arena {
            region: buffer::map_huge(units as usize * UNIT_BYTES)?,
            units,
            units_free: 0,
            rows: 0,
            classes: [0; ROWS],
            heads: [[NIL; CLASSES_PER_ROW as usize]; ROWS],
        };
        arena.set_word(0, 0, 1);
        arena.set_word(0, 4, NIL);
        arena.set_word(units - 1, 0, 1);
        arena.set_word(units - 1, 4, NIL);
        arena.insert(1, units - 2);
        Ok(arena)
    }

    /// Units that can be handed out in all.
    pub fn units_total(&self) -> u32 {
        self.units - 2
    }

    /// Units that are not handed out.
    pub fn units_free(&self) -> u32 {
        self.units_free
    }

    /// Size of an extent, in units.
    #[inline]
    pub fn units_of(&self, extent: u32) -> u32 {
        self.word(extent, 0) & !FLAG
    }

    /// The extent that `extent` links to. Fresh extents link to [`NIL`].
    #[inline]
    pub fn link(&self, extent: u32) -> u32 {
        self.word(extent, 4) & !FLAG
    }

    /// Makes `extent` link to `to`.
    pub fn set_link(&mut self, extent: u32, to: u32) {
        let previous_free = self.word(extent, 4) & FLAG;
        self.set_word(extent, 4, to | previous_free);
    }

    /// All bytes of the region.
    #[inline]
    pub fn region(&self) -> &[u8] {
        &self.region
    }

    /// All bytes of the region.
    #[inline]
    pub fn region_mut(&mut self) -> &mut [u8] {
        &mut self.region
    }

    /// `N` bytes of an extent, from byte `at` of it on.
    #[inline]
    pub fn field<const N: usize>(&self, extent: u32, at: usize) -> [u8; N] {
        let start = extent as usize * UNIT_BYTES + at;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.region[start..start + N]);
        bytes
    }

    /// Changes `N` bytes of an extent, from byte `at` of it on.
    #[inline]
    pub fn set_field<const N: usize>(&mut self, extent: u32, at: usize, bytes: [u8; N]) {
        let start = extent as usize * UNIT_BYTES + at;
        self.region[start..start + N].copy_from_slice(&bytes);
    }

    #[inline]
    fn word(&self, extent: u32, at: usize) -> u32 {
        u32::from_ne_bytes(self.field(extent, at))
    }

    #[inline]
    fn set_word(&mut self, extent: u32, at: usize, word: u32) {
        self.set_field(extent, at, word.to_ne_bytes());
    }

    /// Takes one extent of exactly `units`.
    pub fn take(&mut self, units: u32) -> Option<u32> {
        debug_assert!(units > 0);
        let extent = self.find(units)?;
        self.carve(extent, units);
        Some(extent)
    }

    /// Takes one extent of `units`, or, where none is so large, a large one of at least
    /// `units_min`. Large: of the largest class; not always the largest of all.
    pub fn take_up_to(&mut self, units: u32, units_min: u32) -> Option<u32> {
        debug_assert!(0 < units_min && units_min <= units);
        if let Some(extent) = self.take(units) {
            return Some(extent);
        }
        if self.rows == 0 {
            return None;
        }
        let row = self.rows.ilog2() as usize;
        let class = self.classes[row].ilog2() as usize;
        let extent = self.heads[row][class];
        let size = self.units_of(extent);
        if size < units_min {
            return None;
        }
        self.carve(extent, size.min(units));
        Some(extent)
    }

    /// Gives an extent back.
    ///
    /// # Panics
    /// If it is free already: two owners would share it next.
    pub fn give(&mut self, extent: u32) {
        let mut size = self.word(extent, 0);
        assert!(extent != NIL && size & FLAG == 0, "an extent is given back once");
        let mut start = extent;
        let next = extent + size;
        if self.word(extent, 4) & FLAG != 0 {
            let before = self.word(extent - 1, UNIT_BYTES - 4);
            start = extent - before;
            self.remove(start);
            size += before;
        }
        if self.word(next, 0) & FLAG != 0 {
            let after = self.units_of(next);
            self.remove(next);
            size += after;
        }
        self.insert(start, size);
    }

    /// Gives all but the first `units` of an extent back.
    pub fn shrink(&mut self, extent: u32, units: u32) {
        debug_assert!(units > 0);
        let size = self.units_of(extent);
        if size > units {
            self.set_word(extent, 0, units);
            // An extent of its own, behind one that is in use.
            let rest = extent + units;
            self.set_word(rest, 0, size - units);
            self.set_word(rest, 4, NIL);
            self.give(rest);
        }
    }

    /// A free extent of at least `units`.
    fn find(&self, units: u32) -> Option<u32> {
        let (mut row, mut class) = class_of(units);
        let mut extent = self.heads[row][class];
        for _ in 0..OWN_CLASS_LOOKS {
            if extent == NIL {
                break;
            }
            if self.units_of(extent) >= units {
                return Some(extent);
            }
            extent = self.word(extent, 4) & !FLAG;
        }
        class += 1;
        let in_row = if class < CLASSES_PER_ROW as usize {
            self.classes[row] & (u16::MAX << class)
        } else {
            0
        };
        class = if in_row != 0 {
            in_row.trailing_zeros() as usize
        } else {
            // `row` is at most 27, so the shift is in range.
            let rows = self.rows & (u32::MAX << (row + 1));
            if rows == 0 {
                return None;
            }
            row = rows.trailing_zeros() as usize;
            self.classes[row].trailing_zeros() as usize
        };
        Some(self.heads[row][class])
    }

    /// Takes the first `units` of a free extent; what is left of it stays free.
    fn carve(&mut self, extent: u32, units: u32) {
        let size = self.units_of(extent);
        self.remove(extent);
        if size > units {
            self.insert(extent + units, size - units);
        } else {
            self.mark_next(extent + size, false);
        }
        // Its predecessor is in use: two free extents never touch.
        self.set_word(extent, 0, units);
        self.set_word(extent, 4, NIL);
    }

    /// Says to an extent whether the one before it is free.
    fn mark_next(&mut self, next: u32, is_free: bool) {
        let link = self.word(next, 4) & !FLAG;
        self.set_word(next, 4, if is_free { link | FLAG } else { link });
    }

    /// Puts a free extent on its list and says so to its successor.
    fn insert(&mut self, extent: u32, units: u32) {
        let (row, class) = class_of(units);
        let next = self.heads[row][class];
        self.set_word(extent, 0, units | FLAG);
        self.set_word(extent, 4, next);
        self.set_word(extent, 8, NIL);
        self.set_word(extent + units - 1, UNIT_BYTES - 4, units);
        if next != NIL {
            self.set_word(next, 8, extent);
        }
        self.heads[row][class] = extent;
        self.classes[row] |= 1 << class;
        self.rows |= 1 << row;
        self.units_free += units;
        self.mark_next(extent + units, true);
    }

    /// Takes a free extent off its list. Its neighbours still believe it free.
    fn remove(&mut self, extent: u32) {
        let units = self.units_of(extent);
        let next = self.word(extent, 4) & !FLAG;
        let previous = self.word(extent, 8);
        if next != NIL {
            self.set_word(next, 8, previous);
        }
        if previous != NIL {
            self.set_word(previous, 4, next);
        } else {
            let (row, class) = class_of(units);
            self.heads[row][class] = next;
            if next == NIL {
                self.classes[row] &= !(1 << class);
                if self.classes[row] == 0 {
                    self.rows &= !(1 << row);
                }
            }
        }
        self.units_free -= units;
    }

    /// Walks the whole region and panics unless the extents tile it, flags and sizes agree, no two
    /// free ones touch, and the lists hold exactly the free ones. Returns the extents in use.
    #[cfg(test)]
    pub fn check(&self) -> Vec<u32> {
        let mut in_use = Vec::new();
        let mut free = Vec::new();
        let mut at = 1;
        let mut previous_free = false;
        while at < self.units - 1 {
            let is_free = self.word(at, 0) & FLAG != 0;
            assert_eq!(self.word(at, 4) & FLAG != 0, previous_free, "flag P of {at}");
            let size = self.units_of(at);
            assert!(size > 0);
            if is_free {
                assert!(!previous_free, "two free extents touch at {at}");
                assert_eq!(self.word(at + size - 1, UNIT_BYTES - 4), size);
                free.push(at);
            } else {
                in_use.push(at);
            }
            previous_free = is_free;
            at += size;
        }
        assert_eq!(at, self.units - 1);
        assert_eq!(self.units_of(at), 1);
        assert_eq!(self.word(at, 4) & FLAG != 0, previous_free);
        let mut listed = Vec::new();
        for (row, heads) in self.heads.iter().enumerate() {
            for (class, &head) in heads.iter().enumerate() {
                assert_eq!(self.classes[row] >> class & 1 == 1, head != NIL);
                let mut extent = head;
                while extent != NIL {
                    assert_eq!(class_of(self.units_of(extent)), (row, class));
                    listed.push(extent);
                    extent = self.word(extent, 4) & !FLAG;
                }
            }
            assert_eq!(self.rows >> row & 1 == 1, self.classes[row] != 0);
        }
        listed.sort_unstable();
        assert_eq!(listed, free);
        let units_free: u32 = free.iter().map(|&extent| self.units_of(extent)).sum();
        assert_eq!(units_free, self.units_free);
        in_use
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_taken_and_given_back_becomes_one_extent_again() {
        let mut arena = Arena::new(1024 * UNIT_BYTES).unwrap();
        let total = arena.units_total();
        let extents: Vec<u32> = (0..total / 7).map(|_| arena.take(7).unwrap()).collect();
        assert!(arena.take(7).is_none());
        for &extent in extents.iter().step_by(2).chain(extents.iter().skip(1).step_by(2)) {
            arena.give(extent);
            arena.check();
        }
        let all = arena.take(total).unwrap();
        assert_eq!((arena.units_of(all), arena.units_free()), (total, 0));
    }

    #[test]
    fn a_hole_of_just_the_right_size_is_found_in_its_own_class() {
        let mut arena = Arena::new(4096 * UNIT_BYTES).unwrap();
        // 67 units are the top of their class: a search that rounds up would miss them.
        let mut extents = Vec::new();
        while let Some(extent) = arena.take(67) {
            extents.push(extent);
        }
        let rest = arena.take(arena.units_free()).unwrap();
        arena.give(extents[3]);
        assert_eq!(arena.take(67), Some(extents[3]));
        arena.give(rest);
    }

    #[test]
    fn without_a_large_hole_the_largest_is_taken_whole() {
        let mut arena = Arena::new(102 * UNIT_BYTES).unwrap();
        let extents: Vec<u32> = (0..10).map(|_| arena.take(10).unwrap()).collect();
        arena.give(extents[1]);
        arena.give(extents[4]);
        arena.give(extents[5]);
        let extent = arena.take_up_to(50, 4).unwrap();
        assert_eq!((extent, arena.units_of(extent)), (extents[4], 20));
        assert!(arena.take_up_to(50, 11).is_none());
        assert_eq!(arena.take_up_to(50, 10), Some(extents[1]));
        assert!(arena.take_up_to(50, 1).is_none());
    }

    #[test]
    #[should_panic(expected = "given back once")]
    fn giving_back_twice_is_a_broken_invariant() {
        let mut arena = Arena::new(1024).unwrap();
        let extent = arena.take(3).unwrap();
        arena.give(extent);
        arena.give(extent);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert!(Arena::new(16).is_err());
        assert!(Arena::new(REGION_BYTES_MAX + 1).is_err());
    }

    proptest! {
        #[test]
        fn extents_never_overlap_and_always_tile(
            steps in prop::collection::vec(
                (any::<bool>(), 1_u32..200, any::<prop::sample::Index>()),
                1..300,
            ),
        ) {
            let mut arena = Arena::new(2048 * UNIT_BYTES).unwrap();
            let total = arena.units_total();
            let mut held: Vec<(u32, u8)> = Vec::new();
            for (i, (take, units, index)) in steps.into_iter().enumerate() {
                if take || held.is_empty() {
                    let extent = match i % 2 {
                        0 => arena.take(units),
                        _ => arena.take_up_to(units, units.min(3)),
                    };
                    let Some(extent) = extent else { continue };
                    let mark = (i % 251) as u8;
                    let start = extent as usize * UNIT_BYTES;
                    let end = start + arena.units_of(extent) as usize * UNIT_BYTES;
                    arena.region_mut()[start + EXTENT_HEADER_BYTES..end].fill(mark);
                    held.push((extent, mark));
                } else {
                    let (extent, mark) = held.swap_remove(index.index(held.len()));
                    let start = extent as usize * UNIT_BYTES;
                    let end = start + arena.units_of(extent) as usize * UNIT_BYTES;
                    let bytes = &arena.region()[start + EXTENT_HEADER_BYTES..end];
                    prop_assert!(bytes.iter().all(|&byte| byte == mark));
                    arena.give(extent);
                }
                let mut names: Vec<u32> = held.iter().map(|&(extent, _)| extent).collect();
                names.sort_unstable();
                prop_assert_eq!(arena.check(), names);
                let units: u32 = held.iter().map(|&(extent, _)| arena.units_of(extent)).sum();
                prop_assert_eq!(units + arena.units_free(), total);
            }
            for (extent, _) in held {
                arena.give(extent);
            }
            prop_assert!(arena.take(total).is_some());
        }
    }
}
