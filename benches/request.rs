//! One request through a worker, without a network: parse, find the owner, execute, encode, write.
//!
//! Prints nanoseconds per request. `cargo bench --bench request`

#[path = "../tests/common/pipe.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod pipe;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use pipe::Pipes;
use sunder::base::clock::Clock;
use sunder::mailbox::Mailbox;
use sunder::orchestrator::Orchestrator;
use sunder::orchestrator::l1_only::L1Only;
use sunder::protocol::Limits;
use sunder::tier::memory::{self, Memory};
use sunder::worker::{Settings, Shared, Worker};

const KEYS: usize = 1000;
const ROUNDS: usize = 2_000_000;

fn main() {
    let limits = Limits::DEFAULT;
    let shared = Arc::new(Shared::new(Clock::start(), limits, Settings::default(), 1));
    let tier = L1Only::new(
        Memory::new(memory::MemoryConfig {
            bytes: 64 << 20,
            item_bytes_max: limits.item_bytes_max,
            worker: 0,
            workers: 1,
            stats: Arc::clone(&shared.stats[0]),
        })
        .expect("mapped"),
    );
    let mailbox = Mailbox::mesh(1).pop().expect("one");
    let mut worker =
        Worker::new(Arc::clone(&shared), mailbox, &tier, |op, now| tier.execute(op, now));
    let mut pipes = Pipes::new();
    let c = pipes.connect(16 << 10, 16 << 10, 512);
    let now = shared.clock.read();
    let value = "v".repeat(100);
    let mut out = Vec::with_capacity(1 << 20);
    let sets: Vec<String> =
        (0..KEYS).map(|i| format!("set key-{i:010} 0 0 100\r\n{value}\r\n")).collect();
    let gets: Vec<String> = (0..KEYS).map(|i| format!("get key-{i:010}\r\n")).collect();
    let misses: Vec<String> = (0..KEYS).map(|i| format!("get kex-{i:010}\r\n")).collect();
    for (name, requests) in [("set", &sets), ("get hit", &gets), ("get miss", &misses)] {
        let start = Instant::now();
        for i in 0..ROUNDS {
            pipes.send(c, requests[i % KEYS].as_bytes());
            worker.turn(&mut pipes, now);
            out.clear();
            pipes.receive(c, &mut out);
        }
        let ns = start.elapsed().as_nanos() as f64 / ROUNDS as f64;
        println!("{name:10} {ns:6.1} ns   ({} bytes of reply)", black_box(&out).len());
    }
}
