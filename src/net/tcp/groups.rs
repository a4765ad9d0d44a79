//! Multicast listener discovery (RFC 3810, RFC 2710): switches with MLD snooping forward neighbour
//! solicitations to us only if we report that we listen.
//!
//! We are in one group for each address, its solicited-node group. Reports have the unspecified
//! source if none of our addresses is link-local, as in RFC 3590.

use super::checksum::{Sum, pseudo_header};
use super::device::Port;
use super::headers::{ETHERNET_BYTES, ETHERTYPE_IPV6, IPV6_BYTES, PROTOCOL_ICMPV6, be16, be128};
use super::own::Own;
use super::wire::Wire;
use crate::base::limits::TCP_ADDRESSES_MAX;
use crate::base::stats::Counter;

use arrayvec::ArrayVec;

const QUERY: u8 = 130;
const REPORT_V1: u8 = 131;
const REPORT_V2: u8 = 143;
const QUERY_BYTES: usize = 24;
const REPORT_V1_BYTES: usize = 24;
const REPORT_V2_BYTES: usize = 8;
const RECORD_BYTES: usize = 20;
/// Listening to all sources: in an answer, and in a state change (RFC 3810, 5.2.12).
const MODE_IS_EXCLUDE: u8 = 2;
const CHANGE_TO_EXCLUDE: u8 = 4;
/// Hop-by-hop options: router alert for MLD (RFC 2711) and padding.
const OPTIONS: [u8; 8] = [PROTOCOL_ICMPV6, 0, 5, 2, 0, 0, 1, 0];
const HOP_BY_HOP: u8 = 0;
/// All routers that speak version 2.
const ROUTERS: u128 = 0xff02_0000_0000_0000_0000_0000_0000_0016;

/// The solicited-node group of an address (RFC 4291, 2.7.1).
pub fn solicited_node(address: u128) -> u128 {
    0xff02_0000_0000_0000_0000_0001_ff00_0000 | (address & 0xff_ffff)
}

/// The MAC of a group (RFC 2464, 7).
pub fn group_mac(group: u128) -> [u8; 6] {
    let [a, b, c, d] = (group as u32).to_be_bytes();
    [0x33, 0x33, a, b, c, d]
}

/// The requested groups, and how to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    delay_ms: u16,
    /// One group, or all.
    group: Option<u128>,
    is_v1: bool,
    is_news: bool,
}

impl Query {
    /// An unsolicited report that we have joined.
    pub const JOINED: Query = Query { delay_ms: 0, group: None, is_v1: false, is_news: true };

    /// Longest delay of the answer.
    pub fn delay_us(self) -> u64 {
        u64::from(self.delay_ms) * 1000
    }

    /// Merges this and `other` into a query with one answer.
    pub fn with(self, other: Query) -> Query {
        let group = if self.group == other.group { self.group } else { None };
        Query { group, is_v1: self.is_v1 || other.is_v1, ..self }
    }

    /// Reads a query: an IPv6 packet of `packet` with a hop-by-hop header, to a group.
    pub fn read(packet: &[u8]) -> Result<Query, Counter> {
        let (ip, rest) = packet.split_at(IPV6_BYTES);
        let options: &[u8; OPTIONS.len()] = rest.first_chunk().ok_or(Counter::FramesNotForUs)?;
        let has_alert =
            options[..2] == OPTIONS[..2] && options.windows(4).any(|w| w == [5, 2, 0, 0]);
        if !has_alert {
            return Err(Counter::FramesNotForUs);
        }
        let icmp = &rest[OPTIONS.len()..];
        if icmp.first() != Some(&QUERY) {
            return Err(Counter::FramesNotForUs);
        }
        let (addresses, _) = ip[8..].as_chunks::<16>();
        let is_from_link = be128(&addresses[0]) >> 118 == 0xfe80 >> 6;
        if icmp.len() < QUERY_BYTES || ip[7] != 1 || !is_from_link {
            return Err(Counter::FramesMalformed);
        }
        if !pseudo_header(&ip[8..], PROTOCOL_ICMPV6, icmp.len()).add(icmp).is_intact() {
            return Err(Counter::FramesBadChecksum);
        }
        let group = be128(icmp[8..].first_chunk().expect("long enough"));
        let group = Some(group).filter(|&group| group != 0);
        // RFC 3810, 8.1: the length determines the version.
        let is_v1 = icmp.len() == QUERY_BYTES;
        Ok(Query { delay_ms: be16(icmp, 4).min(0x7fff), group, is_v1, is_news: false })
    }
}

/// Reports our groups that `query` requests.
pub fn report<P: Port>(wire: &mut Wire<P>, own: &Own, query: Query) {
    let mut groups = ArrayVec::<u128, TCP_ADDRESSES_MAX>::new();
    for &(address, _) in &own.v6 {
        let group = solicited_node(address);
        if query.group.is_none_or(|asked| asked == group) && !groups.contains(&group) {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        return;
    }
    let is_link_local = |&&(address, _): &&(u128, u128)| address >> 118 == 0xfe80 >> 6;
    let source = own.v6.iter().find(is_link_local).map_or(0, |&(address, _)| address);
    if query.is_v1 {
        for group in groups {
            send(wire, source, group, REPORT_V1_BYTES, |icmp| {
                icmp[0] = REPORT_V1;
                icmp[8..24].copy_from_slice(&group.to_be_bytes());
            });
        }
        return;
    }
    let bytes = REPORT_V2_BYTES + RECORD_BYTES * groups.len();
    send(wire, source, ROUTERS, bytes, |icmp| {
        icmp[0] = REPORT_V2;
        icmp[6..8].copy_from_slice(&(groups.len() as u16).to_be_bytes());
        let (records, _) = icmp[REPORT_V2_BYTES..].as_chunks_mut::<RECORD_BYTES>();
        for (record, group) in records.iter_mut().zip(&groups) {
            record[0] = if query.is_news { CHANGE_TO_EXCLUDE } else { MODE_IS_EXCLUDE };
            record[4..].copy_from_slice(&group.to_be_bytes());
        }
    });
}

/// Sends an MLD message of `bytes` bytes, zeros except for what `fill` writes.
fn send<P: Port>(
    wire: &mut Wire<P>,
    source: u128,
    to: u128,
    bytes: usize,
    fill: impl FnOnce(&mut [u8]),
) {
    let length = OPTIONS.len() + bytes;
    wire.send_raw(group_mac(to), ETHERTYPE_IPV6, ETHERNET_BYTES + IPV6_BYTES + length, |out| {
        let (ip, rest) = out.split_at_mut(IPV6_BYTES);
        ip[..4].copy_from_slice(&[0x60, 0, 0, 0]);
        ip[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        ip[6..8].copy_from_slice(&[HOP_BY_HOP, 1]);
        ip[8..24].copy_from_slice(&source.to_be_bytes());
        ip[24..40].copy_from_slice(&to.to_be_bytes());
        let (options, icmp) = rest.split_at_mut(OPTIONS.len());
        options.copy_from_slice(&OPTIONS);
        icmp.fill(0);
        fill(icmp);
        let sum: Sum = pseudo_header(&ip[8..], PROTOCOL_ICMPV6, bytes).add(icmp);
        icmp[2..4].copy_from_slice(&sum.complement());
    });
}
