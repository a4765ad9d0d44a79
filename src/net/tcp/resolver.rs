//! Neighbours that we request because we connect to them, and the connections that wait for their
//! answers. Requests are bounded in number and rate, and only answers to our own requests are
//! accepted.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use super::device::Port;
use super::ether;
use super::own::Own;
use super::wire::Wire;
use crate::base::clock::Now;
use crate::base::limits::{
    TCP_NEIGHBOR_LIFE_US, TCP_NEIGHBOR_RETRY_US, TCP_NEIGHBOR_TRIES, TCP_NEIGHBORS_MAX,
};
use crate::net::ConnectionId;

/// A neighbour whose MAC was requested.
struct Neighbor {
    address: IpAddr,
    /// None until it answers.
    mac: Option<[u8; 6]>,
    /// When the answer expires, or the request is repeated.
    until_us: u64,
    tries: u32,
}

/// The maximum number of neighbours is requested already.
pub(super) struct Full;

/// The requests, and who waits for them.
#[derive(Default)]
pub(super) struct Resolver {
    neighbors: ArrayVec<Neighbor, TCP_NEIGHBORS_MAX>,
    /// Connections that wait for a neighbour's answer, and the neighbour.
    waiting: Vec<(ConnectionId, IpAddr)>,
}

impl Resolver {
    /// Whether there are no requests.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.neighbors.is_empty()
    }

    /// The MAC of `hop`, or None if it was requested from `local`.
    ///
    /// # Errors
    /// [`Full`].
    pub fn find<P: Port>(
        &mut self,
        wire: &mut Wire<P>,
        hop: IpAddr,
        local: IpAddr,
        now: Now,
    ) -> Result<Option<[u8; 6]>, Full> {
        let until_us = now.uptime_us + TCP_NEIGHBOR_RETRY_US;
        if let Some(known) = self.neighbors.iter_mut().find(|known| known.address == hop) {
            if known.mac.is_some() && known.until_us <= now.uptime_us {
                *known = Neighbor { address: hop, mac: None, until_us, tries: 1 };
                ether::solicit(wire, local, hop);
            }
            return Ok(known.mac);
        }
        if self.neighbors.len() == TCP_NEIGHBORS_MAX {
            let settled = self.neighbors.iter().position(|known| known.mac.is_some());
            self.neighbors.swap_remove(settled.ok_or(Full)?);
        }
        self.neighbors.push(Neighbor { address: hop, mac: None, until_us, tries: 1 });
        ether::solicit(wire, local, hop);
        Ok(None)
    }

    /// Lets connection `id` wait for the answer of `hop`.
    pub fn wait(&mut self, id: ConnectionId, hop: IpAddr) {
        self.waiting.push((id, hop));
    }

    /// Notes that `address` is at `mac`. Returns whether that was requested.
    pub fn learn(&mut self, address: IpAddr, mac: [u8; 6], now: Now) -> bool {
        let known = self.neighbors.iter_mut().find(|known| known.address == address);
        known.is_some_and(|known| {
            known.mac = Some(mac);
            known.until_us = now.uptime_us + TCP_NEIGHBOR_LIFE_US;
            true
        })
    }

    /// Removes a connection that waits for `hop`, starting at index `at`, which advances: 0 at
    /// first.
    pub fn take_waiting(&mut self, hop: IpAddr, at: &mut usize) -> Option<ConnectionId> {
        *at += self.waiting.get(*at..)?.iter().position(|&(_, other)| other == hop)?;
        Some(self.waiting.swap_remove(*at).0)
    }

    /// Repeats requests to neighbours that did not answer. Returns one that never does, which is
    /// given up; there may be more of them.
    pub fn repeat_requests<P: Port>(
        &mut self,
        wire: &mut Wire<P>,
        own: &Own,
        now: Now,
    ) -> Option<IpAddr> {
        for place in 0..self.neighbors.len() {
            let asked = &mut self.neighbors[place];
            if asked.mac.is_some() || asked.until_us > now.uptime_us {
                continue;
            }
            asked.until_us = now.uptime_us + TCP_NEIGHBOR_RETRY_US;
            asked.tries += 1;
            let address = asked.address;
            if asked.tries > TCP_NEIGHBOR_TRIES {
                self.neighbors.swap_remove(place);
                return Some(address);
            }
            let local = own.near(address).expect("requested on one of our networks");
            ether::solicit(wire, local, address);
        }
        None
    }
}
