//! What the stack needs from something that moves frames: a queue pair of a device, or a test's
//! wire.
//!
//! Frames go in bursts; a frame is an owned value that returns to its pool when dropped. Nothing
//! here waits: what a device does not take stays queued, bounded, with the port.

use std::sync::Arc;

use arrayvec::ArrayVec;
use smoltcp::phy;
use smoltcp::time::Instant;

use super::checksum::{Sum, pseudo_header};
use super::segment::{
    ETHERNET_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_BYTES, IPV6_BYTES, PROTOCOL_TCP, be32,
    flag,
};
use crate::limits::{BURST_FRAMES, TCP_MTU_MAX_BYTES, TCP_MTU_MIN_BYTES};
use crate::stats::{Counter, WorkerStats};

/// What a device says of a received frame's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxChecksum {
    /// It verified IP header and TCP checksum, and both are right.
    Good,
    /// It found one of them wrong.
    Bad,
    /// It did not look: software has to.
    Unknown,
}

/// What a device shall fill in before it sends a frame. Lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxOffload {
    /// IPv4 (whose header checksum is wanted too) or IPv6.
    pub is_ipv4: bool,
    /// Length of the IP header.
    pub ip_header_bytes: u16,
}

/// One Ethernet frame in memory that a device can reach.
pub trait Frame {
    /// The frame, from the destination address on, without FCS.
    fn bytes(&self) -> &[u8];

    /// The frame, writable.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Sets the length to `bytes`; what is gained has any content.
    ///
    /// # Panics
    /// If `bytes` is more than [`Frame::capacity_bytes`].
    fn set_len(&mut self, bytes: usize);

    /// Most bytes the frame can have.
    fn capacity_bytes(&self) -> usize;

    /// What the device said of its checksums.
    fn rx_checksum(&self) -> RxChecksum;

    /// Asks the device to compute the checksums. The TCP checksum field holds the sum of the
    /// pseudo-header then, the IPv4 header's is zero. Only if [`Capabilities::tx_checksum`].
    fn set_tx_offload(&mut self, offload: TxOffload);
}

/// What a port can do.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// The device's own address.
    pub mac: [u8; 6],
    /// Longest IP packet that the device takes at first, in bytes.
    pub mtu_bytes: usize,
    /// The device computes IPv4 header and TCP checksums.
    pub tx_checksum: bool,
}

/// A queue pair: where one worker's frames come from and go to.
pub trait Port {
    /// What it moves.
    type Frame: Frame;

    /// What it can do; constant.
    fn capabilities(&self) -> Capabilities;

    /// Adds received frames to `burst`, up to its capacity. Bounded, never waits.
    fn receive(&mut self, burst: &mut ArrayVec<Self::Frame, BURST_FRAMES>);

    /// An empty frame that an IP packet of [`TCP_MTU_MAX_BYTES`], or of [`Capabilities::mtu_bytes`]
    /// if that is more, and its Ethernet header fit into, or None if the pool has none left.
    fn allocate(&mut self) -> Option<Self::Frame>;

    /// Takes back a received frame that is done with: the next one allocated may be it.
    #[inline]
    fn recycle(&mut self, frame: Self::Frame) {
        drop(frame);
    }

    /// Queues a frame for [`Port::flush`].
    ///
    /// # Errors
    /// The frame, if the queue is full: the device takes less than is sent. It counts as lost.
    fn send(&mut self, frame: Self::Frame) -> Result<(), Self::Frame>;

    /// Offers all queued frames to the device once. What it does not take stays queued. To be
    /// called every turn: a port may carry other workers' frames too.
    fn flush(&mut self);

    /// Frames moved for other workers since the last call: work of this turn that no frame in a
    /// burst shows.
    fn take_forwarded(&mut self) -> usize {
        0
    }
}

/// What was sent since [`Wire::start`]: the facts about our own segments that smoltcp keeps to
/// itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub segments: u32,
    pub payload_bytes: u32,
    /// Sequence numbers that they took: payload, SYN and FIN.
    pub sequence_bytes: u32,
    /// There was no frame for one more.
    pub is_starved: bool,
    /// Sequence number after the newest segment.
    pub next_seq: u32,
    /// What the newest segment acknowledged.
    pub ack: u32,
}

/// A port, and how TCP/IP packets get into its frames.
pub(super) struct Wire<P: Port> {
    pub port: P,
    pub capabilities: Capabilities,
    pub stats: Arc<WorkerStats>,
    pub sent: Sent,
    /// Kept between asking whether a frame can be had and filling it.
    spare: Option<P::Frame>,
    /// Takes the answer for which there was no frame.
    sink: Box<[u8]>,
}

impl<P: Port> Wire<P> {
    pub fn new(port: P, stats: Arc<WorkerStats>) -> Wire<P> {
        let capabilities = port.capabilities();
        let sink = vec![0; capabilities.mtu_bytes.max(TCP_MTU_MAX_BYTES)].into_boxed_slice();
        Wire { port, capabilities, stats, sent: Sent::default(), spare: None, sink }
    }

    /// `bytes` as an MTU that frames have room for, and TCP can work with.
    pub fn bound_mtu(&self, bytes: usize) -> usize {
        bytes.clamp(TCP_MTU_MIN_BYTES, self.sink.len())
    }

    /// Whether there is a frame to fill.
    #[inline(always)]
    fn prepare(&mut self) -> bool {
        if self.spare.is_none() {
            self.spare = self.port.allocate();
            if self.spare.is_none() {
                self.stats.add(Counter::TxNoBuffer, 1);
                self.sent.is_starved = true;
            }
        }
        self.spare.is_some()
    }

    /// Sends a frame of `bytes` bytes with its Ethernet header written, all else by `fill`.
    pub fn send_raw(
        &mut self,
        to: [u8; 6],
        kind: [u8; 2],
        bytes: usize,
        fill: impl FnOnce(&mut [u8]),
    ) {
        if !self.prepare() {
            return;
        }
        let Some(mut frame) = self.spare.take() else { unreachable!("prepared") };
        frame.set_len(bytes);
        let out = frame.bytes_mut();
        write_ethernet(out, to, self.capabilities.mac, kind);
        fill(&mut out[ETHERNET_BYTES..]);
        self.hand_over(frame);
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

    /// Remembers what the segment `tcp` says.
    #[inline(always)]
    fn note(&mut self, tcp: &[u8]) {
        let payload = (tcp.len() - usize::from(tcp[12] >> 4) * 4) as u32;
        let flags = tcp[13];
        let length =
            payload + u32::from(flags & flag::SYN != 0) + u32::from(flags & flag::FIN != 0);
        self.sent.segments += 1;
        self.sent.payload_bytes += payload;
        self.sent.sequence_bytes += length;
        self.sent.next_seq = be32(tcp, 4).wrapping_add(length);
        self.sent.ack = be32(tcp, 8);
        if flags & flag::RST != 0 {
            self.stats.add(Counter::ResetsSent, 1);
        }
    }

    #[inline(always)]
    fn hand_over(&mut self, frame: P::Frame) {
        if self.port.send(frame).is_err() {
            self.stats.add(Counter::TxNoBuffer, 1);
        }
    }
}

#[inline(always)]
fn write_ethernet(out: &mut [u8], to: [u8; 6], from: [u8; 6], kind: [u8; 2]) {
    let header: &mut [u8; ETHERNET_BYTES] = out.first_chunk_mut().expect("a frame with a header");
    header[..6].copy_from_slice(&to);
    header[6..12].copy_from_slice(&from);
    header[12..].copy_from_slice(&kind);
}

/// Fills in the checksums of a TCP/IP packet whose checksum fields are zero, or what the device
/// needs to do so. Returns the length of the IP header.
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

/// The device that smoltcp sees: at most one packet to receive, and as many to send as there are
/// frames, all of one flow.
pub(super) struct OneFrame<'a, P: Port> {
    pub wire: &'a mut Wire<P>,
    pub received: Option<&'a [u8]>,
    pub next_hop: [u8; 6],
    /// Read by smoltcp when an interface is made, and not again.
    pub mtu_bytes: usize,
}

impl<P: Port> phy::Device for OneFrame<'_, P> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Sending<'t, P>
    where
        Self: 't;

    #[inline(always)]
    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_, P>)> {
        let packet = self.received.take()?;
        Some((Received(packet), Sending { wire: self.wire, next_hop: self.next_hop }))
    }

    #[inline(always)]
    fn transmit(&mut self, _: Instant) -> Option<Sending<'_, P>> {
        let next_hop = self.next_hop;
        self.wire.prepare().then_some(Sending { wire: self.wire, next_hop })
    }

    #[inline(always)]
    fn capabilities(&self) -> phy::DeviceCapabilities {
        device_capabilities(self.mtu_bytes)
    }
}

/// What smoltcp is told about a device: it neither verifies nor computes a checksum itself.
#[inline(always)]
fn device_capabilities(mtu_bytes: usize) -> phy::DeviceCapabilities {
    let mut capabilities = phy::DeviceCapabilities::default();
    capabilities.medium = phy::Medium::Ip;
    capabilities.max_transmission_unit = mtu_bytes;
    capabilities.checksum = phy::ChecksumCapabilities::ignored();
    capabilities
}

pub(super) struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    #[inline(always)]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct Sending<'a, P: Port> {
    wire: &'a mut Wire<P>,
    next_hop: [u8; 6],
}

impl<P: Port> phy::TxToken for Sending<'_, P> {
    #[inline(always)]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, f: F) -> R {
        self.wire.send_segment(self.next_hop, bytes, f)
    }
}
