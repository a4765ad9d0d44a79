//! The result of a run: counts of every command, latencies of operations, what was wrong.

use super::check::Violation;
use super::operation::{Operation, Outcome};
use crate::load::latency::{Ending, Latencies};
use std::collections::BTreeMap;
use std::fmt;

/// What became of the operations of one command.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Keys found, of a retrieval.
    pub hits: u64,
    /// Keys not found.
    pub misses: u64,
    /// It took effect, of a command that is no retrieval.
    pub done: u64,
    /// NOT_STORED or EXISTS.
    pub refused: u64,
    /// No answer, or one that says that it failed.
    pub errors: u64,
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// By what operations are counted as.
    pub commands: BTreeMap<&'static str, Counts>,
    /// Operations that ended.
    pub operations: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Connections that were opened again.
    pub reconnects: u64,
    /// What the first failures said, by their text.
    pub failures: BTreeMap<String, u64>,
    /// How long operations took.
    pub latencies: Latencies,
    /// From the start to the end.
    pub elapsed_s: f64,
    /// The first answers that cannot be right.
    pub violations: Vec<Violation>,
    /// How many there were.
    pub violation_count: u64,
    /// What ended the run early.
    pub trouble: Option<String>,
    /// Its time was over before all was done.
    pub is_time_over: bool,
}

/// Texts of failures that are kept apart.
const FAILURES_KEPT: usize = 16;

impl Report {
    /// One operation ended.
    pub fn add(&mut self, operation: &Operation, outcome: &Outcome<'_>, duration_ns: u64) {
        self.operations += 1;
        let name = operation.label();
        let counts = self.commands.entry(name).or_default();
        let ending = match outcome {
            _ if outcome.is_error() => {
                counts.errors += 1;
                None
            }
            Outcome::Values(hits) => {
                counts.hits += hits.len() as u64;
                counts.misses += operation.keys.len().saturating_sub(hits.len()) as u64;
                Some(if hits.is_empty() { Ending::Miss } else { Ending::Hit })
            }
            Outcome::NotFound => {
                counts.misses += 1;
                Some(Ending::Miss)
            }
            Outcome::NotStored | Outcome::Exists => {
                counts.refused += 1;
                Some(Ending::Refused)
            }
            _ => {
                counts.done += 1;
                Some(Ending::Done)
            }
        };
        if let Some(ending) = ending {
            return self.latencies.add(name, ending, duration_ns);
        }
        self.errors += 1;
        let text = match outcome {
            Outcome::Failed(text) | Outcome::Nonsense(text) => text,
            other => other.summary(),
        };
        if self.failures.contains_key(text) || self.failures.len() < FAILURES_KEPT {
            *self.failures.entry(text.to_owned()).or_default() += 1;
        }
    }

    /// Whether nothing was wrong.
    #[cfg(feature = "internals")]
    pub fn is_right(&self) -> bool {
        self.violation_count == 0
    }
}

/// The verdict is the last line. The alternate form has pictures of the latencies too.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["hits", "misses", "done", "refused", "errors"];
        writeln!(f, "{:10}{}", "", heads.map(|head| format!("{head:>10}")).concat())?;
        for (name, counts) in &self.commands {
            let Counts { hits, misses, done, refused, errors } = counts;
            writeln!(f, "{name:10}{hits:>10}{misses:>10}{done:>10}{refused:>10}{errors:>10}")?;
        }
        write!(f, "\n{}", self.latencies)?;
        if f.alternate() {
            writeln!(f, "{}", self.latencies.pictures())?;
        }
        for (text, count) in &self.failures {
            writeln!(f, "{count} times: {text}")?;
        }
        let rate = self.operations as f64 / self.elapsed_s.max(1e-9);
        writeln!(
            f,
            "\n{rate:.0} operations/s for {:.1} s, {} errors, {} connections opened again",
            self.elapsed_s, self.errors, self.reconnects
        )?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION {}: {}", violation.key, violation.what)?;
            for line in &violation.context {
                writeln!(f, "    {line}")?;
            }
        }
        write!(f, "{} operations, {} violations", self.operations, self.violation_count)
    }
}
