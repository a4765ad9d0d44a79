//! What a link has to know of a protocol: how to ask, and what the head of an answer says.
//!
//! Nothing here may name a protocol.

use super::request::Request;
use crate::base::clock::{Expiry, Now};

/// What came of one request, whatever the protocol calls it.
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
    /// The item's cas is another.
    Exists,
    /// Too large for the server.
    TooLarge,
    /// The server has no memory left that it could take.
    NoMemory,
    /// The item is not a number.
    NonNumeric,
    /// The values that one request asked for are over.
    End,
    /// Any other answer.
    #[default]
    Refused,
}

impl Status {
    /// How many there are.
    pub const COUNT: usize = Status::Refused as usize + 1;
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// What came of the request.
    pub status: Status,
    /// The number of the request, where the answer repeats it.
    pub opaque: Option<u32>,
    /// The item's flags, where they were asked for.
    pub flags: u32,
    /// The item's cas; as the link gives it, it carries the connection's number.
    pub cas: u64,
    /// The item's expiry, where it was asked for.
    pub expiry: Expiry,
    /// Bytes of the value that follows.
    pub value_bytes: usize,
    /// Length of the key in the answer to a lookup of many, in bytes.
    pub key_bytes: usize,
}

/// An answer that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage;

/// Why a server is not what was expected; the rest of a sentence that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

/// A protocol in which each request has exactly one answer.
pub trait Codec {
    /// What servers of this protocol are called.
    const NAME: &'static str;

    /// What follows a value.
    const TRAILER: &'static [u8];

    /// Longest head of an answer, in bytes.
    const HEAD_BYTES_MAX: usize;

    /// Begins one request for the values of many keys, each behind a space. Its answer is the
    /// values that there are, in order, each with its key in its head, and [`Status::End`]. Empty
    /// if the protocol has none.
    const LOOKUP: &'static [u8] = b"";

    /// Ends such a request.
    const LOOKUP_END: &'static [u8] = b"";

    /// Where in the head of such a value its key begins, in bytes.
    const LOOKUP_KEY_START: usize = 0;

    /// Appends a request that every server of this protocol answers, and that tells it from others.
    fn hello(out: &mut Vec<u8>);

    /// Looks at the answer to [`Codec::hello`]. None: it is not whole.
    ///
    /// # Errors
    /// The server is another, or too old.
    fn greeting(bytes: &[u8]) -> Result<Option<()>, Refusal>;

    /// Reads the head of an answer; returns it and its length in bytes. None: it is not whole.
    /// `now` turns times to live into times.
    ///
    /// # Errors
    /// It is no answer.
    fn head(bytes: &[u8], now: Now) -> Result<Option<(Head, usize)>, Garbage>;

    /// Asks to delete the item of `key`, whatever its cas.
    fn delete(request: &mut Request<'_>, key: &[u8]);

    /// Asks to invalidate every item that there is now.
    fn flush_all(request: &mut Request<'_>);
}
