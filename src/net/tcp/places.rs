//! How many connections there are: those of this stack, those of all, and those that are refused.

use std::sync::Arc;

use crate::base::clock::Now;
use crate::base::limits::TCP_REFUSALS_MAX;
use crate::net::Admission;

/// The connections of one stack, counted.
pub(super) struct Places {
    /// All stacks' together.
    admission: Arc<Admission>,
    max: usize,
    taken: usize,
    refusals: usize,
}

impl Places {
    /// None taken, of `max`.
    pub fn new(admission: &Arc<Admission>, max: usize) -> Places {
        Places { admission: Arc::clone(admission), max, taken: 0, refusals: 0 }
    }

    /// Connections that have a place.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Whether one more may try: it gets a place, or is told that there is none.
    #[inline]
    pub fn may_try(&self) -> bool {
        self.taken + self.refusals < self.max + TCP_REFUSALS_MAX
    }

    /// Takes a place. False if there is none.
    #[inline]
    pub fn take(&mut self) -> bool {
        let has_one = self.admission.enter();
        self.taken += usize::from(has_one);
        has_one
    }

    /// Gives a place back.
    #[inline]
    pub fn give_back(&mut self) {
        self.taken -= 1;
        self.admission.leave(1);
    }

    /// One more is being told that there is no place for it.
    pub fn begin_refusal(&mut self, now: Now) {
        self.admission.tell_full(now);
        self.refusals += 1;
    }

    /// One of these is gone.
    pub fn end_refusal(&mut self) {
        self.refusals -= 1;
    }
}
