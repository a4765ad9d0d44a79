//! The chunked layout against a real memcached: Rend's format byte by byte, whole values or none,
//! and memcached's own semantics.

mod commands;
#[path = "../memcached_tier/fixture.rs"]
#[allow(dead_code, reason = "shared with the tests of the other layout")]
mod fixture;
mod format;
mod integrity;
mod model;
mod names;
mod races;
mod rig;
