//! The Internet checksum (RFC 1071), if the device does not compute it.
//!
//! Sums are in the machine's byte order: a ones' complement sum is correct in either order, if it
//! is written back in the same (RFC 1071, section 2, B). Nothing here may read past the given
//! lengths.

/// An unfinished sum: not folded, the words in native order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds `bytes`. All but the last piece of a message must have an even length.
    #[inline]
    pub fn add(self, bytes: &[u8]) -> Sum {
        let mut low = self.0;
        let mut high = 0;
        let (blocks, tail) = bytes.as_chunks::<32>();
        for block in blocks {
            // Eight 32-bit words into 64-bit sums: no carry is lost in 2^32 additions.
            let (words, _) = block.as_chunks::<8>();
            for word in words {
                let word = u64::from_ne_bytes(*word);
                low += word & 0xffff_ffff;
                high += word >> 32;
            }
        }
        let (words, tail) = tail.as_chunks::<4>();
        for word in words {
            low += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        Sum(low + high + u64::from(u32::from_ne_bytes(last)))
    }

    /// Adds one 16-bit number that is in the message in network order.
    #[inline]
    pub fn add_u16(self, value: u16) -> Sum {
        Sum(self.0 + u64::from(u16::from_ne_bytes(value.to_be_bytes())))
    }

    /// The 16-bit sum in network order, not complemented.
    #[inline]
    pub fn fold(self) -> [u8; 2] {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        (sum as u16).to_ne_bytes()
    }

    /// The checksum field's bytes, for a message summed with zero in that field.
    #[inline]
    pub fn complement(self) -> [u8; 2] {
        let [a, b] = self.fold();
        [!a, !b]
    }

    /// Whether a message summed together with its checksum is intact.
    #[inline]
    pub fn is_intact(self) -> bool {
        self.fold() == [0xff, 0xff]
    }
}

/// The pseudo-header's sum (RFC 9293, 3.1; RFC 8200, 8.1): both addresses as in the packet, the
/// protocol, and the length of the payload of the IP packet.
#[inline]
pub fn pseudo_header(addresses: &[u8], protocol: u8, bytes: usize) -> Sum {
    Sum::default().add(addresses).add_u16(u16::from(protocol)).add_u16(bytes as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::default().add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), [0xdd, 0xf2]);
        assert_eq!(sum.complement(), [0x22, 0x0d]);
    }

    proptest! {
        #[test]
        fn equals_the_reference(bytes in proptest::collection::vec(any::<u8>(), 0..3000),
                                 cut in 0usize..1500) {
            let cut = (cut * 2).min(bytes.len() & !1);
            let sum = Sum::default().add(&bytes[..cut]).add(&bytes[cut..]);
            prop_assert_eq!(u16::from_be_bytes(sum.fold()), reference(&bytes));
        }

        #[test]
        fn a_flipped_bit_is_found(mut bytes in proptest::collection::vec(any::<u8>(), 4..1600),
                                  bit in any::<proptest::sample::Index>()) {
            bytes[..2].fill(0);
            let check = Sum::default().add(&bytes).complement();
            bytes[..2].copy_from_slice(&check);
            prop_assert!(Sum::default().add(&bytes).is_intact());
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!Sum::default().add(&bytes).is_intact());
        }
    }
}
