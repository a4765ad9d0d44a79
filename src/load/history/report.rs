//! What a run came to: counts of every command, how long operations took, what was wrong.
//!
//! Bounded: durations go into [`BUCKETS`] buckets, each 1/16 wide.

use super::check::Violation;
use super::operation::{Operation, Outcome, key_name};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Buckets of each power of two of microseconds.
const STEPS: u64 = 16;

/// Enough for the longest duration that 64 bits of microseconds have.
const BUCKETS: usize = 64 * STEPS as usize;

/// What became of the operations of one command.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Keys found, of a retrieval.
    pub hits: u64,
    pub misses: u64,
    /// It took effect, of a command that is no retrieval.
    pub done: u64,
    /// NOT_STORED or EXISTS.
    pub refused: u64,
    pub errors: u64,
}

/// How long operations took.
#[derive(Clone)]
pub struct Durations {
    buckets: Vec<u64>,
    count: u64,
    pub longest: Duration,
}

impl Default for Durations {
    fn default() -> Durations {
        Durations { buckets: vec![0; BUCKETS], count: 0, longest: Duration::ZERO }
    }
}

impl Durations {
    pub fn add(&mut self, duration: Duration) {
        let us = duration.as_micros() as u64;
        self.buckets[bucket(us)] += 1;
        self.count += 1;
        self.longest = self.longest.max(duration);
    }

    /// The duration that so many of a thousand operations did not exceed, a 16th too much at most.
    pub fn per_mille(&self, per_mille: u64) -> Duration {
        let wanted = (self.count * per_mille).div_ceil(1000);
        let mut below = 0;
        for (i, count) in self.buckets.iter().enumerate() {
            below += count;
            if below >= wanted {
                return Duration::from_micros(bucket_end_us(i)).min(self.longest);
            }
        }
        self.longest
    }
}

fn bucket(us: u64) -> usize {
    if us < STEPS {
        return us as usize;
    }
    let shift = us.ilog2() - STEPS.ilog2();
    (u64::from(shift) * STEPS + (us >> shift)) as usize
}

/// The longest duration of a bucket.
fn bucket_end_us(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) << shift) - 1
}

/// What a run came to.
#[derive(Default)]
pub struct Report {
    pub commands: BTreeMap<&'static str, Counts>,
    pub operations: u64,
    pub errors: u64,
    /// Connections that were opened again.
    pub reconnects: u64,
    /// What the first failures said, by their text.
    pub failures: BTreeMap<String, u64>,
    pub durations: Durations,
    /// The operation that took longest.
    pub longest: String,
    pub elapsed: Duration,
    pub violations: Vec<Violation>,
    pub violation_count: u64,
}

/// Texts of failures that are kept apart.
const FAILURES_KEPT: usize = 16;

impl Report {
    /// One operation ended.
    pub fn add(&mut self, operation: &Operation, outcome: &Outcome<'_>, duration: Duration) {
        self.operations += 1;
        let name = operation.command.name();
        let is_longest = duration > self.durations.longest;
        self.durations.add(duration);
        if is_longest {
            let keys: Vec<String> = operation.keys.iter().map(|&key| key_name(key)).collect();
            self.longest = format!("{name} {}: {}", keys.join(" "), outcome.summary());
        }
        let counts = self.commands.entry(name).or_default();
        match outcome {
            _ if outcome.is_error() => counts.errors += 1,
            Outcome::Values(hits) => {
                counts.hits += hits.len() as u64;
                counts.misses += operation.keys.len().saturating_sub(hits.len()) as u64;
            }
            Outcome::NotFound => counts.misses += 1,
            Outcome::NotStored | Outcome::Exists => counts.refused += 1,
            _ => counts.done += 1,
        }
        if outcome.is_error() {
            self.errors += 1;
            let text = match outcome {
                Outcome::Failed(text) | Outcome::Nonsense(text) => text,
                other => other.summary(),
            };
            if self.failures.contains_key(text) || self.failures.len() < FAILURES_KEPT {
                *self.failures.entry(text.to_owned()).or_default() += 1;
            }
        }
    }

    /// Whether nothing was wrong.
    pub fn is_right(&self) -> bool {
        self.violation_count == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["hits", "misses", "done", "refused", "errors"];
        writeln!(f, "{:10}{}", "", heads.map(|head| format!("{head:>10}")).concat())?;
        for (name, counts) in &self.commands {
            let Counts { hits, misses, done, refused, errors } = counts;
            writeln!(f, "{name:10}{hits:>10}{misses:>10}{done:>10}{refused:>10}{errors:>10}")?;
        }
        for (text, count) in &self.failures {
            writeln!(f, "{count} times: {text}")?;
        }
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let p999 = ms(self.durations.per_mille(999));
        writeln!(f, "p50 {:.2} ms, p99.9 {p999:.2} ms", ms(self.durations.per_mille(500)))?;
        writeln!(f, "max {:.2} ms ({})", ms(self.durations.longest), self.longest)?;
        let seconds = self.elapsed.as_secs_f64();
        let rate = self.operations as f64 / seconds.max(1e-9);
        writeln!(
            f,
            "{rate:.0} operations/s for {seconds:.1} s, {} errors, {} connections opened again",
            self.errors, self.reconnects
        )?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION {}: {}", key_name(violation.key), violation.what)?;
            for line in &violation.context {
                writeln!(f, "    {line}")?;
            }
        }
        let (operations, violations) = (self.operations, self.violation_count);
        write!(f, "history: {operations} operations, {violations} violations")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_they_say() {
        for us in (0..100_000).chain([1 << 40, u64::MAX / 3]) {
            let end_us = bucket_end_us(bucket(us));
            assert!(us <= end_us && end_us <= us + us / 16, "{us}: {end_us}");
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn percentiles() {
        let mut durations = Durations::default();
        for us in 1..=1000 {
            durations.add(Duration::from_micros(us));
        }
        let p50_us = durations.per_mille(500).as_micros();
        assert!((500..=532).contains(&p50_us), "{p50_us}");
        assert_eq!(durations.per_mille(1000), Duration::from_micros(1000));
        assert_eq!(Durations::default().per_mille(999), Duration::ZERO);
    }
}
