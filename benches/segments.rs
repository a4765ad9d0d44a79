//! Measures the store in segments, alone.
//!
//! `cargo bench --bench segments -- hits | capacity | speed | gets | sets | steps | restart` prints
//! hit ratios of synthetic traces, items kept in a region, operations a second (or only gets or
//! sets), the longest step, and how long a start takes with what another process left. With
//! `file=PATH` the store is in that file.

use std::hint::black_box;
use std::time::Instant;

use sunder::base::clock::{Expiry, Now};
use sunder::base::random::Random;
use sunder::tier::segments::{
    NewRecord, Opening, PieceCursor, SegmentStore, SegmentStoreConfig, StoreFile,
};

const NOW: Now = Now { uptime_us: 1_000_000, unix_s: 1_800_000_000 };
const KEY_BYTES: usize = 20;

/// Ranks of `n` objects, drawn with probability proportional to 1/rank^alpha.
struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    fn new(n: usize, alpha: f64) -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=n).map(|rank| {
            sum += (rank as f64).powf(-alpha);
            sum
        });
        Zipf { sums: sums.collect() }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let total = self.sums[self.sums.len() - 1];
        let at = random.unit() * total;
        self.sums.partition_point(|&sum| sum < at)
    }
}

fn key(mut i: usize) -> [u8; KEY_BYTES] {
    let mut bytes = *b"key:0000000000000000";
    let mut at = bytes.len();
    while i > 0 {
        at -= 1;
        bytes[at] = b'0' + (i % 10) as u8;
        i /= 10;
    }
    bytes
}

/// A new store: in memory, or in the file that was named.
fn store(bytes: usize) -> SegmentStore {
    let config = SegmentStoreConfig { bytes, worker: 0, workers: 1 };
    let named = std::env::args().find_map(|word| word.strip_prefix("file=").map(str::to_owned));
    match named {
        Some(path) => start(&path, bytes, true).0,
        None => SegmentStore::new(config).expect("memory"),
    }
}

/// Starts with what is in a file, or afresh.
fn start(path: &str, bytes: usize, is_afresh: bool) -> (SegmentStore, Opening) {
    let config = SegmentStoreConfig { bytes, worker: 0, workers: 1 };
    let is_huge = !std::env::args().any(|word| word == "huge=off");
    let file = StoreFile { path: path.as_ref(), is_huge, is_afresh, key_seed: 0 };
    SegmentStore::start(config, &file, None, NOW).expect("a file")
}

/// How long it takes from a start to the first hit, after a clean stop and without one.
fn restart(bytes: usize) {
    let named = std::env::args().find_map(|word| word.strip_prefix("file=").map(str::to_owned));
    let path = named.expect("file=PATH");
    for value_bytes in [100, 1000] {
        let started = Instant::now();
        let mut full = start(&path, bytes, true).0;
        let made_ms = started.elapsed().as_secs_f64() * 1e3;
        let items = kept(&mut full, value_bytes, 2, bytes);
        println!(
            "{} MiB, values of {value_bytes} B: {items} items; a new file took {made_ms:.0} ms",
            bytes >> 20
        );
        for is_clean in [true, false, true, false, true, false] {
            let stopped = Instant::now();
            if is_clean {
                full.stop(NOW).expect("a file");
                drop(full);
            } else {
                drop(full);
            }
            let stop_ms = stopped.elapsed().as_secs_f64() * 1e3;
            let (started, cpu) = (Instant::now(), cpu_ns());
            let opening;
            (full, opening) = start(&path, bytes, false);
            let start_ms = started.elapsed().as_secs_f64() * 1e3;
            let cpu_ms = (cpu_ns() - cpu) as f64 / 1e6;
            println!(
                "  {:?}: start {start_ms:.0} ms ({cpu_ms:.0} ms of CPU), stop {stop_ms:.0} ms, {} \
                 items, {:.4} of them, {} damaged",
                opening.beginning,
                opening.items,
                opening.items as f64 / items as f64,
                opening.damaged,
            );
        }
    }
    std::fs::remove_file(&path).expect("a file");
}

fn set(store: &mut SegmentStore, key: &[u8], value: &[u8]) -> bool {
    let hash = store.hash(key);
    set_hashed(store, key, hash, value)
}

/// A record without flags that does not expire.
#[inline(always)]
fn plain<'k>(key: &'k [u8], hash: u64, value: &[u8]) -> NewRecord<'k> {
    NewRecord {
        key,
        hash,
        flags: 0,
        expiry: Expiry::NEVER,
        value_bytes: value.len(),
        is_counter: false,
    }
}

#[inline(always)]
fn set_hashed(store: &mut SegmentStore, key: &[u8], hash: u64, value: &[u8]) -> bool {
    let old = store.find(key, hash, NOW);
    let new = plain(key, hash, value);
    let Some(made) = store.make(&new, old.as_ref(), NOW) else { return false };
    store.write_value(made, PieceCursor::default(), 0, value);
    let old = old.and_then(|old| store.refresh(old, key, hash));
    black_box(store.publish(made, hash, old.as_ref()));
    true
}

#[inline(always)]
fn get_hashed(store: &mut SegmentStore, key: &[u8], hash: u64, out: &mut [u8]) -> bool {
    let Some(found) = store.find(key, hash, NOW) else { return false };
    let value = store.whole(&found).expect("it is short");
    out[..value.len()].copy_from_slice(value);
    black_box(store.cas(&found));
    store.note_use(&found);
    true
}

/// Items readable after `times` as many bytes were set as there are.
fn kept(store: &mut SegmentStore, value_bytes: usize, times: usize, bytes: usize) -> usize {
    let value = vec![b'v'; value_bytes];
    let sets = times * bytes / (value_bytes + KEY_BYTES);
    for i in 0..sets {
        assert!(set(store, &key(i), &value), "set {i}");
        if i % 16 == 0 {
            store.turn(NOW);
        }
    }
    let is_there = |i: &usize| {
        let key = key(*i);
        let hash = store.hash(&key);
        store.find(&key, hash, NOW).is_some()
    };
    (0..sets).filter(is_there).count()
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: usize = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    pages * 4096
}

fn capacity(bytes: usize) {
    println!("{} MiB, keys of {KEY_BYTES} B, 3 times as many bytes set:", bytes >> 20);
    for value_bytes in [32, 100, 1000, 4000] {
        let before = resident_bytes();
        let mut store = store(bytes);
        let items = kept(&mut store, value_bytes, 3, bytes);
        let resident = resident_bytes() - before;
        let over = bytes as f64 / items as f64 - (KEY_BYTES + value_bytes) as f64;
        let overview = store.overview(NOW);
        println!(
            "  value {value_bytes:>4} B: {items:>9} readable, {over:.1} B over, \
             {:.2} B of index, resident {:.3} of size, {} of {} segments free, {} crowded",
            overview.index_bytes as f64 / items as f64,
            resident as f64 / bytes as f64,
            overview.free,
            overview.segments,
            store.counts.crowded,
        );
    }
}

/// The share of requests that hit, after a third of them.
fn hit_ratio(bytes: usize, alpha: f64, once: f64) -> (f64, SegmentStore) {
    const OBJECTS: usize = 1_000_000;
    const REQUESTS: usize = 1_500_000;
    let zipf = Zipf::new(OBJECTS, alpha);
    let mut random = Random::new(42);
    let mut store = store(bytes);
    let (mut hits, mut asked, mut next) = (0, 0, OBJECTS);
    let mut out = [0; 100];
    for i in 0..REQUESTS {
        let object = if random.unit() < once {
            next += 1;
            next
        } else {
            zipf.draw(&mut random)
        };
        let key = key(object);
        let hash = store.hash(&key);
        let is_hit = get_hashed(&mut store, &key, hash, &mut out);
        if !is_hit {
            assert!(set_hashed(&mut store, &key, hash, &[b'v'; 100]));
        }
        if i % 32 == 0 {
            store.turn(NOW);
        }
        if i >= REQUESTS / 3 {
            asked += 1;
            hits += usize::from(is_hit);
        }
    }
    (f64::from(hits as u32) / f64::from(asked as u32), store)
}

fn hits() {
    let mut bytes = 100_000 * 134;
    for _ in 0..2 {
        let items = kept(&mut store(bytes), 100, 3, bytes);
        println!("{items} items fit {bytes} B");
        bytes = (bytes as f64 * 100_000.0 / items as f64) as usize;
    }
    for (alpha, once, target) in [(0.9, 0.0, 0.67), (1.0, 0.0, 0.79), (1.0, 0.25, 0.565)] {
        let (ratio, store) = hit_ratio(bytes, alpha, once);
        let counts = store.counts;
        println!(
            "zipf {alpha} with {once} once: {ratio:.4} (at least {target}); moved {:.2} a set, \
             {} recalled, {} crowded, {} items at the end",
            counts.moved as f64 / counts.stored as f64,
            counts.recalled,
            counts.crowded,
            store.items(),
        );
    }
}

/// Requests whose buckets and records are asked for before the first of them is carried out.
const BATCH: usize = 32;

/// Ranks of four million requests, most of them for popular objects.
fn popular(items: usize) -> Vec<u32> {
    let zipf = Zipf::new(items, 0.99);
    let mut random = Random::new(7);
    // Which object has which rank is mixed, so that the popular ones do not lie together.
    (0..4_000_000)
        .map(|_| (zipf.draw(&mut random) as u64 * 0x9e37_79b1 % items as u64) as u32)
        .collect()
}

fn get_speed(items: usize) {
    let ranks = popular(items);
    let value = [b'v'; 100];
    let mut full = store(items * 145 + (16 << 20));
    for i in 0..items {
        assert!(set(&mut full, &key(i), &value));
    }
    let there = full.items();
    let mut out = [0; 100];
    let mut hit = 0;
    let (gets_s, _) = timed(&mut full, &ranks, |store, key, hash| {
        hit += usize::from(get_hashed(store, key, hash, &mut out));
    });
    println!("get: {gets_s:.2} M/s of {there} items, {hit} of {} hit", ranks.len());
}

fn set_speed(items: usize) {
    let ranks = popular(items);
    let value = [b'v'; 100];
    let mut small = store(items * 145 / 10);
    for &rank in &ranks[..1_000_000] {
        assert!(set(&mut small, &key(rank as usize), &value));
    }
    for uniform in [false, true] {
        let mut random = Random::new(3);
        let any: Vec<u32>;
        let ranks = if uniform {
            any = ranks.iter().map(|_| random.below(items as u64) as u32).collect();
            &any
        } else {
            &ranks
        };
        let before = small.counts;
        let (sets_s, _) = timed(&mut small, ranks, |store, key, hash| {
            assert!(set_hashed(store, key, hash, &value));
        });
        let n = ranks.len() as f64;
        println!(
            "set while evicting, {}: {sets_s:.2} M/s; evicted {:.2}, moved {:.2}, scanned {:.2} \
             a set; {} kicks, {} of {} segments free",
            if uniform { "uniform" } else { "zipf" },
            (small.counts.evictions - before.evictions) as f64 / n,
            (small.counts.moved - before.moved) as f64 / n,
            (small.counts.scanned - before.scanned) as f64 / n,
            small.kicks(),
            small.overview(NOW).free,
            small.overview(NOW).segments,
        );
    }
}

/// Millions of operations a second in batches, with prefetches in two steps, and a turn each.
fn timed(
    store: &mut SegmentStore,
    ranks: &[u32],
    mut operation: impl FnMut(&mut SegmentStore, &[u8], u64),
) -> (f64, f64) {
    let keys: Vec<_> = ranks.iter().map(|&rank| key(rank as usize)).collect();
    let start = Instant::now();
    let cpu = cpu_ns();
    for keys in keys.as_chunks::<BATCH>().0 {
        let hashes = keys.each_ref().map(|key| store.hash(key));
        hashes.iter().for_each(|&hash| store.prefetch_index(hash));
        hashes.iter().for_each(|&hash| store.prefetch_record(hash));
        for (key, hash) in keys.iter().zip(hashes) {
            operation(store, key, hash);
        }
        store.turn(NOW);
    }
    let cpu_s = (cpu_ns() - cpu) as f64 / 1e9;
    (ranks.len() as f64 / 1e6 / cpu_s, start.elapsed().as_secs_f64())
}

/// What this thread has used of a CPU.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A set of `n` bytes: what it took of a CPU, without the copying of a long value, which arrives in
/// pieces, in other turns; and whether there was room.
fn timed_set(store: &mut SegmentStore, key: &[u8], value: &[u8]) -> (u64, bool) {
    let hash = store.hash(key);
    let start = cpu_ns();
    let old = store.find(key, hash, NOW);
    if let Some(old) = &old {
        store.note_use(old);
    }
    let new = plain(key, hash, value);
    let made = store.make(&new, old.as_ref(), NOW);
    let made_ns = cpu_ns() - start;
    let Some(made) = made else { return (made_ns, false) };
    let start = cpu_ns();
    store.write_value(made, PieceCursor::default(), 0, value);
    let copied_ns = if value.len() < 32 << 10 { cpu_ns() - start } else { 0 };
    let start = cpu_ns();
    let old = old.and_then(|old| store.refresh(old, key, hash));
    store.publish(made, hash, old.as_ref());
    (made_ns + copied_ns + cpu_ns() - start, true)
}

/// How long a set waits for room, as in the memory tier.
const PATIENCE_NS: u64 = 100_000_000;

/// The longest single call where all memory is full of mixed sizes up to 1 MB.
///
/// `is_shift`: first all is full of the smallest, then come values of 100 kB to 1 MB.
fn steps(bytes: usize, is_shift: bool) {
    let mut store = store(bytes);
    let mut random = Random::new(11);
    let value = vec![b'v'; 1_000_000];
    let objects = bytes / 3000;
    let (mut sets, mut turns) = (Vec::new(), Vec::new());
    let (mut late, mut failed, mut longest_ns) = (0_u64, 0_u64, 0);
    let mut written = 0;
    if is_shift {
        // So much that every byte was written once, since the first time takes the kernel long.
        (0..bytes / 12).for_each(|i| {
            set(&mut store, &key(i), &value[..10]);
        });
        written = 2 * bytes;
    }
    while written < 8 * bytes {
        if written < 2 * bytes {
            // Memory is mapped and filled first.
            sets.clear();
            turns.clear();
        }
        // Log-uniform: as many from 10 B to 100 B as from 100 kB to 1 MB.
        let exponent = if is_shift { 5.0 + random.unit() } else { 1.0 + 5.0 * random.unit() };
        let n = 10_f64.powf(exponent) as usize;
        let key = key(random.below(objects as u64) as usize);
        let (set_ns, mut is_stored) = timed_set(&mut store, &key, &value[..n]);
        sets.push(set_ns);
        late += u64::from(!is_stored);
        // A server tries again after each turn, for so long.
        let mut waited_ns = 0;
        while !is_stored && waited_ns < PATIENCE_NS {
            let start = cpu_ns();
            store.turn(NOW);
            turns.push(cpu_ns() - start);
            let (set_ns, is_stored_now) = timed_set(&mut store, &key, &value[..n]);
            sets.push(set_ns);
            is_stored = is_stored_now;
            waited_ns += cpu_ns() - start;
        }
        failed += u64::from(!is_stored);
        longest_ns = longest_ns.max(waited_ns);
        written += n;
        for _ in 0..1 + n / (64 << 10) {
            let start = cpu_ns();
            store.turn(NOW);
            turns.push(cpu_ns() - start);
        }
    }
    let first = if is_shift { "100 kB, after 10 B," } else { "10 B" };
    let overview = store.overview(NOW);
    println!(
        "{} MiB of values of {first} to 1 MB: {late} sets found no room at once, the longest wait \
         took {:.1} ms, {failed} failed; {:.1} % of all is index:",
        bytes >> 20,
        longest_ns as f64 / 1e6,
        overview.index_bytes as f64 * 100.0 / bytes as f64,
    );
    print_times("sets", sets);
    print_times("turns", turns);
}

fn print_times(name: &str, mut times: Vec<u64>) {
    times.sort_unstable();
    let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize] as f64 / 1000.0;
    println!(
        "  {} {name}: p50 {:.1} p99.9 {:.1} p99.99 {:.1} p99.999 {:.1} max {:.1} us of CPU",
        times.len(),
        at(0.5),
        at(0.999),
        at(0.9999),
        at(0.99999),
        at(1.0),
    );
}

/// One operation so often, to have its instructions counted: with 1,000 items.
fn count(case: &str, n: usize) {
    const ITEMS: usize = 1000;
    let mut store = store(ITEMS * 256 + (1 << 20));
    let value = [b'v'; 100];
    (0..ITEMS).for_each(|i| assert!(set(&mut store, &key(i), &value)));
    let mut random = Random::new(1);
    let mut out = [0; 100];
    for _ in 0..n {
        let i = random.below(ITEMS as u64) as usize;
        let key = key(if case == "get-miss" { ITEMS + i } else { i });
        match case {
            "key" => {
                black_box(key);
            }
            "get-hit" => {
                let hash = store.hash(&key);
                let found = store.find(&key, hash, NOW).expect("it is there");
                store.note_use(&found);
                let opened = store.open(&found).expect("few readers");
                let bytes = store.value_at(&opened, PieceCursor::default(), 0).0;
                out[..bytes.len()].copy_from_slice(bytes);
                black_box(store.cas(&found));
                store.close(&opened);
            }
            "read" => {
                let hash = store.hash(&key);
                assert!(get_hashed(&mut store, &key, hash, &mut out));
            }
            "get-miss" => {
                let hash = store.hash(&key);
                assert!(store.find(&key, hash, NOW).is_none());
            }
            "set" => assert!(set(&mut store, &key, &value)),
            "delete-and-set" => {
                let hash = store.hash(&key);
                let found = store.find(&key, hash, NOW).expect("it is there");
                store.kill(&found);
                assert!(set(&mut store, &key, &value));
            }
            _ => panic!("no such case"),
        }
        black_box(&out);
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let has = |word: &str| words.iter().any(|it| it == word);
    let mib = words.iter().find_map(|word| word.strip_suffix("MiB")?.parse::<usize>().ok());
    if let Some(at) = words.iter().position(|word| word == "count") {
        return count(&words[at + 1], words[at + 2].parse().expect("a number"));
    }
    if has("hits") {
        hits();
    }
    if has("capacity") {
        capacity(mib.unwrap_or(1024) << 20);
    }
    if has("speed") || has("gets") {
        get_speed(10_000_000);
    }
    if has("speed") || has("sets") {
        set_speed(10_000_000);
    }
    if has("restart") {
        restart(mib.unwrap_or(1024) << 20);
    }
    if has("steps") {
        steps(mib.unwrap_or(256) << 20, false);
        steps(mib.unwrap_or(256) << 20, true);
    }
}
