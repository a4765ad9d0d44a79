//! What allocates nothing once it has started: workers, the tiers and the links. With an allocator
//! that counts, and so apart from the other tests.

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
#[path = "../inside/task.rs"]
mod task;
mod worker;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One server at a time, as a process has: all share the depot of blocks.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // What a failed test left is no matter.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
