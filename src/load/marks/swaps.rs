//! Clients that swap values by their cas: `ms`, `md` and `ma` with C, some with a cas of their own
//! choice (E), quiet or not, each with an opaque, and under a key that is sometimes in base64.
//!
//! Each value is a number of its own. Whatever the order of events, a value is replaced or deleted
//! by its cas once, and nobody who asks after that was acknowledged is given it.

use super::Wrong;
use super::caller::{Caller, wrong};
use super::plan::{Done, SWAPS, Storm};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The first cas that a client chooses: above those that servers count to.
const CHOSEN: u64 = 1 << 60;

/// What is known of all values.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Requests and acknowledgements, in the order in which they were seen.
    clock: AtomicU64,
    /// Numbers of values.
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
        if value > self.numbers.load(SeqCst) {
            return Err(format!("value {value} was never stored"));
        }
        match self.ended.lock().expect("whole").get(&value) {
            Some(&at) if at < sent => Err(format!("value {value} was read after it was replaced")),
            _ => Ok(()),
        }
    }
}

/// One client of a storm.
pub struct Swapper<'a> {
    storm: &'a Storm,
    ledger: &'a Ledger,
    caller: Caller<'a>,
    done: Done,
}

impl<'a> Swapper<'a> {
    /// Client `number`.
    pub fn new(storm: &'a Storm, ledger: &'a Ledger, number: u64) -> Swapper<'a> {
        let caller = Caller::new(storm, number, !storm.seed);
        Swapper { storm, ledger, caller, done: Done::default() }
    }

    /// Does so many operations.
    pub fn run(mut self, operations: u64) -> Result<Done, Wrong> {
        // A swap is two operations, and so is a first value.
        for _ in 0..operations.div_ceil(2) {
            if self.storm.is_over() {
                break;
            }
            let key = format!("{}swap{}", self.storm.prefix, self.caller.random.below(SWAPS));
            match self.read(&key)? {
                None => self.begin(&key)?,
                Some((value, cas)) => self.swap(&key, value, cas)?,
            }
            self.storm.count();
            self.storm.count();
        }
        self.done.failures = self.caller.failures;
        Ok(self.done)
    }

    /// Reads the item: its value's number and its cas. None: there is none, or the server failed.
    fn read(&mut self, key: &str) -> Result<Option<(u64, u64)>, Wrong> {
        let (spelt, base64) = self.caller.spelt(key);
        let opaque = self.caller.opaque();
        let sent = self.ledger.now();
        let request = format!("mg {spelt} v c O{opaque}{base64}\r\n");
        let Some(answer) = self.caller.ask(key, &request, false)? else { return Ok(None) };
        let wrong = |what: String| wrong(key, format!("{what}, in answer to '{}'", request.trim()));
        match answer.code.as_str() {
            "EN" => return Ok(None),
            "VA" if answer.token(b'O') == Some(&opaque) => {}
            code => return Err(wrong(format!("{code}, O{:?}", answer.token(b'O')))),
        }
        let value = answer.value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
        let value = value.and_then(|value| value.trim_end().parse().ok());
        let (Some(value), Some(cas)) = (value, answer.number(b'c')) else {
            return Err(wrong("an item that nobody stored".into()));
        };
        self.ledger.read(value, sent).map_err(wrong)?;
        self.done.read += 1;
        Ok(Some((value, cas)))
    }

    /// Puts a first value where there is none.
    fn begin(&mut self, key: &str) -> Result<(), Wrong> {
        let (spelt, base64) = self.caller.spelt(key);
        let value = self.ledger.number().to_string();
        let request = format!("ms {spelt} {} ME{base64}\r\n{value}\r\n", value.len());
        match self.caller.ask(key, &request, false)? {
            None => Ok(()),
            Some(answer) if answer.code == "HD" || answer.code == "NS" => Ok(()),
            Some(answer) => Err(wrong(key, format!("ms with ME was answered {}", answer.code))),
        }
    }

    /// Swaps or deletes the value that was read.
    fn swap(&mut self, key: &str, value: u64, cas: u64) -> Result<(), Wrong> {
        let (spelt, base64) = self.caller.spelt(key);
        let is_quiet = self.caller.random.below(4) == 0;
        let quiet = if is_quiet { " q" } else { "" };
        let new = self.ledger.number();
        let is_chosen = self.caller.random.below(4) == 0;
        let chosen = if is_chosen { format!(" E{}", CHOSEN + new) } else { String::new() };
        let request = match self.caller.random.below(16) {
            0 => format!("md {spelt} C{cas}{base64}{quiet}\r\n"),
            // The difference makes it the new number.
            1..4 => format!("ma {spelt} C{cas} D{}{chosen}{base64}{quiet}\r\n", new - value),
            _ => {
                let text = new.to_string();
                format!("ms {spelt} {} C{cas}{chosen}{base64}{quiet}\r\n{text}\r\n", text.len())
            }
        };
        let Some(answer) = self.caller.ask(key, &request, is_quiet)? else { return Ok(()) };
        match answer.code.as_str() {
            "HD" | "MN" => {
                self.ledger.end(value).map_err(|what| wrong(key, what))?;
                self.done.swapped += 1;
                self.done.chosen += u64::from(request.contains(" E"));
                Ok(())
            }
            "EX" | "NF" | "NS" => {
                self.done.late += 1;
                Ok(())
            }
            // An older memcached, or one behind, has no E.
            code if code.starts_with("CLIENT_ERROR") && request.contains(" E") => Ok(()),
            code => Err(wrong(key, format!("{code} to '{}'", request.trim_end()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_swaps_of_one_value_and_a_late_reader_are_found() {
        let ledger = Ledger::default();
        let before = ledger.now();
        assert!(ledger.read(7, before).is_err(), "nobody stored it");
        ledger.numbers.store(9, SeqCst);
        assert_eq!(ledger.end(7), Ok(()));
        assert_eq!(ledger.read(7, before), Ok(()), "it was asked before");
        assert!(ledger.read(7, ledger.now()).is_err());
        assert!(ledger.end(7).is_err());
        assert_eq!(ledger.read(8, ledger.now()), Ok(()));
    }
}
