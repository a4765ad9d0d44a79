//! Our own addresses on the device, and which addresses can be peers.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use super::{Cidr, ConfigError};
use crate::base::limits::TCP_ADDRESSES_MAX;

/// Our own addresses on the device.
#[derive(Clone, Debug, Default)]
pub struct Own {
    pub mac: [u8; 6],
    /// IPv4 address and netmask.
    pub v4: ArrayVec<(u32, u32), TCP_ADDRESSES_MAX>,
    /// IPv6 address and netmask.
    pub v6: ArrayVec<(u128, u128), TCP_ADDRESSES_MAX>,
}

impl Own {
    /// The own addresses `addresses`, on a device with address `mac`.
    ///
    /// # Errors
    /// [`ConfigError::Addresses`].
    pub fn new(mac: [u8; 6], addresses: &[Cidr]) -> Result<Own, ConfigError> {
        if addresses.is_empty() || addresses.len() > TCP_ADDRESSES_MAX {
            return Err(ConfigError::Addresses);
        }
        let mut own = Own { mac, ..Own::default() };
        for cidr in addresses {
            let bits = u32::from(cidr.prefix_bits);
            match cidr.address {
                IpAddr::V4(address) => {
                    let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
                    let is_host = Own::default().is_peer_v4(address.to_bits());
                    if bits > 32 || !is_host {
                        return Err(ConfigError::Addresses);
                    }
                    own.v4.push((address.to_bits(), mask));
                }
                IpAddr::V6(address) => {
                    let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
                    let is_host = Own::default().is_peer_v6(address.to_bits());
                    if bits > 128 || !is_host {
                        return Err(ConfigError::Addresses);
                    }
                    own.v6.push((address.to_bits(), mask));
                }
            }
        }
        Ok(own)
    }

    /// The same with only one of its addresses.
    pub fn only(&self, address: IpAddr) -> Own {
        let mut one = self.clone();
        one.v4.retain(|&mut (own, _)| IpAddr::V4(own.into()) == address);
        one.v6.retain(|&mut (own, _)| IpAddr::V6(own.into()) == address);
        one
    }

    /// Our address on the network that `address` is on.
    pub fn near(&self, address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V4(to) => {
                let is_it = |&&(from, mask): &&(u32, u32)| from & mask == to.to_bits() & mask;
                self.v4.iter().find(is_it).map(|&(from, _)| IpAddr::V4(from.into()))
            }
            IpAddr::V6(to) => {
                let is_it = |&&(from, mask): &&(u128, u128)| from & mask == to.to_bits() & mask;
                self.v6.iter().find(is_it).map(|&(from, _)| IpAddr::V6(from.into()))
            }
        }
    }

    /// Whether `address` is ours.
    #[inline(always)]
    pub fn has_v4(&self, address: u32) -> bool {
        self.v4.iter().any(|&(own, _)| own == address)
    }

    /// Whether `address` is ours.
    #[inline(always)]
    pub fn has_v6(&self, address: u128) -> bool {
        self.v6.iter().any(|&(own, _)| own == address)
    }

    /// Whether a host may send from `address` (RFC 1122, 3.2.1.3; RFC 6890): neither this network,
    /// loopback, multicast, reserved, a broadcast address of our networks, nor one of our own.
    #[inline(always)]
    pub fn is_peer_v4(&self, address: u32) -> bool {
        let first = (address >> 24) as u8;
        let is_broadcast = |&(own, mask): &(u32, u32)| {
            address == own || (mask < u32::MAX - 1 && address == own | !mask)
        };
        first != 0 && first != 127 && first < 224 && !self.v4.iter().any(is_broadcast)
    }

    /// Whether a host may send from `address` (RFC 4291, 2.7 and 2.5.3): neither unspecified,
    /// loopback, multicast, IPv4-mapped, nor one of our own.
    #[inline(always)]
    pub fn is_peer_v6(&self, address: u128) -> bool {
        address > 1 && address >> 120 != 0xff && address >> 32 != 0xffff && !self.has_v6(address)
    }
}

/// An address of ours that another host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The address.
    pub address: IpAddr,
    /// The MAC that has it, or probes it at the same time.
    pub mac: [u8; 6],
}

/// A MAC in the usual notation.
pub fn mac_text([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}
