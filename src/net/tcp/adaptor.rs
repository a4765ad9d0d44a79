//! smoltcp's side: its device, its interfaces and its clock. It gets the packets of one flow at a
//! time, and received packets are not copied.

use smoltcp::iface::{Config, Interface};
use smoltcp::phy;
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

use super::device::Port;
use super::wire::Wire;
use crate::base::clock::Now;
use crate::base::limits::TCP_CLOCK_RATE;

/// The time of smoltcp's clock.
#[inline(always)]
pub(super) fn stack_time(now: Now) -> Instant {
    Instant::from_micros((now.uptime_us * TCP_CLOCK_RATE) as i64)
}

/// An interface without addresses for packets of `mtu_bytes`, whose random numbers start from
/// `seed`.
pub(super) fn new_interface<P: Port>(
    wire: &mut Wire<P>,
    mtu_bytes: usize,
    seed: u64,
    now: Now,
) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut device = OneFrame { wire, received: None, next_hop: [0; 6], mtu_bytes };
    Interface::new(config, &mut device, stack_time(now))
}

/// The device that smoltcp uses: at most one packet to receive, and as many to send as there are
/// frames, all of one flow.
pub(super) struct OneFrame<'a, P: Port> {
    pub wire: &'a mut Wire<P>,
    pub received: Option<&'a [u8]>,
    pub next_hop: [u8; 6],
    /// smoltcp reads this only when an interface is created.
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

/// The capabilities that smoltcp sees: it neither verifies nor computes checksums itself.
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
