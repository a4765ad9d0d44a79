//! Clients that have to log in: what memcached answers to the same lines, SASL's PLAIN, a file that
//! changes while the server runs, and files that cannot be used.

mod attempts;
mod hashed;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Server, free_port, free_socket_path, run_sunder};

/// A file of users of this test's own.
struct Users(PathBuf);

impl Users {
    fn new(content: &str) -> Users {
        let users = Users(free_socket_path().with_extension("users"));
        users.write(content);
        users
    }

    fn write(&self, content: &str) {
        fs::write(&self.0, content).expect("written");
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("ASCII")
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("it was made");
    }
}

fn connect(port: u16) -> TcpStream {
    let start = Instant::now();
    let client = loop {
        match TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))) {
            Ok(client) => break client,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    client
}

/// Sends each part, reads one answer of a line after it, and ends with a command whose answer says
/// whether the client is logged in.
fn answers(port: u16, parts: &[&[u8]]) -> Vec<String> {
    let mut client = connect(port);
    let mut said = Vec::new();
    for part in parts.iter().chain([&&b"get nothing\r\n"[..]]) {
        if client.write_all(part).is_err() {
            said.push("closed".to_owned());
            break;
        }
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            match client.read(&mut byte) {
                Ok(1) => line.push(byte[0]),
                _ => break,
            }
        }
        let is_closed = !line.ends_with(b"\r\n");
        said.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        if is_closed {
            said.push("closed".to_owned());
            break;
        }
    }
    said
}

fn set(value: &str) -> Vec<u8> {
    format!("set auth 0 0 {}\r\n{value}\r\n", value.len()).into_bytes()
}

#[test]
fn text_clients_log_in_as_at_memcached() {
    let users = Users::new("alice:secret\nbob:other:word\n");
    let port = free_port().to_string();
    let flags = ["-Y", users.path(), "--workers", "2", "-p", &port];
    let _sunder = Server::sunder(&flags).expect("it serves");
    let other_port = free_port();
    let mut command = Command::new("memcached");
    command.args(["-u", "root", "-U", "0", "-l", "127.0.0.1", "-m", "64", "-t", "1"]);
    command.args(["-p", &other_port.to_string(), "-Y", users.path()]);
    let _memcached = Server::start(command).expect("it runs");

    let (right, wrong, long) = (set("alice secret"), set("alice secreT"), set("alice x y z"));
    let (bob, none) = (set("bob other:word"), set("alice"));
    let very_long = set(&format!("alice {}", "x".repeat(300)));
    let no_end = [&b"set auth 0 0 12\r\nalice secretXX"[..]].concat();
    let split = [&right[..20], &right[20..]].concat();
    let cases: [&[&[u8]]; 16] = [
        &[],
        &[b"version\r\n", b"stats\r\n", b"flush_all\r\n"],
        &[&right],
        &[&right, b"set a 0 0 1\r\nx\r\n", b"delete a\r\n"],
        &[&wrong],
        &[&wrong, &right],
        &[&wrong, &wrong, &bob],
        &[&long],
        &[&none, &right],
        &[&very_long, &right],
        &[&no_end, &right],
        &[&split],
        &[b"add auth 0 0 12\r\n", b"mn\r\n", &right],
        &[b"set auth 0 0 12 noreply\r\nalice secret\r\n"],
        &[b"set\r\n", b"\r\n", b"quit\r\n", b"shutdown\r\n"],
        &[b"set any x y 12\nalice secret\r\n"],
    ];
    let port = port.parse().expect("a port");
    for parts in cases {
        let (own, other) = (answers(port, parts), answers(other_port, parts));
        let sent: Vec<String> = parts.iter().map(|part| part.escape_ascii().to_string()).collect();
        assert_eq!(own, other, "{sent:?}");
    }
    assert_eq!(answers(port, &[&right]), ["STORED", "END"]);
    assert_eq!(answers(port, &[]), ["CLIENT_ERROR unauthenticated"]);
    // memcached resets the connection, or waits for more than it reads.
    let too_long = ["CLIENT_ERROR auth token too long", "", "closed"];
    assert_eq!(answers(port, &[b"set auth 0 0 2049\r\n"]), too_long);
    let endless = [b'x'; 2048];
    assert_eq!(answers(port, &[&endless]), ["", "closed"]);
    // Each line has its answer, also of those that come together.
    let mut client = connect(port);
    let lines = [&b"get a\r\nget b\r\n"[..], &right, b"get nothing\r\nquit\r\n"].concat();
    client.write_all(&lines).expect("it reads");
    let mut all = String::new();
    client.read_to_string(&mut all).expect("it answers");
    let refused = "CLIENT_ERROR unauthenticated\r\n";
    assert_eq!(all, format!("{refused}{refused}STORED\r\nEND\r\n"));
}

/// A binary packet without extras.
fn packet(opcode: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, opcode];
    packet.extend((key.len() as u16).to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(((key.len() + value.len()) as u32).to_be_bytes());
    packet.extend([0; 12]);
    packet.extend(key);
    packet.extend(value);
    packet
}

/// Status and body of the answer; None: the connection has ended.
fn ask(client: &mut TcpStream, packet: &[u8]) -> Option<(u16, Vec<u8>)> {
    client.write_all(packet).ok()?;
    let mut head = [0; 24];
    client.read_exact(&mut head).ok()?;
    assert_eq!((head[0], head[1]), (0x81, packet[1]));
    let bytes = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
    let mut body = vec![0; bytes];
    client.read_exact(&mut body).expect("all of it");
    Some((u16::from_be_bytes([head[6], head[7]]), body))
}

#[test]
fn binary_clients_log_in_by_plain() {
    let users = Users::new("alice:secret\n");
    let port = free_port().to_string();
    let flags = ["--auth-file", users.path(), "--workers", "1", "-p", &port];
    let _sunder = Server::sunder(&flags).expect("it serves");
    let port = port.parse().expect("a port");
    let failure = Some((0x20, b"Auth failure.".to_vec()));
    let (right, get) = (packet(0x21, b"PLAIN", b"\0alice\0secret"), packet(0, b"nothing", b""));

    let mut client = connect(port);
    assert_eq!(ask(&mut client, &packet(0x20, b"", b"")), Some((0, b"PLAIN".to_vec())));
    assert_eq!(ask(&mut client, &packet(0x21, b"PLAIN", b"\0alice\0secreT")), failure);
    assert_eq!(ask(&mut client, &packet(0x21, b"PLAIN", b"\0bob\0secret")), failure);
    assert_eq!(ask(&mut client, &right), Some((0, b"Authenticated".to_vec())));
    assert_eq!(ask(&mut client, &get), Some((1, b"Not found".to_vec())));

    let mut hasty = connect(port);
    assert_eq!(ask(&mut hasty, &get), failure);
    assert_eq!(ask(&mut hasty, &right), None, "it has ended");

    // The protocol is that of the login.
    let mut mixed = connect(port);
    mixed.write_all(&right).expect("it reads");
    let mut answer = [0; 37];
    mixed.read_exact(&mut answer).expect("it answers");
    mixed.write_all(b"get nothing\r\nget nothing\r\n").expect("it reads");
    assert_eq!(mixed.read(&mut answer).unwrap_or(0), 0, "text is no packet");

    let mut client = connect(port);
    client.write_all(&set("alice secret")).expect("it reads");
    let mut line = [0; 8];
    client.read_exact(&mut line).expect("it answers");
    client.write_all(b"stats\r\nquit\r\n").expect("it reads");
    let mut stats = String::new();
    client.read_to_string(&mut stats).expect("it answers");
    assert!(stats.contains("STAT auth_cmds 5\r\n"), "{stats}");
    assert!(stats.contains("STAT auth_errors 2\r\n"), "{stats}");
}

#[test]
fn the_file_is_read_again_on_sighup() {
    let users = Users::new("alice:secret\n");
    let port = free_port().to_string();
    let flags = ["-Y", users.path(), "--workers", "1", "-p", &port];
    let mut sunder = Server::sunder(&flags).expect("it serves");
    let port = port.parse().expect("a port");
    let mut early = connect(port);
    early.write_all(&set("alice secret")).expect("it reads");
    let mut line = [0; 8];
    early.read_exact(&mut line).expect("it answers");

    let hang_up = |sunder: &Server| {
        let sent = Command::new("kill").args(["-HUP", &sunder.pid().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    };
    users.write("nobody\n");
    hang_up(&sunder);
    let said = format!("sunder: {} is not used, line 1 is not user:password", users.path());
    sunder.wait_for_line(&said).expect("it says so");
    assert_eq!(answers(port, &[&set("alice secret")]), ["STORED", "END"]);

    users.write("bob:new\n");
    hang_up(&sunder);
    sunder.wait_for_line(&format!("sunder: {} was read again", users.path())).expect("it says so");
    assert_eq!(answers(port, &[&set("bob new")]), ["STORED", "END"]);
    let refused = ["CLIENT_ERROR authentication failure", "CLIENT_ERROR unauthenticated"];
    assert_eq!(answers(port, &[&set("alice secret")]), refused);
    // Who was logged in stays so.
    early.write_all(b"get nothing\r\n").expect("it reads");
    let mut line = [0; 5];
    early.read_exact(&mut line).expect("it answers");
    assert_eq!(&line, b"END\r\n");
}

#[test]
fn a_file_that_cannot_be_used_ends_the_start() {
    let users = Users::new("alice\n");
    let comment = Users::new("alice:secret\n#bob:old\n");
    let cases = [
        (users.path(), 2, "line 1 is not user:password, of at most 255 bytes each"),
        (comment.path(), 2, "line 2 begins with #: there are no comments in this file"),
        ("/nonexistent/users", 1, "it cannot be read: No such file or directory"),
        ("/", 1, "it cannot be read: Is a directory"),
    ];
    for (path, status, reason) in cases {
        let ended = run_sunder(&["serve", "--auth-file", path]).expect("it ends");
        assert_eq!(ended.status, status, "{}", ended.stderr);
        let line = format!("--auth-file {path}: {reason}");
        assert!(ended.stderr.contains(&line), "{}", ended.stderr);
    }
}

/// Each tool, in each protocol, logs in on all its connections.
#[test]
fn the_tools_log_in() {
    let users = Users::new("alice:secret\nbob:other\n");
    let port = free_port().to_string();
    let words = ["-p", &port, "--workers", "1", "--auth-file", users.path()];
    let words = [&words[..], &["--login-attempts", "0"]].concat();
    let _server = Server::sunder(&words).expect("it starts");
    let wrong = Users::new("alice:other\n");
    let tools = [
        "setget -n 50 -w 2",
        "fill -n 50 -w 2",
        "sizes --value-bytes 1-1000 -w 2",
        "setops -n 50 -w 2 --keys 4",
        "blast -n 200 -w 4 --keys 4",
        "bench --keys 20 --connections 5 --threads 2 --warmup 0 --duration 0.2",
    ];
    for (tool, dialect) in tools
        .iter()
        .flat_map(|tool| ["--text", "--binary", "--meta"].map(|dialect| (tool, dialect)))
    {
        let run = |login: &[&str]| {
            let words = tool.split(' ').chain(["-p", &port, dialect]).chain(login.iter().copied());
            run_sunder(&words.collect::<Vec<_>>()).expect("it ends")
        };
        let ended = run(&["--login", users.path()]);
        assert_eq!((ended.status, &ended.stderr[..]), (0, ""), "{tool} {dialect}");
        // bench asks for the version on a connection of its own.
        let is_bench = tool.starts_with("bench");
        assert!(!is_bench || ended.stdout.contains("1.6.18"), "{dialect}: {}", ended.stdout);
        let ended = run(&["--login", wrong.path()]);
        assert_eq!(ended.status, 1, "{tool} {dialect}");
        let is_told = ended.stderr.contains("the server refuses the login (--login): '");
        assert!(is_told && !ended.stderr.contains("other"), "{tool} {dialect}: {}", ended.stderr);
        let ended = run(&[]);
        let is_told =
            ended.stderr.contains("; clients of this server have to log in: give --login");
        assert!(ended.status == 1 && is_told, "{tool} {dialect}: {}", ended.stderr);
    }
    let empty = Users::new("\n");
    let ended = run_sunder(&["setget", "--login", empty.path()]).expect("it ends");
    assert_eq!(ended.status, 2);
    assert!(ended.stderr.contains("the first line is not user:password"), "{}", ended.stderr);
}
