//! A small memcached that is wrong in one way, now and then.
//!
//! It speaks the text protocol, as much of it as the tools ask for. With [`Fault::None`] it is
//! right.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the stub does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    None,
    /// A get is answered another key's flags and value.
    Swapped,
    /// A get is answered another key's item, under that key's name.
    OtherKey,
    /// A value begins as the right one and ends as an earlier one of the same key.
    Mixed,
    /// A value's middle is left out, and zeros are at its end: a lost chunk.
    Shifted,
    /// A value lacks its last byte.
    Short,
    /// A get is answered what was there before the last acknowledged set.
    Stale,
    /// A get behind an acknowledged delete is answered what was there.
    Back,
    /// Flags are other ones.
    Flags,
    /// A set is answered STORED, and not done.
    LostSet,
    /// An answer that is none.
    Garbage,
    /// The connection is closed in the middle of an answer.
    Close,
    /// Nothing is answered any more.
    Silence,
}

/// Chances before the first that is used: by then each key has a past.
const FIRST: u64 = 40;

/// From then on one chance in this many is used.
const EVERY: u64 = 7;

#[derive(Clone, Default)]
struct Item {
    flags: String,
    value: Vec<u8>,
}

#[derive(Default)]
struct State {
    items: HashMap<String, Item>,
    /// What each key had before.
    past: HashMap<String, Item>,
    chances: u64,
    struck: HashSet<String>,
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
                // It ends with the client's connection, or as the fault has it.
                std::thread::spawn(move || serve(&client, fault, &state));
            }
        });
        stub
    }

    /// The keys that were answered wrongly.
    pub fn struck(&self) -> HashSet<String> {
        self.state.lock().expect("no thread panics").struck.clone()
    }
}

impl State {
    /// Whether to use this chance to be wrong about this key.
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

    /// What a get of this key is answered: under which name, and the item.
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
            (Fault::Flags, ..) => {
                let flags: u32 = item.flags.parse().expect("a number");
                wrong.flags = flags.wrapping_add(1).to_string();
            }
            _ => return Some((name, item)),
        }
        if self.strikes(key) { Some((name, wrong)) } else { Some((key.to_owned(), item)) }
    }

    /// What a store is answered.
    fn store(&mut self, words: &[&str], value: Vec<u8>, fault: Fault) -> &'static str {
        let (key, flags) = (words[1], words[2].to_owned());
        let before = self.items.get(key).cloned();
        let item = match (words[0], before) {
            ("set", Some(_)) if fault == Fault::LostSet && self.strikes(key) => return "STORED\r\n",
            ("set", _) | ("add", None) | ("replace", Some(_)) => Item { flags, value },
            ("append", Some(before)) => Item { value: [before.value, value].concat(), ..before },
            ("prepend", Some(before)) => {
                Item { value: [value, before.value].concat(), flags: before.flags }
            }
            _ => return "NOT_STORED\r\n",
        };
        self.put(key, item);
        "STORED\r\n"
    }

    fn delete(&mut self, key: &str) -> &'static str {
        match self.items.remove(key) {
            Some(item) => {
                self.past.insert(key.to_owned(), item);
                "DELETED\r\n"
            }
            None => "NOT_FOUND\r\n",
        }
    }
}

fn serve(client: &TcpStream, fault: Fault, state: &Mutex<State>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut input = BufReader::new(client);
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut value = vec![];
        if !["get", "gat", "delete", "touch"].contains(&words[0]) {
            value.resize(words[4].parse().expect("a length"), 0);
            input.read_exact(&mut value)?;
            input.read_exact(&mut [0; 2])?;
        }
        let mut state = state.lock().expect("no thread panics");
        let mut answer = vec![];
        match words[0] {
            "get" | "gat" => {
                let keys = &words[if words[0] == "get" { 1 } else { 2 }..];
                for key in keys {
                    if let Some((name, item)) = state.look_up(key, fault) {
                        let Item { flags, value } = item;
                        let head = format!("VALUE {name} {flags} {}\r\n", value.len());
                        answer.extend([head.as_bytes(), &value, b"\r\n"].concat());
                    }
                }
                answer.extend(b"END\r\n");
            }
            "delete" => answer.extend(state.delete(words[1]).bytes()),
            "touch" if state.items.contains_key(words[1]) => answer.extend(b"TOUCHED\r\n"),
            "touch" => answer.extend(b"NOT_FOUND\r\n"),
            _ => answer.extend(state.store(&words, value, fault).bytes()),
        }
        match fault {
            Fault::Garbage if state.strikes(words[1]) => answer = b"VALUABLE news\r\n".to_vec(),
            Fault::Close if state.strikes(words[1]) => {
                drop(state);
                let mut output = client;
                return output.write_all(&answer[..answer.len() / 2]);
            }
            Fault::Silence if state.strikes(words[1]) => answer.clear(),
            _ => {}
        }
        drop(state);
        let mut output = client;
        output.write_all(&answer)?;
    }
}
