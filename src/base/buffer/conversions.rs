//! Values and keys as [`Bytes`], for tiers that a library's user writes. Each conversion copies: a
//! chain's blocks go back to their pool.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Body, Chain, Key};

impl From<&Chain> for Bytes {
    fn from(chain: &Chain) -> Bytes {
        Bytes::from(Body::Chain(chain))
    }
}

impl From<Chain> for Bytes {
    fn from(chain: Chain) -> Bytes {
        Bytes::from(&chain)
    }
}

impl From<Body<'_>> for Bytes {
    fn from(body: Body<'_>) -> Bytes {
        let mut bytes = BytesMut::with_capacity(body.len());
        body.for_each_piece(|piece| bytes.put_slice(piece));
        bytes.freeze()
    }
}

impl From<Bytes> for Chain {
    fn from(bytes: Bytes) -> Chain {
        Chain::from_slice(&bytes)
    }
}

impl From<&Key> for Bytes {
    fn from(key: &Key) -> Bytes {
        Bytes::copy_from_slice(key.as_bytes())
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::BLOCK_BYTES;

    #[test]
    fn a_value_of_several_blocks_stays_the_same() {
        for len in [0, 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 7] {
            let bytes = Bytes::from((0..len).map(|n| n as u8).collect::<Vec<_>>());
            let chain = Chain::from(bytes.clone());
            assert_eq!(Bytes::from(Body::Slice(&bytes)), bytes);
            assert_eq!(Bytes::from(&chain), bytes);
            assert_eq!(Bytes::from(chain), bytes);
        }
        let key = Key::new(b"a key").expect("short");
        assert_eq!(Bytes::from(&key), key.as_ref());
    }
}
