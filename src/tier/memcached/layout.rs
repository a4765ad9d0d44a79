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
//! Older Rends made a chunk's number negative and nothing else, so that their first chunk is K0,
//! without a dash: the *bare* name. Such an item is read where it is, and leaves that name when it
//! is written again. What we write has a mark in its token, by which it is known that there is no
//! bare chunk of it to look for.
//!
//! Names with dashes are shared by no two keys, but a bare one may be another key's: K-10 is
//! chunk 10 of K and the bare name of the key K-1. Nothing but the token tells their chunks apart,
//! so nobody may trust a name.
//!
//! All items of one value carry the client's flags and exptime. A chunk belongs to the metadata
//! whose token it carries, and to no other, so a reader that checks number and tokens can tell a
//! whole value from anything else. How much of the value a chunk holds is in the metadata, so
//! items of different chunk sizes live side by side.
//!
//! A key that has no room for a suffix (or, if it is not fit for text, whose base64 form has none)
//! is stored under a hash, with the key itself behind Rend's 40 bytes of metadata; Rend cannot
//! store such keys at all.
//!
//! Nothing here does I/O or reads the clock.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use super::meta::{ENCODED_KEY_BYTES_MAX, is_text};
pub use super::token::{TOKEN_BYTES, Token, Tokens, may_be_bare};
use crate::buffer::{self, Chain, Gather};
use crate::clock::Expiry;
use crate::limits::{
    CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNK_DATA_BYTES_MAX, ITEM_BYTES_MAX_LIMIT, KEY_BYTES_MAX,
};

/// Bytes of the metadata, without a hashed key's own.
pub const METADATA_BYTES: usize = 40;

/// Longest metadata item, in bytes.
pub const METADATA_ITEM_BYTES_MAX: usize = METADATA_BYTES + KEY_BYTES_MAX;

/// What Rend takes off the chunk size for memcached's own header and the suffix of the key, in
/// bytes.
const CHUNK_OVERHEAD_BYTES: usize = 71;

/// The suffix of a metadata item's key.
const METADATA_SUFFIX: &[u8] = b"-meta";

/// Digits of the largest chunk number there can be.
const INDEX_DIGITS_MAX: usize = 7;

/// What the names of hashed keys begin with.
const HASHED_PREFIX: &[u8] = b"sunder-";

const HASHED_NAME_BYTES: usize = HASHED_PREFIX.len() + 32;

const _: () = assert!(HASHED_NAME_BYTES + 1 + INDEX_DIGITS_MAX <= KEY_BYTES_MAX);
// With the longest name a chunk of the smallest size still holds something, and at the largest size
// a number of chunks fits its digits.
const _: () = assert!(CHUNK_BYTES_MIN > CHUNK_OVERHEAD_BYTES + TOKEN_BYTES + KEY_BYTES_MAX);
const _: () = assert!(
    ITEM_BYTES_MAX_LIMIT / (CHUNK_BYTES_MIN - CHUNK_OVERHEAD_BYTES - TOKEN_BYTES - KEY_BYTES_MAX)
        < 10_usize.pow(INDEX_DIGITS_MAX as u32)
);
// A name that leaves the fewest digits gets larger chunks; memcached takes those too.
const _: () = assert!(
    ITEM_BYTES_MAX_LIMIT / 10_usize.pow((METADATA_SUFFIX.len() - 1) as u32) < CHUNK_DATA_BYTES_MAX
);
const _: () = assert!(CHUNK_BYTES_MAX <= CHUNK_DATA_BYTES_MAX);

/// The names of one key's items, built in place.
#[derive(Clone)]
pub struct Name {
    bytes: [u8; KEY_BYTES_MAX],
    /// Bytes before the suffix.
    len: usize,
    /// Longest name that memcached takes, in bytes.
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
        // The hash is not keyed: whoever comes next has to find the item. A peer that makes two
        // keys collide makes them displace one another; the real key is checked.
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

    /// Whether the items stand under a hash, so that the metadata has to hold the key.
    pub fn is_hashed(&self) -> bool {
        self.is_hashed
    }

    /// Whether a line of text can carry the items' keys.
    pub fn is_text(&self) -> bool {
        self.limit == KEY_BYTES_MAX
    }

    /// Whether [`Name::chunk`] calls the first chunk what older versions did.
    pub fn is_first_bare(&self) -> bool {
        self.is_first_bare
    }

    /// Has [`Name::chunk`] give the first chunk no dash or, as it is at first, one.
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

    /// How many chunks have a key that memcached takes; at least 10,000.
    pub fn chunks_max(&self) -> u32 {
        let digits = (self.limit - self.len - 1).min(INDEX_DIGITS_MAX);
        10_u32.pow(digits as u32)
    }
}

/// How a value is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the value.
    pub length: u32,
    /// Chunks; none for a value without bytes.
    pub chunks: u32,
    /// Bytes of the value in each chunk but the last, 1 to [`CHUNK_DATA_BYTES_MAX`].
    pub chunk_data_bytes: u32,
}

impl Shape {
    /// How a value of `length` bytes is split under `name` if a chunk, with what memcached adds to
    /// it, is to take `chunk_bytes` bytes.
    ///
    /// # Panics
    /// If `length` is over [`ITEM_BYTES_MAX_LIMIT`] or `chunk_bytes` below [`CHUNK_BYTES_MIN`].
    pub fn new(name: &Name, chunk_bytes: usize, length: usize) -> Shape {
        assert!(length <= ITEM_BYTES_MAX_LIMIT && chunk_bytes >= CHUNK_BYTES_MIN);
        let data = (chunk_bytes - CHUNK_OVERHEAD_BYTES - TOKEN_BYTES - name.len) as u32;
        Shape::with_data(name, data, length as u32)
    }

    /// The same, with `data` bytes of the value in a chunk, or more where their number would not
    /// fit their names.
    fn with_data(name: &Name, data: u32, length: u32) -> Shape {
        let data = data.max(length.div_ceil(name.chunks_max()));
        Shape { length, chunks: length.div_ceil(data), chunk_data_bytes: data }
    }

    /// The shape of a longer value that begins with this one's chunks, if there can be one.
    pub fn extended(&self, name: &Name, length: u32) -> Option<Shape> {
        let shape = Shape::with_data(name, self.chunk_data_bytes, length);
        (shape.chunk_data_bytes == self.chunk_data_bytes).then_some(shape)
    }

    /// Where chunk `index` begins in the value, in bytes.
    pub fn offset(&self, index: u32) -> usize {
        index as usize * self.chunk_data_bytes as usize
    }

    /// How many bytes of the value chunk `index` holds; the rest of it is padding.
    pub fn bytes_in(&self, index: u32) -> usize {
        (self.length as usize)
            .saturating_sub(self.offset(index))
            .min(self.chunk_data_bytes as usize)
    }

    /// Bytes of each chunk item's value.
    pub fn chunk_item_bytes(&self) -> usize {
        TOKEN_BYTES + self.chunk_data_bytes as usize
    }
}

/// What a metadata item says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// How the value is split.
    pub shape: Shape,
    /// The client's flags.
    pub flags: u32,
    /// When it was stored, in seconds of Unix time.
    pub stored_at_s: u32,
    /// When the item was to expire as of when it was stored. A touch changes what memcached knows
    /// and not this, so nobody may go by it.
    pub expiry: Expiry,
    /// What the value's chunks begin with.
    pub token: Token,
}

/// What was found under a metadata item's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The key's metadata.
    Metadata(Metadata),
    /// That of another key with the same name.
    Foreign,
    /// Something that cannot be true.
    Lie,
}

impl Metadata {
    /// The item's value; a hashed key goes behind it.
    pub fn encode(&self) -> [u8; METADATA_BYTES] {
        let words = [
            self.shape.length,
            self.flags,
            self.shape.chunks,
            self.shape.chunk_data_bytes,
            self.stored_at_s,
            self.expiry.unix_s(),
        ];
        let mut bytes = [0; METADATA_BYTES];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes[METADATA_BYTES - TOKEN_BYTES..].copy_from_slice(&self.token);
        bytes
    }

    /// Reads the value of the item that stands under `name`, looked up for `key`. Whatever is not
    /// exactly what a writer of this format writes is a lie.
    pub fn decode(name: &Name, key: &[u8], bytes: &[u8]) -> Found {
        let behind = if name.is_hashed { key } else { b"" };
        Metadata::decode_before(behind, name.chunks_max(), bytes)
    }

    /// The same, where `expected` has to stand behind the metadata and the item's name has room for
    /// `chunks_max` chunks.
    pub(super) fn decode_before(expected: &[u8], chunks_max: u32, bytes: &[u8]) -> Found {
        let Some((fixed, behind)) = bytes.split_first_chunk::<METADATA_BYTES>() else {
            return Found::Lie;
        };
        if behind != expected {
            return Found::Foreign;
        }
        let word = |i: usize| {
            u32::from_be_bytes([fixed[4 * i], fixed[4 * i + 1], fixed[4 * i + 2], fixed[4 * i + 3]])
        };
        let shape = Shape { length: word(0), chunks: word(2), chunk_data_bytes: word(3) };
        let is_possible = shape.length as usize <= ITEM_BYTES_MAX_LIMIT
            && (1..=CHUNK_DATA_BYTES_MAX).contains(&(shape.chunk_data_bytes as usize))
            && shape.chunks == shape.length.div_ceil(shape.chunk_data_bytes)
            && shape.chunks <= chunks_max;
        if !is_possible {
            return Found::Lie;
        }
        let mut token = [0; TOKEN_BYTES];
        token.copy_from_slice(&fixed[METADATA_BYTES - TOKEN_BYTES..]);
        Found::Metadata(Metadata {
            shape,
            flags: word(1),
            stored_at_s: word(4),
            expiry: Expiry::from_unix_s(word(5)),
            token,
        })
    }
}

/// Cuts a value that lies in pieces into runs of other lengths.
pub struct Cutter<'a, I> {
    pieces: I,
    rest: &'a [u8],
}

impl<'a, I: Iterator<Item = &'a [u8]>> Cutter<'a, I> {
    /// Cuts what `pieces` gives.
    pub fn new(pieces: I) -> Cutter<'a, I> {
        Cutter { pieces, rest: b"" }
    }

    /// Calls `take` with the next `bytes` bytes, piece by piece.
    ///
    /// # Panics
    /// If there are no more so many.
    #[inline]
    pub fn cut(&mut self, bytes: usize, mut take: impl FnMut(&[u8])) {
        let mut left = bytes;
        while left > 0 {
            if self.rest.is_empty() {
                self.rest = self.pieces.next().expect("a value is as long as it says");
            }
            let (now, later) = self.rest.split_at(left.min(self.rest.len()));
            take(now);
            left -= now.len();
            self.rest = later;
        }
    }
}

/// Why a value cannot be had from its chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A chunk is not there any more.
    Missing,
    /// A chunk belongs to another value, or is no chunk.
    Foreign,
    /// There is no room to gather it now; the item may be as it should.
    NoRoom,
}

/// Puts a value together from its chunks, which come in order, each in pieces of any length.
/// Gives the whole value or none of it.
#[derive(Debug, Default)]
pub struct Assembly {
    shape: Shape,
    token: Token,
    /// The chunk that comes next.
    next: u32,
    /// Bytes of the chunk under way that have come.
    come: usize,
    value: Gather,
    /// Why, and by which chunk.
    broken: Option<(Broken, u32)>,
}

impl Assembly {
    /// For the value that `metadata` describes, from chunk `first` on.
    pub fn new(metadata: &Metadata, first: u32) -> Assembly {
        let Metadata { shape, token, .. } = *metadata;
        let value = Gather::new();
        let mut assembly = Assembly { shape, token, next: first, come: 0, value, broken: None };
        if !buffer::may_gather(assembly.left_bytes()) {
            assembly.fail(Broken::NoRoom);
        }
        assembly
    }

    /// The next chunk begins, as an item with a value of `bytes` bytes; None if there is no item.
    #[inline]
    pub fn begin(&mut self, bytes: Option<usize>) {
        self.come = 0;
        match bytes {
            None => self.fail(Broken::Missing),
            Some(bytes) if bytes != self.shape.chunk_item_bytes() => self.fail(Broken::Foreign),
            Some(_) if self.next == self.shape.chunks => self.fail(Broken::Foreign),
            Some(_) if !buffer::may_gather(self.left_bytes()) => self.fail(Broken::NoRoom),
            Some(_) => {}
        }
    }

    /// What is still to come from the next chunk on.
    fn left_bytes(&self) -> usize {
        (self.shape.length as usize).saturating_sub(self.shape.offset(self.next))
    }

    /// The next bytes of the chunk.
    #[inline]
    pub fn bytes(&mut self, mut bytes: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        if self.come < TOKEN_BYTES {
            let (token, data) = bytes.split_at(bytes.len().min(TOKEN_BYTES - self.come));
            if token != &self.token[self.come..self.come + token.len()] {
                return self.fail(Broken::Foreign);
            }
            self.come += token.len();
            bytes = data;
        }
        let data_come = self.come.saturating_sub(TOKEN_BYTES);
        let wanted = self.shape.bytes_in(self.next).saturating_sub(data_come);
        self.value.extend(&bytes[..bytes.len().min(wanted)]);
        self.come += bytes.len();
    }

    /// The chunk is whole.
    #[inline]
    pub fn end(&mut self) {
        self.next += 1;
    }

    fn fail(&mut self, broken: Broken) {
        self.broken.get_or_insert((broken, self.next));
    }

    /// The chunk that comes next.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Why there will be no value, if that is known already.
    pub fn broken(&self) -> Option<Broken> {
        self.broken.map(|(broken, _)| broken)
    }

    /// Whether it was the value's very first chunk that is not there.
    pub fn has_lost_first(&self) -> bool {
        self.broken == Some((Broken::Missing, 0))
    }

    /// The value, or its part from the first chunk on.
    ///
    /// # Errors
    /// Not all chunks came as they should.
    pub fn finish(self) -> Result<Chain, Broken> {
        match self.broken {
            Some((broken, _)) => Err(broken),
            None if self.next < self.shape.chunks => Err(Broken::Missing),
            None => Ok(self.value.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHUNK_BYTES_DEFAULT;
    use proptest::prelude::*;

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        let bytes = prop_oneof![3 => 0x21..=0x7e_u8, 1 => any::<u8>()];
        prop_oneof![
            proptest::collection::vec(0x21..=0x7e_u8, 1..=KEY_BYTES_MAX),
            proptest::collection::vec(bytes, 1..=KEY_BYTES_MAX),
            (170_usize..=KEY_BYTES_MAX, any::<u8>()).prop_map(|(n, byte)| vec![byte; n]),
        ]
    }

    fn lengths() -> impl Strategy<Value = usize> {
        prop_oneof![
            0_usize..5_000,
            0_usize..2_000_000,
            (ITEM_BYTES_MAX_LIMIT - 2_000..=ITEM_BYTES_MAX_LIMIT),
            // About whole numbers of Rend's chunks.
            (0_usize..100, 1_usize..=245, 0_usize..3)
                .prop_map(|(n, key, more)| (n * (1097 - key) + more).saturating_sub(1)),
        ]
    }

    /// The length that memcached counts against its limit on keys.
    fn sent_bytes(name: &[u8]) -> usize {
        if is_text(name) { name.len() } else { name.len().div_ceil(3) * 4 }
    }

    proptest! {
        #[test]
        fn names_fit_memcached_and_differ(key in keys(), index in any::<u32>()) {
            let mut name = Name::of(&key);
            let metadata = name.metadata().to_vec();
            prop_assert!(sent_bytes(&metadata) <= KEY_BYTES_MAX);
            prop_assert!(name.chunks_max() >= 10_000);
            let last = name.chunks_max() - 1;
            let stem = metadata.strip_suffix(b"-meta").expect("the suffix").to_vec();
            prop_assert!(name.is_hashed() || stem == key);
            for is_bare in [true, false] {
                name.set_first_bare(is_bare);
                for index in [0, index % name.chunks_max(), last] {
                    let chunk = name.chunk(index).to_vec();
                    prop_assert!(sent_bytes(&chunk) <= KEY_BYTES_MAX);
                    prop_assert_ne!(&chunk, &metadata);
                    let suffix = match (index, is_bare) {
                        (0, true) => "0".to_owned(),
                        _ => format!("-{index}"),
                    };
                    prop_assert_eq!(&chunk, &[&stem[..], suffix.as_bytes()].concat());
                }
            }
            prop_assert_eq!(name.metadata(), &metadata[..]);
        }

        #[test]
        fn keys_are_hashed_only_where_memcached_refuses_theirs(key in keys()) {
            let metadata = [&key[..], b"-meta"].concat();
            prop_assert_eq!(Name::of(&key).is_hashed(), sent_bytes(&metadata) > KEY_BYTES_MAX);
        }

        #[test]
        fn chunks_hold_the_whole_value_once(
            key in keys(),
            chunk_bytes in CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX,
            length in lengths(),
        ) {
            let name = Name::of(&key);
            let shape = Shape::new(&name, chunk_bytes, length);
            let data = shape.chunk_data_bytes as usize;
            prop_assert_eq!(shape.chunks as usize, length.div_ceil(data));
            prop_assert!(shape.chunks <= name.chunks_max());
            prop_assert!((1..=CHUNK_DATA_BYTES_MAX).contains(&data));
            if shape.chunks > 0 {
                let last = shape.chunks - 1;
                prop_assert_eq!(shape.offset(last) + shape.bytes_in(last), length);
                prop_assert!(shape.bytes_in(last) > 0);
                prop_assert_eq!(shape.bytes_in(0), length.min(data));
            }
            prop_assert_eq!(shape.bytes_in(shape.chunks), 0);
            let extended = shape.extended(&name, length as u32);
            prop_assert_eq!(extended, Some(shape));
        }

        #[test]
        fn metadata_is_read_as_it_was_written(
            key in keys(),
            other in keys(),
            chunk_bytes in CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX,
            length in lengths(),
            (flags, stored_at_s, expiry) in any::<(u32, u32, u32)>(),
            token in any::<Token>(),
        ) {
            let name = Name::of(&key);
            let shape = Shape::new(&name, chunk_bytes, length);
            let expiry = Expiry::from_unix_s(expiry);
            let metadata = Metadata { shape, flags, stored_at_s, expiry, token };
            let mut bytes = metadata.encode().to_vec();
            if name.is_hashed() {
                bytes.extend_from_slice(&key);
            }
            prop_assert_eq!(Metadata::decode(&name, &key, &bytes), Found::Metadata(metadata));
            if name.is_hashed() && other != key {
                prop_assert_eq!(Metadata::decode(&name, &other, &bytes), Found::Foreign);
            }
            bytes.push(0);
            prop_assert_eq!(Metadata::decode(&name, &key, &bytes), Found::Foreign);
            prop_assert_eq!(Metadata::decode(&name, &key, &bytes[..39]), Found::Lie);
        }

        #[test]
        fn whatever_stands_there_is_read_without_panic(
            key in keys(),
            bytes in proptest::collection::vec(any::<u8>(), 0..METADATA_ITEM_BYTES_MAX),
        ) {
            let mut name = Name::of(&key);
            if let Found::Metadata(metadata) = Metadata::decode(&name, &key, &bytes) {
                let shape = metadata.shape;
                prop_assert!(shape.chunk_item_bytes() <= TOKEN_BYTES + CHUNK_DATA_BYTES_MAX);
                if shape.chunks > 0 {
                    name.chunk(shape.chunks - 1);
                }
            }
        }

        #[test]
        fn a_cutter_gives_every_byte_once(
            pieces in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..50), 0..20),
            run in 1_usize..70,
        ) {
            let whole = pieces.concat();
            let mut cutter = Cutter::new(pieces.iter().map(Vec::as_slice));
            let mut out = Vec::new();
            for start in (0..whole.len()).step_by(run) {
                cutter.cut(run.min(whole.len() - start), |piece| out.extend_from_slice(piece));
            }
            prop_assert_eq!(out, whole);
        }
    }

    /// The chunk items of `value`, as they stand in memcached.
    fn chunk_items(metadata: &Metadata, value: &[u8]) -> Vec<Vec<u8>> {
        let shape = metadata.shape;
        (0..shape.chunks)
            .map(|i| {
                let mut item = metadata.token.to_vec();
                item.extend_from_slice(&value[shape.offset(i)..][..shape.bytes_in(i)]);
                item.resize(shape.chunk_item_bytes(), 0);
                item
            })
            .collect()
    }

    fn assemble(assembly: &mut Assembly, item: Option<&[u8]>, step: usize) {
        assembly.begin(item.map(<[u8]>::len));
        item.unwrap_or_default().chunks(step).for_each(|piece| assembly.bytes(piece));
        assembly.end();
    }

    proptest! {
        #[test]
        fn an_assembly_is_the_whole_value_or_nothing(
            length in 0_usize..4_000,
            first in 0_u32..10,
            step in 1_usize..600,
            fault in 0_usize..9,
            (at, to) in any::<(usize, u8)>(),
        ) {
            let name = Name::of(b"key");
            let shape = Shape::new(&name, CHUNK_BYTES_MIN, length);
            let first = first.min(shape.chunks);
            let token = *b"0123456789abcdef";
            let metadata =
                Metadata { shape, flags: 0, stored_at_s: 0, expiry: Expiry::NEVER, token };
            let value: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
            let mut items: Vec<Option<Vec<u8>>> =
                chunk_items(&metadata, &value).into_iter().map(Some).collect();
            let rest = &value[shape.offset(first).min(length)..];
            let victim = at % items.len().max(1);
            let mut is_broken = fault < 6 && victim >= first as usize && victim < items.len();
            if is_broken {
                let item = items[victim].as_mut().expect("all there");
                match fault {
                    0 => items[victim] = None,
                    1 => item.truncate(at % item.len()),
                    2 => item.push(to),
                    3 => item[at % TOKEN_BYTES] ^= to | 1,
                    4 => items.truncate(victim),
                    _ => items.push(items[victim].clone()),
                }
            }
            if is_broken && fault == 4 && items.len() < first as usize {
                is_broken = false;
            }
            let mut assembly = Assembly::new(&metadata, first);
            for item in items.iter().skip(first as usize) {
                assemble(&mut assembly, item.as_deref(), step);
            }
            match assembly.finish() {
                Ok(chain) => {
                    prop_assert!(!is_broken);
                    prop_assert_eq!(chain.to_vec(), rest);
                }
                Err(_) => prop_assert!(is_broken),
            }
        }
    }

    #[test]
    fn the_names_are_rends() {
        let mut name = Name::of(b"movie:1");
        assert_eq!(name.chunk(0), b"movie:1-0");
        assert_eq!(name.chunk(1), b"movie:1-1");
        assert_eq!(name.chunk(10), b"movie:1-10");
        assert_eq!(name.chunk(0), b"movie:1-0", "nothing is left of the one before");
        name.set_first_bare(true);
        assert_eq!(name.chunk(0), b"movie:10");
        assert_eq!(name.chunk(1), b"movie:1-1");
        assert_eq!(name.metadata(), b"movie:1-meta");
    }

    #[test]
    fn a_bare_first_chunk_may_have_the_name_of_another_keys() {
        for (key, is_shared) in [
            (&b"foo"[..], false),
            (b"foo1", false),
            (b"12", false),
            (b"foo-", true),
            (b"foo-1", true),
            (b"foo-12", true),
            (b"foo-1x", false),
            (b"-", true),
            (b"-7", true),
        ] {
            let name = Name::of(key);
            assert_eq!(name.shares_bare_first(), is_shared, "{}", key.escape_ascii());
        }
        assert!(!Name::of(&[b'-'; 250]).shares_bare_first(), "it is hashed");
    }

    #[test]
    fn the_arithmetic_is_rends() {
        let name = Name::of(b"movie:1");
        // 1184 - 71 - 7 - 16.
        let shape = Shape::new(&name, CHUNK_BYTES_DEFAULT, 10_240);
        assert_eq!((shape.chunk_data_bytes, shape.chunks), (1090, 10));
        assert_eq!(shape.bytes_in(9), 10_240 - 9 * 1090);
        assert_eq!(shape.chunk_item_bytes(), 1106);
        assert_eq!(Shape::new(&name, CHUNK_BYTES_DEFAULT, 0).chunks, 0);
        assert_eq!(Shape::new(&name, CHUNK_BYTES_DEFAULT, 1090).chunks, 1);
        assert_eq!(Shape::new(&name, CHUNK_BYTES_DEFAULT, 1091).chunks, 2);
    }

    #[test]
    fn metadata_is_rends_to_the_byte() {
        let metadata = Metadata {
            shape: Shape { length: 0x01020304, chunks: 0x3c99, chunk_data_bytes: 1090 },
            flags: 0xa1b2c3d4,
            stored_at_s: 0x5a000000,
            expiry: Expiry::from_unix_s(0x5a00000a),
            token: *b"0123456789abcdef",
        };
        assert_eq!(
            metadata.encode(),
            *b"\x01\x02\x03\x04\xa1\xb2\xc3\xd4\0\0\x3c\x99\0\0\x04\x42\
               \x5a\0\0\0\x5a\0\0\x0a0123456789abcdef"
        );
    }

    #[test]
    fn metadata_that_lies_is_found_out() {
        let name = Name::of(b"k");
        let good = Metadata {
            shape: Shape::new(&name, CHUNK_BYTES_DEFAULT, 5_000),
            flags: 0,
            stored_at_s: 0,
            expiry: Expiry::NEVER,
            token: [7; TOKEN_BYTES],
        };
        let decode = |shape: Shape| {
            let mut lying = good;
            lying.shape = shape;
            Metadata::decode(&name, b"k", &lying.encode())
        };
        assert!(matches!(decode(good.shape), Found::Metadata(_)));
        for (length, chunks, chunk_data_bytes) in [
            (5_000, 4, 1096),
            (5_000, 6, 1096),
            (5_000, 0, 1096),
            (5_000, 5, 0),
            (5_000, 5, 2_000),
            (0, 1, 1096),
            (0, 0, 0),
            (u32::MAX, u32::MAX, 1),
            (u32::MAX, 1, u32::MAX),
            (100_000_000, 100_000_000, 1),
        ] {
            let shape = Shape { length, chunks, chunk_data_bytes };
            assert_eq!(decode(shape), Found::Lie, "{shape:?}");
        }
    }

    #[test]
    fn a_name_short_of_digits_gets_larger_chunks() {
        let name = Name::of(&[b'k'; 245]);
        assert!(!name.is_hashed());
        assert_eq!(name.chunks_max(), 10_000);
        let shape = Shape::new(&name, CHUNK_BYTES_DEFAULT, ITEM_BYTES_MAX_LIMIT);
        assert!(shape.chunks <= 10_000 && shape.chunk_data_bytes > 100_000);
        let shape = Shape::new(&name, CHUNK_BYTES_DEFAULT, 852 * 10_000);
        assert_eq!((shape.chunks, shape.chunk_data_bytes), (10_000, 852));
        assert_eq!(shape.extended(&name, 852 * 10_000 + 1), None);
    }
}
