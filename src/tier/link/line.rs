//! Who waits for room in a link's output, in order.
//!
//! Each has a ticket from when it joins until it leaves. This must never wake anybody but the
//! first, unless all have to look.

use std::collections::VecDeque;
use std::task::Waker;

/// The line for room.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: VecDeque<(u64, Option<Waker>)>,
    next_ticket: u64,
}

impl Line {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A place at the end of the line.
    pub(super) fn join(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back((ticket, None));
        ticket
    }

    pub(super) fn is_first(&self, ticket: u64) -> bool {
        self.waiting.front().is_some_and(|(first, _)| *first == ticket)
    }

    /// Has `waker` called when it is the ticket's turn to look again.
    pub(super) fn wait(&mut self, ticket: u64, waker: &Waker) {
        if let Some((_, kept)) = self.waiting.iter_mut().find(|(other, _)| *other == ticket) {
            *kept = Some(waker.clone());
        }
    }

    /// Gives a place up; the next one looks.
    pub(super) fn leave(&mut self, ticket: u64) {
        self.waiting.retain(|(other, _)| *other != ticket);
        self.wake_first();
    }

    /// Lets whoever waits longest look again.
    pub(super) fn wake_first(&mut self) {
        if let Some((_, waker)) = self.waiting.front_mut()
            && let Some(waker) = waker.take()
        {
            waker.wake();
        }
    }

    /// Lets everybody look again.
    pub(super) fn wake_all(&mut self) {
        for (_, waker) in &mut self.waiting {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::woken::Woken;

    #[test]
    fn the_first_is_woken_and_who_leaves_lets_the_next_look() {
        let mut line = Line::default();
        let woken: [Arc<Woken>; 3] = Default::default();
        let wakers = woken.clone().map(Waker::from);
        let tickets = [0; 3].map(|_| line.join());
        for (ticket, waker) in tickets.iter().zip(&wakers) {
            line.wait(*ticket, waker);
        }
        let counts = || [0, 1, 2].map(|i| woken[i].count());
        line.wake_first();
        line.wake_first();
        assert_eq!((counts(), line.is_first(tickets[0])), ([1, 0, 0], true));
        // Whoever gives up in the middle, and then the first.
        line.leave(tickets[1]);
        assert_eq!(counts(), [1, 0, 0]);
        line.leave(tickets[0]);
        assert_eq!((counts(), line.is_first(tickets[2])), ([1, 0, 1], true));
        line.wait(tickets[2], &wakers[2]);
        line.wake_all();
        assert_eq!(counts(), [1, 0, 2]);
        line.leave(tickets[2]);
        assert!(line.is_empty());
    }
}
