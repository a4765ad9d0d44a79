//! Limits concurrency; further tasks wait in a queue for each kind, for a limited time.
//!
//! For requests that cost a server much although they are short: the number of those in flight
//! determines how long all other requests on the same link wait. The queues take turns, so that
//! many tasks of one kind do not delay those of the other. Single-threaded; a task that is
//! cancelled must never keep its place.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use crate::base::clock::Now;

/// Initial capacity of each queue.
const LINE: usize = 1024;

/// The kinds of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// An append or prepend.
    Extend = 0,
    /// An incr or decr.
    Count = 1,
}

/// The limit and its queues.
#[derive(Debug)]
pub struct Gate {
    state: RefCell<GateState>,
    /// How long a task waits in its queue, in microseconds.
    wait_us: u64,
}

#[derive(Debug)]
struct GateState {
    free: usize,
    next_ticket: u64,
    lines: [VecDeque<Waiting>; 2],
    /// The queue whose turn it is, if it is not empty.
    turn: usize,
    now_us: u64,
}

impl GateState {
    /// The queue whose first task is next; None: both are empty.
    fn next_line(&self) -> Option<usize> {
        let other = 1 - self.turn;
        [self.turn, other].into_iter().find(|&line| !self.lines[line].is_empty())
    }
}

/// A task in the queue. One that came later waits until later.
#[derive(Debug)]
struct Waiting {
    ticket: u64,
    until_us: u64,
    waker: Waker,
}

/// Permission to run; dropping it admits the next task.
#[derive(Debug)]
#[must_use]
pub struct Pass<'g>(&'g Gate);

/// A place in a queue, given up when dropped.
struct GatePlace<'g> {
    gate: &'g Gate,
    kind: GateKind,
    ticket: Option<u64>,
}

impl Gate {
    /// Admits at most `count` tasks at the same time, and refuses one that waited for `wait_us`.
    pub fn new(count: usize, wait_us: u64) -> Gate {
        let lines = [(); 2].map(|()| VecDeque::with_capacity(LINE));
        let state = GateState { free: count, next_ticket: 0, lines, turn: 0, now_us: 0 };
        Gate { state: RefCell::new(state), wait_us }
    }

    /// Waits until another task may run. None: that took too long.
    pub async fn enter(&self, kind: GateKind) -> Option<Pass<'_>> {
        let mut place = GatePlace { gate: self, kind, ticket: None };
        poll_fn(|context| {
            let polled = place.poll(context);
            if polled.is_pending() {
                // It may be the turn of the other queue, whose first was not woken for it.
                self.call();
            }
            polled
        })
        .await
    }

    /// Once a turn: wakes the tasks that have waited for too long.
    pub fn turn(&self, now: Now) {
        self.state.borrow_mut().now_us = now.uptime_us;
        for line in 0..2 {
            for n in 0.. {
                let state = self.state.borrow();
                let late = state.lines[line].get(n).filter(|late| late.until_us <= now.uptime_us);
                let Some(waker) = late.map(|late| late.waker.clone()) else { break };
                drop(state);
                waker.wake();
            }
        }
    }

    /// When the first in a queue has waited for too long, as an uptime in microseconds;
    /// `u64::MAX`: both are empty.
    pub fn wake_at_us(&self) -> u64 {
        let state = self.state.borrow();
        let firsts = state.lines.iter().filter_map(VecDeque::front);
        firsts.map(|first| first.until_us).min().unwrap_or(u64::MAX)
    }

    /// Wakes the task that is next, if the limit allows.
    fn call(&self) {
        let state = self.state.borrow();
        let line = state.next_line().filter(|_| state.free > 0);
        let first = line.and_then(|line| state.lines[line].front());
        let waker = first.map(|first| first.waker.clone());
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<'g> GatePlace<'g> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Option<Pass<'g>>> {
        let gate = self.gate;
        let state = &mut *gate.state.borrow_mut();
        let own_line = self.kind as usize;
        let is_turn =
            state.turn == own_line || state.next_line().is_none_or(|line| line == own_line);
        let first = state.lines[own_line].front().map(|first| first.ticket);
        if state.free > 0 && is_turn && first == self.ticket {
            state.free -= 1;
            state.turn = 1 - own_line;
            if self.ticket.take().is_some() {
                state.lines[own_line].pop_front();
            }
            return Poll::Ready(Some(Pass(gate)));
        }
        let Some(own) = self.ticket else {
            let (ticket, until_us) = (state.next_ticket, state.now_us + gate.wait_us);
            state.next_ticket += 1;
            let waiting = Waiting { ticket, until_us, waker: context.waker().clone() };
            state.lines[own_line].push_back(waiting);
            self.ticket = Some(ticket);
            return Poll::Pending;
        };
        let waiting = state.lines[own_line].iter_mut().find(|waiting| waiting.ticket == own);
        let waiting = waiting.expect("a task with a ticket is in its queue");
        if waiting.until_us <= state.now_us {
            return Poll::Ready(None);
        }
        waiting.waker.clone_from(context.waker());
        Poll::Pending
    }
}

impl Drop for GatePlace<'_> {
    fn drop(&mut self) {
        let Some(own) = self.ticket else {
            // It was admitted. There may be room for another.
            return self.gate.call();
        };
        let line = self.kind as usize;
        self.gate.state.borrow_mut().lines[line].retain(|waiting| waiting.ticket != own);
        self.gate.call();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.state.borrow_mut().free += 1;
        self.0.call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Bell>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls all waiters; returns which were admitted.
    fn admitted<'g, F: Future<Output = Option<Pass<'g>>>>(
        line: &mut [Option<Pin<Box<F>>>],
        passes: &mut Vec<Pass<'g>>,
        bell: &Arc<Bell>,
    ) -> Vec<usize> {
        let waker = Waker::from(Arc::clone(bell));
        let mut context = Context::from_waker(&waker);
        let mut who = Vec::new();
        for (n, place) in line.iter_mut().enumerate() {
            let Some(waiting) = place else { continue };
            if let Poll::Ready(pass) = waiting.as_mut().poll(&mut context) {
                who.extend(pass.is_some().then_some(n));
                passes.extend(pass);
                *place = None;
            }
        }
        who
    }

    #[test]
    fn the_first_in_the_queue_is_woken_whichever_is_cancelled() {
        let gate = Gate::new(2, 1_000);
        let bell = Arc::new(Bell::default());
        let mut line: Vec<_> =
            (0..7).map(|_| Some(Box::pin(gate.enter(GateKind::Extend)))).collect();
        let mut passes = Vec::new();
        assert_eq!(admitted(&mut line, &mut passes, &bell), [0, 1]);
        assert!(admitted(&mut line, &mut passes, &bell).is_empty());
        assert_eq!(bell.0.load(Ordering::Relaxed), 0);
        passes.pop();
        assert_eq!(bell.0.load(Ordering::Relaxed), 1);
        // Woken, and cancelled: the next is woken instead.
        line[2] = None;
        assert_eq!(bell.0.load(Ordering::Relaxed), 2);
        assert_eq!(admitted(&mut line, &mut passes, &bell), [3]);
        line[4] = None;
        passes.clear();
        assert_eq!(admitted(&mut line, &mut passes, &bell), [5, 6]);
        passes.clear();
        assert!(gate.state.borrow().next_line().is_none());
        assert_eq!(gate.state.borrow().free, 2);
    }
    #[test]
    fn a_task_that_waits_for_too_long_is_refused_and_the_others_are_not() {
        let gate = Gate::new(1, 1_000);
        let bell = Arc::new(Bell::default());
        let at = |uptime_us| Now { uptime_us, ..Now::default() };
        gate.turn(at(5_000));
        assert_eq!(gate.wake_at_us(), u64::MAX);
        let mut line: Vec<_> =
            (0..3).map(|_| Some(Box::pin(gate.enter(GateKind::Extend)))).collect();
        let mut passes = Vec::new();
        assert_eq!(admitted(&mut line, &mut passes, &bell), [0]);
        gate.turn(at(5_500));
        line.push(Some(Box::pin(gate.enter(GateKind::Extend))));
        assert!(admitted(&mut line, &mut passes, &bell).is_empty());
        assert_eq!(gate.wake_at_us(), 6_000);
        gate.turn(at(5_999));
        assert_eq!(bell.0.load(Ordering::Relaxed), 0);
        gate.turn(at(6_000));
        assert_eq!(bell.0.load(Ordering::Relaxed), 2, "both that came first");
        assert!(admitted(&mut line, &mut passes, &bell).is_empty());
        let waits: Vec<bool> = line.iter().map(Option::is_some).collect();
        assert_eq!(waits, [false, false, false, true]);
        assert_eq!(gate.wake_at_us(), 6_500);
        // One that is woken in time is admitted.
        passes.clear();
        assert_eq!(admitted(&mut line, &mut passes, &bell), [3]);
        assert!(gate.state.borrow().next_line().is_none());
    }

    #[test]
    fn many_tasks_of_one_kind_do_not_delay_the_other() {
        let gate = Gate::new(4, 1_000);
        let bell = Arc::new(Bell::default());
        let kinds = [GateKind::Extend; 100].into_iter().chain([GateKind::Count; 3]);
        let mut line: Vec<_> = kinds.map(|kind| Some(Box::pin(gate.enter(kind)))).collect();
        let mut passes = Vec::new();
        assert_eq!(admitted(&mut line, &mut passes, &bell), [0, 1, 2, 3]);
        let mut order = Vec::new();
        for _ in 0..6 {
            let rung = bell.0.load(Ordering::Relaxed);
            drop(passes.remove(0));
            assert!(bell.0.load(Ordering::Relaxed) > rung, "somebody is woken");
            order.extend(admitted(&mut line, &mut passes, &bell));
        }
        assert_eq!(order, [100, 4, 101, 5, 102, 6]);
        // All that is free goes to those that wait, of whichever kind.
        passes.clear();
        let mut context = Context::from_waker(Waker::noop());
        let mut count = Box::pin(gate.enter(GateKind::Count));
        assert!(matches!(count.as_mut().poll(&mut context), Poll::Ready(Some(_))), "its turn");
        let mut late = Box::pin(gate.enter(GateKind::Count));
        passes.extend((0..3).map(|_| Pass(&gate)));
        gate.state.borrow_mut().free -= 3;
        drop(count);
        assert!(late.as_mut().poll(&mut context).is_pending(), "not its turn");
        let rung = bell.0.load(Ordering::Relaxed);
        assert_eq!(admitted(&mut line, &mut passes, &bell), [7]);
        assert!(bell.0.load(Ordering::Relaxed) == rung, "nothing is free");
        passes.pop();
        assert!(matches!(late.as_mut().poll(&mut context), Poll::Ready(Some(_))));
    }
}
