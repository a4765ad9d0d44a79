//! Parts of sunder inside the test's own process, step by step: whole workers, and the tiers whose
//! items are in other servers.
//!
//! One binary, for each links anew all that a test needs; see `tests/server`.

#[path = "../common/mod.rs"]
mod common;
mod memcached_chunked;
mod memcached_tier;
mod rend_tier;
#[path = "../support/mod.rs"]
mod support;
mod task;
mod worker;
