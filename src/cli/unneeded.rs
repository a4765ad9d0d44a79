//! Flags of memcached and of Rend that change nothing here: each is taken with a line that says
//! why, or refused with what to do instead, where to ignore it would harm: whoever asks for TLS
//! must not be served without. They are data, in `unneeded.tsv`.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, value_parser};

use super::value::{ANY, Number};
use crate::config::ValueError;

/// The heading of memcached's words of `-o`, which are no flags.
pub(super) const WORDS: &str = "-o";

/// A flag that is known and does nothing.
#[derive(Debug)]
pub(super) struct Row {
    pub heading: &'static str,
    pub letter: Option<char>,
    pub name: &'static str,
    alias: Option<&'static str>,
    /// What stands behind it: `-` is nothing.
    value: &'static str,
    /// What is said of it, behind the flag and a colon.
    pub note: &'static str,
}

/// All such flags.
pub(super) fn rows() -> impl Iterator<Item = Row> {
    let lines = include_str!("unneeded.tsv").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let columns: Vec<&'static str> = line.split('\t').collect();
        let [heading, letter, names, value, note] = columns[..] else { panic!("a row: {line}") };
        let (name, alias) =
            names.split_once(',').map_or((names, None), |(name, alias)| (name, Some(alias)));
        let letter = letter.chars().find(|letter| *letter != '-');
        Row { heading, letter, name, alias, value, note }
    })
}

/// What is to be said of a flag or a word, if it is one of these under `heading`.
///
/// # Errors
/// It is refused.
pub(super) fn note(id: &str, heading: &str) -> Result<Option<&'static str>, String> {
    let is_it = |row: &Row| match row.name.strip_suffix('*') {
        Some(prefix) => id.starts_with(prefix),
        None => id == row.name,
    };
    match rows().find(|row| row.heading == heading && is_it(row)) {
        Some(row) if row.value.starts_with("refused") => Err(row.note.to_owned()),
        row => Ok(row.map(|row| row.note)),
    }
}

/// Those that are flags.
pub(super) fn args() -> impl Iterator<Item = Arg> {
    rows().filter(|row| row.heading != WORDS).map(|row| row.arg())
}

impl Row {
    fn arg(&self) -> Arg {
        let mut help = self.note.split_once(": ").map_or(self.note, |(_, help)| help).to_owned();
        help[..1].make_ascii_uppercase();
        // Appended: it is no mistake to give one twice, and notes have the order of first flags.
        let arg = Arg::new(self.name).long(self.name).action(ArgAction::Append).help(help);
        let arg = arg.short(self.letter).alias(self.alias).help_heading(self.heading);
        match self.value {
            "-" | "refused" => arg.num_args(0).default_missing_value("true"),
            "refused X" => arg.num_args(0..=1).value_name("X"),
            "N" => arg.value_name("N").value_parser(value_parser!(Number<0, ANY>)),
            "RATIO" => arg.value_name("X").value_parser(ValueParser::new(ratio)),
            name => arg.value_name(name),
        }
    }
}

fn ratio(text: &str) -> Result<f64, ValueError> {
    text.parse().map_err(|_| ValueError::new(text, "a number, e.g. 0.75"))
}
