//! Times one command of the memory tier, and counts the bytes that an item costs.
//!
//! `cargo bench --bench memory` prints nanoseconds for each command at 1,000, 10,000 and 1,000,000
//! items with 20-byte keys and 100-byte values, keys in random order (making the key is
//! part of each), and then the bytes beyond
//! key and value at capacity.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use sunder::buffer::{self, Chain, Key};
use sunder::clock::{Expiry, Now};
use sunder::stats::{Counter, WorkerStats};
use sunder::tier::memory::{Config, Memory};
use sunder::tier::{Outcome, Store, StoreMode, Tier, Value};

const NOW: Now = Now { uptime_us: 1_000_000, unix_s: 1_800_000_000 };
const VALUE_BYTES: usize = 100;

fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory tier never waits"),
    }
}

fn key(mut i: usize) -> Key {
    let mut bytes = *b"key:0000000000000000";
    let mut at = bytes.len();
    while i > 0 {
        at -= 1;
        bytes[at] = b'0' + (i % 10) as u8;
        i /= 10;
    }
    Key::new(&bytes).expect("20 bytes")
}

/// A generator of positions that is cheap beside what is measured (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * n as u128) >> 64) as usize
    }
}

fn memory(bytes: usize) -> (Memory, Arc<WorkerStats>) {
    let stats = Arc::new(WorkerStats::default());
    let config =
        Config { bytes, item_bytes_max: 1 << 20, worker: 0, workers: 1, stats: Arc::clone(&stats) };
    (Memory::new(config).expect("address space"), stats)
}

fn set(memory: &Memory, key: &Key, value: &[u8]) {
    let value = Chain::from_slice(value);
    let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
    let outcome = now_or_never(memory.store(key, store, &value, NOW));
    assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
}

/// The best of five runs: what else runs on the machine only ever adds.
fn time(name: &str, items: usize, mut f: impl FnMut(usize)) {
    const RUNS: usize = 5;
    const CALLS: usize = 1_000_000;
    let mut best = f64::MAX;
    for run in 0..RUNS {
        let start = Instant::now();
        for i in 0..CALLS {
            f(run * CALLS + i);
        }
        best = best.min(start.elapsed().as_nanos() as f64 / CALLS as f64);
    }
    println!("{name:<28} {items:>9} items {best:>8.1} ns");
}

fn commands(items: usize) {
    let (memory, stats) = memory(items * 256 + (1 << 20));
    let value = [b'v'; VALUE_BYTES];
    for i in 0..items {
        set(&memory, &key(i), &value);
    }
    assert_eq!(stats.get(Counter::CurrItems), items as u64);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut out = [0; VALUE_BYTES];
    time("making a key", items, |_| {
        black_box(key(random.below(items)));
    });
    time("get hit, copied", items, |_| {
        let Outcome::Hit(hit) = now_or_never(memory.get(&key(random.below(items)), NOW)) else {
            panic!("every key is there");
        };
        hit.value.copy_to(0, &mut out);
        black_box(&out);
    });
    const AHEAD: usize = 16;
    let mut batch: [Key; AHEAD] = std::array::from_fn(key);
    time("get hit, 16 ahead", items, |i| {
        if i % AHEAD == 0 {
            batch = std::array::from_fn(|_| key(random.below(items)));
            let tags = batch.each_ref().map(|key| memory.prefetch_index(key.as_bytes()));
            tags.iter().for_each(|&tag| memory.prefetch_item(tag));
        }
        let Outcome::Hit(hit) = now_or_never(memory.get(&batch[i % AHEAD], NOW)) else {
            panic!("every key is there");
        };
        hit.value.copy_to(0, &mut out);
        black_box(&out);
    });
    time("get miss", items, |_| {
        let outcome = now_or_never(memory.get(&key(items + random.below(items)), NOW));
        assert!(matches!(outcome, Outcome::Miss));
    });
    time("set, same size", items, |_| set(&memory, &key(random.below(items)), &value));
    let other = [b'w'; VALUE_BYTES + 40];
    time("set, other size", items, |i| {
        let value = if i % 2 == 0 { &other[..] } else { &value[..] };
        set(&memory, &key(random.below(items)), value);
    });
    time("delete and set", items, |_| {
        let key = key(random.below(items));
        now_or_never(memory.delete(&key, 0, NOW));
        set(&memory, &key, &value);
    });
    assert_eq!(stats.get(Counter::Evictions), 0);
}

fn evictions(items: usize) {
    let keys = 4 * items;
    let (memory, stats) = memory(items * 176);
    let value = [b'v'; VALUE_BYTES];
    for i in 0..keys {
        set(&memory, &key(i), &value);
    }
    let held = stats.get(Counter::CurrItems) as usize;
    time("set that evicts", held, |i| set(&memory, &key(i % keys), &value));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    time("set that evicts, 1-200 B", held, |i| {
        set(&memory, &key(i % keys), &[b'v'; 200][..1 + random.below(200)]);
    });
}

/// The worst that one command can do: a value of 1 MB where all else is small.
fn large(items: usize) {
    let (memory, stats) = memory(items * 176);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for i in 0..4 * items {
        set(&memory, &key(i), &[b'v'; 200][..1 + random.below(200)]);
    }
    let value = Chain::from_slice(&vec![b'L'; 1_000_000]);
    let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
    let evictions = stats.get(Counter::Evictions);
    let start = Instant::now();
    let outcome = now_or_never(memory.store(&key(0), store, &value, NOW));
    let store_us = start.elapsed().as_micros();
    assert!(matches!(outcome, Outcome::Stored { .. }));
    let evictions = stats.get(Counter::Evictions) - evictions;
    let mut out = vec![0; 1_000_000];
    let start = Instant::now();
    let Outcome::Hit(hit) = now_or_never(memory.get(&key(0), NOW)) else { panic!("just stored") };
    for (i, part) in out.chunks_mut(4000).enumerate() {
        hit.value.copy_to(4000 * i, part);
    }
    let get_us = start.elapsed().as_micros();
    println!(
        "1 MB among {items} small ones: set {store_us} us, {evictions} evictions; get {get_us} us"
    );
}

fn capacity() {
    const BYTES: usize = 256 << 20;
    println!("bytes an item costs beyond key (20) and value, {} MiB full:", BYTES >> 20);
    for value_bytes in [32, 100, 1000, 4000] {
        let (memory, stats) = memory(BYTES);
        let value = vec![b'v'; value_bytes];
        let mut i = 0;
        while stats.get(Counter::Evictions) == 0 {
            set(&memory, &key(i), &value);
            i += 1;
        }
        let overview = memory.overview(NOW);
        let item = BYTES as f64 / overview.items as f64;
        let index = overview.index_bytes as f64 / overview.items as f64;
        println!(
            "  value {value_bytes:>4} B: {:>9} items, {:>6.1} B each, and {index:.1} B of index",
            overview.items,
            item - 20.0 - value_bytes as f64,
        );
    }
}

fn main() {
    buffer::prepare_thread();
    println!("20-byte keys, {VALUE_BYTES}-byte values, one thread, best of 5 runs of 1,000,000:");
    for items in [1000, 10_000, 1_000_000] {
        commands(items);
        evictions(items);
    }
    large(1_000_000);
    capacity();
}
