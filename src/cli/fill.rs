//! `sunder fill`.

use clap::Args;

use super::shared::{Main, ToolFlags, VALUE_BYTES_MAX};
use super::value::{ANY, Count, Range};
use crate::load::fill;
use crate::load::options::Options;

/// Set random keys
///
/// It reads nothing, unless --no-loss is given: then each key is read as soon as it was set, and
/// has to be there, with what this or another connection set. A connection that ends is reopened;
/// ten failures in a row end the run.
#[derive(Args, Debug)]
pub(super) struct Fill {
    /// Sets of all connections
    #[arg(short, long, value_name = "N", default_value = "1M")]
    num_ops: Count<1, ANY>,
    /// Lengths of values
    #[arg(long, value_name = "MIN-MAX", default_value = "5K-20K")]
    value_bytes: Range<0, VALUE_BYTES_MAX>,
}

impl ToolFlags for Fill {
    const MAIN: Main = |options| fill::main(&options);

    fn apply(self, options: &mut Options) {
        options.operations = self.num_ops.0;
        options.value_bytes = self.value_bytes.0;
    }
}
