//! What was due in an open loop and is not sent any more: the step is over, and the server is
//! behind.

use super::{Engine, Work};

impl Engine {
    /// Whether a step's end is past: what was due in it may still be begun.
    pub fn is_past_end(&self) -> bool {
        matches!(&self.work, Work::Open(arrivals) if arrivals.is_over(self.now_ns))
    }

    /// Takes what was due and not begun for overdue: every connection is to be visited. However
    /// many arrivals nobody was dealt, this takes no longer than the step's length asks for.
    pub fn give_up(&mut self) {
        self.work = match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Open(mut arrivals) => {
                let (now_ns, record) = (self.now_ns, &mut self.record);
                // Those of the warm-up do not count.
                arrivals.leave_out(record.window().from_ns, |_, _| {});
                arrivals.leave_out(u64::MAX, |due_ns, n| record.overdue(due_ns, now_ns, n));
                Work::GiveUp(arrivals)
            }
            other => other,
        };
    }
}
