//! One command of the memory tier: 20-byte keys in random order, 100-byte values. Each includes
//! creating the key.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use sunder::base::buffer::{Chain, Key};
use sunder::base::clock::{Expiry, Now};
use sunder::base::stats::{Counter, WorkerStats};
use sunder::tier::memory::{Memory, MemoryConfig};
use sunder::tier::{Outcome, Store, StoreMode, Tier, Value};

/// The time of all commands.
pub const NOW: Now = Now { uptime_us: 1_000_000, unix_s: 1_800_000_000 };
const VALUE_BYTES: usize = 100;

/// The answer of the tier, which is immediate.
pub fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory tier never waits"),
    }
}

/// The key with this number, 20 bytes.
pub fn key(mut i: usize) -> Key {
    let mut bytes = *b"key:0000000000000000";
    let mut at = bytes.len();
    while i > 0 {
        at -= 1;
        bytes[at] = b'0' + (i % 10) as u8;
        i /= 10;
    }
    Key::new(&bytes).expect("20 bytes")
}

/// A generator of positions that is cheap compared with the measured work (xorshift64).
pub struct Random(pub u64);

impl Random {
    /// Below `n`, evenly distributed.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * n as u128) >> 64) as usize
    }
}

/// An empty tier and its counters.
pub fn memory(bytes: usize) -> (Memory, Arc<WorkerStats>) {
    let stats = Arc::new(WorkerStats::default());
    let config = MemoryConfig {
        bytes,
        item_bytes_max: 1 << 20,
        worker: 0,
        workers: 1,
        stats: Arc::clone(&stats),
    };
    (Memory::new(config).expect("address space"), stats)
}

/// Stores a value that must fit.
pub fn set(memory: &Memory, key: &Key, value: &[u8]) {
    let value = Chain::from_slice(value);
    let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
    let outcome = now_or_never(memory.store(key, store, &value, NOW));
    assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
}

/// Keys whose items are prefetched before the first of them is used.
const AHEAD: usize = 16;

fn get(memory: &Memory, key: &Key, out: &mut [u8; VALUE_BYTES]) {
    let Outcome::Hit(hit) = now_or_never(memory.get(key, NOW)) else {
        panic!("every key is there");
    };
    hit.value.copy_to(0, out);
    black_box(out);
}

/// A name and one operation.
pub type Case = (&'static str, Box<dyn FnMut()>);

/// Every case with its name, on a tier with this many items.
pub fn cases(items: usize) -> Vec<Case> {
    let (memory, stats) = memory(items * 256 + (1 << 20));
    let memory = Rc::new(memory);
    for i in 0..items {
        set(&memory, &key(i), &[b'v'; VALUE_BYTES]);
    }
    assert_eq!(stats.get(Counter::CurrItems), items as u64);
    // Each case has its own part of these.
    let random = || Random(0x9e37_79b9_7f4a_7c15);
    let mut cases: Vec<Case> = Vec::new();
    let (tier, mut any, mut out) = (Rc::clone(&memory), random(), [0; VALUE_BYTES]);
    cases.push(("get-hit", Box::new(move || get(&tier, &key(any.below(items)), &mut out))));
    cases.push(("get-hit-16-ahead", get_ahead(Rc::clone(&memory), items)));
    let (tier, mut any) = (Rc::clone(&memory), random());
    cases.push((
        "get-miss",
        Box::new(move || {
            let outcome = now_or_never(tier.get(&key(items + any.below(items)), NOW));
            assert!(matches!(outcome, Outcome::Miss));
        }),
    ));
    let (tier, mut any) = (Rc::clone(&memory), random());
    cases.push(("set", Box::new(move || set(&tier, &key(any.below(items)), &[b'v'; VALUE_BYTES]))));
    let (tier, mut any, mut calls) = (Rc::clone(&memory), random(), 0);
    cases.push((
        "set-other-size",
        Box::new(move || {
            calls += 1;
            let value = &[b'w'; VALUE_BYTES + 40][..VALUE_BYTES + calls % 2 * 40];
            set(&tier, &key(any.below(items)), value);
        }),
    ));
    let (tier, mut any) = (memory, random());
    cases.push((
        "delete-and-set",
        Box::new(move || {
            let key = key(any.below(items));
            now_or_never(tier.delete(&key, 0, NOW));
            set(&tier, &key, &[b'v'; VALUE_BYTES]);
        }),
    ));
    cases.push(("set-that-evicts", set_that_evicts(items)));
    cases
}

fn get_ahead(tier: Rc<Memory>, items: usize) -> Box<dyn FnMut()> {
    let (mut any, mut out, mut calls) = (Random(1), [0; VALUE_BYTES], 0);
    let mut batch: [Key; AHEAD] = std::array::from_fn(key);
    Box::new(move || {
        if calls % AHEAD == 0 {
            batch = std::array::from_fn(|_| key(any.below(items)));
            let tags = batch.each_ref().map(|key| tier.prefetch_index(key.as_bytes()));
            tags.iter().for_each(|&tag| tier.prefetch_item(tag));
        }
        get(&tier, &batch[calls % AHEAD], &mut out);
        calls += 1;
    })
}

/// Keys one after another, four times as many as fit, so that each is a new one.
fn set_that_evicts(items: usize) -> Box<dyn FnMut()> {
    let (tier, stats) = memory(items * 176);
    let mut next = 0;
    let mut store = move || {
        set(&tier, &key(next % (4 * items)), &[b'v'; VALUE_BYTES]);
        next += 1;
    };
    (0..2 * items).for_each(|_| store());
    assert!(stats.get(Counter::Evictions) > 0);
    Box::new(store)
}
