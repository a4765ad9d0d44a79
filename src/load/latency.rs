//! How long operations took: a histogram of each kind, as a table and as pictures.
//!
//! Counts whole operations, from just before the request is written until its answer has been read;
//! one that failed is not in it.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// Significant digits of a histogram.
const DIGITS: u8 = 3;

/// Columns and lines of a picture.
const PICTURE: (usize, usize) = (100, 8);

/// Percentiles of the table.
const PERCENTILES: [f64; 5] = [50.0, 75.0, 90.0, 95.0, 99.0];

/// What became of an operation: a row of its own each, with the names of blast's columns.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Ending {
    /// A retrieval found something.
    Hit,
    /// There was no item.
    Miss,
    /// It did what it was to.
    Done,
    /// Its condition was not met: NOT_STORED or EXISTS.
    Refused,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Latencies(BTreeMap<(&'static str, Ending), Histogram<u64>>);

impl Latencies {
    /// An operation that ended so took so long.
    pub fn add(&mut self, name: &'static str, ending: Ending, duration_ns: u64) {
        let histogram = self.0.entry((name, ending)).or_insert_with(|| {
            let mut histogram = Histogram::new(DIGITS).expect("a number of digits that there is");
            histogram.auto(true);
            histogram
        });
        histogram.record(duration_ns).expect("it grows with what it is given");
    }

    /// Takes in what another connection measured.
    pub fn merge(&mut self, other: &Latencies) {
        for (row, histogram) in &other.0 {
            match self.0.get_mut(row) {
                Some(own) => own.add(histogram).expect("it grows"),
                None => _ = self.0.insert(*row, histogram.clone()),
            }
        }
    }

    /// Operations counted.
    pub fn count(&self) -> u64 {
        self.0.values().map(Histogram::len).sum()
    }

    /// How each histogram spreads, up to its 99th percentile.
    pub fn pictures(&self) -> String {
        let mut text = String::new();
        for ((name, ending), histogram) in &self.0 {
            let _ = write!(text, "\n{}\n{}", row_name(name, *ending), picture(histogram));
        }
        text
    }
}

fn row_name(name: &str, ending: Ending) -> String {
    let ending = match ending {
        Ending::Hit => "hits",
        Ending::Miss => "misses",
        Ending::Done => "done",
        Ending::Refused => "refused",
    };
    format!("{name} {ending}")
}

fn ms(ns: f64) -> String {
    format!("{:.3}", ns / 1e6)
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["n", "min", "max", "avg", "p50", "p75", "p90", "p95", "p99"];
        let cells = heads.map(|head| format!("{head:>10}")).concat();
        writeln!(f, "{:18}{cells}   (ms)", "")?;
        for ((name, ending), histogram) in &self.0 {
            let whole = [histogram.min() as f64, histogram.max() as f64, histogram.mean()];
            let at = |percentile| histogram.value_at_percentile(percentile) as f64;
            let cells = whole.into_iter().chain(PERCENTILES.map(at)).map(ms);
            let cells: String = cells.map(|cell| format!("{cell:>10}")).collect();
            writeln!(f, "{:18}{:>10}{cells}", row_name(name, *ending), histogram.len())?;
        }
        Ok(())
    }
}

/// Columns of stars: each is a share of the time up to the 99th percentile.
fn picture(histogram: &Histogram<u64>) -> String {
    let (columns, lines) = PICTURE;
    let end_ns = histogram.value_at_percentile(99.0).max(1);
    let mut counts = vec![0_u64; columns];
    for step in histogram.iter_recorded() {
        let ns = step.value_iterated_to();
        if ns <= end_ns {
            let column = u128::from(ns) * columns as u128 / (u128::from(end_ns) + 1);
            counts[column as usize] += step.count_since_last_iteration();
        }
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let mut text = String::new();
    for line in (1..=lines as u64).rev() {
        // Whatever there is shows on the lowest line.
        let is_shown = |count: u64| count > 0 && count * lines as u64 > most * (line - 1);
        let stars = counts.iter().map(|&count| if is_shown(count) { '*' } else { ' ' });
        let stars: String = stars.collect();
        let _ = writeln!(text, "  |{}", stars.trim_end());
    }
    let end = format!("{} ms (p99)", ms(end_ns as f64));
    let _ = writeln!(text, "  +{}\n   0{end:>width$}", "-".repeat(columns), width = columns - 1);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_what_was_measured() {
        let mut latencies = Latencies::default();
        for us in 1..=1000 {
            latencies.add("get", Ending::Hit, us * 1000);
        }
        latencies.add("get", Ending::Miss, 5_000_000);
        let mut sum = Latencies::default();
        sum.merge(&latencies);
        sum.merge(&latencies);
        assert_eq!(sum.count(), 2002);
        let text = sum.to_string();
        let row = text.lines().find(|line| line.starts_with("get hits")).expect("a row");
        let cells: Vec<&str> = row.split_whitespace().skip(2).collect();
        assert_eq!(cells[0], "2000");
        let numbers: Vec<f64> = cells[1..].iter().map(|cell| cell.parse().expect("ms")).collect();
        for (number, expected) in numbers.iter().zip([0.001, 1.0, 0.5, 0.5, 0.75, 0.9, 0.95, 0.99])
        {
            assert!((number - expected).abs() <= 0.002, "{row}");
        }
        assert!(text.contains("get misses"), "{text}");
    }

    #[test]
    fn a_picture_is_within_its_frame() {
        let mut latencies = Latencies::default();
        for (us, times) in [(1_u64, 900), (50, 50), (99, 45), (100_000, 5)] {
            (0..times).for_each(|_| latencies.add("set", Ending::Done, us * 1000));
        }
        let text = latencies.pictures();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2 + PICTURE.1 + 2, "{text}");
        assert!(lines.iter().all(|line| line.len() <= PICTURE.0 + 3), "{text}");
        let stars = |line: &str| line.matches('*').count();
        assert_eq!((stars(lines[2]), stars(lines[1 + PICTURE.1])), (1, 3), "{text}");
    }
}
