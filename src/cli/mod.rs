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
mod doctor;
mod error;
mod file;
#[cfg(test)]
mod file_tests;
mod fill;
mod generate;
mod go;
mod l1d;
mod l2;
mod log;
mod memcached;
mod password;
mod rend;
mod replaced;
mod report;
mod run;
mod serve;
mod setget;
mod setops;
mod settings;
mod shared;
mod sizes;
mod stat;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
mod top;
mod unneeded;
mod value;

use std::ffi::OsString;
use std::io;
use std::iter::once;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::base::console::{VERSION, verbose, version};
use crate::config::{Config, Reread};
use crate::doctor::Wishes;
use crate::load::bench::Job;
use crate::load::options::Options;
use crate::load::report::ReportRequest;
use crate::top::StatRequest;
use file::File;
pub use generate::Product;
pub use password::NewPassword;
pub use run::main;
use settings::SettingsCommand;

/// What the words ask for.
#[derive(Debug)]
pub enum Command {
    /// Serve.
    Serve(Box<Config>),
    /// Say what the host lacks for such a server.
    Examine(Box<Config>, Wishes),
    /// Keep a cache for other processes.
    KeepL1(Box<Config>),
    /// Measure a server. The command line is part of the result.
    Bench(Box<Job>),
    /// Show results.
    Report(ReportRequest),
    /// Check or fill a server, with one of the tools.
    Tool(fn(Options) -> ExitCode, Box<Options>),
    /// Show a server on the terminal.
    Top(String),
    /// Print what a server does, a line at a time.
    Stat(StatRequest),
    /// Verify the log on an SSD.
    CheckLog(PathBuf),
    /// Ask for a password and print its hash.
    MakePassword(NewPassword),
    /// Write man pages or completions to a directory.
    Generate(Product, PathBuf),
    /// Print this text.
    Print(String),
}

/// A memcached-compatible cache appliance.
#[derive(Parser, Debug)]
#[command(name = "sunder", version = version(), propagate_version = true, max_term_width = 100)]
#[command(arg_required_else_help = false)]
#[command(after_help = "sunder COMMAND --help describes the flags of a command.")]
struct Sunder {
    #[command(subcommand)]
    command: Subcommands,
    /// With --version: say how it was built, too
    #[arg(long, requires = "version")]
    verbose: bool,
}

// Each has its help in its own file.
#[derive(Subcommand, Debug)]
enum Subcommands {
    Serve(Box<serve::Serve>),
    Blast(Box<shared::Tool<blast::Blast>>),
    Setget(Box<shared::Tool<setget::SetGet>>),
    Sizes(Box<shared::Tool<sizes::Sizes>>),
    Fill(Box<shared::Tool<fill::Fill>>),
    Setops(Box<shared::Tool<setops::SetOps>>),
    Bench(Box<bench::Bench>),
    Top(top::Top),
    Stat(stat::Stat),
    L1d(l1d::L1d),
    L2(l2::L2),
    Password(password::Password),
    Config(settings::Settings),
    Doctor(doctor::Doctor),
    Generate(generate::Generate),
}

/// Reads a command line, without the program's name.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    if words.first().is_some_and(|word| word == "help") {
        // clap's own `help` has no suggestions.
        words.rotate_left(1);
        *words.last_mut().expect("it is not empty") = "--help".into();
    }
    let mut definition = definition();
    definition.build();
    parse_with(&mut definition, &words)
}

fn parse_with(definition: &mut clap::Command, words: &[OsString]) -> Result<Command, String> {
    let name = error::tool_of(definition, words);
    let understood = match understand(definition, words) {
        Ok(understood) => understood,
        Err(Stop::Print(text)) => return Ok(Command::Print(text)),
        Err(Stop::Wrong(line)) => return Err(error::of_tool(&name, &line)),
    };
    let (sunder, matches) = (understood.sunder, &understood.matches);
    let (tool, matches) = matches.subcommand().expect("one is required");
    let command = match sunder.command {
        Subcommands::Serve(it) => {
            let file = understood.file.as_ref();
            let reread = file.map(|file| Reread::new(file.path().to_owned(), rereader(words)));
            let config = it.config(matches).map(|config| Config { reread, ..config });
            let config = config.map_err(|line| explained(definition, file, words, line));
            config.map(|it| Command::Serve(Box::new(it)))
        }
        Subcommands::Blast(it) => it.command(matches),
        Subcommands::Setget(it) => it.command(matches),
        Subcommands::Sizes(it) => it.command(matches),
        Subcommands::Fill(it) => it.command(matches),
        Subcommands::Setops(it) => it.command(matches),
        Subcommands::Bench(it) => it.command(matches, words),
        Subcommands::Top(it) => Ok(Command::Top(it.address)),
        Subcommands::Stat(it) => Ok(Command::Stat(it.request())),
        Subcommands::L1d(it) => it.config().map(|it| Command::KeepL1(Box::new(it))),
        Subcommands::L2(it) => Ok(Command::CheckLog(it.path())),
        Subcommands::Password(it) => Ok(Command::MakePassword(it.new_password())),
        Subcommands::Config(it) => return settings(definition, &it.command),
        Subcommands::Doctor(it) => return examine(definition, &it),
        Subcommands::Generate(it) => Ok(Command::Generate(it.product, it.folder)),
    };
    command.map_err(|text| error::of_tool(tool, &text))
}

/// A command line that clap understands.
struct Understood {
    sunder: Sunder,
    matches: ArgMatches,
    /// The configuration file that it names.
    file: Option<File>,
    /// The flags that are not from that.
    given: Vec<String>,
}

/// Why there is nothing to do: what was asked for, or what is wrong.
enum Stop {
    Print(String),
    Wrong(String),
}

/// Reads the words, and the file that they name.
fn understand(definition: &mut clap::Command, words: &[OsString]) -> Result<Understood, Stop> {
    let mut spelt = go::respell(definition, words.to_vec());
    let named = file::named(definition, &spelt);
    let (mut file, mut given) = (None, vec![]);
    if let Some((path, matches)) = named {
        let read = File::read(&path, definition, &matches).map_err(Stop::Wrong)?;
        spelt = read.with(&spelt);
        given = given_ids(&matches);
        file = Some(read);
    }
    let wrong = |definition: &clap::Command, error: &clap::Error| {
        let line = error::line_of(definition, words, error);
        Stop::Wrong(explained(definition, file.as_ref(), words, line))
    };
    let name = once(OsString::from("sunder"));
    let matches = match definition.try_get_matches_from_mut(name.chain(spelt)) {
        Ok(matches) => matches,
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp => return Err(Stop::Print(error.to_string())),
            ErrorKind::DisplayVersion => {
                let is_verbose = words.iter().any(|word| word == "--verbose");
                return Err(Stop::Print(if is_verbose { verbose() } else { VERSION.to_owned() }));
            }
            _ => return Err(wrong(definition, &error)),
        },
    };
    let sunder = Sunder::from_arg_matches(&matches).map_err(|error| wrong(definition, &error))?;
    if file.is_none()
        && let Some((_, matches)) = matches.subcommand()
    {
        given = given_ids(matches);
    }
    Ok(Understood { sunder, matches, file, given })
}

/// What is wrong with words of `serve`, with where in the file it comes from.
fn explained(
    definition: &clap::Command,
    file: Option<&File>,
    words: &[OsString],
    line: String,
) -> String {
    let Some(file) = file else { return line };
    let words = go::respell(definition, words.to_vec());
    file.explain(line, &words, |words| wrong_with(definition, words))
}

/// What is wrong with words of `serve`, the file's among them.
fn wrong_with(definition: &clap::Command, words: Vec<OsString>) -> Option<String> {
    let name = once(OsString::from("sunder"));
    let read = definition.clone().try_get_matches_from_mut(name.chain(words.iter().cloned()));
    let line = |error: &clap::Error| error::line_of(definition, &words, error);
    let matches = match &read {
        Ok(matches) => matches,
        Err(error) => return Some(line(error)),
    };
    match (Sunder::from_arg_matches(matches), matches.subcommand()) {
        (Err(error), _) => Some(line(&error)),
        (Ok(Sunder { command: Subcommands::Serve(serve), .. }), Some((_, matches))) => {
            serve.config(matches).err()
        }
        _ => None,
    }
}

/// Reads these words of `serve` once more, and the file that they name as it is then.
fn rereader(words: &[OsString]) -> impl Fn() -> Result<Config, String> + Send + Sync + 'static {
    let words = words.to_vec();
    move || match parse(words.clone())? {
        Command::Serve(config) => Ok(*config),
        other => unreachable!("these were words of serve: {other:?}"),
    }
}

/// The flags that stand on the command line.
fn given_ids(matches: &ArgMatches) -> Vec<String> {
    let is_given =
        |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    matches.ids().filter(is_given).map(ToString::to_string).collect()
}

/// Answers `sunder config`.
fn settings(definition: &mut clap::Command, asked: &SettingsCommand) -> Result<Command, String> {
    let words = asked.words();
    let wrong = |line: &str| error::of_tool(asked.tool(), line);
    let understood = match understand(definition, &words) {
        Ok(understood) => understood,
        Err(Stop::Print(text)) => return Ok(Command::Print(text)),
        Err(Stop::Wrong(line)) => return Err(wrong(&line)),
    };
    let Understood { sunder, matches, file, given } = understood;
    let (Subcommands::Serve(serve), Some((_, matches))) = (sunder.command, matches.subcommand())
    else {
        unreachable!("these are words of serve");
    };
    let config = serve.config(matches);
    config.map_err(|line| wrong(&explained(definition, file.as_ref(), &words, line)))?;
    Ok(Command::Print(asked.answer(definition, matches, &given, file.as_ref())))
}

/// Reads the words of `sunder doctor`, which are those of `serve`.
fn examine(definition: &mut clap::Command, asked: &doctor::Doctor) -> Result<Command, String> {
    match parse_with(definition, &asked.words())? {
        Command::Serve(config) => Ok(Command::Examine(config, asked.wishes())),
        other => Ok(other),
    }
}

/// Writes `product` to files in `folder`.
///
/// # Errors
/// If a file cannot be written.
pub fn generate(product: Product, folder: &Path) -> io::Result<()> {
    generate::write(definition(), product, folder)
}

/// All subcommands and flags.
fn definition() -> clap::Command {
    // Not mut_subcommand(), which would move it to the end of the list.
    tuned(Sunder::command().mut_subcommands(|command| match command.get_name() {
        "serve" => command.args(unneeded::args()),
        _ => command,
    }))
}

/// Flags of which two are a mistake; of any other the last one counts, as memcached has it.
const ONCE: [&str; 5] = ["config", "l1", "l2", "rate", "sweep"];

/// What holds for all flags: a value may begin with a dash, a BOOL is spelt as Go has it, and what
/// memcached and Rend have is left out of the short help.
fn tuned(definition: clap::Command) -> clap::Command {
    let tuned_arg = |arg: clap::Arg| {
        let (id, heading) = (arg.get_id().clone(), arg.get_help_heading().unwrap_or_default());
        let is_foreign = [memcached::HEADING, rend::HEADING].contains(&heading);
        let is_bool = arg.get_value_names().is_some_and(|names| names[0] == "BOOL");
        let has_value = arg.get_action().takes_values() && arg.get_num_args() != Some(0.into());
        let is_repeatable = matches!(arg.get_action(), ArgAction::Append);
        let mut arg = arg.hide_short_help(is_foreign);
        if is_bool {
            arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
            arg = arg.value_parser(value::boolean);
        }
        if has_value && !arg.is_positional() {
            arg = arg.allow_hyphen_values(true);
        }
        if is_repeatable || arg.is_positional() || ONCE.contains(&id.as_str()) {
            return arg;
        }
        arg.overrides_with(id)
    };
    definition.mut_args(tuned_arg).mut_subcommands(tuned)
}
