//! A measurement from its plan to its result: looks the server up, starts the threads, has them do
//! one step after another. Prints nothing, and ends no process.

use std::fmt;
use std::net::ToSocketAddrs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::crew::{self, Common, Crew};
use super::engine::Task;
use super::outcome::Outcome;
use super::plan::{Load, Plan, ServerAddress};
use super::schedule::{SECOND_NS, Window};
use super::{server, sweep};
use crate::base::clock::Clock;
use crate::load::login;
use crate::load::result::RunResult;
use crate::load::stream::Target;

/// How long keys may be stored before a measurement: this many times the duration of a step, and at
/// least so long, in nanoseconds.
const FILL_DURATIONS: u64 = 10;
const FILL_NS_MIN: u64 = 60 * SECOND_NS;

/// What ended a measurement before its end.
#[derive(Debug)]
pub struct Failure {
    /// In one line.
    pub reason: String,
    /// Answers until then.
    pub answers: u64,
    /// What was measured until then, if anything was.
    pub partial: Option<Box<RunResult>>,
}

impl Failure {
    /// Before the first answer.
    pub(super) fn early(reason: String) -> Failure {
        Failure { reason, answers: 0, partial: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { reason, answers, .. } = self;
        let remedy = login::remedy(reason);
        write!(f, "{}; {answers} answers so far{remedy}", reason.replace('\n', " "))
    }
}

impl std::error::Error for Failure {}

/// Measures a server as `plan` says, in threads of its own, and waits for the result. The server is
/// whatever speaks memcached's protocols. May raise this process's limit on open files, as far as
/// the host allows it.
///
/// Wrong answers and errors do not end a measurement: the steps of the result count them.
///
/// # Errors
/// The plan cannot be done, the server cannot be reached, is silent, answers what is no answer, or
/// ends its connections for good.
pub fn measure(plan: &Plan) -> Result<RunResult, Failure> {
    let stop = AtomicBool::new(false);
    let command = "sunder::bench::measure";
    let Ended { result, failure, .. } = watched(plan, command, &stop, &mut |_, _| (), |it| it)?;
    match (result, failure) {
        (Some(result), None) => Ok(result),
        (result, Some((reason, answers))) => {
            Err(Failure { reason, answers, partial: result.map(Box::new) })
        }
        (None, None) => {
            Err(Failure::early("the time was over before anything was measured".into()))
        }
    }
}

/// The result of a measurement.
pub(super) struct Ended {
    /// What was measured, if anything was.
    pub result: Option<RunResult>,
    /// Whether there was no error and no wrong answer.
    pub is_right: bool,
    /// What ended it before its end, and the answers until then.
    pub failure: Option<(String, u64)>,
}

/// Measures as `plan` says, until `stop` is set. `watch` is called now and then with what is being
/// done and the answers so far. `tell` is called before the threads end: a device may have to wait
/// for its peer.
pub(super) fn watched<T>(
    plan: &Plan,
    command: &str,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&str, u64),
    tell: impl FnOnce(Ended) -> T,
) -> Result<T, Failure> {
    plan.check().map_err(Failure::early)?;
    let address = look_up(&plan.server).map_err(Failure::early)?;
    if plan.device.is_none() {
        allow_files(plan.connections).map_err(Failure::early)?;
    }
    let clock = Clock::start();
    let server = match &plan.device {
        // The host may have no way to it: the server is asked through the device.
        Some(_) => None,
        None => server::fetch_version(&address, plan),
    };
    let failed = AtomicBool::new(false);
    let common = Common { plan, address, clock, stop, failed: &failed };
    std::thread::scope(|scope| {
        let crew = Crew::start(&common, scope).map_err(Failure::early)?;
        let server = server.or_else(|| crew.server.clone());
        let (outcome, failure) = steps(&common, &crew, server, watch);
        let (result, is_right) = outcome.into_result(plan, command);
        let failure = failure.map(|reason| (reason, crew.answers()));
        Ok(tell(Ended { result, is_right, failure }))
    })
}

/// Finds the address of a server.
fn look_up(server: &Target) -> Result<ServerAddress, String> {
    let (host, port) = match server {
        Target::Tcp(host, port) => (host.as_str(), *port),
        Target::Unix(path) => return Ok(ServerAddress::Unix(path.clone())),
    };
    let mut found = (host, port)
        .to_socket_addrs()
        .map_err(|_| "no such host; expected HOST:PORT, HOST or unix:PATH".to_owned())?;
    found.next().map(ServerAddress::Tcp).ok_or_else(|| "it has no address".to_owned())
}

/// Fills in the keys and runs the steps: what was measured, and what ended it before its end.
fn steps(
    common: &Common<'_>,
    crew: &Crew,
    server: Option<String>,
    watch: &mut dyn FnMut(&str, u64),
) -> (Outcome, Option<String>) {
    let mut outcome = Outcome::new(common.clock.read(), server);
    let failure = try_steps(common, crew, &mut outcome, watch).err();
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

fn try_steps(
    common: &Common<'_>,
    crew: &Crew,
    outcome: &mut Outcome,
    watch: &mut dyn FnMut(&str, u64),
) -> Result<(), String> {
    let (plan, duration_ns) = (common.plan, common.plan.duration_ns());
    if plan.login.is_some() {
        crew.run(Task::LogIn, |answers| watch("logging in", answers)).result()?;
    }
    if plan.fills {
        let limit_ns = FILL_NS_MIN.max(FILL_DURATIONS * duration_ns);
        crew.run(Task::Fill { limit_ns }, |answers| watch("storing keys", answers)).result()?;
    }
    let mut step = |rate: Option<f64>| {
        let start_ns = common.clock.read_ns() + SECOND_NS / 100;
        let from_ns = start_ns + plan.warmup.as_nanos() as u64;
        let window = Window { from_ns, end_ns: from_ns + duration_ns };
        let interval_ns = crew::interval_ns(duration_ns);
        let task = Task::Measure { rate, start_ns, window, interval_ns };
        crew.run(task, |answers| watch("measuring", answers))
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
