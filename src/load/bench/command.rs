//! The subcommand: a measurement that signals may end, its result on the terminal and in files, and
//! the exit status.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::measure::{Ended, Failure, watched};
use super::plan::Plan;
use super::schedule::SECOND_NS;
use crate::base::clock::Clock;
use crate::base::console::{columns, complain, print};
use crate::load::progress::{EXIT_INTERRUPTED, watch_signals};
use crate::load::report::{self, ReportRequest, hgrm, table};
use crate::load::result::RunResult;

/// What a command line asks for.
#[derive(Clone, Debug)]
pub struct Job {
    /// What to measure.
    pub plan: Plan,
    /// The command line, which is a part of the result.
    pub command: String,
    /// Where the result goes.
    pub json: Option<PathBuf>,
    /// Where the latencies go.
    pub hgrm: Option<PathBuf>,
}

/// Does a job and tells what came out.
pub fn run(job: &Job) -> ExitCode {
    let Job { plan, command, .. } = job;
    let stop = Arc::new(AtomicBool::new(false));
    let mut meter = Meter::new();
    let told = prepare(job, &stop).and_then(|()| {
        let mut watch = |what: &str, answers| meter.show(what, answers);
        watched(plan, command, &stop, &mut watch, |ended| tell(job, ended, &stop))
    });
    told.unwrap_or_else(|failure| {
        complain_of(plan, &failure);
        ExitCode::FAILURE
    })
}

/// Makes sure that the result can be written: not after an hour of measuring.
fn prepare(job: &Job, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    watch_signals(stop).map_err(|error| Failure::early(format!("signals: {error}")))?;
    for path in [&job.json, &job.hgrm].into_iter().flatten() {
        check_writable(path)
            .map_err(|error| Failure::early(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// One line.
fn complain_of(plan: &Plan, failure: &Failure) {
    complain(format_args!("sunder bench: {}: {failure}", plan.target()));
}

/// Shows results.
pub fn show(request: &ReportRequest) -> ExitCode {
    match report::report(request) {
        Ok(text) => print(&text, ExitCode::SUCCESS),
        Err(error) => {
            complain(format_args!("sunder bench report: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether a file can be written. Leaves what is there as it is, and nothing where nothing was.
fn check_writable(path: &Path) -> io::Result<()> {
    let is_there = path.exists();
    OpenOptions::new().append(true).create(true).open(path)?;
    if is_there { Ok(()) } else { fs::remove_file(path) }
}

/// Prints the result, writes the files, and says how it went.
fn tell(job: &Job, ended: Ended, stop: &AtomicBool) -> ExitCode {
    let Ended { result, is_right, failure } = ended;
    let is_stopped = failure.is_none() && stop.load(Relaxed);
    let status = ExitCode::from(if is_stopped { EXIT_INTERRUPTED } else { 0 });
    let is_whole = failure.is_none();
    let status = match result {
        Some(result) => {
            let told = print(&table::table(&result, columns()), status);
            let is_written = write(job, &result);
            if is_right && is_written { told } else { ExitCode::FAILURE }
        }
        None if !is_whole => ExitCode::FAILURE,
        None => {
            let why = if is_stopped { "stopped before" } else { "the time was over before" };
            let target = job.plan.target();
            complain(format_args!("sunder bench: {target}: {why} anything was measured"));
            if is_stopped { status } else { ExitCode::FAILURE }
        }
    };
    if let Some((reason, answers)) = failure {
        complain_of(&job.plan, &Failure { reason, answers, partial: None });
        return ExitCode::FAILURE;
    }
    status
}

/// Writes the result's files. Whether all of them were written.
fn write(job: &Job, result: &RunResult) -> bool {
    let mut is_written = true;
    let mut write = |path: &Path, text: String| {
        if let Err(error) = fs::write(path, text) {
            complain(format_args!("sunder bench: {}: {error}", path.display()));
            is_written = false;
        }
    };
    if let Some(path) = &job.json {
        write(path, result.to_json());
    }
    if let Some(path) = &job.hgrm {
        // Of a sweep, what it was at the knee.
        let step = &result.steps[result.knee.unwrap_or(result.steps.len() - 1)];
        write(path, hgrm::hgrm(&step.latency.all));
    }
    is_written
}

/// One line on a terminal that says how it goes.
struct Meter {
    clock: Clock,
    is_shown: bool,
    shown_ns: u64,
    answers: u64,
}

impl Meter {
    fn new() -> Meter {
        let clock = Clock::start();
        Meter { clock, is_shown: std::io::stderr().is_terminal(), shown_ns: 0, answers: 0 }
    }

    fn show(&mut self, what: &str, answers: u64) {
        let now_ns = self.clock.read_ns();
        let since_ns = now_ns - self.shown_ns;
        if !self.is_shown || since_ns < SECOND_NS {
            return;
        }
        let rate = (answers - self.answers) as f64 * SECOND_NS as f64 / since_ns as f64;
        (self.shown_ns, self.answers) = (now_ns, answers);
        // Whoever closed stderr does not want to see it.
        let _ = write!(std::io::stderr(), "\r{what}: {answers} answers, {rate:.0}/s\x1b[K\r");
    }
}
