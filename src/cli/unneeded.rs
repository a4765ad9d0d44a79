//! Flags of memcached and of Rend that change nothing here: each is taken with a line that says
//! why, or refused with what to do instead, where to ignore it would harm: whoever asks for TLS
//! must not be served without.

use std::marker::PhantomData;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use super::value::{boolean, is_given, place};
use crate::config::ValueError;

/// A flag that is known and does nothing.
pub(super) struct Row {
    pub letter: Option<char>,
    pub name: &'static str,
    pub takes: Takes,
    /// What is said of it, behind the flag and a colon.
    pub note: &'static str,
}

/// What stands behind a flag.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    Nothing,
    Text,
    /// A switch of Go's.
    Switch,
    Whole,
    Ratio,
    /// The command line is refused.
    Refused,
    /// The same, of a flag that has a value in memcached.
    RefusedText,
}

/// The flags of one program.
pub(super) trait Table {
    const HEADING: &'static str;
    const ROWS: &'static [Row];
}

/// What is to be said of such flags, each with its place on the command line.
#[derive(Debug)]
pub(super) struct Unneeded<T> {
    pub notes: Vec<(usize, &'static str)>,
    table: PhantomData<T>,
}

impl Row {
    fn arg(&self, heading: &'static str) -> Arg {
        let help = self.note.split_once(": ").map_or(self.note, |(_, help)| help);
        let mut help = help.to_owned();
        help[..1].make_ascii_uppercase();
        let arg = Arg::new(self.name).long(self.name).help(help).help_heading(heading);
        // memcached spells its own with an underscore.
        let arg = if self.name == "napi-ids" { arg.alias("napi_ids") } else { arg };
        let arg = match self.letter {
            Some(letter) => arg.short(letter),
            None => arg,
        };
        // Appended, so that each has its place: notes are told in the order of their flags.
        let arg = arg.action(ArgAction::Append);
        match self.takes {
            Takes::Nothing | Takes::Refused => arg.num_args(0).default_missing_value("true"),
            Takes::Text => arg.value_name("X"),
            Takes::Whole => arg.value_name("N").value_parser(whole),
            Takes::Ratio => arg.value_name("X").value_parser(ratio),
            Takes::Switch => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("BOOL")
                .value_parser(boolean),
            Takes::RefusedText => arg.num_args(0..=1).value_name("X"),
        }
    }
}

fn whole(text: &str) -> Result<u64, ValueError> {
    text.parse().map_err(|_| ValueError::new(text, "a whole number"))
}

fn ratio(text: &str) -> Result<f64, ValueError> {
    text.parse().map_err(|_| ValueError::new(text, "a number, e.g. 0.75"))
}

impl<T: Table> Args for Unneeded<T> {
    fn augment_args(command: Command) -> Command {
        command.args(T::ROWS.iter().map(|row| row.arg(T::HEADING)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Unneeded::<T>::augment_args(command)
    }
}

impl<T: Table> FromArgMatches for Unneeded<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Unneeded<T>, Error> {
        let mut notes = vec![];
        for row in T::ROWS.iter().filter(|row| is_given(matches, row.name)) {
            if matches!(row.takes, Takes::Refused | Takes::RefusedText) {
                return Err(Error::raw(ErrorKind::ArgumentConflict, row.note));
            }
            notes.push((place(matches, row.name), row.note));
        }
        Ok(Unneeded { notes, table: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Unneeded::from_arg_matches(matches)?;
        Ok(())
    }
}
