//! The userspace TCP stack of one worker: frames on one side, byte streams on the other.
//!
//! ```text
//! port ─ segment ─┬─ flows ── slab ── smoltcp, one socket a flow ── stream ── Handler
//!                 ├─ listen   (SYN, TIME-WAIT)            timers wake flows
//!                 └─ heard    ether (ARP, NDP, echo), claim (our addresses), groups (MLD)
//!                             moves, resolver (where neighbours are), path (MTU)
//!                             board (for all workers)
//! port ─ wire ─ adaptor ─ smoltcp: what is sent
//! ```
//!
//! smoltcp walks every socket of a set for every segment, so each flow has a set of its own, and we
//! find the flow. All is O(1) a segment and nothing is allocated for one. A stack never waits,
//! never believes a frame, and shows nobody a smoltcp type. Its parts are in `state`, its turn in
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
mod heard;
mod ingress;
mod listen;
mod loss;
mod moves;
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
pub use state::Stack;

use super::Admission;
use crate::base::limits::{TCP_ADDRESSES_MAX, TCP_LISTENERS_MAX};

/// An address of the appliance and its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The address itself, not the network's.
    pub address: IpAddr,
    /// Bits of the network's prefix.
    pub prefix_bits: u8,
}

/// What a stack is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our addresses, at most [`TCP_ADDRESSES_MAX`].
    pub addresses: Vec<Cidr>,
    /// Routers for what is outside our networks, at most one of each family. Only connections that
    /// we open need them: others are answered through whom they came from.
    pub gateways: Vec<IpAddr>,
    /// Ports to listen on, at most [`TCP_LISTENERS_MAX`]. The place in this list is the listener
    /// number of [`super::Handler::opened`].
    pub ports: Vec<u16>,
    /// Connections that there may be at once, all workers together: room is set aside for as many.
    pub connections_max: usize,
    /// Where they are counted.
    pub admission: Arc<Admission>,
    /// What the stacks of one device tell each other.
    pub board: Arc<Board>,
    /// A connection on which nothing arrived for so long is closed, in microseconds; 0 for never.
    pub idle_timeout_us: u64,
    /// Random bytes of this process, from which initial sequence numbers and hashes are keyed. Who
    /// knows them can forge segments.
    pub secret: [u8; 32],
}

/// Why a stack cannot be made.
#[derive(Debug)]
pub enum ConfigError {
    /// No address, more than [`TCP_ADDRESSES_MAX`], or one that no host can have.
    Addresses,
    /// More than [`TCP_LISTENERS_MAX`] ports, or port 0.
    Ports,
    /// No connections at all, or more than the index of a flow can count.
    Connections,
    /// The kernel has no address space for so many connections.
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
