//! Connections that we open: the destination of the first frame, and our side of the handshake.
//!
//! A peer that connects to us has shown its MAC; to connect to a host, its MAC must be requested.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::IpEndpoint;

use super::adaptor::new_interface;
use super::device::Port;
use super::flows::FlowKey;
use super::resolver::Full;
use super::slab::Phase;
use super::state::Stack;
use crate::base::clock::Now;
use crate::net::{ConnectionId, Handler};

/// The listener number passed to [`Handler::opened`] for a connection that we opened.
pub const OUTGOING: usize = u8::MAX as usize;

/// Why a connection cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// No own address of that family, or no router to the destination.
    NoRoute,
    /// There is a connection with these addresses and ports.
    InUse,
    /// The maximum of connections, or of unknown neighbours, is reached.
    Full,
}

impl<P: Port, C> Stack<P, C> {
    /// Opens a connection from `local_port` to `remote`. The handler is called when it is
    /// established, with [`OUTGOING`] as listener; see [`Stack::is_connecting`] for failures.
    ///
    /// # Errors
    /// [`ConnectError`], if there is no route or no room.
    #[cfg(feature = "internals")]
    pub fn connect<H: Handler<Connection = C>>(
        &mut self,
        remote: SocketAddr,
        local_port: u16,
        now: Now,
        handler: &mut H,
    ) -> Result<ConnectionId, ConnectError> {
        let route = self.route(remote.ip()).ok_or(ConnectError::NoRoute)?;
        self.connect_by(route, remote, local_port, now, handler)
    }

    /// Like [`Stack::connect`], from the given port of one of our addresses: a client has 65,535
    /// ports per address for one server.
    ///
    /// # Errors
    /// [`ConnectError`]; also [`ConnectError::NoRoute`] if the address is not ours.
    pub fn connect_from<H: Handler<Connection = C>>(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        now: Now,
        handler: &mut H,
    ) -> Result<ConnectionId, ConnectError> {
        let route = self.route_from(local.ip(), remote.ip()).ok_or(ConnectError::NoRoute)?;
        self.connect_by(route, remote, local.port(), now, handler)
    }

    /// Opens a connection from `route`'s address by its next hop.
    fn connect_by<H: Handler<Connection = C>>(
        &mut self,
        route: (IpAddr, IpAddr),
        remote: SocketAddr,
        local_port: u16,
        now: Now,
        handler: &mut H,
    ) -> Result<ConnectionId, ConnectError> {
        if !self.places.take() {
            return Err(ConnectError::Full);
        }
        let begun = self.begin_connecting(route, remote, local_port, now, handler);
        if begun.is_err() {
            self.places.give_back();
        }
        begun
    }

    fn begin_connecting<H: Handler<Connection = C>>(
        &mut self,
        (local, hop): (IpAddr, IpAddr),
        remote: SocketAddr,
        local_port: u16,
        now: Now,
        handler: &mut H,
    ) -> Result<ConnectionId, ConnectError> {
        let ports = u32::from(remote.port()) << 16 | u32::from(local_port);
        let key = match (remote.ip(), local) {
            (IpAddr::V4(remote), IpAddr::V4(local)) => {
                FlowKey::v4(remote.to_bits(), local.to_bits(), ports)
            }
            (IpAddr::V6(remote), IpAddr::V6(local)) => {
                FlowKey::v6(remote.to_bits(), local.to_bits(), ports)
            }
            _ => unreachable!("a route within one family"),
        };
        let hash = key.hash(&self.secrets);
        if self.find(&key, hash).is_some() {
            return Err(ConnectError::InUse);
        }
        let next_hop = self.resolver.find(&mut self.wire, hop, local, now);
        let next_hop = next_hop.map_err(|Full| ConnectError::Full)?;
        let index = self.slab.claim().ok_or(ConnectError::Full)?;
        let path = self.paths.towards(key.remote, &self.secrets, now);
        let flow = &mut self.slab.flows[index as usize];
        flow.begin(Phase::Connecting, key, hash, now);
        flow.path = path;
        flow.listener = OUTGOING as u8;
        let seed = self.isn.seed(&key, now.uptime_us);
        let mtu_bytes = self.wire.capabilities.mtu_bytes;
        let mut iface = new_interface(&mut self.wire, mtu_bytes, seed, now);
        let from = IpEndpoint::new(local.into(), local_port);
        let to = IpEndpoint::new(remote.ip().into(), remote.port());
        if flow.socket().connect(iface.context(), to, from).is_err() {
            // A port of zero, or not the address of a host.
            flow.phase = Phase::Free;
            self.slab.give_back(index);
            return Err(ConnectError::NoRoute);
        }
        let id = ConnectionId { index, generation: flow.generation };
        self.table.insert(hash, index);
        match next_hop {
            Some(mac) => {
                flow.next_hop = mac;
                self.settle(index, now, handler);
            }
            None => self.resolver.wait(id, hop),
        }
        Ok(id)
    }

    /// Whether `id` is not established yet. If it is no longer and the handler was not called, the
    /// peer refused or did not answer.
    pub fn is_connecting(&self, id: ConnectionId) -> bool {
        let flow = self.slab.flows.get(id.index as usize);
        flow.is_some_and(|f| f.generation == id.generation && f.phase == Phase::Connecting)
    }

    /// Our address for connections to `remote`, and the next hop.
    #[cfg(feature = "internals")]
    fn route(&self, remote: IpAddr) -> Option<(IpAddr, IpAddr)> {
        if let Some(local) = self.own.near(remote) {
            return Some((local, remote));
        }
        let gateway = *self.gateways.iter().find(|hop| hop.is_ipv4() == remote.is_ipv4())?;
        Some((self.own.near(gateway)?, gateway))
    }

    /// The same from `local`, which may be any of our addresses.
    fn route_from(&self, local: IpAddr, remote: IpAddr) -> Option<(IpAddr, IpAddr)> {
        let mask = match local {
            IpAddr::V4(local) => {
                let is_it = |own: &&(u32, u32)| own.0 == local.to_bits();
                u128::from(self.own.v4.iter().find(is_it)?.1)
            }
            IpAddr::V6(local) => self.own.v6.iter().find(|own| own.0 == local.to_bits())?.1,
        };
        let is_near = match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                u128::from(local.to_bits() ^ remote.to_bits()) & mask == 0
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                (local.to_bits() ^ remote.to_bits()) & mask == 0
            }
            _ => return None,
        };
        if is_near {
            return Some((local, remote));
        }
        // The router is requested from our address on its network; frames to it may come from any
        // of ours.
        let gateway = *self.gateways.iter().find(|hop| hop.is_ipv4() == remote.is_ipv4())?;
        self.own.near(gateway).map(|_| (local, gateway))
    }

    /// Notes that `address` is at `mac`: connections that wait for it continue.
    pub(super) fn learn<H: Handler<Connection = C>>(
        &mut self,
        address: IpAddr,
        mac: [u8; 6],
        now: Now,
        handler: &mut H,
    ) {
        if !self.resolver.learn(address, mac, now) {
            return;
        }
        let mut at = 0;
        while let Some(id) = self.resolver.take_waiting(address, &mut at) {
            if self.is_connecting(id) {
                self.slab.flows[id.index as usize].next_hop = mac;
                self.settle(id.index, now, handler);
            }
        }
    }

    /// Repeats requests for neighbours that did not answer, and gives up those that never do, with
    /// the connections that wait for them.
    pub(super) fn resolve<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) {
        while let Some(lost) = self.resolver.repeat_requests(&mut self.wire, &self.own, now) {
            let mut at = 0;
            while let Some(id) = self.resolver.take_waiting(lost, &mut at) {
                if self.is_connecting(id) {
                    self.release(id.index, handler);
                }
            }
        }
    }
}
