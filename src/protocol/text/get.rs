//! get, gets, gat and gats (protocol.txt, "Retrieval command"), and memcached's ancient bget.
//!
//! A request for one key is one operation whose reply ends with `END`. A longer one is read key by
//! key with [`next_key`], so that its length needs no memory; if the whole line has arrived it is
//! checked first, because the reply to a line with an invalid key is only an error.

use memchr::memchr;

use super::line::{Words, find_low, find_word_end, signed_32};
use super::{BAD_FORMAT, END, ERROR, Form, INVALID_EXPTIME, answer, is_key};
use crate::base::clock::{Expiry, Now};
use crate::base::limits::KEY_BYTES_MAX;
use crate::orchestrator::Action;
use crate::protocol::{Command, Fixed, Form as AnyForm, Keys, Request, Step};

/// Spaces that memcached allows before a `get ` line that exceeds the length limit.
const LEADING_SPACES_MAX: usize = 100;

/// The next step in the keys of a get.
#[derive(Debug, PartialEq, Eq)]
pub enum KeyStep<'a> {
    /// Not yet a complete key; more input is needed.
    NeedMore,
    /// A key. With the spaces before it, it is the first `consumed` bytes.
    Key {
        /// At least 1 and at most 250 bytes.
        key: &'a [u8],
        /// To be consumed.
        consumed: usize,
    },
    /// There are no more keys; the line's end is the last of the `consumed` bytes.
    End {
        /// To be consumed.
        consumed: usize,
    },
    /// `reply` is the rest of the answer. Consume `consumed` bytes, then those that
    /// [`super::skip_line`] finds.
    Bad {
        /// Instead of more values and `END`.
        reply: Fixed,
        /// To be consumed.
        consumed: usize,
    },
}

/// A get or gets of one key: by far the most common request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Single<'a> {
    /// At least 1 and at most 250 bytes.
    pub key: &'a [u8],
    /// How the outcome is encoded.
    pub form: Form,
    /// Length of the line with its end.
    pub consumed: usize,
}

impl<'a> Single<'a> {
    pub(super) fn step(self) -> Step<'a> {
        let request =
            Request { key: self.key, action: Action::Get, form: AnyForm::Text(self.form) };
        let command = Command::Operation { request, skip_bytes: 0 };
        Step::Done { command, consumed: self.consumed }
    }
}

/// `get ` or `gets `, one key, and the line's end. None if the input starts differently.
#[inline(always)]
pub fn parse_single(input: &[u8]) -> Option<Single<'_>> {
    match input.strip_prefix(b"get ") {
        Some(rest) => parse_only_key(rest, 4, false),
        None => parse_only_key(input.strip_prefix(b"gets ")?, 5, true),
    }
}

#[inline(always)]
fn parse_only_key(rest: &[u8], word_bytes: usize, with_cas: bool) -> Option<Single<'_>> {
    let low = find_low(rest)?;
    let end_bytes = match rest[low..] {
        [b'\r', b'\n', ..] => 2,
        [b'\n', ..] => 1,
        _ => return None,
    };
    let key = &rest[..low];
    if key.is_empty() || !is_key(key) {
        return None;
    }
    let consumed = word_bytes + low + end_bytes;
    Some(Single { key, form: Form::Get { with_cas, last: true }, consumed })
}

/// A get of one key.
#[inline]
fn operation(key: &[u8], action: Action, with_cas: bool) -> Command<'_> {
    let form = AnyForm::Text(Form::Get { with_cas, last: true });
    Command::Operation { request: Request { key, action, form }, skip_bytes: 0 }
}

/// get and gets; `consumed` is the length of the line with its end.
pub(super) fn parse<'a>(words: &Words<'a>, with_cas: bool, consumed: usize) -> Step<'a> {
    if words.count() < 2 {
        return Step::Done { command: answer(ERROR), consumed };
    }
    parse_keys(words, 1, Keys { with_cas, expiry: None }, consumed)
}

/// gat and gats.
pub(super) fn parse_and_touch<'a>(
    words: &Words<'a>,
    with_cas: bool,
    consumed: usize,
    now: Now,
) -> Step<'a> {
    if words.count() < 2 {
        return Step::Done { command: answer(ERROR), consumed };
    }
    let Some(exptime) = signed_32(words.get(1)) else {
        return Step::Done { command: answer(INVALID_EXPTIME), consumed };
    };
    let expiry = Some(Expiry::from_exptime(exptime.into(), now));
    parse_keys(words, 2, Keys { with_cas, expiry }, consumed)
}

/// The keys of a complete line: words from `first` on.
fn parse_keys<'a>(words: &Words<'a>, first: usize, keys: Keys, line_bytes: usize) -> Step<'a> {
    let done = |command| Step::Done { command, consumed: line_bytes };
    match words.count() - first {
        0 => done(answer(END)),
        1 if is_key(words.get(first)) => {
            done(operation(words.get(first), keys.action(), keys.with_cas))
        }
        _ if words.behind(first - 1).all(is_key) => {
            Step::Done { command: Command::Keys(keys), consumed: words.end_of(first - 1) }
        }
        _ => done(answer(BAD_FORMAT)),
    }
}

/// A line that does not end within its limit: only a get or gets may continue.
pub(super) fn parse_endless(input: &[u8]) -> Step<'_> {
    let spaces = input.iter().take_while(|&&byte| byte == b' ').count();
    let command = &input[spaces..];
    let (with_cas, word_bytes) = match command {
        [b'g', b'e', b't', b' ', ..] => (false, 4),
        [b'g', b'e', b't', b's', b' ', ..] => (true, 5),
        _ => (false, 0),
    };
    if word_bytes == 0 || spaces > LEADING_SPACES_MAX {
        let command = Command::Bad { reply: Fixed::NONE, skip_bytes: 0, close: true };
        return Step::Done { command, consumed: input.len() };
    }
    let command = Command::Keys(Keys { with_cas, expiry: None });
    Step::Done { command, consumed: spaces + word_bytes }
}

/// Parses the start of `input`, which is inside the keys of a get.
pub fn next_key(input: &[u8]) -> KeyStep<'_> {
    let Some(start) = input.iter().position(|&byte| byte != b' ') else {
        return KeyStep::NeedMore;
    };
    // A key, and two bytes for the line end.
    let window = &input[start..input.len().min(start + KEY_BYTES_MAX + 2)];
    let Some(end) = find_word_end(window) else {
        return match window.len() < KEY_BYTES_MAX + 2 {
            true => KeyStep::NeedMore,
            false => KeyStep::Bad { reply: BAD_FORMAT, consumed: start },
        };
    };
    let key = match window[end] {
        b'\n' => window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]),
        _ => &window[..end],
    };
    match window[end] {
        _ if !is_key(key) => KeyStep::Bad { reply: BAD_FORMAT, consumed: start },
        _ if !key.is_empty() => KeyStep::Key { key, consumed: start + key.len() },
        b'\n' => KeyStep::End { consumed: start + end + 1 },
        // A NUL ends the words of a line, but not the line.
        _ => match memchr(b'\n', window) {
            Some(newline) => KeyStep::End { consumed: start + newline + 1 },
            None => KeyStep::Bad { reply: END, consumed: start },
        },
    }
}
