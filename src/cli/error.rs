//! What is said of words that make no command: one line.

use std::error::Error;
use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The line for words that make no command. `tool`: the command, without `sunder`; empty: none was
/// found.
pub(super) fn of_tool(tool: &str, text: &str) -> String {
    let name = format!("sunder {tool}");
    let name = name.trim_end();
    // The keys of a configuration file are described there.
    let described = if tool.starts_with("config ") { "sunder serve" } else { name };
    format!("{name}: {text} (see {described} --help)").replace(char::is_control, " ")
}

/// A word for the terminal.
fn shown(word: &OsStr) -> String {
    word.to_string_lossy().escape_debug().to_string()
}

/// The name of the command that the words begin with, without `sunder`.
pub(super) fn tool_of(definition: &clap::Command, words: &[OsString]) -> String {
    path_of(definition, words).1.join(" ")
}

/// The command that the words begin with, and its name.
fn path_of<'d>(
    definition: &'d clap::Command,
    words: &[OsString],
) -> (&'d clap::Command, Vec<&'d str>) {
    let (mut command, mut path) = (definition, vec![]);
    for name in words {
        let Some(next) = command.find_subcommand(name) else { break };
        path.push(next.get_name());
        command = next;
    }
    (command, path)
}

/// What clap says of `words`, in one line.
pub(super) fn line_of(
    definition: &clap::Command,
    words: &[OsString],
    error: &clap::Error,
) -> String {
    let (command, path) = path_of(definition, words);
    match (error.kind(), error.source()) {
        (ErrorKind::UnknownArgument, _) if path.is_empty() => command_first(definition, words),
        (ErrorKind::ValueValidation, Some(source)) => {
            let flag = error.get(ContextKind::InvalidArg).map(ContextValue::to_string);
            format!("{}: {source}", both_forms(command, &flag.unwrap_or_default()))
        }
        (ErrorKind::InvalidUtf8, _) => {
            let word = words.iter().find(|word| word.to_str().is_none());
            format!("'{}' is not UTF-8", word.map(|word| shown(word)).unwrap_or_default())
        }
        _ => sentence(error),
    }
}

/// What to do with flags that stand before a command, or have none.
fn command_first(definition: &clap::Command, words: &[OsString]) -> String {
    let at = words.iter().position(|word| definition.find_subcommand(word).is_some());
    let mut shown: Vec<String> = words.iter().map(|word| shown(word)).collect();
    let name = at.map_or_else(|| "serve".to_owned(), |at| shown.remove(at));
    let flags = shown.join(" ");
    format!("'{flags}': give a command first: sunder {name} {flags}")
}

/// `-p, --port` for clap's `--port <N>`.
fn both_forms(command: &clap::Command, shown: &str) -> String {
    let arg = command.get_arguments().find(|arg| arg.to_string() == shown);
    match arg.map(|arg| (arg.get_short(), arg.get_long())) {
        Some((Some(short), Some(long))) => format!("-{short}, --{long}"),
        Some((None, Some(long))) => format!("--{long}"),
        _ => shown.to_owned(),
    }
}

/// clap's lines without how the command is used, as one.
fn sentence(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.take_while(|line| {
        !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let lines = lines.map(|line| line.strip_prefix("error: ").unwrap_or(line));
    // No word of a command line here is a flag's name.
    let lines = lines.filter(|line| !line.starts_with("tip: to pass"));
    lines.collect::<Vec<_>>().join(" ").replace(" tip: ", "; ")
}
