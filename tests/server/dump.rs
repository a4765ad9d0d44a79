//! `lru_crawler metadump` and `mgdump`: every item once, of every worker, from every tier that
//! knows its keys; one client at a time, and none that holds more than it reads.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};
use std::net::Shutdown;

use crate::kept::Place;
use crate::support::chaos::Memcached;
use crate::support::client::Client;
use crate::support::{Server, free_port};

const ITEMS: usize = 5_000;

fn key(i: usize) -> String {
    match i % 3 {
        0 => format!("plain-{i}"),
        1 => format!("p%rc/nt-{i}"),
        _ => format!("{i}-{}", "long".repeat(50)),
    }
}

/// A server with these flags on a port of its own.
fn start(flags: &[&str]) -> (Server, u16) {
    let port = free_port();
    let number = port.to_string();
    let flags = [&["-p", &number], flags].concat();
    (Server::sunder(&flags).expect("it starts"), port)
}

fn connect(port: u16) -> Client {
    Client::connect(([127, 0, 0, 1], port).into())
}

/// Sets the items, some of which expire, and some of which are gone afterwards.
fn fill(client: &mut Client, items: usize) {
    for i in 0..items {
        let expiry = if i % 5 == 0 { 1_000 } else { 0 };
        let value = vec![b'v'; 1 + i % 2_000];
        let head = format!("set {} {} {expiry} {}\r\n", key(i), i % 7, value.len());
        client.send(&[head.as_bytes(), &value, b"\r\n"].concat());
    }
    (0..items).for_each(|_| assert_eq!(client.line(), "STORED\r\n"));
    for i in (0..items).step_by(10) {
        client.send(format!("delete {}\r\n", key(i)).as_bytes());
        assert_eq!(client.line(), "DELETED\r\n");
    }
    client.send(b"set gone 0 -1 1\r\nx\r\n");
    assert_eq!(client.line(), "STORED\r\n");
}

fn decoded(word: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), word.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().expect("two"), rest.next().expect("digits")];
                let digits = std::str::from_utf8(&digits).expect("ASCII");
                u8::from_str_radix(digits, 16).expect("hexadecimal")
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).expect("text")
}

/// What a metadump says, by key: fields and how often it was there.
fn metadump(client: &mut Client) -> BTreeMap<String, (BTreeMap<String, String>, usize)> {
    client.send(b"lru_crawler metadump all\r\n");
    let mut found = BTreeMap::new();
    loop {
        let line = client.line();
        if line == "END\r\n" {
            return found;
        }
        let line = line.strip_suffix('\n').expect("a line");
        let field = |word: &str| {
            let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.to_owned())
        };
        let fields: BTreeMap<_, _> = line.split(' ').map(field).collect();
        let key = decoded(&fields["key"]);
        found.entry(key).or_insert((fields, 0)).1 += 1;
    }
}

fn lists_every_item_once(flags: &[&str]) {
    let (_server, port) = start(flags);
    let mut client = connect(port);
    assert!(metadump(&mut client).is_empty());
    fill(&mut client, ITEMS);
    let found = metadump(&mut client);
    for i in 0..ITEMS {
        let entry = found.get(&key(i));
        if i % 10 == 0 {
            assert!(entry.is_none(), "{flags:?}: {} was deleted", key(i));
            continue;
        }
        let (fields, times) = entry.unwrap_or_else(|| panic!("{flags:?}: {} is missing", key(i)));
        assert_eq!(*times, 1, "{}", key(i));
        assert_eq!(fields["flags"], (i % 7).to_string());
        assert_eq!(fields["exp"] == "-1", i % 5 != 0, "{fields:?}");
        assert_eq!(fields["cls"], "1");
        let flags_bytes = if i % 7 == 0 { 0 } else { 4 };
        let size = 48 + key(i).len() + 1 + flags_bytes + 1 + i % 2_000 + 2;
        assert_eq!(fields["size"], (size + 8).to_string(), "{fields:?}");
    }
    assert_eq!(found.len(), ITEMS - ITEMS / 10, "nothing else is listed");
    // Each line of an mgdump is a command that finds its item.
    client.send(b"lru_crawler mgdump hash\r\n");
    let mut gets = Vec::new();
    loop {
        let line = client.line();
        if line == "EN\r\n" {
            break;
        }
        gets.push(line);
    }
    assert_eq!(gets.len(), found.len());
    for get in gets.iter().take(200) {
        client.send(get.as_bytes());
        assert_eq!(client.line(), "HD\r\n", "{get}");
    }
}

#[test]
fn items_in_memory_are_listed_whoever_owns_them() {
    for workers in ["1", "3"] {
        lists_every_item_once(&["--l1", "memory,size=64M", "--workers", workers]);
    }
}

#[test]
fn items_on_an_ssd_are_listed_from_its_buffers_and_from_the_disk() {
    for (l1, workers) in [("", "1"), ("memory,size=8M", "2")] {
        let place = Place::new();
        let ssd = place.l2();
        match l1 {
            "" => lists_every_item_once(&["--l1", &ssd, "--workers", workers]),
            l1 => {
                let batch_port = free_port().to_string();
                let flags = ["--l1", l1, "--l2", &ssd, "--bp", &batch_port, "--workers", workers];
                lists_every_item_once(&flags);
            }
        }
    }
}

#[test]
fn a_tier_that_does_not_know_its_keys_and_a_flag_refuse_it() {
    let memcached = Memcached::start(64, 1).expect("it starts");
    let l1 = format!("memcached,addr={}", memcached.address());
    let (_server, port) = start(&["--l1", &l1]);
    let mut client = connect(port);
    client.send(b"lru_crawler metadump all\r\nlru_crawler mgdump all\r\nget a\r\n");
    for expected in ["CLIENT_ERROR lru crawler disabled\r\n"; 2] {
        assert_eq!(client.line(), expected);
    }
    assert_eq!(client.line(), "END\r\n");
    let (_server, port) = start(&["--l1", "memory", "-X"]);
    let mut client = connect(port);
    client.send(b"lru_crawler metadump all\r\nlru_crawler mgdump all\r\n");
    assert_eq!(client.line(), "ERROR metadump not allowed\r\n");
    assert_eq!(client.line(), "ERROR key dump not allowed\r\n");
}

#[test]
fn requests_around_a_dump_are_answered_in_their_order() {
    let (_server, port) = start(&["--l1", "memory,size=64M", "--workers", "2"]);
    let mut client = connect(port);
    fill(&mut client, 300);
    client.send(b"set a 0 0 1\r\n1\r\nget a\r\nlru_crawler mgdump all\r\nincr a 1\r\nversion\r\n");
    client.0.get_mut().shutdown(Shutdown::Write).expect("a socket");
    let mut all = String::new();
    client.0.read_to_string(&mut all).expect("text");
    let (front, rest) = all.split_at("STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n".len());
    assert_eq!(front, "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n");
    let lines = rest.lines().take_while(|line| line.starts_with("mg ")).count();
    assert_eq!(lines, 271);
    assert!(rest.contains("\r\nEN\r\n2\r\nVERSION "), "{}", &rest[rest.len() - 100..]);
}

#[test]
fn one_client_lists_at_a_time_and_one_that_does_not_read_holds_little() {
    let (_server, port) = start(&["--l1", "memory,size=256M"]);
    let mut client = connect(port);
    fill(&mut client, 100_000);
    let mut stuck = connect(port);
    stuck.send(b"lru_crawler metadump all\r\n");
    assert!(stuck.0.fill_buf().expect("it begins").starts_with(b"key="));
    // The rest of some 15 MB waits for this client.
    client.send(b"lru_crawler metadump all\r\nget plain-3\r\n");
    assert_eq!(client.line(), "BUSY currently processing crawler request\r\n");
    assert!(client.line().starts_with("VALUE plain-3 "));
    client.line();
    assert_eq!(client.line(), "END\r\n");
    drop(stuck);
    // Its end frees the way.
    loop {
        client.send(b"lru_crawler metadump 2\r\nlru_crawler mgdump all\r\n");
        assert_eq!(client.line(), "END\r\n");
        let first = client.line();
        if !first.starts_with("BUSY") {
            assert!(first.starts_with("mg "));
            break;
        }
        std::thread::yield_now();
    }
    let mut lines = 1;
    while client.line() != "EN\r\n" {
        lines += 1;
    }
    assert_eq!(lines, 90_000);
    client.0.get_mut().write_all(b"quit\r\n").expect("it reads");
}
