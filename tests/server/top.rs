//! `sunder stat` and `sunder top` as an operator runs them: against a server, against what is none,
//! and against one that goes away; on a pseudo-terminal, which is left as it was.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::support::client::Client;
use crate::support::{PATIENCE, SUNDER, Server, free_port, run_sunder};

struct Running {
    server: Server,
    port: u16,
    admin: String,
}

fn start() -> Running {
    let (port, admin) = (free_port(), format!("127.0.0.1:{}", free_port()));
    let flags = ["-p", &port.to_string(), "--admin", &admin, "-t", "1", "--l1", "memory,size=64M"];
    Running { server: Server::sunder(&flags).expect("it starts"), port, admin }
}

impl Running {
    fn client(&self) -> Client {
        Client::connect(SocketAddr::from(([127, 0, 0, 1], self.port)))
    }
}

/// Its process, killed when dropped.
struct Process(Child);

impl Process {
    fn stat(words: &[&str]) -> Process {
        let mut command = Command::new(SUNDER);
        command.arg("stat").args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        Process(command.spawn().expect("it starts"))
    }

    /// Its exit status and what it said on standard error.
    fn end(&mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        while self.0.try_wait().expect("it is ours").is_none() {
            assert!(start.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut said = String::new();
        if let Some(stderr) = self.0.stderr.as_mut() {
            stderr.read_to_string(&mut said).expect("text");
        }
        (self.0.wait().expect("it ended").code(), said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn stat_prints_each_second_once_until_the_server_goes_away() {
    let mut it = start();
    let mut client = it.client();
    client.set("key", b"value");
    let mut stat = Process::stat(&[&it.admin, "--json"]);
    let mut lines = BufReader::new(stat.0.stdout.take().expect("piped")).lines();
    let (mut gets, mut at) = (0.0, Vec::new());
    while gets < 1.0 || at.len() < 2 {
        client.get("key").expect("a hit");
        let line = lines.next().expect("a line").expect("text");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        gets += line["gets"].as_f64().expect("a rate");
        at.push(line["at"].as_u64().expect("a time"));
        assert_eq!(line["connections"], 1);
        assert!(line["l2_ratio"].as_f64().unwrap_or(0.0) == 0.0, "{line}");
    }
    assert!(at.windows(2).all(|two| two[0] < two[1]), "{at:?}");
    it.server.kill();
    let (status, said) = stat.end();
    assert_eq!((status, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with(&format!("sunder stat: {}: ", it.admin)), "{said}");
}

#[test]
fn stat_prints_plain_columns_into_a_pipe() {
    let mut it = start();
    let ended = run_sunder(&["stat", &it.admin, "--count", "1"]).expect("it ends");
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    let names = lines[0].split_whitespace().count();
    assert_eq!((lines.len(), words.len(), names), (2, 14, 14), "{}", ended.stdout);
    assert!(words[0].split(':').count() == 3 && words[3] == "-", "{words:?}");
    // On a terminal the names come again and again.
    let command = format!("{SUNDER} stat {} --count 1", it.admin);
    let shown = Command::new("script").args(["-qec", &command, "/dev/null"]).output();
    let shown = String::from_utf8(shown.expect("script runs").stdout).expect("text");
    assert!(shown.starts_with("time-UTC "), "{shown}");
    assert_eq!(it.server.terminate(), Ok(0));
}

#[test]
fn what_is_no_sunder_is_one_clear_line() {
    let answers = |answer: &'static str| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(answer.as_bytes());
        });
        address
    };
    let json = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    for (address, expected) in [
        (format!("127.0.0.1:{}", free_port()), "nothing listens there"),
        ("no.such.name.invalid:1".to_owned(), "no address of that name"),
        (answers("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "with status 404"),
        (answers("ERROR\r\n"), "it answered something else"),
        (answers(""), "it answered nothing"),
        (answers(json), "with something else than a feed"),
        (answers("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), "the answer broke off"),
    ] {
        let ended = run_sunder(&["stat", &address]).expect("it ends");
        assert_eq!((ended.status, ended.stdout.as_str()), (1, ""), "{address}");
        let said = ended.stderr;
        assert!(said.starts_with(&format!("sunder stat: {address}: ")), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
    }
    let ended = run_sunder(&["top", "127.0.0.1:1"]).expect("it ends");
    assert_eq!(ended.status, 1);
    assert!(ended.stderr.contains("needs a terminal"), "{}", ended.stderr);
}

/// top on a pseudo-terminal of 80 by 24 that `script` makes. What the terminal was set to before
/// and after is printed too, and the exit status.
struct Screen {
    script: Process,
    shown: Arc<Mutex<String>>,
}

impl Screen {
    fn start(admin: &str) -> Screen {
        let words = format!(
            "stty cols 80 rows 24; echo set=$(stty -g).; {SUNDER} top {admin}; echo status=$?; \
             echo set=$(stty -g)."
        );
        let mut command = Command::new("script");
        command.args(["-qefc", &words, "/dev/null"]).env("TERM", "xterm");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut script = Process(command.spawn().expect("script runs"));
        let mut pipe = script.0.stdout.take().expect("piped");
        let shown = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut piece = [0; 4_096];
            while let Ok(count @ 1..) = pipe.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..count]).into_owned();
                sink.lock().expect("only readers").push_str(&text);
            }
        });
        Screen { script, shown }
    }

    fn text(&self) -> String {
        self.shown.lock().expect("only the reader").clone()
    }

    fn until(&self, what: &str) {
        let start = Instant::now();
        while !self.text().contains(what) {
            assert!(start.elapsed() < PATIENCE, "{what}: {}", self.text().escape_debug());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until something is written after something else.
    fn until_after(&self, first: &str, what: &str) {
        let start = Instant::now();
        while !self.text().rsplit(first).next().is_some_and(|rest| rest.contains(what)) {
            assert!(start.elapsed() < PATIENCE, "{what}: {}", self.text().escape_debug());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&mut self, key: &[u8]) {
        let stdin = self.script.0.stdin.as_mut().expect("piped");
        stdin.write_all(key).expect("the terminal lives");
        stdin.flush().expect("it lives");
    }

    /// Waits for its end; the terminal has to be as before, on its first screen, with a cursor.
    fn is_restored(&mut self) {
        self.until("status=");
        self.script.end();
        let text = self.text();
        let set: Vec<&str> =
            text.split("set=").skip(1).filter_map(|part| part.split('.').next()).collect();
        assert_eq!(set.len(), 2, "{}", text.escape_debug());
        assert_eq!(set[0], set[1]);
        let after = |on: &str, off: &str| {
            assert!(text.rfind(off) > text.rfind(on), "{off:?}: {}", text.escape_debug());
        };
        after("\x1b[?1049h", "\x1b[?1049l");
        after("\x1b[?25l", "\x1b[?25h");
    }
}

#[test]
fn top_shows_a_server_and_says_when_it_is_lost_and_back() {
    let mut it = start();
    it.client().set("key", b"value");
    let mut screen = Screen::start(&it.admin);
    screen.until("nothing needs attention");
    screen.until("memory,size=64M");
    it.server.kill();
    screen.until("reachable");
    let flags = ["-p", &it.port.to_string(), "--admin", &it.admin, "--l1", "memory,size=32M"];
    it.server = Server::sunder(&flags).expect("it starts");
    // Only what differs is written again: of "64M" and "32M" the digits, and of the line about
    // the lost server all.
    screen.until_after("not reachable for", "nothing needs attention");
    screen.press(b"q");
    screen.is_restored();
    assert!(screen.text().contains("status=0"), "{}", screen.text());
    assert_eq!(it.server.terminate(), Ok(0));
}

/// The process `sunder top ADDRESS`.
fn pid_of_top(admin: &str) -> Option<Pid> {
    let wanted = format!("top\0{admin}\0");
    std::fs::read_dir("/proc").expect("proc").flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        (words.starts_with(SUNDER) && words.ends_with(&wanted)).then(|| Pid::from_raw(pid))?
    })
}

#[test]
fn top_ends_when_its_terminal_is_gone() {
    let mut it = start();
    let mut screen = Screen::start(&it.admin);
    screen.until("nothing needs attention");
    let top = pid_of_top(&it.admin).expect("it runs");
    // With the process that has the other end of the terminal.
    screen.script.0.kill().expect("it is ours");
    let start = Instant::now();
    while test_kill_process(top).is_ok() {
        assert!(start.elapsed() < PATIENCE, "it goes on without a terminal");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(it.server.terminate(), Ok(0));
}

#[test]
fn top_restores_the_terminal_after_a_signal_and_ctrl_c() {
    let mut it = start();
    let mut screen = Screen::start(&it.admin);
    screen.until("nothing needs attention");
    kill_process(pid_of_top(&it.admin).expect("it runs"), Signal::TERM).expect("it is ours");
    screen.is_restored();
    let mut screen = Screen::start(&it.admin);
    screen.until("nothing needs attention");
    screen.press(b"\x03");
    screen.is_restored();
    assert_eq!(it.server.terminate(), Ok(0));
}
