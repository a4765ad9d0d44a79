//! Both ends of an attachment in one process, and an end whose other side writes anything.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::thread;

use mio::{Events, Poll};

use super::*;
use crate::base::limits::RING_BYTES;
use crate::base::random::Random;
use crate::tier::shm::ring::{Memory, Way, Word};

fn pair() -> (End, End) {
    let (daemon_socket, client_socket) = UnixStream::pair().unwrap();
    let (daemon, given) = End::create(daemon_socket, 7).unwrap();
    (End::attach(client_socket, given).unwrap(), daemon)
}

/// The next byte of a stream of which every place is different from its neighbours.
fn byte(place: usize) -> u8 {
    (place % 251) as u8
}

#[test]
fn a_value_longer_than_a_ring_passes_in_pieces_while_both_sides_sleep_when_they_can() {
    let bytes = 5 * RING_BYTES + 321;
    let (mut client, mut daemon) = pair();
    let receiver = thread::spawn(move || {
        let mut poll = Poll::new().unwrap();
        poll.registry().register(&mut daemon, Token(1), Interest::READABLE).unwrap();
        let (mut out, mut place) = ([0; 10_000], 0);
        while place < bytes {
            match daemon.read(&mut out) {
                Ok(n) => {
                    let is_right = |(i, got): (usize, &u8)| *got == byte(place + i);
                    assert!(out[..n].iter().enumerate().all(is_right));
                    place += n;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    sleep(&mut daemon, &mut poll, Sleep::Input);
                }
            }
        }
        assert_eq!(place, bytes);
    });
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&mut client, Token(1), Interest::READABLE).unwrap();
    let all: Vec<u8> = (0..bytes).map(byte).collect();
    let mut sent = 0;
    while sent < bytes {
        match client.write(&all[sent..]) {
            Ok(n) => sent += n,
            Err(_) => sleep(&mut client, &mut poll, Sleep::Room),
        }
    }
    receiver.join().unwrap();
}

/// Sleeps until the other side rings, for ever if it does not.
fn sleep(end: &mut End, poll: &mut Poll, what: Sleep) {
    if end.fall_asleep(what) {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, None).unwrap();
    }
    end.rise();
}

#[test]
fn no_doorbell_rings_for_a_side_that_is_awake() {
    let (mut client, mut daemon) = pair();
    let rings = |end: &End| {
        let mut counter = [0; 8];
        rustix::io::read(end.bell(), &mut counter).map_or(0, |_| u64::from_ne_bytes(counter))
    };
    client.write(b"one").unwrap();
    assert_eq!(rings(&daemon), 0);
    assert!(!daemon.fall_asleep(Sleep::Input), "there is input");
    let mut out = [0; 8];
    assert_eq!(daemon.read(&mut out).unwrap(), 3);
    assert!(daemon.fall_asleep(Sleep::Input));
    client.write(b"two").unwrap();
    client.write(b"three").unwrap();
    assert_eq!(rings(&daemon), 1, "once for each sleep");
    assert!(daemon.rise() && !daemon.rise());
    assert_eq!(rings(&client), 0);
}

#[test]
fn each_side_sees_that_the_other_is_gone() {
    let (client, daemon) = pair();
    assert!(!client.is_hung_up() && !daemon.is_hung_up());
    client.finish().unwrap();
    assert!(daemon.is_hung_up() && !client.is_hung_up());
    drop(daemon);
    assert!(client.is_hung_up());
    assert!(client.socket().as_raw_fd() >= 0);
}

/// Another mapping of the memory of an attachment, which its holder may write anything to.
fn with_memory() -> (End, End, Segment) {
    let (daemon_socket, client_socket) = UnixStream::pair().unwrap();
    let (daemon, given) = End::create(daemon_socket, 7).unwrap();
    let memory = Segment::open(&given.segment).unwrap();
    (End::attach(client_socket, given).unwrap(), daemon, memory)
}

#[test]
fn whatever_one_side_writes_the_other_ends_the_attachment_or_goes_on_with_what_it_read() {
    let mut random = Random::new(20_261_202);
    let words = [Way::Requests, Way::Answers]
        .into_iter()
        .flat_map(|way| [Word::Written(way), Word::Read(way)])
        .chain([Word::Sleeps(Side::Client), Word::Sleeps(Side::Daemon)]);
    let words: Vec<Word> = words.collect();
    let (mut ended, mut steps) = (0, 0);
    for _ in 0..300 {
        let (mut client, mut daemon, memory) = with_memory();
        for _ in 0..40 {
            steps += 1;
            let value = match random.below(3) {
                0 => random.draw() as u32,
                1 => random.below(2 * RING_BYTES as u64) as u32,
                _ => random.below(64) as u32,
            };
            memory.store(words[random.below(words.len() as u64) as usize], value);
            let at = random.below(RING_BYTES as u64 - 8) as usize;
            memory.copy_in(Way::Requests, at, &random.draw().to_ne_bytes());
            let end = if random.below(2) == 0 { &mut client } else { &mut daemon };
            let mut out = vec![0; random.below(3 * RING_BYTES as u64) as usize];
            let moved = match random.below(3) {
                0 => end.read(&mut out),
                1 => end.write(&out),
                _ => {
                    end.fall_asleep(Sleep::Room);
                    end.rise();
                    continue;
                }
            };
            match moved {
                Ok(n) => assert!(n <= RING_BYTES),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidData);
                    assert!(end.is_broken());
                    ended += 1;
                    break;
                }
            }
        }
    }
    assert!(ended > 100 && steps > 1000, "{ended} of 300 ended, after {steps} steps");
}
