//! The checker: told when each operation begins and ends, it says what cannot be.
//!
//! The order of the calls is the order of time. It takes an answer apart and asks each key's
//! history ([`Key`]) whether that may be. Never flags what some order of effects explains, as far
//! as `key` says which those are; keeps what it needs for that, and the last events for the reader.

use super::key::{Kept, Key};
use super::names::Names;
use super::operation::{Command, Hit, Operation, Outcome};
use super::record::{Seen, flags_of, read_number, read_value, split_number};
use super::staircase::{NEVER, Tick};
use crate::load::wire::Verb;
use std::collections::VecDeque;
use std::fmt::Write;

/// Violations that are reported in full.
const VIOLATIONS_TOLD: usize = 5;

/// Bytes of a wrong value that are shown.
const SHOWN_BYTES: usize = 64;

/// What the server may do, and what its keys are.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Keys with ordinary values; they come first.
    pub value_keys: usize,
    /// Keys with numbers; they come after.
    pub number_keys: usize,
    /// Connections that ask.
    pub connections: usize,
    /// What the keys are called.
    pub names: Names,
    /// An item may be gone without having been deleted.
    pub may_lose: bool,
}

/// What happened to a key, for the reader.
#[derive(Clone, Debug)]
struct Event {
    begin: Tick,
    end: Tick,
    connection: usize,
    command: Command,
    version: u64,
    result: &'static str,
    seen: Option<Seen>,
}

/// An answer that cannot be right.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The name of the key.
    pub key: String,
    /// What is wrong, in one line.
    pub what: String,
    /// The value's start, the operation, and the key's last events; lines.
    pub context: Vec<String>,
}

/// See the module.
pub struct Checker {
    rules: Rules,
    now: Tick,
    keys: Vec<Key>,
    kept: Kept,
    events: Vec<VecDeque<Event>>,
    /// When each connection's operation began; [`NEVER`] without one.
    begins: Vec<Tick>,
    /// The first violations, and how many there are.
    pub violations: Vec<Violation>,
    /// Of all violations.
    pub violation_count: u64,
}

impl Checker {
    /// Nothing has happened.
    pub fn new(rules: Rules) -> Checker {
        let keys = rules.value_keys + rules.number_keys;
        let kept = Kept::of(keys);
        Checker {
            now: 0,
            keys: (0..keys).map(|_| Key::new(kept)).collect(),
            kept,
            events: vec![VecDeque::new(); keys],
            begins: vec![NEVER; rules.connections],
            rules,
            violations: vec![],
            violation_count: 0,
        }
    }

    fn is_number(&self, key: usize) -> bool {
        key >= self.rules.value_keys
    }

    /// A connection is about to send the operation.
    pub fn begin(&mut self, connection: usize, operation: &Operation) {
        self.now += 1;
        self.begins[connection] = self.now;
        if operation.command.verb == Verb::Flush {
            self.keys.iter_mut().for_each(|key| key.begin(operation, self.now));
        }
        for &key in &operation.keys {
            self.keys[key].begin(operation, self.now);
        }
    }

    /// A connection has the whole answer, or knows that there will be none. What a retrieval saw,
    /// if it was one item and right.
    pub fn end(
        &mut self,
        connection: usize,
        operation: &Operation,
        outcome: &Outcome<'_>,
    ) -> Option<Seen> {
        self.now += 1;
        let begin = std::mem::replace(&mut self.begins[connection], NEVER);
        let span = Span { connection, begin, end: self.now };
        let keys = match operation.command.verb {
            Verb::Flush => 0..self.keys.len(),
            _ => 0..0,
        };
        let mut last_seen = None;
        for key in keys.chain(operation.keys.iter().copied()) {
            self.keys[key].end(operation, begin);
            let (seen, result) = self.verify(key, span, operation, outcome);
            self.note(key, span, operation, outcome, seen.clone());
            let is_right = result.is_ok();
            if let Err(what) = result {
                self.violate(key, what, operation, outcome);
            }
            last_seen = seen.filter(|_| is_right);
        }
        if let Outcome::Values(hits) = outcome
            && let Some(hit) = hits.iter().find(|hit| !operation.keys.contains(&hit.key))
        {
            let name = self.rules.names.name(hit.key);
            let what = format!("the answer has {name}, which was not requested");
            self.violate(operation.keys[0], what, operation, outcome);
        }
        if let Outcome::Values(hits) = outcome
            && hits.iter().enumerate().any(|(i, hit)| hits[..i].iter().any(|h| h.key == hit.key))
        {
            self.violate(operation.keys[0], "a key is there twice".into(), operation, outcome);
        }
        let oldest = self.begins.iter().copied().min().unwrap_or(NEVER).min(self.now);
        if let Some(&key) = operation.keys.first() {
            self.keys[key].prune(oldest);
        }
        last_seen
    }

    /// What the outcome shows of one key: the value seen, and whether it is allowed.
    fn verify(
        &mut self,
        key: usize,
        span: Span,
        operation: &Operation,
        outcome: &Outcome<'_>,
    ) -> (Option<Seen>, Result<(), String>) {
        let Span { begin, end, .. } = span;
        let may_lose = self.rules.may_lose;
        let command = operation.command;
        match outcome {
            Outcome::Values(hits) if command.is_retrieval() => {
                let Some(hit) = hits.iter().find(|hit| hit.key == key) else {
                    return (None, self.absent(key, span));
                };
                let seen = match self.read(hit) {
                    Ok(seen) => seen,
                    Err(error) => return (None, Err(error)),
                };
                let mut result = self.keys[key].observe(&seen, begin, end, may_lose);
                let flags = flags_of(key, seen.base);
                if hit.flags != flags && result.is_ok() {
                    result = Err(format!("flags {} instead of {flags}", hit.flags));
                }
                if command.is_delete() {
                    self.keys[key].acknowledge(operation, begin, end);
                }
                (Some(seen), result)
            }
            Outcome::Number(number) if command.count() != 0 => {
                let seen = split_number(*number);
                let count = command.count();
                let result = self.keys[key].counted(&seen, count, begin, end, may_lose);
                (Some(seen), result)
            }
            _ => (None, self.verify_word(key, span, operation, outcome)),
        }
    }

    /// The same for an outcome without values.
    fn verify_word(
        &mut self,
        key: usize,
        span: Span,
        operation: &Operation,
        outcome: &Outcome<'_>,
    ) -> Result<(), String> {
        use Verb::{Add, Append, Cas, Decr, Delete, Flush, Incr, Prepend, Replace, Set, Touch};
        let Span { begin, end, .. } = span;
        let may_lose = self.rules.may_lose;
        let command = operation.command;
        match (command.verb, outcome) {
            (_, Outcome::Failed(_) | Outcome::Closed) => {
                self.keys[key].fail(operation, begin, end);
                Ok(())
            }
            (_, Outcome::TimedOut) => {
                self.keys[key].fail(operation, begin, NEVER);
                Ok(())
            }
            (Set, Outcome::Stored) | (Flush, Outcome::Ok) => {
                self.keys[key].acknowledge(operation, begin, end);
                Ok(())
            }
            (Add, Outcome::Stored) => {
                let result = self.absent(key, span);
                self.keys[key].acknowledge(operation, begin, end);
                result
            }
            (Cas, Outcome::Stored) => {
                let key = &mut self.keys[key];
                let result = match &operation.expected {
                    Some(seen) => key.swapped(seen, operation.version, begin, end, may_lose),
                    None => key.present(begin, end),
                };
                key.acknowledge(operation, begin, end);
                result
            }
            (Replace | Append | Prepend, Outcome::Stored) | (Delete, Outcome::Deleted) => {
                let result = self.keys[key].present(begin, end);
                self.keys[key].acknowledge(operation, begin, end);
                result
            }
            (Touch, Outcome::Touched) => {
                let result = self.keys[key].present(begin, end);
                if command.expires {
                    self.keys[key].acknowledge(operation, begin, end);
                }
                result
            }
            (Add, Outcome::NotStored) | (Cas, Outcome::Exists) => {
                let refused = self.keys[key].refuse(operation);
                self.keys[key].present(begin, end).and(refused)
            }
            (Replace | Append | Prepend, Outcome::NotStored) | (Cas, Outcome::NotFound) => {
                let refused = self.keys[key].refuse(operation);
                self.absent(key, span).and(refused)
            }
            (Delete | Touch | Incr | Decr, Outcome::NotFound) => self.absent(key, span),
            (_, outcome) => {
                self.keys[key].fail(operation, begin, NEVER);
                Err(match outcome {
                    Outcome::Nonsense(text) => text.clone(),
                    other => format!("{} was answered {}", command.name(), other.summary()),
                })
            }
        }
    }

    fn absent(&mut self, key: usize, span: Span) -> Result<(), String> {
        if self.rules.may_lose {
            return Ok(());
        }
        self.keys[key].absent(span.begin, span.end)
    }

    fn read(&self, hit: &Hit<'_>) -> Result<Seen, String> {
        if self.is_number(hit.key) {
            read_number(hit.value)
        } else {
            read_value(hit.key, hit.value)
        }
    }

    fn note(
        &mut self,
        key: usize,
        span: Span,
        operation: &Operation,
        outcome: &Outcome<'_>,
        seen: Option<Seen>,
    ) {
        let is_miss = seen.is_none() && matches!(outcome, Outcome::Values(_));
        let events = &mut self.events[key];
        if events.len() == self.kept.events {
            events.pop_front();
        }
        events.push_back(Event {
            begin: span.begin,
            end: span.end,
            connection: span.connection,
            command: operation.command,
            version: operation.version,
            result: if is_miss { "miss" } else { outcome.summary() },
            seen,
        });
    }

    fn violate(&mut self, key: usize, what: String, operation: &Operation, outcome: &Outcome<'_>) {
        self.violation_count += 1;
        if self.violations.len() >= VIOLATIONS_TOLD {
            return;
        }
        let mut context = vec![];
        if let Outcome::Values(hits) = outcome {
            for hit in hits.iter().filter(|hit| hit.key == key) {
                context.push(self.describe_value(hit));
            }
        }
        if operation.version != 0 {
            context.push(format!("the operation writes version {}", operation.version));
        }
        context.push("the key's last operations, as they ended (begin-end connection):".into());
        context.extend(self.events[key].iter().map(describe_event));
        let key = self.rules.names.name(key).to_owned();
        self.violations.push(Violation { key, what, context });
    }

    fn describe_value(&self, hit: &Hit<'_>) -> String {
        let shown = &hit.value[..hit.value.len().min(SHOWN_BYTES)];
        let mut line = format!("value: {} bytes, flags {}", hit.value.len(), hit.flags);
        match self.read(hit) {
            Ok(seen) => {
                let owner = self.keys.iter().position(|key| key.has(seen.base));
                let owner = owner.map_or("no key known", |key| self.rules.names.name(key));
                let writer = seen.base % self.rules.connections as u64;
                let _ = write!(line, ", {} of {owner} by connection {writer}", show_seen(&seen));
            }
            Err(error) => {
                let _ = write!(line, ", {error}");
            }
        }
        let _ = write!(line, ": {}", shown.escape_ascii());
        line
    }
}

/// Whose operation, from when to when.
#[derive(Clone, Copy, Debug)]
struct Span {
    connection: usize,
    begin: Tick,
    end: Tick,
}

fn describe_event(event: &Event) -> String {
    let Event { begin, end, connection, command, version, result, seen } = event;
    let mut line = format!("  {begin}-{end} #{connection} {}", command.name());
    if command.expires {
        line.push_str(" expired");
    }
    if *version != 0 {
        let _ = write!(line, " version {version}");
    }
    let _ = write!(line, ": {result}");
    if let Some(seen) = seen {
        let _ = write!(line, ", {}", show_seen(seen));
    }
    line
}

fn show_seen(seen: &Seen) -> String {
    let mut line = format!("version {}", seen.base);
    if seen.count != 0 {
        let _ = write!(line, " counting {:+}", seen.count);
    }
    if !seen.prepends.is_empty() {
        let _ = write!(line, " behind {:?}", seen.prepends);
    }
    if !seen.appends.is_empty() {
        let _ = write!(line, " before {:?}", seen.appends);
    }
    line
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
