//! `sunder l2`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Inspect the log of an SSD tier
#[derive(Args, Debug)]
#[command(disable_help_subcommand = true, arg_required_else_help = false)]
pub(super) struct L2 {
    #[command(subcommand)]
    command: L2Command,
}

#[derive(Subcommand, Debug)]
enum L2Command {
    /// Say what each worker's part holds, and verify every record
    ///
    /// It only reads; the server must not run. A start continues from the newest of a part's two
    /// superblocks. That one of them is damaged is noted, and is no damage of the log.
    #[command(after_help = "\
Exit status: 0 the log is whole, 1 something is damaged, 2 it could not be read, 75 a server has it
open.")]
    Check {
        /// The file or block device
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
}

impl L2 {
    /// The log to verify.
    pub fn path(self) -> PathBuf {
        let L2Command::Check { path } = self.command;
        path
    }
}
