//! The memcached tier with a real memcached, and with scripted servers that misbehave.

mod commands;
mod faults;
pub mod fixture;
mod lookups;
mod outages;
mod swallowed;
