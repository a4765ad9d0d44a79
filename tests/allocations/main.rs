//! Code that allocates nothing after start: workers, tiers and links. Uses a counting allocator,
//! and is therefore separate from the other tests.

mod chunked;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/counting.rs"]
mod counting;
#[path = "../inside/memcached_tier/fixture.rs"]
#[allow(dead_code, reason = "shared with the tests of the tiers")]
mod fixture;
mod link;
mod memory;
mod worker;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One server at a time: all share the process's depot of blocks.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // The state left by a failed test does not matter.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
