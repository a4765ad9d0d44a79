//! SSD as clients see it: every command, values of all lengths, items beyond memory, a stop and a
//! start.

use super::LogFile;
use super::client::{Client, value};
use crate::support::run_sunder;
use std::io::{Read, Write};

/// Lengths of values: every kind of record, up to the largest.
const LENGTHS: &[usize] = &[1, 2, 63, 64, 1000, 4000, 4096, 4097, 65_536, 300_001, 1_048_000];

/// The binary protocol's GETE (0x40): the extras of its answer are flags and expiry.
fn expiry_by_gete(client: &mut Client, key: &str) -> (u32, u32) {
    let mut request = [0; 24];
    request[..2].copy_from_slice(&[0x80, 0x40]);
    request[3] = key.len() as u8;
    request[11] = key.len() as u8;
    let stream = client.lines.get_mut();
    let mut own =
        std::net::TcpStream::connect(stream.peer_addr().expect("a peer")).expect("serves");
    own.write_all(&[&request, key.as_bytes()].concat()).expect("it reads");
    let mut answer = [0; 32];
    own.read_exact(&mut answer).expect("it answers");
    assert_eq!((answer[0], answer[1], answer[7]), (0x81, 0x40, 0), "a hit");
    let word = |at: usize| u32::from_be_bytes(answer[at..at + 4].try_into().expect("four"));
    (word(24), word(28))
}

fn every_command(flags: &[&str]) {
    let mut c = Client::start(flags);
    assert_eq!(c.get("a"), None);
    assert_eq!(c.store("set", "a", 5, b"one"), "STORED");
    assert_eq!(c.get("a"), Some((5, b"one".to_vec())));
    assert_eq!(c.store("add", "a", 0, b"x"), "NOT_STORED");
    assert_eq!(c.store("replace", "a", 6, b"two"), "STORED");
    assert_eq!(c.store("append", "a", 9, b"!"), "STORED");
    assert_eq!(c.store("prepend", "a", 9, b">"), "STORED");
    assert_eq!(c.get("a"), Some((6, b">two!".to_vec())));
    assert_eq!(c.request("touch a 1000"), "TOUCHED");
    assert_eq!(c.request("touch none 1000"), "NOT_FOUND");
    let (flags_of_a, expiry) = expiry_by_gete(&mut c, "a");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later");
    assert_eq!(flags_of_a, 6);
    assert!(expiry.abs_diff(now.as_secs() as u32 + 1000) < 60, "{expiry}");
    c.send(b"gat 0 a\r\n").expect("it reads");
    assert_eq!(c.hit().expect("it answers"), Some((6, b">two!".to_vec())));
    assert_eq!(expiry_by_gete(&mut c, "a"), (6, 0));
    assert_eq!(c.store("set", "n", 0, b"9"), "STORED");
    assert_eq!(c.request("incr n 11"), "20");
    assert_eq!(c.request("decr n 18"), "2");
    assert_eq!(c.request("incr none 1"), "NOT_FOUND");
    c.send(b"gets a\r\n").expect("it reads");
    let cas = c.line().expect("a head").rsplit(' ').next().expect("a number").to_owned();
    assert_eq!((c.line().expect("it"), c.line().expect("it")), (">two!".into(), "END".into()));
    c.send(format!("cas a 1 0 1 {cas}\r\nx\r\ncas a 1 0 1 {cas}\r\ny\r\n").as_bytes()).expect("it");
    assert_eq!((c.line().expect("it"), c.line().expect("it")), ("STORED".into(), "EXISTS".into()));
    assert_eq!(c.get("a"), Some((1, b"x".to_vec())));
    assert_eq!(c.request("delete a"), "DELETED");
    assert_eq!(c.request("delete a"), "NOT_FOUND");
    assert_eq!(c.get("a"), None);
    for (seed, &len) in LENGTHS.iter().enumerate() {
        let bytes = value(seed as u64, len);
        assert_eq!(c.store("set", &format!("l{len}"), 3, &bytes), "STORED");
    }
    for (seed, &len) in LENGTHS.iter().enumerate() {
        let found = c.get(&format!("l{len}"));
        assert!(found == Some((3, value(seed as u64, len))), "{len} bytes");
    }
    assert_eq!(c.request("flush_all"), "OK");
    assert_eq!(c.get("n"), None);
    assert_eq!(c.get("l1000"), None);
    assert_eq!(c.store("set", "n", 0, b"new"), "STORED");
    assert_eq!(c.get("n"), Some((0, b"new".to_vec())));
    assert_eq!(c.server.terminate(), Ok(0));
}

#[test]
fn every_command_on_an_ssd_alone() {
    let place = LogFile::new();
    for workers in ["1", "2"] {
        let tier = place.tier(",size=600M,format");
        every_command(&["--workers", workers, "--poll", "adaptive", "--l1", &tier]);
    }
    every_command(&["--workers", "1", "--poll", "busy", "--l1", &place.tier(",format")]);
}

#[test]
fn every_command_behind_memory() {
    let place = LogFile::new();
    for workers in ["1", "2"] {
        let tier = place.tier(",size=600M,format");
        every_command(&["--workers", workers, "--poll", "adaptive", "--l2", &tier]);
    }
}

/// Items of `KEYS`, some of them deleted, across a restart; items not in memory come from disk.
fn survives_a_stop(flags: &[&str]) {
    const KEYS: u64 = 2500;
    let len = |i: u64| (i * 37 % 9000) as usize;
    let mut c = Client::start(flags);
    for i in 0..KEYS {
        assert_eq!(c.store("set", &format!("k{i}"), i as u32, &value(i, len(i))), "STORED");
    }
    for i in (0..KEYS).step_by(7) {
        assert_eq!(c.request(&format!("delete k{i}")), "DELETED");
    }
    let all = |c: &mut Client| {
        for i in 0..KEYS {
            let expected = (i % 7 != 0).then(|| (i as u32, value(i, len(i))));
            assert!(c.get(&format!("k{i}")) == expected, "k{i}");
        }
    };
    all(&mut c);
    assert_eq!(c.server.terminate(), Ok(0));
    let mut c = Client::start(flags);
    assert!(c.server.stderr().contains(" found in "), "{}", c.server.stderr());
    assert_eq!(c.stat("ssd_reads").expect("it answers"), 0);
    all(&mut c);
    let reads = c.stat("ssd_reads").expect("it answers");
    assert!(reads >= KEYS * 6 / 7, "{reads} reads");
    assert_eq!(c.stat("ssd_corrupt").expect("it answers"), 0);
    assert_eq!(c.request("flush_all"), "OK");
    assert_eq!(c.server.terminate(), Ok(0));
    let mut c = Client::start(flags);
    assert_eq!(c.get("k1"), None, "a flushed item stays flushed");
}

#[test]
fn an_ssd_alone_survives_a_stop() {
    let place = LogFile::new();
    let tier = place.tier(",size=600M");
    survives_a_stop(&["--workers", "2", "--l1", &tier]);
    let looked_at = run_sunder(&["l2", "check", place.text()]).expect("it ends");
    assert_eq!(looked_at.status, 0, "{}{}", looked_at.stdout, looked_at.stderr);
    for line in ["part 1 of 2", "segments             17  of 16384 KiB each, in this part"] {
        assert!(looked_at.stdout.contains(line), "{}", looked_at.stdout);
    }
}

#[test]
fn an_ssd_behind_little_memory_survives_a_stop() {
    let place = LogFile::new();
    let l1 = "memory,size=8M";
    survives_a_stop(&["--workers", "2", "--l1", l1, "--l2", &place.tier(",size=600M")]);
}
