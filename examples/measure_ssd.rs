//! Drives one SSD tier in this process, without a network, for scripts/compare-ssd.sh.
//!
//! `measure_ssd WORK PATH [NAME=NUMBER]..` on a file with a log, or for one (**other content is
//! overwritten**). WORK is one of
//!
//! - `fill`: sets `keys` different keys, one after another, and stops cleanly. A set for which the
//!   disk is not ready is repeated;
//! - `gets`: `depth` gets of random keys always in flight, for `seconds` after `warmup` ones;
//! - `sets`: sets, each of another key, as fast as the disk accepts them, or `rate` MB per second,
//!   first until the log has wrapped, then for `seconds`; with `depth` gets of keys that were set a
//!   while ago in flight as well. It does not stop cleanly, so that the log is left as after a
//!   crash;
//! - `open`: opens the log, and stops cleanly.
//!
//! Prints one line of JSON. Keys and values are those of `sunder bench --seed 1`, so that it can be
//! used on the same log. CPU is what the process used, user and system, without interrupts. The
//! process sleeps when it is idle, as a worker with `--poll adaptive` does.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind::Interrupted;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Events, Poll};
use sunder::base::buffer::{Body, Chain, Key};
use sunder::base::clock::{Clock, Expiry, Now};
use sunder::base::limits::{
    ITEM_BYTES_MAX_DEFAULT, SSD_FLUSH_MS, SSD_SEGMENT_BYTES, TASKS_PER_WORKER,
};
use sunder::base::random::mix;
use sunder::base::readiness::Readiness;
use sunder::base::stats::{Counter, WorkerStats};
use sunder::load::value::Values;
use sunder::orchestrator::l1_only::L1Only;
use sunder::orchestrator::task::{Execution, Executor};
use sunder::orchestrator::{Operation, Orchestrator};
use sunder::tier::ssd::disk::Pool;
use sunder::tier::ssd::disk::open::{OpenRequest, open};
use sunder::tier::ssd::disk::ring::RingDisk;
use sunder::tier::ssd::{Admit, Nowhere, Options, SEGMENTS_MIN, Ssd};
use sunder::tier::{Action, Hit, Outcome, Store, StoreMode};

/// Most sets between two turns: about as many as a worker receives in one.
const SETS_PER_TURN: usize = 32;

/// Time without progress after which it fails, in microseconds.
const STUCK_US: u64 = 20_000_000;

/// The parameters of a measurement.
struct Plan {
    path: PathBuf,
    size_bytes: u64,
    keys: u64,
    value_bytes: (u64, u64),
    object_bytes: u64,
    seconds: f64,
    warmup_s: f64,
    depth: usize,
    rate_mb: f64,
}

fn main() {
    let mut words = std::env::args().skip(1);
    let (Some(work), Some(path)) = (words.next(), words.next()) else {
        panic!("wants a work and a path, as this file's head says");
    };
    let plan = plan(path.into(), words);
    let bed = Bed::new(&plan);
    let line = match &*work {
        "fill" => fill(&bed, &plan),
        "gets" => gets(&bed, &plan),
        "sets" => sets(&bed, &plan),
        "open" => bed.stop(),
        _ => panic!("'{work}': no such work"),
    };
    println!("{{\"open_s\": {:.3}, \"found\": {}, {line}}}", bed.open_s, bed.found);
}

fn plan(path: PathBuf, words: impl Iterator<Item = String>) -> Plan {
    let numbers: HashMap<String, f64> = words
        .map(|word| {
            let (name, number) = word.split_once('=').expect("NAME=NUMBER");
            (name.to_owned(), number.parse().expect("a number"))
        })
        .collect();
    let names = "size keys value value_max object seconds warmup depth rate";
    let is_name = |name: &String| names.split(' ').any(|known| known == name);
    assert!(numbers.keys().all(is_name), "names are {names}");
    let number = |name: &str, default: f64| numbers.get(name).copied().unwrap_or(default);
    let value = number("value", 4000.0);
    Plan {
        path,
        size_bytes: number("size", 1e9) as u64,
        keys: number("keys", 1e5) as u64,
        value_bytes: (value as u64, number("value_max", value) as u64),
        object_bytes: number("object", 1024.0) as u64,
        seconds: number("seconds", 3.0),
        warmup_s: number("warmup", 0.5),
        depth: number("depth", 0.0) as usize,
        rate_mb: number("rate", f64::INFINITY),
    }
}

/// The tier and what it needs of a worker.
struct Bed {
    clock: Clock,
    /// The epoll set in which the thread sleeps.
    poll: RefCell<(Poll, Events)>,
    tier: L1Only<Ssd<RingDisk>>,
    stats: Arc<WorkerStats>,
    open_s: f64,
    found: u64,
}

impl Bed {
    fn new(plan: &Plan) -> Bed {
        let poll = Poll::new().expect("epoll");
        let readiness = Readiness::new(poll.registry()).expect("epoll");
        let clock = Clock::start();
        let request = OpenRequest {
            path: &plan.path,
            size_bytes: (!plan.path.exists()).then_some(plan.size_bytes),
            workers: 1,
            segments_min: SEGMENTS_MIN as usize + 1,
        };
        let opened = open(&request).unwrap_or_else(|error| panic!("{error}"));
        let pool = Pool::new(ITEM_BYTES_MAX_DEFAULT).expect("memory");
        let disk = RingDisk::new(opened.part(0), pool, &readiness);
        let disk = disk.unwrap_or_else(|error| panic!("{error}"));
        let stats = Arc::new(WorkerStats::default());
        let options = Options {
            worker: 0,
            workers: 1,
            segment_bytes: SSD_SEGMENT_BYTES,
            item_bytes_max: ITEM_BYTES_MAX_DEFAULT,
            object_bytes: plan.object_bytes,
            flush_ms: SSD_FLUSH_MS,
            admit: Admit::All,
            format: false,
            name: String::new(),
            witness: Arc::new(Nowhere),
            hash_key: None,
            stats: Arc::clone(&stats),
        };
        let ssd = Ssd::open(disk, &options, clock.read());
        let ssd = ssd.unwrap_or_else(|error| panic!("{}: {error}", plan.path.display()));
        let open_s = clock.read().uptime_us as f64 / 1e6;
        let poll = RefCell::new((poll, Events::with_capacity(16)));
        Bed { clock, poll, found: ssd.items(), tier: L1Only::new(ssd), stats, open_s }
    }

    fn count(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }

    /// Sleeps until an I/O has finished, at most this long; below a millisecond it does not sleep.
    fn sleep(&self, now: Now) {
        let due_us = self.tier.wake_at_us().saturating_sub(now.uptime_us).min(100_000);
        if due_us >= 1_000 {
            let (poll, events) = &mut *self.poll.borrow_mut();
            let result = poll.poll(events, Some(Duration::from_millis(due_us / 1_000)));
            // The kernel may interrupt it to run a ring's work on this thread.
            let is_fine = result.map_or_else(|error| error.kind() == Interrupted, |()| true);
            assert!(is_fine, "epoll");
        }
    }

    /// Stops cleanly; returns the result as JSON.
    fn stop(&self) -> String {
        let started_us = self.clock.read().uptime_us;
        assert!(self.tier.finish(&self.clock), "not durable");
        let stop_s = (self.clock.read().uptime_us - started_us) as f64 / 1e6;
        format!("\"items\": {}, \"stop_s\": {stop_s:.3}", self.tier.l1().items())
    }
}

/// The values of keys by number.
struct Items {
    values: Values,
    value_bytes: (u64, u64),
    value: Vec<u8>,
    /// Whether a value consists of its number and constant bytes: then creating it costs almost
    /// nothing compared with the measured work.
    is_cheap: bool,
}

impl Items {
    fn new(plan: &Plan, is_cheap: bool) -> Items {
        let (least, most) = plan.value_bytes;
        assert!(8 <= least && least <= most, "a value has room for its number");
        let value = vec![b'v'; most as usize];
        Items { values: Values::new(1), value_bytes: plan.value_bytes, value, is_cheap }
    }

    fn len(&self, number: u64) -> usize {
        let (least, most) = self.value_bytes;
        (least + mix(number) % (most - least + 1)) as usize
    }

    /// Sets a key. False: the disk was not ready for it, and the key has no item now.
    fn set(&mut self, bed: &Bed, number: u64, now: Now) -> bool {
        let key = key(number);
        let len = self.len(number);
        let flags = if self.is_cheap {
            self.value[..8].copy_from_slice(&number.to_le_bytes());
            0
        } else {
            self.value.clear();
            self.values.put(&key, 0, len, &mut self.value)
        };
        let store = Store { mode: StoreMode::Set, flags, expiry: Expiry::NEVER, cas: 0 };
        let before = bed.count(Counter::SsdNotWritten);
        let value = Body::Slice(&self.value[..len]);
        let outcome = bed.tier.try_now(&key, Action::Store(store), value, now);
        assert!(matches!(outcome, Ok(Outcome::Stored { .. })), "{outcome:?}");
        bed.count(Counter::SsdNotWritten) == before
    }

    fn check(&self, number: u64, hit: &Hit<Chain>) {
        assert_eq!(hit.value.len(), self.len(number), "key {number}");
        if self.is_cheap {
            let mut first = [0; 8];
            hit.value.copy_to(0, &mut first);
            assert_eq!(u64::from_le_bytes(first), number);
            return;
        }
        // Every 64th value, byte by byte.
        if number.is_multiple_of(64) {
            let read = self.values.read(&key(number), hit.flags, &hit.value.to_vec());
            assert!(matches!(read, Ok(0)), "key {number}: {read:?}");
        }
    }
}

/// The key of this number in `sunder bench`.
fn key(number: u64) -> [u8; 16] {
    let mut key = *b"sunder-b00000000";
    for (i, digit) in key[8..].iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * i) & 15) as usize];
    }
    key
}

/// The result of the gets.
struct Got {
    hits: u64,
    misses: u64,
    latency_us: Histogram<u64>,
    /// The longest turn.
    turn_max_us: u64,
}

impl Got {
    fn new() -> Got {
        let latency_us = Histogram::new_with_max(STUCK_US, 3).expect("three digits");
        Got { hits: 0, misses: 0, latency_us, turn_max_us: 0 }
    }

    fn at(&self, percentile: f64) -> u64 {
        self.latency_us.value_at_percentile(percentile)
    }
}

/// Turns like a worker's, with `depth` gets always in flight of the keys that `draw` returns;
/// `more` does any other work of a turn, and returns whether it did any. `ends` returns when it is
/// over; at the end of the warm-up the results so far are discarded.
fn run(
    bed: &Bed,
    (depth, items): (usize, &Items),
    mut draw: impl FnMut() -> u64,
    mut more: impl FnMut(Now) -> bool,
    mut phase: impl FnMut(Now) -> Phase,
) -> Got {
    let execute = |operation, now| bed.tier.execute(operation, now);
    let mut executor = Executor::new(TASKS_PER_WORKER, execute);
    let mut got = Got::new();
    let mut under_way = 0;
    let mut moved_us = 0;
    loop {
        let now = bed.clock.read();
        match phase(now) {
            Phase::Over => return got,
            Phase::Begins => got = Got::new(),
            Phase::GoesOn => {}
        }
        let mut done = bed.tier.turn(now);
        let mut note = |(number, asked_us): (u64, u64), outcome: Outcome<Chain>| match outcome {
            Outcome::Hit(hit) => {
                items.check(number, &hit);
                got.hits += 1;
                got.latency_us.saturating_record(now.uptime_us - asked_us);
            }
            Outcome::Miss => got.misses += 1,
            other => panic!("{other:?}"),
        };
        let finished = executor.run_woken(now, Outcome::share, &mut note);
        under_way -= finished;
        done += finished;
        while under_way < depth {
            let number = draw();
            let key = key(number);
            let origin = (number, now.uptime_us);
            if let Ok(outcome) = bed.tier.try_now(&key, Action::Get, Body::EMPTY, now) {
                note(origin, outcome);
                done += 1;
                // One per turn: items in memory do not measure the disk.
                break;
            }
            let operation = Operation::new(Key::new(&key).expect("short"), Action::Get);
            match executor.execute(operation, mix(number), origin, now) {
                Execution::Done(outcome) => note(origin, outcome),
                Execution::Waiting => under_way += 1,
            }
        }
        let is_more = more(now);
        bed.tier.flush(now);
        let turn_us = bed.clock.read().uptime_us - now.uptime_us;
        got.turn_max_us = got.turn_max_us.max(turn_us);
        if done > 0 || is_more {
            moved_us = now.uptime_us;
        } else {
            assert!(now.uptime_us - moved_us.max(1) < STUCK_US, "there is no progress");
            bed.sleep(now);
        }
    }
}

/// The phase of a measurement.
enum Phase {
    /// Results count from this turn on.
    Begins,
    GoesOn,
    Over,
}

/// Phases by the clock: warm-up until `ready`, then `seconds`.
struct Span {
    seconds: f64,
    begun: Option<(Now, Used)>,
    ended: Option<(Now, Used)>,
}

impl Span {
    fn new(seconds: f64) -> Span {
        Span { seconds, begun: None, ended: None }
    }

    fn phase(&mut self, bed: &Bed, now: Now, is_ready: bool) -> Phase {
        match self.begun {
            None if is_ready => {
                self.begun = Some((now, Used::now(bed)));
                Phase::Begins
            }
            Some((begun, _)) if (now.uptime_us - begun.uptime_us) as f64 >= self.seconds * 1e6 => {
                self.ended = Some((now, Used::now(bed)));
                Phase::Over
            }
            _ => Phase::GoesOn,
        }
    }

    /// The duration in seconds, and the resources used.
    fn used(&self) -> (f64, Used) {
        let (Some((begun, before)), Some((ended, after))) = (&self.begun, &self.ended) else {
            panic!("it is over");
        };
        ((ended.uptime_us - begun.uptime_us) as f64 / 1e6, after.since(before))
    }
}

/// Resources used up to some moment.
#[derive(Clone, Copy)]
struct Used {
    cpu_us: f64,
    bytes_set: u64,
    bytes_written: u64,
    disk_bytes: u64,
    reads: u64,
    buffer_hits: u64,
}

impl Used {
    fn now(bed: &Bed) -> Used {
        Used {
            cpu_us: cpu_us(),
            bytes_set: bed.count(Counter::SsdBytesSet),
            bytes_written: bed.count(Counter::SsdBytesWritten),
            disk_bytes: disk_bytes_written(),
            reads: bed.count(Counter::SsdReads),
            buffer_hits: bed.count(Counter::SsdBufferHits),
        }
    }

    fn since(&self, before: &Used) -> Used {
        Used {
            cpu_us: self.cpu_us - before.cpu_us,
            bytes_set: self.bytes_set - before.bytes_set,
            bytes_written: self.bytes_written - before.bytes_written,
            disk_bytes: self.disk_bytes - before.disk_bytes,
            reads: self.reads - before.reads,
            buffer_hits: self.buffer_hits - before.buffer_hits,
        }
    }
}

/// CPU time of all threads, in microseconds, as counted by the scheduler.
fn cpu_us() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").expect("procfs");
    let ns = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    ns.sum::<f64>() / 1e3
}

/// Bytes that this process has written to disks, as counted by the kernel.
fn disk_bytes_written() -> u64 {
    let text = fs::read_to_string("/proc/self/io").expect("procfs");
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.expect("it has the line").parse().expect("a number")
}

fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").expect("procfs");
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).expect("it has the line");
    let kib = line.trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") * 1024
}

fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).expect("there").len()
}

fn fill(bed: &Bed, plan: &Plan) -> String {
    let resident_before = resident_bytes();
    let mut items = Items::new(plan, false);
    let idle = Items::new(plan, false);
    let next = Cell::new(0);
    let started = bed.clock.read();
    let feed = |now: Now| {
        let first = next.get();
        let end = plan.keys.min(first + SETS_PER_TURN as u64);
        while next.get() < end && items.set(bed, next.get(), now) {
            next.set(next.get() + 1);
        }
        next.get() > first
    };
    let phase = |_| if next.get() == plan.keys { Phase::Over } else { Phase::GoesOn };
    run(bed, (0, &idle), || 0, feed, phase);
    let fill_s = (bed.clock.read().uptime_us - started.uptime_us) as f64 / 1e6;
    let resident = resident_bytes();
    let stopped = bed.stop();
    let items = bed.tier.l1().items();
    format!(
        "\"fill_s\": {fill_s:.3}, \"bytes_set\": {}, \"bytes_written\": {}, \"evicted\": {}, \
         \"resident_before\": {resident_before}, \"resident\": {resident}, \"index_bytes\": {}, \
         \"resident_per_item\": {:.2}, \"size\": {}, {stopped}",
        bed.count(Counter::SsdBytesSet),
        bed.count(Counter::SsdBytesWritten),
        bed.count(Counter::SsdEvicted),
        bed.tier.l1().index_bytes(),
        (resident - resident_before) as f64 / items as f64,
        file_bytes(&plan.path),
    )
}

fn gets(bed: &Bed, plan: &Plan) -> String {
    let mut drawn = mix(bed.clock.read_ns());
    let draw = || {
        drawn = mix(drawn.wrapping_add(1));
        ((u128::from(drawn) * u128::from(plan.keys)) >> 64) as u64
    };
    let mut span = Span::new(plan.seconds);
    let ready_us = bed.clock.read().uptime_us + (plan.warmup_s * 1e6) as u64;
    let phase = |now: Now| span.phase(bed, now, now.uptime_us >= ready_us);
    let got = run(bed, (plan.depth, &Items::new(plan, false)), draw, |_| false, phase);
    let (seconds, used) = span.used();
    let count = (got.hits + got.misses) as f64;
    format!(
        "\"per_s\": {:.0}, \"hits\": {}, \"misses\": {}, \"reads_per_get\": {:.4}, \
         \"memory_hits\": {}, \"cpu_us\": {:.3}, \"p50_us\": {}, \"p99_us\": {}, \
         \"p999_us\": {}, \"max_us\": {}, \"turn_max_us\": {}",
        count / seconds,
        got.hits,
        got.misses,
        used.reads as f64 / count,
        used.buffer_hits,
        used.cpu_us / count,
        got.at(50.0),
        got.at(99.0),
        got.at(99.9),
        got.latency_us.max(),
        got.turn_max_us,
    )
}

fn sets(bed: &Bed, plan: &Plan) -> String {
    let mut items = Items::new(plan, true);
    let got = Items::new(plan, true);
    let (mut sets, mut refused) = (0_u64, 0_u64);
    // Different from those of an earlier run.
    let first = mix(bed.clock.read_ns()) >> 33;
    let next = Cell::new(first);
    let mut due_ns = 0;
    let feed = |now: Now| {
        let before = sets;
        for _ in 0..SETS_PER_TURN {
            let number = next.get();
            if due_ns > now.uptime_us * 1_000 {
                break;
            }
            if !items.set(bed, number, now) {
                refused += 1;
                break;
            }
            let bytes = items.len(number) as f64 + 16.0;
            // Up to a hundredth of a second of delay is made up for.
            let late_ns = (now.uptime_us * 1_000).saturating_sub(10_000_000);
            due_ns = due_ns.max(late_ns) + (bytes / plan.rate_mb * 1e3) as u64;
            next.set(number + 1);
            sets += 1;
        }
        sets > before
    };
    // Gets are of items set some time ago, which have left memory and are not yet reclaimed.
    let (least, most) = plan.value_bytes;
    let per_log = plan.size_bytes / ((least + most) / 2 + 128);
    let mut drawn = 1_u64;
    let draw = || {
        drawn = mix(drawn.wrapping_add(1));
        let back = per_log / 4 + drawn % (per_log / 4 + 1);
        next.get().saturating_sub(back).max(first)
    };
    let mut span = Span::new(plan.seconds);
    // Twice its size: every segment has been reclaimed.
    let is_ready = || bed.count(Counter::SsdBytesWritten) > 2 * plan.size_bytes;
    let got = run(bed, (plan.depth, &got), draw, feed, |now| span.phase(bed, now, is_ready()));
    let (seconds, used) = span.used();
    format!(
        "\"set_mb_s\": {:.1}, \"written_mb_s\": {:.1}, \"amplification\": {:.4}, \
         \"disk_amplification\": {:.4}, \"cpu_us_per_mb\": {:.1}, \"refused\": {refused}, \
         \"reclaimed\": {}, \"moved\": {}, \"gets_per_s\": {:.0}, \"misses\": {}, \"p50_us\": {}, \
         \"p99_us\": {}, \"p999_us\": {}, \"max_us\": {}, \"turn_max_us\": {}, \"size\": {}",
        used.bytes_set as f64 / seconds / 1e6,
        used.bytes_written as f64 / seconds / 1e6,
        used.bytes_written as f64 / used.bytes_set as f64,
        used.disk_bytes as f64 / used.bytes_set as f64,
        used.cpu_us / (used.bytes_set as f64 / 1e6),
        bed.count(Counter::SsdReclaimed),
        bed.count(Counter::SsdMoved),
        got.hits as f64 / seconds,
        got.misses,
        got.at(50.0),
        got.at(99.0),
        got.at(99.9),
        got.latency_us.max(),
        got.turn_max_us,
        file_bytes(&plan.path),
    )
}
