//! The protocols between neighbours on an Ethernet: ARP (RFC 826), neighbour discovery (RFC 4861)
//! and echo (RFC 792, RFC 4443), answered frame by frame without any state. Other information in
//! such frames is returned, and kept elsewhere.
//!
//! For one frame at most one is sent, of at most the same length: nobody can be flooded through us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::{Sum, pseudo_header};
use super::device::{Frame, Port};
use super::groups::{Query, group_mac, solicited_node};
use super::headers::{
    ETHERNET_BYTES, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_BYTES, IPV6_BYTES,
    PROTOCOL_ICMPV6, be16, be32, be128,
};
use super::own::{Own, Taken};
use super::too_big::{self, TooBig};
use super::wire::Wire;
use crate::base::stats::Counter;

const ARP_BYTES: usize = 28;
/// Hardware Ethernet, protocol IPv4, and their lengths.
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;

const ICMP_BYTES: usize = 8;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
/// Type and code of "fragmentation needed and DF set".
const FRAGMENTATION_NEEDED: [u8; 2] = [3, 4];
const PACKET_TOO_BIG: u8 = 2;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// A solicitation or advertisement up to its options.
const NEIGHBOR_BYTES: usize = 24;
/// One link-layer address option.
const LINK_OPTION_BYTES: usize = 8;
const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;
/// In an advertisement: it may replace a known address.
const OVERRIDE: u8 = 0x20;
/// Neighbour discovery is from this link only if its hop limit was never decremented.
const HOP_LIMIT: u8 = 255;

const BROADCAST: [u8; 6] = [0xff; 6];
const ALL_NODES: u128 = 0xff02_0000_0000_0000_0000_0000_0000_0001;
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// The information in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborEvent {
    /// Nothing of interest.
    Nothing,
    /// The MAC of an address, and whether that replaces a known one.
    At { address: IpAddr, mac: [u8; 6], overrides: bool },
    /// Another host uses one of our addresses.
    Rival(Taken),
    /// A query for multicast groups.
    Query(Query),
    /// A path is narrow.
    TooBig(TooBig),
}

fn at(address: IpAddr, mac: [u8; 6], overrides: bool) -> NeighborEvent {
    NeighborEvent::At { address, mac, overrides }
}

#[inline(always)]
fn mac(bytes: &[u8], at: usize) -> [u8; 6] {
    bytes[at..at + 6].try_into().expect("six bytes")
}

/// Answers an ARP frame.
pub fn arp<P: Port>(wire: &mut Wire<P>, own: &Own, frame: &[u8]) -> Result<NeighborEvent, Counter> {
    let arp: &[u8; ARP_BYTES] =
        frame[ETHERNET_BYTES..].first_chunk().ok_or(Counter::FramesMalformed)?;
    let sender_mac = mac(arp, 8);
    let (sender, target) = (be32(arp, 14), be32(arp, 24));
    let operation = be16(arp, 6);
    let is_known = matches!(operation, ARP_REQUEST | ARP_REPLY);
    if arp[..6] != ARP_HEAD || sender_mac[0] & 1 != 0 || !is_known {
        return Err(Counter::FramesMalformed);
    }
    let address = IpAddr::V4(Ipv4Addr::from_bits(sender));
    if own.has_v4(sender) {
        // A bridge may return our own frames.
        let is_ours = sender_mac == own.mac;
        let taken = Taken { address, mac: sender_mac };
        return if is_ours {
            Err(Counter::FramesNotForUs)
        } else {
            Ok(NeighborEvent::Rival(taken))
        };
    }
    // A probe (RFC 5227, 2.1.1) has no sender address yet, and is answered so that its sender finds
    // us.
    if sender != 0 && !own.is_peer_v4(sender) {
        return Err(Counter::FramesMalformed);
    }
    if !own.has_v4(target) {
        // An announcement (RFC 5227, 1.1) is for all hosts.
        let is_announcement = sender == target && sender != 0;
        let told = at(address, sender_mac, true);
        return if is_announcement { Ok(told) } else { Err(Counter::FramesNotForUs) };
    }
    if operation == ARP_REQUEST {
        send_arp(wire, ARP_REPLY, target, sender_mac, sender, sender_mac);
        wire.stats.add(Counter::NeighborReplies, 1);
    }
    Ok(if sender == 0 { NeighborEvent::Nothing } else { at(address, sender_mac, true) })
}

/// Whether an ARP frame claims or requests an address that we are only probing: we have not
/// announced it yet, so its sender is another host, even if its MAC is ours.
pub fn arp_rival(own: &Own, frame: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    let arp: &[u8; ARP_BYTES] = frame[ETHERNET_BYTES..].first_chunk()?;
    let sender_mac = mac(arp, 8);
    let (sender, target) = (be32(arp, 14), be32(arp, 24));
    let asks_too = sender == 0 && own.has_v4(target) && sender_mac != own.mac;
    let address = if asks_too { target } else { sender };
    let is_rival = arp[..6] == ARP_HEAD && (asks_too || own.has_v4(sender));
    is_rival.then(|| (IpAddr::V4(Ipv4Addr::from_bits(address)), sender_mac))
}

/// The same for neighbour discovery, in an ICMPv6 packet of `ip_bytes` bytes.
pub fn nd_rival(own: &Own, frame: &[u8], ip_bytes: u16) -> Option<(IpAddr, [u8; 6])> {
    let packet = &frame[ETHERNET_BYTES..ETHERNET_BYTES + usize::from(ip_bytes)];
    let (ip, icmp) = packet.split_at(IPV6_BYTES);
    let target = be128(icmp.get(8..)?.first_chunk()?);
    let is_intact = pseudo_header(&ip[8..], PROTOCOL_ICMPV6, icmp.len()).add(icmp).is_intact();
    if !own.has_v6(target) || !is_intact || neighbor_options(ip[7], icmp).is_err() {
        return None;
    }
    let sender_mac = mac(frame, 6);
    let asks_too = icmp[0] == SOLICITATION && ip[8..24] == [0; 16] && sender_mac != own.mac;
    let is_rival = asks_too || icmp[0] == ADVERTISEMENT;
    is_rival.then(|| (IpAddr::V6(Ipv6Addr::from_bits(target)), sender_mac))
}

fn send_arp<P: Port>(
    wire: &mut Wire<P>,
    operation: u16,
    sender: u32,
    target_mac: [u8; 6],
    target: u32,
    to: [u8; 6],
) -> bool {
    let own_mac = wire.capabilities.mac;
    wire.send_raw(to, ETHERTYPE_ARP, ETHERNET_BYTES + ARP_BYTES, |out| {
        out[..6].copy_from_slice(&ARP_HEAD);
        out[6..8].copy_from_slice(&operation.to_be_bytes());
        out[8..14].copy_from_slice(&own_mac);
        out[14..18].copy_from_slice(&sender.to_be_bytes());
        out[18..24].copy_from_slice(&target_mac);
        out[24..28].copy_from_slice(&target.to_be_bytes());
    })
}

/// Answers an ICMP echo request of `ip_bytes` bytes; its IP header was checked.
pub fn icmp<P: Port>(
    wire: &mut Wire<P>,
    own: &Own,
    frame: &[u8],
    ip_bytes: u16,
) -> Result<NeighborEvent, Counter> {
    let packet = &frame[ETHERNET_BYTES..ETHERNET_BYTES + usize::from(ip_bytes)];
    let (ip, icmp) = packet.split_at(IPV4_BYTES);
    if icmp.len() < ICMP_BYTES || packet.len() > wire.capabilities.mtu_bytes {
        return Err(Counter::FramesMalformed);
    }
    if !Sum::default().add(icmp).is_intact() {
        return Err(Counter::FramesBadChecksum);
    }
    if icmp[..2] == FRAGMENTATION_NEEDED {
        return too_big::fragmentation_needed(icmp, own).map(NeighborEvent::TooBig);
    }
    if icmp[0] != ECHO_REQUEST || icmp[1] != 0 {
        return Err(Counter::FramesNotForUs);
    }
    wire.send_raw(mac(frame, 6), ETHERTYPE_IPV4, ETHERNET_BYTES + packet.len(), |out| {
        let (out_ip, out_icmp) = out.split_at_mut(IPV4_BYTES);
        out_ip.copy_from_slice(ip);
        out_ip[8] = 64;
        out_ip[12..16].copy_from_slice(&ip[16..20]);
        out_ip[16..20].copy_from_slice(&ip[12..16]);
        out_ip[10..12].fill(0);
        let sum = Sum::default().add(out_ip).complement();
        out_ip[10..12].copy_from_slice(&sum);
        out_icmp.copy_from_slice(icmp);
        out_icmp[0] = ECHO_REPLY;
        out_icmp[2..4].fill(0);
        let sum = Sum::default().add(out_icmp).complement();
        out_icmp[2..4].copy_from_slice(&sum);
    });
    wire.stats.add(Counter::EchoReplies, 1);
    Ok(NeighborEvent::Nothing)
}

/// Answers an ICMPv6 packet of `ip_bytes` bytes: echo and neighbour solicitation.
pub fn icmpv6<P: Port>(
    wire: &mut Wire<P>,
    own: &Own,
    frame: &[u8],
    ip_bytes: u16,
) -> Result<NeighborEvent, Counter> {
    let packet = &frame[ETHERNET_BYTES..ETHERNET_BYTES + usize::from(ip_bytes)];
    let (ip, icmp) = packet.split_at(IPV6_BYTES);
    let (addresses, _) = ip[8..].as_chunks::<16>();
    let (source, destination) = (be128(&addresses[0]), be128(&addresses[1]));
    let is_group = destination >> 120 == 0xff;
    if !own.has_v6(destination) && !is_group {
        return Err(Counter::FramesNotForUs);
    }
    if icmp.len() < ICMP_BYTES {
        return Err(Counter::FramesMalformed);
    }
    // A host that has one of our addresses sends from that address.
    let is_rival = icmp[0] == ADVERTISEMENT && own.has_v6(source);
    if source != 0 && !own.is_peer_v6(source) && !is_rival {
        return Err(Counter::FramesMalformed);
    }
    if !pseudo_header(&ip[8..], PROTOCOL_ICMPV6, icmp.len()).add(icmp).is_intact() {
        return Err(Counter::FramesBadChecksum);
    }
    match icmp[0] {
        // Echo to a group is not answered: one frame would cause many.
        ECHO_REQUEST_V6 if !is_group && source != 0 => {
            if packet.len() > wire.capabilities.mtu_bytes {
                return Err(Counter::FramesMalformed);
            }
            send_icmpv6(wire, mac(frame, 6), destination, source, icmp.len(), |out| {
                out.copy_from_slice(icmp);
                out[0] = ECHO_REPLY_V6;
            });
            wire.stats.add(Counter::EchoReplies, 1);
            Ok(NeighborEvent::Nothing)
        }
        PACKET_TOO_BIG if !is_group => {
            too_big::packet_too_big(icmp, own).map(NeighborEvent::TooBig)
        }
        SOLICITATION | ADVERTISEMENT => {
            let target_link = neighbor_options(ip[7], icmp)?;
            let target = be128(icmp[8..].first_chunk().ok_or(Counter::FramesMalformed)?);
            let from = mac(frame, 6);
            if icmp[0] == ADVERTISEMENT {
                let overrides = icmp[4] & OVERRIDE != 0;
                return advertised(own, target, target_link.unwrap_or(from), overrides);
            }
            if !own.has_v6(target) {
                return Err(Counter::FramesNotForUs);
            }
            wire.stats.add(Counter::NeighborReplies, 1);
            // A node that probes its own address has no address to answer to.
            if source == 0 {
                advertise(wire, target, ALL_NODES, ALL_NODES_MAC, false);
                return Ok(NeighborEvent::Nothing);
            }
            advertise(wire, target, source, from, true);
            Ok(at(IpAddr::V6(Ipv6Addr::from_bits(source)), from, true))
        }
        _ => Err(Counter::FramesNotForUs),
    }
}

/// An advertisement that `target` is at `link`.
fn advertised(
    own: &Own,
    target: u128,
    link: [u8; 6],
    overrides: bool,
) -> Result<NeighborEvent, Counter> {
    let address = IpAddr::V6(Ipv6Addr::from_bits(target));
    if !own.has_v6(target) {
        let is_host = own.is_peer_v6(target);
        let told = at(address, link, overrides);
        return if is_host { Ok(told) } else { Err(Counter::FramesMalformed) };
    }
    if link == own.mac {
        return Err(Counter::FramesNotForUs);
    }
    Ok(NeighborEvent::Rival(Taken { address, mac: link }))
}

/// Checks a solicitation or advertisement as required by RFC 4861, 7.1; returns the target's
/// link-layer address if it has one.
fn neighbor_options(hop_limit: u8, icmp: &[u8]) -> Result<Option<[u8; 6]>, Counter> {
    let malformed = Counter::FramesMalformed;
    if hop_limit != HOP_LIMIT || icmp[1] != 0 || icmp.len() < NEIGHBOR_BYTES {
        return Err(malformed);
    }
    let mut options = &icmp[NEIGHBOR_BYTES..];
    let mut link = None;
    while let [kind, units, ..] = *options {
        let bytes = usize::from(units) * 8;
        let (Some(option), Some(rest)) = (options.get(..bytes), options.get(bytes..)) else {
            return Err(malformed);
        };
        if bytes == 0 {
            return Err(malformed);
        }
        if matches!(kind, SOURCE_LINK | TARGET_LINK) {
            let address = mac(option, 2);
            if bytes != LINK_OPTION_BYTES || address[0] & 1 != 0 {
                return Err(malformed);
            }
            if kind == TARGET_LINK {
                link = Some(address);
            }
        }
        options = rest;
    }
    if options.is_empty() { Ok(link) } else { Err(malformed) }
}

fn advertise<P: Port>(
    wire: &mut Wire<P>,
    target: u128,
    to: u128,
    to_mac: [u8; 6],
    is_solicited: bool,
) {
    let own_mac = wire.capabilities.mac;
    send_icmpv6(wire, to_mac, target, to, NEIGHBOR_BYTES + LINK_OPTION_BYTES, |out| {
        out[..2].copy_from_slice(&[ADVERTISEMENT, 0]);
        // Solicited and override (RFC 4861, 4.4).
        out[4..8].copy_from_slice(&[if is_solicited { 0x60 } else { 0x20 }, 0, 0, 0]);
        out[8..24].copy_from_slice(&target.to_be_bytes());
        out[24..26].copy_from_slice(&[TARGET_LINK, 1]);
        out[26..32].copy_from_slice(&own_mac);
    });
}

/// Sends an ICMPv6 message of `bytes` bytes, which `fill` writes except for the checksum. Returns
/// whether there was a frame for it.
fn send_icmpv6<P: Port>(
    wire: &mut Wire<P>,
    to_mac: [u8; 6],
    from: u128,
    to: u128,
    bytes: usize,
    fill: impl FnOnce(&mut [u8]),
) -> bool {
    wire.send_raw(to_mac, ETHERTYPE_IPV6, ETHERNET_BYTES + IPV6_BYTES + bytes, |out| {
        let (ip, icmp) = out.split_at_mut(IPV6_BYTES);
        ip[..4].copy_from_slice(&[0x60, 0, 0, 0]);
        ip[4..6].copy_from_slice(&(bytes as u16).to_be_bytes());
        ip[6..8].copy_from_slice(&[PROTOCOL_ICMPV6, HOP_LIMIT]);
        ip[8..24].copy_from_slice(&from.to_be_bytes());
        ip[24..40].copy_from_slice(&to.to_be_bytes());
        fill(icmp);
        icmp[2..4].fill(0);
        let sum = pseudo_header(&ip[8..], PROTOCOL_ICMPV6, bytes).add(icmp).complement();
        icmp[2..4].copy_from_slice(&sum);
    })
}

/// Announces our addresses to the neighbours (RFC 5227, 3; RFC 4861, 7.2.6), so that caches with
/// another device's MAC are corrected.
pub fn announce<P: Port>(wire: &mut Wire<P>, own: &Own) {
    for &(address, _) in &own.v4 {
        send_arp(wire, ARP_REQUEST, address, [0; 6], address, BROADCAST);
    }
    for &(address, _) in &own.v6 {
        advertise(wire, address, ALL_NODES, ALL_NODES_MAC, false);
    }
}

/// Probes whether another host has our addresses (RFC 5227, 2.1.1; RFC 4862, 5.4.2).
pub fn probe<P: Port>(wire: &mut Wire<P>, own: &Own) {
    for &(address, _) in &own.v4 {
        send_arp(wire, ARP_REQUEST, 0, [0; 6], address, BROADCAST);
    }
    for &(address, _) in &own.v6 {
        let group = solicited_node(address);
        send_icmpv6(wire, group_mac(group), 0, group, NEIGHBOR_BYTES, |out| {
            out[..8].copy_from_slice(&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
            out[8..24].copy_from_slice(&address.to_be_bytes());
        });
    }
}

/// Requests the MAC of `address`, from `from`, an own address of the same family. Returns whether
/// the request was sent.
pub fn solicit<P: Port>(wire: &mut Wire<P>, from: IpAddr, address: IpAddr) -> bool {
    match (from, address) {
        (IpAddr::V4(from), IpAddr::V4(address)) => {
            send_arp(wire, ARP_REQUEST, from.to_bits(), [0; 6], address.to_bits(), BROADCAST)
        }
        (IpAddr::V6(from), IpAddr::V6(address)) => {
            let group = solicited_node(address.to_bits());
            let own_mac = wire.capabilities.mac;
            let bytes = NEIGHBOR_BYTES + LINK_OPTION_BYTES;
            send_icmpv6(wire, group_mac(group), from.to_bits(), group, bytes, |out| {
                out[..8].copy_from_slice(&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
                out[8..24].copy_from_slice(&address.octets());
                out[24..26].copy_from_slice(&[SOURCE_LINK, 1]);
                out[26..32].copy_from_slice(&own_mac);
            })
        }
        _ => unreachable!("addresses of two families"),
    }
}

/// The source address of a received frame.
#[inline(always)]
pub fn source_mac<F: Frame>(frame: &F) -> [u8; 6] {
    mac(frame.bytes(), 6)
}
