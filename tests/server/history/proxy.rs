//! A proxy between the history checker and a memcached that is wrong in one way, now and then.
//!
//! It speaks the text protocol, one request at a time per connection, like the checker. With
//! [`Fault::None`] it changes nothing.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// What the proxy does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    None,
    /// A get returns an earlier value.
    Stale,
    /// A get that misses returns an earlier value.
    Resurrected,
    /// A get returns another key's value.
    Foreign,
    /// The first half is the correct value's, the second an earlier one's.
    Mixed,
    /// A part in the middle is missing, and zeros are at the end.
    Shifted,
    /// The last byte is missing.
    Short,
    /// The last third is zeros.
    ZeroTailed,
    Flags,
    /// A delete is answered, but not executed.
    IgnoredDelete,
    /// A touch that would expire the item is answered, but not executed.
    IgnoredTouch,
    /// flush_all is answered, but not executed.
    IgnoredFlush,
    /// A set is answered STORED, but not executed.
    LostSet,
    /// An append is answered STORED, but not executed.
    LostAppend,
    /// An append is executed twice.
    DoubleAppend,
    /// A cas is executed as a set.
    BlindCas,
    /// An incr is answered, but not executed.
    LostIncr,
    /// A get misses although the item exists. Wrong if nothing may be lost.
    FalseMiss,
}

/// All faults.
pub const FAULTS: &[Fault] = &[
    Fault::Stale,
    Fault::Resurrected,
    Fault::Foreign,
    Fault::Mixed,
    Fault::Shifted,
    Fault::Short,
    Fault::ZeroTailed,
    Fault::Flags,
    Fault::IgnoredDelete,
    Fault::IgnoredTouch,
    Fault::IgnoredFlush,
    Fault::LostSet,
    Fault::LostAppend,
    Fault::DoubleAppend,
    Fault::BlindCas,
    Fault::LostIncr,
    Fault::FalseMiss,
];

/// One opportunity in this many is used.
const EVERY: u64 = 10;

/// Earlier values remembered per key.
const VALUES_KEPT: usize = 8;

/// Flags and data of an item.
type Item = (String, Vec<u8>);

/// State shared by all connections of a proxy.
struct Shared {
    upstream: SocketAddr,
    fault: Fault,
    chances: AtomicU64,
    used: AtomicU64,
    /// Earlier values of keys, the oldest first.
    past: Mutex<HashMap<String, VecDeque<Item>>>,
}

/// A running proxy. It serves until the process ends.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts one.
    pub fn start(upstream: SocketAddr, fault: Fault) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            upstream,
            fault,
            chances: AtomicU64::new(0),
            used: AtomicU64::new(0),
            past: Mutex::default(),
        });
        let proxy = Proxy { address, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                // It ends with the client's or the server's connection.
                std::thread::spawn(move || relay(&client, &shared));
            }
        });
        proxy
    }

    /// What it does wrong.
    pub fn fault(&self) -> Fault {
        self.shared.fault
    }

    /// How often the fault was applied.
    pub fn used(&self) -> u64 {
        self.shared.used.load(Relaxed)
    }
}

impl Shared {
    /// Whether to apply the fault at this opportunity.
    fn strikes(&self, fault: Fault) -> bool {
        self.fault == fault && self.chances.fetch_add(1, Relaxed) % EVERY == EVERY - 1
    }

    fn use_it(&self) {
        self.used.fetch_add(1, Relaxed);
    }
}

fn relay(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let upstream = TcpStream::connect(shared.upstream)?;
    upstream.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let mut server = BufReader::new(upstream);
    let mut requests = BufReader::new(client);
    loop {
        let mut request = line(&mut requests)?;
        let words: Vec<String> = request.trim_end().split(' ').map(str::to_owned).collect();
        let is_storage =
            ["set", "add", "replace", "append", "prepend", "cas"].contains(&&words[0][..]);
        let data = if is_storage { data(&mut requests, &words[4])? } else { vec![] };
        if let Some(answer) = ignored(&words, shared) {
            (&mut &*client).write_all(answer)?;
            continue;
        }
        if words[0] == "cas" && shared.strikes(Fault::BlindCas) {
            request = format!("set {}\r\n", words[1..5].join(" "));
            shared.use_it();
        }
        let times = if words[0] == "append" && shared.strikes(Fault::DoubleAppend) { 2 } else { 1 };
        let mut answer = vec![];
        for _ in 0..times {
            server.get_mut().write_all(&[request.as_bytes(), &data].concat())?;
            let is_get = words[0].starts_with('g');
            answer = if is_get {
                values(&mut server, &words, shared)?
            } else {
                line(&mut server)?.into_bytes()
            };
        }
        if times == 2 {
            shared.use_it();
        }
        if words[0] == "incr" && answer[0].is_ascii_digit() && shared.strikes(Fault::LostIncr) {
            server.get_mut().write_all(format!("decr {} 1\r\n", words[1]).as_bytes())?;
            line(&mut server)?;
            shared.use_it();
        }
        (&mut &*client).write_all(&answer)?;
    }
}

/// One line with its end; an error at the end of the connection.
fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line),
    }
}

/// A data block with its end.
fn data(stream: &mut impl Read, bytes: &str) -> io::Result<Vec<u8>> {
    let bytes: usize = bytes.parse().map_err(io::Error::other)?;
    let mut data = vec![0; bytes + 2];
    stream.read_exact(&mut data)?;
    Ok(data)
}

/// The answer to a request that is not executed.
fn ignored(words: &[String], shared: &Shared) -> Option<&'static [u8]> {
    let is_past = words.get(2).is_some_and(|exptime| exptime == "-1" || exptime == "2592001");
    let (fault, answer): (Fault, &[u8]) = match &words[0][..] {
        "delete" => (Fault::IgnoredDelete, b"DELETED\r\n"),
        "touch" if is_past => (Fault::IgnoredTouch, b"TOUCHED\r\n"),
        "flush_all" => (Fault::IgnoredFlush, b"OK\r\n"),
        "set" => (Fault::LostSet, b"STORED\r\n"),
        "append" => (Fault::LostAppend, b"STORED\r\n"),
        _ => return None,
    };
    // There are few opportunities.
    let is_rare = matches!(fault, Fault::IgnoredFlush | Fault::IgnoredTouch);
    let strikes = if is_rare { shared.fault == fault } else { shared.strikes(fault) };
    strikes.then(|| {
        shared.use_it();
        answer
    })
}

/// The answer to a retrieval, corrupted if that is the fault.
fn values(server: &mut impl BufRead, words: &[String], shared: &Shared) -> io::Result<Vec<u8>> {
    let mut answer = vec![];
    let mut found = vec![];
    loop {
        let head = line(server)?;
        let Some(rest) = head.strip_prefix("VALUE ") else {
            if words[0] == "get" {
                resurrect(words, &found, shared, &mut answer);
            }
            answer.extend(head.as_bytes());
            return Ok(answer);
        };
        let head: Vec<&str> = rest.trim_end().split(' ').collect();
        let mut value = data(server, head[2])?;
        value.truncate(value.len() - 2);
        let key = head[0].to_owned();
        let mut item = (head[1].to_owned(), value);
        found.push(key.clone());
        let unique = head.get(3).map_or(String::new(), |unique| format!(" {unique}"));
        if words[0] == "get" && shared.strikes(Fault::FalseMiss) {
            shared.use_it();
            continue;
        }
        if spoil(&key, &mut item, shared) {
            shared.use_it();
        }
        let (flags, value) = item;
        answer.extend(format!("VALUE {key} {flags} {}{unique}\r\n", value.len()).as_bytes());
        answer.extend(value);
        answer.extend(b"\r\n");
    }
}

/// Adds earlier values for keys that were not found.
fn resurrect(words: &[String], found: &[String], shared: &Shared, answer: &mut Vec<u8>) {
    for key in words[1..].iter().filter(|key| !found.contains(key)) {
        if !shared.strikes(Fault::Resurrected) {
            continue;
        }
        let past = shared.past.lock().expect("no thread panics holding it");
        if let Some((flags, value)) = past.get(key).and_then(|past| past.back()) {
            answer.extend(format!("VALUE {key} {flags} {}\r\n", value.len()).as_bytes());
            answer.extend(value);
            answer.extend(b"\r\n");
            shared.use_it();
        }
    }
}

/// Corrupts an item, and remembers the original. Returns whether it differs now.
fn spoil(key: &str, item: &mut Item, shared: &Shared) -> bool {
    let mut past = shared.past.lock().expect("no thread panics holding it");
    let right = item.clone();
    let bytes = item.1.len();
    let oldest = past.get(key).and_then(|past| past.front()).cloned();
    match shared.fault {
        Fault::Stale if shared.strikes(Fault::Stale) => {
            *item = oldest.unwrap_or_else(|| right.clone());
        }
        Fault::Foreign if shared.strikes(Fault::Foreign) => {
            let other = past.iter().find(|(other, _)| *other != key);
            let other = other.and_then(|(_, past)| past.back()).cloned();
            *item = other.unwrap_or_else(|| right.clone());
        }
        Fault::Mixed if shared.strikes(Fault::Mixed) => {
            let (_, other) = oldest.unwrap_or_else(|| right.clone());
            let from = bytes / 2;
            let mixed = item.1[from..].iter_mut().zip(other.iter().skip(from));
            mixed.for_each(|(to, from)| *to = *from);
        }
        Fault::Shifted if shared.strikes(Fault::Shifted) => {
            item.1.drain(bytes / 3..bytes / 2);
            item.1.resize(bytes, 0);
        }
        Fault::Short if shared.strikes(Fault::Short) => item.1.truncate(bytes - 1),
        Fault::ZeroTailed if shared.strikes(Fault::ZeroTailed) => {
            item.1[bytes - bytes.div_ceil(3)..].fill(0);
        }
        Fault::Flags if shared.strikes(Fault::Flags) => {
            let flags: u32 = item.0.parse().unwrap_or(0);
            item.0 = flags.wrapping_add(1).to_string();
        }
        _ => {}
    }
    let is_spoilt = *item != right;
    let past = past.entry(key.to_owned()).or_default();
    if past.back() != Some(&right) {
        past.push_back(right);
        if past.len() > VALUES_KEPT {
            past.pop_front();
        }
    }
    is_spoilt
}
