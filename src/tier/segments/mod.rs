//! A store of items in append-only segments of one region: exact in bytes, evicting by use, with
//! every piece of work bounded.
//!
//! ```text
//! store: find, make, publish, kill ── index: key → place, frequency, ghosts
//!   │                              ── table: segments and what lives in each
//!   ├ evict: one segment after another is emptied, a few records a step
//!   ├ sweep: many segments of small records are emptied together
//!   ├ readers: who holds what      ── record: the bytes of one item
//!   ├ chain: values in pieces
//!   └ header: what a later start needs          region: all bytes, by offset
//! ```
//!
//! A new record is written behind the last one of an open segment, one for each queue and group of
//! lifetimes. Nothing is freed by itself: what dies is marked and counted, and a segment is emptied
//! as a whole, by copying forward what is worth it. The order of writes is such that a stop at any
//! instruction leaves at worst a miss: a record is written unpublished, then the old one is marked
//! dead, then the index names the new one, then it is published.
//!
//! Eviction is S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023)
//! with segments in the queues. A record's cas is the sequence number of its segment and its offset
//! in that, so it costs nothing, and changes when the record is moved by eviction.
//!
//! What a command means is the caller's affair. See the decision on segments in
//! docs/DECISIONS.md for what was measured.

mod append;
mod chain;
mod change;
mod check;
mod checksum;
mod dump;
mod evict;
mod evicted;
mod figures;
mod geometry;
mod header;
mod index;
mod line;
mod mapping;
mod marks;
mod opening;
mod places;
mod readers;
mod record;
mod recover;
mod region;
mod scan;
mod store;
mod sweep;
mod table;

#[cfg(test)]
mod tests;

pub use chain::PieceCursor;
pub use check::{Checked, Survivor};
pub use figures::{SegmentCounts, SegmentOverview};
pub use geometry::{BYTES_MAX, BYTES_MIN, SegmentStoreConfig};
pub use header::Companion;
pub use mapping::{MadeStore, Needed, StoreFile, made, try_open};
pub use opening::{Beginning, Emptied, Opening, Room, StartError};
pub use record::RecordMarks;
pub use store::{FoundRecord, MadeRecord, NewRecord, OpenedRecord, SegmentStore};
