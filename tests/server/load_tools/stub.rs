//! A small memcached that is wrong in one way, now and then.
//!
//! It speaks all dialects, as far as setget and blast use them: `dialects` encodes them, this file
//! executes requests. With [`Fault::None`] it is correct.

use super::dialects::{Answer, Item, StubRequest, read};
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the stub does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    None,
    /// A get returns another key's flags and value.
    Swapped,
    /// A get returns another key's item, under that key's name.
    OtherKey,
    /// A value starts like the correct one and ends like an earlier one of the same key.
    Mixed,
    /// A value's middle is missing, and zeros are at its end: a lost chunk.
    Shifted,
    /// A value's last byte is missing.
    Short,
    /// A get returns the item from before the last acknowledged set.
    Stale,
    /// A get after an acknowledged delete returns the deleted item.
    Back,
    /// Flags differ.
    Flags,
    /// A set is answered STORED, but not executed.
    LostSet,
    /// An invalid answer.
    Garbage,
    /// The connection is closed in the middle of an answer.
    Close,
    /// Nothing is answered any more.
    Silence,
    /// Every answer takes a tenth of a second.
    Slow,
    /// A get returns a value of [`HUGE_BYTES`], in text.
    Huge,
}

/// Length of a value that nobody stored.
pub const HUGE_BYTES: usize = 256 << 20;

/// Opportunities before the first that is used: by then each key has earlier values.
const FIRST: u64 = 40;

/// After that one opportunity in this many is used.
const EVERY: u64 = 7;

#[derive(Default)]
struct State {
    items: HashMap<String, Item>,
    /// The previous item of each key.
    past: HashMap<String, Item>,
    chances: u64,
    struck: HashSet<String>,
    huge_bytes: usize,
}

/// A running stub. It serves until the process ends.
pub struct Stub {
    pub port: String,
    state: Arc<Mutex<State>>,
}

impl Stub {
    pub fn start(fault: Fault) -> Stub {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let stub = Stub { port, state: Arc::clone(&state) };
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                // It ends with the client's connection, or as the fault says.
                std::thread::spawn(move || serve(&client, fault, &state));
            }
        });
        stub
    }

    /// The keys that were answered wrongly.
    pub fn struck(&self) -> HashSet<String> {
        self.state.lock().expect("no thread panics").struck.clone()
    }

    /// Bytes of huge values that clients have read.
    pub fn huge_bytes(&self) -> usize {
        self.state.lock().expect("no thread panics").huge_bytes
    }
}

impl State {
    /// Whether to apply the fault to this key now.
    fn strikes(&mut self, key: &str) -> bool {
        self.chances += 1;
        let does = self.chances >= FIRST && self.chances.is_multiple_of(EVERY);
        if does {
            self.struck.insert(key.to_owned());
        }
        does
    }

    fn put(&mut self, key: &str, item: Item) {
        if let Some(before) = self.items.insert(key.to_owned(), item) {
            self.past.insert(key.to_owned(), before);
        }
    }

    /// The answer to a get of this key: the key in it, and the item.
    fn look_up(&mut self, key: &str, fault: Fault) -> Option<(String, Item)> {
        let right = self.items.get(key).cloned();
        let past = self.past.get(key).cloned();
        let Some(item) = right else {
            return match past {
                Some(past) if fault == Fault::Back && self.strikes(key) => {
                    Some((key.to_owned(), past))
                }
                _ => None,
            };
        };
        let other = self.items.iter().find(|(name, _)| *name != key);
        let other = other.map(|(name, item)| (name.clone(), item.clone()));
        let (mut name, mut wrong) = (key.to_owned(), item.clone());
        match (fault, other, past) {
            (Fault::Swapped, Some((_, other)), _) => wrong = other,
            (Fault::OtherKey, Some(other), _) => (name, wrong) = other,
            (Fault::Stale, _, Some(past)) if past.value != item.value => wrong = past,
            (Fault::Mixed, _, Some(past)) => {
                let half = item.value.len() / 2;
                let end = past.value.len().min(item.value.len());
                if half >= end {
                    return Some((name, item));
                }
                wrong.value[half..end].copy_from_slice(&past.value[half..end]);
            }
            (Fault::Shifted, ..) => {
                let third = item.value.len() / 3;
                wrong.value.drain(third..2 * third);
                wrong.value.resize(item.value.len(), 0);
            }
            (Fault::Short, ..) => _ = wrong.value.pop(),
            (Fault::Flags, ..) => wrong.flags = item.flags.wrapping_add(1),
            _ => return Some((name, item)),
        }
        if self.strikes(key) { Some((name, wrong)) } else { Some((key.to_owned(), item)) }
    }

    /// The answer to a store.
    fn store(&mut self, request: &StubRequest, fault: Fault) -> &'static str {
        let (key, value, flags) = (&request.keys[0], request.value.clone(), request.flags);
        let before = self.items.get(key).cloned();
        let item = match (&request.verb[..], before) {
            ("set", Some(_)) if fault == Fault::LostSet && self.strikes(key) => return "STORED",
            ("set", _) | ("add", None) | ("replace", Some(_)) => Item { flags, value },
            ("append", Some(before)) => Item { value: [before.value, value].concat(), ..before },
            ("prepend", Some(before)) => {
                Item { value: [value, before.value].concat(), flags: before.flags }
            }
            _ => return "NOT_STORED",
        };
        self.put(key, item);
        "STORED"
    }

    fn delete(&mut self, key: &str) -> &'static str {
        match self.items.remove(key) {
            Some(item) => {
                self.past.insert(key.to_owned(), item);
                "DELETED"
            }
            None => "NOT_FOUND",
        }
    }

    fn answer(&mut self, request: &StubRequest, fault: Fault) -> Answer {
        match &request.verb[..] {
            "get" | "gat" => {
                let items = request.keys.iter().filter_map(|key| self.look_up(key, fault));
                Answer::Items(items.collect())
            }
            "noop" => Answer::Word("END"),
            "delete" => Answer::Word(self.delete(&request.keys[0])),
            "touch" if self.items.contains_key(&request.keys[0]) => Answer::Word("TOUCHED"),
            "touch" => Answer::Word("NOT_FOUND"),
            _ => Answer::Word(self.store(request, fault)),
        }
    }
}

fn serve(client: &TcpStream, fault: Fault, shared: &Mutex<State>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (mut input, mut output) = (BufReader::new(client), client);
    while let Some(request) = read(&mut input)? {
        let mut state = shared.lock().expect("no thread panics");
        let mut bytes = request.encode(state.answer(&request, fault));
        // The end of a multi-get has no key.
        let strikes =
            |state: &mut State| request.keys.first().is_some_and(|key| state.strikes(key));
        match fault {
            Fault::Garbage if strikes(&mut state) => bytes = b"VALUABLE news\r\n".to_vec(),
            Fault::Close if strikes(&mut state) => {
                return output.write_all(&bytes[..bytes.len() / 2]);
            }
            Fault::Silence if strikes(&mut state) => bytes.clear(),
            Fault::Huge if request.verb == "get" => {
                drop(state);
                return flood(output, &request.keys[0], shared);
            }
            _ => {}
        }
        drop(state);
        if fault == Fault::Slow {
            std::thread::sleep(Duration::from_millis(100));
        }
        output.write_all(&bytes)?;
    }
    Ok(())
}

/// Answers a get with a value of [`HUGE_BYTES`], as long as the client reads it.
fn flood(mut output: &TcpStream, key: &str, state: &Mutex<State>) -> io::Result<()> {
    output.write_all(format!("VALUE {key} 0 {HUGE_BYTES}\r\n").as_bytes())?;
    let piece = [b'x'; 64 * 1024];
    for _ in 0..HUGE_BYTES / piece.len() {
        output.write_all(&piece)?;
        state.lock().expect("no thread panics").huge_bytes += piece.len();
    }
    output.write_all(b"\r\nEND\r\n")
}

/// The port of a server that answers each line with `ERROR`, as one older than meta commands.
pub fn without_meta() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            thread::spawn(move || {
                let lines = BufReader::new(&stream).split(b'\n').map_while(Result::ok);
                lines.map_while(|_| (&stream).write_all(b"ERROR\r\n").ok()).count()
            });
        }
    });
    port
}
