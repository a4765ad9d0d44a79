//! Lines for the operator: as text, as JSON and in a journal, which of them are written at which
//! level, and that nobody who does not read them holds anything up.

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::support::{PATIENCE, SUNDER, Server, free_port, free_socket_path, run_sunder};

fn connect(port: u16) -> TcpStream {
    let client = TcpStream::connect(("127.0.0.1", port)).expect("it listens there");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    client
}

fn ask(client: &mut TcpStream, request: &str, expected: &str) {
    client.write_all(request.as_bytes()).expect("it reads");
    let mut got = vec![0; expected.len()];
    client.read_exact(&mut got).expect("it answers");
    assert_eq!(String::from_utf8_lossy(&got), expected, "{request:?}");
}

/// A connection from 127.0.0.9, which is reset or refused.
fn refused(port: u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 9], 0)).into()).expect("the host has it");
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("it accepts");
    // It may be reset, or closed behind a line.
    let _ = TcpStream::from(socket).read_to_end(&mut Vec::new());
}

/// A file that is removed with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new(end: &str) -> Scratch {
        Scratch(free_socket_path().with_extension(end))
    }

    fn text(&self) -> String {
        self.0.to_str().expect("plain").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The lines of stderr, each an object.
fn objects(stderr: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    stderr.lines().map(parse).collect()
}

fn of<'o>(objects: &'o [Value], event: &str) -> Vec<&'o Value> {
    objects.iter().filter(|object| object["event"] == event).collect()
}

/// Starts `sunder serve` with JSON lines and waits until it serves.
fn start_json(flags: &[&str]) -> Server {
    let mut command = Command::new(SUNDER);
    command.args(["serve", "--workers", "1", "--log-format", "json"]).args(flags);
    let mut server = Server::start(command).expect("it starts");
    server.wait_for(&|said| said.contains("\"event\":\"ready\"")).expect("it serves");
    server
}

#[test]
fn text_is_as_it_always_was() {
    let port = free_port();
    let text = port.to_string();
    let words = ["-p", &text, "--workers", "1", "--max-connections", "1", "--bp", "9"];
    let mut server = Server::sunder(&words).expect("it serves");
    let mut client = connect(port);
    ask(&mut client, "get none\r\n", "END\r\n");
    refused(port);
    server.wait_for_line("sunder: a connection was refused: 1 are open").expect("told");
    let pid = server.pid();
    assert_eq!(server.terminate(), Ok(0));
    let said = server.stderr();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "sunder: --bp: the batch port stays closed, because there is no L2");
    let start = format!(", process {pid}: --l1 memory,size=64M --l2 none --max-item-size 1M ");
    assert!(lines[1].starts_with("sunder: version ") && lines[1].contains(&start), "{said}");
    assert_eq!(lines[2], format!("sunder: ready on 127.0.0.1:{port}, 1 worker"));
    assert!(lines[3].contains("the maximum; ") && lines[3].contains("--max-connections"), "{said}");
    assert_eq!(lines[4], "sunder: stopping: SIGTERM was received; 1 connection is open");
    assert_eq!(lines.len(), 5, "{said}");
    assert!(!said.contains('\x1b'), "{said}");
}

#[test]
fn a_machine_finds_start_degraded_tier_refusals_and_stop() {
    let l1_path = free_socket_path();
    let mut l1 = Server::memcached_at(&l1_path, 64).expect("an L1");
    let port = free_port();
    let (text, flag) = (port.to_string(), format!("memcached,addr=unix:{}", l1_path.display()));
    let flags = ["-p", &text, "--l1", &flag, "--allow", "127.0.0.1"];
    let mut server = start_json(&flags);
    let mut client = connect(port);
    ask(&mut client, "set k 0 0 1\r\nx\r\n", "STORED\r\n");
    l1.kill();
    server.wait_for(&|said| said.contains("\"event\":\"tier_down\"")).expect("it is told");
    for _ in 0..4 {
        refused(port);
    }
    let _ = fs::remove_file(&l1_path);
    let _l1 = Server::memcached_at(&l1_path, 64).expect("an L1");
    server.wait_for(&|said| said.contains("\"event\":\"tier_up\"")).expect("it is told");
    assert_eq!(server.terminate(), Ok(0));

    let all = objects(&server.stderr());
    for object in &all {
        let time = object["time"].as_str().expect("a time");
        let is_digit = |at: usize| time.as_bytes()[at].is_ascii_digit();
        assert!(time.len() == 24 && time.ends_with('Z') && &time[19..20] == ".", "{time}");
        assert!([0, 5, 8, 11, 14, 17, 20, 22].iter().all(|at| is_digit(*at)), "{time}");
        assert!(object["message"].is_string(), "{object}");
    }
    let is = |event: &str, level: &str| {
        let found = of(&all, event);
        assert!(!found.is_empty(), "no {event}: {}", server.stderr());
        assert!(found.iter().all(|object| object["level"] == level), "{found:?}");
        found[0].clone()
    };
    assert!(is("start", "info")["message"].as_str().is_some_and(|it| it.contains(" --l1 ")));
    assert_eq!(is("ready", "info")["address"], format!("tcp:127.0.0.1:{port}"));
    let down = is("tier_down", "warn");
    let address = format!("unix:{}", l1_path.display());
    assert_eq!((&down["tier"], &down["reason"]), (&"L1".into(), &"closed".into()), "{down}");
    assert_eq!(down["address"], address);
    assert!(down["message"].as_str().is_some_and(|it| it.contains("start it again")), "{down}");
    assert_eq!(is("tier_up", "info")["address"], address);
    let stop = is("stopping", "info");
    assert_eq!(stop["message"], "stopping: SIGTERM was received; 1 connection is open");
    assert_eq!(stop["count"], 1);

    // A burst is a line, and one with the rest, at the end of ten seconds or of the process.
    is("connection_refused", "warn");
    let told = of(&all, "connection_refused");
    let [first, rest] = &told[..] else { panic!("{told:?}") };
    for object in [first, rest] {
        assert_eq!(object["reason"], "not_allowed");
        assert_eq!(object["address"], "127.0.0.9");
    }
    assert_eq!((&first["suppressed"], &rest["suppressed"]), (&Value::Null, &3.into()));
    assert!(rest["message"].as_str().is_some_and(|it| it.contains("(3 more since")), "{rest}");
}

#[test]
fn a_failed_start_is_a_line_of_the_same_format() {
    let port = free_port();
    let text = port.to_string();
    let _first = Server::sunder(&["-p", &text, "--workers", "1"]).expect("it serves");
    let words = ["serve", "-p", &text, "--workers", "1", "--log-format", "json"];
    let ended = run_sunder(&words).expect("it ends");
    assert_eq!(ended.status, 75);
    let all = objects(&ended.stderr);
    let [failed] = &all[..] else { panic!("{}", ended.stderr) };
    assert_eq!((&failed["level"], &failed["event"]), (&"error".into(), &"failed".into()));
    let line = failed["message"].as_str().expect("text");
    assert!(line.starts_with(&format!("cannot listen on 127.0.0.1:{port}: ")), "{line}");

    let words = [&words[..5], &["--log-level", "error"]].concat();
    let ended = run_sunder(&words).expect("it ends");
    assert_eq!((ended.status, ended.stderr), (75, format!("sunder: {line}\n")));
}

#[test]
fn a_level_leaves_out_what_is_below_it() {
    // What is told at a level, and not one below it.
    let told = |level: &str, more: &[&str]| {
        let port = free_port();
        let text = port.to_string();
        let mut command = Command::new(SUNDER);
        command.args(["serve", "--workers", "1", "-p", &text, "--huge", "off"]);
        command.args(["--log-level", level]).args(more);
        let mut server = Server::start(command).expect("it starts");
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.is_alive() && start.elapsed() < PATIENCE, "{}", server.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut client = connect(port);
        ask(&mut client, "flush_all\r\n", "OK\r\n");
        assert_eq!(server.terminate(), Ok(0));
        server.stderr()
    };
    assert_eq!(told("error", &[]), "");
    let note = "sunder: --huge: has no effect without --device\n";
    assert_eq!(told("warn", &[]), note);
    let info = told("info", &[]);
    assert!(info.starts_with(note) && info.contains("sunder: ready on"), "{info}");
    assert!(!info.contains("flushes") && !info.contains("sunder: connection "), "{info}");
    let debug = told("debug", &[]);
    for line in ["worker 0 runs", "a client flushes all items", " is open\n", " is closed\n"] {
        assert!(debug.contains(line), "{line}: {debug}");
    }
    // memcached's flag asks for its lines, whatever the level is.
    assert_eq!(told("error", &["-v"]), "sunder: a client flushes all items\n");
}

#[test]
fn a_hangup_changes_the_level_and_names_what_needs_a_restart() {
    let (port, file) = (free_port(), Scratch::new("toml"));
    let text = port.to_string();
    let write = |text: &str| fs::write(&file.0, text).expect("a file");
    write("log-level = 'info'\n");
    let words = ["--config", &file.text(), "-p", &text, "--workers", "1"];
    let mut server = Server::sunder(&words).expect("it serves");
    let mut client = connect(port);
    ask(&mut client, "flush_all\r\n", "OK\r\n");
    write("log-level = 'debug'\nlog-format = 'json'\nlog-to = 'journal'\n");
    server.signal(Signal::HUP);
    let line = format!(
        "sunder: {} was read again; changed: --log-level; needs a restart: --log-format, --log-to",
        file.0.display()
    );
    server.wait_for_line(&line).expect("it is told");
    ask(&mut client, "flush_all\r\n", "OK\r\n");
    server.wait_for_line("sunder: a client flushes all items").expect("it is told");
    assert_eq!(server.stderr().matches("flushes").count(), 1, "{}", server.stderr());

    write("log-level = 'loud'\n");
    server.signal(Signal::HUP);
    server.wait_for(&|said| said.contains("all settings stay as they were")).expect("told");
    let wrong = format!("sunder serve: {}:1: log-level: ", file.0.display());
    let said = server.stderr();
    assert!(said.lines().any(|line| line.starts_with(&wrong)), "{said}");

    write("log-level = 'error'\n");
    server.signal(Signal::HUP);
    // The reload itself is no error any more.
    let start = Instant::now();
    loop {
        let before = server.stderr().matches("flushes").count();
        ask(&mut client, "flush_all\r\n", "OK\r\n");
        std::thread::sleep(Duration::from_millis(20));
        if server.stderr().matches("flushes").count() == before {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{}", server.stderr());
    }
    let before = server.stderr();
    assert_eq!(server.terminate(), Ok(0));
    assert_eq!(server.stderr(), before, "a stop is no error");
}

/// The fields of a datagram in journald's protocol, of values without a line end.
fn fields(journal: &UnixDatagram) -> Vec<(String, String)> {
    let mut datagram = vec![0; 1 << 16];
    let length = journal.recv(&mut datagram).expect("a line");
    let text = std::str::from_utf8(&datagram[..length]).expect("UTF-8");
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{text}"));
        (name.to_owned(), value.to_owned())
    };
    text.lines().map(pair).collect()
}

fn field<'f>(fields: &'f [(String, String)], name: &str) -> &'f str {
    fields.iter().find(|(it, _)| it == name).map_or("", |(_, value)| value)
}

fn journal_at(path: &Path) -> UnixDatagram {
    let journal = UnixDatagram::bind(path).expect("a socket");
    journal.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    journal
}

#[test]
fn a_journal_gets_levels_and_fields_and_standard_error_nothing() {
    let (port, socket) = (free_port(), Scratch::new("journal"));
    let mut journal = journal_at(&socket.0);
    let (text, place) = (port.to_string(), format!("journal,path={}", socket.text()));
    let mut command = Command::new(SUNDER);
    command.args(["serve", "--workers", "1", "-p", &text, "--log-to", &place]);
    command.args(["--allow", "127.0.0.1", "--log-format", "json"]);
    let mut server = Server::start(command).expect("it starts");
    let next = |event: &str, priority: &str, journal: &UnixDatagram| {
        let fields = fields(journal);
        assert_eq!(field(&fields, "SUNDER_EVENT"), event, "{fields:?}");
        assert_eq!(field(&fields, "PRIORITY"), priority, "{fields:?}");
        assert_eq!(field(&fields, "SYSLOG_IDENTIFIER"), "sunder");
        fields
    };
    let note = next("no_effect", "4", &journal);
    assert!(field(&note, "MESSAGE").starts_with("--log-format: has no effect"), "{note:?}");
    next("start", "6", &journal);
    let ready = next("ready", "6", &journal);
    assert_eq!(field(&ready, "MESSAGE"), format!("ready on 127.0.0.1:{port}, 1 worker"));
    refused(port);
    let refusal = next("connection_refused", "4", &journal);
    assert_eq!(field(&refusal, "SUNDER_REASON"), "not_allowed");
    assert_eq!(field(&refusal, "SUNDER_ADDRESS"), "127.0.0.9");

    // A journal that is gone for a while loses lines, which is told to the next one.
    drop(journal);
    fs::remove_file(&socket.0).expect("it is there");
    let mut client = connect(port);
    ask(&mut client, "verbosity 1\r\n", "OK\r\n");
    ask(&mut client, "version\r\n", "VERSION 1.6.18\r\n");
    std::thread::sleep(Duration::from_millis(50));
    journal = journal_at(&socket.0);
    ask(&mut client, "flush_all\r\n", "OK\r\n");
    next("command", "7", &journal);
    let lost = next("lines_lost", "4", &journal);
    assert!(field(&lost, "MESSAGE").ends_with(" could not be written here"), "{lost:?}");
    assert_eq!(server.terminate(), Ok(0));
    next("stopping", "6", &journal);
    assert_eq!(server.stderr(), "");
}

#[test]
fn a_start_without_its_journal_says_so() {
    let words = ["serve", "-p", &free_port().to_string(), "--log-to", "journal,path=/nowhere/at"];
    let ended = run_sunder(&words).expect("it ends");
    let line = "sunder: --log-to: no journal at /nowhere/at: No such file or directory (os error \
                2); start systemd-journald, or use --log-to stderr\n";
    assert_eq!((ended.status, &ended.stderr[..]), (1, line));
    let words = ["doctor", "--log-to", "journal,path=/nowhere/at"];
    let ended = run_sunder(&words).expect("it ends");
    assert!(ended.stdout.contains("no journal at /nowhere/at"), "{}", ended.stdout);
    for (flag, value, expected) in [
        ("--log-to", "syslog", "expected stderr, journal or journal,path=PATH"),
        ("--log-level", "loud", "possible values: error, warn, info, debug"),
        ("--log-format", "xml", "possible values: text, json"),
    ] {
        let ended = run_sunder(&["serve", flag, value]).expect("it ends");
        assert_eq!(ended.status, 2, "{flag} {value}");
        assert!(
            ended.stderr.contains(value) && ended.stderr.contains(expected),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_daemon_for_processes_of_this_host_has_the_same_flags() {
    let folder = crate::support::runtime_directory();
    let mut command = Command::new(SUNDER);
    command.env("RUNTIME_DIRECTORY", &folder);
    command.args(["l1d", "--name", "logs", "--log-format", "json", "--log-level", "debug"]);
    let mut daemon = Server::start(command).expect("it starts");
    daemon.wait_for(&|said| said.contains("\"event\":\"ready\"")).expect("it serves");
    assert_eq!(daemon.terminate(), Ok(0));
    let all = objects(&daemon.stderr());
    for event in ["worker", "start", "ready", "stopping"] {
        assert_eq!(of(&all, event).len(), 1, "{event}: {}", daemon.stderr());
    }
}

/// A server whose standard error is a pipe that nobody reads.
struct Unread {
    child: Child,
    pipe: PipeReader,
    port: u16,
}

impl Unread {
    /// It tells each connection.
    fn start() -> Unread {
        let port = free_port();
        let (pipe, end) = std::io::pipe().expect("a pipe");
        let mut command = Command::new(SUNDER);
        command.args(["serve", "-vv", "--workers", "2", "-p", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(end);
        let child = command.spawn().expect("it starts");
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "it does not serve");
            std::thread::sleep(Duration::from_millis(2));
        }
        Unread { child, pipe, port }
    }

    /// Opens connections until far more lines were told than pipe and queue have room for.
    fn fill(&self) {
        for _ in 0..4_000 {
            ask(&mut connect(self.port), "get none\r\n", "END\r\n");
        }
    }

    /// Whether the thread that writes lines waits for the pipe's reader.
    fn is_stuck(&self) -> bool {
        let folder = format!("/proc/{}/task", self.child.id());
        fs::read_dir(folder).expect("it lives").any(|task| {
            let task = task.expect("readable").path();
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            let call = fs::read_to_string(task.join("syscall")).unwrap_or_default();
            // write(2, ..)
            name == "sunder-report\n" && call.starts_with("1 0x2 ")
        })
    }

    /// SIGTERM; the status with which it ended.
    fn terminate(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process");
        kill_process(pid, Signal::TERM).expect("it is ours");
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nobody_who_reads_no_lines_holds_up_requests_or_a_stop() {
    let mut server = Unread::start();
    server.fill();
    assert!(server.is_stuck(), "the pipe is not full");
    let mut clients = [connect(server.port), connect(server.port)];
    let mut slowest = Duration::ZERO;
    for number in 0..2_000 {
        for client in &mut clients {
            let start = Instant::now();
            ask(client, &format!("set k{number} 0 0 1\r\nx\r\n"), "STORED\r\n");
            slowest = slowest.max(start.elapsed());
        }
    }
    println!("slowest of 4,000 sets beside a full pipe: {slowest:?}");
    // Not a test of time: whoever waits for the pipe waits for ever.
    assert!(server.is_stuck(), "somebody has read the pipe");
    assert_eq!(server.terminate(), Some(0), "the last lines are given up");
}

#[test]
fn lines_that_were_dropped_are_counted_when_somebody_reads_again() {
    let mut server = Unread::start();
    server.fill();
    assert!(server.is_stuck(), "the pipe is not full");
    let pipe = server.pipe.try_clone().expect("a descriptor");
    let reader = std::thread::spawn(move || {
        let lines: Vec<String> = BufReader::new(pipe).lines().map_while(Result::ok).collect();
        lines
    });
    // It reads on until the end.
    while server.is_stuck() {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(server.terminate(), Some(0));
    let lines = reader.join().expect("it reads to the end");
    let dropped: u64 = lines
        .iter()
        .filter(|line| line.ends_with(" lines were dropped here: the queue was full"))
        .map(|line| line.split(' ').nth(1).expect("a number").parse::<u64>().expect("a number"))
        .sum();
    let told = lines.iter().filter(|line| line.starts_with("sunder: connection ")).count() as u64;
    assert!(dropped > 1_000, "{dropped}");
    // Each connection is told twice; a few were opened to see whether it serves.
    assert!((8_000..8_100).contains(&(told + dropped)), "{told} and {dropped}");
    let last = lines.last().expect("a line");
    assert!(last.starts_with("sunder: stopping: SIGTERM was received; "), "{last}");
}
