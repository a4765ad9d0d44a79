//! `sunder doctor`: what a host lacks for a configuration, a line each.
//!
//! ```text
//! config ──> a file each: cpu, memory, nic, disk, net, tiers ──> findings ──> text, JSON, fix
//!              host: files below a root folder, and a few system calls
//! ```
//!
//! An error is what `sunder serve` refuses to start for, and is found by the start's own checks
//! (`serve::trial`); everything else is at most a warning. Looking changes nothing.

mod cpu;
mod disk;
mod fix;
mod host;
mod memory;
mod net;
mod nic;
mod tiers;

#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;

use crate::base::console::{columns, print};
use crate::config::{Config, counted};
use crate::serve::{ServeError, trial};
use host::{Host, Step, ThisHost};

/// What is asked beside the flags of `sunder serve`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// For machines.
    pub json: bool,
    /// Mend what can be mended safely, and look again.
    pub fix: bool,
}

/// What a finding means for a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It runs, but slower or less safely.
    Warning,
    /// It will not start.
    Error,
    /// It cannot be told.
    Unknown,
}

/// What one check found.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
    /// The same start may succeed a little later.
    #[serde(skip)]
    may_pass: bool,
    /// The same as writes to the kernel's files, where that is safe.
    #[serde(skip)]
    steps: Vec<Step>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Finding {
        // A path or an error may have anything in it.
        let found = found.into().replace(char::is_control, " ");
        let (mend, may_pass, steps) = (None, false, Vec::new());
        Finding { check, verdict, found, mend, may_pass, steps }
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Ok, found)
    }

    fn warning(check: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Warning, found)
    }

    fn unknown(check: &'static str, found: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Unknown, found)
    }

    /// A start's own words.
    fn refused(check: &'static str, error: &ServeError) -> Finding {
        let finding = Finding::new(check, Verdict::Error, error.to_string());
        Finding { may_pass: error.may_pass(), ..finding }
    }

    /// What is in use by the server that is taken over from, a start gets.
    fn give_up(&mut self) {
        if self.may_pass && GIVEN_UP.contains(&self.check) {
            self.verdict = Verdict::Unknown;
            self.found += " (--takeover: the server that runs gives up what it has)";
        }
    }

    fn mend(self, command: impl Into<String>) -> Finding {
        Finding { mend: Some(command.into().replace(char::is_control, " ")), ..self }
    }

    /// Mends it by writing to the kernel's files.
    fn steps(self, steps: Vec<Step>) -> Finding {
        let commands: Vec<_> = steps.iter().map(ToString::to_string).collect();
        Finding { steps, ..self.mend(commands.join("; ")) }
    }
}

/// What is looked at.
struct Subject<'s> {
    config: &'s Config,
    host: &'s Host<'s>,
    /// The core of each worker, if it has one.
    pins: Vec<Option<usize>>,
    /// The cores that this process may run on.
    allowed: Vec<usize>,
}

impl Subject<'_> {
    fn workers(&self) -> usize {
        self.pins.len()
    }

    /// The cores that workers run on: their own, or all.
    fn cores(&self) -> Vec<usize> {
        let own: Vec<_> = self.pins.iter().copied().flatten().collect();
        if own.is_empty() { self.allowed.clone() } else { own }
    }
}

/// Looks at `host` for a server with `config`.
fn examine(config: &Config, host: &Host<'_>) -> Vec<Finding> {
    let allowed = match host.system.cores() {
        Ok(allowed) => allowed,
        Err(error) => return vec![Finding::refused("cores", &ServeError::Host(error))],
    };
    let (refused, pins) = match trial::pins(config, &allowed) {
        Ok(pins) => (None, pins),
        // All else is looked at with as many workers.
        Err(error) => {
            let pins = config.cores.iter().copied().map(Some).collect();
            (Some(Finding::refused("cores", &error)), pins)
        }
    };
    let subject = Subject { config, host, pins, allowed };
    let mut findings: Vec<_> = refused.into_iter().collect();
    for family in [cpu::look, memory::look, nic::look, disk::look, net::look, tiers::look] {
        findings.extend(family(&subject));
    }
    if host.system.is_taken_over() {
        findings.iter_mut().for_each(Finding::give_up);
    }
    findings
}

/// What a server has open that another may take over from.
const GIVEN_UP: [&str; 1] = ["ssd"];

fn count(findings: &[Finding], verdict: Verdict) -> usize {
    findings.iter().filter(|finding| finding.verdict == verdict).count()
}

/// Whether `sunder serve` would start.
fn starts(findings: &[Finding]) -> bool {
    count(findings, Verdict::Error) == 0
}

/// Looks at this host, prints what it finds and mends what was asked for. Exit status 1: a server
/// with this configuration would not start.
pub fn run(config: &Config, wishes: Wishes) -> ExitCode {
    let (inherited, refused) = match trial::inherited(config) {
        Ok(inherited) => (inherited, None),
        Err(error) => (None, Some(Finding::refused("takeover", &error))),
    };
    let system = ThisHost { inherited };
    let host = Host::new("/".into(), &system);
    let mut findings = examine(config, &host);
    if wishes.fix {
        fix::apply(&findings, &host);
        findings = examine(config, &host);
    }
    findings.extend(refused);
    let status = if starts(&findings) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let text = match wishes.json {
        true => json(&findings),
        false => text(&findings, columns().unwrap_or(usize::MAX)),
    };
    print(&text, status)
}

fn json(findings: &[Finding]) -> String {
    #[derive(Serialize)]
    struct Report<'r> {
        starts: bool,
        findings: &'r [Finding],
    }
    let report = Report { starts: starts(findings), findings };
    serde_json::to_string_pretty(&report).expect("strings alone") + "\n"
}

/// Columns before what was found.
const INDENT: usize = 22;

fn text(findings: &[Finding], columns: usize) -> String {
    let mut out = String::new();
    for finding in findings {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Error => "error",
            Verdict::Unknown => "unknown",
        };
        let found = wrapped(&finding.found, columns.saturating_sub(INDENT));
        let _ = writeln!(out, "{verdict:<8} {:<12} {found}", finding.check);
        if let Some(mend) = &finding.mend {
            // Whole, to be copied.
            let _ = writeln!(out, "{:INDENT$}{mend}", "");
        }
    }
    let warnings = counted(count(findings, Verdict::Warning) as u64, "warning");
    let _ = match count(findings, Verdict::Error) {
        0 => writeln!(out, "sunder serve would start; {warnings}"),
        errors => {
            let errors = counted(errors as u64, "error");
            writeln!(out, "sunder serve would not start: {errors}, {warnings}")
        }
    };
    out
}

/// Lines of at most so many columns, the later ones indented.
fn wrapped(text: &str, columns: usize) -> String {
    let mut out = String::new();
    let mut at = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if at > 0 && at + 1 + length > columns.max(20) {
            let _ = write!(out, "\n{:INDENT$}", "");
            at = 0;
        } else if at > 0 {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += length;
    }
    out
}
