//! The memcached tier against a real memcached, and against scripted servers that misbehave.

mod commands;
mod faults;
mod fixture;
mod lookups;
mod outages;
mod swallowed;
