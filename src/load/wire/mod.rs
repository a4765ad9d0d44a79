//! The client's side of the protocols, without any input or output.
//!
//! [`encode`] puts a request into bytes, [`decode`] says what the start of a server's bytes is.
//! Both keep no state: a reply may be cut anywhere and shown again longer, and which request it
//! answers is for the caller to know, who has their order and, in binary and meta, the opaque
//! number that the server sends back.
//!
//! Never panics whatever the server sends, never allocates for what it announces, never copies a
//! value.

pub mod answer;
pub mod binary;
pub mod meta;
pub mod text;

use clap::ValueEnum;
use memchr::memchr;
use std::fmt;

/// How a connection speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, ValueEnum)]
pub enum Dialect {
    /// The classic text protocol.
    Text,
    /// The binary protocol.
    Binary,
    /// The meta commands (mg, ms, md, ma), of memcached 1.6 and later.
    Meta,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Verb {
    /// The item.
    Get,
    /// The item with its unique number.
    Gets,
    /// The item, which gets a new expiry.
    Gat,
    /// The same with its unique number.
    Gats,
    /// Store.
    Set,
    /// Store if nothing is there.
    Add,
    /// Store if something is there.
    Replace,
    /// Add the value behind the one that is there.
    Append,
    /// Add the value before the one that is there.
    Prepend,
    /// Store if the item still has this unique number.
    Cas,
    /// Count one up; makes no item.
    Incr,
    /// Count one down; makes no item.
    Decr,
    /// Delete.
    Delete,
    /// Give a new expiry.
    Touch,
    /// Invalidate everything. Has no key.
    Flush,
}

impl Verb {
    /// Its name in the text protocol.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::Gets => "gets",
            Verb::Gat => "gat",
            Verb::Gats => "gats",
            Verb::Set => "set",
            Verb::Add => "add",
            Verb::Replace => "replace",
            Verb::Append => "append",
            Verb::Prepend => "prepend",
            Verb::Cas => "cas",
            Verb::Incr => "incr",
            Verb::Decr => "decr",
            Verb::Delete => "delete",
            Verb::Touch => "touch",
            Verb::Flush => "flush_all",
        }
    }

    /// Whether an item comes back.
    pub fn is_retrieval(self) -> bool {
        matches!(self, Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats)
    }

    /// Whether a value goes with it.
    pub fn is_store(self) -> bool {
        use Verb::{Add, Append, Cas, Prepend, Replace, Set};
        matches!(self, Set | Add | Replace | Append | Prepend | Cas)
    }
}

/// One request on one key.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// What it asks for.
    pub verb: Verb,
    /// 1 to 250 bytes without spaces and control characters; empty for [`Verb::Flush`].
    pub key: &'a [u8],
    /// Of a store.
    pub value: &'a [u8],
    /// Client flags of a store.
    pub flags: u32,
    /// As the protocols define it: 0 is never, up to 30 days in seconds from now, Unix time beyond.
    /// Below 0 is past in text and meta; the binary protocol has no sign.
    pub exptime: i32,
    /// Of a [`Verb::Cas`]: the unique number that a gets told.
    pub unique: u64,
    /// Comes back with the reply, in binary and meta.
    pub opaque: u32,
}

impl<'a> ClientRequest<'a> {
    /// A request without a value.
    pub fn new(verb: Verb, key: &'a [u8]) -> ClientRequest<'a> {
        ClientRequest { verb, key, value: b"", flags: 0, exptime: 0, unique: 0, opaque: 0 }
    }

    /// A store.
    pub fn store(verb: Verb, key: &'a [u8], flags: u32, value: &'a [u8]) -> ClientRequest<'a> {
        ClientRequest { flags, value, ..ClientRequest::new(verb, key) }
    }
}

/// An item as a retrieval gives it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Item<'a> {
    /// Empty where the protocol does not repeat it: binary, but for [`encode_many`].
    pub key: &'a [u8],
    /// Client flags.
    pub flags: u32,
    /// The value.
    pub value: &'a [u8],
    /// 0 where it was not requested (the binary protocol always tells it).
    pub unique: u64,
}

/// One reply, or one item of several.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    /// An item. In text an [`Reply::End`] follows behind the last one; a meta `ma` answers its
    /// number as an item's value.
    Item(Item<'a>),
    /// The end of a text retrieval's items, or of an [`encode_many`].
    End,
    /// No item, of a retrieval in binary or meta.
    Miss,
    /// STORED.
    Stored,
    /// NOT_STORED.
    NotStored,
    /// EXISTS: another unique number, or an add of what is there in binary.
    Exists,
    /// NOT_FOUND, of anything but a retrieval.
    NotFound,
    /// DELETED.
    Deleted,
    /// TOUCHED.
    Touched,
    /// OK, of flush_all.
    Ok,
    /// Meta's `HD`: the request was executed.
    Done,
    /// The number that was counted to.
    Number(u64),
    /// The server does not take values of this length.
    TooLarge,
    /// The server says that it failed (`SERVER_ERROR`); the words.
    Failed(&'a [u8]),
    /// The server says that the request was wrong (`ERROR`, `CLIENT_ERROR`); the words.
    Refused(&'a [u8]),
}

/// Most bytes of a server's words that are shown.
const SHOWN_BYTES_MAX: usize = 80;

/// In a line of bounded length, whatever the server said.
impl fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |bytes: &[u8]| bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string();
        match self {
            Reply::Item(item) => {
                write!(f, "with {} bytes of key '{}'", item.value.len(), shown(item.key))
            }
            Reply::Failed(words) | Reply::Refused(words) => write!(f, "'{}'", shown(words)),
            reply => write!(f, "{reply:?}"),
        }
    }
}

/// What the start of a server's bytes is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step<'a> {
    /// Not yet a complete reply. At least this many more bytes are needed; above 0.
    NeedMore(usize),
    /// A reply.
    Reply {
        /// What it says.
        reply: Reply<'a>,
        /// What the request had; none in text.
        opaque: Option<u32>,
        /// The bytes it took; above 0.
        consumed: usize,
    },
    /// No reply. Where the next one begins is not known.
    Garbage(Garbage),
}

/// Why bytes are no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Garbage(pub &'static str);

impl std::fmt::Display for Garbage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Longest line that a reply may have, in bytes: a key and five numbers fit many times.
pub const LINE_BYTES_MAX: usize = 2048;

/// Longest value that a reply may have, in bytes: memcached's own greatest limit.
pub const VALUE_BYTES_MAX: usize = 1 << 30;

/// Adds the request's bytes to `out`.
#[inline]
pub fn encode(dialect: Dialect, request: &ClientRequest<'_>, out: &mut Vec<u8>) {
    match dialect {
        Dialect::Text => text::encode(request, out),
        Dialect::Binary => binary::encode(request, out),
        Dialect::Meta => meta::encode(request, out),
    }
}

/// Adds one request for several items to `out`, a [`Verb::Get`] or [`Verb::Gets`] of all `keys`.
/// The replies are an [`Reply::Item`] for each key that is there, with its key, in order, and then
/// [`Reply::End`]. In binary and meta an item's opaque is its key's place in `keys`.
#[inline]
pub fn encode_many<'a>(
    dialect: Dialect,
    verb: Verb,
    keys: impl IntoIterator<Item = &'a [u8]>,
    out: &mut Vec<u8>,
) {
    match dialect {
        Dialect::Text => text::encode_many(verb, keys, out),
        Dialect::Binary => binary::encode_many(keys, out),
        Dialect::Meta => meta::encode_many(verb, keys, out),
    }
}

/// Reads the reply at the start of `input`.
#[inline]
pub fn decode(dialect: Dialect, input: &[u8]) -> Step<'_> {
    let step = match dialect {
        Dialect::Text => text::decode(input),
        Dialect::Binary => binary::decode(input),
        Dialect::Meta => meta::decode(input),
    };
    step.unwrap_or_else(Step::Garbage)
}

type Decoded<'a> = Result<Step<'a>, Garbage>;

/// The line at the start of `input` without its end. Its bytes with the end are two more.
#[inline]
fn line(input: &[u8]) -> Result<Option<&[u8]>, Garbage> {
    let input = &input[..input.len().min(LINE_BYTES_MAX)];
    match memchr(b'\n', input) {
        Some(end) => match input[..end].strip_suffix(b"\r") {
            Some(line) => Ok(Some(line)),
            None => Err(Garbage("a line without its carriage return")),
        },
        None if input.len() == LINE_BYTES_MAX => Err(Garbage("a line without an end")),
        None => Ok(None),
    }
}

/// The number that begins `bytes`, and the rest.
#[inline]
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    let mut digits = 0;
    while let Some(digit) = bytes.get(digits).map(|byte| byte.wrapping_sub(b'0'))
        && digit < 10
    {
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
        digits += 1;
    }
    (digits > 0).then(|| (number, &bytes[digits..]))
}

/// The value of `bytes` bytes behind a head of `head_bytes`, which ends with `\r\n`; or how many
/// bytes are missing.
#[inline]
fn value(input: &[u8], head_bytes: usize, bytes: u64) -> Result<Result<&[u8], usize>, Garbage> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes > VALUE_BYTES_MAX {
        return Err(Garbage("a value longer than any"));
    }
    let end = head_bytes + bytes + 2;
    let Some(rest) = input.get(head_bytes..end) else { return Ok(Err(end - input.len())) };
    match rest.strip_suffix(b"\r\n") {
        Some(value) => Ok(Ok(value)),
        None => Err(Garbage("a value without its line end")),
    }
}

/// What a line of the text protocols says that is the same in both.
fn word(line: &[u8]) -> Result<Reply<'_>, Garbage> {
    if line.starts_with(b"SERVER_ERROR object too large") {
        return Ok(Reply::TooLarge);
    }
    match line {
        b"OK" => Ok(Reply::Ok),
        b"ERROR" => Ok(Reply::Refused(line)),
        _ if line.starts_with(b"SERVER_ERROR") => Ok(Reply::Failed(line)),
        _ if line.starts_with(b"CLIENT_ERROR") || line.starts_with(b"ERROR ") => {
            Ok(Reply::Refused(line))
        }
        _ => Err(Garbage("a line that is no reply")),
    }
}

#[inline]
fn put_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests;
