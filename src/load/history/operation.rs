//! What a connection asks and what it is told, in the words that both protocols share.
//!
//! Never knows a protocol's bytes: those are in `text` and `binary`.

use super::value::{KEYS_MAX, Seen};

/// Most keys of one multi-get.
pub const GET_KEYS_MAX: usize = 5;

/// An exptime that is past in both protocols: a moment of 1970. -1 is past in
/// the text protocol, and far ahead in the binary one, where exptimes have no sign.
pub const PAST: i32 = 30 * 24 * 3600 + 1;

/// A command. `expires`: with an exptime that is past, so that it deletes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Command {
    Get,
    Gets,
    Gat { expires: bool },
    Gats { expires: bool },
    Set { expires: bool },
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
    Incr,
    Decr,
    Delete,
    Touch { expires: bool },
    Flush,
}

impl Command {
    /// Its name in the text protocol.
    pub fn name(self) -> &'static str {
        match self {
            Command::Get => "get",
            Command::Gets => "gets",
            Command::Gat { .. } => "gat",
            Command::Gats { .. } => "gats",
            Command::Set { .. } => "set",
            Command::Add => "add",
            Command::Replace => "replace",
            Command::Append => "append",
            Command::Prepend => "prepend",
            Command::Cas => "cas",
            Command::Incr => "incr",
            Command::Decr => "decr",
            Command::Delete => "delete",
            Command::Touch { .. } => "touch",
            Command::Flush => "flush_all",
        }
    }

    /// Whether values come back.
    pub fn is_retrieval(self) -> bool {
        use Command::{Gat, Gats, Get, Gets};
        matches!(self, Get | Gets | Gat { .. } | Gats { .. })
    }

    /// Whether it puts a base version in place when it succeeds.
    pub fn is_base_write(self) -> bool {
        matches!(self, Command::Set { .. } | Command::Add | Command::Replace | Command::Cas)
    }

    /// Whether it adds a record to a value when it succeeds.
    pub fn is_record_write(self) -> bool {
        matches!(self, Command::Append | Command::Prepend)
    }

    /// What it adds to a number's count.
    pub fn count(self) -> i64 {
        match self {
            Command::Incr => 1,
            Command::Decr => -1,
            _ => 0,
        }
    }

    /// Whether nothing is there afterwards when it succeeds.
    pub fn is_delete(self) -> bool {
        match self {
            Command::Delete | Command::Flush => true,
            Command::Gat { expires }
            | Command::Gats { expires }
            | Command::Set { expires }
            | Command::Touch { expires } => expires,
            _ => false,
        }
    }
}

/// One operation as it is asked for.
#[derive(Clone, Debug)]
pub struct Operation {
    pub command: Command,
    /// Numbers of the keys; none for flush_all, several for a multi-get.
    pub keys: Vec<usize>,
    /// The version it writes; 0 if none.
    pub version: u64,
    pub flags: u32,
    /// As it is sent; [`PAST`] or -1 where the command expires the item.
    pub exptime: i32,
    pub value: Vec<u8>,
    /// For cas: the unique number it was told.
    pub unique: u64,
    /// For cas: the value that had this number, if it is proof that it was this very value.
    pub expected: Option<Seen>,
}

impl Operation {
    /// An operation on one key without a value.
    pub fn on(command: Command, key: usize) -> Operation {
        let exptime = if command.is_delete() { PAST } else { 0 };
        Operation {
            command,
            keys: vec![key],
            version: 0,
            flags: 0,
            exptime,
            value: vec![],
            unique: 0,
            expected: None,
        }
    }
}

/// One item of a retrieval's answer.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a> {
    pub key: usize,
    pub flags: u32,
    pub value: &'a [u8],
    /// 0 if it was not asked for.
    pub unique: u64,
}

/// What became of an operation.
#[derive(Clone, Debug)]
pub enum Outcome<'a> {
    Values(Vec<Hit<'a>>),
    Stored,
    NotStored,
    Exists,
    NotFound,
    Deleted,
    Touched,
    Number(u64),
    Ok,
    /// The server said that it failed.
    Failed(String),
    /// The connection ended before the answer.
    Closed,
    /// No answer in time. The client closed the connection.
    TimedOut,
    /// An answer that this command does not have.
    Nonsense(String),
}

impl Outcome<'_> {
    /// Whether it says nothing of what became of the operation.
    pub fn is_error(&self) -> bool {
        use Outcome::{Closed, Failed, Nonsense, TimedOut};
        matches!(self, Failed(_) | Closed | TimedOut | Nonsense(_))
    }

    /// One or two words for a history.
    pub fn summary(&self) -> &'static str {
        match self {
            Outcome::Values(hits) if hits.is_empty() => "miss",
            Outcome::Values(_) => "hit",
            Outcome::Stored => "STORED",
            Outcome::NotStored => "NOT_STORED",
            Outcome::Exists => "EXISTS",
            Outcome::NotFound => "NOT_FOUND",
            Outcome::Deleted => "DELETED",
            Outcome::Touched => "TOUCHED",
            Outcome::Number(_) => "number",
            Outcome::Ok => "OK",
            Outcome::Failed(_) => "failed",
            Outcome::Closed => "connection ended",
            Outcome::TimedOut => "no answer in time",
            Outcome::Nonsense(_) => "nonsense",
        }
    }
}

/// The name of a key on the wire.
pub fn key_name(key: usize) -> String {
    format!("history-{key}")
}

/// The number of the key with this name.
pub fn key_number(name: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(name.strip_prefix(b"history-")?).ok()?;
    let number = digits.parse().ok().filter(|&number| number < KEYS_MAX)?;
    (key_name(number).as_bytes() == name).then_some(number)
}
