//! Settings of a link, and the texts about its server for operators.

use std::fmt;
use std::sync::Arc;

use super::stream::Address;
use crate::base::latency::Level;
use crate::base::limits::LINK_TIMEOUT_US;
use crate::base::readiness::Readiness;
use crate::base::stats::{Counter, WorkerStats};

/// The role of a link's server, for the lines that report its outages.
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
    /// The tier that it is.
    pub(super) fn level(self) -> Level {
        match self {
            Role::Only | Role::L1 => Level::L1,
            Role::L2 => Level::L2,
        }
    }

    /// Where the links that do not serve are counted.
    pub(super) fn down(self) -> Counter {
        match self {
            Role::Only | Role::L1 => Counter::LinksDownL1,
            Role::L2 => Counter::LinksDownL2,
        }
    }

    /// Where the operations that wait for its server are counted.
    pub(super) fn operations(self) -> Counter {
        match self {
            Role::Only | Role::L1 => Counter::LinkOperationsL1,
            Role::L2 => Counter::LinkOperationsL2,
        }
    }

    /// What happens to operations during an outage.
    pub(super) fn meanwhile(self) -> &'static str {
        match self {
            Role::Only => "all operations fail (SERVER_ERROR backend failure)",
            Role::L1 => "L2 serves all keys",
            Role::L2 => "items in L1 are served, all else fails (SERVER_ERROR backend failure)",
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

/// The settings of a link.
#[derive(Debug)]
pub struct LinkConfig {
    /// The role of the server.
    pub role: Role,
    /// The address of the server.
    pub address: Address,
    /// Time-out of a request, in microseconds; usually [`LINK_TIMEOUT_US`].
    pub timeout_us: u64,
    /// Wakes the worker when the server answers.
    pub readiness: Readiness,
    /// Where losses are counted.
    pub stats: Arc<WorkerStats>,
    /// The server is emptied before it is asked for anything.
    pub starts_empty: bool,
}

impl LinkConfig {
    /// The settings for `address` with the default time-out, for a worker that does not sleep.
    pub fn new(address: Address, stats: Arc<WorkerStats>) -> LinkConfig {
        let readiness = Readiness::none();
        let role = Role::default();
        let timeout_us = LINK_TIMEOUT_US;
        LinkConfig { role, address, timeout_us, readiness, stats, starts_empty: false }
    }
}

/// The server is unreachable, or did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down;
