//! Values that say whose they are, to the byte, and how to tell when they are not.
//!
//! A value of an ordinary key is records end to end: prepended ones, one base, appended ones. A
//! record names its kind, its key, who wrote it and which of his versions it is, and how long it
//! is; what follows is filler that only this key and version have. So a value of another key, a
//! mixture, a shift, a cut or a tail of zeros shows in the value alone. A number names its base in
//! its high bits and counts in its low ones. Never looks at history: that is `check`.
//!
//! Beside [`value`](crate::load::value), whose values have no head: what is appended to must say
//! where its parts end.

use bytes::{Buf, BufMut, TryGetError};

use crate::base::random::mix;
use crate::load::value::Filler;

/// Bytes of a record before its filler, and so its least length.
pub const RECORD_HEAD_BYTES: usize = 10;

/// Longest record, in bytes: its length has 24 bits.
pub const RECORD_BYTES_MAX: usize = (1 << 24) - 1;

/// Most keys: a record's key has 14 bits.
pub const KEYS_MAX: usize = 1 << 14;

/// First version that a record cannot name: it has 32 bits.
pub const VERSION_END: u64 = 1 << 32;

/// Bits of a number that count.
const COUNT_BITS: u32 = 24;

/// Where a number's count starts, so that decrements find room.
const COUNT_START: u64 = 1 << (COUNT_BITS - 1);

/// What a record is to its value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// What was set.
    Base,
    /// What was appended to it.
    Append,
    /// What was prepended to it.
    Prepend,
}

/// A value, read: which writes made it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// The version that was set.
    pub base: u64,
    /// Versions prepended, the first one first: the nearest to the base.
    pub prepends: Vec<u64>,
    /// Versions appended, the first one first.
    pub appends: Vec<u64>,
    /// Increments less decrements; 0 where the key keeps no number.
    pub count: i64,
}

/// Client flags of a base version.
pub fn flags_of(key: usize, version: u64) -> u32 {
    mix(mix(key as u64) ^ version) as u32
}

/// Adds one record of `bytes` bytes to `out`. `bytes` is brought within a record's bounds.
pub fn push_record(out: &mut Vec<u8>, part: Part, key: usize, version: u64, bytes: usize) {
    let bytes = bytes.clamp(RECORD_HEAD_BYTES, RECORD_BYTES_MAX);
    let kind = match part {
        Part::Base => 1_u64,
        Part::Append => 2,
        Part::Prepend => 3,
    };
    let head = version | (key as u64) << 32 | kind << 46;
    out.put_uint_le(head, 6);
    out.put_uint_le(bytes as u64, 3);
    out.put_u8(check_byte(head, bytes));
    Filler::of(head).put(bytes - RECORD_HEAD_BYTES, out);
}

/// The value of a key that was just set.
pub fn base_record(key: usize, version: u64, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 8);
    push_record(&mut out, Part::Base, key, version, bytes);
    out
}

fn check_byte(head: u64, bytes: usize) -> u8 {
    mix(mix(head) ^ bytes as u64) as u8
}

/// Reads a value of `key`: which versions it is made of, or what is wrong with it.
///
/// # Errors
/// Why it is a value that was never written there, in one line.
pub fn read_value(key: usize, value: &[u8]) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut has_base = false;
    let mut at = 0;
    while at < value.len() {
        let (part, version, bytes) =
            read_record(key, &value[at..]).map_err(|error| format!("at byte {at}: {error}"))?;
        match part {
            Part::Base if has_base => return Err(format!("at byte {at}: a second base")),
            Part::Base => {
                has_base = true;
                seen.base = version;
            }
            Part::Prepend if has_base => {
                return Err(format!("at byte {at}: prepended behind the base"));
            }
            Part::Append if !has_base => {
                return Err(format!("at byte {at}: appended before the base"));
            }
            Part::Prepend => seen.prepends.push(version),
            Part::Append => seen.appends.push(version),
        }
        at += bytes;
    }
    if !has_base {
        return Err("no base".into());
    }
    // The last one prepended comes first.
    seen.prepends.reverse();
    Ok(seen)
}

/// A record's head: its names, its length and its check byte.
fn read_head(mut bytes: &[u8]) -> Result<(u64, usize, u8), TryGetError> {
    let head = bytes.try_get_uint_le(6)?;
    let length = bytes.try_get_uint_le(3)? as usize;
    Ok((head, length, bytes.try_get_u8()?))
}

/// Reads the record at the start of `bytes`: its part, version and length.
fn read_record(key: usize, bytes: &[u8]) -> Result<(Part, u64, usize), String> {
    let (head, length, check) = read_head(bytes)
        .map_err(|_| format!("{} bytes are left, less than a record's head", bytes.len()))?;
    let part = match head >> 46 {
        1 => Part::Base,
        2 => Part::Append,
        3 => Part::Prepend,
        _ => return Err("no record starts here".into()),
    };
    if check != check_byte(head, length) || length < RECORD_HEAD_BYTES {
        return Err("no record starts here".into());
    }
    let owner = (head >> 32) as usize % KEYS_MAX;
    if owner != key {
        return Err(format!("a record of key number {owner}"));
    }
    let version = head % VERSION_END;
    let Some(filler) = bytes.get(RECORD_HEAD_BYTES..length) else {
        return Err(format!("{} of {length} bytes of version {version}", bytes.len()));
    };
    if let Some(at) = Filler::of(head).differs_at(filler) {
        let at = at + RECORD_HEAD_BYTES;
        return Err(format!("version {version} is wrong from its byte {at} of {length} on"));
    }
    Ok((part, version, length))
}

/// The number that a number key is set to.
pub fn base_number(version: u64) -> u64 {
    version << COUNT_BITS | COUNT_START
}

/// What a number says.
pub fn split_number(number: u64) -> Seen {
    let count = (number % (1 << COUNT_BITS)) as i64 - COUNT_START as i64;
    Seen { base: number >> COUNT_BITS, count, ..Seen::default() }
}

/// Reads a number key's value. A decrement may leave spaces behind the digits.
///
/// # Errors
/// It is no number.
pub fn read_number(value: &[u8]) -> Result<Seen, String> {
    let text = std::str::from_utf8(value).ok().map(|text| text.trim_end_matches(' '));
    let number = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.and_then(|text| text.parse::<u64>().ok());
    number.map(split_number).ok_or_else(|| "is no number".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_records() -> Vec<u8> {
        let mut value = vec![];
        push_record(&mut value, Part::Prepend, 3, 9, 77);
        push_record(&mut value, Part::Prepend, 3, 8, 10);
        push_record(&mut value, Part::Base, 3, 7, 5000);
        push_record(&mut value, Part::Append, 3, 11, 123);
        value
    }

    #[test]
    fn a_value_names_its_writes() {
        let seen = read_value(3, &three_records()).expect("whole");
        let expected = Seen { base: 7, prepends: vec![8, 9], appends: vec![11], count: 0 };
        assert_eq!(seen, expected);
    }

    #[test]
    fn every_spoilt_byte_shows() {
        let value = three_records();
        for at in 0..value.len() {
            let mut spoilt = value.clone();
            spoilt[at] ^= 0x10;
            let seen = read_value(3, &spoilt);
            assert!(seen.is_err(), "byte {at}: {seen:?}");
        }
    }

    #[test]
    fn every_cut_that_loses_a_part_of_a_record_shows() {
        let value = base_record(0, 1, 3000);
        for bytes in 0..value.len() {
            assert!(read_value(0, &value[..bytes]).is_err(), "{bytes}");
            let mut zero_tailed = value.clone();
            zero_tailed[bytes..].fill(0);
            let is_same = zero_tailed == value;
            assert_eq!(read_value(0, &zero_tailed).is_ok(), is_same, "{bytes}");
        }
    }

    #[test]
    fn mixtures_and_other_keys_show() {
        let (a, b) = (base_record(0, 1, 2000), base_record(0, 2, 2000));
        assert!(read_value(0, &[&a[..1000], &b[1000..]].concat()).is_err());
        assert!(read_value(1, &a).expect_err("another key").contains("key number 0"));
        // A chunk left out, the end filled up: what a lost chunk looks like.
        let shifted = [&a[..500], &a[1000..], &[0; 500]].concat();
        assert!(read_value(0, &shifted).is_err());
        assert!(read_value(0, &[a, b].concat()).is_err());
        assert!(read_value(0, b"").is_err());
    }

    #[test]
    fn numbers_name_their_base_and_count() {
        let number = base_number(77);
        assert_eq!(split_number(number + 3).count, 3);
        assert_eq!(read_number(format!("{} ", number - 2).as_bytes()).expect("digits").count, -2);
        assert_eq!(split_number(number - 2).base, 77);
        for bad in [&b""[..], b"+1", b"12a", b" 1"] {
            assert!(read_number(bad).is_err(), "{bad:?}");
        }
    }
}
