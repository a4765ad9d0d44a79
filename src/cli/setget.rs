//! `sunder setget`.

use clap::Args;

use super::shared::{Main, ToolFlags, VALUE_BYTES_MAX};
use super::value::{ANY, Count, Range};
use crate::load::options::Options;
use crate::load::setget;

/// Set keys and read them back; check every answer
///
/// Each key is set and read, set to another value and read, deleted and read, and set and read
/// again. Every byte of a value and its flags depend on key and version: a value of another key, an
/// old, mixed, truncated or deleted one is found at once.
#[derive(Args, Debug)]
pub(super) struct SetGet {
    /// Pairs of a write and a get
    #[arg(short, long, value_name = "N", default_value = "1M")]
    num_ops: Count<1, ANY>,
    /// Lengths of values
    #[arg(long, value_name = "MIN-MAX", default_value = "1K-10K")]
    value_bytes: Range<0, VALUE_BYTES_MAX>,
    /// With --meta: what only meta commands have, too
    ///
    /// After each round of a key, on connections that speak meta: vivify, win and recache, stale
    /// items, a chosen cas and conditions on one, touches, counts, quiet commands, keys in base64
    /// and opaques, with every answer known.
    #[arg(long, requires = "meta")]
    marks: bool,
}

impl ToolFlags for SetGet {
    const MAIN: Main = setget::main;

    fn apply(self, options: &mut Options) {
        options.operations = self.num_ops.0;
        options.value_bytes = self.value_bytes.0;
        options.asks_for_marks = self.marks;
    }
}
