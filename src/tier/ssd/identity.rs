//! What a log was made with, which never changes while it exists.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::format::{Geometry, LogId};

/// Which log it is, and how it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The log's own name, in everything that it writes.
    pub log: LogId,
    /// The key of the hash of keys.
    pub hash_key: [u64; 2],
    /// What must not change.
    pub geometry: Geometry,
    /// How often it was started, this time included.
    pub starts: u32,
}

impl Identity {
    /// The hash of a key in this log.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        hash(self.hash_key, key)
    }
}

/// The hash of a key under a log's own key, the same in every run: SipHash-1-3, so that nobody
/// outside can choose keys that share a bucket.
pub(super) fn hash(hash_key: [u64; 2], key: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(hash_key[0], hash_key[1]);
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_key_is_the_same_in_every_run_and_another_in_another_log() {
        // What a log on a disk was written with: it must not change.
        assert_eq!(hash([0, 0], b""), 0xd1fb_a762_150c_532c);
        assert_eq!(hash([1, 2], b"key"), hash([1, 2], b"key"));
        assert_ne!(hash([1, 2], b"key"), hash([1, 3], b"key"));
    }
}
