//! `sunder setget`.

use clap::{ArgMatches, Args};

use super::shared::{AFTER, Client, lengths, operations};
use crate::load::options::Options;

/// Set keys and read them back; check every answer
///
/// Each key is set and read, set to another value and read, deleted and read, and set and read
/// again. Every byte of a value and its flags depend on key and version: a value of another key, an
/// old, mixed, truncated or deleted one is found at once.
#[derive(Args, Debug)]
#[command(after_help = AFTER)]
pub(super) struct SetGet {
    /// Pairs of a write and a get
    #[arg(short, long, alias = "n", value_name = "N", value_parser = operations)]
    #[arg(default_value = "1M")]
    num_ops: u64,
    /// Lengths of values
    #[arg(long, value_name = "MIN-MAX", value_parser = lengths, default_value = "1K-10K")]
    value_bytes: (usize, usize),
    #[command(flatten, next_help_heading = "Shared by blast, setget, sizes, fill and setops")]
    client: Client,
}

impl SetGet {
    pub fn options(self, matches: &ArgMatches) -> Result<Options, String> {
        let options = self.client.options(matches, self.value_bytes, 1)?;
        Ok(Options { operations: self.num_ops, ..options })
    }
}
