//! set, add, replace, append, prepend and cas (protocol.txt, "Storage commands").
//!
//! Only the line is read here; the value follows as a body, or is thrown away.

use super::line::{Words, signed_32, unsigned, unsigned_32};
use super::{BAD_FORMAT, ERROR, Form, TOO_LARGE, answer, answer_unless, is_key};
use crate::clock::{Expiry, Now};
use crate::orchestrator::Action;
use crate::protocol::{Command, Fixed, Form as AnyForm, Limits, Request};
use crate::tier::{Store, StoreMode};

/// Which storage command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
}

/// The cas that no item ever has. `cas` with 0 matches nothing, where 0 in a [`Store`] matches all.
const CAS_OF_NONE: u64 = u64::MAX;

/// `<verb> <key> <flags> <exptime> <bytes> [<cas>] [noreply]`
#[inline]
pub(super) fn parse<'a>(words: &Words<'a>, verb: Verb, limits: &Limits, now: Now) -> Command<'a> {
    let least = if verb == Verb::Cas { 6 } else { 5 };
    if words.count() != least && words.count() != least + 1 {
        return answer(ERROR);
    }
    let silent = words.noreply();
    let Some(line) = Line::read(words, verb) else { return answer_unless(silent, BAD_FORMAT) };
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
        // memcached adds the two bytes of the line end to an int.
        if !(0..=i32::MAX - 2).contains(&value_bytes) {
            return None;
        }
        Some(Line { key, flags, exptime, value_bytes: value_bytes as usize, cas })
    }
}
