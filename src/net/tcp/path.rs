//! Path MTUs: the device's MTU, or less if a router has reported so (RFC 1191, RFC 8201), which is
//! forgotten after ten minutes. Knows destinations, and no flow; whether a report is accepted is
//! decided before (`neighbor`).

use rapidhash::v3::RapidSecrets;
use smoltcp::iface::Interface;
use smoltcp::wire::IpCidr;

use super::adaptor::new_interface;
use super::device::Port;
use super::flows::FlowKey;
use super::wire::Wire;
use crate::base::clock::Now;
use crate::base::limits::{TCP_PATH_LIFE_US, TCP_PATH_STEP_BYTES, TCP_PATHS_KNOWN};

/// The MTU of a destination.
#[derive(Clone, Copy)]
struct Narrow {
    remote: [u64; 2],
    path: u8,
    until_us: u64,
}

/// smoltcp's interfaces, one for each packet length in use. It accepts no MTU per socket, only one
/// per interface, and an interface keeps no state of a flow.
pub(super) struct Paths {
    /// The addresses of every interface.
    addresses: Vec<IpCidr>,
    /// For packets as long as the device allows.
    whole: Interface,
    /// Path 1 and up, with their lengths.
    narrow: Vec<(u16, Interface)>,
    /// Direct-mapped by the destination's hash: a new entry replaces an older one.
    known: Box<[Option<Narrow>]>,
    len: usize,
}

impl Paths {
    /// Paths from `addresses` over `wire`, all with the device's MTU.
    pub fn new<P: Port>(wire: &mut Wire<P>, addresses: Vec<IpCidr>, seed: u64, now: Now) -> Paths {
        let mtu_bytes = wire.capabilities.mtu_bytes;
        let whole = interface(wire, &addresses, mtu_bytes, seed, now);
        let known = vec![None; TCP_PATHS_KNOWN].into();
        Paths { addresses, whole, narrow: Vec::new(), known, len: 0 }
    }

    /// Our addresses, with their networks.
    #[inline]
    pub fn addresses(&self) -> &[IpCidr] {
        &self.addresses
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

    /// Whether no destination is known to be narrow.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The path of a new flow to `remote`.
    #[inline]
    pub fn towards(&mut self, remote: [u64; 2], secrets: &RapidSecrets, now: Now) -> u8 {
        if self.is_empty() { 0 } else { self.find(remote, secrets, now) }
    }

    fn find(&mut self, remote: [u64; 2], secrets: &RapidSecrets, now: Now) -> u8 {
        let place = place(remote, secrets);
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

    /// Longest packet on `path`, in bytes, if the device accepts `device_bytes`.
    pub fn mtu_bytes(&self, path: u8, device_bytes: usize) -> usize {
        match path {
            0 => device_bytes,
            path => usize::from(self.narrow[usize::from(path) - 1].0),
        }
    }

    /// Limits packets to `remote` to `mtu_bytes` from now on. Returns their path.
    pub fn lower<P: Port>(
        &mut self,
        wire: &mut Wire<P>,
        remote: [u64; 2],
        mtu_bytes: u16,
        secrets: &RapidSecrets,
        now: Now,
    ) -> u8 {
        let path = self.narrow_path(wire, mtu_bytes, now);
        let known = &mut self.known[place(remote, secrets)];
        self.len += usize::from(known.is_none());
        *known = Some(Narrow { remote, path, until_us: now.uptime_us + TCP_PATH_LIFE_US });
        path
    }

    /// The path for packets of `mtu_bytes`, or a little less: the number of paths is bounded.
    fn narrow_path<P: Port>(&mut self, wire: &mut Wire<P>, mtu_bytes: u16, now: Now) -> u8 {
        let bytes = mtu_bytes / TCP_PATH_STEP_BYTES * TCP_PATH_STEP_BYTES;
        let place = self.narrow.iter().position(|&(known, _)| known == bytes);
        let place = place.unwrap_or_else(|| {
            let iface = interface(wire, &self.addresses, usize::from(bytes), 0, now);
            self.narrow.push((bytes, iface));
            self.narrow.len() - 1
        });
        u8::try_from(place + 1).expect("fewer paths than steps of their lengths")
    }

    /// The device accepts packets of `mtu_bytes` from now on.
    pub fn resize<P: Port>(&mut self, wire: &mut Wire<P>, mtu_bytes: usize, now: Now) {
        let mtu_bytes = wire.bound_mtu(mtu_bytes);
        if mtu_bytes == wire.capabilities.mtu_bytes {
            return;
        }
        wire.capabilities.mtu_bytes = mtu_bytes;
        self.whole = interface(wire, &self.addresses, mtu_bytes, 0, now);
        for (bytes, iface) in &mut self.narrow {
            let bytes = usize::from(*bytes).min(mtu_bytes);
            *iface = interface(wire, &self.addresses, bytes, 0, now);
        }
    }
}

/// The entry of a destination in the table.
fn place(remote: [u64; 2], secrets: &RapidSecrets) -> usize {
    FlowKey { remote, local: [0; 2], ports: 0 }.hash_whole(secrets) as usize % TCP_PATHS_KNOWN
}

/// An interface with our addresses for packets of `mtu_bytes`.
fn interface<P: Port>(
    wire: &mut Wire<P>,
    addresses: &[IpCidr],
    mtu_bytes: usize,
    seed: u64,
    now: Now,
) -> Interface {
    let mut iface = new_interface(wire, mtu_bytes, seed, now);
    iface.update_ip_addrs(|list| list.extend(addresses.iter().copied()));
    iface
}
