//! Numbers as they are written on a command line, in one place: `7`, `50k`, `1.5M`, `64M`.
//!
//! What one counts, requests and keys, has powers of 1000: [`count`] and [`real`]. Bytes have
//! powers of 1024: [`size`]. A sign, an exponent or a space makes it no number.

use super::{Parsed, ValueError};

/// The letters that may follow a number, from small to large.
const LETTERS: [u8; 4] = *b"KMGT";

/// What a letter multiplies by: a power of this base.
const COUNT_BASE: u64 = 1000;
const SIZE_BASE: u64 = 1024;

/// The digits of a number, at most one point among them, and what its letter multiplies them by.
/// Of the letters the first `letters` are allowed.
fn split(text: &str, base: u64, letters: usize) -> Option<(&str, u64)> {
    let last = text.bytes().last()?.to_ascii_uppercase();
    let (digits, by) = match LETTERS[..letters].iter().position(|&letter| letter == last) {
        Some(at) => (&text[..text.len() - 1], base.pow(at as u32 + 1)),
        None => (text, 1),
    };
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_number.then_some((digits, by))
}

fn within<T: PartialOrd + Copy>(
    number: Option<T>,
    (min, max): (T, T),
    text: &str,
    expected: impl FnOnce() -> String,
) -> Parsed<T> {
    let number = number.filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| ValueError::new(text, expected()))
}

/// A whole number from `min` to `max`, without a letter.
///
/// # Errors
/// If it is not.
pub(crate) fn number(text: &str, min: u64, max: u64) -> Parsed<u64> {
    within(text.parse().ok(), (min, max), text, || format!("a whole number from {min} to {max}"))
}

/// A whole number from `min` to `max`; K, M and G are powers of 1000.
///
/// # Errors
/// If it is not. 1.5M is whole, 1.5 is not.
pub(crate) fn count(text: &str, min: u64, max: u64) -> Parsed<u64> {
    let read = || {
        let (digits, by) = split(text, COUNT_BASE, 3)?;
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let places = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
        let part: u64 = if part.is_empty() { 0 } else { part.parse().ok()? };
        let part = part.checked_mul(by)?;
        if !part.is_multiple_of(places) {
            return None;
        }
        whole.parse::<u64>().ok()?.checked_mul(by)?.checked_add(part / places)
    };
    within(read(), (min, max), text, || format!("a whole number from {min} to {max}"))
}

/// A number from `min` to `max`; K, M and G are powers of 1000.
///
/// # Errors
/// If it is not.
pub(crate) fn real(text: &str, min: f64, max: f64) -> Parsed<f64> {
    let read = || {
        let (digits, by) = split(text, COUNT_BASE, 3)?;
        Some(digits.parse::<f64>().ok()? * by as f64)
    };
    within(read(), (min, max), text, || format!("a number from {min} to {max}"))
}

/// A number of bytes from `min` to `max`; K, M, G and T are powers of 1024.
///
/// # Errors
/// If it is not.
pub(crate) fn size(text: &str, min: u64, max: u64) -> Parsed<u64> {
    let read = || {
        let (digits, by) = split(text, SIZE_BASE, 4)?;
        digits.parse::<u64>().ok()?.checked_mul(by)
    };
    within(read(), (min, max), text, || {
        let example = match max {
            ..0x4000 => "",
            0x4000..0x4000_0000 => ", e.g. 16K",
            _ => ", e.g. 64M or 1G",
        };
        format!("a size from {} to {}{example}", show_size(min), show_size(max))
    })
}

/// Bytes with the largest unit in which they are whole.
pub(crate) fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Bytes for a reader of a message: with one decimal of the largest unit that they come to.
pub(crate) fn readable_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift {
            let amount = format!("{:.1}", bytes as f64 / (1_u64 << shift) as f64);
            return format!("{} {unit}", amount.trim_end_matches(".0"));
        }
    }
    format!("{bytes} bytes")
}

/// A number of things, in the singular where there is one.
pub(crate) fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_sizes_in_units_and_one_thing_in_the_singular() {
        let sizes = [0, 1023, 1024, 1536, 64 << 20, (5 << 30) + (1 << 29), 3 << 40];
        let said = ["0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "64 MiB", "5.5 GiB", "3 TiB"];
        assert_eq!(sizes.map(readable_size), said);
        let counts = [0, 1, 2].map(|count| counted(count, "worker"));
        assert_eq!(counts, ["0 workers", "1 worker", "2 workers"]);
    }

    #[test]
    fn sizes_take_a_unit_and_stay_in_bounds() {
        assert_eq!(size("1", 1, 100), Ok(1));
        assert_eq!(size("64M", 1, u64::MAX), Ok(64 << 20));
        assert_eq!(size("2g", 1, u64::MAX), Ok(2 << 30));
        for wrong in ["", "M", "-1", "1.5G", "1GB", "99999999999T", "+1", " 1", "\u{e9}"] {
            assert!(size(wrong, 1, u64::MAX).is_err(), "{wrong}");
        }
        let error = size("2M", 1024, 1 << 20).expect_err("too large").to_string();
        assert_eq!(error, "got '2M', expected a size from 1K to 1M, e.g. 16K");
        let error = size("16K", 1, 250).expect_err("too large").to_string();
        assert_eq!(error, "got '16K', expected a size from 1 to 250");
    }

    #[test]
    fn counts_take_powers_of_a_thousand() {
        for (text, expected) in [
            ("0", 0),
            ("7", 7),
            ("50k", 50_000),
            ("50K", 50_000),
            ("1M", 1_000_000),
            ("1.5m", 1_500_000),
            ("0.001k", 1),
            ("2.0", 2),
            ("3G", 3_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(count(text, 0, u64::MAX), Ok(expected), "{text}");
            assert_eq!(real(text, 0.0, 1e20), Ok(expected as f64), "{text}");
        }
        assert_eq!(real("0.25k", 0.0, 1e9), Ok(250.0));
        assert_eq!(real("2.5", 0.0, 1e9), Ok(2.5));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "k", "-1", "+1", "1e3", " 1", "1 k", "1kk", "1T", "1KB", ".5k", "nan", "inf"]
        {
            assert!(count(text, 0, u64::MAX).is_err(), "{text}");
            assert!(real(text, 0.0, f64::MAX).is_err(), "{text}");
        }
        for text in ["1.5", "0.0001k", "1.2.3", "18446744073709551616", "99999999999G"] {
            assert!(count(text, 0, u64::MAX).is_err(), "{text}");
        }
        assert!(count("20k", 1, 10_000).is_err() && count("0", 1, 2).is_err());
        assert!(real("20k", 1.0, 10_000.0).is_err());
        let error = count("many", 1, 10).expect_err("no number").to_string();
        assert_eq!(error, "got 'many', expected a whole number from 1 to 10");
    }
}
