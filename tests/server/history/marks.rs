//! Clients that keep copies of something that changes, with meta commands: each change is followed
//! by an `md` with I, whoever wins fetches the value again, all others get the old one with X.
//!
//! Whatever the order of events, a value without X that is asked for after a change was
//! acknowledged is that of the change or a newer one; and one client wins for each cas.

use crate::support::client::Client;
use std::collections::HashSet;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use sunder::load::history::choose::Random;

/// What there are copies of.
const KEYS: usize = 4;

/// Clients that read, and fetch what they win.
const READERS: u64 = 8;

/// One that has copies.
#[derive(Default)]
struct Original {
    /// The number that a copy has to have.
    number: AtomicU64,
    /// The last number whose change every server has acknowledged.
    acknowledged: AtomicU64,
    /// Of one change after the other.
    changing: Mutex<()>,
    /// The cas numbers of items that somebody has won.
    won: Mutex<HashSet<u64>>,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub clean: u64,
    pub stale: u64,
    pub won: u64,
}

/// What an mg found.
struct Found {
    is_stale: bool,
    is_token_sent: bool,
    is_won: bool,
    cas: u64,
    value: Vec<u8>,
}

/// The answer to an mg with v and c; None: no item, or a failure.
fn found(client: &mut Client) -> Option<Found> {
    let line = client.line();
    let mut words = line.split_whitespace();
    if words.next() != Some("VA") {
        assert!(line == "EN\r\n" || line.starts_with("SERVER_ERROR"), "{line}");
        return None;
    }
    let length: usize = words.next().and_then(|word| word.parse().ok()).expect("a length");
    let words: Vec<&str> = words.collect();
    let cas = words.iter().find_map(|word| word.strip_prefix('c')).expect("a cas");
    let mut value = vec![0; length + 2];
    client.0.read_exact(&mut value).expect("the value");
    value.truncate(length);
    Some(Found {
        is_stale: words.contains(&"X"),
        is_token_sent: words.contains(&"Z"),
        is_won: words.contains(&"W"),
        cas: cas.parse().expect("a number"),
        value,
    })
}

/// Reads a copy, and fetches it if this client is the one to do so.
fn read(
    client: &mut Client,
    name: &str,
    original: &Original,
    random: &mut Random,
    seen: &mut Seen,
) {
    let least = original.acknowledged.load(SeqCst);
    let vivify = if random.below(5) > 0 { " N30" } else { "" };
    let recache = if random.below(2) == 0 { " R30" } else { "" };
    client.send(format!("mg {name} v c{vivify}{recache}\r\n").as_bytes());
    let Some(found) = found(client) else { return };
    let Found { is_stale, is_token_sent, is_won, cas, value } = found;
    if value.is_empty() {
        assert!(is_won || is_token_sent, "{name}: an empty item, and nobody fetches its value");
    } else if is_stale {
        seen.stale += 1;
    } else {
        let number: u64 = String::from_utf8_lossy(&value).trim().parse().expect("a number");
        assert!(number >= least, "{name}: {number} without X after {least} was acknowledged");
        seen.clean += 1;
    }
    if !is_won {
        return;
    }
    seen.won += 1;
    let is_first = original.won.lock().expect("whole").insert(cas);
    assert!(is_first, "{name}: two clients won {cas}");
    let number = original.number.load(SeqCst).to_string();
    let expiry = if random.below(2) == 0 { 20 } else { 1000 };
    let length = number.len();
    client.send(format!("ms {name} {length} C{cas} I T{expiry}\r\n{number}\r\n").as_bytes());
    let line = client.line();
    let is_known = ["HD\r\n", "EX\r\n", "NF\r\n", "NS\r\n"].contains(&line.as_str());
    assert!(is_known || line.starts_with("SERVER_ERROR"), "{line}");
}

/// A get of a client that knows no meta commands.
fn glance(client: &mut Client, name: &str) {
    client.send(format!("get {name}\r\n").as_bytes());
    let line = client.line();
    let Some(length) = line.strip_prefix("VALUE ").and_then(|rest| rest.split(' ').nth(2)) else {
        assert!(line == "END\r\n" || line.starts_with("SERVER_ERROR"), "{line}");
        return;
    };
    let mut value = vec![0; length.trim_end().parse::<usize>().expect("a length") + 2];
    client.0.read_exact(&mut value).expect("the value");
    assert_eq!(client.line(), "END\r\n");
}

/// Changes an original, and lets the copies know.
fn change(client: &mut Client, name: &str, original: &Original, random: &mut Random) {
    let _changing = original.changing.lock().expect("whole");
    let number = original.number.fetch_add(1, SeqCst) + 1;
    let (request, answers) = match random.below(8) {
        0 => (format!("delete {name}\r\n"), ["DELETED\r\n", "NOT_FOUND\r\n"]),
        1 => {
            let digits = number.to_string();
            (format!("set {name} 0 0 {}\r\n{digits}\r\n", digits.len()), ["STORED\r\n"; 2])
        }
        2 => (format!("md {name} q\r\nmn\r\n"), ["MN\r\n"; 2]),
        _ => (format!("md {name} I T30\r\n"), ["HD\r\n", "NF\r\n"]),
    };
    client.send(request.as_bytes());
    let line = client.line();
    // Quiet: another line before it, if it was not carried out.
    if request.ends_with("mn\r\n") && line != "MN\r\n" {
        assert_eq!(client.line(), "MN\r\n", "behind {line}");
    }
    if answers.contains(&line.as_str()) || line == "NF\r\n" {
        original.acknowledged.fetch_max(number, SeqCst);
    } else {
        assert!(line.starts_with("SERVER_ERROR"), "{line}");
    }
}

/// Runs so many operations on servers that share their items.
pub fn run(addresses: &[SocketAddr], operations: u64, seed: u64) -> Seen {
    let originals: Vec<Original> = (0..KEYS).map(|_| Original::default()).collect();
    let originals = &originals;
    let client = |reader: u64| {
        let mut random = Random::new(seed ^ reader);
        let mut client = Client::connect(addresses[reader as usize % addresses.len()]);
        let mut seen = Seen::default();
        for _ in 0..operations / READERS {
            let key = random.below(KEYS as u64) as usize;
            let (name, original) = (format!("copy{key}"), &originals[key]);
            match random.below(12) {
                0 => change(&mut client, &name, original, &mut random),
                1 => {
                    // It says nothing about the copy's age, and must not win it.
                    glance(&mut client, &name);
                }
                _ => read(&mut client, &name, original, &mut random, &mut seen),
            }
        }
        seen
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..READERS).map(|at| scope.spawn(move || client(at))).collect();
        clients.into_iter().fold(Seen::default(), |all, client| {
            let seen = client.join().expect("nothing was wrong");
            let Seen { clean, stale, won } = all;
            Seen { clean: clean + seen.clean, stale: stale + seen.stale, won: won + seen.won }
        })
    })
}
