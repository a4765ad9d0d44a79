//! Intervals of which only the last to begin counts, bounded.
//!
//! Of operations that each happened at some moment between a begin and an end, the question is
//! always: which began last, of those that ended before a given moment? One that began before
//! another and ended after it is never the answer and is not kept. Never keeps more than
//! [`STEPS_MAX`]: it then forgets the oldest, which makes the answer weaker, never wrong.

use std::collections::VecDeque;

/// A moment: the number of begins and ends before it.
pub type Tick = u64;

/// Later than everything.
pub const NEVER: Tick = u64::MAX;

/// Steps that are kept at most.
pub const STEPS_MAX: usize = 4096;

/// An operation that happened at some moment between its begin and its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step {
    /// It did not happen before this moment.
    pub begin: Tick,
    /// It had happened by this moment.
    pub end: Tick,
    /// The version it wrote; 0 for one that writes none.
    pub version: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Staircase {
    steps_max: usize,
    /// Both ends ascend.
    steps: VecDeque<Step>,
}

impl Staircase {
    /// Keeps this many steps.
    pub fn new(steps_max: usize) -> Staircase {
        Staircase { steps_max: steps_max.min(STEPS_MAX), steps: VecDeque::new() }
    }

    /// Adds an operation that ended last of all so far.
    pub fn push(&mut self, step: Step) {
        if self.steps.back().is_some_and(|last| last.begin >= step.begin) {
            return;
        }
        self.steps.push_back(step);
        if self.steps.len() > self.steps_max {
            self.steps.pop_front();
        }
    }

    /// Of those that ended before `moment`, the one that began last.
    pub fn last_before(&self, moment: Tick) -> Option<Step> {
        let after = self.steps.partition_point(|step| step.end < moment);
        after.checked_sub(1).map(|last| self.steps[last])
    }

    /// Of those that began after `moment`, the one that ended first.
    pub fn first_after(&self, moment: Tick) -> Option<Step> {
        let first = self.steps.partition_point(|step| step.begin <= moment);
        self.steps.get(first).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(begin: Tick, end: Tick) -> Step {
        Step { begin, end, version: begin }
    }

    #[test]
    fn the_last_to_begin_answers() {
        let mut stairs = Staircase::new(STEPS_MAX);
        for (begin, end) in [(1, 4), (3, 5), (2, 6), (7, 9)] {
            stairs.push(step(begin, end));
        }
        assert_eq!(stairs.last_before(4), None);
        assert_eq!(stairs.last_before(5), Some(step(1, 4)));
        assert_eq!(stairs.last_before(9), Some(step(3, 5)));
        assert_eq!(stairs.last_before(10), Some(step(7, 9)));
        assert_eq!(stairs.first_after(0), Some(step(1, 4)));
        assert_eq!(stairs.first_after(1), Some(step(3, 5)));
        assert_eq!(stairs.first_after(3), Some(step(7, 9)));
        assert_eq!(stairs.first_after(7), None);
    }

    #[test]
    fn it_is_bounded() {
        let mut stairs = Staircase::new(STEPS_MAX);
        for tick in 0..10 * STEPS_MAX as u64 {
            stairs.push(step(2 * tick, 2 * tick + 1));
        }
        assert_eq!(stairs.steps.len(), STEPS_MAX);
    }
}
