//! What only meta commands have, as models: who fetches an item that is stale, missing or about to
//! expire ([`copies`]), who may swap an item by its cas ([`swaps`]), and every answer to a client
//! that has a key to itself ([`alone`]).
//!
//! A cache may lose an item at any time. A tier that cannot keep marks answers a stale item as a
//! missing one, never lets an early recache win, and tells another cas than a chosen one: all of
//! that is allowed here. Never allowed is a second winner, an old value as a fresh one, and a value
//! that is replaced by its cas twice.

pub mod alone;
mod caller;
mod copies;
pub mod plan;
mod storm;
mod swaps;

/// An answer that cannot be right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wrong {
    /// Whose.
    pub key: String,
    /// What is wrong.
    pub what: String,
}

/// A key in base64.
fn base64(key: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in key.chunks(3) {
        let byte = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * n)) as usize & 63];
            text.push(if n <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_as_in_rfc_4648() {
        let all = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let coded = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(all.map(|text| super::base64(text.as_bytes())), coded);
    }
}
