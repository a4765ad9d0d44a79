//! Modules that all others may use and that use none of them: memory, time, limits, counters.

pub mod account;
pub mod attempts;
pub mod buffer;
pub mod clock;
pub mod console;
pub mod credentials;
pub mod files;
pub mod latency;
pub mod limits;
pub mod lines;
pub mod networks;
pub mod password;
pub mod random;
pub mod readiness;
pub mod rights;
pub mod secret;
pub mod spent;
pub mod stats;
pub mod usage;
#[cfg(test)]
pub mod woken;
pub mod work;
