//! Passwords of which only a hash is kept: Argon2id (RFC 9106) in the PHC string format.
//!
//! A hash takes milliseconds and megabytes, so it must never be computed by a worker. What a file
//! may ask for is bounded. Nothing here may print a password, or tell how far one is right.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use subtle::{Choice, ConstantTimeEq};

use super::limits::{HASH_KIB_MAX, HASH_LANES_MAX, HASH_PASSES_MAX};
use super::secret;

/// What the text of a hash begins with.
pub const PREFIX: &str = "$argon2";

const SCHEME: &str = "argon2id";
const VERSION: &str = "v=19";

/// Lengths of a salt and of a hash, in bytes.
const SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=48;
const HASH_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// Lengths of those that are made here.
const OWN_SALT_BYTES: usize = 16;
const OWN_HASH_BYTES: usize = 32;

/// Why a text is no hash that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashError {
    /// It is not of this form.
    Form,
    /// It needs more memory, passes or lanes than a hash may, or fewer than there are.
    Cost,
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashError::Form => {
                write!(f, "its hash is not ${SCHEME}${VERSION}$m=KIB,t=PASSES,p=LANES$SALT$HASH")
            }
            HashError::Cost => write!(
                f,
                "its hash has to have m= from 8 times p= to {HASH_KIB_MAX}, t= from 1 to \
                 {HASH_PASSES_MAX}, p= from 1 to {HASH_LANES_MAX}"
            ),
        }
    }
}

impl std::error::Error for HashError {}

/// What a hash is computed in; kept from one to the next.
#[derive(Default)]
pub struct Memory(Vec<Block>);

impl Memory {
    /// What the costliest hash so far took, in KiB.
    #[cfg(test)]
    pub fn kib(&self) -> usize {
        self.0.len()
    }

    /// That many KiB; None: there are not so many.
    fn of(&mut self, kib: usize) -> Option<&mut [Block]> {
        let more = kib.saturating_sub(self.0.len());
        self.0.try_reserve_exact(more).ok()?;
        self.0.resize(self.0.len() + more, Block::new());
        Some(&mut self.0[..kib])
    }
}

/// The hash of a password.
pub struct Hash {
    params: Params,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}

impl Hash {
    /// Reads `$argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH`.
    ///
    /// # Errors
    /// Why it is not used.
    pub fn parse(text: &[u8]) -> Result<Hash, HashError> {
        let text = std::str::from_utf8(text).map_err(|_| HashError::Form)?;
        let parts: Vec<&str> = text.split('$').collect();
        let &["", SCHEME, VERSION, costs, salt, hash] = parts.as_slice() else {
            return Err(HashError::Form);
        };
        let decoded = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
            let bytes = STANDARD_NO_PAD.decode(text).ok();
            bytes.filter(|bytes| lengths.contains(&bytes.len())).ok_or(HashError::Form)
        };
        let (salt, hash) = (decoded(salt, SALT_BYTES)?, decoded(hash, HASH_BYTES)?);
        let costs: Vec<&str> = costs.split(',').collect();
        let &[kib, passes, lanes] = costs.as_slice() else { return Err(HashError::Form) };
        let number = |text: &str, name: &str| {
            let digits = text.strip_prefix(name).ok_or(HashError::Form)?;
            match digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.is_empty() {
                true => digits.parse().map_err(|_| HashError::Cost),
                false => Err(HashError::Form),
            }
        };
        let costs = [number(kib, "m=")?, number(passes, "t=")?, number(lanes, "p=")?];
        Ok(Hash { params: params(costs, hash.len())?, salt, hash })
    }

    /// The hash of a password, with a salt of its own, as text. Takes as long as [`Hash::is_of`].
    ///
    /// # Errors
    /// A hash may not cost that much.
    ///
    /// # Panics
    /// If there is no memory for it.
    pub fn make(password: &[u8], kib: u32, passes: u32) -> Result<String, HashError> {
        let params = params([kib, passes, 1], OWN_HASH_BYTES)?;
        let salt: [u8; OWN_SALT_BYTES] = secret::random();
        let hash = vec![0; OWN_HASH_BYTES];
        let mut made = Hash { params, salt: salt.to_vec(), hash };
        made.hash = made.compute(password, &mut Memory::default()).expect("memory for a hash");
        let [salt, hash] = [&made.salt, &made.hash].map(|bytes| STANDARD_NO_PAD.encode(bytes));
        Ok(format!("${SCHEME}${VERSION}$m={kib},t={passes},p=1${salt}${hash}"))
    }

    /// Whether it is the hash of this password. Takes the same time for every password. Without
    /// memory it is not.
    pub fn is_of(&self, password: &[u8], memory: &mut Memory) -> Choice {
        match self.compute(password, memory) {
            Some(hash) => hash.ct_eq(&self.hash),
            None => Choice::from(0),
        }
    }

    fn compute(&self, password: &[u8], memory: &mut Memory) -> Option<Vec<u8>> {
        let memory = memory.of(self.params.block_count())?;
        let mut hash = vec![0; self.hash.len()];
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params.clone());
        let done = argon.hash_password_into_with_memory(password, &self.salt, &mut hash, memory);
        done.ok().map(|()| hash)
    }
}

fn params([kib, passes, lanes]: [u32; 3], hash_bytes: usize) -> Result<Params, HashError> {
    if kib > HASH_KIB_MAX || passes > HASH_PASSES_MAX || lanes > HASH_LANES_MAX {
        return Err(HashError::Cost);
    }
    Params::new(kib, passes, lanes, Some(hash_bytes)).map_err(|_| HashError::Cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Of the reference implementation's own tests: "password" with the salt "somesalt".
    const SMALL: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$\
                         nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    const LANES: &str = "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$\
                         bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";

    fn is_of(text: &str, password: &[u8], memory: &mut Memory) -> bool {
        Hash::parse(text.as_bytes()).expect(text).is_of(password, memory).into()
    }

    #[test]
    fn hashes_of_the_reference_implementation_are_known() {
        let mut memory = Memory::default();
        for hash in [SMALL, LANES, SMALL] {
            assert!(is_of(hash, b"password", &mut memory), "{hash}");
            for wrong in [&b"passwore"[..], b"password\0", b"", b"Password", &[b'x'; 2048]] {
                assert!(!is_of(hash, wrong, &mut memory), "{hash}");
            }
        }
    }

    #[test]
    fn a_made_hash_is_of_its_password_and_has_a_salt_of_its_own() {
        let [one, other] = [(), ()].map(|()| Hash::make(b"secret", 64, 1).expect("cheap"));
        assert_ne!(one, other);
        let mut memory = Memory::default();
        assert!(is_of(&one, b"secret", &mut memory) && !is_of(&one, b"Secret", &mut memory));
        assert_eq!(Hash::make(b"secret", HASH_KIB_MAX + 1, 1), Err(HashError::Cost));
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused() {
        let with = |from: &str, to: &str| SMALL.replace(from, to);
        for wrong in [
            "".to_owned(),
            "$argon2id".to_owned(),
            with("$argon2id", "$argon2i"),
            with("$argon2id", "x$argon2id"),
            with("v=19", "v=16"),
            with("$v=19", ""),
            with("m=256", "256"),
            with("m=256", "m="),
            with("m=256", "m=+256"),
            with("m=256,t=2", "t=2,m=256"),
            with("p=1", "p=1,keyid=x"),
            with("c29tZXNhbHQ", "c29t"),
            with("c29tZXNhbHQ", "c29tZXNhbHQ="),
            with("c29tZXNhbHQ", &"c29t".repeat(20)),
            with("i/4", "i/5"),
            with("nf65EOgLrQMR/uIPnA4rEsF5", ""),
            format!("{SMALL}$"),
            format!("{SMALL} "),
        ] {
            assert_eq!(Hash::parse(wrong.as_bytes()).err(), Some(HashError::Form), "{wrong}");
        }
        for costly in [
            with("m=256", "m=65537"),
            with("m=256", "m=99999999999"),
            with("m=256", "m=7"),
            with("m=256,t=2,p=1", "m=31,t=2,p=4"),
            with("t=2", "t=11"),
            with("t=2", "t=0"),
            with("p=1", "p=9"),
            with("p=1", "p=0"),
        ] {
            assert_eq!(Hash::parse(costly.as_bytes()).err(), Some(HashError::Cost), "{costly}");
        }
        assert_eq!(Hash::parse(b"$argon2id$\xff").err(), Some(HashError::Form));
    }
}
