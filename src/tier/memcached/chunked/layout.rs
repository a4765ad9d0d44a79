//! How a value is split into chunks: Rend's format, to the byte, so that a memcached filled by Rend
//! can be taken over warm, and back.
//!
//! ```text
//! K-meta   length flags chunks chunk_data stored_at expiry   u32 each, big-endian
//!          token                                             16 bytes
//!          key                                               only if K stands for a hashed key
//! K-0 ..   token                                             16 bytes
//!          chunk_data bytes of the value, the last chunk's tail zero
//! ```
//!
//! Older Rends only made a chunk's number negative, so that their first chunk is K0, without a
//! dash: the *bare* name. Such an item is read there, and leaves that name when it is written
//! again. Items that sunder writes have a mark in their token, which shows that there is no bare
//! chunk to look for.
//!
//! Names with dashes are unique to a key, but a bare one may be another key's: K-10 is chunk 10 of
//! K and the bare name of the key K-1. Only the token tells their chunks apart, so a name alone
//! must not be trusted.
//!
//! All items of one value have the client's flags and exptime. A chunk belongs to the metadata with
//! the same token, and to no other, so a reader that checks number and tokens recognizes a complete
//! value. The length of the value in a chunk is in the metadata, so items of different chunk sizes
//! can coexist.
//!
//! A key that is too long for a suffix (or, if it is not valid in a text line, whose base64 form
//! is) is stored under a hash, with the key itself after Rend's 40 bytes of metadata; Rend cannot
//! store such keys at all.
//!
//! Nothing here does I/O or reads the clock.

use bytes::{Buf, BufMut};

use super::name::{INDEX_DIGITS_MAX, METADATA_SUFFIX, Name};
use super::token::{TOKEN_BYTES, Token};
use crate::base::clock::Expiry;
use crate::base::limits::{
    CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNK_DATA_BYTES_MAX, ITEM_BYTES_MAX_LIMIT, KEY_BYTES_MAX,
};

/// Length of the metadata, without a hashed key's own.
pub const METADATA_BYTES: usize = 40;

/// Longest metadata item, in bytes.
pub const METADATA_ITEM_BYTES_MAX: usize = METADATA_BYTES + KEY_BYTES_MAX;

/// What Rend subtracts from the chunk size for memcached's own header and the suffix of the key, in
/// bytes.
const CHUNK_OVERHEAD_BYTES: usize = 71;

// With the longest name a chunk of the smallest size still holds data, and at the largest size the
// number of chunks fits its digits.
const _: () = assert!(CHUNK_BYTES_MIN > CHUNK_OVERHEAD_BYTES + TOKEN_BYTES + KEY_BYTES_MAX);
const _: () = assert!(
    ITEM_BYTES_MAX_LIMIT / (CHUNK_BYTES_MIN - CHUNK_OVERHEAD_BYTES - TOKEN_BYTES - KEY_BYTES_MAX)
        < 10_usize.pow(INDEX_DIGITS_MAX as u32)
);
// A name with the fewest digits gets larger chunks; memcached accepts those too.
const _: () = assert!(
    ITEM_BYTES_MAX_LIMIT / 10_usize.pow((METADATA_SUFFIX.len() - 1) as u32) < CHUNK_DATA_BYTES_MAX
);
const _: () = assert!(CHUNK_BYTES_MAX <= CHUNK_DATA_BYTES_MAX);

/// How a value is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the value.
    pub length: u32,
    /// Chunks; none for a value without bytes.
    pub chunks: u32,
    /// Bytes of the value in each chunk except the last, 1 to [`CHUNK_DATA_BYTES_MAX`].
    pub chunk_data_bytes: u32,
}

impl Shape {
    /// How a value of `length` bytes is split under `name` if a chunk, including what memcached
    /// adds to it, is to take `chunk_bytes` bytes.
    ///
    /// # Panics
    /// If `length` is over [`ITEM_BYTES_MAX_LIMIT`] or `chunk_bytes` below [`CHUNK_BYTES_MIN`].
    pub fn new(name: &Name, chunk_bytes: usize, length: usize) -> Shape {
        assert!(length <= ITEM_BYTES_MAX_LIMIT && chunk_bytes >= CHUNK_BYTES_MIN);
        let data = (chunk_bytes - CHUNK_OVERHEAD_BYTES - TOKEN_BYTES - name.stem_bytes()) as u32;
        Shape::with_data(name, data, length as u32)
    }

    /// The same, with `data` bytes of the value in a chunk, or more if their number would not fit
    /// their names.
    fn with_data(name: &Name, data: u32, length: u32) -> Shape {
        let data = data.max(length.div_ceil(name.chunks_max()));
        Shape { length, chunks: length.div_ceil(data), chunk_data_bytes: data }
    }

    /// The shape of a longer value that starts with this one's chunks, if there can be one.
    pub fn extended(&self, name: &Name, length: u32) -> Option<Shape> {
        let shape = Shape::with_data(name, self.chunk_data_bytes, length);
        (shape.chunk_data_bytes == self.chunk_data_bytes).then_some(shape)
    }

    /// Offset of chunk `index` in the value, in bytes.
    pub fn offset(&self, index: u32) -> usize {
        index as usize * self.chunk_data_bytes as usize
    }

    /// Bytes of the value in chunk `index`; the rest of it is padding.
    pub fn bytes_in(&self, index: u32) -> usize {
        (self.length as usize)
            .saturating_sub(self.offset(index))
            .min(self.chunk_data_bytes as usize)
    }

    /// Length of each chunk item's value.
    pub fn chunk_item_bytes(&self) -> usize {
        TOKEN_BYTES + self.chunk_data_bytes as usize
    }
}

/// The content of a metadata item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// How the value is split.
    pub shape: Shape,
    /// The client's flags.
    pub flags: u32,
    /// When it was stored, in seconds of Unix time.
    pub stored_at_s: u32,
    /// When the item was to expire, as of when it was stored. A touch changes only what memcached
    /// knows, so this must not be used.
    pub expiry: Expiry,
    /// The token at the start of the value's chunks.
    pub token: Token,
}

/// What was found under a metadata item's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataRead {
    /// The key's metadata.
    Metadata(Metadata),
    /// Metadata of another key with the same name.
    Foreign,
    /// Invalid metadata.
    Invalid,
}

impl Metadata {
    /// The item's value; a hashed key is appended to it.
    pub fn encode(&self) -> [u8; METADATA_BYTES] {
        let mut bytes = [0; METADATA_BYTES];
        let mut put = &mut bytes[..];
        put.put_u32(self.shape.length);
        put.put_u32(self.flags);
        put.put_u32(self.shape.chunks);
        put.put_u32(self.shape.chunk_data_bytes);
        put.put_u32(self.stored_at_s);
        put.put_u32(self.expiry.unix_s());
        put.put_slice(&self.token);
        bytes
    }

    /// Parses the value of the item under `name`, looked up for `key`. Anything that a writer of
    /// this format would not write exactly so is invalid.
    pub fn decode(name: &Name, key: &[u8], bytes: &[u8]) -> MetadataRead {
        let behind = if name.is_hashed() { key } else { b"" };
        Metadata::decode_before(behind, name.chunks_max(), bytes)
    }

    /// The same, where `expected` must follow the metadata and the item's name has room for
    /// `chunks_max` chunks.
    pub(super) fn decode_before(expected: &[u8], chunks_max: u32, bytes: &[u8]) -> MetadataRead {
        let Some((fixed, behind)) = bytes.split_first_chunk::<METADATA_BYTES>() else {
            return MetadataRead::Invalid;
        };
        if behind != expected {
            return MetadataRead::Foreign;
        }
        let mut take = &fixed[..];
        let (length, flags, chunks) = (take.get_u32(), take.get_u32(), take.get_u32());
        let shape = Shape { length, chunks, chunk_data_bytes: take.get_u32() };
        let (stored_at_s, expiry_s) = (take.get_u32(), take.get_u32());
        let is_possible = shape.length as usize <= ITEM_BYTES_MAX_LIMIT
            && (1..=CHUNK_DATA_BYTES_MAX).contains(&(shape.chunk_data_bytes as usize))
            && shape.chunks == shape.length.div_ceil(shape.chunk_data_bytes)
            && shape.chunks <= chunks_max;
        if !is_possible {
            return MetadataRead::Invalid;
        }
        let mut token = [0; TOKEN_BYTES];
        take.copy_to_slice(&mut token);
        let expiry = Expiry::from_unix_s(expiry_s);
        MetadataRead::Metadata(Metadata { shape, flags, stored_at_s, expiry, token })
    }
}
