//! One value split into the chunks that a memcached keeps, and put together from them: names,
//! shape, token and metadata too, without a link.

use std::hint::black_box;

use sunder::base::buffer::Chain;
use sunder::base::clock::Expiry;
use sunder::base::limits::CHUNK_BYTES_DEFAULT;
use sunder::tier::memcached::chunked::assembly::{Assembly, Cutter};
use sunder::tier::memcached::chunked::layout::{METADATA_BYTES, Metadata, MetadataRead, Shape};
use sunder::tier::memcached::chunked::name::Name;
use sunder::tier::memcached::chunked::token::{TOKEN_BYTES, Tokens};

const KEY: &[u8] = b"user:1234567890:name";

/// The items of a value, as they lie in a memcached.
#[derive(Default)]
struct Items {
    metadata: Vec<u8>,
    chunks: Vec<Vec<u8>>,
}

/// Writes each chunk where the one before it was, as a link's buffer is written again and again.
fn split(value: &Chain, tokens: &Tokens, out: &mut Vec<u8>, mut item: impl FnMut(&[u8], &[u8])) {
    let mut name = Name::of(black_box(KEY));
    let metadata = Metadata {
        shape: Shape::new(&name, CHUNK_BYTES_DEFAULT, value.len()),
        flags: 7,
        stored_at_s: 1_800_000_000,
        expiry: Expiry::NEVER,
        token: tokens.next(),
    };
    let mut cutter = Cutter::new(value.pieces());
    for index in 0..metadata.shape.chunks {
        out.clear();
        out.extend_from_slice(&metadata.token);
        cutter.cut(metadata.shape.bytes_in(index), |piece| out.extend_from_slice(piece));
        out.resize(metadata.shape.chunk_item_bytes(), 0);
        item(name.chunk(index), out);
    }
    item(name.metadata(), &metadata.encode());
}

fn assemble(items: &Items) -> Chain {
    let name = Name::of(black_box(KEY));
    let MetadataRead::Metadata(metadata) = Metadata::decode(&name, KEY, &items.metadata) else {
        panic!("it was encoded here");
    };
    let mut assembly = Assembly::new(&metadata, 0);
    for chunk in &items.chunks {
        assembly.begin(Some(chunk.len()));
        assembly.bytes(chunk);
        assembly.end();
    }
    assembly.finish().expect("all chunks are there")
}

/// A name and one operation.
pub type Case = (&'static str, Box<dyn FnMut()>);

/// Every case with its name, for a value of so many bytes.
pub fn cases(bytes: usize) -> Vec<Case> {
    let value = Chain::from_slice(&vec![b'v'; bytes]);
    let tokens = Tokens::new([7; 16]);
    let mut out = Vec::with_capacity(2 * CHUNK_BYTES_DEFAULT);
    let mut items = Items::default();
    split(&value, &tokens, &mut out, |_, item| match item.len() {
        METADATA_BYTES => items.metadata = item.to_vec(),
        _ => items.chunks.push(item.to_vec()),
    });
    assert_eq!(assemble(&items).to_vec(), value.to_vec());
    assert!(items.chunks.iter().all(|chunk| chunk.len() > TOKEN_BYTES));
    vec![
        (
            "split",
            Box::new(move || {
                split(&value, &tokens, &mut out, |name, item| {
                    black_box((name, item));
                });
            }),
        ),
        (
            "assemble",
            Box::new(move || assert_eq!(black_box(assemble(black_box(&items))).len(), bytes)),
        ),
    ]
}
