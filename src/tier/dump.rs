//! What `lru_crawler metadump` lists: the items of a tier, a bounded piece at a time.
//!
//! A piece is named by where it begins, so nothing is kept between two of them: an item that is
//! stored, removed or moved meanwhile may be listed or not, and one that is moved may be listed
//! twice. A tier must never look at more than a piece of its index for one of them.

use crate::base::buffer::Key;
use crate::base::clock::Expiry;

/// An item of a piece.
#[derive(Debug)]
pub struct DumpedItem {
    /// The key.
    pub key: Key,
    /// The client's flags.
    pub flags: u32,
    /// When it expires.
    pub expiry: Expiry,
    /// When it was last used, as far as the tier knows, in seconds of Unix time.
    pub used_s: u32,
    /// The item's cas.
    pub cas: u64,
    /// Whether it was read since it was stored, as far as the tier knows.
    pub is_fetched: bool,
    /// Length of the value, in bytes.
    pub value_bytes: usize,
}

/// A piece of a tier's items.
#[derive(Debug)]
pub struct Dumped {
    /// The items.
    pub items: Vec<DumpedItem>,
    /// Where the next piece begins; 0 after the last.
    pub next: u64,
}
