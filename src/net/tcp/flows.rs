//! The table from 4-tuple to flow, which finds the connection of a segment.
//!
//! Open addressing with linear probing in one array of 8-byte entries, so that a lookup is one
//! cache line that can be prefetched. An entry holds 32 bits of the keyed hash and an index; the
//! index is only a candidate, whose owner compares the tuple. Sized once; it must never grow, and a
//! peer that does not know the key must not be able to make its chains long.
//! never grow, and a peer that does not know the key must not be able to make its chains long.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

use crate::base::buffer;
use crate::net::EndAddress;

/// The 4-tuple, seen from here. An IPv4 address is stored as an IPv4-mapped IPv6 address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowKey {
    /// The peer's address, high and low half.
    pub remote: [u64; 2],
    /// Our address.
    pub local: [u64; 2],
    /// The peer's port in the upper half, ours in the lower: the order in its segments.
    pub ports: u32,
}

/// The bits above the IPv4 address in the low half of an IPv4-mapped address (RFC 4291, 2.5.5.2).
const MAPPED: u64 = 0xffff << 32;

impl FlowKey {
    /// From IPv4 addresses.
    #[inline(always)]
    pub fn v4(remote: u32, local: u32, ports: u32) -> FlowKey {
        let map = |address| [0, MAPPED | u64::from(address)];
        FlowKey { remote: map(remote), local: map(local), ports }
    }

    /// From IPv6 addresses.
    #[inline(always)]
    pub fn v6(remote: u128, local: u128, ports: u32) -> FlowKey {
        let halves = |address: u128| [(address >> 64) as u64, address as u64];
        FlowKey { remote: halves(remote), local: halves(local), ports }
    }

    /// Whether the addresses are IPv4.
    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        self.local[0] == 0 && self.local[1] >> 32 == 0xffff
    }

    /// The peer's address.
    pub fn remote_ip(&self) -> IpAddr {
        let bits = u128::from(self.remote[0]) << 64 | u128::from(self.remote[1]);
        Ipv6Addr::from_bits(bits).to_canonical()
    }

    /// Our address.
    pub fn local_ip(&self) -> IpAddr {
        let bits = u128::from(self.local[0]) << 64 | u128::from(self.local[1]);
        Ipv6Addr::from_bits(bits).to_canonical()
    }

    /// The peer's port.
    #[inline(always)]
    pub fn remote_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }

    /// The peer.
    pub fn remote_end(&self) -> EndAddress {
        EndAddress::Tcp(SocketAddr::new(self.remote_ip(), self.remote_port()))
    }

    /// Our port.
    #[inline(always)]
    pub fn local_port(&self) -> u16 {
        self.ports as u16
    }

    /// The tuple in a fixed layout.
    pub fn to_bytes(self) -> [u8; 36] {
        let mut bytes = [0; 36];
        for (i, word) in self.remote.iter().chain(&self.local).enumerate() {
            bytes[i * 8..i * 8 + 8].copy_from_slice(&word.to_be_bytes());
        }
        bytes[32..].copy_from_slice(&self.ports.to_be_bytes());
        bytes
    }

    /// The hash under `secrets`.
    #[inline(always)]
    pub fn hash(&self, secrets: &RapidSecrets) -> u32 {
        if !self.is_v4() {
            return self.hash_whole(secrets);
        }
        // Two whole words, as the hash reads them: parts of words would not be forwarded to its
        // loads.
        let addresses = (self.remote[1] as u32 as u64) | self.local[1] << 32;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&addresses.to_ne_bytes());
        bytes[8..].copy_from_slice(&u64::from(self.ports).to_ne_bytes());
        let hash = rapidhash_v3_inline::<true, true, false>(&bytes, secrets);
        (hash ^ hash >> 32) as u32
    }

    /// The same over all bytes of the addresses.
    #[inline(never)]
    pub fn hash_whole(&self, secrets: &RapidSecrets) -> u32 {
        let hash = rapidhash_v3_inline::<true, true, false>(&self.to_bytes(), secrets);
        (hash ^ hash >> 32) as u32
    }
}

/// From hash to candidate indices.
pub struct Table {
    /// Hash in the upper half, index + 1 in the lower; 0 is empty.
    entries: buffer::HugeVec<u64>,
    mask: usize,
    len: usize,
}

impl Table {
    /// An empty table for `capacity` entries, at most half full.
    ///
    /// # Errors
    /// As [`buffer::map_huge`].
    pub fn with_capacity(capacity: usize) -> std::io::Result<Table> {
        let size = (capacity * 2).next_power_of_two().max(64);
        let mut entries = buffer::HugeVec::with_capacity(size)?;
        for _ in 0..size {
            entries.push(0);
        }
        Ok(Table { entries, mask: size - 1, len: 0 })
    }

    /// Number of entries.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Prefetches the cache line in which the search for `hash` begins.
    #[inline(always)]
    pub fn prefetch(&self, hash: u32) {
        buffer::prefetch(&self.entries[hash as usize & self.mask]);
    }

    /// The first index under `hash` that `is_it` accepts.
    #[inline(always)]
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = hash as usize & self.mask;
        loop {
            let entry = self.entries[at & self.mask];
            if entry == 0 {
                return None;
            }
            let index = entry as u32 - 1;
            if (entry >> 32) as u32 == hash && is_it(index) {
                return Some(index);
            }
            at += 1;
        }
    }

    /// Adds `index` under `hash`.
    ///
    /// # Panics
    /// If the table is full: it was created for more than can exist.
    pub fn insert(&mut self, hash: u32, index: u32) {
        assert!(self.len <= self.mask / 2 && index < u32::MAX, "the flow table has room");
        let mut at = hash as usize & self.mask;
        while self.entries[at] != 0 {
            at = (at + 1) & self.mask;
        }
        self.entries[at] = u64::from(hash) << 32 | u64::from(index + 1);
        self.len += 1;
    }

    /// Removes `index` from under `hash`.
    ///
    /// # Panics
    /// If it is not there.
    pub fn remove(&mut self, hash: u32, index: u32) {
        let entry = u64::from(hash) << 32 | u64::from(index + 1);
        let mut hole = hash as usize & self.mask;
        while self.entries[hole] != entry {
            assert_ne!(self.entries[hole], 0, "the flow is in the table");
            hole = (hole + 1) & self.mask;
        }
        // Moves up entries behind the hole that would not be found any more (Knuth, 6.4, algorithm
        // R).
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask;
            let entry = self.entries[at];
            if entry == 0 {
                break;
            }
            let home = (entry >> 32) as usize & self.mask;
            let from_home = at.wrapping_sub(home) & self.mask;
            let from_hole = at.wrapping_sub(hole) & self.mask;
            if from_home >= from_hole {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = 0;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_table_is_a_multimap(
            steps in proptest::collection::vec((any::<bool>(), 0u32..40, 0u32..200), 0..600),
            spread in 0u32..3
        ) {
            // Small hashes collide, the largest wrap around the end of the table.
            let hash = |n: u32| u32::MAX - 12 + n % 7 * spread;
            let mut table = Table::with_capacity(40).unwrap();
            let mut model = std::collections::BTreeMap::new();
            for (insert, n, index) in steps {
                if insert && model.len() < 40 && !model.contains_key(&index) {
                    table.insert(hash(n), index);
                    model.insert(index, hash(n));
                } else if let Some(hash) = model.remove(&index) {
                    table.remove(hash, index);
                }
                prop_assert_eq!(table.len(), model.len());
                for (&index, &hash) in &model {
                    prop_assert_eq!(table.find(hash, |i| i == index), Some(index));
                }
                prop_assert_eq!(table.find(hash(n), |i| model.get(&i) != Some(&hash(n))), None);
            }
        }
    }

    #[test]
    fn a_hash_depends_on_the_whole_key_and_the_secret() {
        let secrets = RapidSecrets::seed(1);
        let key = FlowKey::v4(0x0a000001, 0x0a000002, 0x1234_2bcb);
        let others = [
            FlowKey::v4(0x0a000003, 0x0a000002, 0x1234_2bcb),
            FlowKey::v4(0x0a000001, 0x0a000003, 0x1234_2bcb),
            FlowKey::v4(0x0a000001, 0x0a000002, 0x1235_2bcb),
            FlowKey::v4(0x0a000001, 0x0a000002, 0x1234_2bcc),
            FlowKey::v6(0x0a000001, 0x0a000002, 0x1234_2bcb),
            FlowKey::v6(1 << 127, 0x0a000002, 0x1234_2bcb),
            FlowKey::v6(0x0a000001, 1 << 127, 0x1234_2bcb),
        ];
        for other in others {
            assert_ne!(key.hash(&secrets), other.hash(&secrets), "{other:?}");
            assert_ne!(key, other);
        }
        assert_ne!(key.hash(&secrets), key.hash(&RapidSecrets::seed(2)));
        assert!(key.is_v4() && !others[4].is_v4());
        assert_eq!((key.remote_port(), key.local_port()), (0x1234, 0x2bcb));
    }
}
