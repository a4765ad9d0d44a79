//! The userspace TCP stack of one worker: frames on one side, byte streams on the other.
//!
//! ```text
//! port ─ segment ─┬─ flows ── slab ── smoltcp, one socket a flow ── stream ── Handler
//!                 ├─ listen   (SYN, TIME-WAIT)            timers wake flows
//!                 └─ neighbor ether (ARP, NDP, echo), claim (our addresses), groups (MLD)
//!                             moves, resolver (where neighbours are), path (MTU)
//!                             board (for all workers)
//! port ─ wire ─ adaptor ─ smoltcp: what is sent
//! ```
//!
//! smoltcp scans every socket of a set for every segment, so each flow has its own set, and sunder
//! finds the flow. All is O(1) per segment and nothing is allocated for one. A stack never waits,
//! never trusts a frame, and exposes no smoltcp type. Its parts are in `state`, its turn in
//! `stack`.

mod adaptor;
mod board;
mod checksum;
mod claim;
mod connect;
mod credit;
pub mod device;
mod ether;
pub mod fault;
mod flows;
mod groups;
pub(crate) mod headers;
mod ingress;
mod listen;
mod loss;
mod moves;
mod neighbor;
mod own;
mod path;
mod places;
mod resolver;
mod segment;
mod settle;
mod slab;
mod stack;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod timers;
mod too_big;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;

pub use board::Board;
pub use connect::ConnectError;
pub use own::{Taken, mac_text};
pub use state::{Stack, check};

use super::Admission;
use crate::base::limits::{TCP_ADDRESSES_MAX, TCP_LISTENERS_MAX};
use crate::base::networks::Networks;

/// An address of the appliance and its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The address itself, not the network's.
    pub address: IpAddr,
    /// Bits of the network's prefix.
    pub prefix_bits: u8,
}

/// The settings of a stack.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// Our addresses, at most [`TCP_ADDRESSES_MAX`].
    pub addresses: Vec<Cidr>,
    /// Routers for destinations outside our networks, at most one of each family. Only connections
    /// that we open need them: peers are answered through the MAC they came from.
    pub gateways: Vec<IpAddr>,
    /// Ports to listen on, at most [`TCP_LISTENERS_MAX`]. The index in this list is the listener
    /// number of [`super::Handler::opened`].
    pub ports: Vec<u16>,
    /// The peers that may connect to each of these ports; a port without an entry: all.
    pub allow: Vec<Networks>,
    /// Most connections at the same time, all workers together: memory is reserved for as many.
    pub connections_max: usize,
    /// Counts the connections of all workers.
    pub admission: Arc<Admission>,
    /// Information shared by the stacks of one device.
    pub board: Arc<Board>,
    /// A connection on which nothing arrived for this long is closed, in microseconds; 0 for never.
    pub idle_timeout_us: u64,
    /// Random bytes of this process, from which initial sequence numbers and hashes are keyed.
    /// Whoever knows them can forge segments.
    pub secret: [u8; 32],
}

/// Why a stack cannot be created.
#[derive(Debug)]
pub enum ConfigError {
    /// No address, more than [`TCP_ADDRESSES_MAX`], or not the address of a host.
    Addresses,
    /// More than [`TCP_LISTENERS_MAX`] ports, or port 0.
    Ports,
    /// No connections, or more than a flow's index can count.
    Connections,
    /// The kernel has no address space for that many connections.
    Memory(std::io::Error),
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConfigError::Addresses => {
                write!(f, "expected 1 to {TCP_ADDRESSES_MAX} unicast addresses with prefix lengths")
            }
            ConfigError::Ports => write!(f, "expected at most {TCP_LISTENERS_MAX} ports above 0"),
            ConfigError::Connections => write!(f, "expected 1 to 16777216 connections"),
            ConfigError::Memory(error) => write!(f, "no address space for connections: {error}"),
        }
    }
}

impl std::error::Error for ConfigError {}
