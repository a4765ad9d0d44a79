//! Waking a worker that sleeps in [`Transport::wait`](crate::net::Transport::wait).
//!
//! It behaves like a thread's park token: a wake-up that comes before the sleep makes that sleep
//! return at once, so none is lost, whatever the order. It must never make a system call for a
//! worker that is awake.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use mio::{Registry, Token};

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const NOTIFIED: u8 = 2;

/// Wakes one worker. Any thread may hold one.
#[derive(Clone, Debug)]
pub struct Waker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: AtomicU8,
    eventfd: mio::Waker,
}

impl Waker {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Waker> {
        let eventfd = mio::Waker::new(registry, token)?;
        Ok(Waker { inner: Arc::new(Inner { state: AtomicU8::new(AWAKE), eventfd }) })
    }

    /// Ends the worker's sleep, or its next one if it is awake. What the caller wrote before is
    /// visible to the worker in the turn that follows.
    pub fn wake(&self) {
        if self.inner.state.swap(NOTIFIED, AcqRel) == ASLEEP {
            // It fails only if the kernel is out of memory for nothing that it needs here.
            self.inner.eventfd.wake().expect("an eventfd takes a wake-up");
        }
    }

    /// Says that the worker is about to sleep. False if it must not: it was notified since it last
    /// tried.
    pub(super) fn fall_asleep(&self) -> bool {
        let state = &self.inner.state;
        match state.compare_exchange(AWAKE, ASLEEP, AcqRel, Acquire) {
            Ok(_) => true,
            Err(_) => {
                state.swap(AWAKE, AcqRel);
                false
            }
        }
    }

    /// Says that the worker is awake again.
    pub(super) fn rise(&self) {
        self.inner.state.swap(AWAKE, AcqRel);
    }
}
