//! Measures a disk's ring alone and fio, on the same file in the same run.
//!
//! `cargo bench --bench disk` creates a file of 8 GiB in target/, or takes `-- PATH`, a file or
//! block device that it **overwrites**. Then the ring and fio run alternately, each for a few
//! seconds: random reads of 4 KiB at depth 64, sequential writes of 256 KiB at depth 16 and of 1
//! MiB at depth 4. It prints each round and the medians: I/Os per second, the ratio of both, CPU
//! microseconds per I/O (user and system, of the whole process; interrupts not counted).
//!
//! The ring sleeps when it is idle, as in a worker with `--poll adaptive`; for reads there is also
//! one that never sleeps.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use sunder::base::clock::{Clock, Now};
use sunder::base::readiness::Readiness;
use sunder::remedies::of_disk;
use sunder::tier::ssd::disk::open::{OpenRequest, Opened, open};
use sunder::tier::ssd::disk::ring::RingDisk;
use sunder::tier::ssd::disk::{Disk, Done, Io, Op, Pool};

const FILE_BYTES: u64 = 8 << 30;
const ROUNDS: usize = 5;
const ROUND_S: u64 = 4;

#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    fio: &'static str,
    is_write: bool,
    block_bytes: usize,
    depth: usize,
}

const WORKS: [Work; 3] = [
    Work { name: "read 4K", fio: "randread", is_write: false, block_bytes: 4096, depth: 64 },
    Work { name: "write 256K", fio: "write", is_write: true, block_bytes: 256 << 10, depth: 16 },
    Work { name: "write 1M", fio: "write", is_write: true, block_bytes: 1 << 20, depth: 4 },
];

/// The figures of a round.
#[derive(Clone, Copy)]
struct Figures {
    per_s: f64,
    cpu_us: f64,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/disk-bench");
    let given = arguments.next().map(PathBuf::from);
    let path = given.clone().unwrap_or_else(|| own.clone());
    let size_bytes = given.is_none().then_some(FILE_BYTES);
    let request = OpenRequest { path: &path, size_bytes, workers: 1, segments_min: 64 };
    let opened = open(&request).unwrap_or_else(|error| panic!("{error}"));
    let mode = ring(&opened, &Readiness::none()).mode();
    println!("{} of {} MiB; {}", path.display(), opened.size_bytes() >> 20, of_disk(mode));
    fill(&opened);
    for work in WORKS {
        compare(work, &path, &opened);
    }
    if given.is_none() {
        std::fs::remove_file(own).expect("made above");
    }
}

fn ring(opened: &Opened, readiness: &Readiness) -> RingDisk {
    let pool = Pool::with_buffers(&[(4096, 64)], (1 << 20, 16)).expect("memory");
    RingDisk::new(opened.part(0), pool, readiness).unwrap_or_else(|error| panic!("{error}"))
}

/// Writes everything once, so that no block of a file is read or written for the first time later.
fn fill(opened: &Opened) {
    let work = Work { name: "fill", fio: "write", is_write: true, block_bytes: 1 << 20, depth: 8 };
    let blocks = opened.size_bytes() / work.block_bytes as u64;
    let started = Instant::now();
    let mut run = Run::new(work, opened, true);
    run.go(|started| started < blocks);
    let (bytes, s) = (opened.size_bytes() as f64, started.elapsed().as_secs_f64());
    println!("filled in {s:.1} s, {:.0} MB/s", bytes / s / 1e6);
}

fn compare(work: Work, path: &Path, opened: &Opened) {
    println!(
        "\n{}, depth {}, {ROUND_S} s a round: I/Os a second, CPU us an I/O",
        work.name, work.depth
    );
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let ours = timed(work, opened, true);
        let theirs = fio(work, path, opened.size_bytes());
        let spinning = if work.is_write { ours } else { timed(work, opened, false) };
        let ratio = ours.per_s / theirs.per_s;
        println!(
            "  ring {:>8.0} {:>6.2} | fio {:>8.0} {:>6.2} | ratio {ratio:.3} | awake {:>8.0}",
            ours.per_s, ours.cpu_us, theirs.per_s, theirs.cpu_us, spinning.per_s
        );
        rounds.push([ours.per_s, ours.cpu_us, theirs.per_s, theirs.cpu_us, ratio, spinning.per_s]);
    }
    let medians = std::array::from_fn::<f64, 6, _>(|i| median(rounds.iter().map(|row| row[i])));
    let [ours, ours_cpu, theirs, theirs_cpu, ratio, spinning] = medians;
    println!(
        "medians: ring {ours:.0}, {ours_cpu:.2} us; fio {theirs:.0}, {theirs_cpu:.2} us; ratio \
         {ratio:.3}; awake {spinning:.0}"
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn cpu_us() -> f64 {
    let (user_us, system_us) = sunder::base::usage::cpu_us();
    (user_us + system_us) as f64
}

fn timed(work: Work, opened: &Opened, may_sleep: bool) -> Figures {
    let mut run = Run::new(work, opened, may_sleep);
    let (start, cpu_start_us) = (Instant::now(), cpu_us());
    let end = start + Duration::from_secs(ROUND_S);
    let count = run.go(|_| Instant::now() < end) as f64;
    let cpu_us = (cpu_us() - cpu_start_us) / count;
    Figures { per_s: count / start.elapsed().as_secs_f64(), cpu_us }
}

/// A ring that is kept `depth` I/Os deep.
struct Run {
    work: Work,
    disk: RingDisk,
    /// The epoll set in which the process sleeps, if it does.
    poll: Option<(Poll, Events)>,
    blocks: u64,
    random: u64,
}

impl Run {
    fn new(work: Work, opened: &Opened, may_sleep: bool) -> Run {
        let poll = may_sleep.then(|| (Poll::new().expect("epoll"), Events::with_capacity(4)));
        let readiness = match &poll {
            Some((poll, _)) => Readiness::new(poll.registry()).expect("epoll"),
            None => Readiness::none(),
        };
        let disk = ring(opened, &readiness);
        let blocks = opened.size_bytes() / work.block_bytes as u64;
        Run { work, disk, poll, blocks, random: 0x9E37_79B9_7F4A_7C15 }
    }

    /// Continues as long as `may_start` allows, given how many were started. Returns how many.
    fn go(&mut self, may_start: impl Fn(u64) -> bool) -> u64 {
        let clock = Clock::start();
        let (mut started, mut over) = (0, 0);
        let mut done = Vec::with_capacity(256);
        loop {
            while self.disk.in_flight() < self.work.depth && may_start(started) {
                let op = self.op(started);
                self.disk.submit(Io { token: started, op }).expect("not so deep");
                started += 1;
            }
            if self.disk.in_flight() == 0 {
                return over;
            }
            over += self.turn(clock.read(), &mut done);
        }
    }

    fn turn(&mut self, now: Now, done: &mut Vec<Done>) -> u64 {
        let count = self.disk.turn(now, done);
        if count == 0
            && let Some((poll, events)) = &mut self.poll
        {
            poll.poll(events, Some(Duration::from_secs(10))).expect("epoll");
        }
        for done in done.drain(..) {
            done.result.unwrap_or_else(|error| panic!("{error}"));
        }
        count as u64
    }

    fn op(&mut self, started: u64) -> Op {
        let len_bytes = self.work.block_bytes;
        if self.work.is_write {
            let mut buffer = self.disk.pool().write_buffer().expect("as many as deep");
            let bytes = buffer.freeze(len_bytes);
            let offset_bytes = started % self.blocks * len_bytes as u64;
            return Op::Write { offset_bytes, bytes };
        }
        // xorshift64: cheap compared with the measured work.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let block = ((u128::from(self.random) * u128::from(self.blocks)) >> 64) as u64;
        let buffer = self.disk.pool().read_buffer(len_bytes).expect("as many as deep");
        Op::Read { offset_bytes: block * len_bytes as u64, len_bytes, buffer }
    }
}

fn fio(work: Work, path: &Path, size_bytes: u64) -> Figures {
    let output = Command::new("fio")
        .args(["--name=disk", "--direct=1", "--ioengine=io_uring", "--output-format=json"])
        .args(["--time_based=1", "--thread=1"])
        .arg(format!("--runtime={ROUND_S}"))
        .arg(format!("--filename={}", path.display()))
        .arg(format!("--size={size_bytes}"))
        .arg(format!("--rw={}", work.fio))
        .arg(format!("--bs={}", work.block_bytes))
        .arg(format!("--iodepth={}", work.depth))
        .output()
        .expect("fio is installed (scripts/setup.sh)");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "fio: {}", String::from_utf8_lossy(&output.stderr));
    let section = if work.is_write { "\"write\" : {" } else { "\"read\" : {" };
    let (_, of_kind) = text.split_once(section).expect("fio's report");
    let (per_s, count) = (number(of_kind, "iops"), number(of_kind, "total_ios"));
    let cpu_percent = number(&text, "usr_cpu") + number(&text, "sys_cpu");
    let run_us = number(of_kind, "runtime") * 1000.0;
    Figures { per_s, cpu_us: cpu_percent / 100.0 * run_us / count }
}

/// The first number with that name.
fn number(json: &str, name: &str) -> f64 {
    let (_, rest) = json.split_once(&format!("\"{name}\" : ")).expect("fio's report has it");
    let end = rest.find([',', '\n']).expect("more follows");
    rest[..end].trim().parse().expect("a number")
}
