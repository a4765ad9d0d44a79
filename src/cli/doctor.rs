//! `sunder doctor`.

use std::ffi::OsString;

use clap::Args;

use crate::doctor::Wishes;

/// Say what this host lacks for sunder serve FLAGS
///
/// Looks at cores, memory, the device, the SSD, sockets, limits and the servers of tiers, and
/// prints a line for each: ok, warning (it runs, but slower or less safely), error (it will not
/// start) or unknown, and below it the command that mends it. Nothing is changed, and nothing is
/// listened on.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit status: 0 sunder serve would start, 1 it would not, 2 the flags are wrong. Only a start tells
whether DPDK's driver takes the device, and whether another host has its addresses.")]
pub(super) struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Run the commands that are safe, each after it is printed, and look again
    ///
    /// They reserve hugepages, and set governors, queues of connections and transparent huge pages
    /// until the next boot. A disk, a driver of a device or an address is never touched.
    #[arg(long)]
    fix: bool,
    /// Flags of sunder serve, such as --config FILE
    #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<OsString>,
}

impl Doctor {
    /// The words of `serve` that it is about.
    pub fn words(&self) -> Vec<OsString> {
        let own = ["--json", "--fix"];
        let flags = self.flags.iter().filter(|flag| own.iter().all(|own| flag != own)).cloned();
        std::iter::once("serve".into()).chain(flags).collect()
    }

    /// What is asked for; that may be said behind flags of `serve` as well.
    pub fn wishes(&self) -> Wishes {
        let has = |flag: &str| self.flags.iter().any(|it| it == flag);
        Wishes { json: self.json || has("--json"), fix: self.fix || has("--fix") }
    }
}
