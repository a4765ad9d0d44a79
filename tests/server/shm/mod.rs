//! `sunder l1d` and its clients: what both see, and what happens when either is killed, hangs, lies
//! or belongs to somebody else.

mod hostile;
mod kills;
mod restarts;

use crate::support::chaos::Memcached;
use crate::support::client::Client;
use crate::support::{Server, free_port, run_sunder, runtime_directory};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A time-out that is never reached.
const PATIENT_MS: u64 = 20_000;

/// A sunder whose L1 is `l1d`, and where its clients connect.
fn sunder(l1d: &Memcached, timeout_ms: u64, more: &[&str]) -> (Server, SocketAddr) {
    let port = free_port();
    let (l1, text) = (format!("shm,name={},timeout={timeout_ms}", l1d.name()), port.to_string());
    let flags = ["-p", &text, "--workers", "1", "--wait", "20", "--l1", &l1];
    let server = Server::sunder(&[&flags[..], more].concat()).expect("it attaches");
    (server, SocketAddr::from(([127, 0, 0, 1], port)))
}

fn rings(l1d: &Memcached) -> PathBuf {
    runtime_directory().join(format!("{}.rings", l1d.name()))
}

/// One line to a Unix socket, and what comes back until the other side closes.
fn ask(path: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("it accepts");
    stream.write_all(format!("{request}\r\nquit\r\n").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// Asks until an answer is as it has to be.
fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

#[test]
fn all_clients_see_the_same_items_and_a_long_value_passes_in_pieces() {
    let l1d = Memcached::start_l1d(64, 1).expect("it starts");
    for workers in ["1", "2"] {
        let (_server, address) = sunder(&l1d, PATIENT_MS, &["-t", workers, "--poll", "adaptive"]);
        let mut client = Client::connect(address);
        let long: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        for n in 0..20 {
            client.set(&format!("long{n}"), &long);
        }
        for n in 0..20 {
            assert_eq!(client.get(&format!("long{n}")).as_ref(), Ok(&long));
        }
        client.set("short", workers.as_bytes());
        let expected = format!("VALUE short 0 1\r\n{workers}\r\nEND\r\n");
        assert_eq!(ask(l1d.path(), "get short"), expected);
        assert_eq!(ask(l1d.path(), "set theirs 0 0 1\r\nx"), "STORED\r\n");
        assert_eq!(client.get("theirs").as_deref(), Ok(&b"x"[..]));
        client.send(b"flush_all\r\n");
        assert_eq!(client.line(), "OK\r\n");
        assert_eq!(client.get("short"), Err("END\r\n".into()));
    }
}

#[test]
fn items_outlive_a_client() {
    let l1d = Memcached::start_l1d(64, 1).expect("it starts");
    let (mut server, address) = sunder(&l1d, PATIENT_MS, &[]);
    Client::connect(address).set("kept", b"value");
    server.kill();
    let (mut server, address) = sunder(&l1d, PATIENT_MS, &[]);
    assert_eq!(Client::connect(address).get("kept").as_deref(), Ok(&b"value"[..]));
    assert_eq!(server.terminate(), Ok(0));
    let (_server, address) = sunder(&l1d, PATIENT_MS, &[]);
    assert_eq!(Client::connect(address).get("kept").as_deref(), Ok(&b"value"[..]));
}

#[test]
fn a_killed_daemon_is_noticed_and_attached_again_when_it_is_back() {
    let mut l1d = Memcached::start_l1d(64, 1).expect("it starts");
    let (server, address) = sunder(&l1d, PATIENT_MS, &["--poll", "adaptive"]);
    let mut client = Client::connect(address);
    client.set("key", b"value");
    // A request is outstanding: only the daemon's end can answer it before the time-out of 20 s.
    l1d.freeze().expect("frozen");
    client.send(b"get key\r\n");
    std::thread::sleep(Duration::from_millis(20));
    let start = Instant::now();
    l1d.kill().expect("killed");
    assert_eq!(client.line(), "SERVER_ERROR backend failure\r\n");
    let noticed = start.elapsed();
    println!("noticed after {noticed:?}");
    assert!(noticed < Duration::from_secs(1), "{noticed:?}");
    assert_eq!(client.get("key"), Err("SERVER_ERROR backend failure\r\n".into()));
    l1d.restart().expect("it starts again");
    let back = until("it is attached again", || client.get("key") == Err("END\r\n".into()));
    println!("attached again after {back:?}");
    client.set("key", b"new");
    assert_eq!(client.get("key").as_deref(), Ok(&b"new"[..]));
    let told = server.stderr();
    assert!(told.contains("the sunder l1d at shm:") && told.contains("is back after"), "{told}");
}

#[test]
fn with_an_l2_nothing_that_was_replaced_meanwhile_comes_back() {
    let l2 = Memcached::start(64, 1).expect("it starts");
    let mut l1d = Memcached::start_l1d(64, 1).expect("it starts");
    let l2_flag = format!("memcached,addr={}", l2.address());
    let batch_port = free_port().to_string();
    let (_server, address) = sunder(&l1d, 100, &["--l2", &l2_flag, "--bp", &batch_port]);
    let mut client = Client::connect(address);
    client.set("key", b"old");
    l1d.freeze().expect("frozen");
    // L2 has the new value, and L1 cannot be told.
    client.set("key", b"new");
    assert_eq!(client.get("key").as_deref(), Ok(&b"new"[..]));
    l1d.thaw().expect("thawed");
    until("it is asked again", || ask(l1d.path(), "get key") != "VALUE key 0 3\r\nold\r\nEND\r\n");
    assert_eq!(client.get("key").as_deref(), Ok(&b"new"[..]));
}

#[test]
fn with_an_l2_a_start_after_a_kill_finds_nothing_that_l2_has_replaced() {
    let l2 = Memcached::start(64, 1).expect("it starts");
    let l1d = Memcached::start_l1d(64, 1).expect("it starts");
    let l2_flag = format!("memcached,addr={}", l2.address());
    let batch_port = free_port().to_string();
    let flags = ["--l2", &l2_flag, "--bp", &batch_port];
    let (mut server, address) = sunder(&l1d, PATIENT_MS, &flags);
    let mut client = Client::connect(address);
    client.set("key", b"old");
    assert_eq!(ask(l1d.path(), "get key"), "VALUE key 0 3\r\nold\r\nEND\r\n");
    // A kill between the two tiers of a set leaves this behind.
    server.kill();
    assert_eq!(ask(l2.path(), "set key 0 0 3\r\nnew"), "STORED\r\n");
    let (_server, address) = sunder(&l1d, PATIENT_MS, &flags);
    let mut client = Client::connect(address);
    assert_eq!(client.get("key").as_deref(), Ok(&b"new"[..]));
    // L1 has it again.
    until("it is copied", || ask(l1d.path(), "get key") == "VALUE key 0 3\r\nnew\r\nEND\r\n");
}

#[test]
fn a_name_is_taken_once_and_a_dead_daemons_is_free() {
    let mut l1d = Memcached::start_l1d(64, 1).expect("it starts");
    let other = l1d.path().with_extension("other");
    let start = || {
        let mut command = Command::new(crate::support::SUNDER);
        command.env("RUNTIME_DIRECTORY", runtime_directory());
        command.args(["l1d", "--name", l1d.name(), "--sock-path"]).arg(&other);
        command.output().expect("it runs")
    };
    let refused = start();
    let line = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(75), "{line}");
    assert!(line.contains("--name: another daemon has this name") && line.lines().count() == 1);
    l1d.kill().expect("killed");
    l1d.restart().expect("its sockets are replaced");
    assert_eq!(ask(l1d.path(), "get nothing"), "END\r\n");
    l1d.kill().expect("killed");
    let path = rings(&l1d);
    std::fs::remove_file(&path).expect("it was left");
    std::fs::write(&path, "x").expect("a file");
    let mut command = Command::new(crate::support::SUNDER);
    command.env("RUNTIME_DIRECTORY", runtime_directory());
    let refused = command.args(["l1d", "--name", l1d.name()]).output().expect("it runs");
    let line = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(line.contains("is not a socket") && refused.status.code() == Some(1), "{line}");
}

#[test]
fn only_the_same_user_and_root_may_attach() {
    let l1d = Memcached::start_l1d(64, 1).expect("it starts");
    let path = rings(&l1d);
    let mode = std::fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Whoever could connect is asked by the daemon, too.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("it is ours");
    let as_user = |uid: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", uid, "--clear-groups", "nc", "-N", "-U"]).arg(&path);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let output = command.output().expect("setpriv runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(as_user("65534").contains("user 65534 may not attach"), "{:?}", as_user("65534"));
    assert!(!as_user("0").contains("may not attach"));
    let (_server, address) = sunder(&l1d, PATIENT_MS, &[]);
    Client::connect(address).set("key", b"value");
}

#[test]
fn a_missing_daemon_is_named_in_one_line() {
    let ended = run_sunder(&["serve", "-p", "1", "--l1", "shm,name=nobody"]).expect("it ends");
    assert_eq!(ended.status, 75, "{}", ended.stderr);
    let expected = "sunder: --l1: sunder l1d at shm:nobody: no server listens there";
    assert!(ended.stderr.starts_with(expected), "{}", ended.stderr);
}

#[test]
fn both_sides_sleep_when_there_is_nothing_to_do() {
    let l1d = Memcached::start_l1d(64, 1).expect("it starts");
    let (server, address) = sunder(&l1d, PATIENT_MS, &["--poll", "adaptive"]);
    let mut client = Client::connect(address);
    client.set("key", b"value");
    std::thread::sleep(Duration::from_millis(50));
    let busy_us = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("it runs");
        let ns: u64 = stat.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
        ns / 1000
    };
    let threads = |pid: u32| -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let ids =
            tasks.map(|task| task.expect("a task").file_name().to_string_lossy().into_owned());
        ids.map(|id| busy_us(id.parse().expect("a number"))).sum()
    };
    let before = [server.pid(), l1d.pid()].map(threads);
    std::thread::sleep(Duration::from_millis(500));
    let after = [server.pid(), l1d.pid()].map(threads);
    for (before, after) in before.into_iter().zip(after) {
        assert!(after - before < 100_000, "{} us of 500,000", after - before);
    }
    assert_eq!(client.get("key").as_deref(), Ok(&b"value"[..]), "the doorbell wakes both");
}
