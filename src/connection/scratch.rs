//! The worker's memory for the request at hand. Nothing in it outlives a step.

use arrayvec::ArrayVec;

use crate::base::buffer::Fifo;
use crate::base::limits::{KEY_BYTES_MAX, REQUESTS_PER_VISIT, WORK_BYTES_PER_REQUEST};
use crate::base::work;
use crate::protocol::Head;

/// What a visit needs to work with and leaves behind for the next. One a worker.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "intakes move between connections by pointer")]
pub struct Scratch {
    /// Where requests that a ring's wrap cut in two are put together.
    pub(super) stitched: Box<[u8; SCRATCH_BYTES]>,
    /// The key of a get, while its reply is written.
    pub(super) key: ArrayVec<u8, KEY_BYTES_MAX>,
    /// Where reply heads are put while the request is still borrowed.
    pub(super) head: Head,
    /// What the request of this step counts for among [`REQUESTS_PER_VISIT`].
    pub(super) cost: usize,
    /// For connections whose output gets blocked, so that none has to ask the allocator.
    pub(super) intakes: Vec<Box<Fifo>>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            stitched: Box::new([0; SCRATCH_BYTES]),
            key: ArrayVec::new(),
            head: Head::new(),
            cost: 1,
            intakes: (0..INTAKES_KEPT)
                .map(|_| Box::new(Fifo::with_blocks(INTAKE_BLOCKS)))
                .collect(),
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

/// What a visit may still do: requests, and the bytes that they copy or look through beside their
/// own, which count as requests too.
pub(super) struct Budget {
    requests: usize,
    work_before: u64,
}

impl Budget {
    #[inline(always)]
    pub(super) fn new() -> Budget {
        Budget { requests: REQUESTS_PER_VISIT, work_before: work::bytes() }
    }

    #[inline(always)]
    pub(super) fn is_spent(&self) -> bool {
        self.requests == 0
    }

    /// Counts a request of this cost, and the work that was noted since the last one.
    #[inline(always)]
    pub(super) fn spend(&mut self, cost: usize) {
        let work = work::since(self.work_before) / WORK_BYTES_PER_REQUEST;
        self.work_before = work::bytes();
        self.requests = self.requests.saturating_sub(cost + work);
    }
}

/// More than the longest line or header with extras and key that is not refused by its start.
pub const SCRATCH_BYTES: usize = 4096;

const _: () = assert!(SCRATCH_BYTES > crate::base::limits::LINE_BYTES_MAX + 1);

/// Intakes that a worker keeps for the next connections that need one.
pub(super) const INTAKES_KEPT: usize = 32;

/// Blocks that such a one has places for from the start.
const INTAKE_BLOCKS: usize = 64;
