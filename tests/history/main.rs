//! The history checker at work: against memcached and sunder, which are right; against proxies that
//! are wrong, each in its own way; and while memcached is killed, frozen or loses keys.
//!
//! What serves is a table ([`COMPOSITIONS`]); a composition with a memcached of its own names the
//! accidents that it has to survive.

mod accidents;
mod proxy;
#[path = "../support/mod.rs"]
mod support;
#[path = "../../examples/history/tool/mod.rs"]
#[allow(dead_code, reason = "the whole program, of which the tests use the run")]
mod tool;

use proxy::{FAULTS, Fault, Proxy};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use support::Server;
use support::chaos::{Accident, Memcached};
use tool::plan::Plan;
use tool::report::Report;
use tool::run::run;

/// Operations of a run that is to be right.
const OPERATIONS: u64 = 100_000;

/// A way to put sunder together. In `args`, MEMCACHED stands for `unix:PATH` of one that is started
/// for it, for instance `memcached,addr=MEMCACHED,layout=chunked`.
struct Composition {
    name: &'static str,
    args: &'static [&'static str],
    /// Nothing may be lost. Otherwise there are more values than it has memory for.
    is_loss_wrong: bool,
    /// What happens to the memcached meanwhile.
    accidents: &'static [Accident],
}

const COMPOSITIONS: &[Composition] = &[
    Composition {
        name: "memory, 1 worker",
        args: &["--workers", "1", "--poll", "adaptive", "--l1", "memory,size=256M"],
        is_loss_wrong: true,
        accidents: &[],
    },
    Composition {
        name: "memory, 2 workers",
        args: &["--workers", "2", "--poll", "adaptive", "--l1", "memory,size=256M"],
        is_loss_wrong: true,
        accidents: &[],
    },
    Composition {
        name: "memory, 2 workers, too little of it",
        args: &["--workers", "2", "--poll", "adaptive", "--l1", "memory,size=4M"],
        is_loss_wrong: false,
        accidents: &[],
    },
];

fn plan(address: &str) -> Plan {
    Plan { addresses: vec![address.into()], operations: OPERATIONS, ..Plan::default() }
}

#[track_caller]
fn is_right(name: &str, report: &Report) {
    assert!(report.is_right(), "{name}:\n{report}");
    // What does not appear was not checked.
    assert_eq!(report.commands.len(), 15, "{name}:\n{report}");
    println!("{name}:\n{report}");
}

fn memcached() -> (Server, SocketAddr) {
    Server::memcached().expect("memcached starts")
}

#[test]
fn memcached_is_right_and_loses_nothing() {
    let (_server, address) = memcached();
    let plan = Plan { is_loss_wrong: true, ..plan(&address.to_string()) };
    let report = run(&plan).expect("it runs");
    is_right("memcached", &report);
    assert_eq!(report.errors, 0, "{report}");
    assert_eq!(report.operations, OPERATIONS);
}

#[test]
fn every_composition_is_right() {
    for composition in COMPOSITIONS {
        let result = if composition.args.iter().any(|arg| arg.contains("MEMCACHED")) {
            with_memcached(composition)
        } else {
            alone(composition)
        };
        result.unwrap_or_else(|error| panic!("{}: {error}", composition.name));
    }
}

fn serve(args: &[String]) -> Result<(Server, String), String> {
    let port = support::free_port();
    let port_text = port.to_string();
    let mut words = vec!["-p", &port_text];
    words.extend(args.iter().map(|arg| &arg[..]));
    Ok((Server::sunder(&words)?, format!("127.0.0.1:{port}")))
}

fn alone(composition: &Composition) -> Result<(), String> {
    let args: Vec<String> = composition.args.iter().map(|&arg| arg.to_owned()).collect();
    let (_server, address) = serve(&args)?;
    let plan = match composition.is_loss_wrong {
        true => Plan { is_loss_wrong: true, ..plan(&address) },
        false => Plan { keys: 400, value_bytes: (15_000, 20_000), ..plan(&address) },
    };
    let report = run(&plan)?;
    is_right(composition.name, &report);
    let evictions = evictions(&address).map_err(|error| format!("stats: {error}"))?;
    if (evictions == 0) != composition.is_loss_wrong {
        return Err(format!("{evictions} evictions"));
    }
    Ok(())
}

/// Items that a server gave up for want of memory, as `stats` has it.
fn evictions(address: &str) -> std::io::Result<u64> {
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    stream.get_mut().write_all(b"stats\r\n")?;
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 && line != "END\r\n" {
        if let Some(count) = line.strip_prefix("STAT evictions ") {
            return count.trim_end().parse().map_err(std::io::Error::other);
        }
        line.clear();
    }
    Err(std::io::Error::other("no evictions"))
}

fn with_memcached(composition: &Composition) -> Result<(), String> {
    let mut memcached = Memcached::start(64, 1)?;
    let own = memcached.address();
    let args: Vec<String> =
        composition.args.iter().map(|arg| arg.replace("MEMCACHED", &own)).collect();
    let (_server, address) = serve(&args)?;
    let plan = Plan {
        is_loss_wrong: composition.is_loss_wrong,
        may_cas_repeat: !composition.accidents.is_empty(),
        ..plan(&address)
    };
    let report = accidents::run_with(&plan, &mut memcached, composition.accidents)?;
    is_right(composition.name, &report);
    Ok(())
}

/// Through a proxy: text only, and fewer connections, for each has a thread there.
fn through(proxy: &Proxy, operations: u64) -> Plan {
    Plan {
        connections: 16,
        keys: 8,
        operations,
        binary_share: 0.0,
        is_loss_wrong: proxy.fault() == Fault::FalseMiss,
        ..plan(&proxy.address.to_string())
    }
}

#[test]
fn a_proxy_that_changes_nothing_is_right() {
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
        // Empty: what another run left there is found too, and would be found for this fault.
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
