//! flush_all, version, verbosity, stats, shutdown and quit, and all lines that are not commands.
//!
//! memcached's commands that tune its slabs, its LRU crawler, its log and its memory limit have no
//! effect here; that the crawler lists items has. Malformed ones get memcached's reply; well-formed
//! ones get the reply of a memcached in which the feature is disabled.

use super::dump::{self, DumpKind};
use super::line::{Words, signed_32, unsigned_32};
use super::{BAD_FORMAT, CRAWLER_OFF, ERROR, Form, INVALID_EXPTIME, answer, answer_unless};
use crate::base::clock::Now;
use crate::orchestrator::Action;
use crate::protocol::watch::Wanted;
use crate::protocol::{Command, Control, Fixed, Form as AnyForm, Limits, Request, flush_at};

const OK: Fixed = Fixed::new(b"OK\r\n");
const FLUSH_OFF: Fixed = Fixed::new(b"CLIENT_ERROR flush_all not allowed\r\n");
const SHUTDOWN_OFF: Fixed = Fixed::new(b"ERROR: shutdown not enabled\r\n");
const SHUTDOWN_MODE: Fixed = Fixed::new(b"CLIENT_ERROR invalid shutdown mode\r\n");
/// The reply to a watcher too many.
pub const WATCHER_TOO_MANY: Fixed = Fixed::new(b"WATCHER_TOO_MANY log watcher limit reached\r\n");

const WATCH_OFF: Fixed = Fixed::new(b"CLIENT_ERROR watch commands not allowed\r\n");
const REASSIGN_OFF: Fixed = Fixed::new(b"CLIENT_ERROR slab reassignment disabled\r\n");
const CRAWLER_SLEEP: Fixed = Fixed::new(b"CLIENT_ERROR sleep must be one second or less\r\n");
const TLS_OFF: Fixed = Fixed::new(b"Error TLS not enabled\r\n");
const MEMLIMIT_SMALL: Fixed =
    Fixed::new(b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n");
const MEMLIMIT_BYTES: Fixed =
    Fixed::new(b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n");
const MEMLIMIT_FIXED: Fixed =
    Fixed::new(b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n");

/// Any line without keys.
pub(super) fn parse<'a>(words: &Words<'a>, limits: &Limits, now: Now) -> Command<'a> {
    match words.get(0) {
        b"flush_all" => parse_flush_all(words, limits, now),
        b"version" => control(Control::Version, Form::Line),
        b"verbosity" => parse_verbosity(words),
        b"stats" => control(Control::Stats(words.text_behind(0)), Form::Line),
        b"shutdown" => parse_shutdown(words, limits),
        b"quit" => Command::Quit { reply: Fixed::NONE },
        b"watch" => parse_watch(words, limits),
        b"slabs" => answer_slabs(words),
        b"lru_crawler" => answer_crawler(words, limits),
        b"cache_memlimit" => answer_memlimit(words),
        b"refresh_certs" => answer(TLS_OFF),
        b"lru" | b"extstore" => answer_unless(words.count() > 1 && words.noreply(), ERROR),
        b"ms" => super::store::refuse_meta(words),
        _ => parse_unknown(words),
    }
}

fn control(control: Control<'_>, form: Form) -> Command<'_> {
    Command::Control { control, form: AnyForm::Text(form) }
}

/// `flush_all [delay] [noreply]`
fn parse_flush_all<'a>(words: &Words<'a>, limits: &Limits, now: Now) -> Command<'a> {
    if words.count() > 3 {
        return answer(ERROR);
    }
    let silent = words.noreply();
    if !limits.flush {
        return answer_unless(silent, FLUSH_OFF);
    }
    let delay_s = match words.count() {
        1 => Some(0),
        2 if silent => Some(0),
        _ => signed_32(words.get(1)),
    };
    let Some(delay_s) = delay_s else { return answer_unless(silent, INVALID_EXPTIME) };
    let Some(at) = flush_at(delay_s.into(), now) else { return answer_unless(silent, OK) };
    let form = AnyForm::Text(Form::Line.unless_silent(silent));
    let request = Request { key: b"", action: Action::FlushAll { at }, form };
    Command::Operation { request, skip_bytes: 0 }
}

/// `verbosity <level> [noreply]`
fn parse_verbosity<'a>(words: &Words<'a>) -> Command<'a> {
    if !(2..=3).contains(&words.count()) {
        return answer(ERROR);
    }
    let silent = words.noreply();
    match unsigned_32(words.get(1)) {
        Some(level) => control(Control::Verbosity(level), Form::Line.unless_silent(silent)),
        None => answer_unless(silent, BAD_FORMAT),
    }
}

/// `shutdown [graceful]`
fn parse_shutdown<'a>(words: &Words<'a>, limits: &Limits) -> Command<'a> {
    if !limits.shutdown {
        return answer(SHUTDOWN_OFF);
    }
    match (words.count(), words.get(1)) {
        (1, _) => control(Control::Shutdown { graceful: false }, Form::Line),
        (2, b"graceful") => control(Control::Shutdown { graceful: true }, Form::Line),
        _ => answer(SHUTDOWN_MODE),
    }
}

/// `watch [<what>..]`; noreply is no word that it knows.
fn parse_watch<'a>(words: &Words<'a>, limits: &Limits) -> Command<'a> {
    if !limits.watch {
        return answer_unless(words.noreply(), WATCH_OFF);
    }
    match Wanted::parse(words.text_behind(0)) {
        Some(wanted) => Command::Watch(wanted),
        None => answer_unless(words.noreply(), ERROR),
    }
}

/// `slabs reassign <source> <destination>` and `slabs automove <level>`.
fn answer_slabs<'a>(words: &Words<'a>) -> Command<'a> {
    match (words.count(), words.get(1)) {
        (4, b"reassign") => answer(REASSIGN_OFF),
        (3.., b"automove") => {
            let is_number = words.get(2) == b"ratio" || unsigned_32(words.get(2)).is_some();
            answer_unless(words.noreply(), if is_number { ERROR } else { BAD_FORMAT })
        }
        _ => answer(ERROR),
    }
}

/// `lru_crawler <what> <argument>`
fn answer_crawler<'a>(words: &Words<'a>, limits: &Limits) -> Command<'a> {
    if words.count() != 3 {
        return answer(ERROR);
    }
    let number = unsigned_32(words.get(2));
    answer(match (words.get(1), number) {
        (b"metadump", _) => return dump::parse(DumpKind::Metadump, words.get(2), limits),
        (b"mgdump", _) => return dump::parse(DumpKind::Mgdump, words.get(2), limits),
        (b"crawl", _) => CRAWLER_OFF,
        (b"tocrawl" | b"sleep", None) => BAD_FORMAT,
        (b"sleep", Some(1_000_001..)) => CRAWLER_SLEEP,
        (b"tocrawl" | b"sleep", Some(_)) => CRAWLER_OFF,
        _ => ERROR,
    })
}

/// `cache_memlimit <megabytes> [noreply]`; the limit is fixed at start.
fn answer_memlimit<'a>(words: &Words<'a>) -> Command<'a> {
    if !(2..=3).contains(&words.count()) {
        return answer(ERROR);
    }
    let reply = match unsigned_32(words.get(1)) {
        None => ERROR,
        Some(..8) => MEMLIMIT_SMALL,
        Some(1_000_000_001..) => MEMLIMIT_BYTES,
        Some(_) => MEMLIMIT_FIXED,
    };
    answer_unless(words.noreply(), reply)
}

/// Not a command. A web browser, or a page that makes it connect to us, is disconnected (memcached
/// checks for this only after initials that none of its usual commands has).
fn parse_unknown<'a>(words: &Words<'a>) -> Command<'a> {
    let word = words.get(0);
    let is_usual = match word {
        [] | [_] | [b'm', _] => true,
        [first, ..] => b"gsacidt".contains(first),
    };
    if !is_usual && words.last().starts_with(b"HTTP/") {
        return Command::Bad { reply: Fixed::NONE, skip_bytes: 0, close: true };
    }
    answer(ERROR)
}
