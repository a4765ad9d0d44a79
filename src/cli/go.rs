//! Rend's spellings. Rend is written in Go, whose flags may begin with one dash or two, have their
//! value behind a space or a `=`, and need none where they are switches. Its `-h` is the host.
//!
//! Words are respelt before clap sees them; which flags there are is read from the definition. A
//! word that is the value of another flag stays as it is.

use std::ffi::OsString;

use clap::{Arg, Command};

use super::rend;
use super::value::boolean;

/// Respells the words of a command line as clap has them.
pub(super) fn respell(definition: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let first = words.first().and_then(|word| word.to_str());
    let command = first.and_then(|name| definition.find_subcommand(name));
    // bench and l2, which have subcommands, are none of Rend's.
    let Some(command) = command.filter(|command| !command.has_subcommands()) else { return words };
    let mut words = words.into_iter().peekable();
    let mut respelt: Vec<OsString> = words.next().into_iter().collect();
    while let Some(word) = words.next() {
        let Some((arg, name, value)) = word.to_str().and_then(|text| flag(command, text)) else {
            respelt.push(word);
            continue;
        };
        let next = words.peek().map(|next| next.to_string_lossy());
        let asks_help = arg.get_id() == "host" && name == "h" && value.is_none();
        if asks_help && next.is_none_or(|next| next.starts_with('-')) {
            respelt.push("-h".into());
            continue;
        }
        let long = format!("--{}", arg.get_long().unwrap_or_default());
        respelt.extend(match value {
            _ if !is_of_rend(command, arg) => Some(word.clone()),
            None => Some(long.into()),
            // A switch with a value: true is the switch alone, false is nothing.
            Some(value) => match boolean(value) {
                Ok(true) if is_switch(arg) => Some(long.into()),
                Ok(false) if is_switch(arg) => None,
                _ => Some(format!("{long}={value}").into()),
            },
        });
        if value.is_none() && !is_switch(arg) && !arg.is_require_equals_set() {
            respelt.extend(words.next());
        }
    }
    respelt
}

/// The flag that a word is, the name or letter that it has there, and the value behind that.
fn flag<'c, 't>(
    command: &'c Command,
    text: &'t str,
) -> Option<(&'c Arg, &'t str, Option<&'t str>)> {
    let long = text.strip_prefix("--");
    let mut word = long.or_else(|| text.strip_prefix('-'))?;
    let (name, value) =
        word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    if let Some(arg) = find(command, name).filter(|it| long.is_some() || is_of_rend(command, it)) {
        return Some((arg, name, value));
    }
    // Letters; the last one may have its value behind it.
    while long.is_none() {
        let (letter, rest) = word.split_at_checked(1)?;
        let arg = find(command, letter)?;
        if rest.is_empty() {
            return Some((arg, letter, None));
        }
        // In Go all that is behind a switch's letter is its value.
        if !is_switch(arg) || is_of_rend(command, arg) {
            return Some((arg, letter, Some(rest)));
        }
        word = rest;
    }
    None
}

/// The flag with this name, or with this letter.
fn find<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    let is_long = |arg: &&Arg| {
        arg.get_long() == Some(name)
            || arg.get_all_aliases().is_some_and(|names| names.contains(&name))
    };
    let is_letter = |arg: &&Arg| arg.get_short().is_some_and(|it| name.chars().eq([it]));
    command.get_arguments().find(is_long).or_else(|| command.get_arguments().find(is_letter))
}

/// Whether a flag is spelt as Rend spells it: those of the tools are, and of `serve` Rend's own.
fn is_of_rend(command: &Command, arg: &Arg) -> bool {
    command.get_name() != "serve"
        || arg.get_help_heading() == Some(rend::HEADING)
        || ["bp", "use_domain_socket", "sock_path"].contains(&arg.get_id().as_str())
}

fn is_switch(arg: &Arg) -> bool {
    !arg.is_positional() && arg.get_num_args().is_some_and(|n| n.max_values() == 0)
}
