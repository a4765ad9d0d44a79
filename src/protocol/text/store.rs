//! set, add, replace, append, prepend and cas (protocol.txt, "Storage commands").
//!
//! Only the line is read here; the value follows as a body, or is discarded.

use super::line::{Words, find_low, signed_32, unsigned, unsigned_32};
use super::{BAD_FORMAT, ERROR, Form, TOO_LARGE, answer, answer_unless, is_key};
use crate::base::clock::{Expiry, Now};
use crate::orchestrator::Action;
use crate::protocol::{Command, Fixed, Form as AnyForm, Limits, Request, Step};
use crate::tier::{Store, StoreMode};

/// The storage commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
}

/// A cas that no item ever has. `cas` with 0 matches nothing, but 0 in a [`Store`] matches
/// anything.
const CAS_OF_NONE: u64 = u64::MAX;

/// Longest value that a line may announce: memcached adds the two bytes of the line end to an int.
pub(super) const VALUE_BYTES_MAX: usize = i32::MAX as usize - 2;

/// `set <key> <flags> <exptime> <bytes>` with numbers of only digits, followed by at least a few
/// bytes: by far the most common store. None if the input starts differently.
#[inline(always)]
pub(super) fn parse_plain_set<'a>(input: &'a [u8], limits: &Limits, now: Now) -> Option<Step<'a>> {
    let arguments = input.strip_prefix(b"set ")?;
    let (key, rest) = arguments.split_at_checked(find_low(arguments)?)?;
    if key.is_empty() || !is_key(key) {
        return None;
    }
    // A Unix time has ten digits. The longer the number may be, the more input must follow it.
    let (flags, rest) = plain_argument::<8>(rest)?;
    let (exptime, rest) = plain_argument::<11>(rest)?;
    let (value_bytes, rest) = plain_argument::<6>(rest)?;
    let behind = rest.strip_prefix(b"\r\n")?;
    // At most five digits.
    let value_bytes = value_bytes as usize;
    let line = Line { key, flags: flags as u32, exptime: exptime as i32, value_bytes, cas: 0 };
    let command = command(&line, Verb::Set, false, limits, now);
    Some(Step::Done { command, consumed: input.len() - behind.len() })
}

/// A space and the number after it, of fewer than `N` digits; and the rest. Also None if the input
/// ends before `N` bytes: so its end is checked once, not for each digit.
#[inline(always)]
fn plain_argument<const N: usize>(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let [b' ', digits @ ..] = bytes else { return None };
    let chunk: &[u8; N] = digits.first_chunk()?;
    let mut number = 0;
    for (at, &byte) in chunk.iter().enumerate() {
        let digit = u64::from(byte).wrapping_sub(u64::from(b'0'));
        if digit > 9 {
            return (at > 0).then(|| (number, &digits[at..]));
        }
        number = number * 10 + digit;
    }
    None
}

/// `<verb> <key> <flags> <exptime> <bytes> [<cas>] [noreply]`
#[inline]
pub(super) fn parse<'a>(words: &Words<'a>, verb: Verb, limits: &Limits, now: Now) -> Command<'a> {
    let least = if verb == Verb::Cas { 6 } else { 5 };
    if words.count() != least && words.count() != least + 1 {
        return answer(ERROR);
    }
    let silent = words.noreply();
    match Line::read(words, verb) {
        Some(line) => command(&line, verb, silent, limits, now),
        None => answer_unless(silent, BAD_FORMAT),
    }
}

/// `ms <key> <bytes> [flags]`, which is not supported. Its value is discarded with the line: data
/// that a client stores must never be parsed as commands. If the line does not give the length of
/// the value (before 1.6.13 a flag did), the start of the next command is unknown.
pub(super) fn refuse_meta<'a>(words: &Words<'a>) -> Command<'a> {
    if words.count() < 3 {
        return answer(ERROR);
    }
    let announced = signed_32(words.get(2)).and_then(|bytes| usize::try_from(bytes).ok());
    match announced.filter(|&bytes| bytes <= VALUE_BYTES_MAX) {
        Some(bytes) => Command::Bad { reply: ERROR, skip_bytes: bytes + 2, close: false },
        None => Command::Bad { reply: ERROR, skip_bytes: 0, close: true },
    }
}

/// The command of a line.
#[inline(always)]
fn command<'a>(
    line: &Line<'a>,
    verb: Verb,
    silent: bool,
    limits: &Limits,
    now: Now,
) -> Command<'a> {
    let form = match verb {
        Verb::Append | Verb::Prepend => Form::Append,
        _ => Form::Line,
    };
    let form = AnyForm::Text(form.unless_silent(silent));
    let key = line.key;
    if !limits.fits(key.len(), line.flags, line.value_bytes) {
        let skip_bytes = line.value_bytes + 2;
        if verb == Verb::Set {
            let request = Request { key, action: Action::StoreTooLarge, form };
            return Command::Operation { request, skip_bytes };
        }
        let reply = if silent { Fixed::NONE } else { Fixed::new(TOO_LARGE) };
        return Command::Bad { reply, skip_bytes, close: false };
    }
    let action = Action::Store(Store {
        mode: match verb {
            Verb::Set | Verb::Cas => StoreMode::Set,
            Verb::Add => StoreMode::Add,
            Verb::Replace => StoreMode::Replace,
            Verb::Append => StoreMode::Append,
            Verb::Prepend => StoreMode::Prepend,
        },
        flags: line.flags,
        expiry: Expiry::from_exptime(line.exptime.into(), now),
        cas: line.cas,
    });
    let request = Request { key, action, form };
    Command::Store { request, value_bytes: line.value_bytes, is_text: true }
}

/// The arguments of a line.
struct Line<'a> {
    key: &'a [u8],
    flags: u32,
    exptime: i32,
    value_bytes: usize,
    cas: u64,
}

impl<'a> Line<'a> {
    #[inline]
    fn read(words: &Words<'a>, verb: Verb) -> Option<Line<'a>> {
        let key = words.get(1);
        if !is_key(key) {
            return None;
        }
        let flags = unsigned_32(words.get(2))?;
        let exptime = signed_32(words.get(3))?;
        let value_bytes = signed_32(words.get(4))?;
        let cas = match verb {
            Verb::Cas => match unsigned(words.get(5))? {
                0 => CAS_OF_NONE,
                cas => cas,
            },
            _ => 0,
        };
        let value_bytes = usize::try_from(value_bytes).ok().filter(|&n| n <= VALUE_BYTES_MAX)?;
        Some(Line { key, flags, exptime, value_bytes, cas })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_every_length_are_read() {
        for number in (0..=21).map(|n| 10_u64.pow(n / 2) + u64::from(n) - 1) {
            for end in [" 1 1\r\n", "\r\n", "x", "/", ":", "\u{80}"] {
                let end = format!("{end}0123456789");
                let input = format!(" {number}{end}");
                let read = plain_argument::<12>(input.as_bytes());
                assert_eq!(read, Some((number, end.as_bytes())), "{input}");
            }
        }
        let most = Some((99_999_999_999, &b"\n"[..]));
        assert_eq!(plain_argument::<12>(b" 99999999999\n"), most);
        assert_eq!(plain_argument::<12>(b" 00120 990000 "), Some((120, &b" 990000 "[..])));
        for none in ["", " ", "1 ", "  1 ", " -1 ", " x", " 100000000000", "\t1 "] {
            let input = format!("{none}\r\n0123456789");
            assert_eq!(plain_argument::<12>(input.as_bytes()), None, "{none}");
        }
    }
}
