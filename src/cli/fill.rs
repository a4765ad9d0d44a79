//! `sunder fill`.

use clap::{ArgMatches, Args};

use super::shared::{AFTER, Client, lengths, operations};
use crate::load::options::Options;

/// Set random keys
///
/// A connection that ends is reopened; ten failures in a row end the run.
#[derive(Args, Debug)]
#[command(after_help = AFTER)]
pub(super) struct Fill {
    /// Sets of all connections
    #[arg(short, long, alias = "n", value_name = "N", value_parser = operations)]
    #[arg(default_value = "1M")]
    num_ops: u64,
    /// Lengths of values
    #[arg(long, value_name = "MIN-MAX", value_parser = lengths, default_value = "5K-20K")]
    value_bytes: (usize, usize),
    #[command(flatten, next_help_heading = "Shared by blast, setget, sizes, fill and setops")]
    client: Client,
}

impl Fill {
    pub fn options(self, matches: &ArgMatches) -> Result<Options, String> {
        let options = self.client.options(matches, self.value_bytes, 1)?;
        Ok(Options { operations: self.num_ops, ..options })
    }
}
