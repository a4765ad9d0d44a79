//! A router's report that a packet was too long for it (RFC 1191, RFC 8201), parsed from its ICMP
//! message. Whether it is accepted is decided elsewhere.

use super::flows::FlowKey;
use super::headers::{IPV4_BYTES, IPV6_BYTES, PROTOCOL_TCP, be16, be32, be128};
use super::own::Own;
use crate::base::limits::{TCP_MTU_V4_MIN_BYTES, TCP_MTU_V6_MIN_BYTES};
use crate::base::stats::Counter;

/// Bytes of a quoted segment that are read: ports and sequence number.
const QUOTED_BYTES: usize = 8;

/// MTUs assumed for a router that reports none: common ones (RFC 1191, 7.1).
const PLATEAUS: [u16; 4] = [1492, 1280, 1006, TCP_MTU_V4_MIN_BYTES];

/// A report that a packet of ours is too long for a link on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooBig {
    pub key: FlowKey,
    /// Of the packet, as quoted.
    pub seq: u32,
    /// Its length, as quoted.
    pub packet_bytes: u16,
    /// The MTU.
    pub mtu_bytes: u16,
}

/// Parses the ICMP message "fragmentation needed", whose checksum is correct.
pub fn fragmentation_needed(icmp: &[u8], own: &Own) -> Result<TooBig, Counter> {
    let (head, quote) = icmp.split_at(8);
    let ip: &[u8; IPV4_BYTES] = quote.first_chunk().ok_or(Counter::FramesMalformed)?;
    let tcp: &[u8; QUOTED_BYTES] =
        quote[IPV4_BYTES..].first_chunk().ok_or(Counter::FramesMalformed)?;
    let (local, remote) = (be32(ip, 12), be32(ip, 16));
    // We send no options and no fragments.
    if ip[0] != 0x45 || ip[9] != PROTOCOL_TCP || be16(ip, 6) & 0x3fff != 0 || !own.has_v4(local) {
        return Err(Counter::FramesMalformed);
    }
    let packet_bytes = be16(ip, 2);
    let mtu_bytes = match be16(head, 6) {
        0 => PLATEAUS.into_iter().find(|&mtu| mtu < packet_bytes).unwrap_or(0),
        told => told,
    };
    if mtu_bytes < TCP_MTU_V4_MIN_BYTES {
        return Err(Counter::FramesMalformed);
    }
    let key = FlowKey::v4(remote, local, be32(tcp, 0).rotate_left(16));
    Ok(TooBig { key, seq: be32(tcp, 4), packet_bytes, mtu_bytes })
}

/// Parses the ICMPv6 message "packet too big", whose checksum is correct.
pub fn packet_too_big(icmp: &[u8], own: &Own) -> Result<TooBig, Counter> {
    let (head, quote) = icmp.split_at(8);
    let ip: &[u8; IPV6_BYTES] = quote.first_chunk().ok_or(Counter::FramesMalformed)?;
    let tcp: &[u8; QUOTED_BYTES] =
        quote[IPV6_BYTES..].first_chunk().ok_or(Counter::FramesMalformed)?;
    let (addresses, _) = ip[8..].as_chunks::<16>();
    let (local, remote) = (be128(&addresses[0]), be128(&addresses[1]));
    if ip[0] >> 4 != 6 || ip[6] != PROTOCOL_TCP || !own.has_v6(local) {
        return Err(Counter::FramesMalformed);
    }
    let packet_bytes = be16(ip, 4).saturating_add(IPV6_BYTES as u16);
    let mtu_bytes = u16::try_from(be32(head, 4)).unwrap_or(u16::MAX);
    if mtu_bytes < TCP_MTU_V6_MIN_BYTES {
        return Err(Counter::FramesMalformed);
    }
    let key = FlowKey::v6(remote, local, be32(tcp, 0).rotate_left(16));
    Ok(TooBig { key, seq: be32(tcp, 4), packet_bytes, mtu_bytes })
}
