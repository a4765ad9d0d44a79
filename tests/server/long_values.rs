//! Long values over kernel sockets, which are received in place: in any pieces, followed by
//! anything, and interrupted at any point.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{PATIENCE, Server, free_port, free_socket_path};

struct Client(TcpStream);

impl Client {
    fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_nodelay(true).expect("an option");
        Client(stream)
    }

    fn expect(&mut self, expected: &[u8]) {
        let mut answer = vec![0; expected.len()];
        self.0.read_exact(&mut answer).expect("it answers");
        let differs = answer.iter().zip(expected).position(|(a, b)| a != b);
        assert_eq!(differs, None, "answered {:?}..", String::from_utf8_lossy(&answer[..40]));
    }

    /// Sends `request` in pieces of `piece` bytes, with time for the server to read each
    /// separately.
    fn send(&mut self, request: &[u8], piece: usize) {
        for piece in request.chunks(piece) {
            self.0.write_all(piece).expect("it reads");
            if request.len() / piece.len() < 50 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// One of the server's statistics.
    fn stat(&mut self, name: &str) -> u64 {
        self.0.write_all(b"stats\r\n").expect("it reads");
        let mut answer = Vec::new();
        while !answer.ends_with(b"END\r\n") {
            let mut piece = [0; 4096];
            let n = self.0.read(&mut piece).expect("it answers");
            assert!(n > 0, "the server closed the connection");
            answer.extend(&piece[..n]);
        }
        let answer = String::from_utf8(answer).expect("text");
        let line = answer.lines().find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
        line.expect("the statistic").parse().expect("a number")
    }
}

fn value(seed: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| ((i * 31 + seed * 17 + i / 4096) % 251) as u8).collect()
}

fn set(verb: &str, key: &str, value: &[u8], end: &str) -> Vec<u8> {
    let head = format!("{verb} {key} 7 0 {}\r\n", value.len());
    [head.as_bytes(), value, end.as_bytes()].concat()
}

fn hit(key: &str, value: &[u8]) -> Vec<u8> {
    let head = format!("VALUE {key} 7 {}\r\n", value.len());
    [head.as_bytes(), value, b"\r\nEND\r\n"].concat()
}

fn in_all_pieces(words: &[&str]) {
    let port = free_port();
    let port_word = port.to_string();
    let args = [&["-p", &port_word, "--workers", "1"], words].concat();
    let _server = Server::sunder(&args).expect("it starts");
    let mut client = Client::connect(port);
    // Near the sizes of a read, a visit, and blocks.
    let lengths = [33_000, 65_536, 65_000 + 4096, 100_000, 262_144, 300_001, 1_000_000];
    for (round, length) in lengths.into_iter().enumerate() {
        for piece in [length * 2, length / 2 + 9, 70_001, 4096 + 11] {
            let long = value(round, length);
            let requests = [
                set("set", "long", &long, "\r\n"),
                b"get long\r\n".to_vec(),
                set("add", "long", &value(9, length), "\r\n"),
                set("set", "long", &value(9, length), "xx"),
                set("set", "other", &value(3, length), "\r\n"),
                set("replace", "missing", &long, "\r\n"),
                b"get long\r\n".to_vec(),
                set("append", "long", &long[..5], "\r\n"),
                b"delete other\r\n".to_vec(),
            ]
            .concat();
            let mut reader = Client(client.0.try_clone().expect("a descriptor"));
            let hit = hit("long", &long);
            let answers = [
                b"STORED\r\n",
                &hit[..],
                b"NOT_STORED\r\nCLIENT_ERROR bad data chunk\r\nSTORED\r\nNOT_STORED\r\n",
                &hit[..],
                b"STORED\r\nDELETED\r\n",
            ]
            .concat();
            let checker = std::thread::spawn(move || reader.expect(&answers));
            client.send(&requests, piece);
            checker.join().expect("every answer is correct");
        }
    }
}

#[test]
fn in_memory() {
    in_all_pieces(&["--l1", "memory,size=256M"]);
    // Little memory: values in pieces, and some that cannot be received in place.
    in_all_pieces(&["--l1", "memory,size=4M"]);
}

#[test]
fn in_a_memcached() {
    let path = free_socket_path();
    let _memcached = Server::memcached_at(&path, 64).expect("memcached starts");
    let l1 = format!("memcached,addr=unix:{},timeout=5000", path.display());
    in_all_pieces(&["--l1", &l1]);
    in_all_pieces(&["--l1", &format!("{l1},layout=chunked")]);
}

#[test]
fn in_both() {
    let path = free_socket_path();
    let _memcached = Server::memcached_at(&path, 64).expect("memcached starts");
    let l2 = format!("memcached,addr=unix:{},timeout=5000", path.display());
    let batch_port = free_port().to_string();
    in_all_pieces(&["--l1", "memory,size=64M", "--l2", &l2, "--bp", &batch_port]);
}

#[test]
fn an_interrupted_value_leaves_nothing_behind() {
    let port = free_port();
    let args = ["-p", &port.to_string(), "--workers", "1", "--l1", "memory,size=64M"];
    let _server = Server::sunder(&args).expect("it starts");
    let mut client = Client::connect(port);
    let request = set("set", "long", &value(1, 1_000_000), "\r\n");
    client.send(&request, request.len());
    client.expect(b"STORED\r\n");
    let before = client.stat("bytes");
    // In all more than the memory there is: what was left behind would fill it. Each time more than
    // may be received in place at once, so that some values are gathered elsewhere.
    for _ in 0..12 {
        let (read, connections) = (client.stat("bytes_read"), client.stat("curr_connections"));
        let mut others: Vec<_> = (0..20).map(|_| Client::connect(port)).collect();
        for other in &mut others {
            other.send(&request[..600_000], 600_000);
        }
        let start = std::time::Instant::now();
        while client.stat("bytes_read") < read + 20 * 600_000 {
            assert!(start.elapsed() < PATIENCE, "values are received");
        }
        assert_eq!(client.stat("bytes"), before, "they are not items yet");
        drop(others);
        while client.stat("curr_connections") != connections {
            assert!(start.elapsed() < PATIENCE, "their connections end");
        }
    }
    for n in 0..20 {
        let request = set("set", &format!("long{n}"), &value(1, 1_000_000), "\r\n");
        client.send(&request, request.len());
        client.expect(b"STORED\r\n");
    }
    assert!(client.stat("bytes") > before + 20_000_000, "nothing was evicted for them");
    client.send(b"get long\r\n", 100);
    client.expect(&hit("long", &value(1, 1_000_000)));
}
