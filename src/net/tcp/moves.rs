//! Neighbours that move: a gateway fails over, a bond or a NIC is exchanged, and the same address
//! has another MAC.
//!
//! A flow's frames go to the MAC that its peer's come from. That changes
//! - by a segment of the flow whose sequence and acknowledgement numbers can be the peer's,
//!   including retransmissions: a forger has to guess 35 bits;
//! - by ARP or neighbour discovery about the peer, or the router to it, if the flow has received
//!   nothing for a while or something implausible from another MAC. Any host on the link can forge
//!   these, as for every host on an Ethernet; nobody beyond a router can.
//!
//! Nothing else moves a flow. The rate of requests is limited, per address and for all together, in
//! groups that are redrawn at random (`credit`). A request shows the link that there is a
//! connection: any host on the link can find that out anyway, by a segment in the peer's name,
//! which is reset to the MAC that it came from if there is none.

use std::net::IpAddr;

use smoltcp::socket::tcp::State;

use super::board::Location;
use super::device::Port;
use super::ether;
use super::headers::flag;
use super::segment::Segment;
use super::slab::Phase;
use super::state::Stack;
use crate::base::clock::Now;
use crate::base::limits::{
    TCP_KEEP_ALIVE_US, TCP_RX_RING_BYTES, TCP_SILENCE_US, TCP_TX_RING_BYTES,
};
use crate::base::stats::Counter;

/// Whether `ack` acknowledges something that was sent, of which at most a ring and a FIN were not
/// acknowledged before (RFC 5961, 5.2).
#[inline(always)]
pub(super) fn acknowledges_ours(ack: u32, next_seq: u32) -> bool {
    next_seq.wrapping_sub(ack) <= TCP_TX_RING_BYTES as u32 + 1
}

/// Whether `seq` is at most a window before or after what was acknowledged.
fn is_near(seq: u32, acknowledged: u32) -> bool {
    let ring = TCP_RX_RING_BYTES as u32;
    seq.wrapping_sub(acknowledged).wrapping_add(ring) < 2 * ring
}

impl<P: Port, C> Stack<P, C> {
    /// Handles a segment of flow `index` from another MAC than its frames go to.
    #[cold]
    pub(super) fn meet_elsewhere(&mut self, index: u32, segment: &Segment, mac: [u8; 6], now: Now) {
        let flow = &mut self.slab.flows[index as usize];
        let is_plausible = segment.has(flag::ACK)
            && segment.flags & (flag::SYN | flag::RST) == 0
            && is_near(segment.seq, flow.ack)
            && acknowledges_ours(segment.ack, flow.next_seq);
        if is_plausible {
            flow.next_hop = mac;
            self.wire.stats.add(Counter::NeighborMoves, 1);
        } else {
            self.seek(index, true, now);
        }
    }

    /// Handles a due timer of flow `index`. A peer that owes an acknowledgement is located soon, an
    /// idle one only after an unanswered keep-alive.
    #[inline]
    pub(super) fn meet_silence(&mut self, index: u32, now: Now) {
        let flow = &mut self.slab.flows[index as usize];
        let silent_us = now.uptime_us - flow.received_us;
        if silent_us < TCP_SILENCE_US {
            return;
        }
        let socket = flow.socket();
        let is_waiting = socket.send_queue() > 0
            || matches!(socket.state(), State::FinWait1 | State::Closing | State::LastAck);
        let asks = is_waiting || silent_us > TCP_KEEP_ALIVE_US + TCP_KEEP_ALIVE_US / 2;
        self.seek(index, asks, now);
    }

    /// Redirects the frames of flow `index` to the MAC of its next hop that was noted since the
    /// flow last received something, or, if `asks`, requests it.
    #[cold]
    pub(super) fn seek(&mut self, index: u32, asks: bool, now: Now) {
        let flow = &self.slab.flows[index as usize];
        if !matches!(flow.phase, Phase::Open | Phase::Closing) {
            return;
        }
        let key = flow.key;
        let (remote, next_hop, received_us) =
            (flow.key.remote_ip(), flow.next_hop, flow.received_us);
        let Some(hop) = self.hop(remote, next_hop) else { return };
        let (received_us, now_us) =
            (self.notices.shared_us(received_us), self.notices.shared_us(now.uptime_us));
        match self.notices.board().locate(hop, received_us, asks, now_us) {
            Location::At(mac) if mac != next_hop => {
                self.slab.flows[index as usize].next_hop = mac;
                self.wire.stats.add(Counter::NeighborMoves, 1);
            }
            Location::Request if self.seeks.take(&key, now.uptime_us) => {
                let like = |own: &&smoltcp::wire::IpCidr| {
                    IpAddr::from(own.address()).is_ipv4() == hop.is_ipv4()
                };
                let any = self.paths.addresses().iter().find(like).map(|own| own.address().into());
                if let Some(local) = self.own.near(hop).or(any)
                    && ether::solicit(&mut self.wire, local, hop)
                {
                    self.notices.board().note_asked(hop, now_us);
                }
            }
            Location::At(_) | Location::Request | Location::Wait => (),
        }
    }

    /// The next hop of frames to `remote`: itself, or a router, by its address.
    fn hop(&self, remote: IpAddr, next_hop: [u8; 6]) -> Option<IpAddr> {
        if self.own.near(remote).is_some() {
            return Some(remote);
        }
        let gateway = self.gateways.iter().find(|hop| hop.is_ipv4() == remote.is_ipv4());
        gateway.copied().or_else(|| self.notices.board().address_of(next_hop, remote))
    }
}
