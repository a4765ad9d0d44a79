//! Hostile clients over kernel sockets: the server's memory stays bounded, and other clients are
//! served. Inputs that are hostile by their bytes alone are in tests/wire.

use crate::support::client::{Client, SILENCE, is_full};
use crate::support::{Server, free_port, free_socket_path};
use std::io::{BufRead, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;

/// Most memory that a server may gain, whatever one client does. It includes its buffers, its body
/// budget and what the allocator keeps; a buffer sized by a peer's number would exceed it.
const GAIN_BYTES_MAX: u64 = 96 * 1024 * 1024;

struct Sunder {
    server: Server,
    address: SocketAddr,
    resident_bytes: u64,
}

impl Sunder {
    /// One worker, 64 MiB of items as in memcached, all of it touched before the measurement.
    fn start() -> Sunder {
        let port = free_port();
        let args = ["-p", &port.to_string(), "--workers", "1", "--poll", "adaptive"];
        let server = Server::sunder(&args).expect("sunder serves");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut sunder = Sunder { server, address, resident_bytes: 0 };
        let mut client = sunder.client();
        for n in 0..100 {
            client.set(&format!("warm{n}"), &vec![b'w'; 1_000_000]);
        }
        sunder.resident_bytes = sunder.server.resident_bytes();
        sunder
    }

    fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Checks that its memory is bounded, and that it serves others.
    fn is_healthy(&mut self) {
        let resident = self.server.resident_bytes();
        let gain = resident.saturating_sub(self.resident_bytes);
        assert!(gain < GAIN_BYTES_MAX, "gained {gain} bytes to {resident}");
        let mut client = self.client();
        client.set("well", b"yes");
        assert_eq!(client.get("well").as_deref(), Ok(&b"yes"[..]));
        assert!(self.server.is_alive(), "it ended: {}", self.server.stderr());
    }
}

/// CVE-2010-1152: a gigabyte without a line end. The server sends FIN at its limit; it discards
/// further input for a while, so that its last reply is not lost.
#[test]
fn endless_line() {
    let mut sunder = Sunder::start();
    for start in ["", "set ", "gat 0 ", "stats "] {
        let mut client = sunder.client();
        client.send(start.as_bytes());
        client.flood(&[b'a'; 4096], 16 * 1024);
        assert!(client.is_closed_by_server(), "'{start}..': not closed");
        client.flood(&[b'a'; 64 * 1024], 1 << 30);
        sunder.is_healthy();
    }
}

/// The same after `get `, whose line may be long: a key without end, and keys without end.
#[test]
fn endless_get() {
    let mut sunder = Sunder::start();
    let mut client = sunder.client();
    client.send(b"get ");
    client.flood(&[b'a'; 64 * 1024], 1 << 30);
    sunder.is_healthy();
    client.flood(b"\r\nversion\r\n", 1);
    let mut said = String::new();
    // Closing without a reply is valid too.
    let _ = client.0.read_line(&mut said);
    assert!(said.is_empty() || said.starts_with("CLIENT_ERROR "), "answer: {said}");
    drop(client);
    let mut client = sunder.client();
    client.send(b"get ");
    client.flood(&b"key ".repeat(16 * 1024), 1 << 28);
    sunder.is_healthy();
}

/// CVE-2018-1000127: more references to one item than a 16-bit counter can count.
#[test]
fn many_references_to_one_item() {
    let mut sunder = Sunder::start();
    let mut client = sunder.client();
    let value = vec![b'v'; 100];
    client.set("k", &value);
    let mut writer = client.0.get_ref().try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || {
        writer.write_all(format!("get{}\r\n", " k".repeat(70_000)).as_bytes()).expect("it reads");
    });
    for _ in 0..70_000 {
        assert_eq!(client.value("k").as_ref(), Ok(&value));
    }
    assert_eq!(client.line(), "END\r\n");
    sender.join().expect("everything was sent");
    sunder.is_healthy();
}

/// The same, accumulated by a reader that stopped: then it reads, and everything arrives.
#[test]
fn piled_gets_with_the_reader_stopped() {
    let mut sunder = Sunder::start();
    let mut client = sunder.client();
    let value: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    client.set("big", &value);
    // Only whole requests, so that accepted ones can be counted.
    let stream = client.0.get_ref();
    stream.set_nonblocking(true).expect("non-blocking");
    let mut sent = vec![];
    let request = b"get big\r\n";
    let (mut full, mut offered) = (0, 65_600 * request.len());
    while offered > 0 && full < 2000 {
        let at = sent.len() % request.len();
        match (&mut &*stream).write(&request.repeat(64)[at..]) {
            Ok(n) => {
                sent.resize(sent.len() + n.min(offered), 0_u8);
                offered = offered.saturating_sub(n);
                full = 0;
            }
            // The server has stopped reading, or is about to: polled, without a sleep.
            Err(error) if is_full(error.kind()) => {
                full += 1;
                std::thread::yield_now();
            }
            Err(error) => panic!("write: {error}"),
        }
    }
    sunder.is_healthy();
    stream.set_nonblocking(false).expect("blocking");
    let gets = sent.len() / request.len();
    stream.shutdown(Shutdown::Write).expect("no more requests");
    for _ in 0..gets.min(500) {
        assert_eq!(client.value("big").as_ref(), Ok(&value));
        assert_eq!(client.line(), "END\r\n");
    }
    sunder.is_healthy();
}

/// twemproxy #433: clients that request much and read nothing.
#[test]
fn two_hundred_readers_that_do_not_read() {
    let mut sunder = Sunder::start();
    sunder.client().set("big", &vec![b'v'; 500_000]);
    let clients: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = sunder.client();
            client.send(&b"get big\r\n".repeat(100));
            client
        })
        .collect();
    sunder.is_healthy();
    drop(clients);
    sunder.is_healthy();
}

/// Values announced and half sent: the budget for bodies is per worker, not per connection.
#[test]
fn two_hundred_half_sent_values() {
    let mut sunder = Sunder::start();
    let mut clients: Vec<Client> = (0..200).map(|_| sunder.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(format!("set half{n} 0 0 1000000\r\n").as_bytes());
        client.flood(&[b'h'; 16 * 1024], 600_000);
    }
    let resident = sunder.server.resident_bytes();
    let gain = resident.saturating_sub(sunder.resident_bytes);
    assert!(gain < GAIN_BYTES_MAX, "gained {gain} bytes");
    // The connections that hold the budget close; others are not affected.
    drop(clients);
    sunder.is_healthy();
}

/// CVE-2011-4971 and similar: a body of nearly 2^32 bytes, a gigabyte of which is sent.
#[test]
fn body_of_four_gigabytes() {
    let mut sunder = Sunder::start();
    for opcode in [0x01_u8, 0x12, 0x0e, 0x00, 0x05, 0x1c, 0x10, 0x7f] {
        let mut request = vec![0x80, opcode, 0, 1, 8, 0, 0, 0, 0xff, 0xff, 0xff, 0xe8];
        request.resize(24 + 9, 0);
        let mut client = sunder.client();
        client.send(&request);
        client.flood(&[0; 4096], 16 * 1024);
        assert!(client.is_closed_by_server(), "opcode {opcode:#x}: not closed");
        client.flood(&[0; 64 * 1024], 1 << 30);
        sunder.is_healthy();
    }
}

/// A value of 2 GB announced in text: discarded as it arrives.
#[test]
fn value_of_two_gigabytes() {
    let mut sunder = Sunder::start();
    let mut client = sunder.client();
    client.send(b"set foo 0 0 2147483645\r\n");
    client.flood(&[b'v'; 64 * 1024], 1 << 29);
    sunder.is_healthy();
}

/// Connections that send one byte, and then nothing.
#[test]
fn thousand_idle_connections() {
    let mut sunder = Sunder::start();
    let clients: Vec<Client> = (0..900)
        .map(|n| {
            let mut client = sunder.client();
            client.send(if n % 2 == 0 { b"g" } else { b"\x80" });
            client
        })
        .collect();
    sunder.is_healthy();
    drop(clients);
    sunder.is_healthy();
}

/// Writes a get of 60,000 keys and then 50,000 sets, each completely before it reads the first
/// byte.
fn write_all_then_read(stream: &mut (impl Read + Write)) {
    let value = "v".repeat(1000);
    for n in 0..100 {
        let set = format!("set key-of-thirty-bytes-{n:010} 0 0 1000\r\n{value}\r\n");
        stream.write_all(set.as_bytes()).expect("written");
    }
    let mut replies = vec![0; 8 * 100];
    stream.read_exact(&mut replies).expect("the sets are answered");
    let keys = (0..60_000).map(|n| format!(" key-of-thirty-bytes-{:010}", n % 100));
    let get = format!("get{}\r\n", keys.collect::<String>());
    stream.write_all(get.as_bytes()).expect("the keys are read");
    let hit = |n: usize| format!("VALUE key-of-thirty-bytes-{:010} 0 1000\r\n{value}\r\n", n % 100);
    let mut answer = vec![0; hit(0).len()];
    for n in 0..60_000 {
        stream.read_exact(&mut answer).expect("each key is answered");
        assert!(answer == hit(n).as_bytes(), "hit {n}");
    }
    let mut end = [0; 5];
    stream.read_exact(&mut end).expect("the end");
    assert_eq!(&end, b"END\r\n");
    let sets = (0..50_000).map(|n| format!("set n{n} 0 0 20\r\n{}\r\n", "x".repeat(20)));
    stream.write_all(sets.collect::<String>().as_bytes()).expect("the sets are read");
    let mut replies = vec![0; 8 * 50_000];
    stream.read_exact(&mut replies).expect("the sets are answered");
    assert!(replies == b"STORED\r\n".repeat(50_000));
}

#[test]
fn a_client_that_writes_everything_before_it_reads_is_served() {
    let mut sunder = Sunder::start();
    write_all_then_read(sunder.client().0.get_mut());
    sunder.is_healthy();
    let path = free_socket_path();
    let path_text = path.to_str().expect("a plain path");
    let args = ["--use-domain-socket", "--sock-path", path_text, "--workers", "2"];
    let _server = Server::sunder(&args).expect("sunder serves");
    let mut stream = UnixStream::connect(&path).expect("it accepts");
    stream.set_read_timeout(Some(SILENCE)).expect("a timeout");
    stream.set_write_timeout(Some(SILENCE)).expect("a timeout");
    write_all_then_read(&mut stream);
}
