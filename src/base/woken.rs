//! A waker that counts how often it wakes, for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Wake;

/// See the module.
#[derive(Debug, Default)]
pub struct Woken(AtomicU32);

impl Woken {
    /// How often it has woken.
    pub fn count(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.fetch_add(1, Relaxed);
    }
}
