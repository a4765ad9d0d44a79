//! Networks of clients: which addresses a list of them has.
//!
//! An IPv4 address that came as an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2), as on a socket of
//! both families, is an IPv4 address here. Nothing here looks up a name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// An address and how many of its first bits are the network's; the other bits are 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// It is no address, or no whole number is behind the slash.
    Syntax,
    /// The prefix is longer than the address, which has so many bits.
    Prefix(u8),
    /// Bits behind the prefix are set: the network that was meant may be this one, or the address.
    HostBits(Network, IpAddr),
}

/// How many networks of a list are shown.
const SHOWN: usize = 4;

/// Bits of an IPv4-mapped address before the IPv4 address.
const MAPPED_BITS: u8 = 96;

impl Network {
    /// The network of one address.
    pub fn of(address: IpAddr) -> Network {
        let address = address.to_canonical();
        Network { address, prefix_bits: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether `address` is in it. An IPv4 address is in no network of IPv6, not even in `::/0`.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()) & mask_v4(self.prefix_bits) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()) & mask_v6(self.prefix_bits) == 0
            }
            _ => false,
        }
    }
}

fn mask_v4(prefix_bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0)
}

fn mask_v6(prefix_bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0)
}

/// `ADDRESS/BITS`, or an address alone.
impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Syntax)?;
        let Some(bits) = bits else { return Ok(Network::of(address)) };
        if bits.is_empty() || bits.len() > 3 || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NetworkError::Syntax);
        }
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits: u8 = bits.parse().map_err(|_| NetworkError::Prefix(bits_max))?;
        if bits > bits_max {
            return Err(NetworkError::Prefix(bits_max));
        }
        let canonical = address.to_canonical();
        let network = match (address, canonical) {
            // A network of IPv4-mapped addresses, if the prefix says so.
            (IpAddr::V6(_), IpAddr::V4(_)) if bits >= MAPPED_BITS => {
                Network { address: canonical, prefix_bits: bits - MAPPED_BITS }
            }
            _ => Network { address, prefix_bits: bits },
        };
        let own = match network.address {
            IpAddr::V4(own) => {
                Ipv4Addr::from_bits(own.to_bits() & mask_v4(network.prefix_bits)).into()
            }
            IpAddr::V6(own) => {
                Ipv6Addr::from_bits(own.to_bits() & mask_v6(network.prefix_bits)).into()
            }
        };
        match own == network.address {
            true => Ok(network),
            false => Err(NetworkError::HostBits(Network { address: own, ..network }, address)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The networks whose addresses may do something. None given: all addresses may. A clone is the
/// same list, which may be replaced while others look into it.
#[derive(Clone, Default)]
pub struct Networks(Arc<ArcSwap<Vec<Network>>>);

impl Networks {
    /// Only these; none: all addresses.
    pub fn new(networks: Vec<Network>) -> Networks {
        Networks(Arc::new(ArcSwap::from_pointee(networks)))
    }

    /// Whether no network was given.
    pub fn is_everyone(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Whether `address` is in one of them. Takes time by their number.
    pub fn contains(&self, address: IpAddr) -> bool {
        let networks = self.0.load();
        networks.is_empty() || networks.iter().any(|network| network.contains(address))
    }

    /// From now on it is as `other` is now, for all who have it.
    pub fn replace(&self, other: &Networks) {
        self.0.store(other.0.load_full());
    }
}

/// The first of them, and how many more there are.
impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = self.0.load();
        let shown: Vec<String> = networks.iter().take(SHOWN).map(ToString::to_string).collect();
        f.write_str(&shown.join(","))?;
        match networks.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Networks").field(&**self.0.load()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn network(text: &str) -> Network {
        text.parse().expect(text)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn a_network_has_the_addresses_with_its_prefix() {
        for (of, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.0.0.5", "10.0.0.5", "10.0.0.4"),
            ("10.0.0.4/31", "10.0.0.5", "10.0.0.6"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "::2"),
            ("::/0", "fe80::1", "10.0.0.1"),
            ("::/0", "::1", "::ffff:10.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
            ("::ffff:10.0.0.5", "10.0.0.5", "10.0.0.6"),
        ] {
            assert!(network(of).contains(address(inside)), "{inside} in {of}");
            assert!(!network(of).contains(address(outside)), "{outside} in {of}");
        }
    }

    #[test]
    fn what_is_no_network_is_told_apart() {
        let long = "1".repeat(10_000);
        for wrong in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/x",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0/8",
            "10.0.0.0/8/8",
            "10.0.0.0 /8",
            "host",
            "fe80::1%eth0",
            "[::1]",
            "10.0.0.0/0008",
            "::/",
            "010.0.0.1",
            &long,
        ] {
            assert_eq!(wrong.parse::<Network>(), Err(NetworkError::Syntax), "{wrong}");
        }
        for (wrong, most) in
            [("10.0.0.0/33", 32), ("10.0.0.0/999", 32), ("::/129", 128), ("::/300", 128)]
        {
            assert_eq!(wrong.parse::<Network>(), Err(NetworkError::Prefix(most)), "{wrong}");
        }
        for (wrong, meant) in [
            ("10.0.0.5/24", "10.0.0.0/24"),
            ("1.0.0.0/0", "0.0.0.0/0"),
            ("fd00::5/64", "fd00::/64"),
            ("::ffff:10.0.0.5/120", "10.0.0.0/24"),
        ] {
            let Err(NetworkError::HostBits(network, _)) = wrong.parse::<Network>() else {
                panic!("{wrong}");
            };
            assert_eq!(network.to_string(), meant);
        }
    }

    #[test]
    fn without_networks_everyone_is_in() {
        let [one, two] = [network("10.0.0.0/8"), network("fd00::/8")];
        let some = Networks::new(vec![one, two]);
        for (address, is_in) in
            [("10.2.3.4", true), ("fdff::1", true), ("::ffff:10.0.0.1", true), ("127.0.0.1", false)]
        {
            assert_eq!(some.contains(address.parse().expect(address)), is_in, "{address}");
            assert!(Networks::default().contains(address.parse().expect(address)));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-f:./%]{0,40}|\\PC{0,40}") {
            if let Ok(network) = text.parse::<Network>() {
                prop_assert_eq!(network.to_string().parse::<Network>(), Ok(network));
            }
        }

        #[test]
        fn a_prefix_is_compared_bit_by_bit(own: u128, other: u128, bits in 0u8..=128) {
            let same = (own ^ other).leading_zeros() >= u32::from(bits);
            let base = own & mask_v6(bits);
            let text = format!("{}/{bits}", Ipv6Addr::from_bits(base));
            let network: Network = text.parse().expect("no host bits");
            let other = Ipv6Addr::from_bits(other);
            let is_v6 = network.address.is_ipv6() && other.to_ipv4_mapped().is_none();
            if is_v6 {
                prop_assert_eq!(network.contains(other.into()), same);
            }
        }
    }
}
