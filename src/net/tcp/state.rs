//! The parts of a stack, and its creation. Its behaviour is in the files that import this one, and
//! none of them is imported here.

use std::net::IpAddr;
use std::sync::Arc;

use rapidhash::v3::RapidSecrets;
use smoltcp::wire::IpCidr;

use super::board::Notices;
use super::claim::Claim;
use super::credit::{Seeks, Strays};
use super::device::Port;
use super::flows::{FlowKey, Table};
use super::listen::{InitialSequence, TIME_WAIT, TimeWaits};
use super::own::Own;
use super::path::Paths;
use super::places::Places;
use super::resolver::Resolver;
use super::slab::Slab;
use super::timers::{HalfOpen, Sweep, Wheel};
use super::wire::Wire;
use super::{ConfigError, StackConfig};
use crate::base::clock::Now;
use crate::base::limits::{
    TCP_HALF_OPEN_MAX, TCP_LISTENERS_MAX, TCP_REFUSALS_MAX, TCP_TIME_WAIT_MAX,
};
use crate::base::networks::Networks;
use crate::base::stats::{Counter, WorkerStats};

/// A TCP stack over `P`, with a `C` for every connection.
pub struct Stack<P: Port, C> {
    pub(super) wire: Wire<P>,
    pub(super) paths: Paths,
    pub(super) own: Own,
    pub(super) ports: Vec<u16>,
    pub(super) allow: Vec<Networks>,
    pub(super) gateways: Vec<IpAddr>,
    pub(super) is_listening: bool,
    pub(super) is_draining: bool,
    pub(super) secrets: RapidSecrets,
    pub(super) isn: InitialSequence,
    pub(super) table: Table,
    pub(super) slab: Slab<C>,
    pub(super) wheel: Wheel,
    pub(super) half_open: HalfOpen,
    pub(super) waits: TimeWaits,
    pub(super) places: Places,
    pub(super) idle_timeout_us: u64,
    pub(super) strays: Strays,
    pub(super) seeks: Seeks,
    pub(super) sweep: Sweep,
    pub(super) is_announced: bool,
    pub(super) notices: Notices,
    pub(super) claim: Claim,
    pub(super) resolver: Resolver,
}

/// Whether there can be a stack with these settings.
///
/// # Errors
/// [`ConfigError`], if `config` is impossible.
pub fn check(config: &StackConfig) -> Result<(), ConfigError> {
    if config.ports.len() > TCP_LISTENERS_MAX || config.ports.contains(&0) {
        return Err(ConfigError::Ports);
    }
    if !(1..=1 << 24).contains(&config.connections_max) {
        return Err(ConfigError::Connections);
    }
    Own::new([0; 6], &config.addresses).map(|_| ())
}

impl<P: Port, C> Stack<P, C> {
    /// A stack over `port`, which counts into `stats`.
    ///
    /// # Errors
    /// [`ConfigError`], if `config` is impossible.
    pub fn new(
        port: P,
        config: &StackConfig,
        stats: Arc<WorkerStats>,
        now: Now,
    ) -> Result<Stack<P, C>, ConfigError> {
        check(config)?;
        let mut wire = Wire::new(port, stats);
        let own = Own::new(wire.capabilities.mac, &config.addresses)?;
        let addresses: Vec<_> = config
            .addresses
            .iter()
            .map(|cidr| IpCidr::new(cidr.address.into(), cidr.prefix_bits))
            .collect();
        let (hash_key, isn_key) = config.secret.split_first_chunk::<8>().expect("32 bytes");
        let isn_key = isn_key.first_chunk::<16>().expect("24 bytes");
        let capacity = config.connections_max + TCP_HALF_OPEN_MAX + TCP_REFUSALS_MAX;
        let seed = u64::from_ne_bytes(*hash_key);
        let paths = Paths::new(&mut wire, addresses, seed, now);
        Ok(Stack {
            wire,
            paths,
            own,
            ports: config.ports.clone(),
            allow: config.allow.clone(),
            gateways: config.gateways.clone(),
            is_listening: true,
            is_draining: false,
            secrets: RapidSecrets::seed(seed),
            isn: InitialSequence::new(isn_key),
            table: Table::with_capacity(capacity + TCP_TIME_WAIT_MAX)
                .map_err(ConfigError::Memory)?,
            slab: Slab::with_capacity(capacity).map_err(ConfigError::Memory)?,
            wheel: Wheel::new(capacity, now.uptime_us),
            half_open: HalfOpen::new(capacity),
            waits: TimeWaits::new().map_err(ConfigError::Memory)?,
            places: Places::new(&config.admission, config.connections_max),
            idle_timeout_us: config.idle_timeout_us,
            strays: Strays::new(isn_key),
            seeks: Seeks::new(isn_key),
            sweep: Sweep::new(now.uptime_us),
            is_announced: false,
            notices: Notices::new(&config.board, now.uptime_us),
            claim: Claim::default(),
            resolver: Resolver::default(),
        })
    }

    /// The flow that `key` belongs to, or with [`TIME_WAIT`] the index of its tuple.
    pub(super) fn find(&self, key: &FlowKey, hash: u32) -> Option<u32> {
        self.table.find(hash, |index| match index & TIME_WAIT {
            0 => self.slab.flows[index as usize].key == *key,
            _ => self.waits.get(index & !TIME_WAIT).key == *key,
        })
    }

    /// Removes a tuple that left TIME-WAIT from the table.
    pub(super) fn forget(&mut self, place: Option<u32>) {
        if let Some(place) = place {
            self.table.remove(self.waits.get(place).hash, place | TIME_WAIT);
        }
    }

    /// Counts a dropped frame.
    #[inline(always)]
    pub(super) fn dropped(&self, counter: Counter) {
        self.wire.stats.add(counter, 1);
    }
}
