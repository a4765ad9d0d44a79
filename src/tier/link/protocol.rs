//! The parts of a protocol that a link uses: how to write requests, and how to parse the head of an
//! answer.
//!
//! Nothing here may depend on a particular protocol.

use super::request::RequestWriter;
use crate::base::clock::{Expiry, Now};

/// The outcome of one request, in any protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Found; the value follows.
    Value,
    /// Done, found without its value, stored.
    Done,
    /// The key has no item.
    Miss,
    /// Add found an item, or replace, append or prepend found none.
    NotStored,
    /// The item's cas differs.
    Exists,
    /// Too large for the server.
    TooLarge,
    /// The server has no memory left.
    NoMemory,
    /// The item is not a number.
    NonNumeric,
    /// The end of the values of one request.
    End,
    /// The server does not know an argument.
    Unsupported,
    /// Any other answer.
    #[default]
    Refused,
}

impl Status {
    /// Number of statuses.
    pub const COUNT: usize = Status::Refused as usize + 1;
}

/// What an answer says of an item besides numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u8);

impl Marks {
    /// It is out of date.
    pub const STALE: Marks = Marks(1);
    /// A client was told before to fetch it again.
    pub const TOKEN_SENT: Marks = Marks(1 << 1);
    /// Whoever asked is the one to fetch it again.
    pub const WON: Marks = Marks(1 << 2);
    /// It was read before.
    pub const FETCHED: Marks = Marks(1 << 3);

    /// Whether this is said.
    pub fn has(self, mark: Marks) -> bool {
        self.0 & mark.0 != 0
    }

    /// Says it if `is_so`.
    pub fn set(&mut self, mark: Marks, is_so: bool) {
        self.0 |= if is_so { mark.0 } else { 0 };
    }
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The outcome of the request.
    pub status: Status,
    /// The number of the request, if the answer repeats it.
    pub opaque: Option<u32>,
    /// The item's flags, if requested.
    pub flags: u32,
    /// The item's cas; after the link has processed it, it contains the connection's number.
    pub cas: u64,
    /// The item's expiry, if requested.
    pub expiry: Expiry,
    /// Seconds since the item's last use, if requested.
    pub idle_s: u32,
    /// What else is said of the item.
    pub marks: Marks,
    /// Bytes of the value that follows.
    pub value_bytes: usize,
    /// Length of the key in the answer to a lookup of many, in bytes.
    pub key_bytes: usize,
}

/// An invalid answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage;

/// Why a server is not the expected one; the rest of a sentence that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

/// A protocol in which each request has exactly one answer.
pub trait Codec {
    /// The name of servers with this protocol.
    const NAME: &'static str;

    /// The bytes after a value.
    const TRAILER: &'static [u8];

    /// Longest head of an answer, in bytes.
    const HEAD_BYTES_MAX: usize;

    /// The start of a request for the values of many keys, each preceded by a space. Its answer is
    /// the existing values, in order, each with its key in its head, and [`Status::End`]. Empty if
    /// the protocol has no such request.
    const LOOKUP: &'static [u8] = b"";

    /// The end of such a request.
    const LOOKUP_END: &'static [u8] = b"";

    /// Position of the key in the head of such a value, in bytes.
    const LOOKUP_KEY_START: usize = 0;

    /// Appends a request that every server of this protocol answers, and by which it is recognized.
    fn hello(out: &mut Vec<u8>);

    /// Parses the answer to [`Codec::hello`]. None: it is incomplete.
    ///
    /// # Errors
    /// The server is a different one, or too old.
    fn greeting(bytes: &[u8]) -> Result<Option<()>, Refusal>;

    /// Parses the head of an answer; returns it and its length in bytes. None: it is incomplete.
    /// `now` converts times to live to times.
    ///
    /// # Errors
    /// It is not an answer.
    fn head(bytes: &[u8], now: Now) -> Result<Option<(Head, usize)>, Garbage>;

    /// Requests the deletion of the item of `key`, whatever its cas.
    fn delete(request: &mut RequestWriter<'_>, key: &[u8]);

    /// Requests the invalidation of all current items.
    fn flush_all(request: &mut RequestWriter<'_>);
}
