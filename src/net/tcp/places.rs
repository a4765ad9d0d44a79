//! Connection counts: of this stack, of all, and of those that are refused.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::clock::Now;
use crate::base::limits::TCP_REFUSALS_MAX;
use crate::net::Admission;

/// The connections of one stack, counted.
pub(super) struct Places {
    /// The count of all stacks together.
    admission: Arc<Admission>,
    max: usize,
    taken: usize,
    refusals: usize,
}

impl Places {
    /// No connection yet, of at most `max`.
    pub fn new(admission: &Arc<Admission>, max: usize) -> Places {
        Places { admission: Arc::clone(admission), max, taken: 0, refusals: 0 }
    }

    /// Connections that are counted.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Whether another one may begin: it is counted, or gets the refusal.
    #[inline]
    pub fn may_try(&self) -> bool {
        self.taken + self.refusals < self.max + TCP_REFUSALS_MAX
    }

    /// Counts a connection. False if the limit is reached.
    #[inline]
    pub fn take(&mut self) -> bool {
        let has_one = self.admission.enter();
        self.taken += usize::from(has_one);
        has_one
    }

    /// A peer may not connect.
    #[cold]
    pub fn report_not_allowed(&self, peer: IpAddr, now: Now) {
        self.admission.report_not_allowed(peer, now);
    }

    /// Subtracts a connection.
    #[inline]
    pub fn give_back(&mut self) {
        self.taken -= 1;
        self.admission.leave(1);
    }

    /// Another connection begins that gets the refusal.
    pub fn begin_refusal(&mut self, now: Now) {
        self.admission.report_full(now);
        self.refusals += 1;
    }

    /// One of these has ended.
    pub fn end_refusal(&mut self) {
        self.refusals -= 1;
    }
}
