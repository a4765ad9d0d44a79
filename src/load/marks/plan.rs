//! What a storm does, and what its clients saw.

use crate::base::clock::Clock;
use crate::load::login::Login;
use crate::load::stream::Target;
use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Keys with copies, and keys whose items are swapped.
pub const COPIES: usize = 4;
/// See [`COPIES`].
pub const SWAPS: u64 = 4;

/// What a storm does.
#[derive(Clone, Debug)]
pub struct Storm {
    /// Servers that share their items; the clients are spread over them.
    pub targets: Vec<Target>,
    /// Who each client logs in as, if anybody.
    pub login: Option<Login>,
    /// What keys begin with.
    pub prefix: String,
    /// Clients: half keep copies, half swap. At least two.
    pub clients: u64,
    /// Of all clients.
    pub operations: u64,
    /// Decides what each client does.
    pub seed: u64,
    /// An answer that takes longer is none.
    pub timeout: Duration,
    /// A longer answer is nonsense.
    pub answer_bytes: usize,
    /// A client whose connection fails, or whom the server tells that it failed, goes on.
    pub survives: bool,
    /// A server that cannot be reached for so long ends the storm even so.
    pub patience: Duration,
    /// No operation begins so long after this was made.
    pub duration: Duration,
    /// Set to end it.
    pub stop: Arc<AtomicBool>,
    clock: Clock,
    count: Arc<AtomicU64>,
}

/// What the clients saw.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Done {
    /// Items read.
    pub read: u64,
    /// Of these with X, and with Z.
    pub stale: u64,
    /// See `stale`.
    pub told: u64,
    /// How often a client was told to fetch.
    pub won: u64,
    /// Swaps and deletes by cas that were acknowledged.
    pub swapped: u64,
    /// Those that came too late.
    pub late: u64,
    /// Swaps with a cas of the client's choice.
    pub chosen: u64,
    /// Requests that were not answered, or that the server could not carry out.
    pub failures: u64,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { read, stale, told, won, swapped, late, chosen, failures } = self;
        write!(
            f,
            "marks: {read} items read, {stale} stale, {won} won, {told} told that another had won; \
             {swapped} swapped by cas, {late} too late, {chosen} with a chosen cas; \
             {failures} failed"
        )
    }
}

impl AddAssign for Done {
    fn add_assign(&mut self, other: Done) {
        self.read += other.read;
        self.stale += other.stale;
        self.told += other.told;
        self.won += other.won;
        self.swapped += other.swapped;
        self.late += other.late;
        self.chosen += other.chosen;
        self.failures += other.failures;
    }
}

impl Storm {
    /// Of sixteen clients, which survive nothing.
    pub fn new(targets: Vec<Target>, operations: u64, seed: u64) -> Storm {
        Storm {
            targets,
            login: None,
            prefix: String::new(),
            clients: 16,
            operations,
            seed,
            timeout: Duration::from_secs(10),
            answer_bytes: 1 << 20,
            survives: false,
            patience: Duration::from_secs(30),
            duration: Duration::from_secs(86_400),
            stop: Arc::default(),
            clock: Clock::start(),
            count: Arc::default(),
        }
    }

    /// Whether no operation may begin any more.
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Relaxed) || self.clock.read_ns() > self.duration.as_nanos() as u64
    }

    /// One more operation is done.
    pub(super) fn count(&self) {
        self.count.fetch_add(1, Relaxed);
    }

    /// Its keys.
    pub fn keys(&self) -> Vec<String> {
        let copies = (0..COPIES).map(|key| format!("{}copy{key}", self.prefix));
        copies.chain((0..SWAPS).map(|key| format!("{}swap{key}", self.prefix))).collect()
    }

    /// Operations so far.
    pub(super) fn counted(&self) -> u64 {
        self.count.load(Relaxed)
    }
}
