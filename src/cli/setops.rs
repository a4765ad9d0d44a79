//! `sunder setops`.

use clap::Args;

use super::blast::Records;
use super::shared::{Main, ToolFlags};
use crate::load::blast;
use crate::load::options::{KEYS_PER_GET_MAX, Options};

/// Store in all five ways from many connections; check the answers
///
/// set, add, replace, append and prepend, evenly, on random keys. At the end each key is read: its
/// value must be one that the acknowledged and the possible stores allow.
#[derive(Args, Debug)]
pub(super) struct SetOps {
    #[command(flatten)]
    shared: Records,
}

impl ToolFlags for SetOps {
    const MAIN: Main = |options| blast::setops(&options);
    const VALUES_MAX: usize = KEYS_PER_GET_MAX;

    fn apply(self, options: &mut Options) {
        self.shared.apply(options);
    }
}
