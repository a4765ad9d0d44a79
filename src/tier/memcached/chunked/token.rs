//! The tokens that tell the chunks of one value from all others: see [`super::layout`].
//!
//! A token must never be used for two values.

use std::cell::Cell;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

/// Bytes of a token.
pub const TOKEN_BYTES: usize = 16;

/// Shows which chunks belong together: random except for [`TOKEN_MARK`], and new for each value.
pub type Token = [u8; TOKEN_BYTES];

/// The end of our tokens. Those of others are random: one in 2^32 ends like this by chance, and
/// then a first chunk with a bare name is left to memcached's eviction.
const TOKEN_MARK: [u8; 4] = *b"-0\r\n";

/// Whether the value with this token may have a first chunk with a bare name.
pub fn may_be_bare(token: &Token) -> bool {
    !token.ends_with(&TOKEN_MARK)
}

/// Generates tokens: unique, and not predictable from earlier ones.
pub struct Tokens {
    secret: [u8; 16],
    made: Cell<u64>,
}

impl Tokens {
    /// A generator of tokens; `secret` must be random and used for nothing else.
    pub fn new(secret: [u8; 16]) -> Tokens {
        Tokens { secret, made: Cell::new(0) }
    }

    /// The next one.
    pub fn next(&self) -> Token {
        let count = self.made.get() + 1;
        self.made.set(count);
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write_u64(count);
        let mut token = hasher.finish128().as_bytes();
        token[TOKEN_BYTES - TOKEN_MARK.len()..].copy_from_slice(&TOKEN_MARK);
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tokens_are_equal() {
        let tokens = Tokens::new([1; 16]);
        let mut seen: Vec<Token> = (0..1000).map(|_| tokens.next()).collect();
        seen.push(Tokens::new([2; 16]).next());
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1001);
        assert!(seen.iter().all(|token| !may_be_bare(token)));
        assert!(may_be_bare(b"0123456789abcdef"));
    }
}
