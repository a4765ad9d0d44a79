//! The command line: words into a [`Command`], or one line that says what is wrong with them.
//!
//! ```text
//! words ── go (Rend's spellings) ──> clap, one file a subcommand ──> plain data: a config, a plan
//! ```
//!
//! A flag is defined once, in its subcommand's file: parsing, help, man pages and completions all
//! come from there. Nothing here runs anything.

mod bench;
mod blast;
mod error;
mod fill;
mod generate;
mod go;
mod l2;
mod memcached;
mod rend;
mod report;
mod run;
mod serve;
mod setget;
mod setops;
mod shared;
mod sizes;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
mod unneeded;
mod value;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::base::console::{VERSION, verbose, version};
use crate::config::Config;
use crate::load::bench::Plan;
use crate::load::options::Options;
use crate::load::report::Request;
pub use error::UsageError;
pub use generate::Product;
pub use run::main;

/// What the words ask for.
#[derive(Debug)]
pub enum Command {
    /// Serve.
    Serve(Box<Config>),
    /// Measure a server. The command line is part of the result.
    Bench(Box<Plan>, String),
    /// Show results.
    Report(Request),
    /// Send every operation, prove every answer possible.
    Blast(Box<Options>),
    /// Set and read back.
    SetGet(Box<Options>),
    /// Values of every length.
    Sizes(Box<Options>),
    /// Fill a cache.
    Fill(Box<Options>),
    /// Store in all five ways.
    SetOps(Box<Options>),
    /// Verify the log on an SSD.
    CheckLog(PathBuf),
    /// Write man pages or completions to a directory.
    Generate(Product, PathBuf),
    /// Print this text.
    Print(String),
}

/// A memcached-compatible cache appliance.
#[derive(Parser, Debug)]
#[command(name = "sunder", version = version(), propagate_version = true, max_term_width = 100)]
#[command(
    arg_required_else_help = false,
    after_help = "\
sunder COMMAND --help has the flags. sunder --version --verbose says how it was built."
)]
struct Sunder {
    #[command(subcommand)]
    command: Subcommands,
}

// Each has its help in its own file.
#[derive(Subcommand, Debug)]
enum Subcommands {
    Serve(Box<serve::Serve>),
    Blast(Box<blast::Blast>),
    Setget(Box<setget::SetGet>),
    Sizes(Box<sizes::Sizes>),
    Fill(Box<fill::Fill>),
    Setops(Box<setops::SetOps>),
    Bench(Box<bench::Bench>),
    L2(l2::L2),
    Generate(generate::Generate),
}

/// Reads a command line, without the program's name.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut definition = definition();
    let first = words.first().and_then(|word| word.to_str()).unwrap_or_default();
    let asks_version = words.iter().any(|word| word == "--version" || word == "-V");
    if first == "--verbose" && asks_version {
        return Ok(Command::Print(verbose()));
    }
    if first.starts_with('-') && !["-h", "--help", "-V", "--version"].contains(&first) {
        let given: Vec<_> = words.iter().map(|word| error::shown(word)).collect();
        let given = given.join(" ");
        let line = format!("'{given}': give a command first: sunder serve {given}");
        return Err(UsageError::new("", line));
    }
    let spelt = go::respell(&definition, words.clone());
    let name = std::iter::once(OsString::from("sunder"));
    let matches = match definition.try_get_matches_from_mut(name.chain(spelt)) {
        Ok(matches) => matches,
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp => return Ok(Command::Print(error.to_string())),
            ErrorKind::DisplayVersion => {
                let is_verbose = words.iter().any(|word| word == "--verbose");
                return Ok(Command::Print(if is_verbose { verbose() } else { VERSION.to_owned() }));
            }
            _ => return Err(error::of_clap(&definition, &words, &error)),
        },
    };
    let sunder = Sunder::from_arg_matches(&matches)
        .map_err(|error| error::of_clap(&definition, &words, &error))?;
    let (tool, own) = matches.subcommand().expect("one is required");
    command(sunder.command, own, &words).map_err(|line| UsageError::new(tool, line))
}

fn command(
    command: Subcommands,
    matches: &clap::ArgMatches,
    words: &[OsString],
) -> Result<Command, String> {
    Ok(match command {
        Subcommands::Serve(serve) => Command::Serve(Box::new(serve.config(matches)?)),
        Subcommands::Bench(bench) => {
            if let Some(request) = bench.report()? {
                return Ok(Command::Report(request));
            }
            let words = words.iter().map(|word| word.to_string_lossy());
            let line = words.fold("sunder".to_owned(), |line, word| line + " " + &*word);
            Command::Bench(Box::new(bench.plan()?), line)
        }
        Subcommands::Blast(blast) => Command::Blast(Box::new(blast.options(matches)?)),
        Subcommands::Setget(setget) => Command::SetGet(Box::new(setget.options(matches)?)),
        Subcommands::Sizes(sizes) => Command::Sizes(Box::new(sizes.options(matches)?)),
        Subcommands::Fill(fill) => Command::Fill(Box::new(fill.options(matches)?)),
        Subcommands::Setops(setops) => Command::SetOps(Box::new(setops.options(matches)?)),
        Subcommands::Generate(it) => Command::Generate(it.product, it.folder),
        Subcommands::L2(l2) => Command::CheckLog(l2.path()),
    })
}

/// Writes `product` to files in `folder`.
///
/// # Errors
/// If a file cannot be written.
pub fn generate(product: Product, folder: &Path) -> io::Result<()> {
    generate::write(tuned(Sunder::command()), product, folder)
}

/// All subcommands and flags.
fn definition() -> clap::Command {
    let mut definition = tuned(Sunder::command());
    definition.build();
    definition
}

/// Flags of which two are a mistake; of any other the last one counts, as memcached has it.
const ONCE: &[&str] = &["l1", "l2", "rate", "sweep"];

/// What holds for all flags: a value may begin with a dash, and what memcached and Rend have is
/// left out of the short help.
fn tuned(definition: clap::Command) -> clap::Command {
    let tuned_arg = |arg: clap::Arg| {
        if arg.is_positional() {
            return arg;
        }
        let id = arg.get_id().clone();
        let is_foreign = arg.get_help_heading().is_some_and(|heading| heading.contains("'s"));
        let arg = arg.hide_short_help(is_foreign);
        let arg = match arg.get_action() {
            ArgAction::Set | ArgAction::Append if arg.get_num_args() != Some(0.into()) => {
                arg.allow_hyphen_values(true)
            }
            _ => arg,
        };
        match arg.get_action() {
            ArgAction::Set | ArgAction::SetTrue if !ONCE.contains(&id.as_str()) => {
                arg.overrides_with(id)
            }
            _ => arg,
        }
    };
    definition.mut_args(tuned_arg).mut_subcommands(tuned)
}
