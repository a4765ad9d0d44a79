//! Measures the commands of the memory tier, and counts the memory of an item.
//!
//! `cargo bench --bench memory [-- FILTER]` times each command at 1,000, 10,000 and 1,000,000 items
//! with 20-byte keys and 100-byte values; its instructions are counted by `parts`.
//! `cargo bench --bench memory -- capacity` prints the worst case of a single command, and the
//! bytes beyond key and value at capacity.

#[path = "cases/memory.rs"]
mod cases;

use std::time::{Duration, Instant};

use cases::{NOW, Random, key, memory, now_or_never, set};
use criterion::Criterion;
use sunder::base::buffer::{self, Chain};
use sunder::base::clock::Expiry;
use sunder::base::stats::Counter;
use sunder::tier::{Outcome, Store, StoreMode, Tier, Value};

/// The worst case of a single command: a value of 1 MB among small ones.
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
    if std::env::args().any(|word| word == "capacity") {
        large(1_000_000);
        return capacity();
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for items in [1_000, 10_000, 1_000_000] {
        let mut group = criterion.benchmark_group(format!("memory, {items} items"));
        for (name, mut run) in cases::cases(items) {
            group.bench_function(name, |bencher| bencher.iter(&mut run));
        }
        group.finish();
    }
    criterion.final_summary();
}
