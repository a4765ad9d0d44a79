//! Parsing of received frames, which anyone may have sent.
//!
//! Everything that smoltcp does not need to see is recognized here, and everything that no honest
//! peer sends is refused with a counter. Nothing here may panic, whatever the bytes are, and no
//! length from the frame is used before it was compared with the frame's own.

use super::checksum::{Sum, pseudo_header};
use super::device::{Frame, RxChecksum};
use super::flows::FlowKey;
use super::headers::{
    ETHERNET_BYTES, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN,
    ETHERTYPE_VLAN, IPV4_BYTES, IPV6_BYTES, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP,
    TCP_BYTES, be16, be32, be128, flag,
};
use super::own::Own;
use crate::base::stats::Counter;

/// Length of a VLAN tag.
const TAG_BYTES: usize = 4;
/// Most tags in one frame that are skipped.
const TAGS_MAX: usize = 2;

/// A received TCP segment, well formed and for one of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub key: FlowKey,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    /// Length of the IP packet; it begins after the Ethernet header.
    pub ip_bytes: u16,
    pub payload_bytes: u16,
}

impl Segment {
    /// Whether all of `flags` are set.
    #[inline(always)]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Whether this requests a connection.
    #[inline(always)]
    pub fn is_syn(&self) -> bool {
        self.flags & (flag::SYN | flag::ACK) == flag::SYN
    }

    /// The length of the segment in sequence numbers (RFC 9293, 3.4, SEG.LEN).
    pub fn sequence_length(&self) -> u32 {
        u32::from(self.payload_bytes)
            + u32::from(self.has(flag::SYN))
            + u32::from(self.has(flag::FIN))
    }
}

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    Tcp(Segment),
    /// ARP: the content after the Ethernet header is unchecked.
    Arp,
    /// ICMP in IPv4 to one of our addresses; the length of the IP packet.
    Icmp(u16),
    /// ICMPv6, perhaps multicast; the length of the IP packet.
    Icmpv6(u16),
    /// IPv6 to a group with hop-by-hop options, like queries for listeners; its length.
    Listener(u16),
    /// Any of these behind a tag of VLAN 0, which means a priority and no VLAN (IEEE 802.1Q, 6.9):
    /// see [`without_tag`].
    Tagged,
}

/// Whether `frame` has a tag of VLAN 0.
fn is_priority_tagged(frame: &[u8]) -> bool {
    let Some(tag) = frame.get(12..12 + TAG_BYTES) else { return false };
    let is_tag = matches!([tag[0], tag[1]], ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN);
    is_tag && be16(tag, 2) & 0x0fff == 0
}

/// Removes the tags of VLAN 0 from a frame.
pub fn without_tag<F: Frame>(frame: &mut F) {
    for _ in 0..TAGS_MAX {
        let bytes = frame.bytes().len();
        if !is_priority_tagged(frame.bytes()) {
            return;
        }
        frame.bytes_mut().copy_within(12 + TAG_BYTES.., 12);
        frame.set_len(bytes - TAG_BYTES);
    }
}

const MALFORMED: Counter = Counter::FramesMalformed;
const NOT_FOR_US: Counter = Counter::FramesNotForUs;
const BAD_CHECKSUM: Counter = Counter::FramesBadChecksum;

/// Determines the kind of `frame`.
///
/// # Errors
/// The counter of dropped frames.
#[inline(always)]
pub fn parse(frame: &[u8], checksum: RxChecksum, own: &Own) -> Result<Packet, Counter> {
    let (ethernet, packet) = frame.split_first_chunk::<ETHERNET_BYTES>().ok_or(MALFORMED)?;
    let is_ours = ethernet[..6] == own.mac;
    let is_group = ethernet[0] & 1 != 0;
    if !is_ours && !is_group {
        return Err(NOT_FOR_US);
    }
    if ethernet[6] & 1 != 0 {
        return Err(MALFORMED);
    }
    match [ethernet[12], ethernet[13]] {
        ETHERTYPE_IPV4 if is_ours => ipv4(packet, checksum, own),
        ETHERTYPE_IPV6 => ipv6(packet, checksum, own, is_ours),
        ETHERTYPE_ARP => Ok(Packet::Arp),
        ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN if is_priority_tagged(frame) => Ok(Packet::Tagged),
        // Other VLANs and everything else: a device removes the tags that it is configured to
        // remove.
        _ => Err(NOT_FOR_US),
    }
}

#[inline(always)]
fn ipv4(packet: &[u8], checksum: RxChecksum, own: &Own) -> Result<Packet, Counter> {
    let header: &[u8; IPV4_BYTES] = packet.first_chunk().ok_or(MALFORMED)?;
    // Version 4, no options: source routes (RFC 7126, 4.3) and other options are not needed between
    // a cache and its clients.
    if header[0] != 0x45 {
        return Err(MALFORMED);
    }
    let ip_bytes = be16(header, 2);
    if usize::from(ip_bytes) < IPV4_BYTES || usize::from(ip_bytes) > packet.len() {
        return Err(MALFORMED);
    }
    let (source, destination) = (be32(header, 12), be32(header, 16));
    if !own.has_v4(destination) {
        return Err(NOT_FOR_US);
    }
    // More fragments, or an offset: reassembly is not supported.
    if be16(header, 6) & 0x3fff != 0 || !own.is_peer_v4(source) {
        return Err(MALFORMED);
    }
    match checksum {
        RxChecksum::Good => (),
        RxChecksum::Bad => return Err(BAD_CHECKSUM),
        RxChecksum::Unknown => {
            if !Sum::default().add(header).is_intact() {
                return Err(BAD_CHECKSUM);
            }
        }
    }
    match header[9] {
        PROTOCOL_TCP => {
            let tcp = &packet[IPV4_BYTES..usize::from(ip_bytes)];
            let make = |ports| FlowKey::v4(source, destination, ports);
            segment(tcp, &header[12..], checksum, ip_bytes, make)
        }
        PROTOCOL_ICMP => Ok(Packet::Icmp(ip_bytes)),
        _ => Err(NOT_FOR_US),
    }
}

#[inline(never)]
fn ipv6(packet: &[u8], checksum: RxChecksum, own: &Own, is_ours: bool) -> Result<Packet, Counter> {
    let header: &[u8; IPV6_BYTES] = packet.first_chunk().ok_or(MALFORMED)?;
    let payload_bytes = usize::from(be16(header, 4));
    if header[0] >> 4 != 6 || IPV6_BYTES + payload_bytes > packet.len() {
        return Err(MALFORMED);
    }
    let ip_bytes = u16::try_from(IPV6_BYTES + payload_bytes).map_err(|_| MALFORMED)?;
    let (addresses, _) = header[8..].as_chunks::<16>();
    let (source, destination) = (be128(&addresses[0]), be128(&addresses[1]));
    match header[6] {
        PROTOCOL_TCP if is_ours && own.has_v6(destination) => {
            if !own.is_peer_v6(source) {
                return Err(MALFORMED);
            }
            let tcp = &packet[IPV6_BYTES..usize::from(ip_bytes)];
            let make = |ports| FlowKey::v6(source, destination, ports);
            segment(tcp, &header[8..], checksum, ip_bytes, make)
        }
        PROTOCOL_ICMPV6 => Ok(Packet::Icmpv6(ip_bytes)),
        0 if destination >> 120 == 0xff => Ok(Packet::Listener(ip_bytes)),
        // Also extension headers: routing headers and fragments are refused, and clients of a cache
        // do not need the others.
        0 | 43 | 44 | 60 if own.has_v6(destination) => Err(MALFORMED),
        _ => Err(NOT_FOR_US),
    }
}

#[inline(always)]
fn segment(
    tcp: &[u8],
    addresses: &[u8],
    checksum: RxChecksum,
    ip_bytes: u16,
    key: impl FnOnce(u32) -> FlowKey,
) -> Result<Packet, Counter> {
    let header: &[u8; TCP_BYTES] = tcp.first_chunk().ok_or(MALFORMED)?;
    let header_bytes = usize::from(header[12] >> 4) * 4;
    if header_bytes < TCP_BYTES || header_bytes > tcp.len() {
        return Err(MALFORMED);
    }
    match checksum {
        RxChecksum::Good => (),
        RxChecksum::Bad => return Err(BAD_CHECKSUM),
        RxChecksum::Unknown => {
            if !pseudo_header(addresses, PROTOCOL_TCP, tcp.len()).add(tcp).is_intact() {
                return Err(BAD_CHECKSUM);
            }
        }
    }
    let flags = header[13];
    let ports = be32(header, 0);
    if !are_sensible(flags) || ports >> 16 == 0 || ports & 0xffff == 0 {
        return Err(MALFORMED);
    }
    if header_bytes > TCP_BYTES && !are_well_formed(&tcp[TCP_BYTES..header_bytes]) {
        return Err(MALFORMED);
    }
    Ok(Packet::Tcp(Segment {
        key: key(ports),
        seq: be32(header, 4),
        ack: be32(header, 8),
        flags,
        window: be16(header, 14),
        ip_bytes,
        payload_bytes: (tcp.len() - header_bytes) as u16,
    }))
}

/// Whether an honest TCP sends these control bits together: at most one of SYN, FIN and RST, and
/// ACK on everything but SYN and RST. No client of a cache sends urgent data, and its meaning
/// differs from system to system (RFC 6093), so URG is refused.
#[inline(always)]
fn are_sensible(flags: u8) -> bool {
    let control = flags & (flag::SYN | flag::FIN | flag::RST);
    flags & flag::URG == 0
        && control & control.wrapping_sub(1) == 0
        && (flags & flag::ACK != 0 || control & (flag::SYN | flag::RST) != 0)
}

/// Whether TCP options can be parsed and have the lengths of their kinds (RFC 9293, 3.1; RFC 7323;
/// RFC 2018).
fn are_well_formed(mut options: &[u8]) -> bool {
    while let [kind, rest @ ..] = options {
        match kind {
            0 => return true,
            1 => options = rest,
            _ => {
                let Some(&length) = rest.first() else { return false };
                let fits = match kind {
                    2 => length == 4,
                    3 => length == 3,
                    4 => length == 2,
                    5 => length >= 10 && (length - 2) % 8 == 0,
                    8 => length == 10,
                    _ => length >= 2,
                };
                let Some(left) = options.get(usize::from(length)..) else { return false };
                if !fits {
                    return false;
                }
                options = left;
            }
        }
    }
    true
}
