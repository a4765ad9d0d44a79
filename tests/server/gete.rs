//! GETE and GETEQ on the wire, as a Rend in front of sunder uses them. memcached has neither, so
//! the wire table cannot compare them; Rend's own servers define the answers.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support;
use crate::support::{PATIENCE, Server};
use sunder::base::clock::Clock;

const SET: u8 = 0x01;
const NOOP: u8 = 0x0a;
const TOUCH: u8 = 0x1c;
const GETE: u8 = 0x40;
const GETEQ: u8 = 0x41;

struct Client {
    stream: TcpStream,
    _server: Server,
}

impl Client {
    fn of_workers(workers: &str) -> Client {
        let port = support::free_port();
        let args = ["-p", &port.to_string(), "--workers", workers, "--poll", "adaptive"];
        let server = Server::sunder(&args).expect("it starts");
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Client { stream, _server: server }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("it reads");
    }

    fn assert_receives(&mut self, expected: &[u8], what: &str) {
        let mut bytes = vec![0; expected.len()];
        self.stream.read_exact(&mut bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        let at = bytes.iter().zip(expected).position(|(is, should)| is != should);
        assert_eq!(at, None, "{what}: {}", bytes[..bytes.len().min(200)].escape_ascii());
    }

    /// Sends and drops the answers, up to the reply to a noop.
    fn settle(&mut self, requests: &[u8]) {
        self.send(&[requests, &packet(NOOP, b"", b"", b"", 0x7777)].concat());
        let mut seen = Vec::new();
        while !seen.ends_with(&reply(NOOP, 0, b"", b"", 0x7777)) {
            let mut byte = [0; 1024];
            let n = self.stream.read(&mut byte).expect("it answers");
            assert_ne!(n, 0, "the connection stays open");
            seen.extend(&byte[..n]);
        }
    }
}

fn packet(opcode: u8, extras: &[u8], key: &[u8], value: &[u8], opaque: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, opcode];
    bytes.extend((key.len() as u16).to_be_bytes());
    bytes.extend([extras.len() as u8, 0, 0, 0]);
    bytes.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    bytes.extend(opaque.to_be_bytes());
    bytes.extend([0; 8]);
    [&bytes, extras, key, value].concat()
}

fn set(key: &[u8], flags: u32, exptime: u32, value: &[u8]) -> Vec<u8> {
    let extras = [flags.to_be_bytes(), exptime.to_be_bytes()].concat();
    packet(SET, &extras, key, value, 0)
}

/// A reply whose cas is 0, unlike those of hits: see [`hit`].
fn reply(opcode: u8, status: u16, extras: &[u8], value: &[u8], opaque: u32) -> Vec<u8> {
    let mut bytes = packet(opcode, extras, b"", value, opaque);
    bytes[0] = 0x81;
    bytes[6..8].copy_from_slice(&status.to_be_bytes());
    bytes
}

/// A hit of the item with this cas.
fn hit(flags: u32, expiry: u32, value: &[u8], opaque: u32, cas: u64) -> Vec<u8> {
    let extras = [flags.to_be_bytes(), expiry.to_be_bytes()].concat();
    let mut bytes = reply(GETE, 0, &extras, value, opaque);
    bytes[16..24].copy_from_slice(&cas.to_be_bytes());
    bytes
}

/// Stores and returns the item's cas.
fn store(client: &mut Client, request: &[u8]) -> u64 {
    client.send(request);
    let mut reply = [0; 24];
    client.stream.read_exact(&mut reply).expect("it answers");
    assert_eq!(reply[6..8], [0, 0], "stored");
    u64::from_be_bytes(reply[16..].try_into().expect("eight bytes"))
}

/// An hour from now, too large for a relative time.
fn in_an_hour() -> u32 {
    Clock::start().read().unix_s + 3600
}

#[test]
fn a_run_of_geteq_and_a_noop_returns_the_hits_and_the_noop() {
    for workers in ["1", "2"] {
        let mut client = Client::of_workers(workers);
        let expiry = in_an_hour();
        let never = store(&mut client, &set(b"never", 7, 0, b"value"));
        let later = store(&mut client, &set(b"later", u32::MAX, expiry, b""));
        let run = [
            packet(GETEQ, b"", b"never", b"", 1),
            packet(GETEQ, b"", b"missing", b"", 2),
            packet(GETEQ, b"", b"later", b"", 3),
            packet(GETE, b"", b"missing", b"", 4),
            packet(GETE, b"", b"never", b"", 5),
            packet(NOOP, b"", b"", b"", 6),
        ]
        .concat();
        let expected = [
            hit(7, 0, b"value", 1, never),
            hit(u32::MAX, expiry, b"", 3, later),
            reply(GETE, 1, b"", b"", 4),
            hit(7, 0, b"value", 5, never),
            reply(NOOP, 0, b"", b"", 6),
        ]
        .concat();
        for cut in 1..=run.len() {
            client.send(&run[..cut]);
            client.send(&run[cut..]);
            client.assert_receives(&expected, &format!("{workers} workers, cut after {cut}"));
        }
    }
}

#[test]
fn the_expiry_is_the_items_own_however_it_was_set() {
    let mut client = Client::of_workers("2");
    let expiry = in_an_hour();
    for key in (0..16).map(|n| format!("key{n}").into_bytes()) {
        let cas = store(&mut client, &set(&key, 0, 0, b"x"));
        client.send(&packet(GETE, b"", &key, b"", 1));
        client.assert_receives(&hit(0, 0, b"x", 1, cas), "as set");
        client.settle(&packet(TOUCH, &expiry.to_be_bytes(), &key, b"", 2));
        client.send(&packet(GETE, b"", &key, b"", 3));
        client.assert_receives(&hit(0, expiry, b"x", 3, cas), "as touched");
    }
}

#[test]
fn a_long_value_of_another_worker_is_complete() {
    let mut client = Client::of_workers("2");
    let expiry = in_an_hour();
    let value: Vec<u8> = (0..900_000_u32).map(|n| (n % 251) as u8).collect();
    for key in (0..6).map(|n| format!("key{n}").into_bytes()) {
        let cas = store(&mut client, &set(&key, 9, expiry, &value));
        let two = [packet(GETEQ, b"", &key, b"", 1), packet(GETE, b"", &key, b"", 2)].concat();
        client.send(&two);
        client.assert_receives(&hit(9, expiry, &value, 1, cas), "quiet");
        client.assert_receives(&hit(9, expiry, &value, 2, cas), "loud");
    }
}
