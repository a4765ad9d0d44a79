//! The memory tier allocates nothing once it has started.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::alone;
use crate::counting::CALLS;
use sunder::base::buffer::{self, Chain, Key};
use sunder::base::clock::{Expiry, Now};
use sunder::base::stats::{Counter, WorkerStats};
use sunder::tier::memory::{Memory, MemoryConfig};
use sunder::tier::{Arithmetic, Outcome, Store, StoreMode, Tier, Value};

fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory tier never waits"),
    }
}

fn store(memory: &Memory, mode: StoreMode, key: &Key, value: &[u8], now: Now) {
    let value = Chain::from_slice(value);
    let store = Store { mode, flags: 1, expiry: Expiry::from_exptime(5, now), cas: 0 };
    now_or_never(memory.store(key, store, &value, now));
}

/// One round of every command, with enough keys to evict items, and values that need several
/// extents.
fn round(memory: &Memory, now: Now, large: &[u8], out: &mut [u8]) {
    for i in 0..5000_u32 {
        let key = Key::new(&i.to_ne_bytes()).expect("short");
        store(memory, StoreMode::Set, &key, &large[..(i % 900) as usize], now);
        if i % 500 == 0 {
            store(memory, StoreMode::Set, &key, large, now);
        }
        store(memory, StoreMode::Append, &key, b"tail", now);
        store(memory, StoreMode::Add, &key, b"no", now);
        if let Outcome::Hit(hit) = now_or_never(memory.get(&key, now)) {
            if i % 2 == 0 {
                store(memory, StoreMode::Replace, &key, b"1", now);
            }
            hit.value.copy_to(0, out);
        }
        let arithmetic = Arithmetic { decrement: false, delta: 99, initial: None, cas: 0 };
        now_or_never(memory.arithmetic(&key, arithmetic, now));
        now_or_never(memory.touch(&key, Expiry::NEVER, now));
        let miss = Key::new(&(i + 1_000_000).to_ne_bytes()).expect("short");
        now_or_never(memory.get(&miss, now));
        if i % 3 == 0 {
            now_or_never(memory.delete(&key, 0, now));
        }
        memory.turn(now);
    }
    now_or_never(memory.flush_all(Expiry::NEVER, now));
}

#[test]
fn commands_do_not_allocate() {
    let _alone = alone();
    buffer::prepare_thread();
    let stats = Arc::new(WorkerStats::default());
    let config = MemoryConfig {
        bytes: 400_000,
        item_bytes_max: 1 << 19,
        worker: 0,
        workers: 1,
        stats: Arc::clone(&stats),
    };
    let memory = Memory::new(config).expect("four hundred kilobytes");
    let large = vec![7; 200_000];
    let mut out = vec![0; 200_000];
    let before = CALLS.get();
    for second in 0..3 {
        let now = Now { uptime_us: second * 1_000_000, unix_s: 1000 + second as u32 };
        round(&memory, now, &large, &mut out);
    }
    assert_eq!(CALLS.get(), before);
    assert!(stats.get(Counter::Evictions) > 1000, "the cache is full");
    drop(vec![0_u8; 100]);
    assert!(CALLS.get() > before, "the counter counts");
}
