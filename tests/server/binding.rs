//! Ports that speak one protocol: what they answer to the other, as memcached does.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::support::{PATIENCE, Server, free_port};

/// A binary request without a body but for its key.
fn packet(opcode: u8, key: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, opcode, 0, key.len() as u8];
    packet.extend([0; 7]);
    packet.push(key.len() as u8);
    packet.extend([0; 12]);
    packet.extend(key);
    packet
}

const NOOP: u8 = 0x0a;

/// Everything that is answered to `parts`, each sent on its own, until the server has ended the
/// connection, or has answered `end` to what every connection of its protocol understands.
fn answer(port: u16, parts: &[&[u8]], end: &[u8], last: &[u8]) -> (Vec<u8>, bool) {
    let mut client =
        TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).expect("it accepts");
    client.set_nodelay(true).expect("an option");
    let mut said = Vec::new();
    let mut bytes = [0; 4096];
    let mut read = |client: &mut TcpStream, patience: Duration, said: &mut Vec<u8>| {
        client.set_read_timeout(Some(patience)).expect("a time-out");
        match client.read(&mut bytes) {
            Ok(0) => true,
            Ok(n) => {
                said.extend(&bytes[..n]);
                false
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            Err(error) => panic!("{error}"),
        }
    };
    for part in parts {
        if client.write_all(part).is_err()
            || read(&mut client, Duration::from_millis(50), &mut said)
        {
            return (said, true);
        }
    }
    let before = said.len();
    if client.write_all(end).is_err() {
        return (said, true);
    }
    while !said[before..].ends_with(last) {
        if read(&mut client, PATIENCE, &mut said) {
            return (said, true);
        }
    }
    (said, false)
}

#[test]
fn a_port_answers_the_other_protocol_as_memcached_does() {
    let (get, noop, quit) = (packet(0, b"a"), packet(NOOP, b""), packet(7, b""));
    let noop_line = [&noop[..], b"\r\n"].concat();
    let many = get.repeat(60);
    let long = [0x80; 3000];
    let mixed = [&b"get a\r\n"[..], &noop_line, b"get a\r\n"].concat();
    let then_text = [&get[..], &b"get a\r\n".repeat(5)].concat();
    let other_magic = [&[0x81][..], &noop[1..]].concat();
    let ascii: [&[&[u8]]; 12] = [
        &[&get],
        &[&noop],
        &[&noop_line],
        &[&quit, b"\n"],
        &[b"\x80", b"\r\n"],
        &[b"\x80\r\nget a\r\n"],
        &[&[0x80; 2047]],
        &[&long],
        &[&many],
        &[&mixed],
        &[b"mn\r\nmg a v\r\n"],
        &[b"set a 0 0 1\r\n\x80\r\n", b"delete a\r\n"],
    ];
    let binary: [&[&[u8]]; 12] = [
        &[b"get a\r\n"],
        &[b"g"],
        &[b"\r\n", b"version\r\n"],
        &[b"get a\r\nget b\r\nget c\r\nget d\r\n"],
        &[b"set a 0 0 1\r\nx\r\n", b"get a\r\n"],
        &[&[b'x'; 23]],
        &[&[b'x'; 24]],
        &[&[b'g'; 3000]],
        &[&other_magic],
        &[&get],
        &[&then_text],
        &[&noop[..10], &noop[10..]],
    ];
    compare("ascii", &ascii, (b"\r\nmn\r\n", b"MN\r\n"));
    compare("binary", &binary, (&noop, &noop[16..]));
}

/// Compares the answers of a sunder and a memcached with `-B name`.
fn compare(name: &str, cases: &[&[&[u8]]], (end, last): (&[u8], &[u8])) {
    let (port, other_port) = (free_port(), free_port());
    let port_text = port.to_string();
    let flags = ["-B", name, "--workers", "1", "-p", &port_text];
    let _sunder = Server::sunder(&flags).expect("it serves");
    let mut command = Command::new("memcached");
    command.args(["-u", "root", "-U", "0", "-l", "127.0.0.1", "-m", "64", "-t", "1", "-B", name]);
    command.args(["-p", &other_port.to_string()]);
    let _memcached = Server::start(command).expect("it runs");
    // The first connection is accepted when it listens.
    while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], other_port))).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    for parts in cases {
        let [own, other] = [port, other_port].map(|port| answer(port, parts, end, last));
        let sent: Vec<String> = parts.iter().map(|it| it.escape_ascii().to_string()).collect();
        let shown = |(said, is_over): &(Vec<u8>, bool)| (said.escape_ascii().to_string(), *is_over);
        assert_eq!(shown(&own), shown(&other), "{name}: {sent:?}");
    }
}

#[test]
fn each_port_has_its_own_protocol_and_says_it() {
    let (port, batch, behind) = (free_port(), free_port(), free_port());
    let _behind = Server::sunder(&["-p", &behind.to_string(), "--workers", "1"]).expect("serves");
    let l2 = format!("memcached,addr=127.0.0.1:{behind}");
    let (main_text, batch_text) = (port.to_string(), batch.to_string());
    let flags = ["-p", &main_text, "--bp", &batch_text, "--workers", "2", "--l2", &l2];
    let bindings = ["--protocol", "ascii", "--bp-protocol", "binary"];
    let _sunder = Server::sunder(&[&flags[..], &bindings[..]].concat()).expect("it serves");
    let noop = packet(NOOP, b"");
    let (end, last) = (&b"\r\nmn\r\n"[..], &b"MN\r\n"[..]);
    let (said, is_over) = answer(port, &[b"stats settings\r\n", &noop], end, last);
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("STAT binding_protocol ascii\r\n"), "{said}");
    assert!(said.ends_with("END\r\nERROR\r\nERROR\r\nMN\r\n") && !is_over, "{said}");
    let (said, is_over) =
        answer(batch, &[b"get a\r\nget a\r\nget a\r\nget a\r\n"], &noop, &noop[16..]);
    assert!(said.is_empty() && is_over, "{}", said.escape_ascii());
    let (said, is_over) = answer(batch, &[&packet(0x0b, b"")], &noop, &noop[16..]);
    assert!(said.starts_with(&[0x81, 0x0b]) && !is_over, "{}", said.escape_ascii());
}
