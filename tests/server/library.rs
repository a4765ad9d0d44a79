//! The library as used to compose a server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::{PATIENCE, Server, free_port, project};
use own_tier::MapTier;
use sunder::base::stats::Counter;
use sunder::bench::{Dialect, Lengths, Load, Plan, RunResult, Target, measure};
use sunder::config::{self, Config};
use sunder::orchestrator::Orchestrator;
use sunder::orchestrator::l1_only::L1Only;
use sunder::serve::{self, Handle, Part, ServeError};

#[path = "../../examples/own_tier.rs"]
#[allow(dead_code, reason = "the test has a server of its own")]
mod own_tier;

/// Most lines of a debug server, including imports and blank lines: as many as Rend's.
const LINES_MAX: usize = 21;

/// The session in the README of Rend's debug server, up to the wait for the touch to expire.
const SESSION: &[(&str, &str)] = &[
    ("get foo\r\n", "END\r\n"),
    ("set foo 0 0 6\r\nfoobar\r\n", "STORED\r\n"),
    ("get foo\r\n", "VALUE foo 0 6\r\nfoobar\r\nEND\r\n"),
    ("touch foo -1\r\n", "TOUCHED\r\n"),
    ("get foo\r\n", "END\r\n"),
];

#[test]
fn a_debug_server_is_short() {
    let path = project().join("examples/debug_server.rs");
    let lines = std::fs::read_to_string(path).expect("the example").lines().count();
    assert!(lines <= LINES_MAX, "{lines} lines");
}

#[test]
fn a_debug_server_serves() {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "debug_server"])
        .current_dir(project())
        .status();
    assert!(build.expect("cargo runs").success(), "the example builds");
    let port = free_port();
    // The test is in target/PROFILE/deps, the examples are next to that folder.
    let this = std::env::current_exe().expect("the test's own path");
    let folder = this.ancestors().nth(2).expect("target/PROFILE");
    let mut command = Command::new(folder.join("examples/debug_server"));
    command.arg(port.to_string());
    let mut server = Server::start(command).expect("it starts");
    server.wait_for_line("sunder: ready").expect("it serves");
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    for (asked, expected) in SESSION {
        client.write_all(asked.as_bytes()).expect("it reads");
        let mut got = vec![0; expected.len()];
        client.read_exact(&mut got).expect("it answers");
        assert_eq!(String::from_utf8_lossy(&got), *expected, "{asked:?}");
    }
    assert_eq!(server.terminate().expect("it ends"), 0);
}

/// Runs a server in this process while `meanwhile` uses it, then stops it.
fn while_served<O: Orchestrator>(
    config: &Config,
    compose: impl Fn(&Part<'_>) -> Result<O, ServeError> + Sync,
    meanwhile: impl FnOnce(&Handle, &mut TcpStream),
) -> Result<(), ServeError> {
    thread::scope(|scope| {
        let (handles, handle) = mpsc::channel();
        let compose = &compose;
        let server = scope.spawn(move || {
            let server = serve::Server::new(config)?;
            handles.send(server.handle()).expect("the other thread waits for it");
            server.run(compose)
        });
        let handle = handle.recv().expect("there is a server");
        while !handle.is_ready() && !server.is_finished() {
            thread::yield_now();
        }
        if handle.is_ready() {
            let mut client = TcpStream::connect(("127.0.0.1", config.port)).expect("it accepts");
            client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            meanwhile(&handle, &mut client);
        }
        handle.stop();
        assert!(!handle.is_ready());
        server.join().expect("the server does not panic")
    })
}

fn ask(client: &mut TcpStream, request: &[u8], expected: &[u8]) {
    client.write_all(request).expect("it reads");
    let mut got = vec![0; expected.len()];
    client.read_exact(&mut got).expect("it answers");
    assert!(got == expected, "{}", got[..got.len().min(200)].escape_ascii());
}

/// The answer to `stats`.
fn stats(client: &mut TcpStream) -> String {
    client.write_all(b"stats\r\n").expect("it reads");
    let (mut got, mut piece) = (Vec::new(), [0; 4096]);
    while !got.ends_with(b"END\r\n") {
        let count = client.read(&mut piece).expect("it answers");
        assert_ne!(count, 0, "it closed");
        got.extend_from_slice(&piece[..count]);
    }
    String::from_utf8(got).expect("ASCII")
}

/// Whether this process handles the signal itself.
fn is_caught(signal: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
    u64::from_str_radix(mask.trim(), 16).expect("digits") & (1 << (signal - 1)) != 0
}

#[test]
fn a_composed_server_is_controlled_by_its_program() {
    const SIGTERM: u32 = 15;
    let caught_before = is_caught(SIGTERM);
    // The tier of the config is not used: 1 MiB would be too little for two workers.
    let l1 = config::L1::Memory { bytes: 1 << 20, file: None };
    let config = Config {
        port: free_port(),
        workers: Some(2),
        item_bytes_max: 16 << 20,
        l1,
        ..Config::default()
    };
    let compose = |part: &Part<'_>| Ok(L1Only::new(part.memory(512 << 20)?));
    let ended = while_served(&config, compose, |handle, client| {
        let value = vec![b'x'; 15 << 20];
        let set = [format!("set k 0 0 {}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
        ask(client, &set, b"STORED\r\n");
        let told = stats(client);
        assert!(told.contains("STAT limit_maxbytes 536870912\r\n"), "{told}");
        assert_eq!(handle.count(Counter::CurrConnections), 1);
        assert!(handle.count(Counter::BytesRead) > value.len() as u64);
        assert_eq!(is_caught(SIGTERM), caught_before, "the signal was not requested");
    });
    ended.expect("it was served");
}

#[test]
fn a_composed_server_keeps_items_on_an_ssd() {
    let path = project().join(format!("target/tmp/library-{}.log", std::process::id()));
    let ssd = config::l1(&format!("ssd,path={},size=300M", path.display())).expect("a tier");
    let config = Config { port: free_port(), workers: Some(1), l1: ssd, ..Config::default() };
    let compose = |part: &Part<'_>| Ok(L1Only::new(part.ssd()?));
    let first = while_served(&config, compose, |_, client| {
        ask(client, b"set k 0 0 5\r\nvalue\r\n", b"STORED\r\n");
    });
    let second = while_served(&config, compose, |_, client| {
        ask(client, b"get k\r\n", b"VALUE k 0 5\r\nvalue\r\nEND\r\n");
    });
    std::fs::remove_file(&path).expect("ours");
    first.expect("it was served");
    second.expect("it was served again");
}

/// In both protocols, and with keys that another worker owns.
#[test]
fn a_tier_of_the_program_s_own_serves_and_is_measured_in_the_same_process() {
    let config = Config { port: free_port(), workers: Some(2), ..Config::default() };
    let compose = |_: &Part<'_>| Ok(L1Only::new(MapTier::default()));
    let ended = while_served(&config, compose, |handle, client| {
        for (request, reply) in [
            ("set k 7 0 5\r\nvalue\r\n", "STORED\r\n"),
            ("append k 0 0 1\r\n!\r\n", "STORED\r\n"),
            ("get k absent\r\n", "VALUE k 7 6\r\nvalue!\r\nEND\r\n"),
            ("add k 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
            ("set n 0 0 2\r\n41\r\n", "STORED\r\n"),
            ("incr n 1\r\n", "42\r\n"),
            ("delete k\r\n", "DELETED\r\n"),
            ("get k\r\n", "END\r\n"),
        ] {
            ask(client, request.as_bytes(), reply.as_bytes());
        }
        for dialect in [Dialect::Text, Dialect::Binary] {
            let mut plan = Plan::new(Target::Tcp("127.0.0.1".to_owned(), config.port));
            plan.dialect = dialect;
            plan.load = Load::Rates(vec![500.0, 1_000.0]);
            (plan.warmup, plan.duration) = (Duration::ZERO, Duration::from_millis(400));
            (plan.keys, plan.check_every, plan.connections) = (100, 1, 5);
            plan.value_bytes = Lengths::Range(1, 20_000);
            let gets_before = handle.count(Counter::CmdGet);
            let result = measure(&plan).expect("measured");
            assert!(result.is_right(), "{:?}", result.notes);
            let steps: Vec<_> = result.steps.iter().map(|step| step.latency.all.count).collect();
            assert_eq!(steps, [200, 400]);
            let gets: u64 = result.steps.iter().map(|step| step.latency.get.count).sum();
            assert_eq!(handle.count(Counter::CmdGet) - gets_before, gets);
            let step = &result.steps[1];
            assert_eq!((step.rate_target, step.misses), (Some(1_000.0), 0));
            let (p50, p99) = (step.latency.all.value_ns(0.5), step.latency.all.value_ns(0.99));
            assert!(0 < p50 && p50 <= p99 && p99 <= step.latency.all.max_ns * 1_001 / 1_000);
            assert_eq!(result.label, format!("127.0.0.1:{}", config.port));
            assert_eq!(RunResult::from_json(&result.to_json()).expect("reads"), result);
        }
    });
    ended.expect("it was served");
}

#[test]
fn a_measurement_that_cannot_be_made_says_why() {
    let mut plan = Plan::new(Target::Tcp("127.0.0.1".to_owned(), free_port()));
    let failure = measure(&plan).expect_err("nobody is there");
    assert!(failure.reason.contains("cannot connect"), "{failure}");
    assert!(failure.answers == 0 && failure.partial.is_none());
    plan.threads = 0;
    let failure = measure(&plan).expect_err("no thread");
    assert!(failure.reason.starts_with("threads: "), "{failure}");
}

#[test]
fn a_tier_that_is_not_in_the_config_is_reported() {
    let config = Config { port: free_port(), workers: Some(1), ..Config::default() };
    let ssd = while_served(&config, |part| Ok(L1Only::new(part.ssd()?)), |_, _| ());
    let rend = while_served(&config, |part| Ok(L1Only::new(part.rend()?)), |_, _| ());
    for (ended, word) in [(ssd, "an SSD"), (rend, "a Rend-based server")] {
        let line = ended.expect_err(word).to_string();
        assert!(line.contains(word) && !line.contains('\n'), "{line}");
    }
}

#[test]
fn the_admin_port_is_closed_when_its_server_has_ended() {
    let admin = ([127, 0, 0, 1], free_port()).into();
    let config = Config { port: free_port(), admin: Some(admin), ..Config::default() };
    for _ in 0..2 {
        let compose = |_: &Part<'_>| Ok(L1Only::new(MapTier::default()));
        let ended = while_served(&config, compose, |_, _| {
            let mut scraper = TcpStream::connect(admin).expect("it listens");
            scraper.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            scraper.write_all(b"GET /health HTTP/1.0\r\n\r\n").expect("it reads");
            let mut answer = String::new();
            scraper.read_to_string(&mut answer).expect("it answers");
            assert!(answer.ends_with("ready\n"), "{answer}");
        });
        ended.expect("it was served");
        assert!(TcpStream::connect(admin).is_err());
    }
}
