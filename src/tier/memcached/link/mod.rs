//! A worker's pipelined connection to a server of items on this host.
//!
//! Requests of all clients go out in one stream, and their answers come back in the same order,
//! exactly one each. A link must never give an answer to a request that it does not answer, nor let
//! a request that failed be executed after one that was asked for later and acknowledged. Hence:
//!
//! - Each request carries a number which its answer repeats, or asks for values by keys which
//!   their answers repeat. An answer with another number or key, or one that cannot be read, ends
//!   the connection; all that is outstanding fails.
//! - A server that does not answer in time is *suspended*: all that is outstanding fails at once,
//!   and so does what is asked for until every late answer has arrived. Their order then proves
//!   that the late requests were executed before any newer one. Another connection would not prove
//!   that: the old requests would still lie in the frozen server's socket.
//! - A server that is suspended for too long has lost an answer, or somebody between has. Its
//!   connection is ended: shut for output and read to its end before there is another, for the same
//!   reason. What happens where that end does not come either is in `inner/loss.rs`.
//! - [`Link::invalidate`] remembers keys that could not be deleted, and the link serves again only
//!   when that was made good.
//! - cas numbers of different connections differ, since a server that starts again counts from 1
//!   again: see [`Batch::cas`].
//!
//! ```no_run
//! # use sunder::tier::memcached::{link::{Collector, Down, Link}, meta::{self, Meta}};
//! # async fn read(link: &Link<Meta>, key: &[u8]) -> Result<(), Down> {
//! let mut batch = link.begin(Collector::one())?;
//! batch.request(meta::room(key, 0), |request| meta::get(request, key, meta::Get::Value)).await?;
//! let (head, value) = batch.wait().await?.into_one().into_parts();
//! # Ok(()) }
//! ```

mod batch;
mod collect;
mod inner;
mod keys;
mod open;
mod remembered;
mod slots;
mod stream;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

pub use batch::{Batch, Request};
pub use collect::Collector;
pub use open::OpenError;
pub use stream::Address;

use crate::buffer::Key;
use crate::clock::{Expiry, Now};
use crate::limits::{LINK_BATCHES_MAX, LINK_TIMEOUT_US};
use crate::readiness::Readiness;
use crate::stats::WorkerStats;
use inner::Inner;

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

/// What a link's server is to those who are served, for the lines that tell of its outages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The only tier.
    #[default]
    Only,
    /// The first of two.
    L1,
    /// The second of two.
    L2,
}

impl Role {
    /// What becomes of operations while it is away.
    fn meanwhile(self) -> &'static str {
        match self {
            Role::Only => "all operations fail (SERVER_ERROR backend failure)",
            Role::L1 => "L2 serves all keys",
            Role::L2 => "what L1 has is served, all else fails (SERVER_ERROR backend failure)",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Only | Role::L1 => "L1",
            Role::L2 => "L2",
        })
    }
}

/// What a link is made with.
#[derive(Debug)]
pub struct Config {
    /// What the server is to those who are served.
    pub role: Role,
    /// Where the server listens.
    pub address: Address,
    /// How long a request may take, in microseconds; [`LINK_TIMEOUT_US`] unless there is a reason.
    pub timeout_us: u64,
    /// Wakes the worker when the server answers.
    pub readiness: Readiness,
    /// Where losses are counted.
    pub stats: Arc<WorkerStats>,
}

impl Config {
    /// A link to `address` with the usual patience, of a worker that does not sleep.
    pub fn new(address: Address, stats: Arc<WorkerStats>) -> Config {
        let readiness = Readiness::none();
        let role = Role::default();
        Config { role, address, timeout_us: LINK_TIMEOUT_US, readiness, stats }
    }
}

/// The server is out of reach, or did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down;

/// A connection that is made again when it is lost.
pub struct Link<C> {
    inner: RefCell<Inner<C>>,
}

impl<C> fmt::Debug for Link<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inner.try_borrow() {
            Ok(inner) => inner.fmt(f),
            Err(_) => f.write_str("Link"),
        }
    }
}

impl<C: Codec> Link<C> {
    /// Connects and greets; waits for that, up to a second or two. `now` is the turn that comes.
    ///
    /// # Errors
    /// Nobody listens there, or somebody else.
    pub fn open(config: Config, now: Now) -> Result<Link<C>, OpenError> {
        let stream = open::open::<C>(&config)?;
        Ok(Link { inner: RefCell::new(Inner::new(config, stream, now)) })
    }

    /// Whether requests are served now.
    pub fn is_up(&self) -> bool {
        self.inner.borrow().is_serving()
    }

    /// Begins requests whose answers go to `collector`.
    ///
    /// # Errors
    /// The server is out of reach.
    #[inline]
    pub fn begin(&self, collector: Collector) -> Result<Batch<'_, C>, Down> {
        let mut inner = self.inner.borrow_mut();
        if !inner.is_serving() || inner.slots.len() >= LINK_BATCHES_MAX {
            inner.count_failure();
            return Err(Down);
        }
        let slot = inner.slots.take(collector);
        Ok(Batch::new(self, slot))
    }

    /// Sees to it that the item which `key` has now is never served again: deletes it, or remembers
    /// to before anything else is asked for. Returns when that is certain.
    pub async fn invalidate(&self, key: &Key) {
        let collector = {
            let mut inner = self.inner.borrow_mut();
            if !inner.is_serving() {
                inner.remember(key.clone());
                return;
            }
            Collector::Invalidation(inner.boxed_key(key))
        };
        // Whatever keeps the answer from coming makes the link remember the key by itself.
        let Ok(mut batch) = self.begin(collector) else {
            self.inner.borrow_mut().remember(key.clone());
            return;
        };
        let bytes = key.as_bytes();
        let asked = batch.request(2 * bytes.len() + 64, |request| C::delete(request, bytes)).await;
        if asked.is_ok()
            && let Ok(Collector::Invalidation(key)) = batch.wait().await
        {
            self.inner.borrow_mut().unbox_key(key);
        }
    }

    /// Reads what came, wakes who waited for it, and connects again if that is due. Returns how
    /// many answers came.
    pub fn turn(&self, now: Now) -> usize {
        self.inner.borrow_mut().turn(now)
    }

    /// Sends what was asked for.
    pub fn flush(&self, now: Now) {
        self.inner.borrow_mut().flush(now);
    }

    /// By when [`Link::turn`] is to be called even if nothing arrives, as an uptime in
    /// microseconds.
    pub fn wake_at_us(&self) -> u64 {
        self.inner.borrow().wake_at_us()
    }
}
