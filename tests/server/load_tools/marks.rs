//! `--marks` of blast and setget: nothing is wrong with memcached and with sunder, whatever its
//! tiers, and a server that lets two clients win, or gives a stale item as a fresh one, is found.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::run;
use crate::support::chaos::Memcached;
use crate::support::{Server, free_port};

const TOOLS: [&str; 2] = ["setget -n 400 -w 4", "blast -n 8000 --all --keys 12 -w 16"];

fn check(server: &str, port: u16, flags: &str) {
    for tool in TOOLS {
        let words = "--meta --marks --value-bytes 32-1000 --timeout 30";
        let ended = run(&format!("{tool} {words} -p {port} {flags}"));
        assert_eq!((ended.status, &ended.stderr[..]), (0, ""), "{server}, {tool}");
        let words = if tool.starts_with("blast") { "told that another had won" } else { "marks" };
        assert!(ended.stdout.contains(words), "{server}: {}", ended.stdout);
    }
}

#[test]
fn memcached_keeps_its_marks() {
    let (_server, address) = Server::memcached().expect("it starts");
    check("memcached", address.port(), "--no-loss");
}

#[test]
fn sunder_keeps_its_marks() {
    let [l1, l2] = [1, 2].map(|seed| Memcached::start(64, seed).expect("it starts"));
    let (l1, l2) = (l1.address(), format!("--l2 memcached,addr={}", l2.address()));
    for (tiers, flags) in [
        (String::new(), "--no-loss"),
        (format!("--l1 memcached,addr={l1}"), "--no-loss"),
        (format!("--l1 memcached,addr={l1},layout=chunked"), ""),
        (l2.clone(), ""),
        (format!("--l1 memcached,addr={l1},layout=chunked {l2}"), ""),
    ] {
        let port = free_port();
        let words = format!("-p {port} --workers 2 --poll adaptive {tiers}");
        let words: Vec<&str> = words.split_whitespace().collect();
        let _sunder = Server::sunder(&words).expect("it starts");
        check(&tiers, port, flags);
    }
}

/// What a proxy does to what the server sends.
type Change = fn(&[u8]) -> Vec<u8>;

/// A proxy to `server` for each client that comes. It ends with the process.
fn proxy(server: SocketAddr, change: Change) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(to_server) = TcpStream::connect(server) else { return };
            let (client, to_server) = (Arc::new(client), Arc::new(to_server));
            let back = (Arc::clone(&to_server), Arc::clone(&client));
            thread::spawn(move || carry(&client, &to_server, <[u8]>::to_vec));
            thread::spawn(move || carry(&back.0, &back.1, change));
        }
    });
    port
}

fn carry(mut from: &TcpStream, mut to: &TcpStream, change: Change) {
    let mut piece = [0; 1 << 16];
    while let Ok(bytes @ 1..) = from.read(&mut piece) {
        if to.write_all(&change(&piece[..bytes])).is_err() {
            return;
        }
    }
    // Each may have ended before.
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// `bytes` with `new` in place of each `old`, unless there is a value of setget's own among them.
fn replaced(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.replace(old, new).into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

#[test]
fn two_winners_and_old_values_are_found() {
    let (_server, address) = Server::memcached().expect("it starts");
    let changes: [(&str, Change); 3] = [
        ("two winners", |bytes| replaced(bytes, " Z", " W")),
        ("nobody is told", |bytes| replaced(bytes, " Z", "")),
        ("stale as fresh", |bytes| replaced(bytes, " X", "")),
    ];
    for (what, change) in changes {
        let port = proxy(address, change);
        for tool in ["setget -n 400 -w 4", "blast -n 8000 --keys 12 -w 16"] {
            let words = "--meta --marks --value-bytes 32-1000 --timeout 30";
            let ended = run(&format!("{tool} {words} -p {port}"));
            assert_eq!(ended.status, 1, "{what}, {tool}: {}{}", ended.stdout, ended.stderr);
            let is_named = ended.stderr.contains(": key ") && ended.stderr.lines().count() == 1;
            assert!(is_named, "{what}, {tool}: {}", ended.stderr);
        }
    }
}
