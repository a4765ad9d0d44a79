//! sunder: a memcached-compatible cache appliance.
//!
//! ```text
//! DPDK device ─ net::nic ─ net::tcp ─┐                             ┌ tier::memory
//!   frames       bursts    smoltcp   ├─ connection ─ orchestrator ─┤   in this process
//! kernel TCP ─ net::kernel ──────────┘  parse;       l1_only       ├ tier::memcached
//! unix socket                           replies in   l1_l2         │   plain, chunked: over a link
//!                                       order        l1_l2_batch   └ tier::rend
//!                                                                      a server with GETE
//!             one worker = one core = one pass of this picture, over and over;
//!             nothing shared but mailboxes and counters
//! ```
//!
//! Bytes flow from left to right and results from right to left. A module imports only what stands
//! to its right, or base ([`limits`], [`clock`], [`stats`], [`buffer`], [`readiness`], [`secret`],
//! [`console`], [`report`], [`work`], [`random`], [`usage`]).
//! Only `worker`, `serve` and `main` see it whole. [`load`] holds the tools, which are clients.
//!
//! # A server of one's own
//!
//! [`serve::serve`] is what the command runs: all that a [`config::Config`] can say.
//! [`serve::serve_with`] takes transport and limits from the config and the rest from its caller: a
//! closure that makes one worker's orchestrator out of tiers, on that worker's thread. Any
//! [`orchestrator::Orchestrator`] over any [`tier::Tier`] will do. [`serve::Server`] does the same
//! and can be stopped and asked for its counters by the program around it; the process's signals
//! are that program's own, unless it gives them to the server.
//!
//! ```no_run
//! use std::sync::Arc;
//! use sunder::config::{Config, L2, l2};
//! use sunder::orchestrator::l1_l2::L1L2;
//! use sunder::serve::serve_with;
//!
//! // Kernel sockets, a small L1 in this process before a memcached, the batch port on 11212.
//! let l2 = l2("memcached,addr=unix:/run/memcached.sock").expect("a tier");
//! let config = Config { port: 11211, l2: l2.clone(), ..Config::default() };
//! let L2::Memcached(memcached) = l2 else { unreachable!("said above") };
//! serve_with(&config, |worker| {
//!     let l1 = worker.memory(256 << 20)?;
//!     let l2 = worker.memcached("--l2", &memcached)?;
//!     Ok(L1L2::new(l1, l2, Arc::clone(worker.stats())))
//! })
//! .expect("it serves until it is told to stop");
//! ```

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod buffer;
pub mod clock;
pub mod console;
pub mod limits;
pub mod random;
pub mod readiness;
pub mod report;
pub mod secret;
pub mod stats;
pub mod usage;
pub mod work;

pub mod cli;
pub mod config;
pub mod connection;
pub mod load;
pub mod mailbox;
pub mod net;
pub mod orchestrator;
pub mod protocol;
pub mod serve;
pub mod tier;
pub mod worker;
