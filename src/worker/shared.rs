//! What all workers of a process share: settings, counters, and the word to stop.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use rapidhash::v3::RapidSecrets;

use crate::clock::Clock;
use crate::protocol::Limits;
use crate::protocol::stats::Totals;
use crate::secret;
use crate::stats::{Counter, WorkerStats};

/// What `stats settings` tells and nothing else needs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Bytes of L1, all workers together.
    pub l1_bytes: u64,
    /// Connections allowed, all workers together.
    pub connections_max: u64,
    /// The main port.
    pub port: u16,
    /// The address listened on.
    pub bind: String,
    /// The path of the Unix socket, or empty.
    pub socket_path: String,
    /// Seconds after which an idle connection is closed; 0: never.
    pub idle_timeout_s: u64,
}

/// What all workers share. Written before they start, but for counters and flags.
#[derive(Debug)]
pub struct Shared {
    /// The clock that all workers read.
    pub clock: Clock,
    /// Limits and switches of the protocols.
    pub limits: Limits,
    /// For `stats settings`.
    pub settings: Settings,
    /// By worker number; each is written by its worker only.
    pub stats: Vec<Arc<WorkerStats>>,
    /// The sums at the last `stats reset`.
    pub baseline: Mutex<Totals>,
    /// Set once: every worker ends after its turn.
    pub stop: Arc<AtomicBool>,
    /// Secrets of the hash that names a key's owner.
    pub key_secrets: RapidSecrets,
}

impl Shared {
    /// The shared part of `workers` workers.
    pub fn new(clock: Clock, limits: Limits, settings: Settings, workers: usize) -> Shared {
        Shared {
            clock,
            limits,
            settings,
            stats: (0..workers).map(|_| Arc::new(WorkerStats::default())).collect(),
            baseline: Mutex::default(),
            stop: Arc::new(AtomicBool::new(false)),
            key_secrets: RapidSecrets::seed(u64::from_ne_bytes(secret::random())),
        }
    }

    /// A counter, all workers together.
    pub fn sum(&self, counter: Counter) -> u64 {
        self.stats.iter().fold(0, |sum, worker| sum.wrapping_add(worker.get(counter)))
    }
}
