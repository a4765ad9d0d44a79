//! What a link is made with, and what operators are told about its server.

use std::fmt;
use std::sync::Arc;

use super::stream::Address;
use crate::base::limits::LINK_TIMEOUT_US;
use crate::base::readiness::Readiness;
use crate::base::stats::WorkerStats;

/// What a link's server is to those who are served, for the lines that tell of its outages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The only tier.
    #[default]
    Only,
    /// The first of two.
    L1,
    /// The second of two.
    L2,
}

impl Role {
    /// What becomes of operations while it is away.
    pub(super) fn meanwhile(self) -> &'static str {
        match self {
            Role::Only => "all operations fail (SERVER_ERROR backend failure)",
            Role::L1 => "L2 serves all keys",
            Role::L2 => "what L1 has is served, all else fails (SERVER_ERROR backend failure)",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Only | Role::L1 => "L1",
            Role::L2 => "L2",
        })
    }
}

/// What a link is made with.
#[derive(Debug)]
pub struct Config {
    /// What the server is to those who are served.
    pub role: Role,
    /// Where the server listens.
    pub address: Address,
    /// How long a request may take, in microseconds; [`LINK_TIMEOUT_US`] unless there is a reason.
    pub timeout_us: u64,
    /// Wakes the worker when the server answers.
    pub readiness: Readiness,
    /// Where losses are counted.
    pub stats: Arc<WorkerStats>,
}

impl Config {
    /// A link to `address` with the usual patience, of a worker that does not sleep.
    pub fn new(address: Address, stats: Arc<WorkerStats>) -> Config {
        let readiness = Readiness::none();
        let role = Role::default();
        Config { role, address, timeout_us: LINK_TIMEOUT_US, readiness, stats }
    }
}

/// The server is out of reach, or did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down;
