//! Numbers as people read them. What leaves here is digits, separators and a unit: safe on a
//! terminal and in a page.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate, a second's worth, without a fraction.
pub fn rate(per_second: f64) -> String {
    grouped(per_second.round() as u64)
}

/// Nanoseconds as microseconds with one decimal, without the unit.
pub fn micros(ns: u64) -> String {
    let tenths = ns.saturating_add(50) / 100;
    format!("{}.{}", grouped(tenths / 10), tenths % 10)
}

/// Nanoseconds with three digits and the unit that suits them: `850 ns`, `12.3 µs`, `1.20 s`.
pub fn latency(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    match value {
        // Where two decimals would round up to 10.00, and so on.
        ..9.995 => format!("{value:.2} {unit}"),
        9.995..99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// Bytes with three digits or so: `512 B`, `1.2 KiB`.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            let decimals = usize::from(unit != "B" && value < 100.0);
            return format!("{value:.decimals$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Seconds without needless decimals: `10 s`, `0.5 s`.
pub fn seconds(seconds: f64) -> String {
    // A duration of absurd length came from no run.
    let rounded = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_millis();
    format!("{} s", rounded as f64 / 1e3)
}

/// A share of 1 in percent: `90 %`, `99.95 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", (share * 10_000.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let texts = [0, 999, 1000, 123_456, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "123,456", "1,234,567"]);
        assert_eq!(rate(1999.6), "2,000");
        assert_eq!(rate(-1.0), "0");
    }

    #[test]
    fn latencies_keep_three_digits() {
        let texts = [850, 1_000, 9_994, 9_996, 12_345, 99_960, 999_000, 1_200_000_000].map(latency);
        assert_eq!(
            texts,
            ["850 ns", "1.00 µs", "9.99 µs", "10.0 µs", "12.3 µs", "100 µs", "999 µs", "1.20 s"]
        );
        assert_eq!(
            [49, 50, 12_340, 1_234_567_800].map(micros),
            ["0.0", "0.1", "12.3", "1,234,567.8"]
        );
        assert!(micros(u64::MAX).starts_with("18,446,744,073,709,551."));
    }

    #[test]
    fn sizes_times_and_shares_have_their_units() {
        assert_eq!([512, 1536, 150 << 20].map(bytes), ["512 B", "1.5 KiB", "150 MiB"]);
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!([10.0, 0.5, f64::MAX].map(seconds), ["10 s", "0.5 s", "0 s"]);
        assert_eq!([0.9, 0.9995, 1.0].map(percent), ["90 %", "99.95 %", "100 %"]);
    }
}
