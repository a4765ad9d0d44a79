//! `sunder config`.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Subcommand};

use super::file::File;

/// Check a configuration file, or show what is in force
#[derive(Args, Debug)]
#[command(disable_help_subcommand = true, arg_required_else_help = false)]
pub(super) struct Settings {
    #[command(subcommand)]
    pub command: SettingsCommand,
}

#[derive(Subcommand, Debug)]
pub(super) enum SettingsCommand {
    /// Say whether sunder serve --config FILE would understand it
    ///
    /// Nothing is opened: whether the host has what it names is found at the start.
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print every setting of sunder serve FLAGS, and where it comes from
    ///
    /// The output is a configuration file with the same settings.
    Show {
        /// Flags of sunder serve, such as --config FILE
        #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<OsString>,
    },
}

impl SettingsCommand {
    /// Its name, without `sunder`.
    pub fn tool(&self) -> &'static str {
        match self {
            SettingsCommand::Check { .. } => "config check",
            SettingsCommand::Show { .. } => "config show",
        }
    }

    /// The words of `serve` that it is about.
    pub fn words(&self) -> Vec<OsString> {
        let serve = OsString::from("serve");
        match self {
            SettingsCommand::Check { file } => {
                // Behind an equals sign it is a value, whatever it begins with.
                let mut config = OsString::from("--config=");
                config.push(file);
                vec![serve, config]
            }
            SettingsCommand::Show { flags } => [&[serve], &flags[..]].concat(),
        }
    }

    /// What is said of words that are right.
    pub fn answer(
        &self,
        definition: &Command,
        matches: &ArgMatches,
        given: &[String],
        file: Option<&File>,
    ) -> String {
        match self {
            SettingsCommand::Check { file: path } => {
                let keys = file.map_or(0, File::keys);
                let settings = if keys == 1 { "setting" } else { "settings" };
                format!("{}: {keys} {settings}, all understood\n", path.display())
            }
            SettingsCommand::Show { .. } => {
                let serve = definition.find_subcommand("serve").expect("it is one");
                show(serve, matches, given, file)
            }
        }
    }
}

/// All settings as a configuration file, each with where it comes from.
fn show(serve: &Command, matches: &ArgMatches, given: &[String], file: Option<&File>) -> String {
    let mut out = String::new();
    let mut heading = None;
    for arg in serve.get_arguments() {
        let (Some(name), id) = (arg.get_long(), arg.get_id().as_str()) else { continue };
        let source = matches.value_source(id);
        // What only memcached or Rend has is shown where it is used.
        let is_foreign = arg.is_hide_short_help_set()
            && !matches!(source, Some(it) if it != ValueSource::DefaultValue);
        if ["config", "help", "version"].contains(&id) || arg.is_hide_set() || is_foreign {
            continue;
        }
        if arg.get_help_heading() != heading {
            heading = arg.get_help_heading();
            let gap = if out.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{gap}# {}", heading.unwrap_or_default());
        }
        let from = match source {
            Some(ValueSource::CommandLine) if given.iter().any(|it| it == id) => {
                "command line".to_owned()
            }
            Some(ValueSource::CommandLine) => {
                file.and_then(|file| file.place(id)).unwrap_or_default()
            }
            _ => "default".to_owned(),
        };
        let line = match value(arg, matches) {
            Some(value) => format!("{name} = {value}"),
            None => match default_in_help(arg) {
                Some(default) => format!("# {name}: {default}"),
                None => format!("# {name}"),
            },
        };
        let _ = writeln!(out, "{line:<48} # {from}");
    }
    out
}

/// A setting's value in TOML, if it has one.
fn value(arg: &Arg, matches: &ArgMatches) -> Option<String> {
    let id = arg.get_id().as_str();
    if let ArgAction::Count = arg.get_action() {
        return Some(match matches.get_count(id) {
            0 => "false".to_owned(),
            1 => "true".to_owned(),
            count => count.to_string(),
        });
    }
    if !arg.get_action().takes_values() {
        let is_on = matches.value_source(id).is_some_and(|it| it == ValueSource::CommandLine);
        return Some(is_on.to_string());
    }
    let raw: Vec<String> = matches.get_raw(id)?.map(|it| quoted(&it.to_string_lossy())).collect();
    match &raw[..] {
        [one] => Some(one.clone()),
        all => Some(format!("[{}]", all.join(", "))),
    }
}

/// What the help says is the default, where that depends on other settings or the host.
fn default_in_help(arg: &Arg) -> Option<String> {
    let help = arg.get_help()?.to_string();
    let (_, rest) = help.split_once("[default: ")?;
    rest.split_once(']').map(|(default, _)| default.to_owned())
}

/// A TOML value: a number, or a string.
fn quoted(text: &str) -> String {
    let is_number = !text.is_empty()
        && text.len() < 18
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if is_number || ["true", "false"].contains(&text) {
        return text.to_owned();
    }
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
