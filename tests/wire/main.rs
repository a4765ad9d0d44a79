//! The wire table: the same bytes to a real memcached and to sunder must get the same answer.
//!
//! Each case is sent to memcached once, in one piece, and to sunder in one piece and split at every
//! byte boundary (bounded on long inputs: [`table::Case::cuts`]). If sunder's answer differs,
//! memcached also gets it at every cut ([`oracle`]). Accepted differences are in [`differences`].
//!
//! Tested are kernel sockets with one worker and with two, a Unix socket, and at some of the cuts
//! every other composition of tiers and orchestrators ([`compositions`]); or, if
//! `SUNDER_WIRE_TARGET=host:port` is set, that server, on any transport (`SUNDER_WIRE_EVERY=7` then
//! takes only every seventh cut, for a transport whose code is covered by another full run, and
//! `SUNDER_WIRE_GENERAL=1` leaves out cases that only an L1 in memory alone answers). Meta commands
//! have a table and servers of their own ([`meta`]), which such a run leaves out.
//!
//! A custom test binary (no libtest): a case on a composition is a test. An argument that is not a
//! flag is a substring of the names of the cases to run.

mod cases_admin;
mod cases_arithmetic;
mod cases_binary;
mod cases_hostile;
mod cases_limits;
mod cases_retrieval;
mod cases_storage;
mod compositions;
mod differences;
mod meta;
mod meta_generated;
mod meta_listed;
mod normal;
mod oracle;
mod run;
mod selftest;
mod statistics;
#[path = "../support/mod.rs"]
mod support;
mod table;

use differences::{OWN_STATISTICS, RULES, Rule};
use oracle::{Oracle, difference};
use run::{Control, Pace, Target, run};
use std::process::ExitCode;
use std::time::Instant;
use support::Server;
use table::{Case, Table};

/// Failing runs of a case after which it is abandoned.
const FAULTS_PER_CASE: usize = 2;

/// Interval of the tried cuts on a Unix socket; the full run on TCP covers the same code.
const UNIX_EVERY: usize = 5;

/// Interval of the tried cuts on compositions whose code another full run covers.
const COMPOSITIONS_EVERY: usize = 29;

/// Runs without an answer after which a server is abandoned: each costs seconds.
const STUCK_MAX: usize = 20;

fn main() -> ExitCode {
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut score = Score::default();
    if filter.is_empty() || filter == ["statistics"] {
        statistics::run_all(&mut score);
    }
    // These start servers of their own.
    let is_given = std::env::var_os("SUNDER_WIRE_TARGET").is_some();
    if !is_given && (filter.is_empty() || filter[0] == "meta") {
        let part = |at: usize| filter.get(at).map_or("", String::as_str);
        let result = meta::run_all(part(1), part(2), &mut score);
        score.check("the servers for meta commands start", result);
    }
    let mut table = all_cases();
    table.cases.retain(|case| filter.iter().all(|part| case.name.contains(part.as_str())));
    score.check("the accepted differences are listed", documented());
    if !table.cases.is_empty() {
        match measure(&table.cases, filter.is_empty(), &mut score) {
            Ok(()) => {}
            Err(error) => score.check("the compositions start", Err(error)),
        }
    }
    println!("test result: {} passed; {} failed", score.passed, score.failed);
    if score.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all_cases() -> Table {
    let mut table = Table::default();
    cases_admin::add_first(&mut table);
    cases_storage::add(&mut table);
    cases_retrieval::add(&mut table);
    cases_arithmetic::add(&mut table);
    cases_admin::add(&mut table);
    cases_limits::add(&mut table);
    cases_binary::add(&mut table);
    cases_hostile::add(&mut table);
    table
}

/// Numbers of passed and failed tests.
#[derive(Default)]
pub struct Score {
    passed: usize,
    failed: usize,
    /// Failures are expected and not printed.
    is_quiet: bool,
}

impl Score {
    fn check(&mut self, what: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                self.failed += 1;
                if !self.is_quiet {
                    println!("FAILED {what}\n    {error}");
                }
            }
        }
    }
}

/// Every accepted difference, and every statistic of our own, must be in docs/DIFFERENCES.md.
fn documented() -> Result<(), String> {
    let path = support::project().join("docs/DIFFERENCES.md");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let titles = RULES.iter().map(|rule| rule.title).chain(OWN_STATISTICS.iter().copied());
    let missing: Vec<&str> = titles.filter(|title| !text.contains(title)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("it does not mention {missing:?}")) }
}

/// Every rule must still describe a difference.
fn still_different(cases: &[Case], oracle: &Oracle) -> Result<(), String> {
    let differs = |rule: &Rule, case: &&Case| {
        let memcached = oracle.answer(case);
        (rule.applies)(case) && (rule.answer)(case, memcached) != memcached
    };
    let idle = RULES.iter().find(|rule| !cases.iter().any(|case| differs(rule, &case)));
    idle.map_or(Ok(()), |rule| Err(format!("'{}' is no longer a difference", rule.title)))
}

/// Runs everything.
fn measure(cases: &[Case], is_all: bool, score: &mut Score) -> Result<(), String> {
    let (_memcached, address) = Server::memcached()?;
    let mut oracle = Oracle::new(Target::Tcp(address), cases)?;
    if is_all {
        score.check("the accepted differences are differences", still_different(cases, &oracle));
    }
    if let Ok(target) = std::env::var("SUNDER_WIRE_TARGET") {
        let address = target.parse().map_err(|e| format!("SUNDER_WIRE_TARGET={target}: {e}"))?;
        let every = std::env::var("SUNDER_WIRE_EVERY").unwrap_or_else(|_| "1".into());
        let every = every.parse().map_err(|e| format!("SUNDER_WIRE_EVERY={every}: {e}"))?;
        let mut control = Control::new(Target::Tcp(address));
        control.every = std::num::NonZeroUsize::get(every);
        let name = format!("the server at {address}");
        let mut cases = cases.to_vec();
        if std::env::var_os("SUNDER_WIRE_GENERAL").is_some() {
            cases.retain(compositions::is_general);
        }
        compare_with(&mut control, &name, Pace::Prefix, &cases, &mut oracle, score);
        return Ok(());
    }
    selftest::run_all(address, cases, &mut oracle, score);

    for (workers, pace) in [("1", Pace::Ping), ("2", Pace::Prefix)] {
        let port = support::free_port();
        let args = ["-p", &port.to_string(), "--workers", workers, "--poll", "adaptive"];
        let _sunder = Server::sunder(&args)?;
        let target = Target::Tcp(([127, 0, 0, 1], port).into());
        let name = format!("kernel TCP, workers {workers}");
        compare(&name, &target, pace, cases, &mut oracle, score);
    }
    let general: Vec<Case> =
        cases.iter().filter(|case| compositions::is_general(case)).cloned().collect();
    for composition in compositions::all() {
        let running = composition.start().map_err(|e| format!("{}: {e}", composition.name))?;
        let mut control = Control::new(Target::Tcp(([127, 0, 0, 1], running.port).into()));
        control.every = composition.every(COMPOSITIONS_EVERY);
        let name = &composition.name;
        compare_with(&mut control, name, Pace::Prefix, &general, &mut oracle, score);
    }
    let path = support::free_socket_path();
    let text = path.to_string_lossy().into_owned();
    let args = ["--use-domain-socket", "--sock-path", &text, "--workers", "1"];
    let sunder = Server::sunder(&args)?;
    let mut control = Control::new(Target::Unix(path.clone()));
    control.every = UNIX_EVERY;
    compare_with(&mut control, "Unix socket", Pace::Ping, cases, &mut oracle, score);
    drop(sunder);
    // It was killed, so it could not remove it; but it may be removed already.
    let _ = std::fs::remove_file(path);
    Ok(())
}

/// All cases at all cuts on one server; one test per case.
fn compare(
    name: &str,
    target: &Target,
    pace: Pace,
    cases: &[Case],
    oracle: &mut Oracle,
    score: &mut Score,
) {
    compare_with(&mut Control::new(target.clone()), name, pace, cases, oracle, score);
}

/// The same with a control connection that chooses the cuts.
fn compare_with(
    control: &mut Control,
    name: &str,
    pace: Pace,
    cases: &[Case],
    oracle: &mut Oracle,
    score: &mut Score,
) {
    let start = Instant::now();
    let (passed, failed) = (score.passed, score.failed);
    let mut runs = 0;
    for (tried, case) in cases.iter().enumerate() {
        let result = at_all_cuts(control, case, pace, oracle, &mut runs);
        score.check(&format!("{name}: {}", case.name), result);
        if control.stuck > STUCK_MAX {
            score.check(name, Err(format!("stuck {STUCK_MAX} times, abandoned")));
            score.failed += cases.len() - tried - 1;
            break;
        }
    }
    let (passed, failed) = (score.passed - passed, score.failed - failed);
    let seconds = start.elapsed().as_secs_f64();
    println!("wire: {name}: {passed} cases the same, {failed} not; {runs} runs in {seconds:.1} s");
}

/// One case, in one piece and at every cut; the first faults in one error.
fn at_all_cuts(
    control: &mut Control,
    case: &Case,
    pace: Pace,
    oracle: &mut Oracle,
    runs: &mut usize,
) -> Result<(), String> {
    let rule = RULES.iter().find(|rule| (rule.applies)(case));
    let accepted = rule.map(|rule| (rule.answer)(case, oracle.answer(case)));
    let mut faults = vec![];
    let cuts = case.cuts().into_iter().step_by(control.every).map(Some);
    for cut in std::iter::once(None).chain(cuts) {
        *runs += 1;
        let result = match (run(control, case, cut, pace), &accepted) {
            (Err(stuck), _) => {
                control.stuck += 1;
                Err(stuck.to_string())
            }
            (Ok(answer), None) => oracle.verify(case, &answer),
            (Ok(answer), Some(accepted)) => difference(case, accepted, &answer).map_or(Ok(()), Err),
        };
        let Err(fault) = result else { continue };
        let cut = cut.map_or("whole".into(), |cut| format!("cut after byte {cut}"));
        faults.push(format!("{cut}: {fault}"));
        // After two faults further cuts show nothing new; stuck runs cost time.
        if faults.len() == FAULTS_PER_CASE {
            break;
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n    ")) }
}
