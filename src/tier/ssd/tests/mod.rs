//! A log on a simulated disk, driven by hand.

mod clock;
mod commands;
mod crafted;
mod crash;
mod damage;
mod doubt;
mod faults;
mod meta;
mod operators;
mod sleep;
mod steady;

use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use super::disk::Pool;
use super::disk::sim::{Cut, SimDisk, SimHandle};
use super::*;
use crate::base::stats::{Counter, WorkerStats};

const SEGMENT_BYTES: usize = 64 * 1024;
const SEGMENTS: usize = 24;
const NOW: Now = Now { uptime_us: 0, unix_s: 1_000_000 };

fn pool() -> Pool {
    Pool::with_buffers(&[(4096, 32), (16384, 8), (65536, 6)], (32768, 20)).expect("memory")
}

fn part_bytes(segments: usize, segment_bytes: usize) -> usize {
    segments * segment_bytes + format::SEGMENTS_AT_BYTES as usize
}

fn options() -> Options {
    Options {
        worker: 0,
        workers: 1,
        segment_bytes: SEGMENT_BYTES,
        item_bytes_max: 40_000,
        object_bytes: 256,
        flush_ms: 5,
        admit: Admit::All,
        format: false,
        hash_key: None,
        name: "the disk".into(),
        witness: Arc::new(Noted::default()),
        stats: Arc::new(WorkerStats::default()),
    }
}

/// A witness in memory, which answers at once, or never, or has no place for a note.
#[derive(Debug, Default)]
struct Noted {
    logs: Mutex<Vec<[u8; 16]>>,
    is_noted: AtomicBool,
    is_broken: AtomicBool,
    is_hung: AtomicBool,
}

impl Witness for Noted {
    fn distrust(&self, log: &[u8; 16]) {
        if !self.is_broken.load(Relaxed) && !self.is_hung.load(Relaxed) {
            self.logs.lock().expect("whole").push(*log);
            self.is_noted.store(true, Relaxed);
        }
    }

    fn trust(&self, log: &[u8; 16]) {
        self.forget(log);
        self.is_noted.store(false, Relaxed);
    }

    fn is_noted(&self) -> Option<bool> {
        (!self.is_hung.load(Relaxed)).then(|| self.is_noted.load(Relaxed))
    }

    fn place(&self) -> String {
        "memory".into()
    }

    fn is_distrusted(&self, log: &[u8; 16]) -> bool {
        self.logs.lock().expect("whole").contains(log)
    }

    fn forget(&self, log: &[u8; 16]) {
        self.logs.lock().expect("whole").retain(|other| other != log);
    }
}

/// A tier, its disk's medium, and the clock.
struct Bench {
    ssd: Rc<Ssd<SimDisk>>,
    medium: SimHandle,
    stats: Arc<WorkerStats>,
    now: Now,
    turn_us: u64,
    /// What every kind of cut would leave after each I/O, where that is asked for.
    cuts: Option<Vec<Left>>,
}

/// What a cut would leave.
struct Left {
    image: Vec<u8>,
    cut: Cut,
    /// What is durable whatever a cut does.
    settled: u64,
}

const CUTS: [Cut; 3] = [Cut::Kept, Cut::Lost, Cut::Torn];

/// A number that the environment gives, to do more on demand.
fn wanted(variable: &str, default: u64) -> u64 {
    let number = |text: String| text.parse().expect("a number");
    std::env::var(variable).map_or(default, number)
}

fn key(bytes: impl AsRef<[u8]>) -> Key {
    Key::new(bytes.as_ref()).expect("short")
}

impl Bench {
    fn new() -> Bench {
        Bench::with(vec![0; part_bytes(SEGMENTS, SEGMENT_BYTES)], options(), 1)
    }

    fn with(image: Vec<u8>, options: Options, seed: u64) -> Bench {
        Bench::try_with(image, options, seed, NOW).expect("opens")
    }

    fn try_with(image: Vec<u8>, options: Options, seed: u64, now: Now) -> Result<Bench, OpenError> {
        let disk = SimDisk::from_image(image, pool(), seed);
        let medium = disk.handle();
        let stats = Arc::clone(&options.stats);
        // The disk's clock has run while it was opened.
        let later = Now { uptime_us: now.uptime_us + 1_000_000_000, ..now };
        let ssd = Rc::new(Ssd::open(disk, &options, now)?);
        Ok(Bench { ssd, medium, stats, now: later, turn_us: 50, cuts: None })
    }

    fn turn(&mut self) -> usize {
        self.now.uptime_us += self.turn_us;
        let count = self.ssd.turn(self.now);
        self.ssd.flush(self.now);
        if let Some(cuts) = &mut self.cuts
            && count > 0
        {
            let settled = self.ssd.log.borrow().checkpoint.settled();
            let left = |cut| Left { image: self.medium.image(cut), cut, settled };
            cuts.extend(CUTS.map(left));
        }
        count
    }

    /// Runs until nothing is under way.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.turn();
            let log = self.ssd.log.borrow();
            let is_quiet = log.wake_at_us() == u64::MAX;
            drop(log);
            if is_quiet {
                return;
            }
            self.now.uptime_us += 1_000;
        }
        panic!("it never comes to rest");
    }

    /// Runs an operation as a worker does: at once if that can be, else to its end.
    fn run(&mut self, k: &[u8], action: Action, value: &[u8]) -> Outcome<Chain> {
        let now = self.now;
        if let Some(outcome) = self.ssd.try_now(k, action, Body::Slice(value), now) {
            self.ssd.flush(now);
            return outcome;
        }
        let (k, value) = (key(k), Chain::from_slice(value));
        let ssd = Rc::clone(&self.ssd);
        let mut operation = pin!(async {
            match action {
                Action::Get | Action::GetWithExpiry => ssd.get_with_expiry(&k, now).await,
                Action::GetAndTouch { expiry } => ssd.get_and_touch(&k, expiry, now).await,
                Action::Store(store) => ssd.store(&k, store, &value, now).await,
                Action::Delete { cas } => ssd.delete(&k, cas, now).await,
                Action::Touch { expiry } => ssd.touch(&k, expiry, now).await,
                Action::Arithmetic(arithmetic) => ssd.arithmetic(&k, arithmetic, now).await,
                Action::Meta(meta) => ssd.meta(&k, meta, &value, now).await,
                Action::FlushAll { at } => ssd.flush_all(at, now).await,
                Action::Dump { from } => ssd.dump(from, now).await,
                Action::StoreTooLarge | Action::StoreNoRoom => unreachable!("never waits"),
            }
        });
        for _ in 0..100_000 {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(outcome) = operation.as_mut().poll(&mut context) {
                return outcome;
            }
            self.turn();
        }
        panic!("it never ends");
    }

    fn store(&mut self, k: &[u8], value: &[u8], store: Store) -> Outcome<Chain> {
        self.run(k, Action::Store(store), value)
    }

    fn set(&mut self, k: impl AsRef<[u8]>, value: &[u8], expiry: Expiry) {
        let store = Store { mode: StoreMode::Set, flags: 7, expiry, cas: 0 };
        let outcome = self.store(k.as_ref(), value, store);
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    }

    fn get(&mut self, k: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        match self.run(k.as_ref(), Action::Get, b"") {
            Outcome::Hit(hit) => Some(hit.value.to_vec()),
            Outcome::Miss => None,
            other => panic!("{other:?}"),
        }
    }

    /// The item from the disk alone: nothing is in memory any more.
    fn get_from_disk(&mut self, k: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        self.restart();
        self.get(k)
    }

    fn delete(&mut self, k: impl AsRef<[u8]>) -> bool {
        matches!(self.run(k.as_ref(), Action::Delete { cas: 0 }, b""), Outcome::Deleted)
    }

    fn counter(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }

    fn stop(&mut self) {
        let now = self.now;
        let turns = std::cell::Cell::new(0);
        let clock = || {
            turns.set(turns.get() + 1);
            Now { uptime_us: now.uptime_us + turns.get() * 50, ..now }
        };
        assert!(self.ssd.stop(clock, || turns.get() > 200_000), "it takes longer than 10 s");
        self.now.uptime_us += turns.get() * 50;
    }

    /// Stops cleanly and opens again.
    fn restart(&mut self) {
        self.stop();
        let image = self.medium.image(Cut::Lost);
        let options = Options { stats: Arc::clone(&self.stats), ..options() };
        let opened = Bench::try_with(image, options, 1, self.now).expect("opens");
        *self = opened;
    }
}
