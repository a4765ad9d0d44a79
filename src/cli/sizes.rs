//! `sunder sizes`.

use clap::Args;

use super::shared::{Main, ToolFlags, VALUE_BYTES_MAX};
use super::value::{Range, Size};
use crate::load::options::Options;
use crate::load::sizes;

/// Set and read back values of every length
///
/// Checks each value and says which lengths the server takes. A length that it refuses as too large
/// is counted, and its key must be empty afterwards.
#[derive(Args, Debug)]
pub(super) struct Sizes {
    /// Bytes between two lengths
    #[arg(long, value_name = "SIZE", default_value = "100")]
    step: Size<1, VALUE_BYTES_MAX>,
    /// Lengths of values
    #[arg(long, value_name = "MIN-MAX", default_value = "0-1M")]
    value_bytes: Range<0, VALUE_BYTES_MAX>,
}

impl ToolFlags for Sizes {
    const MAIN: Main = sizes::main;

    fn apply(self, options: &mut Options) {
        options.step_bytes = self.step.0 as usize;
        options.value_bytes = self.value_bytes.0;
    }
}
