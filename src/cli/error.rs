//! What is said of words that make no command: one line.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::base::limits::EXIT_USAGE;

/// Words that make no command. Its text is one line.
#[derive(Debug)]
pub struct UsageError {
    /// The command, without `sunder`; empty: none was found.
    tool: String,
    line: String,
}

impl UsageError {
    pub(super) fn new(tool: &str, line: impl Into<String>) -> UsageError {
        UsageError { tool: tool.to_owned(), line: line.into().replace(char::is_control, " ") }
    }

    /// The exit status for it.
    pub fn exit_status(&self) -> u8 {
        EXIT_USAGE
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UsageError { tool, line } = self;
        let space = if tool.is_empty() { "" } else { " " };
        write!(f, "sunder{space}{tool}: {line} (see sunder{space}{tool} --help)")
    }
}

impl Error for UsageError {}

/// A word for the terminal.
pub(super) fn shown(word: &OsStr) -> String {
    word.to_string_lossy().escape_debug().to_string()
}

/// What clap says of `words`, in one line.
pub(super) fn of_clap(
    definition: &clap::Command,
    words: &[OsString],
    error: &clap::Error,
) -> UsageError {
    let (tool, command) = subcommand(definition, words);
    let line = match error.kind() {
        ErrorKind::ValueValidation => {
            let flag = context(error, ContextKind::InvalidArg).unwrap_or_default();
            let flag = both_forms(command, &flag);
            match error.source() {
                Some(source) => format!("{flag}: {source}"),
                None => sentence(error),
            }
        }
        ErrorKind::InvalidUtf8 => match words.iter().find(|word| word.to_str().is_none()) {
            Some(word) => format!("'{}' is not UTF-8", shown(word)),
            None => sentence(error),
        },
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let example = if tool.is_empty() { "serve" } else { "check" };
            format!("give a command, e.g. sunder {tool} {example}").replace("  ", " ")
        }
        _ => sentence(error),
    };
    UsageError::new(&tool, line)
}

/// The subcommand that `words` begin with.
fn subcommand<'d>(
    definition: &'d clap::Command,
    words: &[OsString],
) -> (String, &'d clap::Command) {
    let (mut command, mut path) = (definition, vec![]);
    for word in words {
        let Some(next) = word.to_str().and_then(|word| command.find_subcommand(word)) else {
            break;
        };
        path.push(next.get_name());
        command = next;
    }
    (path.join(" "), command)
}

/// `-p, --port` for clap's `--port <N>`.
fn both_forms(command: &clap::Command, shown: &str) -> String {
    let Some(arg) = command.get_arguments().find(|arg| arg.to_string() == shown) else {
        return shown.to_owned();
    };
    match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        _ => shown.to_owned(),
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    }
}

/// clap's lines without how the command is used, as one.
fn sentence(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim);
    let lines = lines.take_while(|line| {
        !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let mut sentence = String::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let line = line.strip_prefix("error: ").unwrap_or(line);
        match line.strip_prefix("tip: ") {
            // No word of a command line here is a flag's name.
            Some(tip) if tip.starts_with("to pass") => {}
            Some(tip) => sentence += &format!("; {tip}"),
            None if sentence.is_empty() => sentence += line,
            None => sentence += &format!(" {line}"),
        }
    }
    sentence
}
