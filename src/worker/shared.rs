//! State shared by all workers of a process: settings, counters, and the request to stop.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rapidhash::v3::RapidSecrets;
use rtrb::{Consumer, Producer, RingBuffer};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::logins::Logins;
use crate::base::clock::Clock;
use crate::base::limits::{DRAIN_US, KEY_SAMPLES, SAMPLE_RATE, TAKEOVER_DRAIN_US};
use crate::base::rights::LiveRights;
use crate::base::secret;
use crate::base::stats::{Counter, DeviceStats, WorkerStats};
use crate::connection::sample::{KeySample, Parts};
use crate::connection::watch::Watchers;
use crate::net::{Admission, Remedies};
use crate::protocol::stats::{TopKey, Totals};
use crate::protocol::{Binding, Limits};
use crate::report::{self, Event};

/// Settings that only `stats settings` reports.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The main port.
    pub port: u16,
    /// The addresses listened on, separated by commas.
    pub bind: String,
    /// All listeners, as `stats conns` reports them.
    pub listeners: Vec<String>,
    /// The path of the Unix socket, or empty.
    pub socket_path: String,
}

/// Why a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A signal, with its number.
    Signal(usize),
    /// A client's command.
    Shutdown,
    /// The program that the server is a part of.
    Program,
    /// Another process, which serves from now on.
    Takeover,
}

impl Cause {
    /// Records this cause, before the stop is requested.
    pub fn write(self, to: &AtomicUsize) {
        to.store(self.number(), Ordering::Relaxed);
    }

    /// As one number, so that a signal handler can write it: never 0.
    fn number(self) -> usize {
        match self {
            Cause::Signal(number) => number,
            Cause::Shutdown => usize::MAX,
            Cause::Program => usize::MAX - 1,
            Cause::Takeover => usize::MAX - 2,
        }
    }

    /// The recorded cause, if there is one.
    pub fn read(from: &AtomicUsize) -> Option<Cause> {
        Some(from.load(Ordering::Relaxed)).filter(|number| *number != 0).map(Cause::of)
    }

    fn of(number: usize) -> Cause {
        match number {
            usize::MAX => Cause::Shutdown,
            number if number == usize::MAX - 1 => Cause::Program,
            number if number == usize::MAX - 2 => Cause::Takeover,
            number => Cause::Signal(number),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Signal(number) => match i32::try_from(*number) {
                Ok(SIGINT) => f.write_str("SIGINT was received"),
                Ok(SIGTERM) => f.write_str("SIGTERM was received"),
                _ => write!(f, "signal {number} was received"),
            },
            Cause::Shutdown => f.write_str("a client sent the command shutdown"),
            Cause::Program => f.write_str("the program asked for it"),
            Cause::Takeover => f.write_str("another sunder takes over"),
        }
    }
}

/// Keys in `stats topkeys`.
pub const TOP_KEYS: usize = 20;

/// State shared by all workers. Written before they start, except counters and flags.
#[derive(Debug)]
pub struct Shared {
    /// The clock that all workers read.
    pub clock: Clock,
    /// Limits and switches of the protocols.
    pub limits: Limits,
    /// For `stats settings`.
    pub settings: Settings,
    /// Who may use the server; None: everybody may.
    pub logins: Option<Arc<Logins>>,
    /// What the clients of the main port, and of the batch port, may do.
    pub rights: [Arc<LiveRights>; 2],
    /// Which protocol they speak.
    pub bindings: [Binding; 2],
    /// The limit of open connections, all workers together.
    pub admission: Arc<Admission>,
    /// By worker number; each is written only by its worker.
    pub stats: Vec<Arc<WorkerStats>>,
    /// By device; written by who watches them.
    pub devices: Vec<DeviceStats>,
    /// One request in this many is measured and its key noted; 0: none.
    pub sample_rate: Arc<AtomicU32>,
    /// Seconds after which an idle connection is closed; 0: never.
    pub idle_timeout_s: Arc<AtomicU64>,
    /// Where workers put the keys that they note, until they start.
    pub keys_in: Vec<Mutex<Option<Producer<KeySample>>>>,
    /// The other ends, until somebody takes them.
    pub keys_out: Mutex<Vec<Consumer<KeySample>>>,
    top_keys: Mutex<Vec<TopKey>>,
    /// Bytes of the tiers in memory, all workers together; complete when they have started.
    pub memory_bytes: AtomicU64,
    /// All workers have started.
    pub is_ready: Arc<AtomicBool>,
    /// The sums at the last `stats reset`.
    pub baseline: Mutex<Totals>,
    /// Set once: every worker ends after its turn.
    pub stop: Arc<AtomicBool>,
    /// The cause of the stop, as [`Cause`] writes it; 0: none was recorded. Written before
    /// [`Shared::stop`] is set.
    pub stop_cause: Arc<AtomicUsize>,
    is_stop_told: AtomicBool,
    /// Turns of any worker in which memory was needed that readers hold. Not until when that
    /// counts: each worker has its own time.
    pub starvations: AtomicU64,
    /// A connection, of any worker, lists items.
    pub is_dumping: AtomicBool,
    /// Who watches.
    pub watchers: Arc<Watchers>,
    /// How long a stop waits for pending replies, in microseconds.
    pub drain_us: u64,
    /// Workers with replies pending for a client.
    pub owing: AtomicUsize,
    /// Set if no client is reachable any more: a stop waits for none.
    pub unreachable: AtomicBool,
    /// Set by a second signal to end: a stop waits for no client any more.
    pub hurry: Arc<AtomicBool>,
    /// Secrets of the hash that determines a key's owner.
    pub key_secrets: RapidSecrets,
}

impl Shared {
    /// The state shared by `workers` workers.
    pub fn new(clock: Clock, limits: Limits, settings: Settings, workers: usize) -> Shared {
        let (keys_in, keys_out): (Vec<_>, _) =
            (0..workers).map(|_| RingBuffer::new(KEY_SAMPLES)).unzip();
        Shared {
            clock,
            limits,
            settings,
            logins: None,
            rights: Default::default(),
            bindings: [Binding::Auto; 2],
            admission: Arc::new(Admission::new(usize::MAX, Remedies::default())),
            stats: (0..workers).map(|_| Arc::new(WorkerStats::default())).collect(),
            devices: Vec::new(),
            sample_rate: Arc::new(AtomicU32::new(SAMPLE_RATE)),
            idle_timeout_s: Arc::default(),
            keys_in: keys_in.into_iter().map(|keys| Mutex::new(Some(keys))).collect(),
            keys_out: Mutex::new(keys_out),
            top_keys: Mutex::default(),
            memory_bytes: AtomicU64::new(0),
            is_ready: Arc::default(),
            baseline: Mutex::default(),
            stop: Arc::new(AtomicBool::new(false)),
            stop_cause: Arc::new(AtomicUsize::new(0)),
            is_stop_told: AtomicBool::new(false),
            starvations: AtomicU64::new(0),
            is_dumping: AtomicBool::new(false),
            watchers: Arc::default(),
            drain_us: DRAIN_US,
            owing: AtomicUsize::new(0),
            unreachable: AtomicBool::new(false),
            hurry: Arc::default(),
            key_secrets: RapidSecrets::seed(u64::from_ne_bytes(secret::random())),
        }
    }

    /// What the sampler of a worker needs.
    pub fn sampling(&self, worker: usize) -> Parts {
        let keys = &self.keys_in[worker];
        Parts {
            clock: self.clock,
            stats: Arc::clone(&self.stats[worker]),
            rate: Arc::clone(&self.sample_rate),
            keys: keys.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }

    /// The hottest keys, for `stats topkeys`.
    pub fn top_keys(&self) -> Vec<TopKey> {
        self.top_keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// These are the hottest keys now.
    pub fn set_top_keys(&self, keys: Vec<TopKey>) {
        *self.top_keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Makes every worker end after its turn.
    pub fn stop_for(&self, cause: Cause) {
        cause.write(&self.stop_cause);
        self.stop.store(true, Ordering::Release);
    }

    /// Reports why the server stops; the first worker that ends does.
    pub fn tell_stop(&self) {
        let Some(cause) = Cause::read(&self.stop_cause) else { return };
        if self.is_stop_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let connections = self.sum(Counter::CurrConnections);
        let are = if connections == 1 { "connection is" } else { "connections are" };
        let text = format_args!("stopping: {cause}; {connections} {are} open");
        report::tell(Event::Stopping.line(text).count(connections));
    }

    /// Whether a stop waits for nobody any more.
    pub fn is_hurried(&self) -> bool {
        self.hurry.load(Ordering::Relaxed)
    }

    /// How long a stop waits for clients to read their replies, in microseconds. At a takeover all
    /// clients wait for the next process meanwhile.
    pub fn drain_limit_us(&self) -> u64 {
        match Cause::read(&self.stop_cause) {
            Some(Cause::Takeover) => self.drain_us.min(TAKEOVER_DRAIN_US),
            _ => self.drain_us,
        }
    }

    /// Whether no client is reachable any more.
    pub fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed)
    }

    /// A counter, all workers together.
    pub fn sum(&self, counter: Counter) -> u64 {
        self.stats.iter().fold(0, |sum, worker| sum.wrapping_add(worker.get(counter)))
    }
}

/// The worker that owns the keys of this hash.
pub(super) fn owner_of(key_hash: u64, workers: usize) -> usize {
    ((u128::from(key_hash) * workers as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_evenly_owned() {
        for workers in 1..=8 {
            let mut owned = vec![0; workers];
            for i in 0..8000_u64 {
                owned[owner_of(i.wrapping_mul(0x9e37_79b9_7f4a_7c15), workers)] += 1;
            }
            let expected = 8000 / workers;
            assert!(owned.iter().all(|&n| n > expected * 9 / 10 && n < expected * 11 / 10));
        }
        assert_eq!(owner_of(u64::MAX, 3), 2);
    }
}
