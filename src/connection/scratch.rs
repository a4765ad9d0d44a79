//! The worker's memory for the current request. Nothing in it outlives a step.

use arrayvec::ArrayVec;

use super::sample::Sampler;
use crate::base::buffer::Fifo;
use crate::base::limits::{KEY_BYTES_MAX, REQUESTS_PER_VISIT, WORK_BYTES_PER_REQUEST};
use crate::base::work;
use crate::protocol::Head;
use crate::protocol::text::MetaReply;

/// Memory that visits use and leave for the next. One per worker.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "intakes move between connections by pointer")]
pub struct Scratch {
    /// Requests that a ring's wrap split in two are assembled here.
    pub(super) stitched: Box<[u8; SCRATCH_BYTES]>,
    /// The key of a get, while its reply is written.
    pub(super) key: ArrayVec<u8, KEY_BYTES_MAX>,
    /// What the reply to the last meta command needs of it.
    pub(super) meta: MetaReply,
    /// Reply heads are written here while the request is still borrowed.
    pub(super) head: Head,
    /// Draws the requests that are measured.
    pub sampler: Sampler,
    /// The cost of this step's request among [`REQUESTS_PER_VISIT`].
    pub(super) cost: usize,
    /// For connections whose output becomes blocked, so that none has to call the allocator.
    pub(super) intakes: Vec<Box<Fifo>>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            stitched: Box::new([0; SCRATCH_BYTES]),
            key: ArrayVec::new(),
            meta: MetaReply::default(),
            head: Head::new(),
            sampler: Sampler::default(),
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

/// What a visit may still do: requests, and the bytes that they copy or scan besides their own,
/// which count as requests too.
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

    /// Counts a request of this cost, and the work noted since the last one.
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

/// Intakes kept for the next connections that need one.
pub(super) const INTAKES_KEPT: usize = 32;

/// Initial capacity of such an intake, in blocks.
const INTAKE_BLOCKS: usize = 64;
