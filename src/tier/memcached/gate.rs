//! Limits concurrency; further tasks wait in a queue.
//!
//! For requests that cost a server much although they are short: the number of those in flight
//! determines how long all other requests on the same link wait. Single-threaded; a task that is
//! cancelled must never keep its place.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// Initial capacity of the queue.
const LINE: usize = 1024;

/// The limit and its queue.
#[derive(Debug)]
pub struct Gate {
    state: RefCell<GateState>,
}

#[derive(Debug)]
struct GateState {
    free: usize,
    next_ticket: u64,
    line: VecDeque<(u64, Waker)>,
}

/// Permission to run; dropping it admits the next task.
#[derive(Debug)]
#[must_use]
pub struct Pass<'g>(&'g Gate);

/// A place in the queue, given up when dropped.
struct GatePlace<'g> {
    gate: &'g Gate,
    ticket: Option<u64>,
}

impl Gate {
    /// Admits at most `count` tasks at the same time.
    pub fn new(count: usize) -> Gate {
        let line = VecDeque::with_capacity(LINE);
        Gate { state: RefCell::new(GateState { free: count, next_ticket: 0, line }) }
    }

    /// Waits until another task may run.
    pub async fn enter(&self) -> Pass<'_> {
        let mut place = GatePlace { gate: self, ticket: None };
        poll_fn(|context| place.poll(context)).await
    }

    /// Wakes the first in the queue, if the limit allows.
    fn call(&self) {
        let state = self.state.borrow();
        let first = state.line.front().filter(|_| state.free > 0);
        let waker = first.map(|(_, waker)| waker.clone());
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<'g> GatePlace<'g> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Pass<'g>> {
        let state = &mut *self.gate.state.borrow_mut();
        let first = state.line.front().map(|(ticket, _)| *ticket);
        if state.free > 0 && first == self.ticket {
            state.free -= 1;
            if self.ticket.take().is_some() {
                state.line.pop_front();
            }
        } else {
            match self.ticket {
                Some(own) => {
                    if let Some((_, waker)) = state.line.iter_mut().find(|(at, _)| *at == own) {
                        waker.clone_from(context.waker());
                    }
                }
                None => {
                    self.ticket = Some(state.next_ticket);
                    state.line.push_back((state.next_ticket, context.waker().clone()));
                    state.next_ticket += 1;
                }
            }
            return Poll::Pending;
        }
        Poll::Ready(Pass(self.gate))
    }
}

impl Drop for GatePlace<'_> {
    fn drop(&mut self) {
        let Some(own) = self.ticket else {
            // It was admitted. There may be room for another.
            return self.gate.call();
        };
        self.gate.state.borrow_mut().line.retain(|(ticket, _)| *ticket != own);
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
    fn admitted<'g, F: Future<Output = Pass<'g>>>(
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
                passes.push(pass);
                who.push(n);
                *place = None;
            }
        }
        who
    }

    #[test]
    fn the_first_in_the_queue_is_woken_whichever_is_cancelled() {
        let gate = Gate::new(2);
        let bell = Arc::new(Bell::default());
        let mut line: Vec<_> = (0..7).map(|_| Some(Box::pin(gate.enter()))).collect();
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
        assert!(gate.state.borrow().line.is_empty());
        assert_eq!(gate.state.borrow().free, 2);
    }
}
