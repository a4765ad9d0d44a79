//! A chunked tier on the test's own memcached, and a client that reads its items.

use std::cell::Cell;
use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use sunder::base::buffer::Chain;
use sunder::base::clock::{Clock, Expiry, Now};
use sunder::base::stats::{Counter, WorkerStats};
use sunder::tier::link::{self, Address};
use sunder::tier::memcached::chunked::{Chunked, ChunkedConfig};
use sunder::tier::{Outcome, Store, StoreMode, Tier};

use crate::common::task::Task;
use crate::memcached_tier::fixture::{Folder, Memcached, PATIENCE, key, words};

/// Rend's chunk size.
pub const REND: usize = 1184;

/// A memcached without other clients.
pub struct Server {
    pub memcached: Memcached,
    pub folder: Folder,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Server {
        let folder = Folder::new();
        Server { memcached: Memcached::start(&folder.socket(), arguments), folder }
    }

    pub fn tier(&self, chunk_bytes: usize) -> Rig {
        Rig::open(&self.folder.socket(), chunk_bytes)
    }

    pub fn raw(&self) -> Raw {
        let stream = UnixStream::connect(self.folder.socket()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Raw { stream }
    }
}

/// A tier that is driven turn by turn.
pub struct Rig {
    pub tier: Chunked,
    stats: Arc<WorkerStats>,
    clock: Clock,
    /// Added to the clock.
    pub ahead_us: Cell<u64>,
}

impl Rig {
    pub fn open(socket: &Path, chunk_bytes: usize) -> Rig {
        let clock = Clock::start();
        let stats = Arc::new(WorkerStats::default());
        let address = Address::Unix(socket.to_owned());
        let link = link::LinkConfig {
            timeout_us: 5_000_000,
            ..link::LinkConfig::new(address, Arc::clone(&stats))
        };
        let config = ChunkedConfig { link, chunk_bytes, item_bytes_max: 64 << 20 };
        let tier = Chunked::open(config, clock.read()).unwrap_or_else(|error| panic!("{error}"));
        Rig { tier, stats, clock, ahead_us: Cell::new(0) }
    }

    pub fn now(&self) -> Now {
        let now = self.clock.read();
        Now { uptime_us: now.uptime_us + self.ahead_us.get(), ..now }
    }

    /// One turn of a worker that has these tasks.
    pub fn turn<T>(&self, tasks: &mut [Task<'_, T>]) {
        let now = self.now();
        self.tier.turn(now);
        tasks.iter_mut().for_each(Task::poll);
        self.tier.flush(now);
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut tasks = [Task::new(future)];
        let start = Instant::now();
        self.tier.flush(self.now());
        while tasks[0].output.is_none() {
            assert!(start.elapsed() < PATIENCE, "an operation ends: {:?}", self.tier);
            self.turn(&mut tasks);
        }
        let [task] = tasks;
        task.output.expect("finished")
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }

    pub fn store(&self, mode: StoreMode, name: &[u8], value: &[u8], cas: u64) -> Outcome<Chain> {
        let store = Store { mode, flags: 0, expiry: Expiry::NEVER, cas };
        self.store_as(store, name, value)
    }

    pub fn store_as(&self, store: Store, name: &[u8], value: &[u8]) -> Outcome<Chain> {
        let value = Chain::from_slice(value);
        self.run(self.tier.store(&key(name), store, &value, self.now()))
    }

    /// Sets and expects success.
    pub fn set(&self, name: &[u8], value: &[u8]) -> u64 {
        match self.store(StoreMode::Set, name, value, 0) {
            Outcome::Stored { cas } => cas,
            other => panic!("{other:?}"),
        }
    }

    pub fn get(&self, name: &[u8]) -> Outcome<Chain> {
        self.run(self.tier.get_with_expiry(&key(name), self.now()))
    }

    /// The value, if there is one.
    pub fn value(&self, name: &[u8]) -> Option<Vec<u8>> {
        match self.get(name) {
            Outcome::Hit(hit) => Some(hit.value.to_vec()),
            Outcome::Miss => None,
            other => panic!("{other:?}"),
        }
    }

    pub fn cas(&self, name: &[u8]) -> u64 {
        match self.get(name) {
            Outcome::Hit(hit) => hit.cas,
            other => panic!("{other:?}"),
        }
    }

    pub fn words(&self, outcome: &Outcome<Chain>) -> String {
        words(outcome, self.now())
    }
}

/// The name of a chunk of `stem`.
pub fn chunk_name(stem: &str, index: usize) -> String {
    format!("{stem}-{index}")
}

/// A value whose pieces all differ, from each other and from those of other values.
pub fn value(seed: u8, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// A connection to the memcached itself.
pub struct Raw {
    stream: UnixStream,
}

impl Raw {
    fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.stream.read_exact(&mut byte).expect("it answers");
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        line
    }

    pub fn command(&mut self, command: &str) -> String {
        self.stream.write_all(format!("{command}\r\n").as_bytes()).expect("it reads");
        String::from_utf8_lossy(&self.line()).into_owned()
    }

    /// Flags and value of an item.
    pub fn get(&mut self, name: &str) -> Option<(u32, Vec<u8>)> {
        self.stream.write_all(format!("get {name}\r\n").as_bytes()).expect("it reads");
        let line = String::from_utf8(self.line()).expect("text");
        if line == "END" {
            return None;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let mut value = vec![0; words[3].parse().expect("a length")];
        self.stream.read_exact(&mut value).expect("it answers");
        assert_eq!(self.line(), b"");
        assert_eq!(self.line(), b"END");
        Some((words[2].parse().expect("flags"), value))
    }

    /// Seconds until an item expires, as returned by `mg`: -1 means never.
    pub fn left_s(&mut self, name: &str) -> i64 {
        let answer = self.command(&format!("mg {name} t"));
        answer.strip_prefix("HD t").expect("there").parse().expect("a number")
    }

    pub fn set(&mut self, name: &str, flags: u32, exptime: u32, value: &[u8]) {
        let head = format!("set {name} {flags} {exptime} {}\r\n", value.len());
        self.stream.write_all(&[head.as_bytes(), value, b"\r\n"].concat()).expect("it reads");
        assert_eq!(self.line(), b"STORED");
    }

    pub fn delete(&mut self, name: &str) {
        assert_eq!(self.command(&format!("delete {name}")), "DELETED");
    }

    /// A set in the binary protocol, as sent by Rend.
    pub fn binary_set(&mut self, name: &[u8], flags: u32, exptime: u32, value: &[u8]) {
        let mut request = vec![0x80, 0x01];
        request.extend_from_slice(&(name.len() as u16).to_be_bytes());
        request.extend_from_slice(&[8, 0, 0, 0]);
        request.extend_from_slice(&((8 + name.len() + value.len()) as u32).to_be_bytes());
        request.extend_from_slice(&[0; 12]);
        request.extend_from_slice(&flags.to_be_bytes());
        request.extend_from_slice(&exptime.to_be_bytes());
        request.extend_from_slice(name);
        request.extend_from_slice(value);
        self.stream.write_all(&request).expect("it reads");
        let mut answer = [0; 24];
        self.stream.read_exact(&mut answer).expect("it answers");
        assert_eq!((answer[0], answer[6], answer[7]), (0x81, 0, 0), "stored");
        assert_eq!(answer[8..12], [0; 4], "no body");
    }

    /// Number of items in the memcached.
    pub fn items(&mut self) -> usize {
        self.stats(["curr_items"])[0]
    }

    /// The values of these names in `stats`.
    pub fn stats<const N: usize>(&mut self, names: [&str; N]) -> [usize; N] {
        self.stream.write_all(b"stats\r\n").expect("it reads");
        let mut numbers = [None; N];
        loop {
            let line = String::from_utf8(self.line()).expect("text");
            if line == "END" {
                return numbers.map(|number| number.expect("in every answer"));
            }
            let mut words = line.split(' ').skip(1);
            let name = words.next().expect("a name");
            if let Some(i) = names.iter().position(|wanted| *wanted == name) {
                numbers[i] = words.next().and_then(|number| number.parse().ok());
            }
        }
    }
}
