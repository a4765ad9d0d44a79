//! Places that keep items.
//!
//! A tier answers for the keys of one worker only and is asked for one key by one operation at a
//! time (the owner's task queue sees to that), so it needs no locks. It must never block: what it
//! waits for, it awaits.

pub mod link;
pub mod memcached;
pub mod memory;
pub mod remote;
pub mod rend;
pub mod ssd;

use crate::base::buffer::{self, Body, Chain, Gather, Key};
use crate::base::clock::{Clock, Expiry, Now};
use crate::base::limits::SHARED_BYTES_MAX;

/// Takes bytes where they lie, piece by piece, and says how many it took.
pub type Take<'t> = dyn for<'p> FnMut(&mut dyn Iterator<Item = &'p [u8]>) -> usize + 't;

/// The bytes of a hit, held until its reply has left.
pub trait Value {
    /// Whether the bytes were gathered from elsewhere into memory of their own, rather than held
    /// where they are kept: such hits cost memory for as long as they wait.
    const IS_GATHERED: bool = false;

    /// Length in bytes.
    fn len(&self) -> usize;

    /// Whether the value has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from `offset` on into `out`, as many as fit or are left; returns how many.
    /// Called with offsets that never go back. Fewer, down to none, where they have to be fetched
    /// from elsewhere first.
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize;

    /// Shows `take` the bytes from `offset` on where they lie, piece by piece, and returns what it
    /// returns; 0, without calling it, if that is not possible.
    fn show(&self, _offset: usize, _take: &mut Take<'_>) -> usize {
        0
    }

    /// The same bytes as a chain, if that is what holds them: for who stores them elsewhere too.
    fn as_chain(&self) -> Option<&Chain> {
        None
    }

    /// The same bytes once more, for another who asked for them, if that costs little.
    fn share(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }
}

impl Value for Chain {
    const IS_GATHERED: bool = true;

    fn len(&self) -> usize {
        Chain::len(self)
    }

    fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        Chain::copy_to(self, offset, out)
    }

    fn show(&self, offset: usize, take: &mut Take<'_>) -> usize {
        let mut skip = offset;
        take(&mut self.pieces().filter_map(|piece| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            piece.get(skipped..).filter(|rest| !rest.is_empty())
        }))
    }

    fn as_chain(&self) -> Option<&Chain> {
        Some(self)
    }

    fn share(&self) -> Option<Chain> {
        let is_short = self.len() <= SHARED_BYTES_MAX && buffer::may_gather(self.len());
        is_short.then(|| {
            let mut copy = Gather::new();
            self.pieces().for_each(|piece| copy.extend(piece));
            copy.finish()
        })
    }
}

/// An item that was found.
#[derive(Debug)]
pub struct Hit<V> {
    /// The client's flags.
    pub flags: u32,
    /// When it expires.
    pub expiry: Expiry,
    /// Its unique number, below 2^62; changes with every change of the item.
    pub cas: u64,
    /// Its bytes.
    pub value: V,
}

/// What came of an operation. Miss, not stored, throttled and failed are different answers.
#[derive(Debug)]
pub enum Outcome<V> {
    /// Get, get-and-touch: found.
    Hit(Hit<V>),
    /// The key has no item. Also the answer of cas, replace-by-cas, delete, touch and arithmetic.
    Miss,
    /// Stored, under this cas.
    Stored {
        /// The item's cas.
        cas: u64,
    },
    /// Add found an item, or replace, append or prepend found none.
    NotStored,
    /// The item's cas is not the one asked for.
    Exists,
    /// Deleted.
    Deleted,
    /// Touched.
    Touched {
        /// The item's cas.
        cas: u64,
    },
    /// Incr, decr: done.
    Number {
        /// The new number.
        value: u64,
        /// The item's cas.
        cas: u64,
    },
    /// Incr, decr: the item is not a decimal number of up to 20 digits.
    NonNumeric,
    /// The item would be larger than the limit. What the key had before is gone if it was a set.
    TooLarge,
    /// No room, and nothing can be evicted. What the key had before is gone if it was a set.
    OutOfMemory,
    /// Every item was invalidated, or will be.
    Flushed,
    /// The tier has more to do than it can take; try later.
    Throttled,
    /// The tier is lost or broken.
    Failed,
}

impl<V: Value> Outcome<V> {
    /// What a get came to, for another get of the same key. None: that one has to ask by itself.
    pub fn share(&self) -> Option<Outcome<V>> {
        match self {
            Outcome::Miss => Some(Outcome::Miss),
            &Outcome::Hit(Hit { flags, expiry, cas, ref value }) => {
                let value = value.share()?;
                Some(Outcome::Hit(Hit { flags, expiry, cas, value }))
            }
            _ => None,
        }
    }
}

impl<V> Outcome<V> {
    /// The same outcome with another holder of the value's bytes.
    pub fn map_value<W>(self, f: impl FnOnce(V) -> W) -> Outcome<W> {
        match self {
            Outcome::Hit(hit) => Outcome::Hit(Hit {
                flags: hit.flags,
                expiry: hit.expiry,
                cas: hit.cas,
                value: f(hit.value),
            }),
            Outcome::Miss => Outcome::Miss,
            Outcome::Stored { cas } => Outcome::Stored { cas },
            Outcome::NotStored => Outcome::NotStored,
            Outcome::Exists => Outcome::Exists,
            Outcome::Deleted => Outcome::Deleted,
            Outcome::Touched { cas } => Outcome::Touched { cas },
            Outcome::Number { value, cas } => Outcome::Number { value, cas },
            Outcome::NonNumeric => Outcome::NonNumeric,
            Outcome::TooLarge => Outcome::TooLarge,
            Outcome::OutOfMemory => Outcome::OutOfMemory,
            Outcome::Flushed => Outcome::Flushed,
            Outcome::Throttled => Outcome::Throttled,
            Outcome::Failed => Outcome::Failed,
        }
    }
}

/// Under which condition a value is stored, and where to the item's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreMode {
    /// Whatever was there.
    Set,
    /// Only if the key has no item.
    Add,
    /// Only if the key has an item.
    Replace,
    /// Behind the bytes of the item, which keeps its flags and expiry.
    Append,
    /// Before the bytes of the item, which keeps its flags and expiry.
    Prepend,
}

/// How a value is to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// Under which condition, and where to the item's bytes.
    pub mode: StoreMode,
    /// The client's flags; opaque.
    pub flags: u32,
    /// When it expires.
    pub expiry: Expiry,
    /// Only if the item has this cas now; 0 = whatever it has. With [`StoreMode::Set`] and no item
    /// the answer is [`Outcome::Miss`].
    pub cas: u64,
}

/// Names an item that a tier has made room for and nobody finds yet: its value is received into
/// that room, and then it is stored or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draft(pub(in crate::tier) u32);

/// An incr or decr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    /// Subtract, stopping at 0, instead of adding modulo 2^64.
    pub decrement: bool,
    /// How much.
    pub delta: u64,
    /// What a key without item is set to, and its expiry (binary protocol); else the answer is a
    /// miss.
    pub initial: Option<(u64, Expiry)>,
    /// Only if the item has this cas now; 0 = whatever it has.
    pub cas: u64,
}

/// What to do with a key's item.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Get.
    Get,
    /// Get, with the expiry in the answer (Rend's GETE).
    GetWithExpiry,
    /// Get, and give the item a new expiry.
    GetAndTouch {
        /// The new one.
        expiry: Expiry,
    },
    /// Store the value that comes with it.
    Store(Store),
    /// A set whose value is over the limit: memcached removes what was there.
    StoreTooLarge,
    /// Delete the item.
    Delete {
        /// Only if the item has this cas now; 0 = whatever it has.
        cas: u64,
    },
    /// Give the item a new expiry.
    Touch {
        /// The new one.
        expiry: Expiry,
    },
    /// Count up or down.
    Arithmetic(Arithmetic),
    /// Invalidate every item stored before a moment.
    FlushAll {
        /// That moment; never = now.
        at: Expiry,
    },
}

/// A place that keeps the items of one worker. Semantics are memcached's (protocol.txt).
#[allow(async_fn_in_trait, reason = "a worker's futures stay on their thread by design")]
pub trait Tier {
    /// What holds the bytes of a hit.
    type Value: Value;

    /// Does `action` if that takes no waiting, without copying anything that is not kept. None:
    /// nothing was done, and one of the functions below has to be called.
    fn try_now(
        &self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Option<Outcome<Self::Value>>;

    /// Shows `read` what a get of `key` finds, where it lies, or None for a miss, if that takes no
    /// waiting and is in one piece. Returns whether `read` took it, as it says; if not, there was
    /// no get, and another function has to be called. `read` must not ask this tier anything.
    fn read_now(
        &self,
        _key: &[u8],
        _now: Now,
        _read: impl FnOnce(Option<Hit<&[u8]>>) -> bool,
    ) -> bool {
        false
    }

    /// Makes room for a value of `value_bytes` that is to be stored as `store` says, so that it is
    /// received where it will stay. None: it has to come as a chain. A tier that ever makes one
    /// answers every operation at once.
    fn draft(&self, _key: &[u8], _store: Store, _value_bytes: usize, _now: Now) -> Option<Draft> {
        None
    }

    /// Shows `fill` a piece of a draft's room from byte `offset` of its value on, which is before
    /// its end; returns what it returns.
    fn fill_draft(
        &self,
        _draft: Draft,
        _offset: usize,
        _fill: &mut dyn FnMut(&mut [u8]) -> usize,
    ) -> usize {
        unreachable!("there are no drafts")
    }

    /// Stores a draft whose value is all there: as [`Tier::store`] of the same bytes would.
    fn store_draft(
        &self,
        _key: &[u8],
        _draft: Draft,
        _store: Store,
        _now: Now,
    ) -> Outcome<Self::Value> {
        unreachable!("there are no drafts")
    }

    /// Gives a draft's room back.
    fn drop_draft(&self, _draft: Draft) {
        unreachable!("there are no drafts")
    }

    /// Hit or miss.
    async fn get(&self, key: &Key, now: Now) -> Outcome<Self::Value>;

    /// As [`Tier::get`], with the expiry in the answer, which a get may leave out where it costs.
    async fn get_with_expiry(&self, key: &Key, now: Now) -> Outcome<Self::Value> {
        self.get(key, now).await
    }

    /// As [`Tier::get`], and the item gets a new expiry.
    async fn get_and_touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Self::Value>;

    /// Stored, not stored, exists, miss, too large, out of memory.
    async fn store(&self, key: &Key, store: Store, value: &Chain, now: Now)
    -> Outcome<Self::Value>;

    /// Deleted, miss; exists if `cas` is neither 0 nor the item's.
    async fn delete(&self, key: &Key, cas: u64, now: Now) -> Outcome<Self::Value>;

    /// Touched or miss.
    async fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Self::Value>;

    /// Number, miss, non-numeric, exists, out of memory. The new number is stored as memcached
    /// stores it: in place and padded with spaces if it is shorter than what was there, the item's
    /// expiry and flags kept.
    async fn arithmetic(&self, key: &Key, arithmetic: Arithmetic, now: Now)
    -> Outcome<Self::Value>;

    /// Invalidates every item stored before `at` (at once if that is [`Expiry::NEVER`] or past).
    async fn flush_all(&self, at: Expiry, now: Now) -> Outcome<Self::Value>;

    /// Sees to it that no item which the key has now is ever served again: deletes it, or remembers
    /// to before anything else is asked of a place that is out of reach now.
    async fn invalidate(&self, key: &Key, now: Now);

    /// Whether so much is kept that [`Tier::prefetch`] is worth the while.
    fn is_far(&self) -> bool {
        false
    }

    /// A hint: `key` will be asked for in a moment. See `net::Handler::foresee`.
    fn prefetch(&self, _key: &[u8]) -> u32 {
        0
    }

    /// See `net::Handler::foresee_more`.
    fn prefetch_more(&self, _foreseen: u32) {}

    /// A bounded piece of the tier's own work, at the start of a turn: looking for completions, or
    /// giving expired items' memory back. Returns how many completions there were.
    fn turn(&self, now: Now) -> usize;

    /// Hands on what the turn's operations left behind, at its end: requests to a link go out
    /// together.
    fn flush(&self, now: Now);

    /// By when [`Tier::turn`] is to be called again even if nothing arrives, as an uptime in
    /// microseconds; `u64::MAX`: it need not.
    fn wake_at_us(&self) -> u64;

    /// Whether, since it was asked last, something could not be stored because all memory is held
    /// for readers: the slow ones among them are to let go.
    fn is_starved(&self) -> bool {
        false
    }

    /// Makes complete what outlives the process, after the last operation. May wait, but not for
    /// ever. Returns whether it is.
    fn finish(&self, clock: &Clock) -> bool;
}
