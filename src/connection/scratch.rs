//! The worker's memory for the request at hand. Nothing in it outlives a step.

use arrayvec::ArrayVec;

use crate::limits::KEY_BYTES_MAX;
use crate::protocol::Head;

/// What a visit needs to work with and leaves behind for the next. One a worker.
#[derive(Debug)]
pub struct Scratch {
    /// Where requests that a ring's wrap cut in two are put together.
    pub(super) stitched: Box<[u8; SCRATCH_BYTES]>,
    /// The key of a get, while its reply is written.
    pub(super) key: ArrayVec<u8, KEY_BYTES_MAX>,
    /// Where reply heads are put while the request is still borrowed.
    pub(super) head: Head,
    /// What the request of this step counts for among [`crate::limits::REQUESTS_PER_VISIT`].
    pub(super) cost: usize,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            stitched: Box::new([0; SCRATCH_BYTES]),
            key: ArrayVec::new(),
            head: Head::new(),
            cost: 1,
        }
    }
}

impl Scratch {
    /// Remembers the key of a get.
    #[inline(always)]
    pub(super) fn set_key(&mut self, key: &[u8]) {
        self.key.clear();
        self.key.try_extend_from_slice(key).expect("the parsers refuse longer keys");
    }
}

/// More than the longest line or header with extras and key that is not refused by its start.
pub const SCRATCH_BYTES: usize = 4096;

const _: () = assert!(SCRATCH_BYTES > crate::limits::LINE_BYTES_MAX + 1);
