//! Man pages and completions, out of the same definitions that words are parsed by.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use clap_complete::Shell;

/// Write man pages or completions to a directory, for scripts/install.sh
#[derive(Args, Debug)]
#[command(hide = true)]
pub(super) struct Generate {
    /// What to write
    #[arg(value_enum)]
    pub product: Product,
    /// An existing directory
    pub folder: PathBuf,
}

/// What can be made of the definitions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Product {
    /// A man page for sunder and for each subcommand.
    Man,
    /// Completions for bash, zsh and fish.
    Completions,
}

/// Writes `product` of `definition` to files in `folder`. Nothing of it depends on the time or the
/// host.
pub(super) fn write(definition: clap::Command, product: Product, folder: &Path) -> io::Result<()> {
    let mut definition = definition.disable_help_subcommand(true);
    match product {
        Product::Man => clap_mangen::generate_to(shown_whole(definition), folder),
        Product::Completions => {
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                clap_complete::generate_to(shell, &mut definition, "sunder", folder)?;
            }
            Ok(())
        }
    }
}

/// The same with every flag described: a man page has no short form, and what is left out of `-h`
/// would have its name alone.
fn shown_whole(definition: clap::Command) -> clap::Command {
    definition.mut_args(|arg| arg.hide_short_help(false)).mut_subcommands(shown_whole)
}
