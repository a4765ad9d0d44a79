//! `sunder bench`: how fast a server answers, and how long it takes to.
//!
//! ```text
//! cli ────── Plan ─> crew, a thread for each share of the connections
//!                    └ drive: one task to its end ─┬─ kernel: sockets, epoll
//!                        schedule: what is due     └─ device: net::nic, net::tcp
//!                        engine ── traffic: keys, requests ── wire
//!                          └ record: latencies from the intended start ──> outcome ── result
//! ```
//!
//! The client must not be what is measured: no allocation for a request, requests written from
//! prepared lines into the transport's buffer, answers read where they arrived, one look at the
//! clock for many of them. And it must not flatter a server: in an open loop a latency begins when
//! its request was due, and what was never sent counts too.

mod backoff;
mod crew;
#[cfg(feature = "dpdk")]
mod device;
mod drive;
mod engine;
mod kernel;
mod notes;
mod outcome;
mod plan;
mod record;
mod schedule;
mod server;
mod spread;
mod sweep;
#[cfg(test)]
mod tests;
mod traffic;

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::progress::watch_signals;
use super::report::{self, Request};
use crate::base::clock::Clock;
use crate::base::console::{complain, print};
use crew::{Common, Crew};
use engine::Task;
use outcome::Outcome;
use schedule::Window;

pub use plan::{DevicePlan, Load, PLACES_MAX, PORTS, Place, Plan, VALUE_BYTES_MAX};
pub use schedule::SECOND_NS;
pub use spread::{Lengths, Popularity, Zipf};
pub use sweep::rates;

/// How long keys may be stored before a measurement: so many times as long as that takes, and at
/// least so long, in nanoseconds.
const FILL_DURATIONS: u64 = 10;
const FILL_NS_MIN: u64 = 60 * SECOND_NS;

/// What ends a run before its result.
struct Failure {
    reason: String,
    /// Answers until then.
    answers: u64,
}

impl Failure {
    /// One line.
    fn tell(&self, plan: &Plan) {
        let Failure { reason, answers } = self;
        let reason = reason.replace('\n', " ");
        complain(format_args!("sunder bench: {}: {reason}; {answers} answers so far", plan.target));
    }
}

/// Measures as `plan` says and tells the result, of which `command` is a part.
pub fn run(mut plan: Plan, command: &str) -> ExitCode {
    let result = look_up(&mut plan).and_then(|()| measure(&plan, command));
    result.unwrap_or_else(|failure| {
        failure.tell(&plan);
        ExitCode::FAILURE
    })
}

/// Finds the address of a server that was given by name.
fn look_up(plan: &mut Plan) -> Result<(), Failure> {
    let Some((host, port)) = plan.lookup.take() else { return Ok(()) };
    let fail = |reason: String| Failure { reason, answers: 0 };
    let mut found = (host.as_str(), port)
        .to_socket_addrs()
        .map_err(|_| fail("no such host; expected HOST:PORT, HOST or unix:PATH".into()))?;
    plan.place = found.next().map(Place::Tcp).ok_or_else(|| fail("it has no address".into()))?;
    Ok(())
}

/// Shows results.
pub fn show(request: &Request) -> ExitCode {
    match report::report(request) {
        Ok(text) => print(&text, ExitCode::SUCCESS),
        Err(error) => {
            complain(format_args!("sunder bench report: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs all that `plan` asks for and tells what came out.
fn measure(plan: &Plan, command: &str) -> Result<ExitCode, Failure> {
    let fail = |reason: String| Failure { reason, answers: 0 };
    let stop = Arc::new(AtomicBool::new(false));
    watch_signals(&stop).map_err(|error| fail(format!("signals: {error}")))?;
    // Not after an hour of measuring.
    for path in [&plan.json, &plan.hgrm].into_iter().flatten() {
        check_writable(path).map_err(|e| fail(format!("{}: {e}", path.display())))?;
    }
    if plan.device.is_none() {
        allow_files(plan.connections).map_err(fail)?;
    }
    let clock = Clock::start();
    let server = match &plan.device {
        // The host may have no way to it: the server is asked through the device.
        Some(_) => None,
        None => server::ask(&plan.place, plan.dialect, Duration::from_nanos(plan.timeout_ns)),
    };
    let failed = AtomicBool::new(false);
    let common = Common { plan, clock, stop: &stop, failed: &failed };
    std::thread::scope(|scope| {
        let crew = Crew::start(&common, scope);
        let crew = crew.map_err(fail)?;
        let server = server.or_else(|| crew.server.clone());
        // Told before the threads end: a device may have to wait for its peer.
        let (outcome, failure) = steps(&common, &crew, server);
        let status = outcome.tell(plan, command, failure.is_some());
        match failure {
            Some(reason) => Err(Failure { reason, answers: crew.answers() }),
            None => Ok(status),
        }
    })
}

/// Whether a file can be written. Leaves what is there as it is, and nothing where nothing was.
fn check_writable(path: &Path) -> io::Result<()> {
    let is_there = path.exists();
    OpenOptions::new().append(true).create(true).open(path)?;
    if is_there { Ok(()) } else { fs::remove_file(path) }
}

/// Fills in the keys and runs the steps: what was measured, and what ended it before its end.
fn steps(common: &Common<'_>, crew: &Crew, server: Option<String>) -> (Outcome, Option<String>) {
    let mut outcome = Outcome::new(common.clock.read(), server);
    let failure = try_steps(common, crew, &mut outcome).err();
    if let Some(reason) = &failure {
        outcome.end_early(reason);
    } else if common.stop.load(Relaxed) {
        outcome.stopped();
    }
    if !matches!(common.plan.load, Load::Closed | Load::Open(_)) {
        outcome.find_knee();
    }
    (outcome, failure)
}

fn try_steps(common: &Common<'_>, crew: &Crew, outcome: &mut Outcome) -> Result<(), String> {
    let plan = common.plan;
    let mut meter = Meter::new(common.clock);
    if plan.fills {
        let limit_ns = FILL_NS_MIN.max(FILL_DURATIONS * plan.duration_ns);
        crew.run(Task::Fill { limit_ns }, |answers| meter.show("storing keys", answers))
            .result()?;
    }
    let mut step = |rate: Option<f64>| {
        let start_ns = common.clock.read_ns() + SECOND_NS / 100;
        let from_ns = start_ns + plan.warmup_ns;
        let window = Window { from_ns, end_ns: from_ns + plan.duration_ns };
        let interval_ns = crew::interval_ns(plan.duration_ns);
        let task = Task::Measure { rate, start_ns, window, interval_ns };
        crew.run(task, |answers| meter.show("measuring", answers))
    };
    let rates = match &plan.load {
        Load::Closed => {
            let seen = step(None);
            outcome.add(None, &seen);
            return seen.result();
        }
        Load::Open(rate) => vec![*rate],
        Load::Rates(rates) => rates.clone(),
        Load::Auto => {
            let seen = step(None);
            let capacity = outcome.capacity(&seen);
            seen.result()?;
            sweep::SHARES.iter().map(|share| share * capacity).collect()
        }
    };
    for rate in rates {
        if common.stop.load(Relaxed) {
            break;
        }
        let seen = step(Some(rate));
        outcome.add(Some(rate), &seen);
        seen.result()?;
    }
    Ok(())
}

/// One line on a terminal that says how it goes.
struct Meter {
    clock: Clock,
    is_shown: bool,
    shown_ns: u64,
    answers: u64,
}

impl Meter {
    fn new(clock: Clock) -> Meter {
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

/// Descriptors that are not connections.
const FILES_RESERVED: u64 = 128;

/// Allows as many open files as there are connections.
fn allow_files(connections: usize) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = connections as u64 + FILES_RESERVED;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).map_err(|_| {
        format!("--connections {connections}: the host allows {:?} open files", limit.maximum)
    })
}
