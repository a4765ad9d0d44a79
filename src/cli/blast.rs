//! `sunder blast`.

use clap::Args;

use super::shared::{Main, ToolFlags};
use super::value::{ANY, Count, Range};
use crate::load::blast;
use crate::load::history::plan::Mix;
use crate::load::history::record::{KEYS_MAX, RECORD_BYTES_MAX, RECORD_HEAD_BYTES};
use crate::load::options::{KEYS_PER_GET_MAX, Options};

/// Send every operation from many connections; prove every answer possible
///
/// get, multi-get, gat, set, add, replace, append, prepend, touch and delete, evenly, on random
/// keys. Every value says which writes made it; every answer is checked against what the
/// acknowledged and the possible writes of all connections allow. At the end each key is read once.
#[derive(Args, Debug)]
pub(super) struct Blast {
    #[command(flatten)]
    shared: Records,
    /// Everything the protocols have: gets, gats, cas, incr, decr, flush_all and expiry too
    #[arg(long)]
    all: bool,
    /// With --all: no flush_all
    #[arg(long)]
    no_flush: bool,
    /// The server's unique numbers may repeat, so that a cas proves nothing
    ///
    /// For a server with items in a process that may restart alone.
    #[arg(long)]
    cas_may_repeat: bool,
    /// With --meta: what only meta commands have, too
    ///
    /// Afterwards as many connections keep copies of a changing value and swap items by their cas,
    /// in a quarter as many operations: one client wins each stale, missing or expiring item, all
    /// others are told so, no old value is given as a fresh one, and no value is swapped twice.
    #[arg(long, requires = "meta")]
    marks: bool,
}

// What blast and setops share: values that are records of what was written.
#[derive(Args, Debug)]
pub(super) struct Records {
    /// Operations of all connections
    #[arg(short, long, value_name = "N", default_value = "1M")]
    num_ops: Count<1, ANY>,
    /// Different keys; fewer keys are contended more
    #[arg(long, value_name = "N", default_value = "1000")]
    keys: Count<1, { KEYS_MAX as u64 / 2 }>,
    /// Lengths of values
    #[arg(long, value_name = "MIN-MAX", default_value = "1K-10K")]
    value_bytes: Range<{ RECORD_HEAD_BYTES as u64 }, { RECORD_BYTES_MAX as u64 }>,
    /// Reopen connections that fail and go on; wrong answers stay wrong
    #[arg(long)]
    survive: bool,
}

impl ToolFlags for Blast {
    const MAIN: Main = |options| blast::main(&options);
    const VALUES_MAX: usize = KEYS_PER_GET_MAX;

    fn apply(self, options: &mut Options) {
        self.shared.apply(options);
        options.mix = if self.all { Mix::Everything } else { Mix::Blast };
        options.has_flush = !self.no_flush;
        options.may_cas_repeat = self.cas_may_repeat;
        options.asks_for_marks = self.marks;
    }
}

impl Records {
    pub fn apply(self, options: &mut Options) {
        options.operations = self.num_ops.0;
        options.keys = self.keys.0 as usize;
        options.value_bytes = self.value_bytes.0;
        options.survives = self.survive;
    }
}
