//! The rings in one process: all interleavings of small cases under loom, and memory that lies.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, fence};
use loom::thread;
use proptest::prelude::*;

use super::*;

const WORDS: usize = 6;

fn place(word: Word) -> usize {
    match word {
        Word::Written(Way::Requests) => 0,
        Word::Read(Way::Requests) => 1,
        Word::Written(Way::Answers) => 2,
        Word::Read(Way::Answers) => 3,
        Word::Sleeps(Side::Client) => 4,
        Word::Sleeps(Side::Daemon) => 5,
    }
}

/// Memory in which loom sees each access: a byte that one side reads while the other writes it
/// fails the test.
struct Watched {
    words: [AtomicU32; WORDS],
    bytes: [Vec<loom::cell::Cell<u8>>; 2],
}

impl Watched {
    fn new(capacity: usize) -> Arc<Watched> {
        let ring = || (0..capacity).map(|_| loom::cell::Cell::new(0)).collect();
        Arc::new(Watched {
            words: std::array::from_fn(|_| AtomicU32::new(0)),
            bytes: [ring(), ring()],
        })
    }
}

#[derive(Clone)]
struct Handle(Arc<Watched>);

// SAFETY: the cells are checked by loom, which fails the test if two threads use one at a time.
#[allow(unsafe_code, reason = "loom's cell is not Sync, because it finds races itself")]
unsafe impl Send for Handle {}

impl Memory for Handle {
    fn load(&self, word: Word) -> u32 {
        self.0.words[place(word)].load(Acquire)
    }

    fn store(&self, word: Word, value: u32) {
        self.0.words[place(word)].store(value, Release);
    }

    fn fence(&self) {
        fence(SeqCst);
    }

    fn copy_in(&self, way: Way, at: usize, bytes: &[u8]) {
        for (cell, byte) in self.0.bytes[way as usize][at..].iter().zip(bytes) {
            cell.set(*byte);
        }
    }

    fn copy_out(&self, way: Way, at: usize, out: &mut [u8]) {
        for (cell, byte) in self.0.bytes[way as usize][at..].iter().zip(out) {
            *byte = cell.get();
        }
    }
}

/// A doorbell as an eventfd is one: a ring before the wait ends the wait.
struct Bell(loom::sync::Mutex<bool>, loom::sync::Condvar);

impl Bell {
    fn new() -> Arc<Bell> {
        Arc::new(Bell(loom::sync::Mutex::new(false), loom::sync::Condvar::new()))
    }

    fn ring(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }

    fn wait(&self) {
        let mut is_rung = self.0.lock().unwrap();
        while !*is_rung {
            is_rung = self.1.wait(is_rung).unwrap();
        }
        *is_rung = false;
    }
}

/// Sends `message`, and sleeps whenever there is no room.
fn send(rings: &mut Rings<Handle>, message: &[u8], own: &Bell, other: &Bell) {
    let mut sent = 0;
    while sent < message.len() {
        let n = rings.write(&message[sent..]).unwrap();
        sent += n;
        if n > 0 && rings.must_wake(Sleep::Input) {
            other.ring();
        }
        if n == 0 && rings.fall_asleep(Sleep::Room).unwrap() {
            own.wait();
            rings.rise();
        }
    }
}

/// Receives `bytes` bytes, and sleeps whenever there are none.
fn receive(rings: &mut Rings<Handle>, bytes: usize, own: &Bell, other: &Bell) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        let mut out = [0; 2];
        let n = rings.read(&mut out).unwrap();
        all.extend(&out[..n]);
        if n > 0 && rings.must_wake(Sleep::Room) {
            other.ring();
        }
        if n == 0 && rings.fall_asleep(Sleep::Input).unwrap() {
            own.wait();
            rings.rise();
        }
    }
    all
}

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn no_byte_is_lost_or_torn_and_no_side_sleeps_for_ever() {
    // Two bytes of room for three: the writer has to wait, and the ring wraps.
    explore(3, || {
        let memory = Handle(Watched::new(2));
        let (client_bell, daemon_bell) = (Bell::new(), Bell::new());
        let (bell, other) = (Arc::clone(&daemon_bell), Arc::clone(&client_bell));
        let daemon = memory.clone();
        let receiver = thread::spawn(move || {
            let mut rings = Rings::new(daemon, Side::Daemon, 2);
            assert_eq!(receive(&mut rings, 3, &bell, &other), [1, 2, 3]);
        });
        let mut rings = Rings::new(memory, Side::Client, 2);
        send(&mut rings, &[1, 2, 3], &client_bell, &daemon_bell);
        receiver.join().unwrap();
    });
}

#[test]
fn a_request_and_its_answer_wake_whoever_sleeps() {
    explore(3, || {
        let memory = Handle(Watched::new(1));
        let (client_bell, daemon_bell) = (Bell::new(), Bell::new());
        let (bell, other) = (Arc::clone(&daemon_bell), Arc::clone(&client_bell));
        let daemon = memory.clone();
        let daemon = thread::spawn(move || {
            let mut rings = Rings::new(daemon, Side::Daemon, 1);
            let request = receive(&mut rings, 1, &bell, &other);
            send(&mut rings, &[request[0] + 1], &bell, &other);
        });
        let mut rings = Rings::new(memory, Side::Client, 1);
        send(&mut rings, &[7], &client_bell, &daemon_bell);
        assert_eq!(receive(&mut rings, 1, &client_bell, &daemon_bell), [8]);
        daemon.join().unwrap();
    });
}

/// Memory whose every word is what a list says next, as another side that lies would have it.
#[derive(Debug, Default)]
struct Lying {
    words: RefCell<Vec<u32>>,
    next: Cell<usize>,
}

const LYING_BYTES: usize = 64;

impl Memory for Lying {
    fn load(&self, _word: Word) -> u32 {
        let words = self.words.borrow();
        self.next.set(self.next.get() + 1);
        words[self.next.get() % words.len()]
    }

    fn store(&self, _word: Word, _value: u32) {}

    fn fence(&self) {}

    fn copy_in(&self, _way: Way, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= LYING_BYTES);
    }

    fn copy_out(&self, _way: Way, at: usize, out: &mut [u8]) {
        assert!(at + out.len() <= LYING_BYTES);
    }
}

proptest! {
    #[test]
    fn an_index_that_lies_never_leads_outside_of_a_ring(
        words in proptest::collection::vec(prop_oneof![0..200u32, any::<u32>()], 1..20),
        steps in proptest::collection::vec((0..5u8, 0..100usize), 1..60),
    ) {
        let memory = Lying { words: RefCell::new(words), next: Cell::new(0) };
        let mut rings = Rings::new(memory, Side::Daemon, LYING_BYTES);
        for (step, bytes) in steps {
            let result = match step {
                0 => rings.read(&mut vec![0; bytes]),
                1 => rings.write(&vec![1; bytes]),
                2 => rings.has_input().map(usize::from),
                3 => rings.has_room().map(usize::from),
                _ => rings.fall_asleep(Sleep::Room).map(usize::from),
            };
            rings.must_wake(Sleep::Input);
            match result {
                Ok(n) => prop_assert!(n <= bytes.max(1)),
                Err(Lie) => break,
            }
        }
    }
}

#[test]
fn an_index_that_goes_back_or_too_far_is_a_lie() {
    let told = |words: &[u32]| {
        let memory = Lying { words: RefCell::new(words.to_vec()), next: Cell::new(usize::MAX) };
        memory.next.set(words.len() - 1);
        Rings::new(memory, Side::Daemon, LYING_BYTES)
    };
    let mut out = [0; 100];
    assert_eq!(told(&[65]).read(&mut out), Err(Lie));
    assert_eq!(told(&[u32::MAX]).read(&mut out), Err(Lie));
    let mut rings = told(&[64, 10]);
    assert_eq!(rings.read(&mut out[..20]), Ok(20));
    assert_eq!(rings.read(&mut out), Err(Lie), "it had written 64");
    assert_eq!(told(&[1]).write(&out), Err(Lie), "nothing was written that it could have read");
    assert_eq!(told(&[0]).write(&out), Ok(64));
}
