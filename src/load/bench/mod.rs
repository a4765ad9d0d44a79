//! `sunder bench`: how fast a server answers, and how long it takes to.
//!
//! ```text
//! cli ────── Plan ─> crew, a thread for each share of the connections
//!                    └ drive: one task to its end ─┬─ kernel: sockets, epoll
//!                        schedule: what is due     └─ device: net::nic, net::tcp
//!                        engine ── traffic: keys, requests ── wire
//!                          └ record: latencies from the intended start ──> outcome ── result
//! ```
//!
//! The client must not be what is measured: no allocation for a request, requests written from
//! prepared lines into the transport's buffer, answers read where they arrived, one look at the
//! clock for many of them. And it must not flatter a server: in an open loop a latency begins when
//! its request was due, and what was never sent counts too.

mod backoff;
mod command;
mod crew;
#[cfg(feature = "dpdk")]
mod device;
mod drive;
mod engine;
mod kernel;
mod measure;
mod notes;
mod outcome;
mod plan;
mod record;
mod schedule;
mod server;
mod spread;
mod sweep;
#[cfg(test)]
mod tests;
mod traffic;

pub use command::{Job, run, show};
pub use measure::{Failure, measure};
pub use plan::{AsGiven, DevicePlan, Load, PORTS, Plan, VALUE_BYTES_MAX};
pub use spread::Lengths;
pub use sweep::rates;
