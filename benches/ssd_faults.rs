//! A worker with L1 in memory over an L2 on a disk that fails, or that takes seconds.
//!
//! `cargo bench --bench ssd_faults -- hits`: L1's hits per second while L2's disk works, fails one
//! I/O in a hundred, or all, in alternating periods. `-- turns`: the length of turns while the
//! simulated disk takes five seconds for each I/O, compared with one that does not. `-- turns PATH
//! SECONDS`: the same on a file or device of 1 GiB, **which is overwritten**; something else must
//! make it slow.
//!
//! The turns are a worker's own, without a network. Each has hits of L1 and as much for L2: gets of
//! items that only the disk has, and sets. The time of the simulation of a disk is not counted.
//! Turns are measured by the clock and by the thread's own CPU time: a thread that waits uses none,
//! and one that is preempted is not charged. Work of the machine on behalf of the thread, mainly
//! interrupts, counts as its CPU time nevertheless. So after each turn the thread runs a control:
//! always the same additions, about as long as a turn, independent of sunder's code. Delays found
//! only in turns are sunder's, those also found in controls are the machine's.

#[path = "../tests/common/pipe.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod pipe;

use std::cell::Cell;
use std::future::Future;
use std::io::Write;
use std::mem::MaybeUninit;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pipe::Pipes;
use rustix::time::{ClockId, clock_gettime};
use sunder::base::clock::{Clock, Now};
use sunder::base::limits::{ITEM_BYTES_MAX_DEFAULT, SSD_SEGMENT_BYTES};
use sunder::base::readiness::Readiness;
use sunder::base::stats::Counter;
use sunder::connection::Connection;
use sunder::mailbox::Mailbox;
use sunder::orchestrator::l1_l2::L1L2;
use sunder::orchestrator::{Operation, Orchestrator};
use sunder::protocol::Limits;
use sunder::tier::Outcome;
use sunder::tier::memory::{self, Memory};
use sunder::tier::ssd::disk::open::{OpenRequest, open};
use sunder::tier::ssd::disk::ring::RingDisk;
use sunder::tier::ssd::disk::sim::{Faults, SimDisk};
use sunder::tier::ssd::disk::{Disk, Done, Io, Pool};
use sunder::tier::ssd::{Admit, Nowhere, Options, SEGMENTS_MIN, Ssd};
use sunder::worker::{Settings, Shared, Worker};

/// Keys that stay in L1, values of 100 bytes.
const LIMITS: Limits = Limits::DEFAULT;

const HOT_KEYS: u64 = 5_000;
/// Keys of which L1 holds one in eight, values of 1,000 bytes.
const COLD_KEYS: u64 = 100_000;
const L1_BYTES: usize = 16 << 20;
const SEGMENT_BYTES: usize = 1 << 20;
const SIM_BYTES: usize = 256 << 20;
const FILE_BYTES: u64 = 1 << 30;
/// Connections that get items from L1, one request each per turn.
const HOT_CONNECTIONS: usize = 32;
/// Connections that get items from the disk, one request at a time: the worker never waits for
/// them.
const COLD_CONNECTIONS: usize = 8;

type Both<D> = L1L2<Memory, Ssd<Watched<D>>>;

/// Measurements of a disk.
#[derive(Clone, Default)]
struct Watch(Rc<Seen>);

#[derive(Default)]
struct Seen {
    /// Time of the worker's turns used by the disk itself, by the clock.
    spent: Cell<Duration>,
    /// And by CPU time.
    spent_cpu: Cell<Duration>,
    /// When an I/O last finished, or none was in flight.
    done_at: Cell<Option<Instant>>,
    /// The longest time without one.
    silent: Cell<Duration>,
}

struct Watched<D> {
    inner: D,
    /// Its own time is not the worker's.
    is_simulated: bool,
    watch: Watch,
}

impl<D> Watched<D> {
    fn timed<T>(&mut self, work: impl FnOnce(&mut D) -> T) -> T {
        if !self.is_simulated {
            return work(&mut self.inner);
        }
        let (start, start_cpu) = (Instant::now(), cpu());
        let result = work(&mut self.inner);
        let Seen { spent, spent_cpu, .. } = &*self.watch.0;
        spent_cpu.set(spent_cpu.get() + cpu() - start_cpu);
        spent.set(spent.get() + start.elapsed());
        result
    }
}

impl<D: Disk> Disk for Watched<D> {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn pool(&self) -> &Pool {
        self.inner.pool()
    }

    fn submit(&mut self, io: Io) -> Result<(), Io> {
        self.timed(|inner| inner.submit(io))
    }

    fn turn(&mut self, now: Now, done: &mut Vec<Done>) -> usize {
        let count = self.timed(|inner| inner.turn(now, done));
        let (seen, now) = (&self.watch.0, Instant::now());
        if count == 0 && self.inner.in_flight() > 0 {
            let silent = seen.done_at.get().map_or(Duration::ZERO, |at| now - at);
            seen.silent.set(seen.silent.get().max(silent));
        } else {
            seen.done_at.set(Some(now));
        }
        count
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    fn hand_over(&mut self) {
        self.timed(D::hand_over);
    }

    fn wakes(&self) -> bool {
        self.inner.wakes()
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The length of a turn, without a simulated disk's part: by the clock, and in CPU time.
struct Turn {
    own: Duration,
    cpu: Duration,
    /// In CPU time: the start of the tiers' turn, the worker, the end of the tiers' turn. Includes
    /// a simulated disk's part.
    parts: [Duration; 3],
    /// The thread slept in the kernel: it waited for something.
    has_waited: bool,
    /// The kernel preempted the thread.
    preemptions: i64,
    /// Pages touched for the first time.
    faults: i64,
}

/// The kernel's counters of this thread.
struct Counts {
    waits: i64,
    preemptions: i64,
    faults: i64,
}

fn counts() -> Counts {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to one `rusage`, of which all zeros are one too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init()
    };
    Counts {
        waits: usage.ru_nvcsw,
        preemptions: usage.ru_nivcsw,
        faults: usage.ru_minflt + usage.ru_majflt,
    }
}

/// Additions of a control: about as many as take a turn's time.
const CONTROL_ADDITIONS: u64 = 24_000;

/// The same instructions each time, only on registers: their length by the clock, and in CPU time.
fn control() -> (Duration, Duration) {
    let (start, start_cpu) = (Instant::now(), cpu());
    let mut sum = 0_u64;
    for i in 0..CONTROL_ADDITIONS {
        sum = std::hint::black_box(sum.wrapping_add(i));
    }
    std::hint::black_box(sum);
    (start.elapsed(), cpu() - start_cpu)
}

/// Lengths of turns, or of controls.
struct Lengths {
    own: Histogram<u64>,
    cpu: Histogram<u64>,
}

/// The limit for turns.
const LONG: Duration = Duration::from_millis(1);

impl Lengths {
    fn new() -> Lengths {
        let own = Histogram::new_with_max(100_000_000_000, 3).expect("three digits");
        Lengths { cpu: own.clone(), own }
    }

    fn add(&mut self, own: Duration, cpu: Duration) {
        self.own.saturating_record(own.as_nanos() as u64);
        self.cpu.saturating_record(cpu.as_nanos() as u64);
    }

    fn print(&self, what: &str) {
        let us = |ns: u64| ns as f64 / 1e3;
        for (name, lengths) in [("by the clock", &self.own), ("CPU time", &self.cpu)] {
            let max = lengths.max();
            let long = lengths.count_between(LONG.as_nanos() as u64, max.max(1));
            let seconds = lengths.mean() * lengths.len() as f64 / 1e9;
            println!(
                "  {what:8} {name:12} {seconds:5.2} s in all   median {:6.1} us   99.9 % {:6.1} \
                 us   99.999 % {:7.1} us   longest {:7.1} us   {long} of 1 ms",
                us(lengths.value_at_quantile(0.5)),
                us(lengths.value_at_quantile(0.999)),
                us(lengths.value_at_quantile(0.999_99)),
                us(max),
            );
        }
    }
}

struct Bed<'o, D: Disk, F, M> {
    worker: Worker<'o, Both<D>, F, M>,
    tiers: &'o Both<D>,
    shared: Arc<Shared>,
    watch: Watch,
    pipes: Pipes<Connection>,
    hot: Vec<usize>,
    /// The key that each waits for.
    cold: Vec<(usize, Option<u64>)>,
    sets: usize,
    random: u64,
    sent: Vec<u8>,
    reply: Vec<u8>,
}

impl<D, F, M> Bed<'_, D, F, M>
where
    D: Disk,
    F: Future<Output = Outcome<<Both<D> as Orchestrator>::Value>>,
    M: FnMut(Operation, Now) -> F,
{
    fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (self.random >> 33) % n
    }

    fn set(&mut self, key: &str, bytes: usize) {
        self.sent.clear();
        write!(self.sent, "set {key} 0 0 {bytes}\r\n").expect("a vector takes everything");
        self.sent.resize(self.sent.len() + bytes, b'v');
        self.sent.extend_from_slice(b"\r\n");
        self.pipes.send(self.sets, &self.sent);
    }

    fn get(&mut self, connection: usize, key: &str) {
        self.sent.clear();
        write!(self.sent, "get {key}\r\n").expect("a vector takes everything");
        self.pipes.send(connection, &self.sent);
    }

    /// A turn as a worker's thread runs it.
    fn turn(&mut self) -> Turn {
        let (spent, spent_cpu) = (self.watch.0.spent.get(), self.watch.0.spent_cpu.get());
        let before = counts();
        let (start, start_cpu) = (Instant::now(), cpu());
        let now = self.shared.clock.read();
        self.tiers.turn(now);
        let tiers_cpu = cpu();
        self.worker.turn(&mut self.pipes, now);
        let worker_cpu = cpu();
        self.tiers.flush(now);
        let end_cpu = cpu();
        let own = start.elapsed().saturating_sub(self.watch.0.spent.get() - spent);
        let after = counts();
        Turn {
            own,
            cpu: (end_cpu - start_cpu).saturating_sub(self.watch.0.spent_cpu.get() - spent_cpu),
            parts: [tiers_cpu - start_cpu, worker_cpu - tiers_cpu, end_cpu - worker_cpu],
            has_waited: after.waits != before.waits,
            preemptions: after.preemptions - before.preemptions,
            faults: after.faults - before.faults,
        }
    }

    /// The answer to a connection.
    fn receive(&mut self, connection: usize) -> &[u8] {
        self.reply.clear();
        self.pipes.receive(connection, &mut self.reply);
        &self.reply
    }

    fn fill(&mut self) {
        let cold = (0..COLD_KEYS).map(|i| (format!("cold-{i:09}"), 1_000));
        let hot = (0..HOT_KEYS).map(|i| (format!("hot-{i:09}"), 100));
        for (key, bytes) in cold.chain(hot) {
            self.set(&key, bytes);
            while self.receive(self.sets).is_empty() {
                self.turn();
            }
        }
    }

    /// Requests and a turn. Panics if an expected hit of L1 is a miss, or on any error.
    fn step(&mut self) -> Turn {
        for at in 0..HOT_CONNECTIONS {
            let key = format!("hot-{:09}", self.below(HOT_KEYS));
            self.get(self.hot[at], &key);
        }
        for at in 0..COLD_CONNECTIONS {
            let (connection, waits_for) = self.cold[at];
            if waits_for.is_none() && self.below(4) == 0 {
                let key = self.below(COLD_KEYS);
                self.get(connection, &format!("cold-{key:09}"));
                self.cold[at].1 = Some(key);
            }
        }
        // A set of a key with a get in flight would wait for the get.
        let key = self.below(COLD_KEYS);
        if self.cold.iter().all(|(_, waits_for)| *waits_for != Some(key)) {
            self.set(&format!("cold-{key:09}"), 1_000);
        }
        let turn = self.turn();
        for at in 0..HOT_CONNECTIONS {
            let reply = self.receive(self.hot[at]);
            assert!(reply.starts_with(b"VALUE hot-") && reply.ends_with(b"END\r\n"), "a hit");
        }
        for at in 0..COLD_CONNECTIONS {
            let reply = self.receive(self.cold[at].0);
            assert!(reply.is_empty() || reply.ends_with(b"END\r\n"), "a hit or a miss");
            if !reply.is_empty() {
                self.cold[at].1 = None;
            }
        }
        let reply = self.receive(self.sets);
        assert!(reply.is_empty() || reply.ends_with(b"STORED\r\n"), "stored");
        turn
    }

    /// Turns for this long, each passed to `note`.
    fn steps(&mut self, time: Duration, mut note: impl FnMut(Turn)) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            note(self.step());
        }
    }

    fn counters(&self) -> String {
        let count = |counter| self.shared.sum(counter);
        format!(
            "reads failed {}, writes failed {}, not written {}, throttled {}, given up {}",
            count(Counter::SsdReadErrors),
            count(Counter::SsdWriteErrors),
            count(Counter::SsdNotWritten),
            count(Counter::SsdThrottled),
            count(Counter::SsdDrops),
        )
    }

    /// L1's hits per second in alternating periods: the medians.
    fn hits(&mut self, mut make: impl FnMut(u32)) {
        const RATES: [u32; 3] = [0, 10_000, 1_000_000];
        const PERIODS: usize = 40;
        const PERIOD: Duration = Duration::from_millis(500);
        let mut rates = RATES.map(|_| Vec::with_capacity(PERIODS));
        for _ in 0..PERIODS {
            for (rate, hits) in RATES.iter().zip(&mut rates) {
                make(*rate);
                let (mut count, mut own) = (0, Duration::ZERO);
                self.steps(PERIOD, |turn| {
                    count += HOT_CONNECTIONS;
                    own += turn.own;
                });
                hits.push(count as f64 / own.as_secs_f64());
                make(0);
                self.steps(PERIOD / 5, |_| ());
            }
        }
        let medians = rates.map(|mut hits| {
            hits.sort_by(f64::total_cmp);
            hits[hits.len() / 2]
        });
        for (rate, median) in RATES.iter().zip(medians) {
            let (share, good) = (f64::from(*rate) / 1e4, median / medians[0]);
            println!("{share:5.0} % fail: {median:10.0} hits of L1/s   {good:.3} of a good disk's");
        }
        println!("{}", self.counters());
    }

    /// The lengths of turns, and of controls.
    fn turns(&mut self, what: &str, time: Duration) {
        let (mut turns, mut controls) = (Lengths::new(), Lengths::new());
        self.watch.0.silent.set(Duration::ZERO);
        let (mut waited, mut waited_longest) = (0, Duration::ZERO);
        let mut long = Vec::new();
        self.steps(time, |turn| {
            turns.add(turn.own, turn.cpu);
            let (own, cpu) = control();
            controls.add(own, cpu);
            if turn.has_waited {
                waited += 1;
                waited_longest = waited_longest.max(turn.own);
            }
            if turn.cpu > LONG / 2 && long.len() < 8 {
                long.push(turn);
            }
        });
        let silent = self.watch.0.silent.get().as_secs_f64();
        println!("{what}: {} turns, no I/O done for up to {silent:.2} s", turns.own.len());
        turns.print("turns");
        controls.print("controls");
        for turn in long {
            let [first, worker, last] = turn.parts.map(|part| part.as_micros());
            println!(
                "    {} us of CPU: tiers {first}, worker {worker}, tiers {last}; preempted {} \
                 times, {} pages touched first",
                turn.cpu.as_micros(),
                turn.preemptions,
                turn.faults
            );
        }
        println!("  {waited} turns waited, the longest {} us", waited_longest.as_micros());
        println!("  {}", self.counters());
    }
}

/// An action on a bed, whatever its types are.
trait Script<D> {
    fn run<F, M>(self, bed: Bed<'_, D, F, M>)
    where
        D: Disk,
        F: Future<Output = Outcome<<Both<D> as Orchestrator>::Value>>,
        M: FnMut(Operation, Now) -> F;
}

/// Runs `script` with a worker over a disk that holds all keys.
fn with_bed<D: Disk>(disk: D, is_simulated: bool, script: impl Script<D>) {
    let segment_bytes = if is_simulated { SEGMENT_BYTES } else { SSD_SEGMENT_BYTES };
    let shared = Arc::new(Shared::new(Clock::start(), LIMITS, Settings::default(), 1));
    let stats = &shared.stats[0];
    let item_bytes_max = LIMITS.item_bytes_max;
    let config = memory::MemoryConfig {
        bytes: L1_BYTES,
        item_bytes_max,
        worker: 0,
        workers: 1,
        stats: Arc::clone(stats),
    };
    let options = Options {
        worker: 0,
        workers: 1,
        segment_bytes,
        item_bytes_max,
        object_bytes: 1_024,
        flush_ms: 100,
        admit: Admit::All,
        format: true,
        name: String::new(),
        witness: Arc::new(Nowhere),
        hash_key: None,
        stats: Arc::clone(stats),
    };
    let watch = Watch::default();
    let disk = Watched { inner: disk, is_simulated, watch: watch.clone() };
    let ssd = Ssd::open(disk, &options, shared.clock.read()).expect("opens");
    let l1 = Memory::new(config).expect("mapped");
    let tiers = L1L2::new(l1, ssd, Arc::clone(stats));
    let mailbox = Mailbox::mesh(1).pop().expect("one");
    let worker =
        Worker::new(Arc::clone(&shared), mailbox, &tiers, |op, now| tiers.execute(op, now));
    let mut pipes = Pipes::new();
    let mut connect = || pipes.connect(4 << 10, 4 << 10, 4 << 10);
    let hot = (0..HOT_CONNECTIONS).map(|_| connect()).collect();
    let cold = (0..COLD_CONNECTIONS).map(|_| (connect(), None)).collect();
    let sets = connect();
    let (sent, reply) = (Vec::new(), Vec::new());
    let tiers = &tiers;
    let random = 1;
    let mut bed = Bed { worker, tiers, shared, watch, pipes, hot, cold, sets, random, sent, reply };
    bed.fill();
    script.run(bed);
}

struct Hits;

impl Script<SimDisk> for (Hits, sunder::tier::ssd::disk::sim::SimHandle) {
    fn run<F, M>(self, mut bed: Bed<'_, SimDisk, F, M>)
    where
        F: Future<Output = Outcome<<Both<SimDisk> as Orchestrator>::Value>>,
        M: FnMut(Operation, Now) -> F,
    {
        bed.hits(|rate| self.1.set_faults(Faults::failing(rate)));
    }
}

struct Turns;

impl Script<SimDisk> for (Turns, sunder::tier::ssd::disk::sim::SimHandle) {
    fn run<F, M>(self, mut bed: Bed<'_, SimDisk, F, M>)
    where
        F: Future<Output = Outcome<<Both<SimDisk> as Orchestrator>::Value>>,
        M: FnMut(Operation, Now) -> F,
    {
        let delay = |us| Faults { delay_us: us..=us, ..Faults::default() };
        for round in 0..3 {
            self.1.set_faults(delay(100));
            bed.turns(&format!("100 us, round {round}"), Duration::from_secs(10));
            self.1.set_faults(delay(5_000_000));
            bed.turns(&format!("5 s, round {round}"), Duration::from_secs(16));
        }
    }
}

struct TurnsOf(Duration);

impl Script<RingDisk> for TurnsOf {
    fn run<F, M>(self, mut bed: Bed<'_, RingDisk, F, M>)
    where
        F: Future<Output = Outcome<<Both<RingDisk> as Orchestrator>::Value>>,
        M: FnMut(Operation, Now) -> F,
    {
        println!("filled");
        let rounds = (self.0.as_secs() / 10).max(1);
        for round in 0..rounds {
            bed.turns(&format!("second {}", round * 10), Duration::from_secs(10));
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let pool = || Pool::new(ITEM_BYTES_MAX_DEFAULT).expect("memory");
    let sim = || SimDisk::new(SIM_BYTES + 65_536, pool(), 1);
    match words[..] {
        ["turns", path, seconds] => {
            let request = OpenRequest {
                path: Path::new(path),
                size_bytes: Some(FILE_BYTES),
                workers: 1,
                segments_min: SEGMENTS_MIN as usize + 1,
            };
            let opened = open(&request).expect("opens");
            let disk = RingDisk::new(opened.part(0), pool(), &Readiness::none()).expect("a ring");
            let time = Duration::from_secs(seconds.parse().expect("a number"));
            with_bed(disk, false, TurnsOf(time));
        }
        ["turns"] => {
            let disk = sim();
            let medium = disk.handle();
            with_bed(disk, true, (Turns, medium));
        }
        _ => {
            let disk = sim();
            let medium = disk.handle();
            with_bed(disk, true, (Hits, medium));
        }
    }
}
