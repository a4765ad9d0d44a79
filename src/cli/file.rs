//! The configuration file of `serve`: TOML, with a key for each flag, under the flag's name.
//!
//! Its keys become words of a command line, before those that were given, so each flag is still
//! defined once and means the same in both. What is given on the command line, and what it
//! replaces, is left out of the file's words. Nothing here knows what a flag is for.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{error, replaced};
use crate::base::files;

/// No file of settings is longer, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// No flag has more values.
const VALUES_MAX: usize = 1024;

/// Longest part of an error that is shown, in bytes: it may repeat what is in the file.
const ERROR_BYTES_MAX: usize = 300;

/// Longest value that is shown with the quotes that it needs, in bytes.
const QUOTED_BYTES_MAX: usize = 60;

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
    letter: Option<char>,
    line: usize,
    words: Vec<OsString>,
    /// The command line has it, or what stands in its place.
    is_replaced: bool,
}

/// What stands in a file where, and is wrong.
type Wrong = (usize, String);

impl File {
    /// Reads a file of the flags that `definition` has for `serve`; some are `given` on the command
    /// line.
    ///
    /// # Errors
    /// A line that names the place and what is expected there.
    pub fn read(path: &Path, definition: &Command, given: &ArgMatches) -> Result<File, String> {
        let shown = path.display();
        let fail = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => format!("--config: {shown} does not exist"),
            io::ErrorKind::InvalidData => format!("--config: {shown} is not UTF-8"),
            _ => format!("--config: {shown} cannot be read: {error}"),
        };
        let mut text = String::new();
        let file = files::open(path).map_err(fail)?;
        if !file.metadata().map_err(fail)?.is_file() {
            return Err(format!("--config: {shown} is not a regular file"));
        }
        file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(fail)?;
        if text.len() as u64 > BYTES_MAX {
            return Err(format!("--config: {shown} has more than a mebibyte"));
        }
        if text.is_empty() {
            // It is being written: its settings would be taken for the default.
            return Err(format!("--config: {shown} is empty"));
        }
        let entries = entries(&text, definition);
        let mut entries = entries.map_err(|(line, wrong)| format!("{shown}:{line}: {wrong}"))?;
        for entry in &mut entries {
            entry.is_replaced = replaced::is_replaced(&entry.id, given);
        }
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

    /// Those of its entries that are in force.
    fn own(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.is_replaced)
    }

    /// Where a flag's value is, if it is in the file.
    pub fn place(&self, id: &str) -> Option<String> {
        self.own().find(|entry| entry.id == id).map(|entry| self.place_of(entry))
    }

    fn place_of(&self, entry: &Entry) -> String {
        format!("{}:{}", self.path.display(), entry.line)
    }

    /// What is said of the flags together, with the places of those that are in the file: of those
    /// that it names, or else of the first without which it would not be said. `said`: what is said
    /// of words.
    pub fn explain(
        &self,
        line: String,
        words: &[OsString],
        said: impl Fn(Vec<OsString>) -> Option<String>,
    ) -> String {
        let mut named: Vec<&Entry> = self.own().filter(|entry| entry.is_named_in(&line)).collect();
        if named.is_empty() {
            let with_all = said(self.with(words));
            let mut own = self.own();
            named.extend(own.find(|&entry| said(self.words(words, Some(entry))) != with_all));
        }
        let place = |entry: &&Entry| format!("--{} is in {}", entry.key, self.place_of(entry));
        let places: Vec<String> = named.iter().map(place).collect();
        if places.is_empty() { line } else { format!("{line}; {}", places.join(", ")) }
    }

    /// The words of `serve`, with the file's before them.
    pub fn with(&self, words: &[OsString]) -> Vec<OsString> {
        self.words(words, None)
    }

    fn words(&self, words: &[OsString], without: Option<&Entry>) -> Vec<OsString> {
        let own = self.own().filter(|entry| without.is_none_or(|it| it.id != entry.id));
        let own = own.flat_map(|entry| entry.words.iter().cloned());
        let (tool, rest) = words.split_at(1);
        tool.iter().cloned().chain(own).chain(rest.iter().cloned()).collect()
    }
}

impl Entry {
    /// Whether a line has its flag.
    fn is_named_in(&self, line: &str) -> bool {
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-');
        let has = |flag: &str| {
            let mut found = line.match_indices(flag);
            found.any(|(at, _)| {
                ends(&line[at + flag.len()..])
                    && !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-')
            })
        };
        has(&format!("--{}", self.key)) || self.letter.is_some_and(|it| has(&format!("-{it}")))
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

/// What a file says, in the order of its lines; or the first of its lines that is wrong.
fn entries(text: &str, definition: &Command) -> Result<Vec<Entry>, Wrong> {
    let line_of = |at: usize| 1 + text[..at].bytes().filter(|byte| *byte == b'\n').count();
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut wrong: Vec<Wrong> = errors.iter().map(|error| syntax(text, error, &line_of)).collect();
    let serve = definition.find_subcommand("serve").expect("it is one");
    let mut items: Vec<_> = table.into_inner().into_iter().collect();
    items.sort_by_key(|(key, _)| key.span().start);
    let mut entries = Vec::new();
    for (key, value) in items {
        let line = line_of(key.span().start);
        let key = key.into_inner().into_owned();
        match entry(&key, line, &value, (serve, definition), &line_of) {
            Ok(entry) => entries.push(entry),
            Err((line, text)) => {
                wrong.push((line, shortened(text)));
                // It is the first, and to find what is similar takes time.
                break;
            }
        }
    }
    // Of those in one line the first: what is no TOML may be taken for something else, too.
    wrong.into_iter().min_by_key(|(line, _)| *line).map_or(Ok(entries), Err)
}

/// What is no TOML.
fn syntax(text: &str, error: &toml::de::Error, line_of: &impl Fn(usize) -> usize) -> Wrong {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let said = error.message().replace('\n', ", ");
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let hint = match line.split_once('=') {
        Some((key, value)) if at > start + key.len() => quotes(key.trim(), value.trim()),
        _ => None,
    };
    (line_of(at), shortened(said) + &hint.unwrap_or_default())
}

/// A hint for a value that stands there without quotes.
fn quotes(key: &str, value: &str) -> Option<String> {
    let value = value.split(" #").next().unwrap_or_default().trim();
    let is_bare = |text: &str| !text.is_empty() && !text.contains(['"', '\'', '{', '}']);
    if !is_bare(value) {
        return None;
    }
    let elements = value.strip_prefix('[');
    match elements {
        None if value.len() <= QUOTED_BYTES_MAX && !value.contains(char::is_control) => {
            Some(format!("; text needs quotes: {key} = \"{value}\""))
        }
        _ => Some("; text needs quotes".to_owned()),
    }
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
    value: &Spanned<DeValue<'_>>,
    (serve, definition): (&Command, &Command),
    line_of: &impl Fn(usize) -> usize,
) -> Result<Entry, Wrong> {
    let names = |arg: &&Arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long() == Some(key) || aliases.contains(&key)
    };
    let id_is = |arg: &&Arg, ids: &[&str]| ids.contains(&arg.get_id().as_str());
    let known = serve.get_arguments().find(names);
    let is_table = matches!(value.get_ref(), DeValue::Table(_));
    let Some(arg) = known.filter(|arg| !id_is(arg, &[CONFIG, "help", "version"])) else {
        let wrong = unknown(key, definition);
        let known = wrong.split(';').next().unwrap_or_default();
        let hint = "; there are no tables, keys stand by themselves";
        return Err((line, if is_table { format!("{known}{hint}") } else { wrong }));
    };
    let name = arg.get_long().unwrap_or_default().to_owned();
    if is_table {
        let wrong = format!("{key}: expected a value and no table: {key} = \"..\"");
        return Err((line, format!("{wrong}, with what follows --{name} on the command line")));
    }
    // An element of an array has its own line.
    let value_line = |span: std::ops::Range<usize>| match value.get_ref() {
        DeValue::Array(_) => line_of(span.start),
        _ => line,
    };
    let wrong = |line: usize, text: String| (line, format!("{key}: {text}"));
    for element in elements(value) {
        let line = value_line(element.span());
        for word in words(arg, &name, element.get_ref()).map_err(|text| wrong(line, text))? {
            check_alone(&word, definition).map_err(|text| wrong(line, text))?;
        }
    }
    let words = words(arg, &name, value.get_ref()).map_err(|text| wrong(line, text))?;
    for word in &words {
        check_alone(word, definition).map_err(|text| wrong(line, text))?;
    }
    let (id, letter) = (arg.get_id().to_string(), arg.get_short());
    Ok(Entry { id, key: name, letter, line, words, is_replaced: false })
}

/// The elements of an array.
fn elements<'v, 'd>(value: &'v Spanned<DeValue<'d>>) -> &'v [Spanned<DeValue<'d>>] {
    match value.get_ref() {
        DeValue::Array(elements) if elements.len() <= VALUES_MAX => elements,
        _ => &[],
    }
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
        (DeValue::Boolean(is_on), _) if is_bool => Ok(vec![with(&is_on.to_string())]),
        (_, _) if is_switch || is_bool => Err("expected true or false".into()),
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
        // Whether the flag takes it is the flag's to say.
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
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
