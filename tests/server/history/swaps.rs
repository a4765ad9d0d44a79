//! Clients that swap values by their cas: `ms` and `md` with C, some with a cas of their own choice
//! (E), quiet or not, each with an opaque, and under a key that is sometimes written in base64.
//!
//! Each value says which one it was made from. Whatever the order of events, a value is replaced or
//! deleted by its cas once, and nobody who asks after that was acknowledged is given it.

use crate::support::client::Client;
use std::collections::HashMap;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use sunder::load::history::choose::Random;

/// Items that are swapped, and their names in base64.
const KEYS: [(&str, &str); 4] =
    [("swap0", "c3dhcDA="), ("swap1", "c3dhcDE="), ("swap2", "c3dhcDI="), ("swap3", "c3dhcDM=")];

/// Clients at once.
const CLIENTS: u64 = 8;

/// The first cas that a client chooses: above those that servers count to.
const CHOSEN: u64 = 1 << 60;

/// What is known of all values.
#[derive(Default)]
struct Ledger {
    /// Requests and acknowledgements, in the order in which they were seen.
    clock: AtomicU64,
    /// Numbers of values and of opaques.
    numbers: AtomicU64,
    /// When the end of a value was acknowledged.
    ended: Mutex<HashMap<u64, u64>>,
}

impl Ledger {
    /// Now, for a request that is about to be sent.
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, SeqCst) + 1
    }

    /// A swap or delete of `value` by its cas was acknowledged.
    fn end(&self, value: u64) -> Result<(), String> {
        let mut ended = self.ended.lock().expect("whole");
        match ended.insert(value, self.now()) {
            None => Ok(()),
            Some(_) => Err(format!("value {value} was replaced by its cas twice")),
        }
    }

    /// `value` was read by a request that was sent at `sent`.
    fn read(&self, value: u64, sent: u64) -> Result<(), String> {
        match self.ended.lock().expect("whole").get(&value) {
            Some(&at) if at < sent => Err(format!("value {value} was read after it was replaced")),
            _ => Ok(()),
        }
    }
}

/// What the clients did.
#[derive(Debug, Default)]
pub struct Done {
    /// Values read.
    pub read: u64,
    /// Swaps and deletes that were acknowledged, and those that came too late.
    pub swapped: u64,
    pub late: u64,
    /// Swaps with a cas of the client's choice.
    pub chosen: u64,
}

/// A client, and what it needs for each request.
struct Swapper<'a> {
    client: Client,
    random: Random,
    ledger: &'a Ledger,
    done: Done,
}

impl Swapper<'_> {
    /// The key as it is written this time, with what has to stand behind it.
    fn name(&mut self, key: usize) -> String {
        let (plain, base64) = KEYS[key];
        match self.random.below(3) {
            0 => format!("{base64} b"),
            _ => plain.to_owned(),
        }
    }

    /// Reads the item: its value's number and its cas. None: there is none, or the server failed.
    fn read(&mut self, key: usize) -> Option<(u64, u64)> {
        let (name, opaque) = (self.name(key), self.ledger.number());
        let (name, base64) = name.split_once(' ').unwrap_or((&name, ""));
        let sent = self.ledger.now();
        self.client.send(format!("mg {name} v c O{opaque} {base64}\r\n").as_bytes());
        let line = self.client.line();
        let mut words = line.split_whitespace();
        if words.next() != Some("VA") {
            assert!(line.starts_with("EN") || line.starts_with("SERVER_ERROR"), "{line}");
            return None;
        }
        let length: usize = words.next().and_then(|word| word.parse().ok()).expect("a length");
        let words: Vec<&str> = words.collect();
        assert!(words.contains(&format!("O{opaque}").as_str()), "not the opaque {opaque}: {line}");
        let cas = words.iter().find_map(|word| word.strip_prefix('c')).expect("a cas");
        let mut value = vec![0; length + 2];
        self.client.0.read_exact(&mut value).expect("the value");
        let value = String::from_utf8_lossy(&value).trim().parse().expect("a number");
        self.ledger.read(value, sent).unwrap_or_else(|wrong| panic!("{}: {wrong}", KEYS[key].0));
        self.done.read += 1;
        Some((value, cas.parse().expect("a cas")))
    }

    /// Sends a request whose opaque is the word behind its key; what it was answered, `HD` for
    /// nothing if it is quiet.
    fn answer(&mut self, request: &str, is_quiet: bool) -> String {
        self.client.send(request.as_bytes());
        if is_quiet {
            self.client.send(b"mn\r\n");
        }
        let line = self.client.line();
        if is_quiet && line == "MN\r\n" {
            return "HD".to_owned();
        }
        if is_quiet {
            assert_eq!(self.client.line(), "MN\r\n", "behind {line}");
        }
        line.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Puts a first value where there is none.
    fn begin(&mut self, key: usize) {
        let name = self.name(key);
        let value = self.ledger.number().to_string();
        let (name, base64) = name.split_once(' ').unwrap_or((&name, ""));
        let request = format!("ms {name} {} ME {base64}\r\n{value}\r\n", value.len());
        let word = self.answer(&request, false);
        assert!(["HD", "NS", "SERVER_ERROR"].contains(&word.as_str()), "{word}");
    }

    /// Swaps or deletes the value that was read.
    fn swap(&mut self, key: usize, value: u64, cas: u64) {
        let name = self.name(key);
        let (name, base64) = name.split_once(' ').unwrap_or((&name, ""));
        let is_quiet = self.random.below(4) == 0;
        let quiet = if is_quiet { " q" } else { "" };
        let new = self.ledger.number();
        let is_chosen = self.random.below(4) == 0;
        let chosen = if is_chosen { format!(" E{}", CHOSEN + new) } else { String::new() };
        let is_delete = self.random.below(16) == 0;
        let request = if is_delete {
            format!("md {name} C{cas} {base64}{quiet}\r\n")
        } else {
            let (text, length) = (new.to_string(), new.to_string().len());
            format!("ms {name} {length} C{cas}{chosen} {base64}{quiet}\r\n{text}\r\n")
        };
        match self.answer(&request, is_quiet).as_str() {
            "HD" => {
                let ended = self.ledger.end(value);
                ended.unwrap_or_else(|wrong| panic!("{}: {wrong}", KEYS[key].0));
                self.done.swapped += 1;
                self.done.chosen += u64::from(is_chosen && !is_delete);
            }
            "EX" | "NF" | "NS" => self.done.late += 1,
            // An older memcached behind has no E.
            "CLIENT_ERROR" if is_chosen && !is_delete => {}
            word => assert_eq!(word, "SERVER_ERROR"),
        }
    }

    fn run(mut self, operations: u64) -> Done {
        // A swap is two operations, and so is a first value.
        for _ in 0..operations.div_ceil(2) {
            let key = self.random.below(KEYS.len() as u64) as usize;
            match self.read(key) {
                None => self.begin(key),
                Some((value, cas)) => self.swap(key, value, cas),
            }
        }
        self.done
    }
}

/// Runs so many operations on servers that share their items.
pub fn run(addresses: &[SocketAddr], operations: u64, seed: u64) -> Done {
    let ledger = &Ledger::default();
    let swapper = |number: u64| Swapper {
        client: Client::connect(addresses[number as usize % addresses.len()]),
        random: Random::new(!seed ^ number),
        ledger,
        done: Done::default(),
    };
    std::thread::scope(|scope| {
        let each = operations.div_ceil(CLIENTS);
        let start = |number| scope.spawn(move || swapper(number).run(each));
        let clients: Vec<_> = (0..CLIENTS).map(start).collect();
        clients.into_iter().fold(Done::default(), |all, client| {
            let done = client.join().expect("nothing was wrong");
            Done {
                read: all.read + done.read,
                swapped: all.swapped + done.swapped,
                late: all.late + done.late,
                chosen: all.chosen + done.chosen,
            }
        })
    })
}

#[test]
fn two_swaps_of_one_value_and_a_late_reader_are_found() {
    let ledger = Ledger::default();
    let before = ledger.now();
    assert_eq!(ledger.end(7), Ok(()));
    assert_eq!(ledger.read(7, before), Ok(()), "it was asked before");
    assert!(ledger.read(7, ledger.now()).is_err());
    assert!(ledger.end(7).is_err());
    assert_eq!(ledger.read(8, ledger.now()), Ok(()));
}
