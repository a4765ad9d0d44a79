//! One server replaced by the next while clients load it: no connection is refused, no answer is
//! wrong, and items in files are there. And that only who may takes over.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Server, free_port, free_socket_path};

/// What the clients of a test saw.
#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    connections: AtomicU64,
    /// Longest time between two answers, in milliseconds.
    pause_ms: AtomicU64,
    ends: AtomicBool,
}

/// Sets and gets keys of its own until told to end, on a new connection whenever the last is
/// closed. Panics if a connection is refused or an answer is wrong; an item may be missing.
fn load(client: usize, port: u16, keeps: bool, seen: &Seen) {
    let mut stored: HashMap<u32, String> = HashMap::new();
    let mut last = Instant::now();
    let mut number = 0;
    while !seen.ends.load(Relaxed) {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("never refused");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        seen.connections.fetch_add(1, Relaxed);
        let mut stream = BufReader::new(stream);
        // Some connections are short.
        for _ in 0..200 {
            number += 1;
            let key = number % 16;
            let value = format!("value-{client}-{number}");
            // A set that is not answered may have been executed or not.
            stored.remove(&key);
            let set = format!("set k{client}.{key} 0 0 {}\r\n{value}\r\n", value.len());
            match ask(&mut stream, &set) {
                Some(answer) => assert_eq!(answer, "STORED\r\n"),
                None => break,
            }
            stored.insert(key, value);
            let key = number % 7;
            let Some(head) = ask(&mut stream, &format!("get k{client}.{key}\r\n")) else { break };
            if head == "END\r\n" {
                assert!(!keeps || !stored.contains_key(&key), "k{client}.{key} is lost");
                continue;
            }
            let (mut value, mut end) = (String::new(), String::new());
            stream.read_line(&mut value).expect("the value");
            stream.read_line(&mut end).expect("the end");
            if let Some(expected) = stored.get(&key) {
                assert_eq!(value.trim_end(), expected, "k{client}.{key}");
            }
            seen.requests.fetch_add(2, Relaxed);
            seen.pause_ms.fetch_max(last.elapsed().as_millis() as u64, Relaxed);
            last = Instant::now();
        }
    }
}

/// The first line of the answer; None if the server has closed the connection before it.
fn ask(stream: &mut BufReader<TcpStream>, request: &str) -> Option<String> {
    let is_end = |kind| {
        [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof]
            .contains(&kind)
    };
    let mut line = String::new();
    let said = stream.get_mut().write_all(request.as_bytes());
    match said.and_then(|()| stream.read_line(&mut line)) {
        Ok(0) => None,
        Ok(_) => Some(line),
        Err(error) => {
            assert!(is_end(error.kind()), "{error}");
            None
        }
    }
}

/// Starts servers with these flags one after the other, each of which takes over from the last.
fn relay(port: u16, keeps: bool, all: &[&[&str]]) {
    let number = port.to_string();
    let start = |flags: &[&str]| {
        let flags = [&["-p", &number, "--takeover"], flags].concat();
        Server::sunder(&flags).expect("it starts")
    };
    let mut server = start(all[0]);
    assert!(server.stderr().contains("this is an ordinary start"), "{}", server.stderr());
    let seen = Seen::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|client| {
                let seen = &seen;
                scope.spawn(move || load(client, port, keeps, seen))
            })
            .collect();
        for flags in &all[1..] {
            let before = seen.requests.load(Relaxed);
            let goes_on = || seen.requests.load(Relaxed) > before + 2_000;
            let waited = Instant::now();
            while !goes_on() && waited.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(5));
            }
            let next = start(flags);
            let mut old = std::mem::replace(&mut server, next);
            old.wait_for_line("sunder: stopping: another sunder takes over").expect("it ends");
            let waited = Instant::now();
            while old.is_alive() && waited.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(5));
            }
            assert!(!old.is_alive(), "{}", old.stderr());
        }
        thread::sleep(Duration::from_millis(200));
        seen.ends.store(true, Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("no wrong answer"));
    });
    println!(
        "{} requests over {} connections, longest pause {} ms",
        seen.requests.load(Relaxed),
        seen.connections.load(Relaxed),
        seen.pause_ms.load(Relaxed)
    );
    assert_eq!(server.terminate(), Ok(0));
    let refused = TcpStream::connect(("127.0.0.1", port)).expect_err("nobody listens any more");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn no_connection_is_refused_and_no_answer_is_wrong() {
    let numbers: [&[&str]; 5] =
        [&["-t", "1"], &["-t", "3"], &["-t", "2"], &["-t", "2"], &["-t", "1"]];
    relay(free_port(), false, &numbers);
}

#[test]
fn items_in_files_are_there_for_the_next() {
    let folder = std::env::temp_dir().join(format!("sunder-takeover-{}", free_port()));
    fs::create_dir(&folder).expect("a folder");
    let l1 = format!("memory,path={}/cache,size=64M", folder.display());
    let flags: &[&str] = &["-t", "2", "--l1", &l1];
    relay(free_port(), true, &[flags, flags, flags]);
    fs::remove_dir_all(&folder).expect("it is there");
}

#[test]
fn a_unix_socket_is_taken_over_with_its_file() {
    let path = free_socket_path();
    let path_text = path.display().to_string();
    let flags = ["-s", &path_text, "--takeover"];
    let mut old = Server::sunder(&flags).expect("it starts");
    let mut waiting = UnixStream::connect(&path).expect("it accepts");
    waiting.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut answer = [0; 16];
    waiting.write_all(b"version\r\n").expect("it reads");
    waiting.read_exact(&mut answer).expect("it is accepted");
    let mut new = Server::sunder(&flags).expect("it takes over");
    let mut end = Vec::new();
    waiting.read_to_end(&mut end).expect("closed in order");
    assert_eq!(end, b"");
    let mut stream = UnixStream::connect(&path).expect("the file is there");
    stream.write_all(b"version\r\n").expect("it reads");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"VERSION 1.6.18\r\n");
    assert!(!old.is_alive() || old.terminate() == Ok(0));
    assert_eq!(new.terminate(), Ok(0));
    assert!(!path.exists(), "the last one removes it");
}

#[test]
fn who_may_not_take_over_or_does_not_ask_properly_gets_nothing() {
    let port = free_port();
    let number = port.to_string();
    let mut server = Server::sunder(&["-p", &number]).expect("it starts");
    let name = format!("sunder-takeover-tcp:127.0.0.1:{port}");
    let address = SocketAddr::from_abstract_name(&name).expect("short");
    let connect = || UnixStream::connect_addr(&address).expect("it listens");
    // One that wants nothing in the end, and one that says something else.
    drop(connect());
    connect().write_all(b"please").expect("it reads");
    // A process of another user sees the end of the connection, and no descriptor.
    let program = format!(
        "import os, socket\n\
         os.setgroups([]); os.setgid(65534); os.setuid(65534)\n\
         s = socket.socket(socket.AF_UNIX)\n\
         s.connect('\\0{name}')\n\
         data, fds, _, _ = socket.recv_fds(s, 100, 100)\n\
         print(len(data), len(fds))\n"
    );
    let stranger = Command::new("python3").args(["-c", &program]).output().expect("python3");
    let said = String::from_utf8_lossy(&stranger.stdout).into_owned();
    assert_eq!(said, "0 0\n", "{}", String::from_utf8_lossy(&stranger.stderr));
    server.wait_for_line("sunder: process ").expect("it is told");
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it serves");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    client.write_all(b"version\r\n").expect("it reads");
    client.read_exact(&mut [0; 16]).expect("it answers");
    assert_eq!(server.terminate(), Ok(0));
}

#[test]
fn a_client_that_does_not_read_delays_nobody_for_long() {
    let number = free_port().to_string();
    let flags = ["-p", &number, "--takeover", "--drain", "600"];
    let mut old = Server::sunder(&flags).expect("it starts");
    let mut silent = TcpStream::connect(format!("127.0.0.1:{number}")).expect("it accepts");
    let mut set = b"set big 0 0 900000\r\n".to_vec();
    set.resize(set.len() + 900_000, b'v');
    silent.write_all(&set).expect("it reads");
    silent.write_all(b"\r\n").expect("it reads");
    silent.write_all("get big\r\n".repeat(40).as_bytes()).expect("it reads");
    silent.read_exact(&mut [0; 20]).expect("it answers");
    let begun = Instant::now();
    let mut new = Server::sunder(&flags).expect("it takes over");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert!(!old.is_alive() || old.terminate() == Ok(0));
    assert_eq!(new.terminate(), Ok(0));
}

#[test]
fn a_server_goes_on_if_the_next_would_not_start() {
    let folder = std::env::temp_dir().join(format!("sunder-takeover-{}", free_port()));
    fs::create_dir(&folder).expect("a folder");
    let l1 = |size: &str| format!("memory,path={}/cache,size={size}", folder.display());
    let (port, admin) = (free_port(), free_port());
    let (number, admin_number) = (port.to_string(), admin.to_string());
    let start = |more: &[&str]| {
        let flags = ["-p", &number, "--takeover", "-t", "1"];
        Server::sunder(&[&flags[..], more].concat())
    };
    let small = l1("64M");
    let mut old = start(&["--l1", &small, "--admin", &admin_number]).expect("it starts");
    let other = TcpListener::bind(("127.0.0.2", port)).expect("it is free");
    let taken = other.local_addr().expect("bound").to_string();
    let large = l1("128M");
    let cases: [&[&str]; 7] = [
        &["--l1", &small, "-l", "127.0.0.1,127.0.0.2"],
        &["--l1", &small, "-l", "127.0.0.1,192.0.2.5"],
        &["--l1", &small, "--admin", &taken],
        &["--l1", "memory,path=/nonexist/x,size=64M"],
        &["--l1", &large],
        &["--l1", &small, "-t", "2"],
        &["--l1", &small, "--l2", "memcached,addr=127.0.0.1:1"],
    ];
    for case in cases {
        let refused = start(case).err().unwrap_or_else(|| panic!("it starts: {case:?}"));
        assert!(refused.contains("goes on: see below"), "{case:?}: {refused}");
        let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it serves");
        client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        client.write_all(b"version\r\n").expect("it reads");
        client.read_exact(&mut [0; 16]).unwrap_or_else(|error| panic!("{case:?}: {error}"));
    }
    // The admin port is taken over, too.
    let mut new = start(&["--l1", &small, "--admin", &admin_number]).expect("it takes over");
    let mut scrape = TcpStream::connect(("127.0.0.1", admin)).expect("it listens");
    scrape.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    scrape.write_all(b"GET /health HTTP/1.0\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    scrape.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(!old.is_alive() || old.terminate() == Ok(0));
    assert_eq!(new.terminate(), Ok(0));
    fs::remove_dir_all(&folder).expect("it is there");
}
