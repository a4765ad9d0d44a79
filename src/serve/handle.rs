//! What the program around a server holds of it: whether it serves, what it has counted, and the
//! word to stop. It must never make a worker wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::base::stats::{Counter, WorkerStats};
use crate::worker::{Cause, Shared};

/// A server, for other threads of its program. It may outlive the server.
#[derive(Clone, Debug)]
pub struct Handle {
    stop: Arc<AtomicBool>,
    stop_cause: Arc<AtomicUsize>,
    is_ready: Arc<AtomicBool>,
    stats: Vec<Arc<WorkerStats>>,
}

impl Handle {
    pub(super) fn new(shared: &Shared) -> Handle {
        Handle {
            stop: Arc::clone(&shared.stop),
            stop_cause: Arc::clone(&shared.stop_cause),
            is_ready: Arc::clone(&shared.is_ready),
            stats: shared.stats.clone(),
        }
    }

    /// Has the server end as a signal would: [`Server::run`](super::Server::run) returns soon.
    pub fn stop(&self) {
        Cause::Program.write(&self.stop_cause);
        self.stop.store(true, Ordering::Release);
    }

    /// Whether clients are served: all workers have started, and no stop was requested.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire) && !self.stop.load(Ordering::Relaxed)
    }

    /// Whether a stop was requested.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether it stops because another process takes over.
    pub(super) fn is_replaced(&self) -> bool {
        matches!(Cause::read(&self.stop_cause), Some(Cause::Takeover))
    }

    /// How many turns each worker has made.
    pub(super) fn turns(&self) -> Vec<u64> {
        self.stats.iter().map(|worker| worker.get(Counter::Turns)).collect()
    }

    /// A counter, all workers together. One of a level, such as `CurrConnections`, is its sum too.
    pub fn count(&self, counter: Counter) -> u64 {
        self.stats.iter().fold(0, |sum, worker| sum.wrapping_add(worker.get(counter)))
    }
}
