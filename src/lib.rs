//! sunder: a memcached-compatible cache appliance.
//!
//! ```text
//! DPDK device ─ net::nic ─ net::tcp ─┐
//!   frames       bursts    smoltcp   ├─ connection ─ orchestrator ─ tier::memory
//! kernel TCP ─ net::kernel ──────────┘  parse;       l1_only        L1 in this process
//! unix socket                           replies in
//!                                       order
//!             one worker = one core = one pass of this picture, over and over;
//!             nothing shared but mailboxes and counters
//! ```
//!
//! Bytes flow from left to right and results from right to left. A module imports only what stands
//! to its right, or base ([`limits`], [`clock`], [`stats`], [`buffer`], [`secret`]). Only `worker`
//! and `main` see it whole.

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod buffer;
pub mod clock;
pub mod limits;
pub mod readiness;
pub mod secret;
pub mod stats;

pub mod cli;
pub mod config;
pub mod connection;
pub mod mailbox;
pub mod net;
pub mod orchestrator;
pub mod protocol;
pub mod serve;
pub mod tier;
pub mod worker;
