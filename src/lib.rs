//! sunder: a memcached-compatible cache appliance.
//!
//! ```text
//! DPDK device ─ net::nic ─ net::tcp ─┐                             ┌ tier::memory
//!   frames       bursts    smoltcp   ├─ connection ─ orchestrator ─┤   in this process
//! kernel TCP ─ net::kernel ──────────┘  parse;       l1_only       ├ tier::memcached
//! unix socket                           replies in   l1_l2         │   plain, chunked: over a link
//!                                       order                      ├ tier::rend
//!                                                                  │   a server with GETE
//!                                                                  └ tier::ssd
//!                                                                      a log on a disk
//!             one worker = one core = one pass of this picture, over and over;
//!             nothing shared but mailboxes and counters
//! ```
//!
//! Bytes flow from left to right and results from right to left. A module imports only what stands
//! to its right, or `base`: memory, time, limits, counters.
//! Only `worker` and `serve` see it whole. `admin` reads what the workers count. `load` holds the
//! tools, which are clients; `top` shows what `admin` says.
//!
//! # Measure a server
//!
//! [`bench::measure`] is the load client of `sunder bench`.
//!
//! # Compose a server
//!
//! [`serve::serve`] is what the command runs: all that a [`config::Config`] can say.
//! [`serve::serve_with`] takes transport and limits from the config and the rest from its caller: a
//! closure that makes one worker's orchestrator out of tiers, on that worker's thread. Any
//! [`Orchestrator`] over any [`Tier`] will do. [`serve::Server`] does the same and can be stopped
//! and asked for its counters by the program around it; the process's signals are that program's
//! own, unless it gives them to the server.
//!
//! ```no_run
//! use std::sync::Arc;
//! use sunder::L1L2;
//! use sunder::config::{Address, Config, L2, Layout, Link, Memcached};
//! use sunder::serve::{Level, serve_with};
//!
//! // Kernel sockets, a small L1 in this process before a memcached, the batch port on 11212.
//! let address = Address::Unix("/run/memcached.sock".into());
//! let link = Link { address, timeout_us: 500_000 };
//! let memcached = Memcached { link, layout: Layout::Plain, starts_empty: false };
//! let l2 = L2::Memcached(memcached.clone());
//! let config = Config { port: 11211, l2, ..Config::default() };
//! serve_with(&config, |worker| {
//!     let l1 = worker.memory(256 << 20)?;
//!     let l2 = worker.memcached(Level::L2, &memcached)?;
//!     Ok(L1L2::new(l1, l2, Arc::clone(worker.stats())))
//! })
//! .expect("it serves until a stop is requested");
//! ```

#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    not(feature = "dpdk"),
    allow(
        dead_code,
        unused_imports,
        reason = "the TCP stack and what it needs serve devices alone"
    )
)]

pub mod config;
pub mod serve;

/// The load client of `sunder bench`: how fast a server answers, and how long it takes to.
///
/// ```no_run
/// use std::time::Duration;
/// use sunder::bench::{Load, Plan, Target, measure};
///
/// // 20,000 requests a second, each at its time, whatever the server does meanwhile.
/// let mut plan = Plan::new(Target::Tcp("127.0.0.1".to_owned(), 11211));
/// plan.load = Load::Open(20_000.0);
/// plan.duration = Duration::from_secs(5);
/// let result = measure(&plan)?;
/// let step = &result.steps[0];
/// assert!(result.is_right(), "{} errors, {} wrong values", step.errors, step.mismatches);
/// assert!(step.rate > 19_900.0, "only {:.0} answers a second", step.rate);
/// assert!(step.latency.all.value_ns(0.99) < 1_000_000, "99 % took up to a millisecond");
/// # Ok::<(), sunder::bench::Failure>(())
/// ```
pub mod bench {
    pub use crate::load::bench::{Failure, Lengths, Load, Plan, measure};
    pub use crate::load::login::Login;
    pub use crate::load::result::{Latency, Outages, RunResult, Spectrum, Step};
    pub use crate::load::stream::Target;
    pub use crate::load::wire::Dialect;
}

// The inside, which this package's own tests, benches and examples see. Each is declared twice and
// in full: rustfmt finds no module that a macro declares.
#[cfg(not(feature = "internals"))]
mod admin;
#[cfg(feature = "internals")]
pub mod admin;
#[cfg(not(feature = "internals"))]
mod base;
#[cfg(feature = "internals")]
pub mod base;
#[cfg(not(feature = "internals"))]
mod cli;
#[cfg(feature = "internals")]
pub mod cli;
#[cfg(not(feature = "internals"))]
mod connection;
#[cfg(feature = "internals")]
pub mod connection;
#[cfg(not(feature = "internals"))]
mod doctor;
#[cfg(feature = "internals")]
pub mod doctor;
#[cfg(not(feature = "internals"))]
mod load;
#[cfg(feature = "internals")]
pub mod load;
#[cfg(not(feature = "internals"))]
mod mailbox;
#[cfg(feature = "internals")]
pub mod mailbox;
#[cfg(not(feature = "internals"))]
mod net;
#[cfg(feature = "internals")]
pub mod net;
#[cfg(not(feature = "internals"))]
mod orchestrator;
#[cfg(feature = "internals")]
pub mod orchestrator;
#[cfg(not(feature = "internals"))]
mod protocol;
#[cfg(feature = "internals")]
pub mod protocol;
#[cfg(not(feature = "internals"))]
mod remedies;
#[cfg(feature = "internals")]
pub mod remedies;
#[cfg(not(feature = "internals"))]
mod report;
#[cfg(feature = "internals")]
pub mod report;
#[cfg(not(feature = "internals"))]
mod tier;
#[cfg(feature = "internals")]
pub mod tier;
#[cfg(not(feature = "internals"))]
mod top;
#[cfg(feature = "internals")]
pub mod top;
#[cfg(not(feature = "internals"))]
mod worker;
#[cfg(feature = "internals")]
pub mod worker;

pub use base::buffer::{Body, Chain, Gather, Key};
pub use base::clock::{Clock, Expiry, Now};
pub use base::stats::{Counter, WorkerStats};
pub use cli::main;
pub use orchestrator::l1_l2::L1L2;
pub use orchestrator::l1_only::L1Only;
pub use orchestrator::{InL1, Operation, Orchestrator, PortRole};
pub use tier::memory::Memory;
pub use tier::remote::Remote;
pub use tier::rend::Rend;
pub use tier::ssd::Ssd;
pub use tier::{
    Action, Arithmetic, Draft, Hit, ItemInfo, ItemState, Meta, MetaFlags, MetaVerb, Outcome, Store,
    StoreMode, Take, Tier, Value,
};
