//! The names of the items in which one key's value is stored: see [`super::layout`].

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::base::limits::KEY_BYTES_MAX;
use crate::tier::memcached::key::{ENCODED_KEY_BYTES_MAX, is_text};

/// The suffix of a metadata item's key.
pub(super) const METADATA_SUFFIX: &[u8] = b"-meta";

/// Digits of the largest possible chunk number.
pub(super) const INDEX_DIGITS_MAX: usize = 7;

/// The start of the names of hashed keys.
const HASHED_PREFIX: &[u8] = b"sunder-";

const HASHED_NAME_BYTES: usize = HASHED_PREFIX.len() + 32;

const _: () = assert!(HASHED_NAME_BYTES + 1 + INDEX_DIGITS_MAX <= KEY_BYTES_MAX);

/// The names of one key's items, built in place.
#[derive(Clone)]
pub struct Name {
    bytes: [u8; KEY_BYTES_MAX],
    /// Bytes before the suffix.
    len: usize,
    /// Longest name that memcached accepts, in bytes.
    limit: usize,
    is_hashed: bool,
    is_first_bare: bool,
}

impl Name {
    /// The names for `key`.
    ///
    /// # Panics
    /// If `key` is longer than [`KEY_BYTES_MAX`].
    pub fn of(key: &[u8]) -> Name {
        let limit = if is_text(key) { KEY_BYTES_MAX } else { ENCODED_KEY_BYTES_MAX };
        let mut name = Name {
            bytes: [0; KEY_BYTES_MAX],
            len: key.len(),
            limit,
            is_hashed: false,
            is_first_bare: false,
        };
        if key.len() + METADATA_SUFFIX.len() <= limit {
            name.bytes[..key.len()].copy_from_slice(key);
            return name;
        }
        assert!(key.len() <= KEY_BYTES_MAX, "a Key is no longer");
        // The hash is not keyed: the next process has to find the item. A peer can make two keys
        // collide, but then they only displace one another: the real key is checked.
        let mut hasher = SipHasher13::new();
        hasher.write(key);
        let hash = hasher.finish128().as_u128();
        name.bytes[..HASHED_PREFIX.len()].copy_from_slice(HASHED_PREFIX);
        for (i, digit) in name.bytes[HASHED_PREFIX.len()..HASHED_NAME_BYTES].iter_mut().enumerate()
        {
            *digit = b"0123456789abcdef"[(hash >> (124 - 4 * i)) as usize & 0xf];
        }
        name.len = HASHED_NAME_BYTES;
        name.limit = KEY_BYTES_MAX;
        name.is_hashed = true;
        name
    }

    /// Whether the items are stored under a hash, so that the metadata must contain the key.
    pub fn is_hashed(&self) -> bool {
        self.is_hashed
    }

    /// Whether the items' keys are valid in a text line.
    pub fn is_text(&self) -> bool {
        self.limit == KEY_BYTES_MAX
    }

    /// Whether [`Name::chunk`] gives the first chunk the name that older versions used.
    pub fn is_first_bare(&self) -> bool {
        self.is_first_bare
    }

    /// Makes [`Name::chunk`] give the first chunk no dash or, as initially, one.
    pub fn set_first_bare(&mut self, is_bare: bool) {
        self.is_first_bare = is_bare;
    }

    /// Whether the bare name of the first chunk is also the name of another key's chunk.
    pub fn shares_bare_first(&self) -> bool {
        let name = &self.bytes[..self.len];
        let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        name[..self.len - digits].ends_with(b"-")
    }

    /// The metadata item's key.
    pub fn metadata(&mut self) -> &[u8] {
        let end = self.len + METADATA_SUFFIX.len();
        self.bytes[self.len..end].copy_from_slice(METADATA_SUFFIX);
        &self.bytes[..end]
    }

    /// The key of chunk `index`, counted from 0.
    ///
    /// # Panics
    /// If there can be no such chunk: see [`Name::chunks_max`].
    #[inline]
    pub fn chunk(&mut self, index: u32) -> &[u8] {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(index).as_bytes();
        let is_dashed = index > 0 || !self.is_first_bare;
        let start = self.len + usize::from(is_dashed);
        let end = start + digits.len();
        assert!(end <= self.limit, "a chunk's number fits its key");
        self.bytes[self.len] = b'-';
        self.bytes[start..end].copy_from_slice(digits);
        &self.bytes[..end]
    }

    /// Length of a name before its suffix.
    pub(super) fn stem_bytes(&self) -> usize {
        self.len
    }

    /// How many chunks have a key that memcached accepts; at least 10,000.
    pub fn chunks_max(&self) -> u32 {
        let digits = (self.limit - self.len - 1).min(INDEX_DIGITS_MAX);
        10_u32.pow(digits as u32)
    }
}
