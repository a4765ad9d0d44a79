//! How a server stops on kernel sockets, and the effect of a pause of its process on clients. For a
//! device, tests/appliance.sh tests the same.

use crate::support::{PATIENCE, Server, free_port, free_socket_path};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 900_000;

/// More than the kernel buffers for a client that does not read.
const VALUES: usize = 12;

/// How long sunder continues for clients that do not read their replies.
const DRAIN: Duration = Duration::from_secs(5);

fn start(more: &[&str]) -> (Server, u16) {
    let port = free_port();
    let text = port.to_string();
    let args = ["-p", &text, "--workers", "2", "--poll", "adaptive"];
    (Server::sunder(&[&args[..], more].concat()).expect("sunder serves"), port)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Requests a missing key.
fn answered(stream: &mut TcpStream) {
    stream.write_all(b"get nothing\r\n").expect("not reset");
    let mut end = [0; 5];
    stream.read_exact(&mut end).expect("an answer");
    assert_eq!(&end, b"END\r\n");
}

fn signal(server: &Server, name: &str) {
    let status = Command::new("kill").args([name, &server.pid().to_string()]).status();
    assert!(status.expect("kill").success());
}

/// Stores a value, and requests it many times in one line.
fn ask_for_much(stream: &mut (impl Read + Write)) {
    write!(stream, "set big 0 0 {VALUE_BYTES}\r\n").unwrap();
    stream.write_all(&vec![b'v'; VALUE_BYTES]).unwrap();
    stream.write_all(b"\r\n").unwrap();
    let mut stored = [0; 8];
    stream.read_exact(&mut stored).unwrap();
    assert_eq!(&stored, b"STORED\r\n");
    writeln!(stream, "get{}\r", " big".repeat(VALUES)).unwrap();
}

/// Slowly reads the replies to [`ask_for_much`] from a server that is told to stop meanwhile.
fn read_slowly(server: &mut Server, stream: impl Read) {
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let mut line = String::new();
    let mut value = vec![0; VALUE_BYTES + 2];
    for n in 0..VALUES {
        line.clear();
        reader.read_line(&mut line).unwrap_or_else(|error| panic!("value {n}: {error}"));
        assert_eq!(line, format!("VALUE big 0 {VALUE_BYTES}\r\n"), "value {n}");
        if n == 0 {
            signal(server, "-TERM");
        }
        for piece in value.chunks_mut(64 * 1024) {
            reader.read_exact(piece).unwrap_or_else(|error| panic!("in value {n}: {error}"));
            thread::sleep(Duration::from_millis(2));
        }
        assert!(value[..VALUE_BYTES].iter().all(|&byte| byte == b'v'));
    }
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("a regular close");
    assert_eq!(rest, "END\r\n");
    assert_eq!(server.terminate().expect("it ends"), 0, "{}", server.stderr());
}

#[test]
fn a_slow_reader_gets_all_replies_over_tcp() {
    let (mut server, port) = start(&[]);
    let mut stream = connect(port);
    ask_for_much(&mut stream);
    read_slowly(&mut server, stream);
}

#[test]
fn a_slow_reader_gets_all_replies_over_a_unix_socket() {
    let path = free_socket_path();
    let text = path.to_str().unwrap();
    let args = ["--use-domain-socket", "--sock-path", text, "--workers", "2"];
    let mut server = Server::sunder(&args).expect("sunder serves");
    let mut stream = UnixStream::connect(&path).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    ask_for_much(&mut stream);
    read_slowly(&mut server, stream);
}

/// Neither an idle client nor one with an incomplete request delays the end, and each sees a
/// regular close.
#[test]
fn clients_without_pending_replies_are_not_waited_for() {
    let (mut server, port) = start(&[]);
    let (mut idle, mut halves, mut body) = (connect(port), connect(port), connect(port));
    for stream in [&mut idle, &mut halves, &mut body] {
        answered(stream);
    }
    halves.write_all(b"set half 0 0 100\r\nabc").unwrap();
    body.write_all(b"set body 0 0 1000000\r\nabc").unwrap();
    let begun = Instant::now();
    assert_eq!(server.terminate().expect("it ends"), 0);
    assert!(begun.elapsed() < DRAIN - Duration::from_secs(1), "{:?}", begun.elapsed());
    for stream in [&mut idle, &mut halves, &mut body] {
        assert_eq!(stream.read(&mut [0; 10]).expect("no reset"), 0);
    }
}

#[test]
fn a_second_signal_ends_the_wait_for_a_client_that_does_not_read() {
    let (mut server, port) = start(&["--drain", "600"]);
    let mut stream = connect(port);
    ask_for_much(&mut stream);
    stream.read_exact(&mut [0; 5]).unwrap();
    signal(&server, "-TERM");
    server.wait_for_line("sunder: stopping: SIGTERM").expect("it is reported");
    thread::sleep(Duration::from_millis(300));
    assert!(server.is_alive(), "it waits");
    assert_eq!(server.terminate().expect("it ends"), 0);
}

#[test]
fn a_client_that_does_not_read_is_waited_for_a_limited_time() {
    let (mut server, port) = start(&[]);
    let mut stream = connect(port);
    ask_for_much(&mut stream);
    let mut first = [0; 5];
    stream.read_exact(&mut first).unwrap();
    let begun = Instant::now();
    assert_eq!(server.terminate().expect("it ends"), 0);
    assert!(begun.elapsed() >= DRAIN - Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(
        server.stderr().contains("1 connection with unread replies reset"),
        "{}",
        server.stderr()
    );
}

/// Time in which the process was stopped does not count as its clients' silence.
#[test]
fn a_pause_of_the_server_closes_no_connection() {
    let (server, port) = start(&["--idle-timeout", "5"]);
    let mut idle = connect(port);
    answered(&mut idle);
    signal(&server, "-STOP");
    // It must be longer than the time-out, and cannot be shortened.
    thread::sleep(Duration::from_secs(7));
    signal(&server, "-CONT");
    // The first sweep for idle connections is due immediately, and is over by then.
    for _ in 0..20 {
        answered(&mut connect(port));
    }
    answered(&mut idle);
}
