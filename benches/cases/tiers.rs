//! A get through a worker with two tiers, L1 in memory in front of an SSD: parse, look up, execute,
//! reply. The transport is a buffer and the disk is memory, so that every run takes the same path.

#[path = "../../tests/common/pipe.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod pipe;

use std::sync::Arc;

use pipe::Pipes;
use sunder::base::clock::Clock;
use sunder::base::stats::Counter;
use sunder::mailbox::Mailbox;
use sunder::orchestrator::Orchestrator;
use sunder::orchestrator::l1_l2::L1L2;
use sunder::protocol::Limits;
use sunder::tier::memory::{Memory, MemoryConfig};
use sunder::tier::ssd::disk::Pool;
use sunder::tier::ssd::disk::memory::MemoryDisk;
use sunder::tier::ssd::{Admit, Nowhere, Options, Ssd};
use sunder::worker::{Settings, Shared, Worker};

use crate::memory::{Case, NOW};

const ITEM_BYTES_MAX: usize = 32 << 10;
const L1_BYTES: usize = 1 << 20;
const DISK_BYTES: usize = 64 << 20;
const SEGMENT_BYTES: usize = 1 << 20;
/// Keys on the SSD: several times as many as fit into L1, requested in turn.
const KEYS: usize = 20_000;
const VALUE_BYTES: usize = 100;
/// Time of a turn, so that timers expire.
const TURN_US: u64 = 20;
/// Requests in a row that L1 may answer.
const L1_HITS_MAX: usize = 16;
/// Time for the disk to write a set.
const TURNS_PER_SET: u32 = 10;

/// Every case with its name.
pub fn cases() -> Vec<Case> {
    let missing = |keys: usize| {
        let names: String = (0..keys).map(|i| format!(" none-{i:015}")).collect();
        format!("get{names}\r\n").into_bytes()
    };
    vec![
        ("get-miss", asking(0, vec![missing(1)])),
        ("get-10-misses", asking(0, vec![missing(10)])),
        (
            "ssd-hit",
            asking(KEYS, (0..KEYS).map(|i| format!("get {}\r\n", key(i)).into()).collect()),
        ),
    ]
}

fn key(i: usize) -> String {
    format!("key:{i:016}")
}

/// Sends the requests in turn, one per call, and waits for the reply; stores `keys` items first.
fn asking(keys: usize, requests: Vec<Vec<u8>>) -> Box<dyn FnMut()> {
    let limits = Limits { item_bytes_max: ITEM_BYTES_MAX, ..Limits::DEFAULT };
    // For the rest of the process: a worker borrows its tiers.
    let shared = Arc::new(Shared::new(Clock::start(), limits, Settings::default(), 1));
    let tiers: &'static _ = Box::leak(Box::new(tiers(&shared)));
    let mailbox = Mailbox::mesh(1).pop().expect("one");
    let mut worker =
        Worker::new(Arc::clone(&shared), mailbox, tiers, |op, now| tiers.execute(op, now));
    let mut pipes = Pipes::new();
    let client = pipes.connect(1 << 10, 1 << 10, 1 << 10);
    let mut now = NOW;
    let mut reply = Vec::new();
    let mut ask = move |request: &[u8], end: &[u8], turns_min: u32| {
        pipes.send(client, request);
        reply.clear();
        let mut turns = 0;
        while !reply.ends_with(end) || turns < turns_min {
            turns += 1;
            now.uptime_us += TURN_US;
            worker.turn(&mut pipes, now);
            pipes.receive(client, &mut reply);
        }
        reply.len()
    };
    for i in 0..keys {
        let value = "v".repeat(VALUE_BYTES);
        let set = format!("set {} 0 0 {VALUE_BYTES}\r\n{value}\r\n", key(i));
        // Items that the disk had no time for are stored again.
        let mut lost = shared.stats[0].get(Counter::SsdNotWritten) + 1;
        while shared.stats[0].get(Counter::SsdNotWritten) != lost {
            lost = shared.stats[0].get(Counter::SsdNotWritten);
            ask(set.as_bytes(), b"STORED\r\n", TURNS_PER_SET);
        }
    }
    let looked = move || {
        let count = |counter| shared.stats[0].get(counter);
        count(Counter::SsdReads) + count(Counter::SsdBufferHits)
    };
    let mut next = 0;
    Box::new(move || {
        // L1 keeps a few items for a whole round, those that were asked for soon after they were
        // evicted. The next one takes their turn.
        for _ in 0..L1_HITS_MAX {
            let before = looked();
            let bytes = ask(&requests[next], b"END\r\n", 0);
            assert_eq!(bytes > VALUE_BYTES, keys > 0, "hit or miss, as the case says");
            next = (next + 1) % requests.len();
            if looked() - before == u64::from(keys > 0) {
                return;
            }
        }
        panic!("a hit is one of the SSD");
    })
}

fn tiers(shared: &Shared) -> L1L2<Memory, Ssd<MemoryDisk>> {
    let stats = &shared.stats[0];
    let (worker, workers) = (0, 1);
    let l1 = MemoryConfig {
        bytes: L1_BYTES,
        item_bytes_max: ITEM_BYTES_MAX,
        worker,
        workers,
        stats: Arc::clone(stats),
    };
    let options = Options {
        worker: 0,
        workers: 1,
        segment_bytes: SEGMENT_BYTES,
        item_bytes_max: ITEM_BYTES_MAX,
        object_bytes: 256,
        flush_ms: 100,
        admit: Admit::All,
        format: true,
        name: String::new(),
        witness: Arc::new(Nowhere),
        hash_key: Some([1, 2]),
        stats: Arc::clone(stats),
    };
    let pool = Pool::new(ITEM_BYTES_MAX).expect("memory");
    let disk = MemoryDisk::new(DISK_BYTES, pool);
    let ssd = Ssd::open(disk, &options, NOW).expect("a blank disk");
    L1L2::new(Memory::new(l1).expect("mapped"), ssd, Arc::clone(stats))
}
