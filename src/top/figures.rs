//! Numbers as an operator reads them: short, with units, never wider than a few columns.

/// A number of things: 12,345 or 1.23 M.
pub fn count(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} G", v / 1e9),
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v => {
            let digits = format!("{v:.0}");
            match digits.len() {
                0..=3 => digits,
                len => format!("{},{}", &digits[..len - 3], &digits[len - 3..]),
            }
        }
    }
}

/// A time in microseconds.
pub fn duration(us: f64) -> String {
    match us {
        v if v >= 1e6 => format!("{:.2} s", v / 1e6),
        v if v >= 1e3 => format!("{:.2} ms", v / 1e3),
        v => format!("{v:.1} µs"),
    }
}

/// A number of bytes.
pub fn bytes(value: f64) -> String {
    let mut value = value;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            let decimals = if unit == "B" { 0 } else { 1 };
            return format!("{value:.decimals$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// A part of 1. What is not all is not shown as all.
pub fn percent(part: f64) -> String {
    let value = part * 100.0;
    format!("{:.1} %", if value < 100.0 { value.min(99.9) } else { value })
}

/// A time in seconds, of which the largest two units count.
pub fn span(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600, seconds / 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

/// Time of day in UTC.
pub fn time_of_day(unix_s: u32) -> String {
    let second = unix_s % 86_400;
    format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// The text without what a terminal would obey, or what would change how the rest of it is read:
/// directions and characters without a width.
pub fn plain(text: &str) -> String {
    let hidden = [
        '\u{200b}'..='\u{200f}',
        '\u{2028}'..='\u{202e}',
        '\u{2060}'..='\u{206f}',
        '\u{feff}'..='\u{feff}',
    ];
    let is_hidden = |c: char| hidden.iter().any(|range| range.contains(&c));
    text.chars().map(|c| if c.is_control() || is_hidden(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_their_units() {
        assert_eq!([0.0, 999.4, 12_345.0, 1_234_567.0, 2e9].map(count).join(" "), {
            "0 999 12,345 1.23 M 2.00 G"
        });
        assert_eq!(
            [0.4, 999.0, 1_500.0, 2e6].map(duration).join(" "),
            "0.4 µs 999.0 µs 1.50 ms 2.00 s"
        );
        assert_eq!([0.0, 1023.0, 2048.0, 5e12].map(bytes).join(" "), "0 B 1023 B 2.0 KiB 4.5 TiB");
        assert_eq!([0.0, 0.5, 0.9999, 1.0].map(percent).join(" "), "0.0 % 50.0 % 99.9 % 100.0 %");
        let spans = [5, 65, 3_700, 100_000].map(span).join(", ");
        assert_eq!(spans, "5 s, 1 min 5 s, 1 h 1 min, 1 d 3 h");
        assert_eq!(time_of_day(86_400 + 3_661), "01:01:01");
        assert_eq!(plain("a\x1b[2J\u{9b}b"), "a?[2J?b");
    }
}
