//! The text protocol (memcached's doc/protocol.txt), as memcached 1.6.18 speaks it, and
//! its meta commands as 1.6.45 does.
//!
//! One file per family of commands; [`parse`] finds the family, [`encode`] encodes outcomes as
//! lines. Invalid input gets exactly memcached's reply: where a reply looks odd or is missing, that
//! is memcached's behaviour. Nothing here may depend on earlier input of the connection.

mod admin;
mod dump;
mod get;
mod line;
mod meta;
mod meta_reply;
mod store;
mod update;

use super::{Command, Control, Encoded, Fixed, Head, Limits, Sink, Step};
use crate::base::buffer::Gather;
use crate::base::clock::Now;
use crate::base::limits::{KEY_BYTES_MAX, LINE_BYTES_MAX};
use crate::tier::Outcome;
pub use admin::WATCHER_TOO_MANY;
pub use dump::{DUMP_BUSY, DumpKind, dump_failure};
pub use get::{KeyStep, Single, next_key, parse_single};
use line::Words;
pub(super) use line::find_low;
pub use meta::{
    MetaCommand, MetaForm, MetaRefusal, MetaReply, PlainMeta, parse as parse_meta,
    parse_plain as parse_plain_meta,
};
pub use meta_reply::encode as encode_meta;

/// The reply to a store whose value is not followed by `\\r\
/// `, unless the request's form is [`Form::Silent`]. The two bytes in place of `\\r\
/// ` are consumed: the next command starts after them.
pub const BAD_DATA_CHUNK: &[u8] = b"CLIENT_ERROR bad data chunk\r\n";

const ERROR: Fixed = Fixed::new(b"ERROR\r\n");
const CRAWLER_OFF: Fixed = Fixed::new(b"CLIENT_ERROR lru crawler disabled\r\n");
const BAD_FORMAT: Fixed = Fixed::new(b"CLIENT_ERROR bad command line format\r\n");
const INVALID_EXPTIME: Fixed = Fixed::new(b"CLIENT_ERROR invalid exptime argument\r\n");
const END: Fixed = Fixed::new(b"END\r\n");
const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";

/// How an outcome is encoded in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `VALUE` or nothing.
    Get {
        /// With the item's cas (gets, gats).
        with_cas: bool,
        /// It is the only key of the request: `END` follows.
        last: bool,
    },
    /// One line.
    Line,
    /// One line; memcached reports an item that grew too large as not stored (append, prepend).
    Append,
    /// The new number (incr, decr).
    Number,
    /// That of a meta command, which [`encode_meta`] encodes.
    Meta,
    /// Nothing, whatever the outcome: the request has noreply.
    Silent,
    /// A piece of a dump, which the connection encodes.
    Dump,
}

impl Form {
    /// Whether the reply repeats the key.
    #[inline]
    pub fn needs_key(self) -> bool {
        matches!(self, Form::Get { .. } | Form::Meta)
    }

    /// `form`, or no reply for a request with noreply.
    fn unless_silent(self, silent: bool) -> Form {
        if silent { Form::Silent } else { self }
    }
}

/// Parses the start of `input`. `limits` decide what is too large and what is allowed; `now` is the
/// base of a relative exptime.
///
/// The end of the line is searched in all of `input`; if there is none in more than
/// [`LINE_BYTES_MAX`] bytes, the connection is closed, except for a `get ` or `gets `, which is
/// answered key by key as it arrives.
#[inline(always)]
pub fn parse<'a>(input: &'a [u8], limits: &Limits, now: Now) -> Step<'a> {
    match get::parse_single(input) {
        Some(single) => single.step(),
        None => parse_other(input, limits, now),
    }
}

/// All but a get of one key.
#[inline(never)]
fn parse_other<'a>(input: &'a [u8], limits: &Limits, now: Now) -> Step<'a> {
    match store::parse_plain_set(input, limits, now) {
        Some(step) => step,
        None => parse_line(input, limits, now),
    }
}

#[inline(never)]
fn parse_line<'a>(input: &'a [u8], limits: &Limits, now: Now) -> Step<'a> {
    if limits.meta && meta::is_meta(input) {
        return match skip_line(input) {
            Some(consumed) => {
                Step::Done { command: Command::Meta { line: &input[..consumed] }, consumed }
            }
            None => need_more(input),
        };
    }
    let mut words = Words::new();
    let Some(consumed) = words.read(input) else { return need_more(input) };
    let command = match words.get(0) {
        b"get" | b"bget" => return get::parse(&words, false, consumed),
        b"gets" => return get::parse(&words, true, consumed),
        b"gat" => return get::parse_and_touch(&words, false, consumed, now),
        b"gats" => return get::parse_and_touch(&words, true, consumed, now),
        b"set" => store::parse(&words, store::Verb::Set, limits, now),
        b"add" => store::parse(&words, store::Verb::Add, limits, now),
        b"replace" => store::parse(&words, store::Verb::Replace, limits, now),
        b"append" => store::parse(&words, store::Verb::Append, limits, now),
        b"prepend" => store::parse(&words, store::Verb::Prepend, limits, now),
        b"cas" => store::parse(&words, store::Verb::Cas, limits, now),
        b"delete" => update::parse_delete(&words),
        b"touch" => update::parse_touch(&words, now),
        b"incr" => update::parse_arithmetic(&words, false),
        b"decr" => update::parse_arithmetic(&words, true),
        // Behind spaces.
        word if limits.meta && meta::is_meta(word) => Command::Meta { line: &input[..consumed] },
        _ => admin::parse(&words, limits, now),
    };
    Step::Done { command, consumed }
}

/// What follows from the start of a line that has not ended.
fn need_more(input: &[u8]) -> Step<'_> {
    match input.len() > LINE_BYTES_MAX {
        true => get::parse_endless(input),
        false => Step::NeedMore,
    }
}

/// Length of the value behind the line of a set by which a client logs in, which may have any key,
/// flags and exptime; None if it is another command.
pub(super) fn login_value_bytes(line: &[u8]) -> Option<usize> {
    let mut words = Words::new();
    words.read(line)?;
    let is_set = words.get(0) == b"set" && words.count() >= 5;
    let bytes = is_set.then(|| line::unsigned_32(words.get(4)))?;
    bytes.map(|bytes| bytes as usize)
}

/// The end of the line that `input` is inside of: how many bytes to consume, or None if it has not
/// arrived, and then all of `input` belongs to the line.
pub fn skip_line(input: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', input).map(|newline| newline + 1)
}

/// A reply that needs no tier, after which the connection continues.
fn answer<'a>(reply: Fixed) -> Command<'a> {
    Command::Bad { reply, skip_bytes: 0, close: false }
}

/// Like [`answer`], but nothing if the request has noreply.
fn answer_unless<'a>(silent: bool, reply: Fixed) -> Command<'a> {
    answer(if silent { Fixed::NONE } else { reply })
}

fn is_key(word: &[u8]) -> bool {
    word.len() <= KEY_BYTES_MAX
}

/// Writes the head of the reply to one operation to `head`; see [`super::encode`].
#[inline(always)]
pub fn encode<V>(
    form: Form,
    key: &[u8],
    outcome: &Outcome<V>,
    value_bytes: usize,
    head: &mut impl Sink,
) -> Encoded {
    match (form, outcome) {
        (Form::Get { with_cas, last }, Outcome::Hit(hit)) => {
            head.put(b"VALUE ");
            head.put(key);
            if hit.flags == 0 {
                head.put(b" 0 ");
            } else {
                head.put(b" ");
                push_number(head, u64::from(hit.flags));
                head.put(b" ");
            }
            push_number(head, value_bytes as u64);
            if with_cas {
                head.put(b" ");
                push_number(head, hit.cas);
            }
            head.put(b"\r\n");
            Encoded { with_value: true, tail: if last { b"\r\nEND\r\n" } else { b"\r\n" } }
        }
        (Form::Line, Outcome::Stored { .. }) => {
            head.put(STORED);
            NO_VALUE
        }
        _ => encode_other(form, outcome, head),
    }
}

const STORED: &[u8] = b"STORED\r\n";

/// Like [`encode`], for less frequent outcomes.
#[inline(never)]
fn encode_other<V>(form: Form, outcome: &Outcome<V>, head: &mut impl Sink) -> Encoded {
    match (form, outcome) {
        (Form::Get { last, .. }, outcome) => {
            head.put(get_failure(outcome, last));
            NO_VALUE
        }
        (Form::Meta | Form::Dump, _) => unreachable!("encoded by the caller"),
        (Form::Silent, _) => NO_VALUE,
        (_, Outcome::Number { value, .. }) => {
            push_number(head, *value);
            head.put(b"\r\n");
            NO_VALUE
        }
        (form, outcome) => {
            head.put(line_for(form, outcome));
            NO_VALUE
        }
    }
}

const NO_VALUE: Encoded = Encoded { with_value: false, tail: b"" };

/// The reply of a get for a key without a hit. Between the keys of a longer get an error is not
/// possible: `END` would still follow and be taken for the answer to the next request, so a key
/// that could not be read is left out.
fn get_failure<V>(outcome: &Outcome<V>, last: bool) -> &'static [u8] {
    match outcome {
        _ if !last => b"",
        Outcome::Throttled => b"SERVER_ERROR temporarily overloaded\r\n",
        Outcome::Failed => b"SERVER_ERROR backend failure\r\n",
        Outcome::OutOfMemory => b"SERVER_ERROR out of memory writing get response\r\n",
        _ => b"END\r\n",
    }
}

fn line_for<V>(form: Form, outcome: &Outcome<V>) -> &'static [u8] {
    match outcome {
        Outcome::Stored { .. } => STORED,
        Outcome::NotStored => b"NOT_STORED\r\n",
        Outcome::Exists => b"EXISTS\r\n",
        Outcome::Miss => b"NOT_FOUND\r\n",
        Outcome::Deleted => b"DELETED\r\n",
        Outcome::Touched { .. } => b"TOUCHED\r\n",
        Outcome::Flushed => b"OK\r\n",
        Outcome::NonNumeric => b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
        Outcome::TooLarge | Outcome::OutOfMemory if form == Form::Append => b"NOT_STORED\r\n",
        Outcome::TooLarge => TOO_LARGE,
        Outcome::OutOfMemory if form == Form::Number => b"SERVER_ERROR out of memory\r\n",
        Outcome::OutOfMemory => b"SERVER_ERROR out of memory storing object\r\n",
        Outcome::Throttled => b"SERVER_ERROR temporarily overloaded\r\n",
        Outcome::Unsupported | Outcome::Failed => b"SERVER_ERROR backend failure\r\n",
        Outcome::Hit(_) | Outcome::Number { .. } | Outcome::Changed(_) | Outcome::Dumped(_) => {
            unreachable!("encoded by the caller")
        }
    }
}

/// Writes the reply to a command about the server to `head`; [`super::stats::write`] writes
/// statistics.
pub fn encode_control(control: Control<'_>, form: Form, head: &mut Head) {
    if form == Form::Silent {
        return;
    }
    match control {
        Control::Version => {
            head.put(b"VERSION ");
            head.put(super::VERSION.as_bytes());
            head.put(b"\r\n");
        }
        Control::Verbosity(_) => head.put(b"OK\r\n"),
        // The text protocol has no noop; memcached closes without a reply when it shuts down.
        Control::Noop | Control::Stats(_) | Control::Shutdown { .. } => {}
    }
}

/// Writes one statistic to `out`.
pub(super) fn write_stat(name: &str, value: &str, out: &mut Gather) {
    for piece in ["STAT ", name, " ", value, "\r\n"] {
        out.extend(piece.as_bytes());
    }
}

/// Appends a number's digits.
#[inline(always)]
fn push_number(head: &mut impl Sink, number: u64) {
    if number >= 10_000 {
        return push_large_number(head, number);
    }
    // Most lengths and flags. Pairs of digits are computed in parallel, then four digits, the first
    // one lowest.
    let number = number as u32;
    let pairs = (number / 100) | (number % 100) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000f_000f;
    let digits = tens | (pairs - 10 * tens) << 8;
    // The last digit is written even if it is 0.
    let leading = (digits | 1 << 24).trailing_zeros() / 8;
    let digits = (digits | u32::from_le_bytes(*b"0000")) >> (8 * leading);
    head.put_part(digits.to_le_bytes(), 4 - leading as usize);
}

#[inline(never)]
fn push_large_number(head: &mut impl Sink, number: u64) {
    head.put(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod meta_tests;
#[cfg(test)]
mod tests;
