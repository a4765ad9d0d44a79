//! A port, and how our packets are written into its frames: Ethernet header, checksums, and a
//! record of what was sent. Nothing here waits: a packet for which there is no frame is lost.

use std::sync::Arc;

use super::checksum::{Sum, pseudo_header};
use super::device::{Capabilities, Frame, Port, TxOffload};
use super::headers::{
    ETHERNET_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_BYTES, IPV6_BYTES, PROTOCOL_TCP, be32,
    flag,
};
use crate::base::limits::{TCP_MTU_MAX_BYTES, TCP_MTU_MIN_BYTES};
use crate::base::stats::{Counter, WorkerStats};

/// What was sent since [`Wire::start`]: facts about our own segments that smoltcp does not expose.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub segments: u32,
    pub payload_bytes: u32,
    /// Sequence numbers used: payload, SYN and FIN.
    pub sequence_bytes: u32,
    /// There was no frame for another segment.
    pub is_starved: bool,
    /// Sequence number after the newest segment of earlier visits; 0: there was none.
    pub known_seq: u32,
    /// Sequence number after the newest segment.
    pub next_seq: u32,
    /// The acknowledgement number of the newest segment.
    pub ack: u32,
}

/// A port, and how TCP/IP packets are written into its frames.
pub(super) struct Wire<P: Port> {
    pub port: P,
    pub capabilities: Capabilities,
    pub stats: Arc<WorkerStats>,
    pub sent: Sent,
    /// A frame between its allocation and its use.
    spare: Option<P::Frame>,
    /// Receives a packet for which there was no frame.
    sink: Box<[u8]>,
}

impl<P: Port> Wire<P> {
    pub fn new(port: P, stats: Arc<WorkerStats>) -> Wire<P> {
        let capabilities = port.capabilities();
        let sink = vec![0; capabilities.mtu_bytes.max(TCP_MTU_MAX_BYTES)].into_boxed_slice();
        Wire { port, capabilities, stats, sent: Sent::default(), spare: None, sink }
    }

    /// `bytes` bounded to MTUs that fit into frames and that TCP can work with.
    pub fn bound_mtu(&self, bytes: usize) -> usize {
        bytes.clamp(TCP_MTU_MIN_BYTES, self.sink.len())
    }

    /// Whether there is a frame to fill.
    #[inline(always)]
    pub fn prepare(&mut self) -> bool {
        if self.spare.is_none() {
            self.spare = self.port.allocate();
            if self.spare.is_none() {
                self.stats.add(Counter::TxNoBuffer, 1);
                self.sent.is_starved = true;
            }
        }
        self.spare.is_some()
    }

    /// Sends a frame of `bytes` bytes with its Ethernet header written here, the rest by `fill`.
    /// Returns whether there was a frame.
    pub fn send_raw(
        &mut self,
        to: [u8; 6],
        kind: [u8; 2],
        bytes: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> bool {
        if !self.prepare() {
            return false;
        }
        let Some(mut frame) = self.spare.take() else { unreachable!("prepared") };
        frame.set_len(bytes);
        let out = frame.bytes_mut();
        write_ethernet(out, to, self.capabilities.mac, kind);
        fill(&mut out[ETHERNET_BYTES..]);
        self.hand_over(frame)
    }

    /// Sends one TCP/IP packet of `bytes` bytes, written by `fill` without checksums.
    #[inline(always)]
    pub fn send_segment<R>(
        &mut self,
        to: [u8; 6],
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        if !self.prepare() {
            return fill(&mut self.sink[..bytes]);
        }
        let Some(mut frame) = self.spare.take() else { unreachable!("prepared") };
        frame.set_len(ETHERNET_BYTES + bytes);
        let out = frame.bytes_mut();
        let result = fill(&mut out[ETHERNET_BYTES..]);
        let is_ipv4 = out[ETHERNET_BYTES] >> 4 == 4;
        let kind = if is_ipv4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        write_ethernet(out, to, self.capabilities.mac, kind);
        let offload = self.capabilities.tx_checksum;
        let ip_header_bytes = finish_segment(&mut out[ETHERNET_BYTES..], is_ipv4, offload);
        self.note(&frame.bytes()[ETHERNET_BYTES + ip_header_bytes..]);
        if offload {
            let ip_header_bytes = ip_header_bytes as u16;
            frame.set_tx_offload(TxOffload { is_ipv4, ip_header_bytes });
        }
        self.hand_over(frame);
        result
    }

    /// Notes the numbers of the segment `tcp`.
    #[inline(always)]
    fn note(&mut self, tcp: &[u8]) {
        let payload = (tcp.len() - usize::from(tcp[12] >> 4) * 4) as u32;
        let flags = tcp[13];
        if flags & flag::RST != 0 {
            // Its numbers are those of the segment that it answers, not the flow's.
            self.stats.add(Counter::ResetsSent, 1);
            return;
        }
        let length =
            payload + u32::from(flags & flag::SYN != 0) + u32::from(flags & flag::FIN != 0);
        self.sent.segments += 1;
        self.sent.payload_bytes += payload;
        self.sent.sequence_bytes += length;
        let seq = be32(tcp, 4);
        if (seq.wrapping_sub(self.sent.known_seq) as i32) < 0 {
            self.note_repeated(length, payload);
        }
        self.sent.next_seq = seq.wrapping_add(length);
        self.sent.ack = be32(tcp, 8);
    }

    /// Notes a segment that begins before what was sent already. One byte alone is a probe: no
    /// reply is that short.
    #[cold]
    fn note_repeated(&mut self, length: u32, payload: u32) {
        if self.sent.known_seq != 0 && length > 0 && payload != 1 {
            self.stats.add(Counter::SegmentsRetransmitted, 1);
        }
    }

    #[inline(always)]
    fn hand_over(&mut self, frame: P::Frame) -> bool {
        let is_sent = self.port.send(frame).is_ok();
        if !is_sent {
            self.stats.add(Counter::TxNoBuffer, 1);
        }
        is_sent
    }
}

#[inline(always)]
fn write_ethernet(out: &mut [u8], to: [u8; 6], from: [u8; 6], kind: [u8; 2]) {
    let header: &mut [u8; ETHERNET_BYTES] = out.first_chunk_mut().expect("a frame has a header");
    header[..6].copy_from_slice(&to);
    header[6..12].copy_from_slice(&from);
    header[12..].copy_from_slice(&kind);
}

/// Fills in the checksums of a TCP/IP packet whose checksum fields are zero, or the fields that the
/// device needs to do so. Returns the length of the IP header.
#[inline(always)]
fn finish_segment(packet: &mut [u8], is_ipv4: bool, offload: bool) -> usize {
    let (ip_bytes, addresses) = if is_ipv4 { (IPV4_BYTES, 12) } else { (IPV6_BYTES, 8) };
    let (ip, tcp) = packet.split_at_mut(ip_bytes);
    let pseudo = pseudo_header(&ip[addresses..], PROTOCOL_TCP, tcp.len());
    if offload {
        tcp[16..18].copy_from_slice(&pseudo.fold());
        return ip_bytes;
    }
    if is_ipv4 {
        let header = Sum::default().add(ip).complement();
        ip[10..12].copy_from_slice(&header);
    }
    let sum = pseudo.add(tcp).complement();
    tcp[16..18].copy_from_slice(&sum);
    ip_bytes
}
