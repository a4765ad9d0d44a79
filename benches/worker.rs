//! The whole worker on frames created here: TCP, parser, memory tier, reply. No device.
//!
//! `cargo bench --bench worker [-- FILTER]` measures rounds of the server's turns, a request on
//! every connection: connections and keys in random order, 32 frames per burst, values of 100
//! bytes. `-- table` prints nanoseconds per request for more connections and keys, also with
//! software checksums; `-- CONNECTIONS REQUESTS KEYS` one row of it. `--count KIND CONNECTIONS
//! REQUESTS` runs that many requests untimed, for callgrind (scripts/instructions.sh).

mod synthetic;

use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use sunder::base::buffer::Body;
use sunder::base::clock::{Clock, Expiry, Now};
use sunder::connection::Connection;
use sunder::mailbox::Mailbox;
use sunder::orchestrator::l1_only::L1Only;
use sunder::orchestrator::{Action, Operation, Orchestrator};
use sunder::protocol::Limits;
use sunder::tier::memory::{self, Memory};
use sunder::tier::{Outcome, Store, StoreMode};
use sunder::worker::{Settings, Shared, Worker};
use synthetic::{Bench, BenchStacks, Server};

const KEYS: u64 = 10_000;
/// So many that neither index nor items are in any cache.
const MANY_KEYS: u64 = 1_000_000;
const VALUE: [u8; 100] = [b'v'; 100];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Hit,
    Miss,
    Set,
    BinaryHit,
    MetaHit,
}

const KINDS: [(&str, Kind); 5] = [
    ("get-hit", Kind::Hit),
    ("get-miss", Kind::Miss),
    ("set", Kind::Set),
    ("binary-get-hit", Kind::BinaryHit),
    ("meta-get-hit", Kind::MetaHit),
];

struct Whole<'o, O: Orchestrator, F, M> {
    worker: Worker<'o, O, F, M>,
    tier: &'o O,
    kind: Kind,
    keys: u64,
    random: u64,
}

impl<O, F, M> Server for Whole<'_, O, F, M>
where
    O: Orchestrator,
    F: Future<Output = Outcome<O::Value>>,
    M: FnMut(Operation, Now) -> F,
{
    type Connection = Connection;

    fn turn(&mut self, stacks: &mut BenchStacks<Connection>, now: Now) -> usize {
        let done = self.worker.turn(stacks, now);
        self.tier.turn(now);
        done
    }

    fn next_request(&mut self, out: &mut Vec<u8>) {
        self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let key = (self.random >> 33) % self.keys;
        match self.kind {
            Kind::Hit => write!(out, "get key-{key:09}\r\n"),
            Kind::MetaHit => write!(out, "mg key-{key:09} v\r\n"),
            Kind::Miss => write!(out, "get nay-{key:09}\r\n"),
            Kind::Set => {
                let head = write!(out, "set key-{key:09} 0 0 {}\r\n", VALUE.len());
                out.extend_from_slice(&VALUE);
                out.extend_from_slice(b"\r\n");
                head
            }
            Kind::BinaryHit => {
                // Opcode get, a key of 13 bytes and nothing else.
                out.extend_from_slice(&[0x80, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 13]);
                out.extend_from_slice(&[0; 12]);
                write!(out, "key-{key:09}")
            }
        }
        .expect("a vector takes everything");
    }
}

/// Calls `with` with a server whose keys are all stored.
fn with_bench<R>(
    kind: Kind,
    keys: u64,
    connections: usize,
    is_summed: bool,
    with: impl FnOnce(&mut dyn Measure) -> R,
) -> R {
    let limits = Limits { meta: true, ..Limits::DEFAULT };
    let shared = Arc::new(Shared::new(Clock::start(), limits, Settings::default(), 1));
    let tier = L1Only::new(
        Memory::new(memory::MemoryConfig {
            bytes: 512 << 20,
            item_bytes_max: limits.item_bytes_max,
            worker: 0,
            workers: 1,
            stats: Arc::clone(&shared.stats[0]),
        })
        .expect("mapped"),
    );
    let now = shared.clock.read();
    for key in 0..keys {
        let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
        let (key, value) = (format!("key-{key:09}"), Body::Slice(&VALUE));
        let outcome = tier.try_now(key.as_bytes(), Action::Store(store), value, now);
        assert!(matches!(outcome, Ok(Outcome::Stored { .. })));
    }
    let mailbox = Mailbox::mesh(1).pop().expect("one");
    let worker = Worker::new(shared, mailbox, &tier, |op, now| tier.execute(op, now));
    let server = Whole { worker, tier: &tier, kind, keys, random: 1 };
    let mut bench = Bench::new(server, connections, is_summed);
    with(&mut bench)
}

trait Measure {
    fn measure(&mut self, requests: usize) -> (f64, usize);
    fn run(&mut self, requests: usize);
    fn rounds(&mut self, rounds: u64) -> Duration;
}

impl<S: Server> Measure for Bench<S> {
    fn measure(&mut self, requests: usize) -> (f64, usize) {
        Bench::measure(self, requests)
    }

    fn run(&mut self, requests: usize) {
        Bench::run(self, requests);
    }

    fn rounds(&mut self, rounds: u64) -> Duration {
        Bench::rounds(self, rounds)
    }
}

/// Rounds of turns, under criterion.
fn timed() {
    let mut criterion = Criterion::default().configure_from_args();
    for connections in [100, 1_000] {
        let mut group = criterion.benchmark_group(format!("turns, {connections} connections"));
        group.throughput(Throughput::Elements(connections as u64));
        for (name, kind) in KINDS {
            with_bench(kind, KEYS, connections, false, |bench| {
                group.bench_function(name, |b| b.iter_custom(|rounds| bench.rounds(rounds)));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<usize>().expect("a number");
    if let ["--count", name, connections, requests] = words[..] {
        let kind = KINDS.iter().find(|(known, _)| *known == name).expect("a kind").1;
        return with_bench(kind, KEYS, number(connections), false, |b| b.run(number(requests)));
    }
    let (counts, requests, keys) = match words[..] {
        [connections, requests, keys] => {
            (vec![number(connections)], number(requests), number(keys) as u64)
        }
        ["table"] => (vec![100, 1_000, 10_000, 50_000], 2_000_000, KEYS),
        _ => return timed(),
    };
    println!("request              keys connections   ns/request   with software checksums");
    let show = |name: &str, kind, keys, connections| {
        let measure =
            |is_summed| with_bench(kind, keys, connections, is_summed, |b| b.measure(requests));
        let (plain, _) = measure(false);
        let (summed, _) = measure(true);
        println!("{name:15} {keys:9} {connections:11} {plain:12.0} {summed:25.0}");
    };
    for (name, kind) in KINDS {
        for &connections in &counts {
            show(name, kind, keys, connections);
        }
    }
    for &connections in &counts {
        show("get-hit", Kind::Hit, MANY_KEYS, connections);
    }
}
