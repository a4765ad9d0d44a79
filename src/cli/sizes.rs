//! `sunder sizes`.

use clap::{ArgMatches, Args};

use super::shared::{AFTER, Client, VALUE_BYTES_MAX, lengths};
use crate::config::{ValueError, size};
use crate::load::options::Options;

/// Set and read back values of every length
///
/// Checks each value and says which lengths the server takes. A length that it refuses as too large
/// is counted, and its key must be empty afterwards.
#[derive(Args, Debug)]
#[command(after_help = AFTER)]
pub(super) struct Sizes {
    /// Bytes between two lengths
    #[arg(long, value_name = "SIZE", value_parser = step, default_value = "100")]
    step: u64,
    /// Lengths of values
    #[arg(long, value_name = "MIN-MAX", value_parser = lengths, default_value = "0-1M")]
    value_bytes: (usize, usize),
    #[command(flatten, next_help_heading = "Shared by blast, setget, sizes, fill and setops")]
    client: Client,
}

impl Sizes {
    pub fn options(self, matches: &ArgMatches) -> Result<Options, String> {
        let options = self.client.options(matches, self.value_bytes, 1)?;
        Ok(Options { step_bytes: self.step as usize, ..options })
    }
}

fn step(text: &str) -> Result<u64, ValueError> {
    size(text, 1, VALUE_BYTES_MAX)
}
