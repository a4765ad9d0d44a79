//! The headers of Ethernet, IP and TCP: lengths, numbers, and functions to read them. Knows no
//! frame and checks nothing.

/// Length of an Ethernet header without VLAN tag.
pub const ETHERNET_BYTES: usize = 14;
/// Length of an IPv4 header without options.
pub const IPV4_BYTES: usize = 20;
/// Length of an IPv6 header without extensions.
pub const IPV6_BYTES: usize = 40;
/// Length of a TCP header without options.
pub const TCP_BYTES: usize = 20;

pub const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
pub const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
pub const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// VLAN tags: IEEE 802.1Q, and the outer one of 802.1ad.
pub const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
pub const ETHERTYPE_SERVICE_VLAN: [u8; 2] = [0x88, 0xa8];

pub const PROTOCOL_ICMP: u8 = 1;
pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_ICMPV6: u8 = 58;

/// TCP's control bits (RFC 9293, 3.1).
pub mod flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
}

#[inline(always)]
pub fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline(always)]
pub fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline(always)]
pub fn be128(bytes: &[u8; 16]) -> u128 {
    u128::from_be_bytes(*bytes)
}
