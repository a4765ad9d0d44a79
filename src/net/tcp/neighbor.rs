//! Frames of neighbours, routers and switches: answers them, and passes their information on to
//! those that it concerns.
//!
//! A report of a router is accepted only if it is about a segment of ours that is in flight: it has
//! to quote its addresses, ports and a sequence number that was sent and not acknowledged (RFC
//! 5927, 4.1), and its length. No report makes a path narrower than any real one.

use super::device::Port;
use super::ether::{self, NeighborEvent};
use super::groups::Query;
use super::headers::ETHERNET_BYTES;
use super::listen::TIME_WAIT;
use super::segment::Packet;
use super::slab::Phase;
use super::state::Stack;
use super::too_big::TooBig;
use crate::base::clock::Now;
use crate::base::stats::Counter;
use crate::net::Handler;

impl<P: Port, C> Stack<P, C> {
    /// Answers a frame that is not a TCP segment.
    pub(super) fn serve_neighbor<H: Handler<Connection = C>>(
        &mut self,
        packet: Packet,
        frame: &[u8],
        now: Now,
        handler: &mut H,
    ) {
        let event = match packet {
            Packet::Arp => ether::arp(&mut self.wire, &self.own, frame),
            Packet::Icmp(bytes) => ether::icmp(&mut self.wire, &self.own, frame, bytes),
            Packet::Icmpv6(bytes) => ether::icmpv6(&mut self.wire, &self.own, frame, bytes),
            Packet::Listener(bytes) => Query::read(&frame[ETHERNET_BYTES..][..usize::from(bytes)])
                .map(NeighborEvent::Query),
            // More tags than supported.
            Packet::Tagged => Err(Counter::FramesNotForUs),
            Packet::Tcp(_) => unreachable!("segments are handled elsewhere"),
        };
        match event {
            Ok(NeighborEvent::At { address, mac, overrides }) => {
                self.notices.board().note(
                    address,
                    mac,
                    overrides,
                    self.notices.shared_us(now.uptime_us),
                );
                self.learn(address, mac, now, handler);
            }
            Ok(event) => self.meet_report(&event, now),
            Err(counter) => self.dropped(counter),
        }
    }

    /// Passes on information about neighbours and routers.
    fn meet_report(&mut self, event: &NeighborEvent, now: Now) {
        match *event {
            NeighborEvent::Nothing | NeighborEvent::At { .. } => (),
            NeighborEvent::Rival(taken) => self.claim.defend(&mut self.wire, &self.own, taken, now),
            NeighborEvent::Query(query) => self.claim.meet_query(query, now),
            NeighborEvent::TooBig(report) => {
                if self.meet_too_big(&report, now) {
                    return;
                }
                // It is about another worker's flow, or none: anybody can send any number of those,
                // and they must not suppress valid ones.
                if !self.notices.post(report) {
                    self.dropped(Counter::FramesNotForUs);
                }
            }
        }
    }

    /// Handles a router's report that a packet was too long. Returns whether it was about a flow of
    /// this stack.
    pub(super) fn meet_too_big(&mut self, report: &TooBig, now: Now) -> bool {
        let hash = report.key.hash(&self.secrets);
        let Some(index) = self.find(&report.key, hash) else { return false };
        if index & TIME_WAIT != 0 {
            return true;
        }
        let device_bytes = self.wire.capabilities.mtu_bytes;
        let flow = &mut self.slab.flows[index as usize];
        let current_bytes = self.paths.mtu_bytes(flow.path, device_bytes);
        let acknowledged = flow.acks.newest();
        // At most what is queued, whatever the peer acknowledges.
        let sent_bytes = flow.next_seq.wrapping_sub(acknowledged) as usize;
        let is_under_way = matches!(flow.phase, Phase::Open | Phase::Closing)
            && (report.seq.wrapping_sub(acknowledged) as usize)
                < sent_bytes.min(flow.socket().send_queue());
        let is_possible = report.mtu_bytes < report.packet_bytes
            && usize::from(report.mtu_bytes) < current_bytes
            && usize::from(report.packet_bytes) <= device_bytes;
        if is_under_way && is_possible {
            let (remote, bytes) = (report.key.remote, report.mtu_bytes);
            flow.path = self.paths.lower(&mut self.wire, remote, bytes, &self.secrets, now);
            self.wire.stats.add(Counter::PathMtuLowered, 1);
        } else {
            self.wire.stats.add(Counter::FramesNotForUs, 1);
        }
        true
    }
}
