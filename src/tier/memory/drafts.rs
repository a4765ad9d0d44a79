//! Which items are being received, and how much memory they have.
//!
//! Nothing here knows where an item lies.

use crate::base::limits::{DRAFTS_MAX, DRAFTS_SHARE};
use crate::tier::Draft;
use crate::tier::segments::{MadeRecord, PieceCursor};

/// A record that is being received.
#[derive(Clone, Copy, Debug)]
pub struct Drafted {
    pub made: MadeRecord,
    bytes: usize,
    /// Where the last part of its value went.
    pub cursor: PieceCursor,
}

/// All that are being received. Their number is limited, so that none of them allocates.
#[derive(Debug)]
pub struct Drafts {
    slots: Vec<Option<Drafted>>,
    free: Vec<u32>,
    /// Bytes of all of them, and most that they may have.
    bytes: usize,
    bytes_max: usize,
}

impl Drafts {
    /// None, of at most their share of `memory_bytes`.
    pub fn new(memory_bytes: usize) -> Drafts {
        Drafts {
            slots: vec![None; DRAFTS_MAX],
            free: (0..DRAFTS_MAX as u32).rev().collect(),
            bytes: 0,
            bytes_max: memory_bytes / DRAFTS_SHARE,
        }
    }

    /// Whether one more of `bytes` may be begun.
    pub fn has_room(&self, bytes: usize) -> bool {
        !self.free.is_empty() && self.bytes.saturating_add(bytes) <= self.bytes_max
    }

    /// Begins one; None if there are too many.
    pub fn add(&mut self, made: MadeRecord, bytes: usize) -> Option<Draft> {
        let slot = self.free.pop()?;
        self.slots[slot as usize] = Some(Drafted { made, bytes, cursor: PieceCursor::default() });
        self.bytes += bytes;
        Some(Draft(slot))
    }

    /// One that is being received.
    pub fn get_mut(&mut self, draft: Draft) -> &mut Drafted {
        self.slots[draft.0 as usize].as_mut().expect("a draft that was not stored or dropped")
    }

    /// Ends one.
    pub fn remove(&mut self, draft: Draft) -> Drafted {
        let drafted = self.slots[draft.0 as usize].take();
        let drafted = drafted.expect("a draft that was not stored or dropped");
        self.free.push(draft.0);
        self.bytes -= drafted.bytes;
        drafted
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        DRAFTS_MAX - self.free.len()
    }
}
