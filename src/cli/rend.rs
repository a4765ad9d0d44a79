//! Rend's command line: its flags mean here what they meant there, or are taken with a line that
//! says why they are no longer needed.
//!
//! Rend is written in Go, whose flags may begin with one dash or two, have their value behind a
//! space or a `=`, and need none where they are switches.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{UsageError, text};
use crate::config::{Address, Config, L1, L2, Layout, Link, Memcached, ValueError};
use crate::limits::{CHUNK_BYTES_DEFAULT, LINK_TIMEOUT_US};

/// The long names of Rend's flags.
const NAMES: &[&str] = &[
    "l1-inmem",
    "l1-sock",
    "chunked",
    "l1-batched",
    "l2-enabled",
    "l2-sock",
    "bp",
    "use-domain-socket",
    "sock-path",
    "locked",
    "concurrency",
    "multi-reader",
    "batch-size",
    "batch-delay",
    "batch-read-buf-size",
    "batch-write-buf-size",
    "batch-eval-interval",
    "batch-expand-load-factor-ratio",
    "batch-expand-overloaded-ratio",
];

const NOTE_MEMORY: &str = "--l1-inmem: items are kept in 64 MB of memory and evicted beyond; \
     choose another size with --l1 memory,size=SIZE instead";
const NOTE_BATCHED: &str =
    "--l1-batched: no longer needed, all requests of a turn go to memcached together";
const NOTE_LOCKED: &str =
    "--locked: no longer needed, operations on one key always run one after another";
const NOTE_CONCURRENCY: &str =
    "--concurrency: no longer needed, there are no locks whose number could be chosen";
const NOTE_READERS: &str =
    "--multi-reader: no longer needed, reads of different keys never wait for one another";
const NOTE_BATCH: &str =
    "--batch-*: no longer needed, a batch is what one turn of a worker has gathered";
const NOTE_L1_SOCK: &str = "--l1-sock: not used, --l1-inmem keeps items in this process";
const NOTE_L2_SOCK: &str = "--l2-sock: not used without --l2-enabled";
const NOTE_BIND: &str = "Rend listened on all of the host's addresses, this is --bind 127.0.0.1; \
     give --bind 0.0.0.0 for the same";

/// What Rend's flags have said so far.
#[derive(Debug, Default)]
pub(super) struct Rend {
    is_given: bool,
    is_l1_in_memory: bool,
    is_chunked: bool,
    is_l1_batched: bool,
    is_l2_enabled: bool,
    l1_path: Option<PathBuf>,
    l2_path: Option<PathBuf>,
    notes: Vec<&'static str>,
}

/// Gives Rend's long flags with one dash the second one.
pub(super) fn normalise(word: OsString) -> OsString {
    let Some(text) = word.to_str() else { return word };
    let Some(flag) = text.strip_prefix('-').filter(|flag| !flag.starts_with('-')) else {
        return word;
    };
    let name = flag.split_once('=').map_or(flag, |(name, _)| name);
    if NAMES.contains(&name) { format!("--{flag}").into() } else { word }
}

impl Rend {
    /// Takes the long flag `name` if it is one that only Rend has. False: it is not.
    pub fn take(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<bool, UsageError> {
        match name {
            "l1-inmem" => self.is_l1_in_memory = switch("--l1-inmem", parser)?,
            "chunked" => self.is_chunked = switch("--chunked", parser)?,
            "l1-batched" => self.is_l1_batched = switch("--l1-batched", parser)?,
            "l2-enabled" => self.is_l2_enabled = switch("--l2-enabled", parser)?,
            "l1-sock" => self.l1_path = Some(parser.value()?.into()),
            "l2-sock" => self.l2_path = Some(parser.value()?.into()),
            "locked" => {
                switch("--locked", parser)?;
                self.note(NOTE_LOCKED);
            }
            "multi-reader" => {
                switch("--multi-reader", parser)?;
                self.note(NOTE_READERS);
            }
            "concurrency" => {
                whole("--concurrency", parser)?;
                self.note(NOTE_CONCURRENCY);
            }
            "batch-size" => self.batch_number("--batch-size", parser)?,
            "batch-delay" => self.batch_number("--batch-delay", parser)?,
            "batch-read-buf-size" => self.batch_number("--batch-read-buf-size", parser)?,
            "batch-write-buf-size" => self.batch_number("--batch-write-buf-size", parser)?,
            "batch-eval-interval" => self.batch_number("--batch-eval-interval", parser)?,
            "batch-expand-load-factor-ratio" => {
                self.batch_ratio("--batch-expand-load-factor-ratio", parser)?;
            }
            "batch-expand-overloaded-ratio" => {
                self.batch_ratio("--batch-expand-overloaded-ratio", parser)?;
            }
            _ => return Ok(false),
        }
        self.is_given = true;
        Ok(true)
    }

    fn note(&mut self, note: &'static str) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn batch_number(
        &mut self,
        flag: &'static str,
        parser: &mut lexopt::Parser,
    ) -> Result<(), UsageError> {
        whole(flag, parser)?;
        self.note(NOTE_BATCH);
        Ok(())
    }

    fn batch_ratio(
        &mut self,
        flag: &'static str,
        parser: &mut lexopt::Parser,
    ) -> Result<(), UsageError> {
        let text = text(parser)?;
        text.parse::<f64>().map_err(|_| wrong(flag, &text, "a number, e.g. 0.75"))?;
        self.note(NOTE_BATCH);
        Ok(())
    }

    /// Turns what was said into tiers. `l1_flag`, `has_l2` and `has_bind`: our own flags, or
    /// memcached's, that were given.
    pub fn apply(
        mut self,
        config: &mut Config,
        l1_flag: Option<&'static str>,
        has_l2: bool,
        has_bind: bool,
    ) -> Result<(), UsageError> {
        if !self.is_given {
            return Ok(());
        }
        let says_l1 =
            self.is_l1_in_memory || self.is_chunked || self.is_l1_batched || self.l1_path.is_some();
        if let (true, Some(flag)) = (says_l1, l1_flag) {
            let own = match (self.is_l1_in_memory, self.is_chunked, self.is_l1_batched) {
                (true, ..) => "--l1-inmem",
                (_, true, _) => "--chunked",
                (.., true) => "--l1-batched",
                _ => "--l1-sock",
            };
            let line = format!("{own} and {flag} name an L1 each; give one of them");
            return Err(UsageError::Word(line));
        }
        if says_l1 {
            config.l1 = self.l1()?;
        }
        if self.is_l2_enabled && has_l2 {
            return Err(UsageError::Conflict("--l2: --l2-enabled names one too; give one of them"));
        }
        match (self.is_l2_enabled, self.l2_path.take()) {
            (true, Some(path)) => config.l2 = L2::Rend(link(path)),
            (true, None) => {
                return Err(UsageError::Conflict("--l2-enabled: give --l2-sock as well"));
            }
            (false, Some(_)) => self.note(NOTE_L2_SOCK),
            (false, None) => {}
        }
        if config.device.is_none() && !has_bind {
            self.note(NOTE_BIND);
        }
        config.notes = self.notes;
        Ok(())
    }

    /// Rend's order of precedence: in memory, chunked, batched, as it is.
    fn l1(&mut self) -> Result<L1, UsageError> {
        if self.is_l1_in_memory {
            self.note(NOTE_MEMORY);
            if self.l1_path.is_some() {
                self.note(NOTE_L1_SOCK);
            }
            return Ok(Config::default().l1);
        }
        let Some(path) = self.l1_path.take() else {
            return Err(UsageError::Conflict("--chunked, --l1-batched: give --l1-sock as well"));
        };
        if self.is_l1_batched {
            self.note(NOTE_BATCHED);
        }
        let layout = if self.is_chunked {
            Layout::Chunked { chunk_bytes: CHUNK_BYTES_DEFAULT }
        } else {
            Layout::Plain
        };
        Ok(L1::Memcached(Memcached { link: link(path), layout }))
    }
}

fn link(path: PathBuf) -> Link {
    Link { address: Address::Unix(path), timeout_us: LINK_TIMEOUT_US }
}

fn wrong(flag: &'static str, given: &str, expected: &str) -> UsageError {
    UsageError::Value { flag, error: ValueError::new(given, expected) }
}

/// A switch, with or without `=true` or `=false`, as Go reads them.
pub(super) fn switch(flag: &'static str, parser: &mut lexopt::Parser) -> Result<bool, UsageError> {
    let Some(value) = parser.optional_value() else { return Ok(true) };
    match value.to_str() {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        _ => Err(wrong(flag, &value.to_string_lossy(), "true or false")),
    }
}

fn whole(flag: &'static str, parser: &mut lexopt::Parser) -> Result<(), UsageError> {
    let text = text(parser)?;
    text.parse::<u64>().map_err(|_| wrong(flag, &text, "a whole number"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, parse};

    fn config(words: &str) -> Config {
        match parse(words.split_whitespace().map(OsString::from)) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{words}: {other:?}"),
        }
    }

    fn refused(words: &str) -> String {
        match parse(words.split_whitespace().map(OsString::from)) {
            Err(error) => error.to_string(),
            Ok(command) => panic!("{words}: {command:?}"),
        }
    }

    fn memcached(path: &str, layout: Layout) -> L1 {
        L1::Memcached(Memcached { link: link(path.into()), layout })
    }

    #[test]
    fn rends_own_example_runs_unchanged() {
        let config = config("serve --l1-inmem");
        assert_eq!(config.l1, L1::Memory { bytes: 64 << 20 });
        assert_eq!(config.l2, L2::None);
        assert_eq!(config.notes, [NOTE_MEMORY, NOTE_BIND]);
    }

    #[test]
    fn a_whole_host_of_rends_runs_unchanged() {
        let config = config(
            "serve --chunked --l1-sock /run/l1.sock --l2-enabled --l2-sock /run/l2.sock -p 12000 \
             --bp 12001 --locked --concurrency 10 --multi-reader=false",
        );
        let chunked = Layout::Chunked { chunk_bytes: 1184 };
        assert_eq!(config.l1, memcached("/run/l1.sock", chunked));
        assert_eq!(config.l2, L2::Rend(link("/run/l2.sock".into())));
        assert_eq!((config.port, config.batch_port), (12000, Some(12001)));
        assert_eq!(config.notes, [NOTE_LOCKED, NOTE_CONCURRENCY, NOTE_READERS, NOTE_BIND]);
    }

    #[test]
    fn flags_are_written_as_go_takes_them() {
        let config = config(
            "serve -l1-batched -l1-sock=/run/l1.sock -bp=12001 -batch-size 20 -batch-delay=100 \
             -batch-expand-load-factor-ratio 0.5 -use-domain-socket -sock-path /run/s --chunked=f",
        );
        assert_eq!(config.l1, memcached("/run/l1.sock", Layout::Plain));
        assert_eq!(config.batch_port, Some(12001));
        assert_eq!(config.socket_path, Some("/run/s".into()));
        let notes = [NOTE_BATCH, NOTE_BATCHED, NOTE_BIND, crate::cli::NOTE_BATCH_PORT];
        assert_eq!(config.notes, notes);
    }

    #[test]
    fn what_does_not_go_together_is_one_line_that_names_the_flag() {
        for (words, flag) in [
            ("serve --chunked", "--l1-sock"),
            ("serve --l2-enabled", "--l2-sock"),
            ("serve --l1-inmem --l1 memory", "--l1"),
            ("serve --l2-enabled --l2-sock /x --l2 rend,addr=unix:/x", "--l2"),
            ("serve --locked=maybe", "--locked"),
            ("serve --concurrency many", "--concurrency"),
            ("serve --batch-size -1", "--batch-size"),
            ("serve --batch-expand-overloaded-ratio x", "--batch-expand-overloaded-ratio"),
            ("serve --l1-sock", "--l1-sock"),
            ("serve -l9-sock x", "-l"),
        ] {
            let error = refused(words);
            assert!(error.contains(flag) && !error.contains('\n'), "{words}: {error}");
        }
    }
}
