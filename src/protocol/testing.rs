//! The parsers as a client sees them, for tests: a connection with a toy store behind it.
//!
//! Requests are passed in, cut anywhere, and the replies are compared with what memcached answered
//! to the same bytes. It does what `connection` and a tier do, as simply as possible.

use std::collections::HashMap;

use super::{Command, Control, Form, Head, Keys, Limits, Request, Step, binary, text};
use crate::base::clock::{Expiry, Now};
use crate::orchestrator::Action;
use crate::tier::{Arithmetic, Hit, ItemState, Outcome, Store, StoreMode};

pub(super) const NOW: Now = Now { uptime_us: 5_000_000, unix_s: 1_800_000_000 };

pub(super) const LIMITS: Limits = Limits::DEFAULT;

struct Item {
    flags: u32,
    expiry: Expiry,
    cas: u64,
    value: Vec<u8>,
}

#[derive(Default)]
struct Toy {
    items: HashMap<Vec<u8>, Item>,
    cas: u64,
}

impl Toy {
    fn next_cas(&mut self) -> u64 {
        self.cas += 1;
        // Requests in the tables use the cas 1 for a number that no item has.
        self.cas + 1000
    }

    fn put(&mut self, key: &[u8], flags: u32, expiry: Expiry, value: Vec<u8>) -> u64 {
        let cas = self.next_cas();
        self.items.insert(key.to_vec(), Item { flags, expiry, cas, value });
        cas
    }

    fn execute(&mut self, key: &[u8], action: Action, value: Vec<u8>) -> Outcome<Vec<u8>> {
        self.items.retain(|_, item| !item.expiry.is_past(NOW));
        match action {
            Action::Get | Action::GetWithExpiry => self.get(key, None),
            Action::GetAndTouch { expiry } => self.get(key, Some(expiry)),
            Action::Store(store) => self.store(key, &store, value),
            Action::StoreTooLarge => {
                self.items.remove(key);
                Outcome::TooLarge
            }
            Action::StoreNoRoom => {
                self.items.remove(key);
                Outcome::OutOfMemory
            }
            Action::Delete { cas } => match self.items.get(key) {
                None => Outcome::Miss,
                Some(item) if cas != 0 && cas != item.cas => Outcome::Exists,
                Some(_) => {
                    self.items.remove(key);
                    Outcome::Deleted
                }
            },
            Action::Touch { expiry } => match self.get(key, Some(expiry)) {
                Outcome::Hit(hit) => Outcome::Touched { cas: hit.cas },
                _ => Outcome::Miss,
            },
            Action::Arithmetic(arithmetic) => self.arithmetic(key, arithmetic),
            Action::Meta(_) | Action::Dump { .. } => Outcome::Failed,
            Action::FlushAll { at } => {
                if at == Expiry::NEVER || at.is_past(NOW) {
                    self.items.clear();
                }
                Outcome::Flushed
            }
        }
    }

    fn get(&mut self, key: &[u8], expiry: Option<Expiry>) -> Outcome<Vec<u8>> {
        let Some(item) = self.items.get_mut(key) else { return Outcome::Miss };
        item.expiry = expiry.unwrap_or(item.expiry);
        let Item { flags, expiry, cas, ref value } = *item;
        Outcome::Hit(Hit { flags, expiry, cas, state: ItemState::default(), value: value.clone() })
    }

    fn store(&mut self, key: &[u8], store: &Store, value: Vec<u8>) -> Outcome<Vec<u8>> {
        let old = self.items.get(key);
        let (flags, expiry, value) = match (store.mode, old) {
            (StoreMode::Set, None) if store.cas != 0 => return Outcome::Miss,
            (StoreMode::Add, Some(_)) => return Outcome::NotStored,
            (StoreMode::Replace | StoreMode::Append | StoreMode::Prepend, None) => {
                return Outcome::NotStored;
            }
            (_, Some(item)) if store.cas != 0 && store.cas != item.cas => return Outcome::Exists,
            (StoreMode::Append, Some(item)) => {
                (item.flags, item.expiry, [&item.value[..], &value].concat())
            }
            (StoreMode::Prepend, Some(item)) => {
                (item.flags, item.expiry, [&value, &item.value[..]].concat())
            }
            _ => (store.flags, store.expiry, value),
        };
        if !LIMITS.fits(key.len(), flags, value.len()) {
            return Outcome::TooLarge;
        }
        Outcome::Stored { cas: self.put(key, flags, expiry, value) }
    }

    fn arithmetic(&mut self, key: &[u8], arithmetic: Arithmetic) -> Outcome<Vec<u8>> {
        let Some(item) = self.items.get(key) else {
            let Some((value, expiry)) = arithmetic.initial else { return Outcome::Miss };
            let cas = self.put(key, 0, expiry, value.to_string().into_bytes());
            return Outcome::Number { value, cas };
        };
        if arithmetic.cas != 0 && arithmetic.cas != item.cas {
            return Outcome::Exists;
        }
        let text = String::from_utf8_lossy(&item.value);
        let Ok(number) = text.trim_end().parse::<u64>() else { return Outcome::NonNumeric };
        let value = match arithmetic.decrement {
            false => number.wrapping_add(arithmetic.delta),
            true => number.saturating_sub(arithmetic.delta),
        };
        let (flags, expiry, width) = (item.flags, item.expiry, item.value.len());
        let digits = value.to_string();
        let cas = self.put(key, flags, expiry, format!("{digits:<width$}").into_bytes());
        Outcome::Number { value, cas }
    }
}

/// The state between two parser calls.
enum ClientState {
    Command,
    Keys(Keys),
    SkipLine,
    /// Bytes left to skip, the reply after them, and whether the connection is then closed.
    Skip(usize, Vec<u8>, bool),
    Body {
        key: Vec<u8>,
        action: Action,
        form: Form,
        value_bytes: usize,
        is_text: bool,
    },
}

/// One connection.
pub(super) struct Client {
    toy: Toy,
    state: ClientState,
    /// Decided by the connection's first byte.
    is_binary: Option<bool>,
    input: Vec<u8>,
    /// All replies.
    pub output: Vec<u8>,
    /// Whether the connection was closed after that.
    pub is_closed: bool,
}

impl Client {
    pub(super) fn new() -> Client {
        Client {
            toy: Toy::default(),
            state: ClientState::Command,
            is_binary: None,
            input: Vec::new(),
            output: Vec::new(),
            is_closed: false,
        }
    }

    /// Sends `pieces` one after another and collects all replies.
    pub(super) fn converse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Client {
        let mut client = Client::new();
        for piece in pieces {
            client.input.extend(piece);
            while !client.is_closed && client.step() {}
        }
        client
    }

    fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.input.len());
        self.input.drain(..bytes);
    }

    fn reply(&mut self, key: &[u8], form: Form, outcome: Outcome<Vec<u8>>) {
        let value = match &outcome {
            Outcome::Hit(hit) => hit.value.clone(),
            _ => Vec::new(),
        };
        let mut head = Head::new();
        let encoded = super::encode(form, key, &outcome, value.len(), &mut head);
        self.output.extend(&head);
        if encoded.with_value {
            self.output.extend(value);
        }
        self.output.extend(encoded.tail);
    }

    /// Whether it made progress.
    fn step(&mut self) -> bool {
        let state = std::mem::replace(&mut self.state, ClientState::Command);
        let input = self.input.clone();
        match state {
            ClientState::Command => self.step_command(&input),
            ClientState::Keys(keys) => self.step_keys(keys, &input),
            ClientState::SkipLine => {
                let end = text::skip_line(&input);
                self.consume(end.unwrap_or(input.len()));
                if end.is_none() {
                    self.state = ClientState::SkipLine;
                }
                !input.is_empty()
            }
            ClientState::Skip(left, reply, close) => {
                let n = left.min(input.len());
                self.consume(n);
                if n < left {
                    self.state = ClientState::Skip(left - n, reply, close);
                    return n > 0;
                }
                self.output.extend(reply);
                self.is_closed = close;
                true
            }
            ClientState::Body { value_bytes, is_text, .. }
                if input.len() < value_bytes + 2 * usize::from(is_text) =>
            {
                self.state = state;
                false
            }
            ClientState::Body { key, action, form, value_bytes, is_text } => {
                self.consume(value_bytes + 2 * usize::from(is_text));
                if is_text && !input[value_bytes..].starts_with(b"\r\n") {
                    self.output.extend(form.bad_data_chunk());
                    return true;
                }
                let outcome = self.toy.execute(&key, action, input[..value_bytes].to_vec());
                self.reply(&key, form, outcome);
                true
            }
        }
    }

    fn step_keys(&mut self, keys: Keys, input: &[u8]) -> bool {
        match text::next_key(input) {
            text::KeyStep::NeedMore => {
                self.state = ClientState::Keys(keys);
                return false;
            }
            text::KeyStep::Key { key, consumed } => {
                self.consume(consumed);
                let outcome = self.toy.execute(key, keys.action(), Vec::new());
                self.reply(key, keys.form(), outcome);
                self.state = ClientState::Keys(keys);
            }
            text::KeyStep::End { consumed } => {
                self.consume(consumed);
                self.output.extend(keys.end().as_bytes());
            }
            text::KeyStep::Bad { reply, consumed } => {
                self.consume(consumed);
                self.output.extend(reply.as_bytes());
                self.state = ClientState::SkipLine;
            }
        }
        true
    }

    fn step_command(&mut self, input: &[u8]) -> bool {
        let Some(first) = input.first() else { return false };
        let step = match *self.is_binary.get_or_insert(*first == binary::MAGIC_REQUEST) {
            true => binary::parse(input, &LIMITS, NOW),
            false => text::parse(input, &LIMITS, NOW),
        };
        let Step::Done { command, consumed } = step else { return false };
        self.consume(consumed);
        match command {
            Command::Operation { request: Request { key, action, form }, skip_bytes } => {
                let outcome = self.toy.execute(key, action, Vec::new());
                let before = self.output.len();
                self.reply(key, form, outcome);
                let reply = self.output.split_off(before);
                self.state = ClientState::Skip(skip_bytes, reply, false);
            }
            Command::Store { request: Request { key, action, form }, value_bytes, is_text } => {
                let key = key.to_vec();
                self.state = ClientState::Body { key, action, form, value_bytes, is_text };
            }
            Command::Meta { .. } => unreachable!("the limits have none"),
            Command::BadLine { .. } => unreachable!("every port has all rights"),
            Command::Watch(_) => self.output.extend(b"OK\r\n"),
            Command::Dump { kind } => self.output.extend(kind.end().as_bytes()),
            Command::Keys(keys) => self.state = ClientState::Keys(keys),
            Command::Control { control: Control::Stats(words), form } => {
                let mut out = crate::base::buffer::Gather::new();
                super::stats::write(words, form, &super::stats::Snapshot::default(), &mut out);
                self.output.extend(out.finish().to_vec());
            }
            Command::Control { control, form } => {
                let mut head = Head::new();
                super::encode_control(control, form, &mut head);
                self.output.extend(&head);
            }
            Command::Bad { reply, skip_bytes, close } => {
                self.state = ClientState::Skip(skip_bytes, reply.as_bytes().to_vec(), close);
            }
            Command::Quit { reply } => {
                self.output.extend(reply.as_bytes());
                self.is_closed = true;
            }
        }
        true
    }
}

/// The bytes that one column of a table stands for: `\\r`, `\
/// `, `\\t`, `\\\\` and `\\xNN` as in Rust, and `{c*N}` for N times c.
pub(super) fn unescape(column: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = column.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = tail;
            }
            (b'\\', [escape, tail @ ..]) => {
                bytes.push(match escape {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    _ => b'\\',
                });
                rest = tail;
            }
            (b'{', [byte, b'*', tail @ ..]) => {
                let end = tail.iter().position(|&byte| byte == b'}').unwrap();
                let count: usize = std::str::from_utf8(&tail[..end]).unwrap().parse().unwrap();
                bytes.resize(bytes.len() + count, *byte);
                rest = &tail[end + 1..];
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}

/// The rows of a table: request, memcached's reply, whether it then closed the connection.
pub(super) fn table(text: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>, bool)> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or("");
        (unescape(next()), unescape(next()), next() == "closed")
    })
}
