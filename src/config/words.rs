//! The grammar of a value that has parts: `kind[,key=value..]`, as DPDK writes its devices'
//! arguments. Which keys there are is a table; nothing here knows what they mean.

use super::{Parsed, ValueError, number};

/// A key, and what its value is; none: it has no value.
pub(super) type Key = (&'static str, Option<&'static str>);

/// What stands behind a kind, each key at most once.
#[derive(Debug)]
pub(super) struct Words<'t> {
    kind: &'t str,
    known: &'static [Key],
    pairs: Vec<(&'static str, &'t str)>,
}

/// The kind, and the words behind it.
pub(super) fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once(',').map_or((text, None), |(kind, words)| (kind, Some(words)))
}

/// A key as it is on the command line.
fn shown((name, value): &Key) -> String {
    value.map_or_else(|| (*name).to_owned(), |value| format!("{name}={value}"))
}

impl<'t> Words<'t> {
    /// Reads the words behind `kind`, of which there are those in `known`. An empty kind is not
    /// named.
    ///
    /// # Errors
    /// One that is not known, is there twice, or lacks its value.
    pub fn read(kind: &'t str, words: Option<&'t str>, known: &'static [Key]) -> Parsed<Self> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for word in words.into_iter().flat_map(|words| words.split(',')) {
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let Some(found) = known.iter().find(|(known, _)| *known == name) else {
                return Err(ValueError::new(word, expected(kind, known)));
            };
            if value.is_some() != found.1.is_some() {
                return Err(ValueError::new(word, shown(found)));
            }
            if pairs.iter().any(|(name, _)| *name == found.0) {
                return Err(ValueError::new(word, format!("{name} only once")));
            }
            pairs.push((found.0, value.unwrap_or("")));
        }
        Ok(Words { kind, known, pairs })
    }

    /// Whether a key is there.
    pub fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(name, _)| *name == key)
    }

    /// The value of a key as `parse` reads it, or the default.
    ///
    /// # Errors
    /// Those of `parse`, which then name the key, too.
    pub fn get<T>(&self, key: &str, default: T, parse: impl Fn(&str) -> Parsed<T>) -> Parsed<T> {
        let Some((_, value)) = self.pairs.iter().find(|(name, _)| *name == key) else {
            return Ok(default);
        };
        let named = |error: ValueError| ValueError::new(&format!("{key}={value}"), error.expected);
        parse(value).map_err(named)
    }

    /// The value of a key that has to be there, and not empty.
    ///
    /// # Errors
    /// It is not, and as [`Words::get`].
    pub fn need<T>(&self, key: &str, parse: impl Fn(&str) -> Parsed<T>) -> Parsed<T> {
        let value = self.get(key, None, |value| match value {
            "" => Ok(None),
            value => parse(value).map(Some),
        })?;
        let word = || self.known.iter().find(|(name, _)| *name == key).map(shown);
        let missing =
            || ValueError::new(self.kind, format!("{} behind it", word().unwrap_or_default()));
        value.ok_or_else(missing)
    }
}

/// What may stand behind a kind.
fn expected(kind: &str, known: &[Key]) -> String {
    let all: Vec<String> = known.iter().map(shown).collect();
    let behind = if kind.is_empty() { String::new() } else { format!(" behind {kind}") };
    match &all[..] {
        [] => format!("nothing{behind}"),
        [one] => format!("{one}{behind}"),
        [more @ .., last] => format!("{} or {last}{behind}", more.join(", ")),
    }
}

/// Milliseconds, from 1 to `max`.
pub(super) fn milliseconds(text: &str, max: u64) -> Parsed<u64> {
    let wrong = |_| ValueError::new(text, format!("milliseconds, from 1 to {max}"));
    number(text, 1, max).map_err(wrong)
}

/// One of a few words, each with what it means.
pub(super) fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Parsed<T> {
    let found = choices.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
    let words = || choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or ");
    found.ok_or_else(|| ValueError::new(text, words()))
}
