//! The tier with a clock of the test's own.

use std::cell::Cell;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sunder::base::buffer::{Chain, Key};
use sunder::base::clock::{Clock, Expiry, Now};
use sunder::base::limits::ITEM_BYTES_MAX_DEFAULT;
use sunder::base::stats::{Counter, WorkerStats};
use sunder::tier::link::{Address, LinkConfig};
use sunder::tier::rend::Rend;
use sunder::tier::rend::binary::Exptimes;
use sunder::tier::rend::probe::Server as Ability;
use sunder::tier::{Outcome, Store, StoreMode, Tier, Value};

use super::fake::{FakeRend, START_UNIX_S};
use crate::common::task::Task;
use crate::support::{self, PATIENCE, Server};

/// Time-out of a link in tests that are not about it, in microseconds.
const TIMEOUT_US: u64 = 5_000_000;

/// The tier, and its clock.
pub struct Fixture {
    pub tier: Rend,
    pub stats: Arc<WorkerStats>,
    clock: Clock,
    /// Seconds of Unix time, if the test sets them; else the host's.
    pub unix_s: Cell<Option<u32>>,
}

impl Fixture {
    pub fn open(address: Address, ability: Ability, timeout_us: u64) -> Fixture {
        let clock = Clock::start();
        let stats = Arc::new(WorkerStats::default());
        let config = LinkConfig { timeout_us, ..LinkConfig::new(address, Arc::clone(&stats)) };
        let tier = Rend::open(config, ability, ITEM_BYTES_MAX_DEFAULT, clock.read());
        let tier = tier.unwrap_or_else(|error| panic!("{error}"));
        Fixture { tier, stats, clock, unix_s: Cell::new(None) }
    }

    /// With a sunder as its server.
    pub fn of_sunder(sunder: &Sunder) -> Fixture {
        Fixture::open(sunder.address(), Ability::Whole, TIMEOUT_US)
    }

    /// With a stand-in for Rend as its server, and its clock.
    pub fn of_fake(fake: &FakeRend) -> Fixture {
        Fixture::of_fake_with(fake, TIMEOUT_US)
    }

    pub fn of_fake_with(fake: &FakeRend, timeout_us: u64) -> Fixture {
        let address = Address::Unix(fake.path().to_owned());
        let fixture = Fixture::open(address, Ability::Rend(Exptimes::Distances), timeout_us);
        fixture.unix_s.set(Some(START_UNIX_S));
        fixture
    }

    pub fn now(&self) -> Now {
        let now = self.clock.read();
        Now { unix_s: self.unix_s.get().unwrap_or(now.unix_s), ..now }
    }

    /// One turn of a worker that has these tasks.
    pub fn turn<T>(&self, tasks: &mut [Task<'_, T>]) {
        let now = self.now();
        let answers = self.tier.turn(now);
        tasks.iter_mut().for_each(Task::poll);
        self.tier.flush(now);
        if answers == 0 {
            // The server may need the core.
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.run_all([future]).pop().expect("one")
    }

    /// All concurrently, as one batch of a turn.
    pub fn run_all<T>(&self, futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
        let mut tasks: Vec<_> = futures.into_iter().map(Task::new).collect();
        let start = Instant::now();
        self.tier.flush(self.now());
        while tasks.iter().any(|task| task.output.is_none()) {
            assert!(start.elapsed() < PATIENCE, "an operation ends: {:?}", self.tier);
            self.turn(&mut tasks);
        }
        tasks.into_iter().map(|task| task.output.expect("finished")).collect()
    }

    /// Turns until the link serves.
    pub fn wait_until_up(&self) {
        let start = Instant::now();
        while !self.tier.link().is_up() {
            assert!(start.elapsed() < PATIENCE, "the link recovers: {:?}", self.tier);
            self.turn::<()>(&mut []);
        }
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }

    pub fn set(&self, name: &[u8], value: &[u8]) -> Outcome<Chain> {
        self.store(StoreMode::Set, name, value, 0, 0, Expiry::NEVER)
    }

    pub fn store(
        &self,
        mode: StoreMode,
        name: &[u8],
        value: &[u8],
        flags: u32,
        cas: u64,
        expiry: Expiry,
    ) -> Outcome<Chain> {
        let store = Store { mode, flags, expiry, cas };
        let value = Chain::from_slice(value);
        self.run(self.tier.store(&key(name), store, &value, self.now()))
    }

    pub fn get(&self, name: &[u8]) -> Outcome<Chain> {
        self.run(self.tier.get_with_expiry(&key(name), self.now()))
    }

    /// The outcome of a get in [`words`].
    pub fn found(&self, name: &[u8]) -> String {
        words(&self.get(name), self.now())
    }
}

pub fn key(name: &[u8]) -> Key {
    Key::new(name).expect("short enough")
}

/// An outcome in words: without the cas, times as seconds from now.
pub fn words<V: Value>(outcome: &Outcome<V>, now: Now) -> String {
    match outcome {
        Outcome::Hit(hit) => {
            let mut value = vec![0; hit.value.len()];
            hit.value.copy_to(0, &mut value);
            let left_s = match hit.expiry {
                Expiry::NEVER => -1,
                expiry => i64::from(expiry.unix_s()) - i64::from(now.unix_s),
            };
            format!("hit {} {left_s} {}", hit.flags, value.escape_ascii())
        }
        Outcome::Number { value, .. } => format!("number {value}"),
        Outcome::Stored { .. } => "stored".into(),
        Outcome::Changed(_) => "changed".into(),
        Outcome::Touched { .. } => "touched".into(),
        Outcome::Miss => "miss".into(),
        Outcome::NotStored => "not stored".into(),
        Outcome::Exists => "exists".into(),
        Outcome::Deleted => "deleted".into(),
        Outcome::NonNumeric => "non-numeric".into(),
        Outcome::TooLarge => "too large".into(),
        Outcome::OutOfMemory => "out of memory".into(),
        Outcome::Flushed => "flushed".into(),
        Outcome::Dumped(_) => "dumped".into(),
        Outcome::Throttled => "throttled".into(),
        Outcome::Unsupported => "unsupported".into(),
        Outcome::Failed => "failed".into(),
    }
}

/// A sunder on a port of the loopback, ended when dropped.
pub struct Sunder {
    port: u16,
    server: Option<Server>,
}

impl Sunder {
    pub fn start() -> Sunder {
        let mut sunder = Sunder { port: support::free_port(), server: None };
        sunder.start_again();
        sunder
    }

    pub fn start_again(&mut self) {
        let args = ["-p", &self.port.to_string(), "--workers", "1", "--poll", "adaptive"];
        self.server = Some(Server::sunder(&args).expect("sunder starts"));
    }

    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Stops it, and waits until every thread of it has stopped.
    pub fn freeze(&self) {
        self.signal("-STOP");
        let tasks = format!("/proc/{}/task", self.pid());
        let is_stopped = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).expect("a task's state");
            stat.rsplit(") ").next().is_some_and(|fields| fields.starts_with('T'))
        };
        let start = Instant::now();
        while !std::fs::read_dir(&tasks).expect("it lives").flatten().all(is_stopped) {
            assert!(start.elapsed() < PATIENCE, "it stops");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn pid(&self) -> u32 {
        self.server.as_ref().expect("it runs").pid()
    }

    fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let status = std::process::Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("kill").success());
    }

    pub fn address(&self) -> Address {
        Address::Tcp(([127, 0, 0, 1], self.port).into())
    }
}

/// The test's own folder, removed with its contents.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let path = support::free_socket_path().with_extension("d");
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Folder(path)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
