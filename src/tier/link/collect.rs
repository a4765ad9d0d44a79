//! Collectors of answers: the code that begins a batch chooses one; these are the usual ones.

use super::protocol::{Head, Status};
use crate::base::buffer::{self, Chain, Gather};

/// Collects the answers to one batch, in the order of its requests. Value bytes are passed directly
/// from the read buffer.
pub trait Collect {
    /// An answer begins. With [`Status::Value`] its value follows; otherwise the answer ends here.
    fn begin(&mut self, head: &Head);

    /// The next bytes of its value.
    fn bytes(&mut self, bytes: &[u8]);

    /// The value is complete.
    fn end(&mut self);
}

/// One answer.
#[derive(Debug, Default)]
pub struct One {
    /// Its head.
    pub head: Head,
    value: Gather,
    /// There was no room for the value.
    is_refused: bool,
}

impl One {
    /// The head, and the value; empty if there is none.
    pub fn into_parts(self) -> (Head, Chain) {
        (self.head, self.value.finish())
    }
}

/// Counts of statuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statuses {
    counts: [u32; Status::COUNT],
}

impl Statuses {
    /// Answers with this status.
    pub fn of(&self, status: Status) -> u32 {
        self.counts[status as usize]
    }

    /// All answers.
    pub fn total(&self) -> u32 {
        self.counts.iter().sum()
    }
}

impl Collect for One {
    /// A value for which there is no room is treated as refused.
    #[inline]
    fn begin(&mut self, head: &Head) {
        self.head = *head;
        if !buffer::may_gather(head.value_bytes) {
            self.head.status = Status::Refused;
            self.is_refused = true;
        }
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        if !self.is_refused {
            self.value.extend(bytes);
        }
    }

    #[inline]
    fn end(&mut self) {}
}

impl Collect for Statuses {
    #[inline]
    fn begin(&mut self, head: &Head) {
        self.counts[head.status as usize] += 1;
    }

    #[inline]
    fn bytes(&mut self, _bytes: &[u8]) {}

    #[inline]
    fn end(&mut self) {}
}
