//! What several subcommands ask of words: a switch, a place on the command line, a list.

use std::net::IpAddr;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::config::ValueError;

/// Several values of one word. clap takes what is called a `Vec` for a flag that may be repeated.
pub(super) type List<T> = Vec<T>;

/// What Go's flags take for true and false.
pub(super) fn boolean(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ValueError::new(text, "true or false")),
    }
}

/// Whether a flag is on the command line, and not only its default holds.
pub(super) fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// Where on the command line a flag is first.
pub(super) fn place(matches: &ArgMatches, id: &str) -> usize {
    matches.indices_of(id).and_then(|mut all| all.next()).unwrap_or(usize::MAX)
}

/// The notes in the order of their flags, each once.
pub(super) fn in_order(mut notes: Vec<(usize, &'static str)>) -> Vec<&'static str> {
    notes.sort_unstable();
    let mut said: Vec<&'static str> = vec![];
    for (_, note) in notes {
        if !said.contains(&note) {
            said.push(note);
        }
    }
    said
}

/// Whether an address is among `all` more than once.
pub(super) fn has_twice(all: impl Iterator<Item = IpAddr>) -> bool {
    let mut all: Vec<IpAddr> = all.collect();
    all.sort_unstable();
    all.windows(2).any(|pair| pair[0] == pair[1])
}
