//! The text that HdrHistogram's `outputPercentileDistribution` writes and its plotter reads.
//!
//! Values are milliseconds, which is what the plotter takes them for unless told otherwise. Digit
//! for digit the layout of the Java original, because readers match its columns.

use std::fmt::Write;

use super::histogram;
use crate::load::result::Spectrum;

const NS_PER_MS: f64 = 1e6;

/// A spectrum as the text of a `.hgrm` file.
pub fn hgrm(spectrum: &Spectrum) -> String {
    let histogram = histogram(spectrum);
    let digits = usize::from(histogram.sigfig());
    let mut text = String::new();
    text += &format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", {
        "1/(1-Percentile)"
    });
    for &(share, value_ns, count) in &spectrum.percentiles {
        let value = value_ns as f64 / NS_PER_MS;
        line(&mut text, format_args!("{value:12.digits$} {share:2.12} {count:10}"));
        // Everything has no distance left to everything.
        if share < 1.0 {
            text.pop();
            line(&mut text, format_args!(" {:14.2}", 1.0 / (1.0 - share)));
        }
    }
    let [mean, deviation, max] =
        [spectrum.mean_ns, spectrum.stddev_ns, spectrum.max_ns as f64].map(|ns| ns / NS_PER_MS);
    let total = spectrum.count;
    line(
        &mut text,
        format_args!("#[Mean    = {mean:12.digits$}, StdDeviation   = {deviation:12.digits$}]"),
    );
    line(&mut text, format_args!("#[Max     = {max:12.digits$}, Total count    = {total:12}]"));
    let buckets = histogram.buckets();
    let sub_buckets = sub_buckets(histogram.sigfig());
    line(&mut text, format_args!("#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]"));
    text
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a string takes everything");
}

/// Linear parts of a bucket: the power of two that tells twice `10^digits` apart.
fn sub_buckets(digits: u8) -> u64 {
    (2 * 10_u64.pow(u32::from(digits))).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;

    #[test]
    fn the_layout_is_that_of_the_original() {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("bounds");
        for ns in [1_000_000, 2_000_000, 2_000_000, 900_000_000] {
            histogram.record(ns).expect("fits");
        }
        let text = hgrm(&Spectrum::of(&histogram));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "       1.000 0.000000000000          1           1.00");
        assert_eq!(lines[5], "       2.001 0.300000000000          3           1.43");
        let end = lines.len();
        assert_eq!(lines[end - 4], "     900.202 1.000000000000          4");
        assert_eq!(lines[end - 3], "#[Mean    =      226.235, StdDeviation   =      388.964]");
        assert_eq!(lines[end - 2], "#[Max     =      900.202, Total count    =            4]");
        assert_eq!(lines[end - 1], "#[Buckets =           32, SubBuckets     =         2048]");
        assert_eq!(text.matches("inf").count(), 0);
    }

    #[test]
    fn nothing_recorded_is_a_table_without_rows() {
        let histogram = Histogram::new_with_bounds(1, 1_000_000, 3).expect("bounds");
        let text = hgrm(&Spectrum::of(&histogram));
        assert_eq!(text.lines().count(), 5);
        assert!(text.contains("Total count    =            0]"));
    }
}
