//! The sum by which a later start knows a record that is as it was written.
//!
//! It covers where the record lies and the sequence number of its segment, so that a record of
//! another store, of another place or of the segment's former use is not taken for one. It is
//! keyed by the store's seed. Nothing here reads a region.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_micro_inline};

use super::places::SegmentPlaces;

/// Bytes of a record's check.
pub const CHECK_BYTES: usize = 4;

/// What the two words that are mixed at a time are set off with.
const MIX: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

/// How sums are made.
#[derive(Clone, Copy, Debug)]
pub struct Checksum {
    secrets: RapidSecrets,
    places: SegmentPlaces,
}

impl Checksum {
    /// Sums of the store with this seed.
    pub fn new(seed: u64, places: SegmentPlaces) -> Checksum {
        Checksum { secrets: RapidSecrets::seed(!seed), places }
    }

    /// Where the segment of a record starts.
    #[inline(always)]
    pub fn segment_start(&self, place: usize) -> usize {
        self.places.start_of(place)
    }

    /// The sum of a record's key and value, of its start, and of where it lies.
    #[inline(always)]
    pub fn of(&self, bytes: &[u8], head: u64, place: u64, sequence: u64) -> u64 {
        let sum = rapidhash_v3_micro_inline::<true, false>(bytes, &self.secrets);
        mix(sum ^ head, mix(place, sequence))
    }

    /// Adds two words to a sum.
    #[inline(always)]
    pub fn add(&self, sum: u64, first: u64, second: u64) -> u64 {
        mix(sum ^ first, mix(first, second))
    }
}

/// Folds the product of two words.
#[inline(always)]
fn mix(first: u64, second: u64) -> u64 {
    let product = u128::from(first ^ MIX[0]) * u128::from(second ^ MIX[1]);
    product as u64 ^ (product >> 64) as u64
}
