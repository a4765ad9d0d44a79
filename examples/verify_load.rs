//! A load on any memcached server that checks every value it is given back.
//!
//! Each connection writes and reads keys of its own. A value is derived from its key and a version,
//! so that a value of another key, of an older version, or torn, is seen at once. One request at a
//! time a connection, over the text protocol; prints a latency table, and exits with 1 on the first
//! wrong answer.
//!
//! usage: verify_load HOST:PORT [--connections 50] [--requests 100000] [--seconds 10]
//!                    [--value-bytes 100] [--keys 100] [--bytes N]
//!
//! With --bytes each connection writes a value and reads it back, in turns, until so many bytes of
//! values went each way; it is an error if that takes longer than --seconds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A server that says nothing for this long has lost a reply.
const SILENCE: Duration = Duration::from_secs(10);

/// One request in this many is a set, the rest are gets.
const SET_EVERY: u64 = 10;

/// Stack of a connection's thread, in bytes.
const STACK_BYTES: usize = 128 * 1024;

#[derive(Clone, Debug)]
struct Plan {
    address: String,
    connections: u64,
    requests: u64,
    seconds: u64,
    value_bytes: usize,
    keys: u64,
    /// Bytes of values to move each way; 0: as many as the requests come to.
    bytes: u64,
}

fn main() -> ExitCode {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("verify_load: {error}");
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    match load(&plan) {
        Ok((sets, gets)) => {
            print_moved(&plan, sets.len(), gets.len(), start.elapsed());
            print_table(&[("set", sets), ("get", gets)], start.elapsed());
            println!("Every value was the right one.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("verify_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plan() -> Result<Plan, String> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("expected HOST:PORT")?;
    let mut plan = Plan {
        address,
        connections: 50,
        requests: 100_000,
        seconds: 10,
        value_bytes: 100,
        keys: 100,
        bytes: 0,
    };
    while let Some(flag) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse::<u64>().ok());
        let value = value.filter(|&value| value > 0);
        let value = value.ok_or_else(|| format!("{flag}: expected a number above 0"))?;
        match &flag[..] {
            "--connections" => plan.connections = value,
            "--requests" => plan.requests = value,
            "--seconds" => plan.seconds = value,
            "--value-bytes" => plan.value_bytes = value as usize,
            "--keys" => plan.keys = value,
            "--bytes" => plan.bytes = value,
            _ => return Err(format!("{flag}: no such flag")),
        }
    }
    if plan.bytes > 0 {
        plan.requests = 2 * plan.bytes.div_ceil(plan.value_bytes as u64);
    }
    Ok(plan)
}

/// Latencies of sets and of gets, in nanoseconds.
type Latencies = (Vec<u64>, Vec<u64>);

fn load(plan: &Plan) -> Result<Latencies, String> {
    let left = AtomicU64::new(plan.requests);
    let deadline = Instant::now() + Duration::from_secs(plan.seconds);
    std::thread::scope(|scope| {
        let mut threads = vec![];
        for number in 0..plan.connections {
            let left = &left;
            let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
            let work = move || Client::connect(plan, number)?.run(plan, left, deadline);
            threads.push(builder.spawn_scoped(scope, work).map_err(|e| format!("thread: {e}"))?);
        }
        let mut all = Latencies::default();
        for thread in threads {
            let (sets, gets) = thread.join().map_err(|_| "a connection's thread panicked")??;
            all.0.extend(sets);
            all.1.extend(gets);
        }
        Ok(all)
    })
}

/// The value of a key at a version: the whole of it depends on both.
fn value_of(key: &str, version: u64, bytes: usize) -> Vec<u8> {
    let mut state = key.bytes().fold(version ^ 0x9e37_79b9_7f4a_7c15, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        // splitmix64, one step for eight bytes.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend((mixed ^ (mixed >> 31)).to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// One connection, its keys and the versions it has written.
struct Client {
    number: u64,
    stream: BufReader<TcpStream>,
    versions: Vec<u64>,
    random: u64,
    request: Vec<u8>,
    line: Vec<u8>,
    value: Vec<u8>,
}

impl Client {
    fn connect(plan: &Plan, number: u64) -> Result<Client, String> {
        let connect = || {
            let stream = TcpStream::connect(&plan.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE))?;
            Ok(stream)
        };
        let stream = connect().map_err(|e: std::io::Error| format!("{}: {e}", plan.address))?;
        Ok(Client {
            number,
            stream: BufReader::new(stream),
            versions: vec![0; plan.keys as usize],
            random: number.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1,
            request: vec![],
            line: vec![],
            value: vec![],
        })
    }

    fn run(
        mut self,
        plan: &Plan,
        left: &AtomicU64,
        deadline: Instant,
    ) -> Result<Latencies, String> {
        let mut latencies = Latencies::default();
        let take = |left: u64| left.checked_sub(1);
        while left.fetch_update(Relaxed, Relaxed, take).is_ok() {
            let start = Instant::now();
            if start > deadline {
                if plan.bytes > 0 {
                    return Err(format!("not done after {} s", plan.seconds));
                }
                break;
            }
            let (index, is_set) = self.next_request(plan, &latencies);
            let key = format!("load-{}-{index}", self.number);
            let result = if is_set {
                self.set(&key, index, plan.value_bytes)
            } else {
                self.get(&key, index, plan.value_bytes)
            };
            result.map_err(|error| format!("connection {}, key {key}: {error}", self.number))?;
            let elapsed_ns = start.elapsed().as_nanos() as u64;
            if is_set { latencies.0.push(elapsed_ns) } else { latencies.1.push(elapsed_ns) }
        }
        Ok(latencies)
    }

    /// Which key is next, and whether it is set.
    fn next_request(&mut self, plan: &Plan, done: &Latencies) -> (usize, bool) {
        let keys = self.versions.len();
        if plan.bytes > 0 {
            let is_set = done.0.len() == done.1.len();
            return (done.1.len() % keys, is_set);
        }
        let random = self.next_random();
        let index = (random >> 32) as usize % keys;
        (index, self.versions[index] == 0 || random.is_multiple_of(SET_EVERY))
    }

    /// xorshift64: which key, and what to do with it.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn set(&mut self, key: &str, index: usize, bytes: usize) -> Result<(), String> {
        self.versions[index] += 1;
        let version = self.versions[index];
        self.request.clear();
        self.request.extend(format!("set {key} {version} 0 {bytes}\r\n").into_bytes());
        self.request.extend(value_of(key, version, bytes));
        self.request.extend(b"\r\n");
        self.ask()?;
        self.expect_line(b"STORED\r\n")
    }

    fn get(&mut self, key: &str, index: usize, bytes: usize) -> Result<(), String> {
        let version = self.versions[index];
        self.request.clear();
        self.request.extend(format!("get {key}\r\n").into_bytes());
        self.ask()?;
        self.expect_line(format!("VALUE {key} {version} {bytes}\r\n").as_bytes())?;
        self.value.resize(bytes + 2, 0);
        self.stream.read_exact(&mut self.value).map_err(|e| format!("value: {e}"))?;
        let expected = [value_of(key, version, bytes), b"\r\n".to_vec()].concat();
        if self.value != expected {
            let at = self.value.iter().zip(&expected).take_while(|(a, b)| a == b).count();
            return Err(format!("version {version}: wrong value from byte {at} on"));
        }
        self.expect_line(b"END\r\n")
    }

    fn ask(&mut self) -> Result<(), String> {
        self.stream.get_mut().write_all(&self.request).map_err(|error| format!("write: {error}"))
    }

    fn expect_line(&mut self, expected: &[u8]) -> Result<(), String> {
        self.line.clear();
        self.stream.read_until(b'\n', &mut self.line).map_err(|error| format!("read: {error}"))?;
        if self.line == expected {
            return Ok(());
        }
        let (expected, line) = (expected.escape_ascii(), self.line.escape_ascii());
        Err(format!("expected '{expected}', got '{line}'"))
    }
}

fn print_moved(plan: &Plan, sets: usize, gets: usize, elapsed: Duration) {
    let megabytes = |requests: usize| requests as f64 * plan.value_bytes as f64 / 1e6;
    let (there, back, seconds) = (megabytes(sets), megabytes(gets), elapsed.as_secs_f64());
    println!(
        "{there:.1} MB there and {back:.1} MB back in {seconds:.1} s: {:.1} MB/s",
        (there + back) / seconds
    );
}

fn print_table(rows: &[(&str, Vec<u64>)], elapsed: Duration) {
    let heads = ["requests", "per s", "p50 us", "p90 us", "p99 us", "p99.9 us", "max us"];
    println!("{:5}{}", "", heads.map(|head| format!("{head:>10}")).concat());
    for (name, latencies) in rows {
        let mut sorted = latencies.clone();
        sorted.sort_unstable();
        let at = |per_mille: usize| {
            let index = (sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1));
            sorted.get(index).map_or(0, |ns| ns / 1000).to_string()
        };
        let per_second = sorted.len() as f64 / elapsed.as_secs_f64();
        let cells = [sorted.len().to_string(), format!("{per_second:.0}")];
        let cells = cells.into_iter().chain([500, 900, 990, 999, 1000].map(at));
        println!("{name:5}{}", cells.map(|cell| format!("{cell:>10}")).collect::<String>());
    }
}
