//! What the tools blast, setget, sizes, fill and setops have in common: where the server is, how to
//! speak to it, and what keys look like.

use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgAction, ArgMatches, Args};

use super::value::is_given;
use crate::base::limits::KEY_BYTES_MAX;
use crate::config::{ValueError, count, number, port, size};
use crate::load::history::plan::Mix;
use crate::load::history::record::{RECORD_BYTES_MAX, RECORD_HEAD_BYTES};
use crate::load::options::{ANSWER_BYTES, ANSWER_BYTES_BOUNDS, Options};
use crate::load::stream::Target;
use crate::load::wire::Dialect;

/// Longest value that setget, sizes and fill make, in bytes.
pub(super) const VALUE_BYTES_MAX: u64 = 64 << 20;

/// Most workers: each is a connection, and but for blast and setops a thread.
const WORKERS_MAX: u64 = 1024;

pub(super) const AFTER: &str = "\
All flags may have one dash, and their value behind a space or a =. N may be 50k, 1.5M or 2G
(powers of 1000), a SIZE in bytes 4K or 1M (powers of 1024). -h HOST is --host HOST.

No other client may write these keys during the run. SIGINT (ctrl-C) and SIGTERM end it and
print what was measured; a second signal ends the tool at once.

Exit status: 0 all answers were right, also if --duration ended the run; 1 an answer was wrong
(the first such key is named), or the server was unreachable, too slow or not understood; 2
wrong command line; 130 ended by a signal.";

#[derive(Args, Debug)]
pub(super) struct Client {
    /// Server, in place of --host, --port and --sock-path
    #[arg(value_name = "HOST:PORT|unix:PATH", value_parser = target)]
    #[arg(conflicts_with_all = ["host", "port", "sock_path"])]
    target: Option<Target>,
    /// Name or address of the server; -h HOST too
    #[arg(long, alias = "h", value_name = "HOST", value_parser = host, default_value = "127.0.0.1")]
    host: String,
    /// Port of the server
    #[arg(short, long, alias = "p", value_name = "N", value_parser = port, default_value = "11211")]
    port: u16,
    /// Unix socket of the server
    #[arg(long, value_name = "PATH", value_parser = path, conflicts_with_all = ["host", "port"])]
    sock_path: Option<String>,
    /// Speak the text protocol (the default)
    #[arg(short, long, alias = "t", num_args = 0)]
    #[arg(action = ArgAction::Append, default_missing_value = "true")]
    text: Vec<bool>,
    /// Speak the binary protocol
    #[arg(short, long, alias = "b", num_args = 0)]
    #[arg(action = ArgAction::Append, default_missing_value = "true")]
    binary: Vec<bool>,
    /// Speak the meta commands (memcached 1.6; sunder does not have them)
    ///
    /// With several protocols the connections take turns.
    #[arg(long, num_args = 0)]
    #[arg(action = ArgAction::Append, default_missing_value = "true")]
    meta: Vec<bool>,
    /// Connections, with one request in flight each
    #[arg(short, long, alias = "w", value_name = "N", value_parser = workers)]
    #[arg(default_value = "10")]
    workers: u64,
    /// Letters of a key behind the prefix
    #[arg(short, long, visible_alias = "kl", alias = "k", value_name = "N")]
    #[arg(value_parser = key_length, default_value = "4")]
    key_length: u64,
    /// Prefix of all keys, so that two runs at once do not meet
    #[arg(long, value_name = "TEXT", value_parser = prefix, default_value = "")]
    #[arg(hide_default_value = true)]
    prefix: String,
    /// Decides keys, values and order
    #[arg(long, value_name = "N", value_parser = seed, default_value = "1")]
    seed: u64,
    /// End the run after S seconds, done or not
    #[arg(long, value_name = "S", value_parser = duration, default_value = "3600")]
    duration: Duration,
    /// End the run if an answer takes longer, in seconds
    #[arg(long, value_name = "S", value_parser = timeout, default_value = "10")]
    timeout: Duration,
    /// End the run if an answer is longer [default: 16M, and what the tool may have stored]
    ///
    /// It bounds the memory that a connection may take.
    #[arg(long, value_name = "SIZE", value_parser = answer_bytes)]
    answer_bytes: Option<u64>,
    /// Count an item that is gone without a delete as wrong; a cache may evict
    #[arg(long)]
    no_loss: bool,
    /// Not needed: perf profiles this program from outside
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "")]
    #[arg(value_name = "X", hide_short_help = true)]
    pprof: Option<OsString>,
}

const NOTE_PPROF: &str = "--pprof: not needed, perf profiles this program from outside";

impl Client {
    /// What holds for each tool whose values have `value_bytes`, of which an answer has up to
    /// `values` at once.
    pub fn options(
        self,
        matches: &ArgMatches,
        value_bytes: (usize, usize),
        values: usize,
    ) -> Result<Options, String> {
        if self.prefix.len() + self.key_length as usize > KEY_BYTES_MAX {
            return Err(format!("--prefix: keys of more than {KEY_BYTES_MAX} bytes"));
        }
        let dialects = dialects(matches);
        let own_bytes = values * value_bytes.1;
        Ok(Options {
            target: match (self.target, self.sock_path) {
                (Some(target), _) => target,
                (None, Some(path)) => Target::Unix(path.into()),
                (None, None) => Target::Tcp(self.host, self.port),
            },
            dialects: if dialects.is_empty() { vec![Dialect::Text] } else { dialects },
            operations: 1,
            workers: self.workers as usize,
            key_letters: self.key_length as usize,
            prefix: self.prefix,
            keys: 1000,
            seed: self.seed,
            value_bytes,
            step_bytes: 100,
            timeout: self.timeout,
            answer_bytes: self.answer_bytes.map_or(ANSWER_BYTES + own_bytes, |n| n as usize),
            duration: self.duration,
            is_loss_wrong: self.no_loss,
            mix: Mix::Blast,
            survives: false,
            may_cas_repeat: false,
            has_flush: true,
            notes: self.pprof.map(|_| NOTE_PPROF).into_iter().collect(),
        })
    }
}

/// The protocols in the order of their flags.
fn dialects(matches: &ArgMatches) -> Vec<Dialect> {
    let all = [("text", Dialect::Text), ("binary", Dialect::Binary), ("meta", Dialect::Meta)];
    let given = all.into_iter().filter(|(id, _)| is_given(matches, id));
    let mut given: Vec<_> = given
        .flat_map(|(id, dialect)| {
            matches.indices_of(id).into_iter().flatten().map(move |place| (place, dialect))
        })
        .collect();
    given.sort_unstable_by_key(|&(place, _)| place);
    given.into_iter().map(|(_, dialect)| dialect).collect()
}

fn target(text: &str) -> Result<Target, ValueError> {
    let error = || ValueError::new(text, "HOST:PORT or unix:PATH");
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Target::Unix(path.into()));
    }
    let (host, port_text) = text.rsplit_once(':').ok_or_else(error)?;
    let port = port(port_text).map_err(|_| error())?;
    Ok(Target::Tcp(host.trim_matches(['[', ']']).to_owned(), port))
}

fn host(text: &str) -> Result<String, ValueError> {
    match text {
        "" => Err(ValueError::new(text, "a host")),
        text => Ok(text.trim_matches(['[', ']']).to_owned()),
    }
}

fn path(text: &str) -> Result<String, ValueError> {
    if text.is_empty() { Err(ValueError::new(text, "a path")) } else { Ok(text.to_owned()) }
}

fn workers(text: &str) -> Result<u64, ValueError> {
    count(text, 1, WORKERS_MAX)
}

fn key_length(text: &str) -> Result<u64, ValueError> {
    number(text, 1, KEY_BYTES_MAX as u64)
}

fn prefix(text: &str) -> Result<String, ValueError> {
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(ValueError::new(text, "visible ASCII characters without spaces")),
    }
}

pub(super) fn seed(text: &str) -> Result<u64, ValueError> {
    number(text, 0, u64::MAX)
}

fn duration(text: &str) -> Result<Duration, ValueError> {
    seconds(text, 31_536_000.0)
}

fn timeout(text: &str) -> Result<Duration, ValueError> {
    seconds(text, 86_400.0)
}

/// Seconds, at least a thousandth.
fn seconds(text: &str, most: f64) -> Result<Duration, ValueError> {
    let seconds = text.parse().ok().filter(|s| (0.001..=most).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| ValueError::new(text, format!("seconds, from 0.001 to {most}")))
}

pub(super) fn answer_bytes(text: &str) -> Result<u64, ValueError> {
    let (min, max) = ANSWER_BYTES_BOUNDS;
    size(text, min, max)
}

/// `-n`.
pub(super) fn operations(text: &str) -> Result<u64, ValueError> {
    count(text, 1, u64::MAX)
}

/// Lengths of values, of setget, sizes and fill.
pub(super) fn lengths(text: &str) -> Result<(usize, usize), ValueError> {
    range(text, 0, VALUE_BYTES_MAX)
}

/// Lengths of values that are records, of blast and setops.
pub(super) fn record_lengths(text: &str) -> Result<(usize, usize), ValueError> {
    range(text, RECORD_HEAD_BYTES as u64, RECORD_BYTES_MAX as u64)
}

/// `MIN-MAX`, or one length.
fn range(text: &str, least: u64, most: u64) -> Result<(usize, usize), ValueError> {
    let wrong = || ValueError::new(text, format!("MIN-MAX in bytes, from {least} to {most}"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let bound = |text: &str| size(text, least, most).map_err(|_| wrong());
    let (first, last) = (bound(first)?, bound(last)?);
    if first > last { Err(wrong()) } else { Ok((first as usize, last as usize)) }
}
