//! `sunder setops`.

use clap::{ArgMatches, Args};

use super::blast::keys;
use super::shared::{AFTER, Client, operations, record_lengths};
use crate::load::options::{KEYS_PER_GET_MAX, Options};

/// Store in all five ways from many connections; check the answers
///
/// set, add, replace, append and prepend, evenly, on random keys. At the end each key is read: its
/// value must be one that the acknowledged and the possible stores allow.
#[derive(Args, Debug)]
#[command(after_help = AFTER)]
pub(super) struct SetOps {
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
    /// Reopen connections that fail and go on; wrong answers stay wrong
    #[arg(long)]
    survive: bool,
    #[command(flatten, next_help_heading = "Shared by blast, setget, sizes, fill and setops")]
    client: Client,
}

impl SetOps {
    pub fn options(self, matches: &ArgMatches) -> Result<Options, String> {
        Ok(Options {
            operations: self.num_ops,
            keys: self.keys as usize,
            survives: self.survive,
            ..self.client.options(matches, self.value_bytes, KEYS_PER_GET_MAX)?
        })
    }
}
