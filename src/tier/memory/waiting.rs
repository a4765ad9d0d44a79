//! Stores that wait for memory which readers hold.
//!
//! The one that has waited longest tries again about once a millisecond, and the others after it:
//! each try looks at all that is held. None waits for longer than [`ROOM_PATIENCE_US`]. Nothing
//! here looks at the memory.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::base::clock::Now;
use crate::base::limits::{READER_PAUSE_PRESSED_US, ROOM_PATIENCE_US, ROOM_WAIT_US};

/// Places that there are from the start.
const LINE: usize = 256;

/// Who waits, first come first.
#[derive(Debug)]
pub struct Waiting {
    is_patient: Cell<bool>,
    line: RefCell<VecDeque<(u64, Waker)>>,
    /// Those in line.
    count: Cell<usize>,
    /// When the first one tries again, as an uptime in microseconds.
    next_us: Cell<u64>,
    now: Cell<Now>,
}

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting {
            is_patient: Cell::new(false),
            line: RefCell::new(VecDeque::with_capacity(LINE)),
            count: Cell::new(0),
            next_us: Cell::new(0),
            now: Cell::default(),
        }
    }
}

impl Waiting {
    /// From now on stores wait.
    pub fn be_patient(&self) {
        self.is_patient.set(true);
    }

    /// Whether stores wait.
    pub fn is_patient(&self) -> bool {
        self.is_patient.get()
    }

    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    /// The time of the last turn.
    pub fn now(&self) -> Now {
        self.now.get()
    }

    /// Waits until a store that began at `since_us` may try again. False: it has waited for long
    /// enough.
    pub fn wait(&self, since_us: u64) -> impl Future<Output = bool> + use<'_> {
        let mut is_asked = false;
        poll_fn(move |context| {
            if std::mem::replace(&mut is_asked, true) {
                let waited_us = self.now.get().uptime_us.saturating_sub(since_us);
                return Poll::Ready(waited_us < ROOM_PATIENCE_US);
            }
            let mut line = self.line.borrow_mut();
            let place = line.partition_point(|(other_us, _)| *other_us <= since_us);
            line.insert(place, (since_us, context.waker().clone()));
            self.count.set(line.len());
            Poll::Pending
        })
    }

    /// A store found room: so may the next one in line.
    pub fn retry_soon(&self) {
        self.next_us.set(0);
    }

    /// Once a turn while somebody waits: wakes who may try again, and who has waited for long
    /// enough. Returns whether somebody has waited for so long that readers are to lose their items
    /// sooner.
    pub fn turn(&self, now: Now) -> bool {
        self.now.set(now);
        let mut line = self.line.borrow_mut();
        let waits_for = |us: u64, line: &VecDeque<(u64, Waker)>| {
            line.front().is_some_and(|(since_us, _)| since_us + us <= now.uptime_us)
        };
        while waits_for(ROOM_PATIENCE_US, &line) {
            line.pop_front().into_iter().for_each(|(_, waker)| waker.wake());
        }
        let is_pressed = waits_for(READER_PAUSE_PRESSED_US, &line);
        if now.uptime_us >= self.next_us.get() {
            line.pop_front().into_iter().for_each(|(_, waker)| waker.wake());
            self.next_us.set(now.uptime_us + ROOM_WAIT_US);
        }
        self.count.set(line.len());
        is_pressed
    }

    /// See [`crate::tier::Tier::wake_at_us`].
    pub fn wake_at_us(&self) -> u64 {
        if self.is_empty() { u64::MAX } else { self.next_us.get() }
    }
}
