//! How long a packet may be on its way to a peer: the device's MTU, or less where a router beyond
//! it has said so (RFC 1191, RFC 8201).
//!
//! A router's word is believed only about a segment of ours that is under way: it has to quote its
//! addresses, ports and a sequence number that was sent and not acknowledged (RFC 5927, 4.1), and
//! its own length. No report makes a path narrower than any real one, and each is forgotten after
//! ten minutes.

use smoltcp::iface::Interface;

use super::device::Port;
use super::flows::FlowKey;
use super::ingress::TIME_WAIT;
use super::segment::{IPV4_BYTES, IPV6_BYTES, Own, PROTOCOL_TCP, be16, be32, be128};
use super::slab::Phase;
use super::stack::{Stack, new_interface};
use crate::clock::Now;
use crate::limits::{
    TCP_MTU_V4_MIN_BYTES, TCP_MTU_V6_MIN_BYTES, TCP_PATH_LIFE_US, TCP_PATH_STEP_BYTES,
    TCP_PATHS_KNOWN,
};
use crate::stats::Counter;

/// What of a quoted segment is looked at: ports and sequence number.
const QUOTED_BYTES: usize = 8;

/// What a router that names no MTU may have meant: common ones (RFC 1191, 7.1).
const PLATEAUS: [u16; 4] = [1492, 1280, 1006, TCP_MTU_V4_MIN_BYTES];

/// A report that a packet of ours is too long for a link on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooBig {
    pub key: FlowKey,
    /// Of the packet, as quoted.
    pub seq: u32,
    /// Its length, as quoted.
    pub packet_bytes: u16,
    /// What fits.
    pub mtu_bytes: u16,
}

/// Reads the ICMP message "fragmentation needed", whose checksum is right.
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

/// Reads the ICMPv6 message "packet too big", whose checksum is right.
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

/// What a destination was found to take.
#[derive(Clone, Copy)]
struct Narrow {
    remote: [u64; 2],
    path: u8,
    until_us: u64,
}

/// smoltcp's view of each length of packet that is in use. It takes no MTU for a socket, but one
/// for each interface, and an interface keeps nothing of a flow.
pub(super) struct Paths {
    /// For what is as long as the device allows.
    whole: Interface,
    /// Path 1 and up, with their lengths.
    narrow: Vec<(u16, Interface)>,
    /// Direct-mapped by the destination's hash: a newer one drives the older out.
    known: Box<[Option<Narrow>]>,
    len: usize,
}

impl Paths {
    pub fn new(whole: Interface) -> Paths {
        Paths { whole, narrow: Vec::new(), known: vec![None; TCP_PATHS_KNOWN].into(), len: 0 }
    }

    /// The interface of a flow's path; 0 is the device's own.
    #[inline(always)]
    pub fn iface(&mut self, path: u8) -> &mut Interface {
        if path == 0 { &mut self.whole } else { self.narrow_iface(path) }
    }

    #[inline(never)]
    fn narrow_iface(&mut self, path: u8) -> &mut Interface {
        &mut self.narrow[usize::from(path) - 1].1
    }

    /// No destination is known to be narrow.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The path to `remote`, whose place in the table is by `hash`.
    fn find(&mut self, remote: [u64; 2], hash: u32, now: Now) -> u8 {
        let place = hash as usize % TCP_PATHS_KNOWN;
        let Some(known) = self.known[place].filter(|known| known.remote == remote) else {
            return 0;
        };
        if known.until_us <= now.uptime_us {
            self.known[place] = None;
            self.len -= 1;
            return 0;
        }
        known.path
    }

    fn remember(&mut self, remote: [u64; 2], hash: u32, path: u8, now: Now) {
        let known = &mut self.known[hash as usize % TCP_PATHS_KNOWN];
        self.len += usize::from(known.is_none());
        *known = Some(Narrow { remote, path, until_us: now.uptime_us + TCP_PATH_LIFE_US });
    }
}

impl<P: Port, C> Stack<P, C> {
    /// A router says that a packet was too long. Returns whether it was about a flow of this stack.
    pub(super) fn meet_too_big(&mut self, report: &TooBig, now: Now) -> bool {
        let hash = report.key.hash(&self.secrets);
        let Some(index) = self.find(&report.key, hash) else { return false };
        if index & TIME_WAIT != 0 {
            return true;
        }
        let device_bytes = self.wire.capabilities.mtu_bytes;
        let flow = &mut self.slab.flows[index as usize];
        let current_bytes = match flow.path {
            0 => device_bytes,
            path => usize::from(self.paths.narrow[usize::from(path) - 1].0),
        };
        let acknowledged = flow.acks.newest();
        // No more than is queued, whatever the peer says that it has.
        let sent_bytes = flow.next_seq.wrapping_sub(acknowledged) as usize;
        let is_under_way = matches!(flow.phase, Phase::Open | Phase::Closing)
            && (report.seq.wrapping_sub(acknowledged) as usize)
                < sent_bytes.min(flow.socket().send_queue());
        let is_possible = report.mtu_bytes < report.packet_bytes
            && usize::from(report.mtu_bytes) < current_bytes
            && usize::from(report.packet_bytes) <= device_bytes;
        if is_under_way && is_possible {
            let path = self.narrow_path(report.mtu_bytes, now);
            let hash = self.destination_hash(report.key.remote);
            self.paths.remember(report.key.remote, hash, path, now);
            self.slab.flows[index as usize].path = path;
            self.wire.stats.add(Counter::PathMtuLowered, 1);
        } else {
            self.wire.stats.add(Counter::FramesNotForUs, 1);
        }
        true
    }

    /// The path for packets of `mtu_bytes`, or a little less: there is a bounded number of them.
    fn narrow_path(&mut self, mtu_bytes: u16, now: Now) -> u8 {
        let bytes = mtu_bytes / TCP_PATH_STEP_BYTES * TCP_PATH_STEP_BYTES;
        let place = self.paths.narrow.iter().position(|&(known, _)| known == bytes);
        let place = place.unwrap_or_else(|| {
            let iface = self.interface(usize::from(bytes), now);
            self.paths.narrow.push((bytes, iface));
            self.paths.narrow.len() - 1
        });
        u8::try_from(place + 1).expect("fewer paths than steps of their lengths")
    }

    /// An interface with our addresses for packets of `mtu_bytes`.
    fn interface(&mut self, mtu_bytes: usize, now: Now) -> Interface {
        let mut iface = new_interface(&mut self.wire, mtu_bytes, 0, now);
        iface.update_ip_addrs(|list| list.extend(self.addresses.iter().copied()));
        iface
    }

    /// The path that a new flow to `remote` begins with.
    #[inline]
    pub(super) fn path(&mut self, remote: [u64; 2], now: Now) -> u8 {
        if self.paths.is_empty() {
            return 0;
        }
        let hash = self.destination_hash(remote);
        self.paths.find(remote, hash, now)
    }

    /// Follows what was learnt and forgotten since of the path of flow `index`.
    #[inline]
    pub(super) fn renew_path(&mut self, index: u32, now: Now) {
        let flow = &self.slab.flows[index as usize];
        if flow.path != 0 || !self.paths.is_empty() {
            let path = self.path(flow.key.remote, now);
            self.slab.flows[index as usize].path = path;
        }
    }

    fn destination_hash(&self, remote: [u64; 2]) -> u32 {
        FlowKey { remote, local: [0; 2], ports: 0 }.hash_whole(&self.secrets)
    }

    /// The device takes packets of `mtu_bytes` from now on.
    pub(super) fn resize(&mut self, mtu_bytes: usize, now: Now) {
        let mtu_bytes = self.wire.bound_mtu(mtu_bytes);
        if mtu_bytes == self.wire.capabilities.mtu_bytes {
            return;
        }
        self.wire.capabilities.mtu_bytes = mtu_bytes;
        self.paths.whole = self.interface(mtu_bytes, now);
        for place in 0..self.paths.narrow.len() {
            let bytes = usize::from(self.paths.narrow[place].0).min(mtu_bytes);
            self.paths.narrow[place].1 = self.interface(bytes, now);
        }
    }
}
