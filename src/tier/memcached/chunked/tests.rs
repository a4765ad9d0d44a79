//! Rend's format: names, arithmetic and metadata to the byte, and values split and assembled.

use proptest::prelude::*;

use super::assembly::{Assembly, Cutter};
use super::layout::{METADATA_ITEM_BYTES_MAX, Metadata, MetadataRead, Shape};
use super::name::Name;
use super::token::{TOKEN_BYTES, Token};
use crate::base::clock::Expiry;
use crate::base::limits::{
    CHUNK_BYTES_DEFAULT, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNK_DATA_BYTES_MAX,
    ITEM_BYTES_MAX_LIMIT, KEY_BYTES_MAX,
};
use crate::tier::memcached::key::is_text;

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
        // Near multiples of the size of Rend's chunks.
        (0_usize..100, 1_usize..=245, 0_usize..3)
            .prop_map(|(n, key, more)| (n * (1097 - key) + more).saturating_sub(1)),
    ]
}

/// The length that memcached compares with its limit on keys.
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
        prop_assert_eq!(Metadata::decode(&name, &key, &bytes), MetadataRead::Metadata(metadata));
        if name.is_hashed() && other != key {
            prop_assert_eq!(Metadata::decode(&name, &other, &bytes), MetadataRead::Foreign);
        }
        bytes.push(0);
        prop_assert_eq!(Metadata::decode(&name, &key, &bytes), MetadataRead::Foreign);
        prop_assert_eq!(Metadata::decode(&name, &key, &bytes[..39]), MetadataRead::Invalid);
    }

    #[test]
    fn any_content_is_parsed_without_panic(
        key in keys(),
        bytes in proptest::collection::vec(any::<u8>(), 0..METADATA_ITEM_BYTES_MAX),
    ) {
        let mut name = Name::of(&key);
        if let MetadataRead::Metadata(metadata) = Metadata::decode(&name, &key, &bytes) {
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

/// The chunk items of `value`, as stored in memcached.
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
    fn an_assembly_returns_the_whole_value_or_nothing(
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
    assert_eq!(name.chunk(0), b"movie:1-0", "nothing is left of the previous one");
    name.set_first_bare(true);
    assert_eq!(name.chunk(0), b"movie:10");
    assert_eq!(name.chunk(1), b"movie:1-1");
    assert_eq!(name.metadata(), b"movie:1-meta");
}

#[test]
fn a_bare_first_chunk_may_have_the_name_of_another_keys_chunk() {
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
fn invalid_metadata_is_detected() {
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
    assert!(matches!(decode(good.shape), MetadataRead::Metadata(_)));
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
        assert_eq!(decode(shape), MetadataRead::Invalid, "{shape:?}");
    }
}

#[test]
fn a_name_with_few_digits_gets_larger_chunks() {
    let name = Name::of(&[b'k'; 245]);
    assert!(!name.is_hashed());
    assert_eq!(name.chunks_max(), 10_000);
    let shape = Shape::new(&name, CHUNK_BYTES_DEFAULT, ITEM_BYTES_MAX_LIMIT);
    assert!(shape.chunks <= 10_000 && shape.chunk_data_bytes > 100_000);
    let shape = Shape::new(&name, CHUNK_BYTES_DEFAULT, 852 * 10_000);
    assert_eq!((shape.chunks, shape.chunk_data_bytes), (10_000, 852));
    assert_eq!(shape.extended(&name, 852 * 10_000 + 1), None);
}
