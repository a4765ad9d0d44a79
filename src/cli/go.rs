//! Rend's spellings. Rend is written in Go, whose flags may begin with one dash or two, have their
//! value behind a space or a `=`, and need none where they are switches. Its `-h` is the host.
//!
//! Words are respelt before clap sees them; which flags there are is read from the definition.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

use super::rend;
use super::value::boolean;

/// Respells the words of a command line as clap has them.
pub(super) fn respell(definition: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let Some(tool) = words.first().and_then(|word| word.to_str()) else { return words };
    let Some(command) = definition.find_subcommand(tool) else { return words };
    match tool {
        "serve" => words.into_iter().map(|word| second_dash(word, rend::is_flag)).collect(),
        "bench" | "l2" => words,
        _ => of_tool(command, words),
    }
}

/// Gives a long flag with one dash the second one.
fn second_dash(word: OsString, is_flag: impl Fn(&str) -> bool) -> OsString {
    let Some(text) = word.to_str() else { return word };
    let Some(flag) = text.strip_prefix('-').filter(|flag| !flag.starts_with('-')) else {
        return word;
    };
    let name = flag.split_once('=').map_or(flag, |(name, _)| name);
    if is_flag(name) { format!("--{flag}").into() } else { word }
}

fn of_tool(command: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let is_long = |name: &str| name.len() > 1 && find(command, name).is_some();
    let mut words = words.into_iter().map(|word| second_dash(word, is_long)).peekable();
    let mut respelt: Vec<OsString> = vec![];
    while let Some(word) = words.next() {
        let Some(text) = word.to_str() else {
            respelt.push(word);
            continue;
        };
        let mut has_value = || {
            let next = words.peek().map(|next| next.to_string_lossy());
            next.is_some_and(|next| !next.starts_with('-'))
        };
        match text {
            "-h" | "--h" if has_value() => respelt.push("--host".into()),
            "-h" | "--h" => respelt.push("-h".into()),
            _ => match text.strip_prefix("-h").or(text.strip_prefix("--h=")) {
                Some(host) if !host.is_empty() => {
                    let host = host.strip_prefix('=').unwrap_or(host);
                    respelt.push(format!("--host={host}").into());
                }
                _ => respelt.extend(switch(command, word)),
            },
        }
    }
    respelt
}

/// A switch may have a value in Go: true is the switch alone, false is nothing.
fn switch(command: &Command, word: OsString) -> Option<OsString> {
    let Some(text) = word.to_str() else { return Some(word) };
    let (name, value) = match text.strip_prefix("--") {
        Some(long) => long.split_once('=').unwrap_or((long, "")),
        // Behind a switch's letter is its value, with a `=` or without.
        None => match text.strip_prefix('-').and_then(|text| text.split_at_checked(1)) {
            Some((letter, rest)) => (letter, rest.strip_prefix('=').unwrap_or(rest)),
            None => return Some(word),
        },
    };
    let Some(arg) = find(command, name).filter(|arg| is_switch(arg)) else { return Some(word) };
    if value.is_empty() {
        return Some(word);
    }
    let long = arg.get_long().unwrap_or(name);
    match boolean(value) {
        Ok(true) => Some(format!("--{long}").into()),
        Ok(false) => None,
        // clap says that it takes no value.
        Err(_) => Some(format!("--{long}={value}").into()),
    }
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
        || arg.get_num_args().is_some_and(|n| n.max_values() == 0)
}

/// The flag with this name or letter.
fn find<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name)
            || arg.get_all_aliases().is_some_and(|names| names.contains(&name))
            || name.len() == 1 && arg.get_short().is_some_and(|it| name.starts_with(it))
    })
}
