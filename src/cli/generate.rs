//! Man pages and completions, out of the same definitions that words are parsed by.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::base::console::VERSION;

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
        Product::Man => {
            let mut definition = shown_whole(definition);
            definition.build();
            man(&definition, folder)
        }
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

/// The page of a command, and those of its subcommands. clap's own synopsis would name every flag,
/// without values.
fn man(command: &clap::Command, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        man(below, folder)?;
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").lines().map(str::trim);
    let usage = usage.collect::<Vec<_>>().join("\n.br\n");
    let page = Man::new(command.clone()).source(VERSION.trim_end());
    let mut text = vec![];
    page.render(&mut text)?;
    let text = String::from_utf8(text).expect("it is made of strings");
    // A date that is left out would leave its place to the version.
    let text = text.replacen(" 1  \"", " 1 \"\" \"", 1);
    let (name, rest) = text.split_once(".SH SYNOPSIS").expect("each page has one");
    let (_, rest) = rest.split_once(".SH DESCRIPTION").expect("each page has one");
    // The version is in the footer.
    let (rest, _) = rest.split_once(".SH VERSION").unwrap_or((rest, ""));
    let rest = rest.replace(".SH EXTRA", ".SH NOTES");
    // Neither stretched nor hyphenated: many words are flags, which are long and may be copied.
    let (title, name) = name.split_once(".SH NAME").expect("each page has one");
    let name = format!("{title}.nh\n.ad l\n.SH NAME{name}");
    let text = format!("{name}.SH SYNOPSIS\n{usage}\n.SH DESCRIPTION{rest}");
    fs::write(folder.join(page.get_filename()), text)
}
