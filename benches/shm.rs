//! Rings in shared memory beside Unix sockets and a memcached, in one run.
//!
//! `cargo bench --bench shm`: the round trip of one cache line between two cores; then, for gets
//! and sets of 100-byte values, the round trip of one request and the operations per second in
//! batches: over the rings of a `sunder l1d`, over its Unix socket, and over that of a memcached.
//! Beside these the same gets by the tiers themselves, futures and links included. This process
//! runs on core 0, the servers on core 1, each alone.

#[path = "../tests/common/task.rs"]
mod task;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_setaffinity};
use sunder::base::buffer::Key;
use sunder::base::clock::Clock;
use sunder::base::stats::WorkerStats;
use sunder::tier::link::{Address, LinkConfig};
use sunder::tier::memcached::plain::Plain;
use sunder::tier::rend::Rend;
use sunder::tier::rend::probe::Server;
use sunder::tier::shm::{End, Name, handshake};
use sunder::tier::{Outcome, Tier};
use task::Task;

const KEYS: usize = 10_000;
const VALUE_BYTES: usize = 100;
const ROUND_TRIPS: usize = 200_000;
const SECONDS: Duration = Duration::from_secs(2);

/// Batches of which the time is taken together.
const WINDOW: usize = 32;

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("a core that this process may run on");
}

/// A line that both cores write in turn, in a cache line of its own.
#[repr(align(128))]
struct Line(AtomicU64);

fn cache_line() {
    let line = Arc::new(Line(AtomicU64::new(0)));
    let other = Arc::clone(&line);
    let rounds = 2 * ROUND_TRIPS as u64;
    let echo = thread::spawn(move || {
        pin(1);
        let mut next = 1;
        while next < rounds {
            if other.0.load(Ordering::Acquire) == next {
                other.0.store(next + 1, Ordering::Release);
                next += 2;
            }
            std::hint::spin_loop();
        }
    });
    let mut times = histogram();
    for next in (0..rounds).step_by(2) {
        let start = Instant::now();
        line.0.store(next + 1, Ordering::Release);
        while line.0.load(Ordering::Acquire) != next + 2 {
            std::hint::spin_loop();
        }
        times.saturating_record(start.elapsed().as_nanos() as u64);
    }
    echo.join().expect("it echoes");
    show_times("one cache line, there and back", &times);
}

/// Up to a minute in nanoseconds, with three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).expect("three digits")
}

fn show_times(what: &str, times: &Histogram<u64>) {
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    println!("{what:<46} p50 {:6.2} us  p99 {:6.2} us", at(0.5), at(0.99));
}

/// A process that is killed and reaped when dropped.
struct Process(Child, Vec<PathBuf>);

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
        self.1.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

fn start(program: &str, arguments: &[&str], sockets: Vec<PathBuf>) -> Process {
    let mut command = Command::new("taskset");
    command.args(["-c", "1", program]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process(command.spawn().expect("it starts"), sockets);
    let begun = Instant::now();
    while !process.1.iter().all(|path| UnixStream::connect(path).is_ok()) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{program} does not listen");
        thread::sleep(Duration::from_millis(2));
    }
    process
}

/// A way to a server.
enum Way {
    Rings(Box<End>),
    Socket(UnixStream),
}

impl Way {
    fn rings(path: &Path) -> Way {
        let socket = UnixStream::connect(path).expect("it listens");
        handshake::ask(&socket).expect("it reads");
        let given = handshake::receive_answer(&socket).expect("not refused").expect("it waits");
        Way::Rings(Box::new(End::attach(socket, given).expect("a segment")))
    }

    fn socket(path: &Path) -> Way {
        Way::Socket(UnixStream::connect(path).expect("it listens"))
    }

    fn send(&mut self, mut bytes: &[u8]) {
        match self {
            Way::Socket(socket) => socket.write_all(bytes).expect("it reads"),
            Way::Rings(end) => {
                while !bytes.is_empty() {
                    match end.write(bytes) {
                        Ok(n) => bytes = &bytes[n..],
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                }
            }
        }
    }

    fn receive(&mut self, out: &mut [u8]) {
        match self {
            Way::Socket(socket) => socket.read_exact(out).expect("it answers"),
            Way::Rings(end) => {
                let mut done = 0;
                while done < out.len() {
                    match end.read(&mut out[done..]) {
                        Ok(n) => done += n,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                    std::hint::spin_loop();
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Protocol {
    Binary,
    Text,
}

#[derive(Clone, Copy)]
enum What {
    Get,
    Set,
}

fn key(number: usize) -> String {
    format!("key-{:05}", number % KEYS)
}

/// One request, and the length of its answer.
fn request(protocol: Protocol, what: What, number: usize) -> (Vec<u8>, usize) {
    let (key, value) = (key(number), [b'v'; VALUE_BYTES]);
    match (protocol, what) {
        (Protocol::Text, What::Get) => {
            let answer = format!("VALUE {key} 0 {VALUE_BYTES}\r\n\r\nEND\r\n").len();
            (format!("get {key}\r\n").into(), answer + VALUE_BYTES)
        }
        (Protocol::Text, What::Set) => {
            let head = format!("set {key} 0 0 {VALUE_BYTES}\r\n");
            ([head.as_bytes(), &value, b"\r\n"].concat(), "STORED\r\n".len())
        }
        (Protocol::Binary, what) => {
            let (opcode, extras, value): (u8, &[u8], &[u8]) = match what {
                What::Get => (0, &[], &[]),
                What::Set => (1, &[0; 8], &value),
            };
            let body = (extras.len() + key.len() + value.len()) as u32;
            let mut bytes = vec![0x80, opcode, 0, key.len() as u8, extras.len() as u8, 0, 0, 0];
            bytes.extend(body.to_be_bytes());
            bytes.extend([0; 12]);
            bytes.extend([extras, key.as_bytes(), value].concat());
            (bytes, 24 + if opcode == 0 { 4 + VALUE_BYTES } else { 0 })
        }
    }
}

/// All requests in batches, and the length of the answers to one.
fn batches(protocol: Protocol, what: What, size: usize) -> (Vec<Vec<u8>>, usize) {
    let all = (0..KEYS / size).map(|batch| {
        // Neighbours are not neighbours in the store's order of insertion.
        let numbers = (0..size).map(|i| (batch * size + i) * 7919);
        numbers.flat_map(|number| request(protocol, what, number).0).collect()
    });
    (all.collect(), size * request(protocol, what, 0).1)
}

fn round_trips(name: &str, way: &mut Way, protocol: Protocol) {
    let (requests, answer_bytes) = batches(protocol, What::Get, 1);
    let mut out = vec![0; answer_bytes];
    let mut times = histogram();
    for request in requests.iter().cycle().take(ROUND_TRIPS) {
        let start = Instant::now();
        way.send(request);
        way.receive(&mut out);
        times.saturating_record(start.elapsed().as_nanos() as u64);
    }
    assert!(out.contains(&b'v'), "a hit");
    show_times(&format!("{name}: a get, there and back"), &times);
}

/// Operations per second in batches of `size`, of which `ahead` are in flight: the median over
/// windows of [`WINDOW`] batches, most of which no other process interrupts.
fn throughput(way: &mut Way, protocol: Protocol, what: What, size: usize, ahead: usize) -> f64 {
    let (requests, answer_bytes) = batches(protocol, what, size);
    let mut out = vec![0; answer_bytes];
    let mut next = requests.iter().cycle();
    for _ in 0..ahead {
        way.send(next.next().expect("endless"));
    }
    let start = Instant::now();
    let mut times = histogram();
    while start.elapsed() < SECONDS {
        let window = Instant::now();
        for _ in 0..WINDOW {
            way.receive(&mut out);
            way.send(next.next().expect("endless"));
        }
        times.saturating_record(window.elapsed().as_nanos() as u64);
    }
    for _ in 0..ahead {
        way.receive(&mut out);
    }
    (size * WINDOW) as f64 * 1e9 / times.value_at_quantile(0.5) as f64
}

fn measure(name: &str, way: &mut Way, protocol: Protocol) {
    throughput(way, protocol, What::Set, 16, 1);
    round_trips(name, way, protocol);
    for (what, verb) in [(What::Get, "gets"), (What::Set, "sets")] {
        for (size, ahead) in [(16, 1), (16, 4)] {
            let rate = throughput(way, protocol, what, size, ahead) / 1e6;
            let what = format!("{name}: {verb}, {size} a batch, {ahead} in flight");
            println!("{what:<46} {rate:6.2} M/s");
        }
    }
}

/// Gets by a tier, 16 at a time: futures, link and protocol included.
fn of_tier(name: &str, tier: &impl Tier) {
    let clock = Clock::start();
    let keys: Vec<Key> = (0..KEYS).map(|i| Key::new(key(i).as_bytes()).expect("short")).collect();
    let (start, mut done) = (Instant::now(), 0);
    let mut at = 0;
    while start.elapsed() < SECONDS {
        let now = clock.read();
        let mut tasks: Vec<_> =
            (0..16).map(|i| Task::new(tier.get(&keys[(at + i * 7919) % KEYS], now))).collect();
        at += 16;
        while tasks.iter().any(|task| task.output.is_none()) {
            let now = clock.read();
            tier.flush(now);
            tier.turn(now);
            tasks.iter_mut().for_each(Task::poll);
        }
        assert!(tasks.iter().all(|task| matches!(task.output, Some(Outcome::Hit(_)))));
        done += 16;
    }
    let rate = done as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("{:<46} {rate:6.2} M/s", format!("{name}: gets, 16 tasks at a time"));
}

fn main() {
    // `cargo test` runs benches, too.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("sunder-bench-{}", std::process::id()));
    // SAFETY: there is no other thread yet.
    unsafe { std::env::set_var("RUNTIME_DIRECTORY", &folder) };
    pin(0);
    cache_line();
    let of = |name: &str| folder.join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    {
        let sockets = vec![of("bench.sock")];
        let words = ["l1d", "--name", "bench", "--poll", "busy"];
        let _l1d = start(env!("CARGO_BIN_EXE_sunder"), &words, sockets);
        // The first byte decides what a connection speaks.
        measure("rings, binary", &mut Way::rings(&of("bench.rings")), Protocol::Binary);
        measure("rings, text", &mut Way::rings(&of("bench.rings")), Protocol::Text);
        measure("l1d's socket, binary", &mut Way::socket(&of("bench.sock")), Protocol::Binary);
        let address = Address::Shm(Name::parse("bench").expect("a name"));
        let (link, now) = (LinkConfig::new(address, stats()), Clock::start().read());
        let tier = Rend::open(link, Server::Whole, 1 << 20, now).expect("it is attached");
        of_tier("tier over rings", &tier);
    }
    {
        let path = of("memcached.sock");
        let text = path.to_string_lossy().into_owned();
        let words = ["-u", "root", "-t", "1", "-m", "64", "-s", &text];
        let _memcached = start("memcached", &words, vec![path.clone()]);
        measure("memcached's socket, binary", &mut Way::socket(&path), Protocol::Binary);
        measure("memcached's socket, text", &mut Way::socket(&path), Protocol::Text);
        let link = LinkConfig::new(Address::Unix(path), stats());
        of_tier(
            "tier over memcached",
            &Plain::open(link, Clock::start().read()).expect("it is up"),
        );
    }
    // It fails if something is left there.
    let _ = std::fs::remove_dir_all(&folder);
}

fn stats() -> Arc<WorkerStats> {
    Arc::new(WorkerStats::default())
}
