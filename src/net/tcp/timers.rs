//! A timer wheel, for flows that must be processed although nothing arrived for them, and the lists
//! it consists of.
//!
//! A wheel may wake a flow too early (a deadline beyond its horizon is clipped to it, and deadlines
//! that move later are not followed): the flow then checks its own deadline and is armed again. It
//! must never wake one later than its deadline plus one tick, as long as it is called.

use crate::base::limits::{
    TCP_SWEEP_PER_TURN, TCP_SWEEP_PERIOD_US, TCP_WHEEL_SLOTS, TCP_WHEEL_TICK_US,
};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Links {
    next: u32,
    previous: u32,
    list: u32,
}

const UNLINKED: Links = Links { next: NONE, previous: NONE, list: NONE };

#[derive(Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

/// Doubly linked lists over the numbers below a capacity; a number is in one list at most.
pub struct Lists {
    ends: Box<[Ends]>,
    links: Vec<Links>,
}

impl Lists {
    /// `lists` empty lists over the numbers below `capacity`.
    pub fn new(lists: usize, capacity: usize) -> Lists {
        assert!(capacity < NONE as usize && lists < NONE as usize);
        let ends = vec![Ends { first: NONE, last: NONE }; lists].into_boxed_slice();
        Lists { ends, links: vec![UNLINKED; capacity] }
    }

    /// Appends `number`, which is in no list, to `list`.
    pub fn push_back(&mut self, list: usize, number: u32) {
        let ends = &mut self.ends[list];
        let previous = std::mem::replace(&mut ends.last, number);
        if previous == NONE {
            ends.first = number;
        } else {
            self.links[previous as usize].next = number;
        }
        let links = &mut self.links[number as usize];
        assert_eq!(links.list, NONE, "already in a list");
        *links = Links { next: NONE, previous, list: list as u32 };
    }

    /// Removes `number` from its list; returns whether it was in one.
    pub fn remove(&mut self, number: u32) -> bool {
        let links = std::mem::replace(&mut self.links[number as usize], UNLINKED);
        if links.list == NONE {
            return false;
        }
        match links.previous {
            NONE => self.ends[links.list as usize].first = links.next,
            previous => self.links[previous as usize].next = links.next,
        }
        match links.next {
            NONE => self.ends[links.list as usize].last = links.previous,
            next => self.links[next as usize].previous = links.previous,
        }
        true
    }

    /// The first number of `list`.
    pub fn first(&self, list: usize) -> Option<u32> {
        let first = self.ends[list].first;
        (first != NONE).then_some(first)
    }

    /// The number after `number` in its list.
    #[cfg(test)]
    pub fn next(&self, number: u32) -> Option<u32> {
        let next = self.links[number as usize].next;
        (next != NONE).then_some(next)
    }
}

/// A hashed timer wheel of one level.
pub struct Wheel {
    slots: Lists,
    /// The first tick whose slot was not emptied yet.
    tick: u64,
}

impl Wheel {
    /// A wheel for the numbers below `capacity`, at time `now_us`.
    pub fn new(capacity: usize, now_us: u64) -> Wheel {
        Wheel { slots: Lists::new(TCP_WHEEL_SLOTS, capacity), tick: now_us / TCP_WHEEL_TICK_US }
    }

    /// Wakes `number` soon after `deadline_us`, instead of at its previous time. Returns the actual
    /// time: up to a tick late, or early at the wheel's horizon.
    pub fn arm(&mut self, number: u32, deadline_us: u64) -> u64 {
        self.slots.remove(number);
        let tick = deadline_us
            .div_ceil(TCP_WHEEL_TICK_US)
            .clamp(self.tick, self.tick + TCP_WHEEL_SLOTS as u64 - 1);
        self.slots.push_back(tick as usize % TCP_WHEEL_SLOTS, number);
        tick * TCP_WHEEL_TICK_US
    }

    /// Cancels the timer of `number`.
    pub fn cancel(&mut self, number: u32) {
        self.slots.remove(number);
    }

    /// The next number to wake at `now_us`, or None when all due ones were returned. Bounded:
    /// visits each slot at most once, however much time has passed.
    pub fn pop(&mut self, now_us: u64) -> Option<u32> {
        let now = now_us / TCP_WHEEL_TICK_US;
        // After a gap longer than the wheel, one round finds everything.
        self.tick = self.tick.max(now.saturating_sub(TCP_WHEEL_SLOTS as u64 - 1));
        while self.tick <= now {
            if let Some(number) = self.slots.first(self.tick as usize % TCP_WHEEL_SLOTS) {
                self.slots.remove(number);
                return Some(number);
            }
            self.tick += 1;
        }
        None
    }

    /// The number that the next [`Wheel::pop`] may return, as a hint for prefetching.
    pub fn peek(&self) -> Option<u32> {
        self.slots.first(self.tick as usize % TCP_WHEEL_SLOTS)
    }
}

/// Half-open flows, oldest first.
pub struct HalfOpen {
    /// One.
    lists: Lists,
    len: usize,
}

impl HalfOpen {
    /// An empty one for flows below `capacity`.
    pub fn new(capacity: usize) -> HalfOpen {
        HalfOpen { lists: Lists::new(1, capacity), len: 0 }
    }

    /// Number of half-open flows.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds flow `index`.
    #[inline]
    pub fn push(&mut self, index: u32) {
        self.lists.push_back(0, index);
        self.len += 1;
    }

    /// Removes flow `index`, if it is in the list.
    #[inline]
    pub fn remove(&mut self, index: u32) {
        self.len -= usize::from(self.lists.remove(index));
    }

    /// The oldest half-open flow.
    #[inline]
    pub fn oldest(&self) -> Option<u32> {
        self.lists.first(0)
    }
}

/// Which flows are checked next, so that all are checked within a period.
pub struct Sweep {
    at: usize,
    swept_us: u64,
}

impl Sweep {
    /// Begins at `now_us`.
    pub fn new(now_us: u64) -> Sweep {
        Sweep { at: 0, swept_us: now_us }
    }

    /// How many of `flows` flows are due, at most [`TCP_SWEEP_PER_TURN`].
    pub fn due(&mut self, flows: usize, now_us: u64) -> usize {
        let share_us = TCP_SWEEP_PERIOD_US / flows.max(1) as u64;
        let due = (now_us - self.swept_us) / share_us.max(1);
        if due == 0 || flows == 0 {
            return 0;
        }
        self.swept_us = now_us;
        due.min(TCP_SWEEP_PER_TURN.min(flows) as u64) as usize
    }

    /// The next of `flows` flows.
    pub fn next(&mut self, flows: usize) -> usize {
        self.at = (self.at + 1) % flows;
        self.at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    const HORIZON_US: u64 = TCP_WHEEL_SLOTS as u64 * TCP_WHEEL_TICK_US;

    proptest! {
        #[test]
        fn lists_behave_as_queues(
            steps in proptest::collection::vec((0usize..3, 0u32..20), 0..300)
        ) {
            let mut lists = Lists::new(2, 20);
            let mut model = [VecDeque::new(), VecDeque::new()];
            for (list, number) in steps {
                let held = model.iter().any(|m| m.contains(&number));
                if list < 2 && !held {
                    lists.push_back(list, number);
                    model[list].push_back(number);
                } else {
                    prop_assert_eq!(lists.remove(number), held);
                    model.iter_mut().for_each(|m| m.retain(|&n| n != number));
                }
                for (list, model) in model.iter().enumerate() {
                    let mut seen = Vec::new();
                    let mut next = lists.first(list);
                    while let Some(number) = next {
                        seen.push(number);
                        next = lists.next(number);
                    }
                    prop_assert!(model.iter().eq(seen.iter()));
                }
            }
        }

        #[test]
        fn every_flow_is_woken_in_time(
            start in 0u64..1 << 40,
            steps in proptest::collection::vec(
                (0u8..8, 0u32..50, 0u64..2 * HORIZON_US, 0u64..3 * HORIZON_US), 1..400)
        ) {
            let mut now = start;
            let mut wheel = Wheel::new(50, now);
            let mut model = BTreeMap::new();
            for (what, number, delay, step) in steps {
                match what {
                    0..5 => {
                        let at = wheel.arm(number, now + delay);
                        prop_assert!(at < now + delay + 2 * TCP_WHEEL_TICK_US);
                        let is_clipped = delay >= HORIZON_US - TCP_WHEEL_TICK_US;
                        prop_assert!(is_clipped || at + TCP_WHEEL_TICK_US > now + delay);
                        model.insert(number, at);
                    }
                    5 => {
                        wheel.cancel(number);
                        model.remove(&number);
                    }
                    _ => {
                        now += if what == 6 { step % TCP_WHEEL_TICK_US } else { step };
                        while let Some(number) = wheel.pop(now) {
                            let at = model.remove(&number);
                            prop_assert!(at.is_some_and(|at| at <= now), "{} too early", number);
                        }
                        let late = model.values().find(|&&at| at + TCP_WHEEL_TICK_US <= now);
                        prop_assert!(late.is_none(), "forgotten: {:?} at {}", late, now);
                    }
                }
            }
        }
    }
}
