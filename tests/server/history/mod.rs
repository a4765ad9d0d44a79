//! The history checker: with memcached and sunder, which are correct; with proxies that are wrong,
//! each in its own way; and while memcached is killed, frozen or loses keys.
//!
//! The compositions of sunder are in [`compositions`], with the faults that each must survive.

mod accidents;
mod compositions;
mod proxy;
mod storms;

use self::proxy::{FAULTS, Fault, Proxy};
use crate::support::Server;
use std::net::SocketAddr;
use sunder::load::history::plan::Plan;
use sunder::load::history::report::Report;
use sunder::load::history::run::run;
use sunder::load::stream::Target;
use sunder::load::wire::Dialect;

/// Operations of a run that must be correct.
const OPERATIONS: u64 = 100_000;

/// HOST:PORT or unix:PATH.
fn target(address: &str) -> Target {
    Target::parse(address).expect("an address")
}

fn plan(address: &str) -> Plan {
    Plan { targets: vec![target(address)], operations: OPERATIONS, ..Plan::default() }
}

#[track_caller]
pub fn is_right(name: &str, report: &Report) {
    assert!(report.is_right(), "{name}:\n{report}");
    // Commands that do not appear were not checked.
    assert_eq!(report.commands.len(), 16, "{name}:\n{report}");
    println!("{name}:\n{report}");
}

fn memcached() -> (Server, SocketAddr) {
    Server::memcached().expect("memcached starts")
}

#[test]
fn memcached_is_correct_and_loses_nothing() {
    let (_server, address) = memcached();
    let plan = Plan { is_loss_wrong: true, ..plan(&address.to_string()) };
    let report = run(&plan).expect("it runs");
    is_right("memcached", &report);
    assert_eq!(report.errors, 0, "{report}");
    assert_eq!(report.operations, OPERATIONS);
}

/// Through a proxy: text only, and fewer connections, because each has a thread there.
fn through(proxy: &Proxy, operations: u64) -> Plan {
    Plan {
        connections: 16,
        keys: 8,
        operations,
        dialects: vec![Dialect::Text],
        is_loss_wrong: proxy.fault() == Fault::FalseMiss,
        ..plan(&proxy.address.to_string())
    }
}

#[test]
fn a_proxy_that_changes_nothing_is_correct() {
    let (_server, address) = memcached();
    let proxy = Proxy::start(address, Fault::None);
    let plan = Plan { is_loss_wrong: true, ..through(&proxy, 20_000) };
    is_right("a proxy", &run(&plan).expect("it runs"));
    assert_eq!(proxy.used(), 0);
}

#[test]
fn every_fault_is_found() {
    let mut missed = vec![];
    for &fault in FAULTS {
        // Empty: items of another run would be found too, and attributed to this fault.
        let (_server, address) = memcached();
        let proxy = Proxy::start(address, fault);
        // A flush_all is rare.
        let operations = if fault == Fault::IgnoredFlush { 60_000 } else { 20_000 };
        let report = run(&through(&proxy, operations)).expect("it runs");
        let (used, found) = (proxy.used(), report.violation_count);
        let first = report.violations.first().map_or("", |violation| &violation.what);
        println!("{fault:?}: wrong {used} times, found {found} times, first: {first}");
        if used == 0 || found == 0 {
            missed.push(fault);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
