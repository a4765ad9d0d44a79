//! Clients that keep copies of something that changes: each change is followed by an `md` with I,
//! whoever wins fetches the value again, all others get the old one with X.
//!
//! Whatever the order of events, a value without X that is asked for after a change was
//! acknowledged is that of the change or a newer one; one client wins for each cas, and whoever
//! asks for the item with this cas afterwards is told Z.

use super::Wrong;
use super::caller::{Caller, wrong};
use super::plan::{COPIES, Done, Storm};
use crate::load::client::MetaAnswer;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// One that has copies.
#[derive(Debug, Default)]
pub struct Original {
    /// The number that a copy has to have.
    number: AtomicU64,
    /// The last number whose change the server has acknowledged.
    acknowledged: AtomicU64,
    /// Of one change after the other.
    changing: Mutex<()>,
    /// Who was told to fetch: the cas of the item, and when.
    won: Mutex<HashMap<u64, u64>>,
    /// Numbers of sets that were not answered: they may take effect at any time.
    late: Mutex<HashSet<u64>>,
}

/// All of them, and the order in which requests and answers were seen.
#[derive(Debug)]
pub struct Originals {
    clock: AtomicU64,
    all: Vec<Original>,
}

impl Default for Originals {
    fn default() -> Originals {
        let all = (0..COPIES).map(|_| Original::default()).collect();
        Originals { clock: AtomicU64::new(0), all }
    }
}

impl Original {
    /// An mg that was sent at `sent`, when `least` was acknowledged, was answered so at `now`.
    fn check(&self, answer: &MetaAnswer, sent: u64, now: u64, least: u64) -> Result<(), String> {
        let (is_stale, is_told, is_won) = (answer.has(b'X'), answer.has(b'Z'), answer.has(b'W'));
        let cas = answer.number(b'c').ok_or("an item without its cas")?;
        if is_told && is_won {
            return Err("W and Z in one answer".into());
        }
        let mut won = self.won.lock().expect("whole");
        if is_won && won.insert(cas, now).is_some() {
            return Err(format!("two clients won the item with the cas {cas}"));
        }
        if !is_won && !is_told && won.get(&cas).is_some_and(|&at| at < sent) {
            return Err(format!("no Z, after a client had won the item with the cas {cas}"));
        }
        drop(won);
        let value = answer.value.as_deref().ok_or("no value")?;
        if value.is_empty() {
            return if is_won || is_told {
                Ok(())
            } else {
                Err("empty, and nobody fetches".into())
            };
        }
        if is_stale {
            return if is_won || is_told { Ok(()) } else { Err("X, and nobody fetches".into()) };
        }
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        let number: u64 = number.ok_or("a value that nobody stored")?;
        if number < least && !self.late.lock().expect("whole").contains(&number) {
            return Err(format!("{number} without X, after {least} was acknowledged"));
        }
        Ok(())
    }
}

/// One client of a storm.
pub struct Reader<'a> {
    storm: &'a Storm,
    originals: &'a Originals,
    caller: Caller<'a>,
    done: Done,
}

impl<'a> Reader<'a> {
    /// Client `number`.
    pub fn new(storm: &'a Storm, originals: &'a Originals, number: u64) -> Reader<'a> {
        let caller = Caller::new(storm, number, storm.seed);
        Reader { storm, originals, caller, done: Done::default() }
    }

    /// Does so many operations.
    pub fn run(mut self, operations: u64) -> Result<Done, Wrong> {
        for _ in 0..operations {
            if self.storm.is_over() {
                break;
            }
            let key = self.caller.random.below(COPIES as u64) as usize;
            let name = format!("{}copy{key}", self.storm.prefix);
            match self.caller.random.below(12) {
                0 => self.change(&name, key)?,
                1 => self.glance(&name)?,
                _ => self.read(&name, key)?,
            }
            self.storm.count();
        }
        self.done.failures = self.caller.failures;
        Ok(self.done)
    }

    fn now(&self) -> u64 {
        self.originals.clock.fetch_add(1, SeqCst)
    }

    /// Reads a copy, and fetches it if this client is the one to do so.
    fn read(&mut self, name: &str, key: usize) -> Result<(), Wrong> {
        let original = &self.originals.all[key];
        let vivify = if self.caller.random.below(5) > 0 { " N30" } else { "" };
        let recache = if self.caller.random.below(2) == 0 { " R30" } else { "" };
        let touch = if self.caller.random.below(8) == 0 { " T25" } else { "" };
        let is_quiet = self.caller.random.below(4) == 0;
        let quiet = if is_quiet { " q" } else { "" };
        let (spelt, base64) = self.caller.spelt(name);
        let opaque = self.caller.opaque();
        let least = original.acknowledged.load(SeqCst);
        let sent = self.now();
        let request =
            format!("mg {spelt}{base64} k v c O{opaque}{vivify}{recache}{touch}{quiet}\r\n");
        let Some(answer) = self.caller.ask(name, &request, is_quiet)? else { return Ok(()) };
        let wrong =
            |what: String| wrong(name, format!("{what}; {answer} to '{}'", request.trim_end()));
        match answer.code.as_str() {
            // A tier that composes N of others may fail between them.
            "EN" | "MN" if vivify.is_empty() || self.storm.survives => return Ok(()),
            "VA" => {}
            code => return Err(wrong(format!("answered {code}"))),
        }
        // memcached spells a key as it was stored.
        let is_named = |key| key == name || key == super::base64(name.as_bytes());
        if answer.token(b'O') != Some(&opaque) || !answer.token(b'k').is_some_and(is_named) {
            return Err(wrong("another opaque or key".into()));
        }
        original.check(&answer, sent, self.now(), least).map_err(wrong)?;
        let (is_won, is_stale) = (answer.has(b'W'), answer.has(b'X'));
        self.done.read += 1;
        self.done.stale += u64::from(is_stale);
        self.done.told += u64::from(answer.has(b'Z'));
        if is_won {
            self.done.won += 1;
            let cas = answer.number(b'c').expect("checked");
            self.fetch(name, key, cas)?;
        }
        Ok(())
    }

    /// Stores the value that the original has now, if the item is the one that was won.
    fn fetch(&mut self, name: &str, key: usize, cas: u64) -> Result<(), Wrong> {
        // Some never do, as clients that end.
        if self.caller.random.below(8) == 0 {
            return Ok(());
        }
        let number = self.originals.all[key].number.load(SeqCst).to_string();
        let expiry = if self.caller.random.below(2) == 0 { 20 } else { 1000 };
        let length = number.len();
        let request = format!("ms {name} {length} C{cas} I T{expiry}\r\n{number}\r\n");
        match self.caller.ask(name, &request, false)? {
            None => Ok(()),
            Some(answer) if ["HD", "EX", "NF", "NS"].contains(&&answer.code[..]) => Ok(()),
            Some(answer) => Err(wrong(name, format!("ms was answered {}", answer.code))),
        }
    }

    /// A get of a client that knows no meta commands. It says nothing about the copy's age, and
    /// must not win it.
    fn glance(&mut self, name: &str) -> Result<(), Wrong> {
        match self.caller.ask(name, &format!("get {name}\r\n"), false)? {
            None => Ok(()),
            Some(answer) if answer.code == "VALUE" || answer.code == "END" => Ok(()),
            Some(answer) => Err(wrong(name, format!("get was answered {}", answer.code))),
        }
    }

    /// Changes an original, and lets the copies know.
    fn change(&mut self, name: &str, key: usize) -> Result<(), Wrong> {
        let original = &self.originals.all[key];
        let _changing = original.changing.lock().expect("whole");
        let number = original.number.fetch_add(1, SeqCst) + 1;
        let kind = self.caller.random.below(8);
        let (request, is_quiet) = match kind {
            0 => (format!("delete {name}\r\n"), false),
            1 => {
                let digits = number.to_string();
                (format!("set {name} 0 0 {}\r\n{digits}\r\n", digits.len()), false)
            }
            2 => (format!("md {name} q\r\n"), true),
            3 => (format!("md {name} I T30 q\r\n"), true),
            _ => (format!("md {name} I T30\r\n"), false),
        };
        let Some(answer) = self.caller.ask(name, &request, is_quiet)? else {
            if kind == 1 {
                original.late.lock().expect("whole").insert(number);
            }
            return Ok(());
        };
        if !["DELETED", "NOT_FOUND", "STORED", "HD", "NF", "MN"].contains(&&answer.code[..]) {
            return Err(wrong(name, format!("{} to '{}'", answer.code, request.trim_end())));
        }
        original.acknowledged.fetch_max(number, SeqCst);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_winner_and_an_old_value_are_wrong() {
        let original = Original::default();
        let item = |flags: &str, value: &str| MetaAnswer::of("VA", flags, Some(value));
        let check = |answer: &MetaAnswer, sent, now, least| {
            original.check(answer, sent, now, least).err().unwrap_or_default()
        };
        assert_eq!(check(&item("c5 W", ""), 1, 2, 0), "");
        assert_eq!(check(&item("c5 Z", ""), 3, 4, 0), "");
        assert_eq!(check(&item("c5 W", ""), 5, 6, 0), "two clients won the item with the cas 5");
        let item_unmarked = item("c5", "7");
        // Asked for before the other was answered.
        assert_eq!(check(&item_unmarked, 1, 8, 0), "");
        let told = check(&item_unmarked, 9, 10, 0);
        assert!(told.starts_with("no Z, after a client had won"), "{told}");
        assert_eq!(check(&item("c6", ""), 11, 12, 0), "empty, and nobody fetches");
        assert_eq!(check(&item("c6 X", "1"), 11, 12, 0), "X, and nobody fetches");
        assert_eq!(check(&item("c7 W Z", "1"), 11, 12, 0), "W and Z in one answer");
        assert_eq!(check(&item("c8", "3"), 13, 14, 4), "3 without X, after 4 was acknowledged");
        assert_eq!(check(&item("c9 X W", "3"), 13, 14, 4), "");
        original.late.lock().unwrap().insert(3);
        assert_eq!(check(&item("c8", "3"), 13, 14, 4), "");
        assert_eq!(check(&item("c10", "x"), 13, 14, 4), "a value that nobody stored");
    }
}
