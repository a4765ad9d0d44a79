//! Rend's flags: they mean here what they meant there, or are taken with a line that says why they
//! are no longer needed ([`super::unneeded`]).

use std::path::PathBuf;

use clap::Args;

use super::unneeded::{self, Row, Takes};
use super::value::boolean;
use crate::base::limits::{CHUNK_BYTES_DEFAULT, LINK_TIMEOUT_US};
use crate::config::{Address, Config, L1, L2, Layout, Link, Memcached};

/// Of the help.
pub(super) const HEADING: &str = "Rend's flags";

// A comment and not a doc comment: clap would take that for the help of what this is part of.
#[derive(Args, Debug)]
pub(super) struct Rend {
    /// Keep L1 in 64 MB of this process's memory
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = boolean)]
    l1_inmem: Option<bool>,
    /// Unix socket of the memcached that is L1
    #[arg(long, value_name = "PATH")]
    l1_sock: Option<PathBuf>,
    /// Split values in L1 into chunks
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = boolean)]
    chunked: Option<bool>,
    /// Send requests to L1 in batches: always so
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = boolean)]
    l1_batched: Option<bool>,
    /// Use the L2 at --l2-sock
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "BOOL", value_parser = boolean)]
    l2_enabled: Option<bool>,
    /// Unix socket of a Rend-based server that is L2
    #[arg(long, value_name = "PATH")]
    l2_sock: Option<PathBuf>,
}

const NOTE_LOCKED: &str =
    "--locked: no longer needed, operations on one key always run one after another";
const NOTE_CONCURRENCY: &str =
    "--concurrency: no longer needed, there are no locks whose number could be chosen";
const NOTE_READERS: &str =
    "--multi-reader: no longer needed, reads of different keys never wait for one another";
const NOTE_BATCH: &str =
    "--batch-*: no longer needed, a batch is what one turn of a worker has gathered";

/// [`UNNEEDED`], under [`HEADING`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Table;

impl unneeded::Table for Table {
    const HEADING: &'static str = HEADING;
    const ROWS: &'static [Row] = UNNEEDED;
}

const UNNEEDED: &[Row] = &[
    row("locked", Takes::Switch, NOTE_LOCKED),
    row("concurrency", Takes::Whole, NOTE_CONCURRENCY),
    row("multi-reader", Takes::Switch, NOTE_READERS),
    row("batch-size", Takes::Whole, NOTE_BATCH),
    row("batch-delay", Takes::Whole, NOTE_BATCH),
    row("batch-read-buf-size", Takes::Whole, NOTE_BATCH),
    row("batch-write-buf-size", Takes::Whole, NOTE_BATCH),
    row("batch-eval-interval", Takes::Whole, NOTE_BATCH),
    row("batch-expand-load-factor-ratio", Takes::Ratio, NOTE_BATCH),
    row("batch-expand-overloaded-ratio", Takes::Ratio, NOTE_BATCH),
];

const fn row(name: &'static str, takes: Takes, note: &'static str) -> Row {
    Row { letter: None, name, takes, note }
}

const NOTE_MEMORY: &str = "--l1-inmem: items are kept in 64 MB of memory and evicted beyond; \
     choose another size with --l1 memory,size=SIZE instead";
const NOTE_BATCHED: &str =
    "--l1-batched: no longer needed, all requests of a turn go to memcached together";
const NOTE_L1_SOCK: &str = "--l1-sock: not used, --l1-inmem keeps items in this process";
const NOTE_L2_SOCK: &str = "--l2-sock: not used without --l2-enabled";
const NOTE_BIND: &str = "Rend listened on all of the host's addresses, this is --bind 127.0.0.1; \
     give --bind 0.0.0.0 for the same";

/// Whether Rend has a long flag of this name, so that it may have one dash.
pub(super) fn is_flag(name: &str) -> bool {
    let own = ["l1-inmem", "l1-sock", "chunked", "l1-batched", "l2-enabled", "l2-sock"];
    let shared = ["bp", "use-domain-socket", "sock-path"];
    let is_unneeded = || UNNEEDED.iter().any(|row| row.name == name);
    own.contains(&name) || shared.contains(&name) || is_unneeded()
}

impl Rend {
    /// Turns the flags into tiers, and adds to `notes` what is to be said of them. `l1_flag`,
    /// `has_l2` and `has_bind`: our own flags, or memcached's, that are given.
    pub fn apply(
        self,
        config: &mut Config,
        l1_flag: Option<&str>,
        has_l2: bool,
        has_bind: bool,
        mut notes: Vec<&'static str>,
    ) -> Result<(), String> {
        let switches = [self.l1_inmem, self.chunked, self.l1_batched, self.l2_enabled];
        let [in_memory, is_chunked, is_batched, has_rend] =
            switches.map(|switch| switch.unwrap_or(false));
        let paths = [&self.l1_sock, &self.l2_sock];
        if notes.is_empty() && switches == [None; 4] && paths == [&None; 2] {
            return Ok(());
        }
        let own = match (in_memory, is_chunked, is_batched, &self.l1_sock) {
            (true, ..) => Some("--l1-inmem"),
            (_, true, ..) => Some("--chunked"),
            (_, _, true, _) => Some("--l1-batched"),
            (.., Some(_)) => Some("--l1-sock"),
            _ => None,
        };
        match (own, l1_flag) {
            (Some(own), Some(flag)) => {
                return Err(format!("{own} and {flag} name an L1 each; give one of them"));
            }
            // Rend's order of precedence: in memory, chunked, batched, as it is.
            (Some(_), None) if in_memory => {
                notes.push(NOTE_MEMORY);
                notes.extend(self.l1_sock.is_some().then_some(NOTE_L1_SOCK));
                config.l1 = Config::default().l1;
            }
            (Some(own), None) => {
                let path = self.l1_sock.ok_or_else(|| format!("{own}: give --l1-sock as well"))?;
                notes.extend(is_batched.then_some(NOTE_BATCHED));
                let layout = match is_chunked {
                    true => Layout::Chunked { chunk_bytes: CHUNK_BYTES_DEFAULT },
                    false => Layout::Plain,
                };
                config.l1 = L1::Memcached(Memcached { link: link(path), layout });
            }
            (None, _) => {}
        }
        match (has_rend, self.l2_sock) {
            (true, _) if has_l2 => {
                return Err("--l2: --l2-enabled names one too; give one of them".into());
            }
            (true, Some(path)) => config.l2 = L2::Rend(link(path)),
            (true, None) => return Err("--l2-enabled: give --l2-sock as well".into()),
            (false, Some(_)) => notes.push(NOTE_L2_SOCK),
            (false, None) => {}
        }
        if config.device.is_none() && !has_bind {
            notes.push(NOTE_BIND);
        }
        config.notes = notes;
        Ok(())
    }
}

fn link(path: PathBuf) -> Link {
    Link { address: Address::Unix(path), timeout_us: LINK_TIMEOUT_US }
}
