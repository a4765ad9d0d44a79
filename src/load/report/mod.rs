//! What a measurement found, shown: a table for the terminal, HDR's own text, one page with plots.
//!
//! ```text
//! RunResult ─┬─ table   the terminal
//!            ├─ hgrm    HdrHistogram's plotter
//!            └─ page    a browser: page.html, page.css, page.js around the data
//! ```
//!
//! Labels, commands and notes are untrusted input: they reach a terminal without control characters
//! and a page escaped. Nothing here measures, and a page asks the network for nothing.

pub mod hgrm;
pub mod page;
pub mod table;
pub mod units;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;

use super::result::{RunResult, Spectrum, Unreadable};
use crate::base::console::columns;

#[cfg(test)]
mod tests;

/// Why there is no report. Shown as one line.
#[derive(Debug)]
pub enum ReportError {
    /// A result cannot be used.
    Result(PathBuf, Unreadable),
    /// A file cannot be written.
    Write(PathBuf, io::Error),
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What is wrong with a result quotes it.
            ReportError::Result(path, error) => {
                write!(f, "{}: {}", shown(path), plain(&error.to_string()))
            }
            ReportError::Write(path, error) => write!(f, "{}: {error}", shown(path)),
        }
    }
}

impl std::error::Error for ReportError {}

/// What to show.
#[derive(Clone, Debug)]
pub struct ReportRequest {
    /// Files with results.
    pub results: Vec<PathBuf>,
    /// Write a page here instead of printing tables.
    pub page: Option<PathBuf>,
    /// Write HdrHistogram's text beside each result.
    pub is_hgrm: bool,
}

/// Does what `request` says; returns what to print.
///
/// # Errors
///
/// Nothing is written unless every result can be read.
pub fn report(request: &ReportRequest) -> Result<String, ReportError> {
    let mut runs = Vec::new();
    for path in &request.results {
        let run = RunResult::load(path).map_err(|e| ReportError::Result(path.clone(), e))?;
        runs.push(run);
    }
    let mut printed = String::new();
    let mut write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|e| ReportError::Write(path.to_path_buf(), e))?;
        printed += &format!("wrote {}\n", shown(path));
        Ok(())
    };
    if request.is_hgrm {
        for (path, run) in request.results.iter().zip(&runs) {
            for (number, step) in run.steps.iter().enumerate() {
                let path = match run.steps.len() {
                    1 => path.with_extension("hgrm"),
                    _ => with_number(path, number + 1),
                };
                write(&path, &hgrm::hgrm(&step.latency.all))?;
            }
        }
    }
    if let Some(page) = &request.page {
        write(page, &page::page(&runs))?;
    } else {
        printed += &table::tables(&runs, columns());
    }
    Ok(printed)
}

/// `a.json` and 3 as `a-3.hgrm`.
fn with_number(path: &Path, number: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("-{number}.hgrm"));
    path.with_file_name(name)
}

/// A path on a terminal.
fn shown(path: &Path) -> String {
    plain(&path.display().to_string())
}

/// Somebody's text on a terminal: control characters would move its cursor, or worse.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A run's name, also when it has none.
fn label(run: &RunResult) -> &str {
    if run.label.trim().is_empty() { "unnamed" } else { &run.label }
}

/// What several runs are called beside one another: their labels; where these are the same, what
/// else tells the runs apart; and where that is nothing, their order.
fn names(runs: &[RunResult]) -> Vec<String> {
    let name = |(number, run): (usize, &RunResult)| {
        let is_same = |other: &&RunResult| {
            label(other) == label(run) && TRAITS.iter().all(|of| of(other) == of(run))
        };
        let alike = || runs.iter().filter(|other| label(other) == label(run));
        let differs = |of: &&fn(&RunResult) -> String| alike().any(|other| of(other) != of(run));
        let mut parts = vec![label(run).to_owned()];
        parts.extend(TRAITS.iter().filter(differs).map(|of| of(run)));
        let name = parts.join(", ");
        match runs.iter().filter(is_same).count() {
            1 => name,
            _ => format!("{name} ({})", runs[..=number].iter().filter(is_same).count()),
        }
    };
    runs.iter().enumerate().map(name).collect()
}

/// What may tell runs apart, in words that name what it is.
const TRAITS: &[fn(&RunResult) -> String] = &[
    |run| run.setup.target.clone(),
    |run| run.setup.transport.clone(),
    |run| run.setup.protocol.clone(),
    |run| match (is_sweep(run), run.steps.first().and_then(|step| step.rate_target)) {
        (true, _) => "sweep".into(),
        (false, Some(target)) => format!("{}/s", units::rate(target)),
        (false, None) => "closed loop".into(),
    },
    |run| format!("{} connections", units::grouped(run.setup.connections)),
    |run| format!("depth {}", units::grouped(run.setup.depth)),
    |run| format!("gets of {} keys", units::grouped(run.setup.multi_get)),
    |run| format!("{} gets", units::percent(run.setup.get_share)),
    |run| format!("{} keys", units::grouped(run.setup.keys)),
    |run| run.setup.skew.clone(),
    |run| format!("keys of {} B", run.setup.key_bytes),
    |run| format!("values of {} B", run.setup.value_bytes),
    |run| format!("sunder {}", run.version),
];

/// Whether a run went through several rates.
fn is_sweep(run: &RunResult) -> bool {
    run.steps.len() > 1
}

/// The version that a run's server told.
fn server(run: &RunResult) -> &str {
    run.server.as_deref().unwrap_or("not told")
}

/// The notes of run `n` that no run before it has, each once, with how often it is there.
fn notes(runs: &[&RunResult], n: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let notes = &runs[n].notes;
    for (at, note) in notes.iter().enumerate() {
        let is_told =
            notes[..at].contains(note) || runs[..n].iter().any(|r| r.notes.contains(note));
        if is_told {
            continue;
        }
        let times = notes.iter().filter(|other| *other == note).count();
        let others = runs[n + 1..].iter().filter(|run| run.notes.contains(note)).count();
        let mut line = note.clone();
        if times > 1 {
            line += &format!(" ({times} times)");
        }
        if others > 0 {
            line += &format!(" (so too {others} of the results below)");
        }
        lines.push(line);
    }
    lines
}

/// The step that a run is judged by: a sweep's knee, or else its last.
fn step_of_note(run: &RunResult) -> Option<usize> {
    run.knee.or(run.steps.len().checked_sub(1))
}

/// The whole histogram of a spectrum that was checked when it was read, or made by us.
fn histogram(spectrum: &Spectrum) -> Histogram<u64> {
    spectrum.histogram().expect("checked when read")
}
