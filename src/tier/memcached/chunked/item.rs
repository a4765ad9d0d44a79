//! A chunked item whose metadata and first chunks were requested together.
//!
//! The number of chunks is known only when the metadata has arrived, so too many or too few may
//! have been requested. Surplus answers are dropped, whatever they are: a chunk counts only by the
//! metadata before it, as in [`super::layout`].

use arrayvec::ArrayVec;

use super::assembly::Assembly;
use super::layout::{METADATA_BYTES, Metadata, MetadataRead};
use super::name::Name;
use crate::tier::link::{Head, Status};

/// Collects the answers about a metadata item and its first chunks, in that order.
#[derive(Debug, Default)]
pub struct Item {
    chunks_max: u32,
    /// The answer about the metadata, if it has begun.
    head: Option<Head>,
    /// The metadata item's value; one extra byte shows that it is longer.
    bytes: ArrayVec<u8, { METADATA_BYTES + 1 }>,
    found: Option<MetadataRead>,
    chunks: Assembly,
    taking: Taking,
}

/// The destination of the arriving bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Taking {
    #[default]
    Metadata,
    Chunk,
    /// None: they are surplus.
    Surplus,
}

/// The result of an [`Item`].
#[derive(Debug)]
pub struct Taken {
    /// The answer about the metadata item.
    pub head: Head,
    /// The parsed metadata, if there is any.
    pub found: Option<MetadataRead>,
    /// The assembled chunks; empty unless the metadata is the key's.
    pub chunks: Assembly,
}

impl Item {
    /// For the item of `name`, which must not be a hash: its metadata would contain the key.
    pub fn new(name: &Name) -> Item {
        assert!(!name.is_hashed(), "checked before");
        Item { chunks_max: name.chunks_max(), ..Item::default() }
    }

    /// The next answer begins.
    #[inline]
    pub fn begin(&mut self, head: &Head) {
        if self.head.is_none() {
            self.head = Some(*head);
            return;
        }
        let is_wanted = match self.found {
            Some(MetadataRead::Metadata(metadata)) => self.chunks.next() < metadata.shape.chunks,
            _ => false,
        };
        self.taking = if is_wanted { Taking::Chunk } else { Taking::Surplus };
        if is_wanted {
            self.chunks.begin((head.status == Status::Value).then_some(head.value_bytes));
        }
    }

    /// The next bytes of its value.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        match self.taking {
            Taking::Metadata => {
                let n = bytes.len().min(self.bytes.remaining_capacity());
                self.bytes.extend(bytes[..n].iter().copied());
            }
            Taking::Chunk => self.chunks.bytes(bytes),
            Taking::Surplus => {}
        }
    }

    /// The value is complete.
    #[inline]
    pub fn end(&mut self) {
        match self.taking {
            Taking::Metadata => {
                let found = Metadata::decode_before(b"", self.chunks_max, &self.bytes);
                if let MetadataRead::Metadata(metadata) = &found {
                    self.chunks = Assembly::new(metadata, 0);
                }
                self.found = Some(found);
            }
            Taking::Chunk => self.chunks.end(),
            Taking::Surplus => {}
        }
    }

    /// The result.
    pub fn finish(self) -> Taken {
        let Item { head, found, chunks, .. } = self;
        Taken { head: head.unwrap_or_default(), found, chunks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Expiry;
    use crate::tier::memcached::chunked::assembly::Broken;
    use crate::tier::memcached::chunked::layout::Shape;
    use crate::tier::memcached::chunked::token::TOKEN_BYTES;

    const TOKEN: [u8; TOKEN_BYTES] = *b"0123456789abcdef";

    fn take(item: &mut Item, value: Option<&[u8]>) {
        let status = if value.is_some() { Status::Value } else { Status::Miss };
        let value_bytes = value.map_or(0, <[u8]>::len);
        item.begin(&Head { status, cas: 7, value_bytes, ..Head::default() });
        if let Some(value) = value {
            value.chunks(30).for_each(|piece| item.bytes(piece));
            item.end();
        }
    }

    fn metadata(name: &Name, length: usize) -> Metadata {
        let (flags, stored_at_s, expiry) = (5, 6, Expiry::NEVER);
        Metadata { shape: Shape::new(name, 512, length), flags, stored_at_s, expiry, token: TOKEN }
    }

    fn chunk(metadata: &Metadata, index: u32) -> Vec<u8> {
        let mut item = TOKEN.to_vec();
        item.resize(TOKEN_BYTES + metadata.shape.bytes_in(index), b'a' + index as u8);
        item.resize(metadata.shape.chunk_item_bytes(), 0);
        item
    }

    #[test]
    fn too_many_or_too_few_chunks_give_the_same_result() {
        let name = Name::of(b"key");
        let metadata = metadata(&name, 1000);
        let shape = metadata.shape;
        assert_eq!(shape.chunks, 3);
        for requested in 0..6 {
            let mut item = Item::new(&name);
            take(&mut item, Some(&metadata.encode()));
            for index in 0..requested {
                // Beyond the last: nothing, or a chunk of a longer, older value.
                let is_there = index < 3 || index == 4;
                take(&mut item, is_there.then(|| chunk(&metadata, index)).as_deref());
            }
            let Taken { head, found, mut chunks } = item.finish();
            assert_eq!((head.cas, found), (7, Some(MetadataRead::Metadata(metadata))));
            assert_eq!((chunks.next(), chunks.broken()), (requested.min(3), None));
            for index in requested.min(3)..3 {
                let item = chunk(&metadata, index);
                chunks.begin(Some(item.len()));
                chunks.bytes(&item);
                chunks.end();
            }
            let value = chunks.finish().expect("whole").to_vec();
            let expected: Vec<u8> = (0..3)
                .flat_map(|i| chunk(&metadata, i)[16..][..shape.bytes_in(i)].to_vec())
                .collect();
            assert_eq!(value, expected);
        }
    }

    #[test]
    fn a_chunk_that_is_missing_or_foreign_breaks_it() {
        let name = Name::of(b"key");
        let metadata = metadata(&name, 1000);
        for (index, broken) in (0..3).flat_map(|i| [(i, Broken::Missing), (i, Broken::Foreign)]) {
            let mut item = Item::new(&name);
            take(&mut item, Some(&metadata.encode()));
            for other in 0..4 {
                let mut bytes = chunk(&metadata, other);
                bytes[3] ^= u8::from(other == index);
                let is_there = other != index || broken == Broken::Foreign;
                take(&mut item, is_there.then_some(&bytes[..]));
            }
            assert_eq!(item.finish().chunks.finish().err(), Some(broken));
        }
    }

    #[test]
    fn without_metadata_there_is_no_item() {
        let name = Name::of(b"key");
        let metadata = metadata(&name, 1000);
        let long = [&metadata.encode()[..], b"x"].concat();
        let cases = [
            (None, None),
            (Some(&long[..]), Some(MetadataRead::Foreign)),
            (Some(b""), Some(MetadataRead::Invalid)),
        ];
        for (value, expected) in cases {
            let mut item = Item::new(&name);
            take(&mut item, value);
            take(&mut item, Some(&chunk(&metadata, 0)));
            take(&mut item, None);
            let Taken { found, chunks, .. } = item.finish();
            assert_eq!((found, chunks.next(), chunks.broken()), (expected, 0, None));
        }
    }
}
