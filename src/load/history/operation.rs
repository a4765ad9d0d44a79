//! Operations and their outcomes, in terms that all protocols share.
//!
//! Never knows a dialect's bytes: those are in [`wire`](crate::load::wire).

use super::names::Names;
use super::record::Seen;
use crate::load::client::Trouble;
use crate::load::wire::answer::{Sent, answer};
use crate::load::wire::{ClientRequest, Dialect, Garbage, Reply, Verb, encode, encode_many};

/// An exptime that is past in both protocols: a moment of 1970. -1 is past in
/// the text protocol, and far ahead in the binary one, where exptimes have no sign.
pub const PAST: i32 = 30 * 24 * 3600 + 1;

/// A command.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Command {
    /// What it is on the wire.
    pub verb: Verb,
    /// With an exptime that is past, so that it deletes: a set, touch, gat or gats.
    pub expires: bool,
}

/// A command that leaves the item's expiry ahead.
pub const fn lasting(verb: Verb) -> Command {
    Command { verb, expires: false }
}

/// A command with an exptime that is past.
pub const fn expiring(verb: Verb) -> Command {
    Command { verb, expires: true }
}

impl Command {
    /// Its name in the text protocol.
    pub fn name(self) -> &'static str {
        self.verb.name()
    }

    /// Whether values come back.
    pub fn is_retrieval(self) -> bool {
        self.verb.is_retrieval()
    }

    /// Whether it puts a base version in place when it succeeds.
    pub fn is_base_write(self) -> bool {
        self.verb.is_store() && !self.is_record_write()
    }

    /// Whether it adds a record to a value when it succeeds.
    pub fn is_record_write(self) -> bool {
        matches!(self.verb, Verb::Append | Verb::Prepend)
    }

    /// What it adds to a number's count.
    pub fn count(self) -> i64 {
        match self.verb {
            Verb::Incr => 1,
            Verb::Decr => -1,
            _ => 0,
        }
    }

    /// Whether nothing is there afterwards when it succeeds.
    pub fn is_delete(self) -> bool {
        self.expires || matches!(self.verb, Verb::Delete | Verb::Flush)
    }
}

/// One operation as it is requested.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What is asked.
    pub command: Command,
    /// Numbers of the keys; none for flush_all, several for a multi-get.
    pub keys: Vec<usize>,
    /// The version it writes; 0 if none.
    pub version: u64,
    /// Client flags of a store.
    pub flags: u32,
    /// As it is sent; [`PAST`] or -1 where the command expires the item.
    pub exptime: i32,
    /// Of a store.
    pub value: Vec<u8>,
    /// For cas: the unique number it was told.
    pub unique: u64,
    /// For cas: the value that had this number, if it is proof that it was this very value.
    pub expected: Option<Seen>,
}

/// Of the server's answer to a value that is too long.
const TOO_LARGE: &str = "the value is too large for the server (its -I, --max-item-size)";

impl Operation {
    /// What it is counted as.
    pub fn label(&self) -> &'static str {
        if self.command == lasting(Verb::Get) && self.keys.len() > 1 {
            return "multi-get";
        }
        self.command.name()
    }

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
    /// Whose item it is.
    pub key: usize,
    /// Client flags.
    pub flags: u32,
    /// The value.
    pub value: &'a [u8],
    /// 0 if it was not requested.
    pub unique: u64,
}

/// What became of an operation.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the text protocol's own words")]
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
    /// An answer that this command does not have, or bytes that are none.
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

impl Operation {
    fn sent(&self, dialect: Dialect) -> Sent {
        let many = if self.keys.len() > 1 { self.keys.len() } else { 0 };
        Sent { dialect, verb: self.command.verb, many, opaque: self.opaque() }
    }

    fn opaque(&self) -> u32 {
        self.version as u32
    }

    /// Adds the request's bytes to `out`.
    pub fn encode(&self, dialect: Dialect, names: &Names, out: &mut Vec<u8>) {
        let verb = self.command.verb;
        if self.keys.len() > 1 {
            let keys = self.keys.iter().map(|&key| names.name(key).as_bytes());
            return encode_many(dialect, verb, keys, out);
        }
        let key = self.keys.first().map_or(&b""[..], |&key| names.name(key).as_bytes());
        let request = ClientRequest {
            verb,
            key,
            value: &self.value,
            flags: self.flags,
            exptime: self.exptime,
            unique: self.unique,
            opaque: self.opaque(),
        };
        encode(dialect, &request, out);
    }

    /// Reads the answer at the start of `input`: what it says, and the bytes it took. None: more
    /// are needed.
    ///
    /// # Errors
    /// It is no answer.
    pub fn parse<'a>(
        &self,
        dialect: Dialect,
        names: &Names,
        input: &'a [u8],
    ) -> Result<Option<(Outcome<'a>, usize)>, Trouble> {
        let mut items = vec![];
        let lost = |garbage: Garbage| Trouble::garbage(garbage.0, input);
        let read = answer(&self.sent(dialect), input, &mut items).map_err(lost)?;
        let Some((reply, bytes)) = read else { return Ok(None) };
        let mut hits = vec![];
        for item in items {
            let key = match item.key {
                b"" => self.keys.first().copied(),
                name => names.number(name),
            };
            let Some(key) = key else {
                return Err(lost(Garbage("an item of a key that was not requested")));
            };
            hits.push(Hit { key, flags: item.flags, value: item.value, unique: item.unique });
        }
        let says = |text: &[u8]| text.escape_ascii().to_string();
        let outcome = match reply {
            Reply::End if self.command.is_retrieval() => Outcome::Values(hits),
            Reply::Stored => Outcome::Stored,
            Reply::NotStored => Outcome::NotStored,
            Reply::Exists => Outcome::Exists,
            Reply::NotFound => Outcome::NotFound,
            Reply::Deleted => Outcome::Deleted,
            Reply::Touched => Outcome::Touched,
            Reply::Number(number) => Outcome::Number(number),
            Reply::Ok => Outcome::Ok,
            Reply::TooLarge => Outcome::Failed(TOO_LARGE.into()),
            Reply::Failed(text) => Outcome::Failed(says(text)),
            Reply::Refused(text) => Outcome::Nonsense(format!("answered '{}'", says(text))),
            reply => Outcome::Nonsense(format!("answered {reply}")),
        };
        Ok(Some((outcome, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_of_a_get_is_no_items_in_every_dialect() {
        let names = Names::numbered(4);
        let get = Operation::on(lasting(Verb::Get), 3);
        for (dialect, bytes) in [(Dialect::Text, &b"END\r\n"[..]), (Dialect::Meta, b"EN\r\n")] {
            let parsed = get.parse(dialect, &names, bytes);
            let Ok(Some((Outcome::Values(hits), _))) = parsed else { panic!("{parsed:?}") };
            assert!(hits.is_empty());
        }
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let names = Names::numbered(4);
        let get = Operation::on(lasting(Verb::Get), 3);
        let parse = |bytes| get.parse(Dialect::Text, &names, bytes);
        assert!(parse(b"VALUE other 5 1\r\na\r\nEND\r\n").is_err());
        assert!(matches!(parse(b"SERVER_ERROR no\r\n"), Ok(Some((Outcome::Failed(_), 17)))));
        assert!(matches!(parse(b"STORED\r\n"), Ok(Some((Outcome::Stored, 8)))));
        let mut out = vec![];
        Operation { keys: vec![1, 2], ..get }.encode(Dialect::Text, &names, &mut out);
        assert_eq!(out, b"get history-1 history-2\r\n");
    }
}
