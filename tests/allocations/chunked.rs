//! A value in chunks is written, read, touched and deleted without an allocation, however many
//! chunks it has.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::alone;
use crate::counting::CALLS;
use crate::fixture::{Folder, Memcached, key};
use sunder::base::buffer::{self, Chain};
use sunder::base::clock::{Clock, Expiry};
use sunder::base::stats::WorkerStats;
use sunder::tier::link::{self, Address};
use sunder::tier::memcached::chunked::{Chunked, ChunkedConfig};
use sunder::tier::{Outcome, Store, StoreMode, Tier};

fn run<T>(tier: &Chunked, clock: Clock, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        let now = clock.read();
        tier.turn(now);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        tier.flush(now);
    }
}

#[test]
fn chunks_do_not_allocate() {
    let _alone = alone();
    buffer::prepare_thread();
    let folder = Folder::new();
    let _memcached = Memcached::start(&folder.socket(), &[]);
    let clock = Clock::start();
    let stats = Arc::new(WorkerStats::default());
    let link = link::LinkConfig {
        timeout_us: 20_000_000,
        ..link::LinkConfig::new(Address::Unix(folder.socket()), stats)
    };
    let config = ChunkedConfig { link, chunk_bytes: 1184, item_bytes_max: 1 << 20 };
    let tier = Chunked::open(config, clock.read()).unwrap_or_else(|error| panic!("{error}"));
    let store = Store { mode: StoreMode::Set, flags: 3, expiry: Expiry::NEVER, cas: 0 };
    let names = [key(b"some:key"), key(b"not a text"), key(&[b'k'; 250])];
    let values = [10_000, 300_000].map(|len| Chain::from_slice(&vec![7; len]));
    let mut before = 0;
    for round in 0..60 {
        if round == 10 {
            before = CALLS.get();
        }
        let now = clock.read();
        for name in &names {
            for value in &values {
                let stored = run(&tier, clock, tier.store(name, store, value, now));
                assert!(matches!(stored, Outcome::Stored { .. }));
                let Outcome::Hit(hit) = run(&tier, clock, tier.get(name, now)) else {
                    panic!("a hit")
                };
                assert_eq!(hit.value.len(), value.len());
                let touched = run(&tier, clock, tier.touch(name, Expiry::NEVER, now));
                assert!(matches!(touched, Outcome::Touched { .. }));
            }
            let append = Store { mode: StoreMode::Append, ..store };
            let appended = run(&tier, clock, tier.store(name, append, &values[0], now));
            assert!(matches!(appended, Outcome::Stored { .. }));
            assert!(matches!(run(&tier, clock, tier.delete(name, 0, now)), Outcome::Deleted));
        }
    }
    assert_eq!(CALLS.get(), before);
    drop(vec![0_u8; 100]);
    assert!(CALLS.get() > before, "the counter counts");
}
