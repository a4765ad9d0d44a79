//! The bytes of a hit in one of two tiers.
//!
//! This module never decides in which tier an item is: it passes calls on to the tier's value.

use crate::base::buffer::Chain;
use crate::base::clock::Now;
use crate::base::latency::Level;
use crate::tier::{Take, Value};

/// The bytes of a hit.
#[derive(Debug)]
pub enum PairValue<V1, V2> {
    /// As L1 holds them.
    L1(V1),
    /// As L2 holds them.
    L2(V2),
    /// Copied from L2, to be stored in L1.
    Copied(Chain),
}

impl<V1: Value, V2: Value> Value for PairValue<V1, V2> {
    const IS_GATHERED: bool = V1::IS_GATHERED || V2::IS_GATHERED;

    #[inline]
    fn len(&self) -> usize {
        match self {
            PairValue::L1(value) => value.len(),
            PairValue::L2(value) => value.len(),
            PairValue::Copied(chain) => chain.len(),
        }
    }

    #[inline]
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        match self {
            PairValue::L1(value) => value.copy_to(offset, out),
            PairValue::L2(value) => value.copy_to(offset, out),
            PairValue::Copied(chain) => chain.copy_to(offset, out),
        }
    }

    fn show(&self, offset: usize, take: &mut Take<'_>) -> usize {
        match self {
            PairValue::L1(value) => value.show(offset, take),
            PairValue::L2(value) => value.show(offset, take),
            PairValue::Copied(chain) => chain.show(offset, take),
        }
    }

    fn as_chain(&self) -> Option<&Chain> {
        match self {
            PairValue::L1(value) => value.as_chain(),
            PairValue::L2(value) => value.as_chain(),
            PairValue::Copied(chain) => Some(chain),
        }
    }

    fn note_progress(&self, now: Now) {
        match self {
            PairValue::L1(value) => value.note_progress(now),
            PairValue::L2(value) => value.note_progress(now),
            PairValue::Copied(_) => (),
        }
    }

    fn level(&self) -> Level {
        match self {
            PairValue::L1(_) => Level::L1,
            PairValue::L2(_) | PairValue::Copied(_) => Level::L2,
        }
    }

    fn is_lost(&self) -> bool {
        match self {
            PairValue::L1(value) => value.is_lost(),
            PairValue::L2(value) => value.is_lost(),
            PairValue::Copied(_) => false,
        }
    }

    fn share(&self) -> Option<PairValue<V1, V2>> {
        match self {
            PairValue::L1(value) => value.share().map(PairValue::L1),
            PairValue::L2(value) => value.share().map(PairValue::L2),
            PairValue::Copied(chain) => chain.share().map(PairValue::Copied),
        }
    }
}
