//! Rend's flags: they mean here what they meant there, or are taken with a line that says why they
//! are no longer needed ([`super::unneeded`]).

use std::path::PathBuf;

use clap::{ArgMatches, Args};

use super::unneeded;
use crate::base::limits::{CHUNK_BYTES_DEFAULT, LINK_TIMEOUT_US};
use crate::config::{Address, Config, L1, L2, Layout, Link, Memcached};

/// Of the help.
pub(super) const HEADING: &str = "Rend's flags";

// A comment and not a doc comment: clap would take that for the help of what this is part of.
#[derive(Args, Debug)]
pub(super) struct Rend {
    /// Keep L1 in 64 MB of this process's memory
    #[arg(long, value_name = "BOOL")]
    l1_inmem: Option<bool>,
    /// Unix socket of the memcached that is L1
    #[arg(long, value_name = "PATH")]
    l1_sock: Option<PathBuf>,
    /// Split values in L1 into chunks
    #[arg(long, value_name = "BOOL")]
    chunked: Option<bool>,
    /// Send requests to L1 in batches: always so
    #[arg(long, value_name = "BOOL")]
    l1_batched: Option<bool>,
    /// Use the L2 at --l2-sock
    #[arg(long, value_name = "BOOL")]
    l2_enabled: Option<bool>,
    /// Unix socket of a Rend-based server that is L2
    #[arg(long, value_name = "PATH")]
    l2_sock: Option<PathBuf>,
}

/// All of the above.
const IDS: [&str; 6] = ["l1_inmem", "l1_sock", "chunked", "l1_batched", "l2_enabled", "l2_sock"];

const NOTE_MEMORY: &str = "--l1-inmem: items are kept in 64 MB of memory and evicted beyond; \
     choose another size with --l1 memory,size=SIZE instead";
const NOTE_BATCHED: &str =
    "--l1-batched: no longer needed, all requests of a turn go to memcached together";
const NOTE_L1_SOCK: &str = "--l1-sock: not used, --l1-inmem keeps items in this process";
const NOTE_L2_SOCK: &str = "--l2-sock: not used without --l2-enabled";
const NOTE_BIND: &str = "Rend listened on all of the host's addresses, this is --bind 127.0.0.1; \
     give --bind 0.0.0.0 for the same";

impl Rend {
    /// Turns the flags into tiers, and adds what is to be said of them. The rest of the config is
    /// there already.
    pub fn apply(self, config: &mut Config, matches: &ArgMatches) -> Result<(), String> {
        let mut notes: Vec<&'static str> = vec![];
        for id in matches.ids() {
            let note = unneeded::note(id.as_str(), HEADING)?;
            notes.extend(note.filter(|note| !notes.contains(note)));
        }
        let is_given = |id: &str| matches.contains_id(id);
        if notes.is_empty() && !IDS.into_iter().any(is_given) {
            return Ok(());
        }
        let is_on = |switch: Option<bool>| switch.unwrap_or(false);
        // Rend's order of precedence: in memory, chunked, batched, as it is.
        let own = [
            ("--l1-inmem", is_on(self.l1_inmem)),
            ("--chunked", is_on(self.chunked)),
            ("--l1-batched", is_on(self.l1_batched)),
            ("--l1-sock", self.l1_sock.is_some()),
        ];
        let own = own.into_iter().find_map(|(flag, is_given)| is_given.then_some(flag));
        let other = [("--l1", is_given("l1")), ("-m", is_given("memory_limit"))];
        let other = other.into_iter().find_map(|(flag, is_given)| is_given.then_some(flag));
        match (own, other, self.l1_sock) {
            (Some(own), Some(other), _) => {
                return Err(format!("{own} and {other} name an L1 each; give one of them"));
            }
            (Some("--l1-inmem"), _, path) => {
                notes.push(NOTE_MEMORY);
                notes.extend(path.map(|_| NOTE_L1_SOCK));
            }
            (Some(own), _, None) => return Err(format!("{own}: give --l1-sock as well")),
            (Some(_), _, Some(path)) => {
                notes.extend(is_on(self.l1_batched).then_some(NOTE_BATCHED));
                let layout = match is_on(self.chunked) {
                    true => Layout::Chunked { chunk_bytes: CHUNK_BYTES_DEFAULT },
                    false => Layout::Plain,
                };
                let link = link(path);
                config.l1 = L1::Memcached(Memcached { link, layout, starts_empty: false });
            }
            (None, ..) => {}
        }
        match (is_on(self.l2_enabled), self.l2_sock) {
            (true, _) if is_given("l2") => {
                return Err("--l2: --l2-enabled names one too; give one of them".into());
            }
            (true, Some(path)) => config.l2 = L2::Rend(link(path)),
            (true, None) => return Err("--l2-enabled: give --l2-sock as well".into()),
            (false, Some(_)) => notes.push(NOTE_L2_SOCK),
            (false, None) => {}
        }
        if !config.has_devices() && config.socket_path.is_none() && !is_given("bind") {
            notes.push(NOTE_BIND);
        }
        config.notes = notes;
        Ok(())
    }
}

fn link(path: PathBuf) -> Link {
    Link { address: Address::Unix(path), timeout_us: LINK_TIMEOUT_US }
}
