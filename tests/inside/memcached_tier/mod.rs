//! The memcached tier against a real memcached, and against scripted servers that misbehave.

mod commands;
mod faults;
pub mod fixture;
mod lookups;
mod outages;
mod swallowed;
