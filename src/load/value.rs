//! Values that are derived from their key and a version, and how to tell when they are not.
//!
//! A value has no head: each of its bytes depends on the seed, the key, the version and the
//! value's length. So a value of another key, of another version, cut, stretched, shifted, zeroed
//! or put together of two is not what its key and version say. The client flags are derived too,
//! and name the version: who reads an item knows from its flags which version it should be, and
//! whether it is that one from its bytes, the first few or all.
//!
//! How sure that is: wrong bytes pass for right ones with a chance of 256 to the power of minus
//! their number. A value of one byte is caught in 255 of 256 cases, an empty one by its flags
//! alone, one of 8 bytes and more always, as good as. Nothing here looks at history: which version
//! should be there is for the caller to know.

use crate::base::random::{FACTORS, STEP, mix};

/// Makes and checks the values of one seed. Runs whose seeds differ take each other's values for
/// wrong ones.
#[derive(Clone, Copy, Debug)]
pub struct Values {
    seed: u64,
}

/// What is wrong with an item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wrong {
    /// The value is that of a version of this key, but the flags are not its flags.
    Flags {
        /// The version whose value it is.
        version: u32,
        /// Its flags.
        expected: u32,
    },
    /// The value begins as that of a version of this key does, but has another length.
    Length {
        /// The version whose value it is.
        version: u32,
        /// The length of that version's value, in bytes.
        expected_bytes: u32,
    },
    /// The value begins as that of the version that the flags name, and goes on otherwise.
    From {
        /// The version that the flags name.
        version: u32,
        /// The first wrong byte, or up to seven before it.
        byte: usize,
    },
    /// No version of this key has a value that begins so.
    Foreign,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wrong::Flags { version, expected } => {
                write!(f, "the value is version {version}, whose flags are {expected}")
            }
            Wrong::Length { version, expected_bytes } => {
                write!(f, "it should have {expected_bytes} bytes, being version {version}")
            }
            Wrong::From { version, byte } => {
                write!(f, "it is not version {version} any more from byte {byte} on")
            }
            Wrong::Foreign => f.write_str("the value is of no version of this key"),
        }
    }
}

const FIRST_INVERSE: u64 = 0x96de_1b17_3f11_9089;
const SECOND_INVERSE: u64 = 0x3196_42b2_d24d_8ec3;

const _: () = assert!(FACTORS[0].wrapping_mul(FIRST_INVERSE) == 1);
const _: () = assert!(FACTORS[1].wrapping_mul(SECOND_INVERSE) == 1);

/// Undoes `number ^ (number >> shift)`.
fn unshift(number: u64, shift: u32) -> u64 {
    let mut undone = number;
    let mut done = shift;
    while done < u64::BITS {
        undone = number ^ (undone >> shift);
        done += shift;
    }
    undone
}

/// The number that [`mix`] made this of.
fn unmix(mixed: u64) -> u64 {
    let number = unshift(mixed, 31).wrapping_mul(SECOND_INVERSE);
    let number = unshift(number, 27).wrapping_mul(FIRST_INVERSE);
    unshift(number, 30).wrapping_sub(STEP)
}

/// Bytes that one number determines, as many as requested.
#[derive(Clone, Copy, Debug)]
pub struct Filler {
    base: u64,
    /// Odd.
    step: u64,
}

impl Filler {
    /// The filler of this number.
    #[inline]
    pub fn of(number: u64) -> Filler {
        Filler { base: mix(number), step: STEP }
    }

    /// Eight bytes of it. No word depends on the one before, so the processor computes several in
    /// parallel.
    #[inline]
    fn word(self, index: usize) -> u64 {
        let mixed = self.base.wrapping_add((index as u64).wrapping_mul(self.step));
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(FACTORS[0]);
        mixed ^ (mixed >> 29)
    }

    /// The base of a filler, from its first word.
    fn base_of(first_word: u64) -> u64 {
        unshift(unshift(first_word, 29).wrapping_mul(FIRST_INVERSE), 32)
    }

    /// Adds its first `bytes` bytes to `out`.
    #[inline]
    pub fn put(self, bytes: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + bytes, 0);
        let (words, rest) = out[start..].as_chunks_mut::<8>();
        for (index, slot) in words.iter_mut().enumerate() {
            *slot = self.word(index).to_le_bytes();
        }
        let last = self.word(words.len()).to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }

    /// Where `bytes` first differ from it, to eight bytes. None: nowhere.
    #[inline]
    pub fn differs_at(self, bytes: &[u8]) -> Option<usize> {
        let (words, rest) = bytes.as_chunks::<8>();
        // Found out for many words at once; where it is matters only when it is somewhere.
        let mut difference = 0;
        for (index, bytes) in words.iter().enumerate() {
            difference |= u64::from_le_bytes(*bytes) ^ self.word(index);
        }
        let last = self.word(words.len()).to_le_bytes();
        if difference == 0 && rest == &last[..rest.len()] {
            return None;
        }
        let is_right =
            |&(index, bytes): &(usize, &[u8; 8])| *bytes == self.word(index).to_le_bytes();
        Some(words.iter().enumerate().take_while(is_right).count() * 8)
    }
}

impl Values {
    /// Of this seed.
    pub fn new(seed: u64) -> Values {
        Values { seed: mix(seed) }
    }

    /// The key's part of everything.
    #[inline]
    fn hash(self, key: &[u8]) -> u64 {
        let (words, rest) = key.as_chunks::<8>();
        let mut hash = mix(self.seed ^ key.len() as u64);
        for word in words {
            hash = mix(hash ^ u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        mix(hash ^ u64::from_le_bytes(last))
    }

    /// The filler of a version. Its base is reversible, so that a value's first word tells version
    /// and length; its step is the key's, so that the second one proves that it is this key's.
    #[inline]
    fn filler(hash: u64, version: u32, bytes: usize) -> Filler {
        let base = mix(hash ^ (u64::from(version) | (bytes as u64) << 32));
        Filler { base, step: step(hash) }
    }

    /// The client flags of a version.
    #[cfg(feature = "internals")]
    #[inline]
    pub fn flags(self, key: &[u8], version: u32) -> u32 {
        version ^ (self.hash(key) >> 32) as u32
    }

    /// The version that these flags name.
    #[cfg(feature = "internals")]
    #[inline]
    pub fn version(self, key: &[u8], flags: u32) -> u32 {
        flags ^ (self.hash(key) >> 32) as u32
    }

    /// Adds the value of a version, with `bytes` bytes (below 4 GiB), to `out`; its flags.
    #[inline]
    pub fn put(self, key: &[u8], version: u32, bytes: usize, out: &mut Vec<u8>) -> u32 {
        let hash = self.hash(key);
        Values::filler(hash, version, bytes).put(bytes, out);
        version ^ (hash >> 32) as u32
    }

    /// Reads an item: which version it is.
    ///
    /// # Errors
    /// It is none that was ever written for this key, with this seed.
    #[inline]
    pub fn read(self, key: &[u8], flags: u32, value: &[u8]) -> Result<u32, Wrong> {
        self.read_start(key, flags, value.len(), value)
    }

    /// The same, of an item of which only the value's start is there; the value has `value_bytes`
    /// bytes.
    ///
    /// # Errors
    /// As [`Values::read`].
    #[inline]
    pub fn read_start(
        self,
        key: &[u8],
        flags: u32,
        value_bytes: usize,
        start: &[u8],
    ) -> Result<u32, Wrong> {
        let hash = self.hash(key);
        let version = flags ^ (hash >> 32) as u32;
        match Values::filler(hash, version, value_bytes).differs_at(start) {
            None => Ok(version),
            Some(byte) => Err(diagnose(hash, version, value_bytes, start, byte)),
        }
    }

    /// Whose the value is, of these keys: for a report on one that is not its key's.
    pub fn owner<K: AsRef<[u8]>>(
        self,
        keys: impl IntoIterator<Item = K>,
        value: &[u8],
    ) -> Option<(K, u32)> {
        let mut keys = keys.into_iter();
        keys.find_map(|key| Some((identify(self.hash(key.as_ref()), value)?.0, key)))
            .map(|(version, key)| (key, version))
    }
}

fn step(hash: u64) -> u64 {
    mix(hash) | 1
}

/// The version and the length that a value's first words tell, if they are this key's.
fn identify(hash: u64, value: &[u8]) -> Option<(u32, u32)> {
    let first = u64::from_le_bytes(*value.first_chunk()?);
    let filler = Filler { base: Filler::base_of(first), step: step(hash) };
    let both = unmix(filler.base) ^ hash;
    let (version, bytes) = (both as u32, (both >> 32) as u32);
    let start = &value[..value.len().min(16)];
    // A first word alone tells something of any key.
    let is_proof = start.len() >= 12 || bytes as usize == value.len();
    (is_proof && filler.differs_at(start).is_none()).then_some((version, bytes))
}

#[cold]
fn diagnose(hash: u64, version: u32, value_bytes: usize, start: &[u8], byte: usize) -> Wrong {
    if let Some((found, bytes)) = identify(hash, start) {
        if bytes as usize != value_bytes {
            return Wrong::Length { version: found, expected_bytes: bytes };
        }
        if found != version {
            return Wrong::Flags { version: found, expected: found ^ (hash >> 32) as u32 };
        }
    }
    if byte > 0 { Wrong::From { version, byte } } else { Wrong::Foreign }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALUES: Values = Values { seed: 42 };

    fn value(key: &[u8], version: u32, bytes: usize) -> (u32, Vec<u8>) {
        let mut out = vec![];
        let flags = VALUES.put(key, version, bytes, &mut out);
        (flags, out)
    }

    #[test]
    fn mixing_is_undone() {
        for number in [0, 1, 2, 77, STEP, u64::MAX, 1 << 63] {
            assert_eq!(unmix(mix(number)), number);
            let filler = Filler { base: number, step: 1 };
            assert_eq!(Filler::base_of(filler.word(0)), number);
        }
    }

    #[test]
    fn swapped_values_show() {
        let ((flags_a, a), (flags_b, b)) = (value(b"a", 1, 100), value(b"b", 1, 100));
        assert_eq!(VALUES.read(b"a", flags_a, &a), Ok(1));
        assert_eq!(VALUES.read(b"a", flags_b, &b), Err(Wrong::Foreign));
        assert_eq!(VALUES.read(b"a", flags_a, &b), Err(Wrong::Foreign));
        assert_eq!(VALUES.owner([b"x", b"b"], &b), Some((b"b", 1)));
        assert_eq!(VALUES.owner([b"x", b"a"], &b), None);
        assert_eq!(Values::new(1).read(b"a", flags_a, &a), Err(Wrong::Foreign));
    }

    #[test]
    fn mixed_short_stale_and_wrong_flags_show() {
        let ((flags_1, one), (flags_2, two)) = (value(b"k", 1, 1000), value(b"k", 2, 1000));
        let mixed = [&one[..400], &two[400..]].concat();
        assert_eq!(VALUES.read(b"k", flags_1, &mixed), Err(Wrong::From { version: 1, byte: 400 }));
        let zero_tailed = [&one[..501], &[0; 499]].concat();
        let wrong = Wrong::From { version: 1, byte: 496 };
        assert_eq!(VALUES.read(b"k", flags_1, &zero_tailed), Err(wrong));
        let short = Wrong::Length { version: 1, expected_bytes: 1000 };
        assert_eq!(VALUES.read(b"k", flags_1, &one[..999]), Err(short));
        assert_eq!(VALUES.read(b"k", flags_1, &[&one[..], b"x"].concat()), Err(short));
        assert_eq!(VALUES.read(b"k", flags_1, &one), Ok(1));
        assert_eq!(VALUES.read(b"k", flags_2, &two), Ok(2));
        let wrong = Wrong::Flags { version: 2, expected: flags_2 };
        assert_eq!(VALUES.read(b"k", flags_1, &two), Err(wrong));
        assert_eq!(VALUES.read(b"k", 0, &two), Err(wrong));
    }

    #[test]
    fn a_start_says_what_the_whole_says() {
        let (flags, whole) = value(b"k", 9, 1000);
        for bytes in 0..whole.len() {
            assert_eq!(VALUES.read_start(b"k", flags, 1000, &whole[..bytes]), Ok(9));
        }
        let (_, other) = value(b"k", 8, 1000);
        let wrong = VALUES.read_start(b"k", flags, 1000, &other[..16]);
        assert!(matches!(wrong, Err(Wrong::Flags { version: 8, .. })), "{wrong:?}");
    }

    #[test]
    fn short_values_are_caught_as_often_as_the_text_says() {
        let mut passed = 0;
        for version in 0..2560 {
            let flags = VALUES.flags(b"k", version);
            let (_, other) = value(b"other", version, 1);
            passed += u32::from(VALUES.read(b"k", flags, &other).is_ok());
        }
        assert!((1..=30).contains(&passed), "{passed} of 2560, 10 are to be expected");
    }

    #[test]
    fn every_byte_depends_on_key_and_version() {
        let (_, first) = value(b"k", 0, 64);
        for (key, versions) in [(b"k", 1..2000), (b"l", 0..2000)] {
            let mut same = [0; 64];
            for version in versions {
                let (_, other) = value(key, version, 64);
                for (at, count) in same.iter_mut().enumerate() {
                    *count += usize::from(other[at] == first[at]);
                }
            }
            assert!(same.iter().all(|&count| count < 40), "8 of 2000 are to be expected: {same:?}");
        }
    }

    proptest! {
        #[test]
        fn a_value_is_read_back(
            key in "[a-z]{1,40}",
            version in any::<u32>(),
            bytes in 0..5000_usize,
        ) {
            let (flags, value) = value(key.as_bytes(), version, bytes);
            prop_assert_eq!(value.len(), bytes);
            prop_assert_eq!(VALUES.read(key.as_bytes(), flags, &value), Ok(version));
            prop_assert_eq!(VALUES.flags(key.as_bytes(), version), flags);
            prop_assert_eq!(VALUES.version(key.as_bytes(), flags), version);
        }

        #[test]
        fn a_spoilt_byte_shows(
            bytes in 1..3000_usize,
            at in any::<prop::sample::Index>(),
            by in 1..=255_u8,
        ) {
            let (flags, mut value) = value(b"key", 7, bytes);
            value[at.index(bytes)] ^= by;
            prop_assert!(VALUES.read(b"key", flags, &value).is_err());
        }
    }
}
