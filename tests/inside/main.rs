//! Parts of sunder in the test's own process, step by step: whole workers, and the tiers whose
//! items are in other servers.
//!
//! One binary, because each one links sunder again; see `tests/server`.

#[path = "../common/mod.rs"]
mod common;
mod memcached_chunked;
mod memcached_tier;
mod rend_tier;
mod store_killed;
#[path = "../support/mod.rs"]
mod support;
mod worker;
