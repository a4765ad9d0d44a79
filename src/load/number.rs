//! Counts and rates on a command line: `50k`, `1.5M`, `2G`.
//!
//! These are powers of 1000, as one counts requests. Bytes are read by [`crate::config::size`],
//! whose K is 1024. Anything else, a sign or an exponent, is no number.

use crate::config::ValueError;

/// The letters that may follow a number, and what each multiplies it by.
const SUFFIXES: [(&[char], u64); 3] =
    [(&['k', 'K'], 1_000), (&['m', 'M'], 1_000_000), (&['g', 'G'], 1_000_000_000)];

/// Digits with at most one point among them, and what they are to be multiplied by.
fn split(text: &str) -> Option<(&str, u64)> {
    let suffix =
        SUFFIXES.iter().find_map(|(letters, by)| Some((text.strip_suffix(*letters)?, *by)));
    let (digits, by) = suffix.unwrap_or((text, 1));
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_number.then_some((digits, by))
}

/// A whole number from `min` to `max`.
///
/// # Errors
/// It is none.
pub fn count(text: &str, min: u64, max: u64) -> Result<u64, ValueError> {
    let read = || {
        let (digits, by) = split(text)?;
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        // 1.5M is whole, 1.5 is not.
        let places = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
        let part: u64 = if part.is_empty() { 0 } else { part.parse().ok()? };
        let part = part.checked_mul(by)?;
        if !part.is_multiple_of(places) {
            return None;
        }
        whole.parse::<u64>().ok()?.checked_mul(by)?.checked_add(part / places)
    };
    read()
        .filter(|count| (min..=max).contains(count))
        .ok_or_else(|| ValueError::new(text, format!("a whole number from {min} to {max}")))
}

/// A number from `min` to `max`.
///
/// # Errors
/// It is none.
pub fn real(text: &str, min: f64, max: f64) -> Result<f64, ValueError> {
    let read = || {
        let (digits, by) = split(text)?;
        Some(digits.parse::<f64>().ok()? * by as f64)
    };
    read()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| ValueError::new(text, format!("a number from {min} to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_powers_of_a_thousand() {
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
