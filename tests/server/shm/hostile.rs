//! A client that was attached and then writes anything: to the indexes, as requests, or nothing.

use super::{ask, rings, until};
use crate::support::chaos::Memcached;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use sunder::base::random::Random;
use sunder::tier::shm::ring::{Memory, Side, Way, Word};
use sunder::tier::shm::segment::Segment;
use sunder::tier::shm::{End, handshake};

/// An attachment, a second mapping of its memory, and the daemon's doorbell.
fn attach(l1d: &Memcached) -> (End, Segment, OwnedFd) {
    let socket = UnixStream::connect(rings(l1d)).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
    handshake::ask(&socket).expect("it reads");
    let given = handshake::receive_answer(&socket).expect("not refused").expect("an answer");
    let memory = Segment::open(&given.segment).expect("a segment");
    let bell = given.daemon_bell.try_clone().expect("a descriptor");
    (End::attach(socket, given).expect("a segment"), memory, bell)
}

#[test]
fn indexes_that_lie_end_the_attachment_and_nothing_else() {
    let l1d = Memcached::start_l1d(64, 1).expect("it starts");
    let (mut honest, ..) = attach(&l1d);
    let mut random = Random::new(13);
    for round in 0..100 {
        let (mut end, memory, bell) = attach(&l1d);
        let value = random.draw() as u32 | 1 << 20;
        if round % 2 == 0 {
            // More was written than a ring holds.
            memory.store(Word::Sleeps(Side::Daemon), value);
            memory.store(Word::Written(Way::Requests), value);
            rustix::io::write(&bell, &1u64.to_ne_bytes()).expect("it rings");
            until("it hangs up", || end.is_hung_up());
        } else {
            // Answers were read that were never written. It looks when it has little room.
            memory.store(Word::Read(Way::Answers), value);
            until("it hangs up", || {
                // It fails while there is no room.
                let _ = end.write(&b"version\r\n".repeat(99));
                end.is_hung_up()
            });
        }
    }
    assert!(!honest.is_hung_up());
    honest.write(b"version\r\n").expect("room");
    let mut out = [0; 100];
    until("it answers", || honest.read(&mut out).is_ok());
    assert!(out.starts_with(b"VERSION "));
}

#[test]
fn requests_of_random_bytes_are_refused_and_the_daemon_goes_on() {
    let l1d = Memcached::start_l1d(64, 1).expect("it starts");
    let mut random = Random::new(14);
    for round in 0..60 {
        let (mut end, memory, _bell) = attach(&l1d);
        let mut bytes: Vec<u8> = (0..random.below(3000)).map(|_| random.draw() as u8).collect();
        if round % 2 == 0 {
            // A header whose lengths are what they are.
            bytes.insert(0, 0x80);
        }
        let mut out = [0; 10_000];
        for piece in bytes.chunks(500) {
            let _ = end.write(piece);
            let _ = end.read(&mut out);
            // Bytes change behind the index, too.
            memory.copy_in(
                Way::Requests,
                random.below(4000) as usize,
                &random.draw().to_ne_bytes(),
            );
        }
    }
    assert_eq!(ask(l1d.path(), "set key 0 0 1\r\nx"), "STORED\r\n");
    let (mut end, ..) = attach(&l1d);
    end.write(b"get key\r\n").expect("room");
    let mut out = [0; 100];
    until("it answers", || end.read(&mut out).is_ok());
    assert!(out.starts_with(b"VALUE key 0 1\r\nx\r\nEND\r\n"));
}

#[test]
fn a_client_that_reads_nothing_holds_up_nobody() {
    let l1d = Memcached::start_l1d(64, 1).expect("it starts");
    assert!(
        ask(l1d.path(), &format!("set long 0 0 500000\r\n{}", "x".repeat(500_000))) == "STORED\r\n"
    );
    let (mut greedy, ..) = attach(&l1d);
    let mut sent = 0;
    // It asks for more and more, until nothing more is taken.
    for _ in 0..2_000 {
        match greedy.write(b"get long\r\n") {
            Ok(n) => sent += n,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    assert!(sent > 100);
    assert_eq!(ask(l1d.path(), "set key 0 0 1\r\nx"), "STORED\r\n");
    let (mut other, ..) = attach(&l1d);
    other.write(b"get key\r\n").expect("room");
    let mut out = [0; 100];
    until("it answers", || other.read(&mut out).is_ok());
    assert!(out.starts_with(b"VALUE key"));
}
