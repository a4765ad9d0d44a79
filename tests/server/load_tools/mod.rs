//! The tools: they detect each way in which a server can be wrong, name the key and end with exit
//! status 1; they detect nothing in sunder and in memcached.

mod dialects;
mod marks;
mod stub;

use self::stub::{Fault, HUGE_BYTES, Stub};
use crate::kept::Place;
use crate::support::chaos::Memcached;
use crate::support::{Ended, SUNDER, Server, free_port, free_socket_path, run_sunder};
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn run(words: &str) -> Ended {
    let words: Vec<&str> = words.split_whitespace().collect();
    run_sunder(&words).expect("it ends")
}

/// The tools that check values, and their text for wrong keys.
const CHECKS: [(&str, &str); 2] = [
    ("setget", "-n 400 -w 3 --value-bytes 50-2000"),
    ("blast", "-n 4k -w 4 --keys 8 --value-bytes 50-500"),
];

const DIALECTS: [&str; 3] = ["--text", "--binary", "--meta"];

#[test]
fn a_correct_stub_is_correct() {
    let stub = Stub::start(Fault::None);
    for dialect in DIALECTS {
        for (tool, flags) in CHECKS {
            let ended = run(&format!("{tool} -p {} {dialect} --timeout 20 {flags}", stub.port));
            let Ended { status, stdout, stderr } = &ended;
            assert_eq!((*status, &stderr[..]), (0, ""), "{tool} {dialect}: {stdout}");
        }
    }
    assert!(stub.struck().is_empty());
}

/// Wrong answers, each of which every tool must detect in every dialect.
const WRONG: [Fault; 9] = [
    Fault::Swapped,
    Fault::OtherKey,
    Fault::Mixed,
    Fault::Shifted,
    Fault::Short,
    Fault::Stale,
    Fault::Back,
    Fault::Flags,
    Fault::LostSet,
];

#[test]
fn every_wrong_answer_is_found_and_its_key_named() {
    for (fault, dialect) in WRONG.iter().flat_map(|&fault| DIALECTS.map(|dialect| (fault, dialect)))
    {
        for (tool, flags) in CHECKS {
            let stub = Stub::start(fault);
            let ended = run(&format!("{tool} -p {} {dialect} --timeout 20 {flags}", stub.port));
            let what = format!("{tool} {dialect}, {fault:?}: {}{}", ended.stdout, ended.stderr);
            assert_eq!(ended.status, 1, "{what}");
            let line = ended.stderr.trim_end();
            assert_eq!(line.lines().count(), 1, "{what}");
            let named = line.split("key ").nth(1).and_then(|rest| rest.split(':').next());
            let named = named.unwrap_or_else(|| panic!("{what}"));
            let struck = stub.struck();
            // A multi-get with another key's item reports the first requested key.
            let is_named = struck.contains(named) || (fault, tool) == (Fault::OtherKey, "blast");
            assert!(is_named && line.contains("(after "), "{what}: wrong were {struck:?}");
        }
    }
}

/// A value that was never stored is not gathered in memory.
#[test]
fn an_answer_that_is_too_long_soon_ends_the_run() {
    for (words, limit_bytes) in [
        ("setget --timeout 20", 17 << 20),
        ("blast --timeout 20 --keys 4", 17 << 20),
        ("sizes --value-bytes 10 --answer-bytes 1M", 1 << 20),
        ("bench --keys 4 --connections 3 --duration 5 --answer-bytes 1M", 1 << 20),
        ("bench --keys 4 --connections 3 --duration 5", 17 << 20),
    ] {
        let stub = Stub::start(Fault::Huge);
        let ended = run(&format!("{words} -p {}", stub.port));
        let line = ended.stderr.trim_end();
        assert_eq!((ended.status, line.lines().count()), (1, 1), "{words}: {line}");
        assert!(line.contains("--answer-bytes"), "{words}: {line}");
        // The value of each connection, and the buffers of sockets.
        let taken_bytes = stub.huge_bytes();
        let most_bytes = 10 * (limit_bytes + (8 << 20));
        assert!(
            taken_bytes < most_bytes && taken_bytes < HUGE_BYTES,
            "{words}: {taken_bytes} bytes"
        );
    }
}

#[test]
fn a_run_ends_when_its_time_is_over() {
    let (_server, address) = Server::memcached().expect("memcached starts");
    // Few keys: blast and setops empty them first.
    let tools = ["setget", "blast --keys 20", "fill", "setops --keys 20"];
    for tool in tools.into_iter().chain(["sizes --value-bytes 0-1M --step 1"]) {
        let start = Instant::now();
        let many = if tool.starts_with("sizes") { "" } else { "-n 1G" };
        let ended = run(&format!("{tool} {address} {many} --duration 0.5"));
        let line = ended.stderr.trim_end();
        assert_eq!((ended.status, line.lines().count()), (0, 1), "{tool}: {line}");
        assert!(line.contains("the time was over (--duration 0.5) before all was done (after "));
        assert!(ended.stdout.contains("set done"), "{tool}: {}", ended.stdout);
        assert!(start.elapsed() < Duration::from_secs(10), "{tool}: {:?}", start.elapsed());
    }
    // A server that is fast enough not to time out, and too slow to finish.
    let stub = Stub::start(Fault::Slow);
    let start = Instant::now();
    let ended = run(&format!("blast -p {} --keys 500 --duration 1 --timeout 3", stub.port));
    assert!(ended.stderr.contains("the time was over (--duration 1)"), "{}", ended.stderr);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// A closed standard error must not cause a panic.
#[test]
fn a_closed_stderr_is_ignored() {
    let absent = free_port().to_string();
    for (words, status) in [
        (&["blast", "--no-such-flag"][..], 2),
        (&["bench", "--rate", "0"], 2),
        (&["bench", "report"], 2),
        (&["l2"], 2),
        (&["serve", "--no-such-flag"], 2),
        (&["setget", "-p", &absent, "--pprof"], 1),
        (&["bench", "-p", &absent], 1),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(SUNDER);
        let ended = command.args(words).stdin(Stdio::null()).stderr(writer).output();
        assert_eq!(ended.expect("it ends").status.code(), Some(status), "{words:?}");
    }
}

#[test]
fn every_tool_prints_its_version() {
    let version = run("--version").stdout;
    assert!(version.starts_with("sunder ") && version.lines().count() == 1, "{version}");
    for tool in ["blast", "setget", "sizes", "fill", "setops", "bench", "bench report", "l2"] {
        for flag in ["--version", "-V"] {
            let ended = run(&format!("{tool} {flag}"));
            assert_eq!((ended.status, &ended.stdout), (0, &version), "{tool} {flag}");
        }
    }
}

#[test]
fn an_unusable_server_is_reported_in_one_line() {
    for (fault, expected) in [
        (Fault::Garbage, "the server answers 'VALUABLE news"),
        (Fault::Close, "the server closed the connection"),
        (Fault::Silence, "no whole answer within 0.4 s"),
    ] {
        for tool in ["setget -n 4000", "sizes", "fill", "setops -n 4000", "blast -n 4000"] {
            if fault == Fault::Close && tool == "fill" {
                // It reconnects.
                continue;
            }
            let stub = Stub::start(fault);
            let ended = run(&format!("{tool} -p {} --timeout 0.4", stub.port));
            let line = ended.stderr.trim_end();
            assert_eq!(ended.status, 1, "{tool}, {fault:?}: {line}");
            assert_eq!(line.lines().count(), 1, "{tool}, {fault:?}: {line}");
            let has_count = line.contains("(after ") && line.contains(" operations)");
            assert!(line.contains(expected) && has_count, "{tool}, {fault:?}: {line}");
        }
    }
}

#[test]
fn fill_survives_closed_connections_but_not_an_exit_of_the_server() {
    let stub = Stub::start(Fault::Close);
    let ended = run(&format!("fill -n 60 -w 2 -p {} --value-bytes 100", stub.port));
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let is_reopened = ended.stdout.contains(", 4 connections opened again");
    assert!(is_reopened, "{}", ended.stdout);

    let (server, address) = Server::memcached().expect("memcached starts");
    let port = address.port().to_string();
    let fill = std::thread::spawn(move || run(&format!("fill -n 1000000000 -p {port}")));
    std::thread::sleep(Duration::from_millis(300));
    drop(server);
    let ended = fill.join().expect("the thread does not panic");
    let line = ended.stderr.trim_end();
    assert_eq!(ended.status, 1, "{line}");
    assert!(line.contains("cannot connect to ") && line.contains("(after "), "{line}");
    assert!(ended.stdout.contains("set done"), "{}", ended.stdout);
}

#[test]
fn a_missing_server_is_reported_in_one_line() {
    let absent = [format!("-p {}", free_port()), "--sock-path /nonexistent/socket".to_owned()];
    for tool in ["blast", "setget", "sizes", "fill", "setops", "bench"] {
        for place in &absent {
            let ended = run(&format!("{tool} {place}"));
            let line = ended.stderr.trim_end();
            assert_eq!(ended.status, 1, "{tool} {place}: {line}");
            assert_eq!(ended.stdout, "", "{tool} {place}: no empty table");
            assert!(line.contains("cannot connect to ") && line.lines().count() == 1, "{line}");
        }
    }
}

/// All tools, which must detect nothing.
fn is_right(server: &str, place: &str, dialects: &[&str]) {
    for dialect in dialects {
        for tool in [
            "setget -n 2000 --no-loss",
            "sizes --step 9999",
            "fill -n 500 -w 3",
            "setops -n 5000 --no-loss",
            "blast -n 8000 --keys 100 --no-loss",
            "blast -n 8000 --keys 12 -w 50 --all --no-loss --value-bytes 10-3000",
        ] {
            let ended = run(&format!("{tool} {place} {dialect} --timeout 30"));
            let Ended { status, stdout, stderr } = &ended;
            assert_eq!(*status, 0, "{server}: {tool} {dialect}: {stdout}{stderr}");
            assert_eq!(stderr, "", "{server}: {tool} {dialect}");
            let is_sizes = tool.starts_with("sizes");
            assert_eq!(is_sizes, stdout.contains("lengths are taken"), "{stdout}");
            let is_checked = tool.starts_with("blast") || tool.starts_with("setops");
            let verdict = if is_checked { ", 0 violations" } else { ", every answer was right" };
            let last = stdout.lines().last().unwrap_or_default();
            assert!(last.contains(" operations") && last.ends_with(verdict), "{stdout}");
        }
    }
}

#[test]
fn memcached_is_correct() {
    let (_server, address) = Server::memcached().expect("memcached starts");
    is_right("memcached", &format!("-p {}", address.port()), &["-t", "-b", "--meta", "-t -b"]);
}

#[test]
fn memcached_on_a_unix_socket_is_correct() {
    let path = free_socket_path();
    let server = Server::memcached_at(&path, 64).expect("memcached starts");
    is_right("memcached", &format!("--sock-path {}", path.display()), &["-binary"]);
    drop(server);
    // memcached leaves its socket behind when it is killed.
    let _ = std::fs::remove_file(path);
}

#[test]
fn sunder_is_correct() {
    let port = free_port().to_string();
    let _server = Server::sunder(&["-p", &port, "--workers", "2"]).expect("sunder starts");
    is_right("sunder", &format!("--port={port}"), &["--text", "-b=true", "--meta", "-t -b"]);
}

#[test]
fn sunder_with_a_cache_that_outlives_it_is_correct() {
    let (place, l1d) = (Place::new(), Memcached::start_l1d(64, 1).expect("it starts"));
    let kept = Memcached::start_l1d_with(64, 1, &["--path", &place.path("kept")]);
    let (kept, l2) = (kept.expect("it starts"), Memcached::start(64, 1).expect("it starts"));
    let shm = |l1d: &Memcached| format!("shm,name={},timeout=20000", l1d.name());
    let (memory, ssd) = (place.l1("64M", ""), place.l2());
    let memcached = format!("memcached,addr={},timeout=20000", l2.address());
    // What an overloaded SSD does not write is lost; and two workers flush a memcached one after
    // the other.
    for (l1, l2, no_loss) in [
        (shm(&l1d), "none", "--no-loss"),
        (shm(&kept), "none", "--no-loss"),
        (shm(&l1d), &ssd, ""),
        (shm(&kept), &memcached, ""),
        (memory, &ssd, ""),
    ] {
        let (port, batch_port) = (free_port().to_string(), free_port().to_string());
        let mut flags = vec!["-p", &port, "--workers", "2", "--poll", "adaptive", "--l1", &l1];
        if l2 != "none" {
            flags.extend(["--l2", l2, "--bp", &batch_port]);
        }
        let _server = Server::sunder(&flags).expect("sunder starts");
        let blast = "blast -n 10000 --keys 12 -w 50 --all --value-bytes 10-3000 -t -b --timeout 30";
        let Ended { status, stdout, stderr } = run(&format!("{blast} {no_loss} -p {port}"));
        assert_eq!(status, 0, "{l1}, {l2}: {stdout}{stderr}");
        assert!(stdout.trim_end().ends_with(", 0 violations"), "{l1}, {l2}: {stdout}");
    }
}

#[test]
fn a_server_without_meta_commands_is_reported() {
    let port = stub::without_meta();
    for words in [
        "setget -n 200",
        "sizes --step 9999",
        "fill -n 50",
        "setops -n 500",
        "blast -n 800 --keys 10",
        "blast -n 800 --keys 10 --text",
        "blast -n 800 --keys 10 --survive",
        "bench --duration 0.2 --warmup 0 --keys 10",
        "bench --duration 0.2 --warmup 0 --keys 10 --no-fill --rate 100",
    ] {
        let Ended { status, stdout, stderr } = run(&format!("{words} -p {port} --meta"));
        assert_eq!((status, &stdout[..]), (1, ""), "{words}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{words}: {stderr}");
        assert!(stderr.contains("the server has no meta commands"), "{words}: {stderr}");
    }
}

#[test]
fn results_are_printed() {
    let (_server, address) = Server::memcached().expect("memcached starts");
    let ended = run(&format!("blast -n 3000 -kl 2 -p {} -pprof", address.port()));
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("--pprof: not needed"), "{}", ended.stderr);
    for row in ["get hits", "get misses", "multi-get hits", "set done", "delete misses", "p99"] {
        assert!(ended.stdout.contains(row), "no {row}: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("ms (p99)"), "{}", ended.stdout);
}

#[test]
fn every_tool_takes_a_host_with_its_port_or_without_and_draws_if_asked_to() {
    let (_server, address) = Server::memcached().expect("memcached starts");
    let (host, port) = (address.ip(), address.port());
    for (tool, row) in [
        ("blast -n 300 --keys 10", "set done"),
        ("setops -n 300 --keys 10", "add refused"),
        ("setget -n 100", "get misses"),
        ("sizes --value-bytes 0-2K", "get hits"),
        ("fill -n 100", "set done"),
    ] {
        for place in [format!("{host} -p {port}"), format!("{host}:{port}")] {
            let ended = run(&format!("{tool} {place} --histograms"));
            assert_eq!(ended.status, 0, "{tool} {place}: {}", ended.stderr);
            // In the table, and above its picture.
            let rows = ended.stdout.lines().filter(|line| line.starts_with(row)).count();
            assert_eq!(rows, 2, "{tool}: {}", ended.stdout);
            assert!(ended.stdout.contains("ms (p99)"), "{tool}: {}", ended.stdout);
        }
        let absent = run(&format!("{tool} 127.0.0.2 -p {}", free_port()));
        assert!(absent.stderr.contains("cannot connect to 127.0.0.2:"), "{}", absent.stderr);
    }
    let bench = "bench --duration 0.1 --warmup 0 --keys 10";
    for place in [format!("{host} -p {port}"), format!("{host}:{port}")] {
        let ended = run(&format!("{bench} {place}"));
        assert_eq!(ended.status, 0, "{place}: {}", ended.stderr);
        assert!(ended.stdout.starts_with(&format!("{host}:{port}\n")), "{}", ended.stdout);
    }
}

#[test]
fn a_fill_reads_back_what_may_not_be_lost() {
    let (_server, address) = Server::memcached().expect("memcached starts");
    let words = format!("fill -n 2000 -w 4 -kl 2 {address} --value-bytes 10-500");
    let ended = run(&words);
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert!(!ended.stdout.contains("get "), "{}", ended.stdout);
    let ended = run(&format!("{words} --no-loss"));
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("get hits"), "{}", ended.stdout);
    for (fault, told) in [(Fault::LostSet, "stale: version"), (Fault::Swapped, "key ")] {
        let stub = Stub::start(fault);
        let ended = run(&format!("fill -n 2000 -w 2 -kl 1 -p {} --no-loss", stub.port));
        assert_eq!(ended.status, 1, "{fault:?}: {}", ended.stdout);
        let line = &ended.stderr;
        assert!(line.contains(told) && stub.struck().iter().any(|key| line.contains(&key[..])));
    }
}

#[test]
fn a_value_that_is_too_large_is_told_with_the_servers_limit() {
    let (_server, address) = Server::memcached().expect("memcached starts");
    let too_large =
        "a value of 3145728 bytes is too large for the server: its limit is 1048576 bytes";
    for dialect in DIALECTS {
        for tool in ["fill", "setget"] {
            let ended = run(&format!("{tool} {address} {dialect} -n 10 --value-bytes 3M"));
            let line = &ended.stderr;
            assert_eq!(ended.status, 1, "{line}");
            assert!(line.contains(too_large) && line.contains("--max-item-size"), "{line}");
        }
    }
}

#[test]
fn an_interrupted_run_prints_its_results() {
    let (_server, address) = Server::memcached().expect("memcached starts");
    for (tool, signal) in
        [("setget", "-INT"), ("blast", "-TERM"), ("fill", "-INT"), ("setops", "-INT")]
    {
        let port = address.port().to_string();
        let mut command = Command::new(SUNDER);
        command.args([tool, "-p", &port, "-n", "1G"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(700));
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status;
            }
            if start.elapsed() > crate::support::PATIENCE {
                let _ = child.kill();
                panic!("{tool} continues");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let (mut stdout, mut stderr) = (String::new(), String::new());
        child.stdout.take().expect("piped").read_to_string(&mut stdout).expect("text");
        child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
        assert_eq!(status.code(), Some(130), "{tool}: {stderr}");
        assert!(stderr.contains("interrupted (after "), "{tool}: {stderr}");
        assert!(stdout.contains("set done"), "{tool}: {stdout}");
    }
}

/// As `head` does. Any other failure to write is reported.
#[test]
fn a_closed_pipe_is_no_failure_but_a_full_disk_is() {
    let (_server, address) = Server::memcached().expect("memcached starts");
    let target = address.to_string();
    for words in [
        &["setget", &target, "-n", "3000"][..],
        &["blast", &target, "-n", "3000"],
        &["bench", &target, "--duration", "0.3", "--warmup", "0", "--keys", "10"],
        &["--help"],
    ] {
        let mut command = Command::new(SUNDER);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        drop(child.stdout.take());
        let ended = child.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &stderr[..]), (Some(0), ""), "{words:?}");

        let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
        let ended = command.stdout(full).output().expect("it ends");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{words:?}: {stderr}");
        assert!(stderr.starts_with("sunder: standard output: "), "{words:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{words:?}: {stderr}");
    }
}

#[test]
fn wrong_flags_are_one_line() {
    for (words, expected) in [
        ("blast --num-ops 0", "--num-ops"),
        ("setget --value-bytes 10-1", "--value-bytes"),
        ("sizes -n 5", "'-n'"),
        ("fill --keys 5", "--keys"),
        ("setops --all", "--all"),
        ("setget 127.0.0.1:x", "127.0.0.1:x"),
        ("setget 127.0.0.1:1 -p 1", "--port"),
        ("bench 127.0.0.1:1 -p 1", "--port"),
        ("setget -p 1 unix:/x", "--port: 'unix:/x' says where the server is"),
        ("bench stray --host x", "cannot be used with"),
        ("blast --host", "--host"),
    ] {
        let ended = run(words);
        let line = ended.stderr.trim_end();
        assert_eq!((ended.status, &ended.stdout[..]), (2, ""), "{words}: {line}");
        assert!(line.contains(expected) && line.lines().count() == 1, "{words}: {line}");
    }
    let help = run("--help").stdout;
    for tool in ["blast", "setget", "sizes", "fill", "setops"] {
        assert!(help.contains(&format!("\n  {tool} ")), "{help}");
        let own = run(&format!("{tool} --help"));
        let is_its_own = own.stdout.contains(&format!("Usage: sunder {tool} "));
        assert!(own.status == 0 && is_its_own, "{}", own.stdout);
    }
}
