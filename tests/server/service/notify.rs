//! The test plays the part of systemd: it listens where `NOTIFY_SOCKET` says.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;

use crate::support::{PATIENCE, SUNDER, Server, free_port, free_socket_path};

/// Fed four times in it.
const WATCHDOG: Duration = Duration::from_millis(800);

struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new() -> Manager {
        let path = free_socket_path();
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Manager { socket, path }
    }

    fn start(&self, flags: &[&str]) -> Server {
        let mut command = Command::new(SUNDER);
        command.arg("serve").args(flags).env("NOTIFY_SOCKET", &self.path);
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        Server::start(command).expect("it starts")
    }

    /// The next message within this time.
    fn next(&self, within: Duration) -> Option<String> {
        let mut bytes = [0; 4096];
        self.socket.set_read_timeout(Some(within)).expect("a time-out");
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).expect("text"))
    }

    /// Reads until a message has a line that begins so; returns that line.
    fn wait_for(&self, start: &str) -> String {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let message = self.next(PATIENCE).expect("a message");
            if let Some(line) = message.lines().find(|line| line.starts_with(start)) {
                return line.to_owned();
            }
        }
        panic!("no {start}");
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        fs::remove_file(&self.path).expect("it is there");
    }
}

/// The thread of a worker.
fn worker(server: &Server, number: usize) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let paths = tasks.map(|task| task.expect("readable").path());
    let name = format!("worker-{number}\n");
    let is_it = |path: &PathBuf| fs::read_to_string(path.join("comm")).unwrap_or_default() == name;
    let path = paths.into_iter().find(is_it).expect("a worker");
    let id = path.file_name().and_then(|it| it.to_str()).expect("a number");
    Pid::from_raw(id.parse().expect("a number"))
}

#[test]
fn a_service_manager_hears_of_the_start_of_reloads_of_a_worker_that_hangs_and_of_the_stop() {
    let manager = Manager::new();
    let port = free_port().to_string();
    let mut server = manager.start(&["-p", &port, "--workers", "2"]);
    assert_eq!(manager.wait_for("READY="), "READY=1");
    for _ in 0..6 {
        assert_eq!(manager.wait_for("WATCHDOG="), "WATCHDOG=1");
    }

    server.signal(Signal::HUP);
    assert_eq!(manager.wait_for("RELOADING="), "RELOADING=1");
    manager.wait_for("READY=1");

    // One thread of all: the process lives, and its other worker serves.
    let hung = worker(&server, 1);
    ptrace::seize(hung, ptrace::Options::empty()).expect("a child");
    ptrace::interrupt(hung).expect("it runs");
    waitpid(hung, Some(WaitPidFlag::__WALL)).expect("it stops");
    assert_eq!(manager.wait_for("STATUS=worker"), "STATUS=worker 1 hangs: the watchdog is not fed");
    server.wait_for_line("sunder: worker 1 hangs").expect("it says so");
    let begun = Instant::now();
    while let Some(left) = (2 * WATCHDOG).checked_sub(begun.elapsed()) {
        let fed = manager.next(left.max(Duration::from_millis(1)));
        assert!(!fed.is_some_and(|it| it.contains("WATCHDOG=1")), "a worker hangs");
    }
    ptrace::detach(hung, None).expect("it is stopped");
    manager.wait_for("WATCHDOG=1");
    assert_eq!(manager.wait_for("STATUS="), "STATUS=serving: 2 workers, 0 connections");

    assert_eq!(server.terminate().expect("it ends"), 0);
    assert_eq!(manager.wait_for("STOPPING="), "STOPPING=1");
}

#[test]
fn a_reload_has_its_time_and_a_failed_start_is_never_ready() {
    let manager = Manager::new();
    let path = free_socket_path().with_extension("toml");
    let port = free_port();
    let mut file = fs::File::create(&path).expect("a file");
    writeln!(file, "port = {port}\nworkers = 1").expect("written");
    let server = manager.start(&["--config", path.to_str().expect("plain")]);
    manager.wait_for("READY=1");
    server.signal(Signal::HUP);
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "no reload");
        let message = manager.next(PATIENCE).expect("a message");
        if message.contains("RELOADING=1") {
            let time = message.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
            assert!(time.expect("a time").parse::<u64>().expect("a number") > 0, "{message}");
            break;
        }
    }
    manager.wait_for("READY=1");

    let other = Manager::new();
    let mut failed = other.start(&["-p", &port.to_string(), "--workers", "1"]);
    while failed.is_alive() {
        assert!(begun.elapsed() < PATIENCE, "the port is taken");
        std::thread::yield_now();
    }
    while let Some(message) = other.next(Duration::from_millis(1)) {
        assert!(!message.contains("READY=1"), "{message}");
    }
    fs::remove_file(path).expect("it is there");
}

/// Ends the process that took over, by its id.
struct Successor(rustix::process::Pid);

impl Successor {
    fn of(line: &str) -> Successor {
        let id = line.strip_prefix("MAINPID=").expect("an id").parse().expect("a number");
        Successor(rustix::process::Pid::from_raw(id).expect("not 0"))
    }

    fn end(&self) {
        let _ = rustix::process::kill_process(self.0, Signal::TERM);
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn a_binary_that_was_replaced_takes_over_as_the_same_service() {
    let manager = Manager::new();
    let folder = free_socket_path().with_extension("d");
    fs::create_dir(&folder).expect("a folder");
    let binary = folder.join("sunder");
    let install = |from: &dyn Fn(&std::path::Path)| {
        let new = folder.join("new");
        from(&new);
        fs::rename(&new, &binary).expect("replaced");
    };
    let good = |path: &std::path::Path| assert!(fs::copy(SUNDER, path).is_ok());
    install(&good);
    let port = free_port().to_string();
    let mut command = Command::new(&binary);
    command.args(["serve", "-p", &port, "--workers", "1"]).env("NOTIFY_SOCKET", &manager.path);
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let mut old = Server::start(command).expect("it starts");
    manager.wait_for("READY=1");

    // One that fails changes nothing.
    install(&|path| {
        fs::write(path, "#!/bin/sh\nexit 3\n").expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    });
    old.signal(Signal::USR2);
    old.wait_for(&|told| told.contains("was to take over and has ended (exit status: 3)"))
        .expect("it is told");
    let mut client = TcpStream::connect(("127.0.0.1", port.parse().expect("a port"))).expect("up");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    client.write_all(b"version\r\n").expect("it reads");
    client.read_exact(&mut [0; 16]).expect("it answers");

    install(&good);
    old.signal(Signal::USR2);
    let next = Successor::of(&manager.wait_for("MAINPID="));
    assert_ne!(next.0.as_raw_nonzero().get().unsigned_abs(), old.pid());
    // Nothing says that the service stops.
    let mut told = String::new();
    while !told.contains("READY=1") {
        told = manager.next(PATIENCE).expect("it starts");
        assert!(!told.contains("STOPPING"), "{told}");
    }
    manager.wait_for("WATCHDOG=1");
    let begun = Instant::now();
    while old.is_alive() {
        assert!(begun.elapsed() < PATIENCE, "it has handed over");
        std::thread::yield_now();
    }
    let mut client = TcpStream::connect(("127.0.0.1", port.parse().expect("a port"))).expect("up");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    client.write_all(b"version\r\n").expect("it reads");
    client.read_exact(&mut [0; 16]).expect("it answers");
    next.end();
    manager.wait_for("STOPPING=1");
    fs::remove_dir_all(&folder).expect("it is there");
}
