//! The bytes of a hit in one of two tiers.
//!
//! This module never decides in which tier an item is: it passes calls on to the tier's value.

use crate::base::buffer::Chain;
use crate::tier::{Take, Value};

/// The bytes of a hit.
#[derive(Debug)]
pub enum Found<V1, V2> {
    /// As L1 holds them.
    L1(V1),
    /// As L2 holds them.
    L2(V2),
    /// Copied from L2, to be stored in L1.
    Copied(Chain),
}

impl<V1: Value, V2: Value> Value for Found<V1, V2> {
    const IS_GATHERED: bool = V1::IS_GATHERED || V2::IS_GATHERED;

    #[inline]
    fn len(&self) -> usize {
        match self {
            Found::L1(value) => value.len(),
            Found::L2(value) => value.len(),
            Found::Copied(chain) => chain.len(),
        }
    }

    #[inline]
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        match self {
            Found::L1(value) => value.copy_to(offset, out),
            Found::L2(value) => value.copy_to(offset, out),
            Found::Copied(chain) => chain.copy_to(offset, out),
        }
    }

    fn show(&self, offset: usize, take: &mut Take<'_>) -> usize {
        match self {
            Found::L1(value) => value.show(offset, take),
            Found::L2(value) => value.show(offset, take),
            Found::Copied(chain) => chain.show(offset, take),
        }
    }

    fn as_chain(&self) -> Option<&Chain> {
        match self {
            Found::L1(value) => value.as_chain(),
            Found::L2(value) => value.as_chain(),
            Found::Copied(chain) => Some(chain),
        }
    }

    fn share(&self) -> Option<Found<V1, V2>> {
        match self {
            Found::L1(value) => value.share().map(Found::L1),
            Found::L2(value) => value.share().map(Found::L2),
            Found::Copied(chain) => chain.share().map(Found::Copied),
        }
    }
}
