//! The history checker with injected faults, and tests of the faults themselves.

use crate::support::chaos::{Accident, Memcached};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use sunder::load::history::plan::Plan;
use sunder::load::history::report::Report;
use sunder::load::history::run::run;

/// Longest time from the end of a fault to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs the plan while faults are injected into each of the memcacheds.
pub fn run_with(
    plan: &Plan,
    victims: &mut [&mut Memcached],
    accidents: &[Accident],
) -> Result<Report, String> {
    let names = plan.names();
    let keys: Vec<String> = (0..names.count()).map(|key| names.name(key).to_owned()).collect();
    with_accidents(victims, accidents, &keys, || run(plan))?
}

/// Does `work` on `keys` while faults are injected into each of the memcacheds.
pub fn with_accidents<T>(
    victims: &mut [&mut Memcached],
    accidents: &[Accident],
    keys: &[String],
    work: impl FnOnce() -> T,
) -> Result<T, String> {
    if accidents.is_empty() {
        return Ok(work());
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let is_over = &is_over;
        let chaos: Vec<_> = victims
            .iter_mut()
            .map(|victim| scope.spawn(|| victim.inject_until(is_over, accidents, PAUSE, keys)))
            .collect();
        let done = work();
        is_over.store(true, Relaxed);
        for one in chaos {
            one.join().expect("the injector does not panic")?;
        }
        Ok(done)
    })
}

/// Sends one line to a memcached, and returns one line.
fn ask(memcached: &Memcached, request: &str) -> std::io::Result<String> {
    let stream = UnixStream::connect(memcached.path())?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    Ok(line)
}

fn bare(memcached: &Memcached) -> Plan {
    let targets = vec![super::target(&memcached.address())];
    Plan { targets, operations: 100_000, seed: 7, ..Plan::default() }
}

#[test]
fn a_killed_memcached_restarts_empty_on_the_same_socket() {
    let mut memcached = Memcached::start(64, 1).expect("it starts");
    assert_eq!(ask(&memcached, "set a 0 0 1\r\na\r\n").expect("an answer"), "STORED\r\n");
    memcached.kill().expect("killed");
    assert!(ask(&memcached, "get a\r\n").is_err());
    memcached.restart().expect("it starts again");
    assert_eq!(ask(&memcached, "get a\r\n").expect("an answer"), "END\r\n");
}

#[test]
fn a_frozen_memcached_answers_later() {
    let mut memcached = Memcached::start(64, 1).expect("it starts");
    memcached.freeze().expect("frozen");
    assert!(ask(&memcached, "set a 0 0 1\r\na\r\n").is_err(), "a frozen one answered");
    memcached.thaw().expect("thawed");
    // Requests sent in that time are executed, although no client waits for them.
    assert_eq!(ask(&memcached, "get a\r\n").expect("an answer"), "VALUE a 0 1\r\n");
}

#[test]
fn lost_chunks_are_deleted() {
    let mut memcached = Memcached::start(64, 1).expect("it starts");
    let suffixes = ["-meta", "-0", "-1", "-2", "-3", "-4", "-6", "-8", "-9", "-12"];
    for suffix in suffixes {
        let set = format!("set k{suffix} 0 0 1\r\na\r\n");
        assert_eq!(ask(&memcached, &set).expect("an answer"), "STORED\r\n");
    }
    let lose = Accident::LoseChunks { keys: 200 };
    memcached.inject(lose, &["k".into()]).expect("deleted");
    assert_eq!(memcached.happened.chunks_tried, 200);
    assert_eq!(memcached.happened.chunks_deleted, suffixes.len() as u64);
}

#[test]
fn a_memcached_that_is_killed_is_correct() {
    let mut memcached = Memcached::start(64, 2).expect("it starts");
    let plan = bare(&memcached);
    let kill = [Accident::Kill { down_ms: 50 }];
    let report = run_with(&plan, &mut [&mut memcached], &kill).expect("it runs");
    assert!(report.is_right(), "{report}");
    assert!(report.errors > 0 && report.reconnects > 0, "{report}");
    assert!(memcached.happened.kills > 0);
}

#[test]
fn a_memcached_that_freezes_and_loses_keys_is_correct() {
    let mut memcached = Memcached::start(64, 3).expect("it starts");
    let plan = Plan { timeout: Duration::from_millis(100), ..bare(&memcached) };
    let both = [Accident::Freeze { frozen_ms: 250 }, Accident::LoseChunks { keys: 8 }];
    let report = run_with(&plan, &mut [&mut memcached], &both).expect("it runs");
    assert!(report.is_right(), "{report}");
    assert!(report.errors > 0, "{report}");
    assert!(memcached.happened.freezes > 0 && memcached.happened.chunks_tried > 0);
}
