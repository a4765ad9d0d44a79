//! The header of the PROXY protocol, version 2, by which a load balancer says whose connection it
//! passes on (HAProxy, proxy-protocol.txt, section 2.2).
//!
//! ```text
//! | signature 12 | version, command | family, protocol | length 2 | addresses | more (TLV) |
//! ```
//!
//! It must be checked before who sent it is known to be trusted with it; nothing here decides that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Buf;

use crate::base::limits::PROXY_HEADER_BYTES_MAX;
use crate::net::PROXY_SIGNATURE as SIGNATURE;

/// Bytes before the addresses.
const START_BYTES: usize = 16;

/// The checksum's type among what follows the addresses.
const CRC32C: u8 = 0x03;

/// What a stream begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// Maybe a header, of which this is only a part.
    NeedMore,
    /// A header.
    Whole {
        /// Whose connection it is. None: the load balancer's own, or it does not say.
        source: Option<SocketAddr>,
        /// Length of the header.
        bytes: usize,
    },
    /// No header that can be used, and why; the rest of a sentence.
    Bad(&'static str),
}

/// Reads the header at the start of `input`.
pub fn parse(input: &[u8]) -> ProxyHeader {
    let known = input.len().min(SIGNATURE.len());
    if input[..known] != SIGNATURE[..known] {
        let is_old = input.starts_with(b"PROXY") || b"PROXY".starts_with(input);
        return ProxyHeader::Bad(match is_old {
            true => "it sends version 1 of the PROXY protocol, expected version 2",
            false => "it sends no header of the PROXY protocol",
        });
    }
    let Some(mut start) = input.get(SIGNATURE.len()..START_BYTES) else {
        return ProxyHeader::NeedMore;
    };
    let (version, family, length) = (start.get_u8(), start.get_u8(), start.get_u16());
    let bytes = START_BYTES + usize::from(length);
    if version >> 4 != 2 {
        return ProxyHeader::Bad("its PROXY header has an unknown version, expected 2");
    }
    if bytes > PROXY_HEADER_BYTES_MAX {
        return ProxyHeader::Bad("its PROXY header is too long");
    }
    let Some(header) = input.get(..bytes) else { return ProxyHeader::NeedMore };
    let source = match version & 0xf {
        // What it may contain has no meaning.
        0 => Ok(None),
        1 => source(header, family),
        _ => Err("its PROXY header has an unknown command"),
    };
    source.map_or_else(ProxyHeader::Bad, |source| ProxyHeader::Whole { source, bytes })
}

/// Whose connection it is, by a header of the command PROXY.
fn source(header: &[u8], family: u8) -> Result<Option<SocketAddr>, &'static str> {
    const SHORT: &str = "its PROXY header is too short for its addresses";
    let mut body = &header[START_BYTES..];
    let (ip, rest) = match family {
        // Unspecified. More may follow, but there is nothing to find it by.
        0 => return Ok(None),
        0x11 => {
            let (mut addresses, rest) = body.split_at_checked(12).ok_or(SHORT)?;
            let ip = Ipv4Addr::from_bits(addresses.get_u32());
            addresses.advance(4);
            (Some((IpAddr::V4(ip), addresses.get_u16())), rest)
        }
        0x21 => {
            let (mut addresses, rest) = body.split_at_checked(36).ok_or(SHORT)?;
            let ip = Ipv6Addr::from_bits(addresses.get_u128());
            addresses.advance(16);
            (Some((ip.to_canonical(), addresses.get_u16())), rest)
        }
        // Paths of Unix sockets.
        0x31 => (None, body.split_at_checked(216).ok_or(SHORT)?.1),
        _ => return Err("its PROXY header is not of a stream"),
    };
    body = rest;
    while !body.is_empty() {
        let at = header.len() - body.len();
        if body.len() < 3 {
            return Err("its PROXY header ends within a field");
        }
        let (kind, length) = (body.get_u8(), usize::from(body.get_u16()));
        let (field, rest) =
            body.split_at_checked(length).ok_or("its PROXY header ends within a field")?;
        if kind == CRC32C && !has_sum(header, at + 3, field) {
            return Err("its PROXY header has a wrong checksum");
        }
        body = rest;
    }
    Ok(ip.map(|(ip, port)| SocketAddr::new(ip, port)))
}

/// Whether `field`, at `at`, is the checksum of the header with 0 in that place.
fn has_sum(header: &[u8], at: usize, field: &[u8]) -> bool {
    let Ok(stored) = <[u8; 4]>::try_from(field) else { return false };
    let sum = crc32c::crc32c(&header[..at]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    crc32c::crc32c_append(sum, &header[at + 4..]) == u32::from_be_bytes(stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random;

    /// A header with this command, family and rest.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [10, 1, 2, 3, 192, 0, 2, 1, 0x30, 0x39, 0x2b, 0xcb];

    fn v6(ip: &str) -> Vec<u8> {
        let ip: Ipv6Addr = ip.parse().unwrap();
        [&ip.octets()[..], &[0; 15], &[1, 0x30, 0x39, 0x2b, 0xcb]].concat()
    }

    fn whole(source: Option<&str>, bytes: usize) -> ProxyHeader {
        ProxyHeader::Whole { source: source.map(|it| it.parse().unwrap()), bytes }
    }

    #[test]
    fn a_header_says_whose_connection_it_is() {
        let tlv = [4, 0, 2, 7, 7];
        for (command, family, rest, expected) in [
            (1, 0x11, V4.to_vec(), Some("10.1.2.3:12345")),
            (1, 0x11, [&V4[..], &tlv].concat(), Some("10.1.2.3:12345")),
            (1, 0x21, v6("2001:db8::7"), Some("[2001:db8::7]:12345")),
            (1, 0x21, v6("::ffff:10.1.2.3"), Some("10.1.2.3:12345")),
            (1, 0x31, vec![b'/'; 216], None),
            (1, 0, tlv.to_vec(), None),
            (0, 0, vec![], None),
            (0, 0x11, V4.to_vec(), None),
            (0, 0x99, vec![1], None),
        ] {
            let header = header(command, family, &rest);
            assert_eq!(parse(&header), whole(expected, header.len()), "{header:?}");
            assert_eq!(parse(&[&header[..], b"get a\r\n"].concat()), parse(&header));
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end]), ProxyHeader::NeedMore, "{end} of {header:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_that_is_seen() {
        let bad = |input: &[u8], says: &str| match parse(input) {
            ProxyHeader::Bad(reason) => assert!(reason.contains(says), "{reason}: {input:?}"),
            other => panic!("{other:?}: {input:?}"),
        };
        bad(b"get a\r\n", "no header");
        bad(b"\r\n\r\n\0\r\nQUIT\r", "no header");
        bad(b"PROXY TCP4 10.1.2.3 192.0.2.1 12345 11211\r\n", "version 1");
        bad(b"P", "version 1");
        let mut other = header(1, 0x11, &V4);
        other[12] = 0x11;
        bad(&other, "unknown version");
        bad(&header(2, 0x11, &V4), "unknown command");
        bad(&header(1, 0x12, &V4), "not of a stream");
        bad(&header(1, 0x41, &V4), "not of a stream");
        bad(&header(1, 0x11, &V4[..11]), "too short");
        bad(&header(1, 0x21, &V4), "too short");
        bad(&header(1, 0x31, &[0; 215]), "too short");
        bad(&header(1, 0x11, &[&V4[..], &[4, 0]].concat()), "within a field");
        bad(&header(1, 0x11, &[&V4[..], &[4, 0, 2, 7]].concat()), "within a field");
        let long = vec![0; PROXY_HEADER_BYTES_MAX - START_BYTES + 1];
        bad(&header(0, 0, &long)[..START_BYTES], "too long");
        assert_eq!(parse(&header(0, 0, &long[1..])), whole(None, PROXY_HEADER_BYTES_MAX));
    }

    #[test]
    fn a_checksum_is_checked() {
        let fields = [&[4, 0, 1, 9][..], &[CRC32C, 0, 4, 0, 0, 0, 0], &[5, 0, 0]].concat();
        let mut header = header(1, 0x11, &[&V4[..], &fields].concat());
        let at = START_BYTES + V4.len() + 7;
        assert_eq!(parse(&header), ProxyHeader::Bad("its PROXY header has a wrong checksum"));
        let sum = crc32c::crc32c(&header);
        header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(parse(&header), whole(Some("10.1.2.3:12345"), header.len()));
        // Addresses, the other field's value, the checksum: flips elsewhere may hide it.
        let covered = (START_BYTES..START_BYTES + V4.len()).chain([at - 4]).chain(at..at + 4);
        for (byte, bit) in covered.flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut flipped = header.clone();
            flipped[byte] ^= 1 << bit;
            assert!(matches!(parse(&flipped), ProxyHeader::Bad(_)), "bit {bit} of {byte}");
        }
    }

    #[test]
    fn any_bytes_are_refused_or_a_header() {
        for seed in 0..20_000 {
            let mut input = header(1, 0x11, &V4);
            for n in 0..1 + seed % 4 {
                let drawn = random::mix(seed * 4 + n) as usize;
                let at = drawn % input.len();
                input[at] = (drawn >> 32) as u8;
            }
            if let ProxyHeader::Whole { bytes, .. } = parse(&input) {
                assert!(bytes <= input.len());
            }
        }
    }
}
