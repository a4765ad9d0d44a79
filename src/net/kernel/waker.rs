//! Waking a worker that sleeps in [`Transport::wait`](crate::net::Transport::wait).
//!
//! It behaves like a thread's park token: a wake-up before the sleep makes that sleep return
//! immediately, so none is lost, whatever the order. It must never make a system call for a worker
//! that is awake.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use mio::{Registry, Token};

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const NOTIFIED: u8 = 2;

/// Wakes one worker. Any thread may have one.
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

    /// Ends the worker's sleep, or its next one if it is awake. Memory that the caller wrote before
    /// is visible to the worker in the following turn.
    pub fn wake(&self) {
        if self.inner.state.swap(NOTIFIED, AcqRel) == ASLEEP {
            // It fails only if the kernel is out of memory, and it needs none here.
            self.inner.eventfd.wake().expect("an eventfd takes a wake-up");
        }
    }

    /// Announces that the worker is about to sleep. False if it must not: it was woken since the
    /// last call.
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

    /// Announces that the worker is awake again.
    pub(super) fn rise(&self) {
        self.inner.state.swap(AWAKE, AcqRel);
    }
}
