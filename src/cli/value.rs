//! What several subcommands ask of words: types of values that have bounds, which clap reads.

use std::str::FromStr;
use std::time::Duration;

use crate::config::{Parsed, ValueError, count, number, real, size};

/// Several values of one word. clap takes what is called a `Vec` for a flag that may be repeated.
pub(super) type List<T> = Vec<T>;

/// A whole number in bounds. `UNIT`: what the powers of its letters have as their base; 1: it has
/// none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<const UNIT: u64, const MIN: u64, const MAX: u64>(pub u64);

pub(super) type Number<const MIN: u64, const MAX: u64> = Whole<1, MIN, MAX>;

/// K, M and G are powers of 1000.
pub(super) type Count<const MIN: u64, const MAX: u64> = Whole<1000, MIN, MAX>;

/// Bytes; K, M, G and T are powers of 1024.
pub(super) type Size<const MIN: u64, const MAX: u64> = Whole<1024, MIN, MAX>;

impl<const UNIT: u64, const MIN: u64, const MAX: u64> FromStr for Whole<UNIT, MIN, MAX> {
    type Err = ValueError;

    fn from_str(text: &str) -> Parsed<Self> {
        let read = match UNIT {
            1 => number,
            1000 => count,
            _ => size,
        };
        read(text, MIN, MAX).map(Whole)
    }
}

/// No upper bound.
pub(super) const ANY: u64 = u64::MAX;

/// Seconds, which may have a fraction, in bounds of milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds<const MIN_MS: u64, const MAX_MS: u64>(pub Duration);

impl<const MIN_MS: u64, const MAX_MS: u64> FromStr for Seconds<MIN_MS, MAX_MS> {
    type Err = ValueError;

    fn from_str(text: &str) -> Parsed<Self> {
        let [least, most] = [MIN_MS, MAX_MS].map(|ms| ms as f64 / 1e3);
        let seconds = text.parse().ok().filter(|seconds| (least..=most).contains(seconds));
        let seconds = seconds.or_else(|| real(text, least, most).ok()).map(Duration::from_secs_f64);
        let expected = || ValueError::new(text, format!("seconds, from {least} to {most}"));
        seconds.map(Seconds).ok_or_else(expected)
    }
}

/// `MIN-MAX`, or one length, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range<const MIN: u64, const MAX: u64>(pub (usize, usize));

impl<const MIN: u64, const MAX: u64> FromStr for Range<MIN, MAX> {
    type Err = ValueError;

    fn from_str(text: &str) -> Parsed<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (size(first, MIN, MAX), size(last, MIN, MAX)) {
            (Ok(first), Ok(last)) if first <= last => Ok(Range((first as usize, last as usize))),
            _ => Err(ValueError::new(text, format!("MIN-MAX in bytes, from {MIN} to {MAX}"))),
        }
    }
}

/// What Go's flags take for true and false.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ValueError::new(text, "true or false")),
    }
}

/// Refuses an address that is there more than once.
pub(super) fn refuse_twice<T: Ord>(flag: &str, all: impl Iterator<Item = T>) -> Result<(), String> {
    let mut all: Vec<T> = all.collect();
    all.sort_unstable();
    match all.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(format!("{flag}: the same address is given twice")),
        false => Ok(()),
    }
}
