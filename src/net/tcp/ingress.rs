//! From a burst of frames to the sockets of their flows.
//!
//! Three passes over a burst: parse every frame and prefetch its entry in the flow table; look up
//! the flows; feed the sockets, prefetching flows and rings of later segments. So the memory of
//! several flows is in flight while one is processed.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use smoltcp::socket::tcp::State;

use super::adaptor::{OneFrame, new_interface, stack_time};
use super::credit::Allowance;
use super::device::{Frame, Port};
use super::ether::source_mac;
use super::flows::FlowKey;
use super::headers::{ETHERNET_BYTES, IPV4_BYTES, IPV6_BYTES, PROTOCOL_TCP, TCP_BYTES, flag};
use super::listen::TIME_WAIT;
use super::loss::{Acks, PURE_ACK_BYTES_MAX, with_window};
use super::moves::acknowledges_ours;
use super::segment::{Packet, Segment, parse, without_tag};
use super::slab::{Flow, Phase};
use super::state::Stack;
use super::stream::peer_finished;
use super::wire::Sent;
use crate::base::buffer::prefetch_range;
use crate::base::clock::Now;
use crate::base::limits::{
    BURST_FRAMES, TCP_HALF_OPEN_MAX, TCP_PREFETCH_FLOWS_MIN, TCP_PREFETCH_LEAD, TCP_RX_RING_BYTES,
};
use crate::base::stats::Counter;
use crate::net::Handler;

const NO_FLOW: u32 = u32::MAX;

/// A segment of the current burst.
struct Arrival {
    segment: Segment,
    hash: u32,
    frame: u8,
}

/// Which elements of `found` may hold a number that occurs again later: one bit each, with false
/// positives.
#[inline(always)]
fn repeated(found: &[u32]) -> u32 {
    const { assert!(BURST_FRAMES <= 32) };
    let mut seen = 0u64;
    let mut repeated = 0;
    for (n, index) in found.iter().enumerate().rev() {
        let bit = 1 << (index % 64);
        repeated |= u32::from(seen & bit != 0) << n;
        seen |= bit;
    }
    repeated
}

/// How many segments ahead the handler is asked to prefetch what its first prefetch points to:
/// about the latency of memory.
const FORESEE_LEAD: usize = 4;

/// The payload of a segment.
#[inline(always)]
fn payload<'f, F: Frame>(arrival: &Arrival, burst: &'f [F]) -> &'f [u8] {
    let Segment { ip_bytes, payload_bytes, .. } = arrival.segment;
    let end = ETHERNET_BYTES + usize::from(ip_bytes);
    &burst[usize::from(arrival.frame)].bytes()[end - usize::from(payload_bytes)..end]
}

impl<P: Port, C> Stack<P, C> {
    /// Receives one burst from the port and processes it.
    pub(super) fn receive<H: Handler<Connection = C>>(
        &mut self,
        now: Now,
        handler: &mut H,
    ) -> usize {
        let mut burst = ArrayVec::<P::Frame, BURST_FRAMES>::new();
        self.wire.port.receive(&mut burst);
        if burst.is_empty() {
            return 0;
        }
        for frame in &burst {
            prefetch_range::<64>(frame.bytes().as_ptr() as usize);
        }
        let mut arrivals = ArrayVec::<Arrival, BURST_FRAMES>::new();
        for (n, frame) in burst.iter_mut().enumerate() {
            match parse(frame.bytes(), frame.rx_checksum(), &self.own) {
                Ok(Packet::Tcp(segment)) => {
                    let hash = segment.key.hash(&self.secrets);
                    self.table.prefetch(hash);
                    arrivals.push(Arrival { segment, hash, frame: n as u8 });
                }
                Ok(Packet::Tagged) => arrivals.extend(self.untag(frame, n as u8, now, handler)),
                Ok(other) => self.serve_neighbor(other, frame.bytes(), now, handler),
                Err(counter) => self.dropped(counter),
            }
        }
        let mut found = [NO_FLOW; BURST_FRAMES];
        for (arrival, found) in arrivals.iter().zip(&mut found) {
            if let Some(index) = self.table.find(arrival.hash, |_| true) {
                *found = index;
            }
        }
        let is_large = self.slab.flows.len() > TCP_PREFETCH_FLOWS_MIN;
        if is_large {
            let found = &found[..arrivals.len()];
            // In one loop: each is on a different page, and the CPU translates several
            // concurrently.
            found.iter().for_each(|&index| self.slab.prefetch_tx_ring(index));
            found.iter().take(TCP_PREFETCH_LEAD).for_each(|&index| self.slab.prefetch(index));
        }
        let repeated = repeated(&found[..arrivals.len()]);
        let mut foreseen = ArrayVec::<u64, BURST_FRAMES>::new();
        if handler.foresees() {
            foreseen.extend(arrivals.iter().map(|a| handler.foresee(payload(a, &burst))));
        }
        let lead = if foreseen.is_empty() { 0 } else { FORESEE_LEAD };
        for step in 0..arrivals.len() + lead {
            // Called in one place, so that it is part of this loop.
            if let Some(&first) = foreseen.get(step) {
                handler.foresee_more(first);
            }
            let Some(n) = step.checked_sub(lead) else { continue };
            let arrival = &arrivals[n];
            if is_large {
                self.fetch_ahead(n, &found, &arrivals);
            }
            // Segments of a flow in one burst are passed to the handler together.
            let more = repeated >> n & 1 != 0
                && found[n] != NO_FLOW
                && found[n + 1..arrivals.len()].contains(&found[n]);
            let frame = &burst[usize::from(arrival.frame)];
            self.accept(arrival, found[n], frame, more, now, handler);
        }
        let received = burst.len();
        burst.drain(..).for_each(|frame| self.wire.port.recycle(frame));
        received
    }

    /// Prefetches the memory for arrivals after number `n`, some way ahead: as much at a time as
    /// can be in flight while one segment is processed.
    #[inline(always)]
    fn fetch_ahead(&self, n: usize, found: &[u32; BURST_FRAMES], arrivals: &[Arrival]) {
        if let Some(&index) = found[..arrivals.len()].get(n + TCP_PREFETCH_LEAD) {
            self.slab.prefetch(index);
        }
        // The flow itself, which determines the position in the ring, has arrived by now.
        let near = n + TCP_PREFETCH_LEAD / 2;
        if let Some(arrival) = arrivals.get(near) {
            let Segment { seq, payload_bytes, .. } = arrival.segment;
            self.slab.prefetch_rx_ring(found[near], seq, payload_bytes.into());
        }
    }

    /// Parses frame `n` of the burst again without its tag; returns it if it is a segment.
    #[cold]
    fn untag<H: Handler<Connection = C>>(
        &mut self,
        frame: &mut P::Frame,
        n: u8,
        now: Now,
        handler: &mut H,
    ) -> Option<Arrival> {
        without_tag(frame);
        match parse(frame.bytes(), frame.rx_checksum(), &self.own) {
            Ok(Packet::Tcp(segment)) => {
                let hash = segment.key.hash(&self.secrets);
                return Some(Arrival { segment, hash, frame: n });
            }
            Ok(other) => self.serve_neighbor(other, frame.bytes(), now, handler),
            Err(counter) => self.dropped(counter),
        }
        None
    }

    /// Finds the flow of `arrival`. `candidate` may be its index.
    #[inline(always)]
    fn accept<H: Handler<Connection = C>>(
        &mut self,
        arrival: &Arrival,
        candidate: u32,
        frame: &P::Frame,
        more: bool,
        now: Now,
        handler: &mut H,
    ) {
        let is_candidate = self
            .slab
            .flows
            .get(candidate as usize)
            .is_some_and(|flow| flow.key == arrival.segment.key && flow.phase != Phase::Free);
        let index = if is_candidate {
            candidate
        } else {
            let Some(index) = self.look_closer(arrival, frame, now, handler) else { return };
            index
        };
        let is_control = arrival.segment.flags & (flag::SYN | flag::RST) != 0;
        if is_control && self.meet_control(arrival, index, frame, now, handler) {
            return;
        }
        self.feed(index, &arrival.segment, frame, now);
        if !(more && is_candidate) {
            self.settle(index, now, handler);
        }
    }

    /// The flow of an arrival whose candidate is another's, or which the burst itself has moved in
    /// the table; None if it has none and is completely handled.
    #[inline(never)]
    fn look_closer<H: Handler<Connection = C>>(
        &mut self,
        arrival: &Arrival,
        frame: &P::Frame,
        now: Now,
        handler: &mut H,
    ) -> Option<u32> {
        match self.find(&arrival.segment.key, arrival.hash) {
            Some(index) if index & TIME_WAIT == 0 => return Some(index),
            Some(index) => self.late(arrival, index & !TIME_WAIT, frame, now, handler),
            None => self.stray(arrival, frame, now, handler),
        }
        None
    }

    /// Handles a SYN or RST for an existing flow. Returns whether the segment is completely
    /// handled.
    #[inline(never)]
    fn meet_control<H: Handler<Connection = C>>(
        &mut self,
        arrival: &Arrival,
        index: u32,
        frame: &P::Frame,
        now: Now,
        handler: &mut H,
    ) -> bool {
        let segment = &arrival.segment;
        if self.slab.flows[index as usize].next_hop != source_mac(frame) {
            // The challenge must reach the peer, and nobody else: ARP finds where it is now.
            self.seek(index, true, now);
        }
        let is_done = (segment.is_syn() && self.meet_syn(arrival, index, frame, now, handler))
            || (segment.has(flag::RST) && self.meet_reset(segment, index, now));
        if is_done {
            // Earlier segments of the burst may have left it to this one to settle the flow.
            let flow = &self.slab.flows[index as usize];
            if flow.key == segment.key && flow.phase != Phase::Free {
                self.settle(index, now, handler);
            }
        }
        is_done
    }

    /// Passes a segment to its flow's socket.
    #[inline(always)]
    fn feed(&mut self, index: u32, segment: &Segment, frame: &P::Frame, now: Now) {
        if self.slab.flows[index as usize].next_hop == source_mac(frame) {
            self.feed_known(index, segment, frame, now);
        } else {
            self.feed_elsewhere(index, segment, frame, now);
        }
    }

    /// The same for a segment from another MAC than the flow's frames go to.
    #[cold]
    fn feed_elsewhere(&mut self, index: u32, segment: &Segment, frame: &P::Frame, now: Now) {
        self.meet_elsewhere(index, segment, source_mac(frame), now);
        self.feed_known(index, segment, frame, now);
    }

    #[inline(always)]
    fn feed_known(&mut self, index: u32, segment: &Segment, frame: &P::Frame, now: Now) {
        let flow = &mut self.slab.flows[index as usize];
        // Only a segment that fits the receive window, and that acknowledges what we can have sent,
        // is evidence of losses, and that the peer is alive.
        let fits = segment.has(flag::ACK)
            && segment.seq.wrapping_sub(flow.ack) < TCP_RX_RING_BYTES as u32
            && acknowledges_ours(segment.ack, flow.next_seq);
        if fits || ends_in_window(flow, segment) {
            flow.received_us = now.uptime_us;
        }
        let mut packet = &frame.bytes()[ETHERNET_BYTES..][..usize::from(segment.ip_bytes)];
        let segment_bytes = self.wire.capabilities.mtu_bytes - IPV4_BYTES - TCP_BYTES;
        let retold = if fits { flow.acks.count(segment, packet, segment_bytes) } else { None };
        let mut rewritten;
        let mut times = 1;
        if let Some(retold) = retold {
            rewritten = [0; PURE_ACK_BYTES_MAX];
            packet = with_window(packet, segment.key.is_v4(), retold.window, &mut rewritten);
            times = retold.times;
        }
        if flow.phase == Phase::Connecting && segment.has(flag::SYN) {
            flow.first_seq = segment.seq.wrapping_add(1);
            flow.expected = flow.first_seq;
            flow.acks = Acks::starting(segment.ack, segment.window);
        }
        let socket = flow.socket();
        let (queued, unread) = (socket.send_queue(), socket.recv_queue());
        let was_finished = peer_finished(socket.state());

        self.wire.sent = Sent::default();
        for _ in 0..times {
            let next_hop = flow.next_hop;
            let mut device =
                OneFrame { wire: &mut self.wire, received: Some(packet), next_hop, mtu_bytes: 0 };
            self.paths.iface(flow.path).poll_ingress_single(
                stack_time(now),
                &mut device,
                &mut flow.set,
            );
        }
        flow.note(&self.wire.sent);

        let socket = flow.socket();
        let arrived = socket.recv_queue() - unread;
        let finishes = !was_finished && peer_finished(socket.state());
        let has_news = arrived > 0 || socket.send_queue() < queued || finishes;
        flow.expected = flow.expected.wrapping_add(arrived as u32 + u32::from(finishes));
        flow.is_stirred |= has_news && flow.phase == Phase::Open;
    }

    /// Handles a SYN for an existing flow: its peer has lost its state, or it is an attack. Returns
    /// whether the segment is completely handled.
    fn meet_syn<H: Handler<Connection = C>>(
        &mut self,
        arrival: &Arrival,
        index: u32,
        frame: &P::Frame,
        now: Now,
        handler: &mut H,
    ) -> bool {
        let flow = &mut self.slab.flows[index as usize];
        if flow.phase == Phase::HalfOpen && flow.socket().state() != State::SynReceived {
            // A segment of the same burst completed the handshake.
            self.settle(index, now, handler);
        }
        let flow = &self.slab.flows[index as usize];
        match flow.phase {
            Phase::Free => {
                self.stray(arrival, frame, now, handler);
                true
            }
            // The same SYN again: smoltcp repeats its answer by its own timer.
            Phase::HalfOpen if flow.first_seq == arrival.segment.seq.wrapping_add(1) => true,
            // A different SYN: the first was an earlier attempt's.
            Phase::HalfOpen => {
                self.release(index, handler);
                self.stray(arrival, frame, now, handler);
                true
            }
            // smoltcp handles a simultaneous open.
            Phase::Connecting => false,
            // RFC 5961, 4.2: a challenge, so that an honest peer that has lost its state resets.
            _ => {
                self.challenge(index, now);
                true
            }
        }
    }

    /// Handles a RST for an existing flow. Only one with exactly the next sequence number may end
    /// it; one that is merely in the window may be forged, and is challenged (RFC 5961, 3.2).
    /// Returns whether the segment is completely handled.
    fn meet_reset(&mut self, segment: &Segment, index: u32, now: Now) -> bool {
        let flow = &self.slab.flows[index as usize];
        let is_exact = segment.seq == flow.expected || segment.seq == flow.ack;
        if is_exact || flow.phase == Phase::Connecting {
            return false;
        }
        if segment.seq.wrapping_sub(flow.expected) < TCP_RX_RING_BYTES as u32 {
            self.challenge(index, now);
        }
        true
    }

    /// Sends a challenge to the peer of flow `index`.
    fn challenge(&mut self, index: u32, now: Now) {
        let flow = &mut self.slab.flows[index as usize];
        if flow.allowance.take(now.uptime_us) {
            let (seq, ack, key, to) = (flow.next_seq, flow.ack, flow.key, flow.next_hop);
            self.reply(&key, to, seq, ack, flag::ACK);
        }
    }

    /// A segment for a tuple in TIME-WAIT.
    fn late<H: Handler<Connection = C>>(
        &mut self,
        arrival: &Arrival,
        place: u32,
        frame: &P::Frame,
        now: Now,
        handler: &mut H,
    ) {
        let record = *self.waits.get(place);
        let segment = &arrival.segment;
        let is_newer = segment.seq.wrapping_sub(record.ack) as i32 > 0;
        // The peer's FIN again, from wherever it is now.
        let end = segment.seq.wrapping_add(segment.sequence_length());
        let is_last = segment.ack == record.seq && end == record.ack;
        if segment.is_syn() && is_newer {
            // RFC 9293, 3.6.1: a new connection may start beyond the old one's sequence numbers.
            self.table.remove(record.hash, place | TIME_WAIT);
            self.waits.forget(place);
            return self.stray(arrival, frame, now, handler);
        }
        // A RST changes nothing here (RFC 1337, 3, F1).
        let is_asking = !segment.has(flag::RST) && segment.sequence_length() > 0;
        if is_asking && self.waits.may_answer(place, now.uptime_us) {
            let to = if is_last { source_mac(frame) } else { record.next_hop };
            self.reply(&record.key, to, record.seq, record.ack, flag::ACK);
        }
    }

    /// A segment of no connection.
    fn stray<H: Handler<Connection = C>>(
        &mut self,
        arrival: &Arrival,
        frame: &P::Frame,
        now: Now,
        handler: &mut H,
    ) {
        let segment = &arrival.segment;
        if segment.is_syn()
            && self.is_listening
            && let Some(listener) =
                self.ports.iter().position(|&port| port == segment.key.local_port())
        {
            if let Some(stranger) = self.stranger(&segment.key, listener) {
                self.places.report_not_allowed(stranger, now);
                self.dropped(Counter::RejectedByAllow);
            } else if self.places.may_try() {
                return self.begin(arrival, listener as u8, frame, now, handler);
            } else {
                self.dropped(Counter::RejectedConnections);
            }
        } else {
            self.dropped(Counter::SegmentsUnknownFlow);
        }
        if segment.has(flag::RST) || !self.strays.take(&segment.key, now.uptime_us) {
            return;
        }
        // RFC 9293, 3.5.2, group 1.
        let to = source_mac(frame);
        if segment.has(flag::ACK) {
            self.reply(&segment.key, to, segment.ack, 0, flag::RST);
        } else {
            let ack = segment.seq.wrapping_add(segment.sequence_length());
            self.reply(&segment.key, to, 0, ack, flag::RST | flag::ACK);
        }
    }

    /// The peer, if it may not connect to `listener`. It gets what a port without a listener
    /// answers, a RST from its share of those: it cannot tell the two apart, and a client that was
    /// forgotten fails at once instead of after its time-out.
    fn stranger(&self, key: &FlowKey, listener: usize) -> Option<IpAddr> {
        let allow = self.allow.get(listener).filter(|allow| !allow.is_everyone())?;
        Some(key.remote_ip()).filter(|peer| !allow.contains(*peer))
    }

    /// Starts a connection with a SYN for `listener`.
    fn begin<H: Handler<Connection = C>>(
        &mut self,
        arrival: &Arrival,
        listener: u8,
        frame: &P::Frame,
        now: Now,
        handler: &mut H,
    ) {
        if self.half_open.len() == TCP_HALF_OPEN_MAX {
            let oldest = self.half_open.oldest().expect("half-open flows are in the list");
            self.dropped(Counter::HalfOpenDropped);
            self.release(oldest, handler);
        }
        let Some(index) = self.slab.claim() else {
            return self.dropped(Counter::HalfOpenDropped);
        };
        let segment = &arrival.segment;
        let path = self.paths.towards(segment.key.remote, &self.secrets, now);
        let flow = &mut self.slab.flows[index as usize];
        flow.begin(Phase::HalfOpen, segment.key, arrival.hash, now);
        flow.path = path;
        flow.listener = listener;
        flow.next_hop = source_mac(frame);
        flow.first_seq = segment.seq.wrapping_add(1);
        flow.expected = flow.first_seq;
        flow.socket().listen(segment.key.local_port()).expect("a closed socket listens");

        let seed = self.isn.seed(&segment.key, now.uptime_us);
        let mtu_bytes = self.wire.capabilities.mtu_bytes;
        let mut iface = new_interface(&mut self.wire, mtu_bytes, seed, now);
        iface.update_ip_addrs(|list| list.extend(self.paths.addresses().iter().copied()));
        let packet = &frame.bytes()[ETHERNET_BYTES..][..usize::from(segment.ip_bytes)];
        let next_hop = flow.next_hop;
        let mut device =
            OneFrame { wire: &mut self.wire, received: Some(packet), next_hop, mtu_bytes };
        iface.poll_ingress_single(stack_time(now), &mut device, &mut flow.set);

        self.table.insert(arrival.hash, index);
        self.half_open.push(index);
        self.settle(index, now, handler);
    }

    /// Sends a segment without data that belongs to no socket.
    fn reply(&mut self, key: &FlowKey, to: [u8; 6], seq: u32, ack: u32, flags: u8) {
        let is_v4 = key.is_v4();
        let ip_bytes = if is_v4 { IPV4_BYTES } else { IPV6_BYTES };
        self.wire.send_segment(to, ip_bytes + TCP_BYTES, |out| {
            let (ip, tcp) = out.split_at_mut(ip_bytes);
            if is_v4 {
                let length = (IPV4_BYTES + TCP_BYTES) as u8;
                ip[..12].copy_from_slice(&[
                    0x45,
                    0,
                    0,
                    length,
                    0,
                    0,
                    0x40,
                    0,
                    64,
                    PROTOCOL_TCP,
                    0,
                    0,
                ]);
                ip[12..16].copy_from_slice(&(key.local[1] as u32).to_be_bytes());
                ip[16..].copy_from_slice(&(key.remote[1] as u32).to_be_bytes());
            } else {
                ip[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, TCP_BYTES as u8, PROTOCOL_TCP, 64]);
                for (i, word) in key.local.iter().chain(&key.remote).enumerate() {
                    ip[8 + i * 8..16 + i * 8].copy_from_slice(&word.to_be_bytes());
                }
            }
            tcp[..2].copy_from_slice(&key.local_port().to_be_bytes());
            tcp[2..4].copy_from_slice(&key.remote_port().to_be_bytes());
            tcp[4..8].copy_from_slice(&seq.to_be_bytes());
            tcp[8..12].copy_from_slice(&ack.to_be_bytes());
            let window = if flags & flag::RST != 0 { 0 } else { TCP_RX_RING_BYTES as u16 };
            tcp[12..14].copy_from_slice(&[0x50, flags]);
            tcp[14..16].copy_from_slice(&window.to_be_bytes());
            tcp[16..].fill(0);
        });
    }
}

/// Whether a segment that begins before the window ends in it (RFC 9293, 3.10.7.4): a
/// retransmission with some new data.
#[cold]
fn ends_in_window<C>(flow: &Flow<C>, segment: &Segment) -> bool {
    let last = segment.seq.wrapping_add(segment.sequence_length()).wrapping_sub(1);
    segment.has(flag::ACK)
        && segment.sequence_length() > 0
        && last.wrapping_sub(flow.ack) < TCP_RX_RING_BYTES as u32
        && acknowledges_ours(segment.ack, flow.next_seq)
}

impl<C> Flow<C> {
    /// Notes what was sent for it. A retransmission ends before what was sent already.
    #[inline(always)]
    pub(super) fn note(&mut self, sent: &Sent) {
        if sent.segments > 0 {
            if sent.next_seq.wrapping_sub(self.next_seq) as i32 > 0 {
                self.next_seq = sent.next_seq;
            }
            self.ack = sent.ack;
        }
    }

    /// Initializes a claimed flow for `key`.
    pub(super) fn begin(&mut self, phase: Phase, key: FlowKey, hash: u32, now: Now) {
        assert_eq!(self.phase, Phase::Free, "a claimed flow is free");
        self.key = key;
        self.hash = hash;
        self.phase = phase;
        self.is_stirred = false;
        self.next_seq = 0;
        self.ack = 0;
        self.acks = Acks::default();
        self.allowance = Allowance::default();
        self.received_us = now.uptime_us;
        self.since_us = now.uptime_us;
        self.renew();
    }
}
