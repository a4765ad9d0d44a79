//! The configuration file of `serve`: TOML, with a key for each flag, under the flag's name.
//!
//! Its keys become words of a command line, before those that were given, so each flag is still
//! defined once and means the same in both. What is given on the command line is left out of the
//! file's words. Nothing here knows what a flag is for.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::de::{DeTable, DeValue};

use super::error;

/// No file of settings is longer, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// No flag has more values.
const VALUES_MAX: usize = 1024;

/// Longest part of an error that is shown, in bytes: it may repeat what is in the file.
const ERROR_BYTES_MAX: usize = 300;

/// The flag that names the file.
const CONFIG: &str = "config";

/// What a file says.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// A key of a file.
#[derive(Debug)]
struct Entry {
    /// The flag's id.
    id: String,
    key: String,
    line: usize,
    words: Vec<OsString>,
}

/// What stands in a file where, and is wrong.
type Wrong = (usize, String);

impl File {
    /// Reads a file of the flags that `definition` has for `serve`.
    ///
    /// # Errors
    /// A line that names the place and what is expected there.
    pub fn read(path: &Path, definition: &Command) -> Result<File, String> {
        let shown = path.display();
        let fail = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => format!("--config: {shown} does not exist"),
            io::ErrorKind::InvalidData => format!("--config: {shown} is not UTF-8"),
            _ => format!("--config: {shown} cannot be read: {error}"),
        };
        let mut text = String::new();
        let file = fs::File::open(path).map_err(fail)?;
        file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(fail)?;
        if text.len() as u64 > BYTES_MAX {
            return Err(format!("--config: {shown} has more than a mebibyte"));
        }
        let entries = entries(&text, definition);
        let entries = entries.map_err(|(line, wrong)| format!("{shown}:{line}: {wrong}"))?;
        Ok(File { path: path.to_owned(), entries })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many keys it has.
    pub fn keys(&self) -> usize {
        self.entries.len()
    }

    /// Where a flag's value is, if it is in the file.
    pub fn place(&self, id: &str) -> Option<String> {
        let entry = self.entries.iter().find(|entry| entry.id == id)?;
        Some(format!("{}:{}", self.path.display(), entry.line))
    }

    /// What is said of the flags together, with the places of those that are in the file.
    pub fn explain(&self, line: String) -> String {
        let is_named = |entry: &&Entry| {
            let flag = format!("--{}", entry.key);
            let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-');
            line.match_indices(&flag).any(|(at, _)| ends(&line[at + flag.len()..]))
        };
        let named = self.entries.iter().filter(is_named);
        let places: Vec<String> = named
            .map(|entry| format!("--{} is in {}:{}", entry.key, self.path.display(), entry.line))
            .collect();
        if places.is_empty() { line } else { format!("{line}; {}", places.join(", ")) }
    }

    /// The words of `serve`, with the file's before them.
    pub fn with(&self, words: &[OsString], given: &ArgMatches) -> Vec<OsString> {
        let is_given = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
        let own = self.entries.iter().filter(|entry| !is_given(&entry.id));
        let own = own.flat_map(|entry| entry.words.iter().cloned());
        let (tool, rest) = words.split_at(1);
        tool.iter().cloned().chain(own).chain(rest.iter().cloned()).collect()
    }
}

/// What the words of `serve` give, as far as they can be understood without the file, if they name
/// one. What is wrong with them is found when they are read with it.
pub(super) fn named(definition: &Command, words: &[OsString]) -> Option<(PathBuf, ArgMatches)> {
    if words.first().is_none_or(|tool| tool != "serve") {
        return None;
    }
    let lenient = definition.clone().ignore_errors(true);
    let mut lenient = lenient.mut_subcommand("serve", |serve| serve.ignore_errors(true));
    let name = OsString::from("sunder");
    let words = std::iter::once(&name).chain(words);
    let mut matches = lenient.try_get_matches_from_mut(words).ok()?;
    let (_, given) = matches.remove_subcommand()?;
    let path = given.get_one::<PathBuf>(CONFIG).cloned()?;
    Some((path, given))
}

fn entries(text: &str, definition: &Command) -> Result<Vec<Entry>, Wrong> {
    let line_of = |at: usize| 1 + text[..at].bytes().filter(|byte| *byte == b'\n').count();
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        (line_of(at), error.message().replace('\n', ", "))
    })?;
    let serve = definition.find_subcommand("serve").expect("it is one");
    let mut entries = Vec::new();
    for (key, value) in table.into_inner() {
        let line = line_of(key.span().start);
        let key = key.into_inner().into_owned();
        let entry = entry(&key, line, value.get_ref(), serve, definition);
        entries.push(entry.map_err(|wrong| (line, shortened(wrong)))?);
    }
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

fn shortened(mut text: String) -> String {
    if text.len() > ERROR_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
        text.push_str("..");
    }
    text
}

fn entry(
    key: &str,
    line: usize,
    value: &DeValue<'_>,
    serve: &Command,
    definition: &Command,
) -> Result<Entry, String> {
    let names = |arg: &&Arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long() == Some(key) || aliases.contains(&key)
    };
    let id_is = |arg: &&Arg, ids: &[&str]| ids.contains(&arg.get_id().as_str());
    let known = serve.get_arguments().find(names);
    let Some(arg) = known.filter(|arg| !id_is(arg, &[CONFIG, "help", "version"])) else {
        return Err(unknown(key, definition));
    };
    let name = arg.get_long().unwrap_or_default().to_owned();
    let words = words(arg, &name, value).map_err(|expected| format!("{key}: {expected}"))?;
    for word in &words {
        check_alone(word, definition).map_err(|wrong| format!("{key}: {wrong}"))?;
    }
    Ok(Entry { id: arg.get_id().to_string(), key: name, line, words })
}

/// What a value is as words of a command line. An error: what is expected.
fn words(arg: &Arg, name: &str, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    let is_switch = !arg.get_action().takes_values() || arg.get_num_args() == Some(0.into());
    let is_bool = arg.get_value_names().is_some_and(|names| names[0] == "BOOL");
    let alone = || OsString::from(format!("--{name}"));
    let with = |value: &str| OsString::from(format!("--{name}={value}"));
    match (value, arg.get_action()) {
        (DeValue::Integer(times), ArgAction::Count) => {
            let times = whole(times).and_then(|times| usize::try_from(times).ok());
            let times = times.filter(|times| *times < 10);
            Ok(vec![alone(); times.ok_or("expected how often the flag is given")?])
        }
        (DeValue::Boolean(is_on), _) if is_switch => Ok(is_on.then(alone).into_iter().collect()),
        (_, _) if is_switch => Err("expected true or false".into()),
        (DeValue::Boolean(is_on), _) if is_bool => Ok(vec![with(&is_on.to_string())]),
        (DeValue::Array(elements), _) if elements.is_empty() => {
            Err("expected at least one value; leave the key out for the default".into())
        }
        (DeValue::Array(elements), _) if elements.len() > VALUES_MAX => {
            Err(format!("{} values, expected at most {VALUES_MAX}", elements.len()))
        }
        (DeValue::Array(elements), ArgAction::Append) => {
            let elements = elements.iter().map(|element| single(element.get_ref()));
            elements.map(|element| element.map(|it| with(&it))).collect()
        }
        (DeValue::Array(elements), _) if is_list(arg) => {
            let elements = elements.iter().map(|element| single(element.get_ref()));
            Ok(vec![with(&elements.collect::<Result<Vec<_>, _>>()?.join(","))])
        }
        (value, _) => Ok(vec![with(&single(value)?)]),
    }
}

/// Whether its value on the command line is a list.
fn is_list(arg: &Arg) -> bool {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().any(|name| name.contains("LIST") || name.contains(',') || name.contains("WORDS"))
}

fn single(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => {
            whole(number).map(|it| it.to_string()).ok_or_else(|| "the number is too large".into())
        }
        DeValue::Array(_) => Err("expected one value, not an array".into()),
        DeValue::Boolean(_) => Err("expected a string or a number, as on the command line".into()),
        _ => Err("expected a string, as on the command line".into()),
    }
}

fn whole(number: &toml::de::DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Whether a word is a flag with a value of it, whatever else has to be given with it.
fn check_alone(word: &OsString, definition: &Command) -> Result<(), String> {
    let words = [OsString::from("serve"), word.clone()];
    let name = OsString::from("sunder");
    let mut definition = definition.clone();
    let read = definition.try_get_matches_from_mut(std::iter::once(&name).chain(&words));
    match read.map_err(|error| (error.kind(), error)) {
        Ok(_) | Err((ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict, _)) => {
            Ok(())
        }
        Err((_, error)) => {
            // Without the flag, of which the key is the name.
            let line = error::line_of(&definition, &words, &error);
            Err(match line.split_once(": ") {
                Some((flag, rest)) if flag.starts_with('-') => rest.to_owned(),
                _ => line,
            })
        }
    }
}

fn unknown(key: &str, definition: &Command) -> String {
    let words = ["sunder".to_owned(), "serve".to_owned(), format!("--{key}=")];
    let error = definition.clone().try_get_matches_from_mut(words).err();
    let similar = error.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg));
    let similar = match similar {
        Some(ContextValue::String(flag)) => flag.trim_start_matches('-').to_owned(),
        _ => String::new(),
    };
    let shown = key.escape_debug();
    match similar.as_str() {
        "" | CONFIG => {
            format!("unknown key '{shown}'; the keys are the flags of sunder serve --help")
        }
        similar => format!("unknown key '{shown}'; a similar one is '{similar}'"),
    }
}
