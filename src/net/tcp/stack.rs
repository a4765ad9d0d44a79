//! The stack as a whole: its parts, and one turn of it.
//!
//! What a turn does is bounded: one burst of frames, a budget of timers, a budget of overdue
//! checks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use rapidhash::v3::RapidSecrets;
use smoltcp::iface::{Config as InterfaceConfig, Interface};
use smoltcp::socket::tcp::State;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::board::Board;
use super::claim::Claim;
use super::connect::Neighbor;
use super::credit::{Seeks, Strays};
use super::device::{OneFrame, Port, Wire};
use super::flows::Table;
use super::listen::{InitialSequence, TimeWaits};
use super::path::Paths;
use super::segment::Own;
use super::slab::{Phase, Slab};
use super::timers::{Lists, Wheel};
use super::{Cidr, Config, ConfigError};
use crate::clock::Now;
use crate::limits::{
    TCP_ADDRESSES_MAX, TCP_CLOCK_RATE, TCP_HALF_OPEN_MAX, TCP_LISTENERS_MAX, TCP_NAP_US,
    TCP_NEIGHBORS_MAX, TCP_PATH_REPORTS_MAX, TCP_REFUSALS_MAX, TCP_STRAY_INTERVAL_US,
    TCP_SWEEP_PER_TURN, TCP_SWEEP_PERIOD_US, TCP_TIME_WAIT_MAX,
};
use crate::net::{Admission, ConnectionId, Handler, Transport};
use crate::stats::{Counter, WorkerStats};

/// A TCP stack over `P`, keeping a `C` with every connection.
pub struct Stack<P: Port, C> {
    pub(super) wire: Wire<P>,
    pub(super) paths: Paths,
    pub(super) own: Own,
    pub(super) addresses: Vec<IpCidr>,
    pub(super) ports: Vec<u16>,
    pub(super) gateways: Vec<IpAddr>,
    pub(super) is_listening: bool,
    pub(super) is_draining: bool,
    pub(super) secrets: RapidSecrets,
    pub(super) isn: InitialSequence,
    pub(super) table: Table,
    pub(super) slab: Slab<C>,
    pub(super) wheel: Wheel,
    /// One list: flows half open, oldest first.
    pub(super) half_open: Lists,
    pub(super) half_open_len: usize,
    pub(super) waits: TimeWaits,
    pub(super) connections: usize,
    pub(super) connections_max: usize,
    pub(super) admission: Arc<Admission>,
    pub(super) refusals: usize,
    pub(super) idle_timeout_us: u64,
    pub(super) strays: Strays,
    pub(super) seeks: Seeks,
    /// Reports of narrow paths that may still be looked at in the interval that began at
    /// `credit_since_us`. Nothing is ever sent for one, so that nobody learns who used it.
    pub(super) report_credit: u32,
    credit_since_us: u64,
    sweep_at: usize,
    swept_us: u64,
    is_announced: bool,
    /// See [`Transport::leave_out`].
    left_out_us: u64,
    pub(super) board: Arc<Board>,
    /// What of the board was read.
    news_seen: u64,
    reports_seen: u64,
    pub(super) claim: Claim,
    /// When something of that is due.
    pub(super) claim_us: u64,
    /// Neighbours that were asked for.
    pub(super) neighbors: ArrayVec<Neighbor, TCP_NEIGHBORS_MAX>,
    /// Connections that wait for a neighbour's answer, and whose.
    pub(super) resolving: Vec<(ConnectionId, IpAddr)>,
}

/// The time that smoltcp is told.
#[inline(always)]
pub(super) fn stack_time(now: Now) -> Instant {
    Instant::from_micros((now.uptime_us * TCP_CLOCK_RATE) as i64)
}

impl<P: Port, C> Stack<P, C> {
    /// A stack over `port`, which counts into `stats`.
    ///
    /// # Errors
    /// [`ConfigError`], if `config` asks for what cannot be.
    pub fn new(
        port: P,
        config: &Config,
        stats: Arc<WorkerStats>,
        now: Now,
    ) -> Result<Stack<P, C>, ConfigError> {
        if config.ports.len() > TCP_LISTENERS_MAX || config.ports.contains(&0) {
            return Err(ConfigError::Ports);
        }
        if !(1..=1 << 24).contains(&config.connections_max) {
            return Err(ConfigError::Connections);
        }
        let mut wire = Wire::new(port, stats);
        let own = own_addresses(wire.capabilities.mac, &config.addresses)?;
        let addresses: Vec<_> = config
            .addresses
            .iter()
            .map(|cidr| IpCidr::new(cidr.address.into(), cidr.prefix_bits))
            .collect();
        let (hash_key, isn_key) = config.secret.split_first_chunk::<8>().expect("32 bytes");
        let isn_key = isn_key.first_chunk::<16>().expect("24 bytes");
        let capacity = config.connections_max + TCP_HALF_OPEN_MAX + TCP_REFUSALS_MAX;
        let mtu_bytes = wire.capabilities.mtu_bytes;
        let seed = u64::from_ne_bytes(*hash_key);
        let mut iface = new_interface(&mut wire, mtu_bytes, seed, now);
        iface.update_ip_addrs(|list| list.extend(addresses.iter().copied()));
        config.board.subscribe();
        Ok(Stack {
            wire,
            paths: Paths::new(iface),
            own,
            addresses,
            ports: config.ports.clone(),
            gateways: config.gateways.clone(),
            is_listening: true,
            is_draining: false,
            secrets: RapidSecrets::seed(seed),
            isn: InitialSequence::new(isn_key),
            table: Table::with_capacity(capacity + TCP_TIME_WAIT_MAX)
                .map_err(ConfigError::Memory)?,
            slab: Slab::with_capacity(capacity).map_err(ConfigError::Memory)?,
            wheel: Wheel::new(capacity, now.uptime_us),
            half_open: Lists::new(1, capacity),
            half_open_len: 0,
            waits: TimeWaits::new().map_err(ConfigError::Memory)?,
            connections: 0,
            connections_max: config.connections_max,
            admission: Arc::clone(&config.admission),
            refusals: 0,
            idle_timeout_us: config.idle_timeout_us,
            strays: Strays::new(isn_key),
            seeks: Seeks::new(isn_key),
            report_credit: TCP_PATH_REPORTS_MAX,
            credit_since_us: now.uptime_us,
            sweep_at: 0,
            swept_us: now.uptime_us,
            is_announced: false,
            left_out_us: 0,
            board: Arc::clone(&config.board),
            news_seen: 0,
            reports_seen: 0,
            claim: Claim::default(),
            claim_us: u64::MAX,
            neighbors: ArrayVec::new(),
            resolving: Vec::new(),
        })
    }

    /// Asks the handler about a share of the connections, so that all are asked within
    /// [`TCP_SWEEP_PERIOD_US`]; ends those that are overdue or idle, and those that we closed and
    /// whose peer will not.
    fn sweep<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) {
        let flows = self.slab.flows.len();
        let share_us = TCP_SWEEP_PERIOD_US / flows.max(1) as u64;
        let due = (now.uptime_us - self.swept_us) / share_us.max(1);
        if due == 0 || flows == 0 {
            return;
        }
        self.swept_us = now.uptime_us;
        for _ in 0..due.min(TCP_SWEEP_PER_TURN.min(flows) as u64) {
            self.sweep_at = (self.sweep_at + 1) % flows;
            self.slab.prefetch_flow(((self.sweep_at + 4) % flows) as u32);
            self.check(self.sweep_at as u32, now, handler);
        }
    }

    /// Fills up credits; forgets tuples and handshakes whose time is over.
    fn expire<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) {
        if now.uptime_us - self.credit_since_us >= TCP_STRAY_INTERVAL_US {
            self.credit_since_us = now.uptime_us;
            self.report_credit = TCP_PATH_REPORTS_MAX;
        }
        if self.board.news() != self.news_seen {
            self.read_board(now);
        }
        if self.claim_us <= now.uptime_us {
            self.keep_claim(now);
        }
        self.expire_half_open(now, handler);
        self.expire_time_wait(now);
        if !self.neighbors.is_empty() {
            self.resolve(now, handler);
        }
    }

    /// Reads what was put up for all stacks.
    #[cold]
    fn read_board(&mut self, now: Now) {
        self.news_seen = self.board.news();
        let board = Arc::clone(&self.board);
        for report in board.reports(&mut self.reports_seen) {
            self.meet_too_big(&report, now);
        }
        if let Some(bytes) = board.mtu_bytes() {
            self.resize(bytes, now);
        }
        self.meet_link(board.link_ups(), now);
    }

    /// `us` of this stack as an uptime of the process, which all stacks share.
    pub(super) fn shared_us(&self, us: u64) -> u64 {
        us + self.left_out_us
    }

    /// Statistics' share of a frame that was dropped.
    #[inline(always)]
    pub(super) fn dropped(&self, counter: Counter) {
        self.wire.stats.add(counter, 1);
    }
}

/// An interface with no addresses yet for packets of `mtu_bytes`, whose random numbers begin at
/// `seed`.
pub(super) fn new_interface<P: Port>(
    wire: &mut Wire<P>,
    mtu_bytes: usize,
    seed: u64,
    now: Now,
) -> Interface {
    let mut config = InterfaceConfig::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut device = OneFrame { wire, received: None, next_hop: [0; 6], mtu_bytes };
    Interface::new(config, &mut device, stack_time(now))
}

/// Whether the peer has acknowledged everything, and our FIN.
fn has_delivered(state: State) -> bool {
    matches!(state, State::FinWait2 | State::TimeWait)
}

fn own_addresses(mac: [u8; 6], addresses: &[Cidr]) -> Result<Own, ConfigError> {
    if addresses.is_empty() || addresses.len() > TCP_ADDRESSES_MAX {
        return Err(ConfigError::Addresses);
    }
    let mut own = Own { mac, ..Own::default() };
    for cidr in addresses {
        let bits = u32::from(cidr.prefix_bits);
        match cidr.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
                let is_host = Own::default().is_peer_v4(address.to_bits());
                if bits > 32 || !is_host {
                    return Err(ConfigError::Addresses);
                }
                own.v4.push((address.to_bits(), mask));
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
                let is_host = Own::default().is_peer_v6(address.to_bits());
                if bits > 128 || !is_host {
                    return Err(ConfigError::Addresses);
                }
                own.v6.push((address.to_bits(), mask));
            }
        }
    }
    Ok(own)
}

impl<P: Port, C> Transport<C> for Stack<P, C> {
    fn poll<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        if !self.is_announced {
            self.is_announced = true;
            self.announce();
        }
        let done = self.receive(now, handler) + self.run_timers(now, handler);
        self.expire(now, handler);
        self.sweep(now, handler);
        done + self.wire.port.take_forwarded()
    }

    fn resume<H: Handler<Connection = C>>(&mut self, id: ConnectionId, now: Now, handler: &mut H) {
        let Some(flow) = self.slab.flows.get_mut(id.index as usize) else { return };
        if flow.generation == id.generation && flow.phase == Phase::Open {
            flow.is_stirred = true;
            self.settle(id.index, now, handler);
        }
    }

    fn flush(&mut self, _now: Now) {
        self.wire.port.flush();
    }

    fn leave_out(&mut self, us: u64) {
        self.left_out_us = us;
    }

    fn wait(&mut self, timeout_us: u64) {
        // A device cannot wake anybody; what other workers send can (std's park token).
        std::thread::park_timeout(Duration::from_micros(timeout_us.min(TCP_NAP_US)));
    }

    fn stop_listening(&mut self) {
        self.is_listening = false;
    }

    fn drain<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        let begins = !std::mem::replace(&mut self.is_draining, true);
        let mut left = 0;
        for index in 0..self.slab.flows.len() as u32 {
            if begins && self.slab.flows[index as usize].phase == Phase::Open {
                self.slab.flows[index as usize].is_stirred = true;
                self.settle(index, now, handler);
                // More frames at once than the port keeps would be lost.
                self.wire.port.flush();
            }
            let flow = &mut self.slab.flows[index as usize];
            left += usize::from(
                matches!(flow.phase, Phase::Open | Phase::Closing | Phase::Refused)
                    && !has_delivered(flow.socket().state()),
            );
        }
        left
    }

    fn close_all<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) {
        for index in 0..self.slab.flows.len() as u32 {
            let flow = &mut self.slab.flows[index as usize];
            if flow.phase != Phase::Free && has_delivered(flow.socket().state()) {
                // The peer has everything, and the end of it: nothing is wrong that a RST told of.
                self.release(index, handler);
            } else if flow.phase != Phase::Free {
                flow.is_stirred = false;
                flow.socket().abort();
                self.settle(index, now, handler);
                self.wire.port.flush();
            }
        }
    }

    fn connections(&self) -> usize {
        self.connections
    }
}
