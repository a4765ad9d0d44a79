//! delete, touch, incr and decr (protocol.txt, "Deletion", "Increment/Decrement", "Touch").
//!
//! Whatever is wrong with the arguments, memcached does not reply if the last word is `noreply`.

use super::line::{Words, signed_32, unsigned};
use super::{BAD_FORMAT, ERROR, Form, INVALID_EXPTIME, answer, answer_unless, is_key};
use crate::base::clock::{Expiry, Now};
use crate::orchestrator::Action;
use crate::protocol::{Command, Fixed, Form as AnyForm, Request};
use crate::tier::Arithmetic;

const DELETE_USAGE: Fixed =
    Fixed::new(b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n");
const INVALID_DELTA: Fixed = Fixed::new(b"CLIENT_ERROR invalid numeric delta argument\r\n");

fn operation(key: &[u8], action: Action, form: Form) -> Command<'_> {
    let request = Request { key, action, form: AnyForm::Text(form) };
    Command::Operation { request, skip_bytes: 0 }
}

/// `delete <key> [0] [noreply]`; the 0 is the former hold time, and no other is accepted.
pub(super) fn parse_delete<'a>(words: &Words<'a>) -> Command<'a> {
    if !(2..=4).contains(&words.count()) {
        return answer(ERROR);
    }
    // A key named `noreply` is a key.
    let silent = words.count() > 2 && words.noreply();
    let holds_zero = words.get(2) == b"0";
    let is_valid = match words.count() {
        2 => true,
        3 => holds_zero || silent,
        _ => holds_zero && silent,
    };
    if !is_valid {
        return answer_unless(silent, DELETE_USAGE);
    }
    let key = words.get(1);
    if !is_key(key) {
        return answer_unless(silent, BAD_FORMAT);
    }
    operation(key, Action::Delete { cas: 0 }, Form::Line.unless_silent(silent))
}

/// `touch <key> <exptime> [noreply]`
pub(super) fn parse_touch<'a>(words: &Words<'a>, now: Now) -> Command<'a> {
    if !(3..=4).contains(&words.count()) {
        return answer(ERROR);
    }
    let silent = words.noreply();
    let key = words.get(1);
    if !is_key(key) {
        return answer_unless(silent, BAD_FORMAT);
    }
    let Some(exptime) = signed_32(words.get(2)) else {
        return answer_unless(silent, INVALID_EXPTIME);
    };
    let expiry = Expiry::from_exptime(exptime.into(), now);
    operation(key, Action::Touch { expiry }, Form::Line.unless_silent(silent))
}

/// `incr <key> <delta> [noreply]` and decr.
pub(super) fn parse_arithmetic<'a>(words: &Words<'a>, decrement: bool) -> Command<'a> {
    if !(3..=4).contains(&words.count()) {
        return answer(ERROR);
    }
    let silent = words.noreply();
    let key = words.get(1);
    if !is_key(key) {
        return answer_unless(silent, BAD_FORMAT);
    }
    let Some(delta) = unsigned(words.get(2)) else {
        return answer_unless(silent, INVALID_DELTA);
    };
    let arithmetic = Arithmetic { decrement, delta, initial: None, cas: 0 };
    operation(key, Action::Arithmetic(arithmetic), Form::Number.unless_silent(silent))
}
