//! `sunder blast`.

use clap::{ArgMatches, Args};

use super::shared::{AFTER, Client, operations, record_lengths};
use crate::config::{ValueError, count};
use crate::load::history::plan::Mix;
use crate::load::history::record::KEYS_MAX;
use crate::load::options::{KEYS_PER_GET_MAX, Options};

/// Send every operation from many connections; prove every answer possible
///
/// get, multi-get, gat, set, add, replace, append, prepend, touch and delete, evenly, on random
/// keys. Every value says which writes made it; every answer is checked against what the
/// acknowledged and the possible writes of all connections allow. At the end each key is read once.
#[derive(Args, Debug)]
#[command(after_help = AFTER)]
pub(super) struct Blast {
    /// Operations of all connections
    #[arg(short, long, alias = "n", value_name = "N", value_parser = operations)]
    #[arg(default_value = "1M")]
    num_ops: u64,
    /// Different keys; fewer keys are contended more
    #[arg(long, value_name = "N", value_parser = keys, default_value = "1000")]
    keys: u64,
    /// Lengths of values
    #[arg(long, value_name = "MIN-MAX", value_parser = record_lengths, default_value = "1K-10K")]
    value_bytes: (usize, usize),
    /// Everything the protocols have: gets, gats, cas, incr, decr, flush_all and expiry too
    #[arg(long)]
    all: bool,
    /// With --all: no flush_all
    #[arg(long)]
    no_flush: bool,
    /// Reopen connections that fail and go on; wrong answers stay wrong
    #[arg(long)]
    survive: bool,
    /// The server's unique numbers may repeat, so that a cas proves nothing
    ///
    /// For a server with items in a process that may restart alone.
    #[arg(long)]
    cas_may_repeat: bool,
    #[command(flatten, next_help_heading = "Shared by blast, setget, sizes, fill and setops")]
    client: Client,
}

impl Blast {
    pub fn options(self, matches: &ArgMatches) -> Result<Options, String> {
        Ok(Options {
            operations: self.num_ops,
            keys: self.keys as usize,
            mix: if self.all { Mix::Everything } else { Mix::Blast },
            has_flush: !self.no_flush,
            survives: self.survive,
            may_cas_repeat: self.cas_may_repeat,
            ..self.client.options(matches, self.value_bytes, KEYS_PER_GET_MAX)?
        })
    }
}

pub(super) fn keys(text: &str) -> Result<u64, ValueError> {
    count(text, 1, (KEYS_MAX / 2) as u64)
}
