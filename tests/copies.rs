//! Counts how often a value is copied in this process: the table of docs/ARCHITECTURE.md.
//!
//! A server runs in this process, on kernel sockets. The functions that make all copies of more
//! than a few bytes are replaced by ones that count; copies in the kernel are not counted. The
//! client copies nothing.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use sunder::config::{Config, l1};
use sunder::serve::serve;
use support::{PATIENCE, Server, free_port, free_socket_path};

const VALUE_BYTES: usize = 100_000;
const ROUNDS: usize = 8;
/// Shorter copies are not counted.
const COUNTED_BYTES_MIN: usize = 64;
/// A value repeats this many letters, which distinguishes its copies from those of structures: how
/// often these are moved depends on the optimizer.
const LETTERS: u8 = 23;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static COPIED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The byte of a value that follows `byte` of it.
const fn next(byte: u8) -> u8 {
    if byte == b'a' + LETTERS - 1 { b'a' } else { byte + 1 }
}

/// Whether the two are adjacent in a value.
const fn is_of_value(first: u8, second: u8) -> bool {
    first >= b'a' && first < b'a' + LETTERS && next(first) == second
}

/// Byte by byte, so that the compiler does not recognize a copy and call this function.
///
/// # Safety
/// As of memmove(3).
#[allow(unsafe_code, reason = "to stand in for the C library's copies")]
unsafe fn copy(to: *mut u8, from: *const u8, bytes: usize) {
    let is_forward = (to as usize) <= from as usize;
    // Not a range: its iterator is slow in a debug build, and there are many bytes.
    let mut i = 0;
    while i < bytes {
        let at = if is_forward { i } else { bytes - 1 - i };
        // SAFETY: `at` is below `bytes`, for which both are valid.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
        i += 1;
    }
    if bytes >= COUNTED_BYTES_MIN && IS_COUNTING.load(Relaxed) {
        // SAFETY: `to` is valid for so many bytes, which were written just now.
        let copied = unsafe { std::slice::from_raw_parts(to, bytes) };
        let of_value = copied.windows(2).filter(|pair| is_of_value(pair[0], pair[1])).count();
        COPIED_BYTES.fetch_add(of_value, Relaxed);
    }
}

#[allow(unsafe_code, reason = "to stand in for the C library's copies")]
// SAFETY: it does what memcpy(3) does.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { copy(to, from, bytes) };
    to
}

#[allow(unsafe_code, reason = "to stand in for the C library's copies")]
// SAFETY: it does what memmove(3) does.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { copy(to, from, bytes) };
    to
}

struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    fn start(config: Config) -> Client {
        let port = config.port;
        std::thread::spawn(move || serve(&config).expect("it serves"));
        let start = std::time::Instant::now();
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Client { stream, answer: vec![0; 2 * VALUE_BYTES] }
    }

    /// How often each byte of a value is copied while the server answers `request`.
    fn copies(&mut self, request: &[u8], expected: &[u8]) -> f64 {
        // The first round, in which buffers grow, is not counted.
        for round in 0..=ROUNDS {
            self.stream.write_all(request).expect("it reads");
            let answer = &mut self.answer[..expected.len()];
            self.stream.read_exact(answer).expect("it answers");
            assert!(*answer == *expected, "a wrong answer");
            if round == 0 {
                COPIED_BYTES.store(0, Relaxed);
                IS_COUNTING.store(true, Relaxed);
            }
        }
        IS_COUNTING.store(false, Relaxed);
        COPIED_BYTES.load(Relaxed) as f64 / (ROUNDS * VALUE_BYTES) as f64
    }
}

#[test]
fn a_value_of_100_kb_is_copied_as_often_as_the_docs_say() {
    let path = free_socket_path();
    let _memcached = Server::memcached_at(&path, 64).expect("memcached starts");
    let link = format!("memcached,addr=unix:{}", path.display());
    let value: Vec<u8> =
        std::iter::successors(Some(b'a'), |&byte| Some(next(byte))).take(VALUE_BYTES).collect();
    let end: &[u8] = b"\r\n";
    for (words, of_get, of_set) in [
        ("memory", 0.0, 0.0),
        (&link, 1.0, 1.0),
        (&format!("{link},layout=chunked"), 1.0, 1.0),
        (&format!("{link},layout=chunked,chunk=16K"), 1.0, 1.0),
    ] {
        let l1 = l1(words).expect("known words");
        let mut client =
            Client::start(Config { port: free_port(), workers: Some(1), l1, ..Config::default() });
        let set = [b"set key 0 0 100000\r\n", &value[..], end].concat();
        let set = client.copies(&set, b"STORED\r\n");
        let hit = [b"VALUE key 0 100000\r\n", &value[..], b"\r\nEND\r\n"].concat();
        let get = client.copies(b"get key\r\n", &hit);
        println!("{words}: a set {set:.2}, a get {get:.2}");
        // What arrives with a head, and moves within a buffer, add a few per cent.
        let few = -0.02..0.1;
        assert!(few.contains(&(get - of_get)), "{words}: {get} copies of a get");
        assert!(few.contains(&(set - of_set)), "{words}: {set} copies of a set");
    }
}
