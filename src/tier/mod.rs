//! Tiers: where items are stored.
//!
//! A tier serves the keys of one worker only, and gets one operation per key at a time (the owner's
//! task queue ensures that), so it needs no locks. It must never block: it awaits whatever it
//! needs.

mod composed;
pub mod dump;
pub mod link;
pub mod memcached;
pub mod memory;
pub mod meta;
pub mod remote;
pub mod rend;
#[cfg_attr(
    not(feature = "internals"),
    allow(dead_code, unused_imports, reason = "what a later start needs, and what tests look at")
)]
pub mod segments;
#[allow(unsafe_code, reason = "memory that another process changes")]
pub mod shm;
pub mod ssd;

use std::io::IoSliceMut;

use bytes::Bytes;

use crate::base::buffer::{self, Body, Chain, Gather, Key};
use crate::base::clock::{Clock, Expiry, Now};
use crate::base::latency::{Ending, Level};
use crate::base::limits::SHARED_BYTES_MAX;
pub use dump::{Dumped, DumpedItem};
pub use meta::{ItemInfo, ItemState, Meta, MetaFlags, MetaVerb};

/// Takes bytes piece by piece without copying, and returns how many it took.
pub type Take<'t> = dyn for<'p> FnMut(&mut dyn Iterator<Item = &'p [u8]>) -> usize + 't;

/// Fills the pieces of some room from the first on, and returns how many bytes it filled.
pub type Fill<'f> = dyn FnMut(&mut [IoSliceMut<'_>]) -> usize + 'f;

/// The bytes of a hit, held until its reply is sent.
pub trait Value {
    /// Whether the bytes were gathered into separate memory rather than held where they are stored:
    /// such hits use memory for as long as they wait.
    const IS_GATHERED: bool = false;

    /// Length in bytes.
    fn len(&self) -> usize;

    /// Whether the value has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from `offset` on into `out`, as many as fit or are left; returns how many.
    /// Offsets never decrease from call to call. Copies fewer, down to none, if they must be
    /// fetched from elsewhere first.
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize;

    /// Passes the bytes from `offset` on to `take` piece by piece, without copying, and returns its
    /// result; 0, without a call, if that is not possible.
    fn show(&self, _offset: usize, _take: &mut Take<'_>) -> usize {
        0
    }

    /// The bytes as a chain, if they are in one: for a caller that also stores them elsewhere.
    fn as_chain(&self) -> Option<&Chain> {
        None
    }

    /// Whoever reads it made progress, or has to wait: where memory runs out, a reader that pauses
    /// may lose the value.
    fn note_progress(&self, _now: Now) {}

    /// The tier that it is from.
    fn level(&self) -> Level {
        Level::L1
    }

    /// Whether what was not read yet is lost: nothing more of it can be copied or shown.
    fn is_lost(&self) -> bool {
        false
    }

    /// A second holder of the bytes, for another request, if that is cheap.
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

/// For a tier whose values are kept in one piece, and shared with the replies that hold them.
impl Value for Bytes {
    fn len(&self) -> usize {
        Bytes::len(self)
    }

    fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        let rest = self.get(offset..).unwrap_or_default();
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        n
    }

    fn show(&self, offset: usize, take: &mut Take<'_>) -> usize {
        let rest = self.get(offset..).unwrap_or_default();
        take(&mut std::iter::once(rest).filter(|rest| !rest.is_empty()))
    }

    fn share(&self) -> Option<Bytes> {
        Some(self.clone())
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
    /// What only meta commands report of it.
    pub state: ItemState,
    /// Its bytes.
    pub value: V,
}

impl<V: Value> Hit<V> {
    /// Whether a client is to fetch the item again, or is doing so: a tier that has no marks must
    /// not have it.
    pub fn is_marked(&self) -> bool {
        let ItemState { is_stale, is_token_sent, is_won, .. } = self.state;
        is_stale || is_token_sent || is_won || composed::is_placeholder(self)
    }
}

/// The outcome of an operation. Miss, not stored, throttled and failed are different answers.
#[derive(Debug)]
pub enum Outcome<V> {
    /// Get, get-and-touch: found.
    Hit(Hit<V>),
    /// The key has no item. Also the answer to cas, replace-by-cas, delete, touch and arithmetic.
    Miss,
    /// Stored, under this cas.
    Stored {
        /// The item's cas.
        cas: u64,
    },
    /// Add found an item, or replace, append or prepend found none.
    NotStored,
    /// The item's cas is not the requested one.
    Exists,
    /// Deleted.
    Deleted,
    /// Touched.
    Touched {
        /// The item's cas.
        cas: u64,
    },
    /// Incr, decr: executed.
    Number {
        /// The new number.
        value: u64,
        /// The item's cas.
        cas: u64,
    },
    /// A meta command changed the item.
    Changed(ItemInfo),
    /// Incr, decr: the item is not a decimal number of up to 20 digits.
    NonNumeric,
    /// The item would exceed the maximum size. After a set, the previous item is gone.
    TooLarge,
    /// No memory, and nothing can be evicted. After a set, the previous item is gone.
    OutOfMemory,
    /// The tier's server does not know an argument of the meta command.
    Unsupported,
    /// Every item was invalidated, or will be.
    Flushed,
    /// A piece of the tier's items.
    Dumped(Box<Dumped>),
    /// The tier is overloaded; try later.
    Throttled,
    /// The tier is unreachable or broken.
    Failed,
}

impl<V: Value> Outcome<V> {
    /// The outcome of a get for another get of the same key. None: that one must ask the tier
    /// itself.
    pub fn share(&self) -> Option<Outcome<V>> {
        match self {
            Outcome::Miss => Some(Outcome::Miss),
            &Outcome::Hit(Hit { flags, expiry, cas, state, ref value }) => {
                let value = value.share()?;
                Some(Outcome::Hit(Hit { flags, expiry, cas, state, value }))
            }
            _ => None,
        }
    }
}

impl<V> Outcome<V> {
    /// How it ends a request.
    pub fn ending(&self) -> Ending {
        match self {
            Outcome::Miss | Outcome::NotStored | Outcome::Exists => Ending::Miss,
            Outcome::Hit(_)
            | Outcome::Stored { .. }
            | Outcome::Deleted
            | Outcome::Touched { .. }
            | Outcome::Number { .. }
            | Outcome::Changed(_)
            | Outcome::Flushed
            | Outcome::Dumped(_) => Ending::Ok,
            Outcome::NonNumeric
            | Outcome::TooLarge
            | Outcome::OutOfMemory
            | Outcome::Unsupported
            | Outcome::Throttled
            | Outcome::Failed => Ending::Error,
        }
    }

    /// The same outcome with another holder of the bytes.
    pub fn map_value<W>(self, f: impl FnOnce(V) -> W) -> Outcome<W> {
        match self {
            Outcome::Hit(hit) => Outcome::Hit(Hit {
                flags: hit.flags,
                expiry: hit.expiry,
                cas: hit.cas,
                state: hit.state,
                value: f(hit.value),
            }),
            Outcome::Miss => Outcome::Miss,
            Outcome::Stored { cas } => Outcome::Stored { cas },
            Outcome::NotStored => Outcome::NotStored,
            Outcome::Exists => Outcome::Exists,
            Outcome::Deleted => Outcome::Deleted,
            Outcome::Touched { cas } => Outcome::Touched { cas },
            Outcome::Number { value, cas } => Outcome::Number { value, cas },
            Outcome::Changed(info) => Outcome::Changed(info),
            Outcome::NonNumeric => Outcome::NonNumeric,
            Outcome::TooLarge => Outcome::TooLarge,
            Outcome::OutOfMemory => Outcome::OutOfMemory,
            Outcome::Unsupported => Outcome::Unsupported,
            Outcome::Flushed => Outcome::Flushed,
            Outcome::Dumped(piece) => Outcome::Dumped(piece),
            Outcome::Throttled => Outcome::Throttled,
            Outcome::Failed => Outcome::Failed,
        }
    }
}

/// The condition for storing a value, and its position in the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreMode {
    /// Unconditionally.
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
    /// The condition, and the position in the item.
    pub mode: StoreMode,
    /// The client's flags; opaque.
    pub flags: u32,
    /// When it expires.
    pub expiry: Expiry,
    /// Only if the item has this cas now; 0 = any. With [`StoreMode::Set`] and no item the answer
    /// is [`Outcome::Miss`].
    pub cas: u64,
}

/// Identifies an item that a tier has made room for and that no lookup finds yet: its value is
/// received into that room, and then it is stored or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draft(pub(in crate::tier) u32);

/// An incr or decr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    /// Subtract, stopping at 0, instead of adding modulo 2^64.
    pub decrement: bool,
    /// The amount.
    pub delta: u64,
    /// The value and expiry to store if the key has no item (binary protocol); None: the answer is
    /// a miss.
    pub initial: Option<(u64, Expiry)>,
    /// Only if the item has this cas now; 0 = any.
    pub cas: u64,
}

/// An operation on a key's item.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Get.
    Get,
    /// Get, with the expiry in the answer (Rend's GETE).
    GetWithExpiry,
    /// Get, and give the item a new expiry.
    GetAndTouch {
        /// The new expiry.
        expiry: Expiry,
    },
    /// Store the value given with it.
    Store(Store),
    /// A set whose value exceeds the limit: memcached removes the previous item.
    StoreTooLarge,
    /// A set whose value found no room: memcached removes what was there.
    StoreNoRoom,
    /// Delete the item.
    Delete {
        /// Only if the item has this cas now; 0 = any.
        cas: u64,
    },
    /// Give the item a new expiry.
    Touch {
        /// The new expiry.
        expiry: Expiry,
    },
    /// Increment or decrement.
    Arithmetic(Arithmetic),
    /// A meta command. The value of a store is given with it.
    Meta(Meta),
    /// Invalidate every item stored before a moment.
    FlushAll {
        /// That moment; never = now.
        at: Expiry,
    },
    /// List a piece of the items of a worker; concerns no key.
    Dump {
        /// Where the piece begins; 0: the first.
        from: u64,
    },
}

/// Stores the items of one worker. Semantics are memcached's (protocol.txt).
#[allow(async_fn_in_trait, reason = "a worker's futures stay on their thread by design")]
pub trait Tier {
    /// What holds the bytes of a hit.
    type Value: Value;

    /// Executes `action` if that needs no waiting, and copies only what is stored. None: nothing
    /// was done, and one of the functions below must be called.
    fn try_now(
        &self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Option<Outcome<Self::Value>>;

    /// Passes what a get of `key` finds to `read` without copying, or None for a miss, if that
    /// needs no waiting and the value is contiguous. Returns whether `read` accepted it; if not, no
    /// get was executed, and another function must be called. `read` must not call this tier.
    /// `with_state`: it is a plain `mg`, whose hit has an [`ItemState`].
    fn read_now(
        &self,
        _key: &[u8],
        _with_state: bool,
        _now: Now,
        _read: impl FnOnce(Option<Hit<&[u8]>>) -> bool,
    ) -> bool {
        false
    }

    /// Makes room for a value of `value_bytes` that will be stored as `store` says, so that it is
    /// received into its final place. None: it must be passed as a chain. A tier that ever returns
    /// a draft executes every operation immediately.
    fn draft(&self, _key: &[u8], _store: Store, _value_bytes: usize, _now: Now) -> Option<Draft> {
        None
    }

    /// Passes some of a draft's room to `fill`, from byte `offset` of its value on, which is before
    /// its end; returns the result of `fill`.
    fn fill_draft(&self, _draft: Draft, _offset: usize, _fill: &mut Fill<'_>) -> usize {
        unreachable!("there are no drafts")
    }

    /// Stores a draft whose value is complete, as [`Tier::store`] would the same bytes.
    fn store_draft(
        &self,
        _key: &[u8],
        _draft: Draft,
        _store: Store,
        _now: Now,
    ) -> Outcome<Self::Value> {
        unreachable!("there are no drafts")
    }

    /// Frees a draft's room.
    fn drop_draft(&self, _draft: Draft) {
        unreachable!("there are no drafts")
    }

    /// Hit or miss.
    async fn get(&self, key: &Key, now: Now) -> Outcome<Self::Value>;

    /// Like [`Tier::get`], with the expiry in the answer; a get may leave it out where it is
    /// expensive.
    async fn get_with_expiry(&self, key: &Key, now: Now) -> Outcome<Self::Value> {
        self.get(key, now).await
    }

    /// Like [`Tier::get`], and the item gets a new expiry.
    async fn get_and_touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Self::Value>;

    /// Stored, not stored, exists, miss, too large, out of memory.
    async fn store(&self, key: &Key, store: Store, value: &Chain, now: Now)
    -> Outcome<Self::Value>;

    /// Deleted, miss; exists if `cas` is neither 0 nor the item's.
    async fn delete(&self, key: &Key, cas: u64, now: Now) -> Outcome<Self::Value>;

    /// Touched or miss.
    async fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Self::Value>;

    /// Number, miss, non-numeric, exists, out of memory. The new number is stored as in memcached:
    /// in place and padded with spaces if it is shorter than the old one; expiry and flags are
    /// kept.
    async fn arithmetic(&self, key: &Key, arithmetic: Arithmetic, now: Now)
    -> Outcome<Self::Value>;

    /// Hit, changed, deleted, not stored, exists, miss, non-numeric, too large, out of memory. For
    /// a tier without such commands they are composed of its others.
    async fn meta(&self, key: &Key, meta: Meta, value: &Chain, now: Now) -> Outcome<Self::Value> {
        Box::pin(composed::meta(self, key, &meta, value, now)).await
    }

    /// Invalidates every item stored before `at` (immediately if that is [`Expiry::NEVER`] or
    /// past).
    async fn flush_all(&self, at: Expiry, now: Now) -> Outcome<Self::Value>;

    /// Dumped; unsupported, if the tier does not know its keys.
    async fn dump(&self, _from: u64, _now: Now) -> Outcome<Self::Value> {
        Outcome::Unsupported
    }

    /// Ensures that the key's current item is never served again: deletes it, or, if the server is
    /// unreachable, remembers to delete it before any other operation.
    async fn invalidate(&self, key: &Key, now: Now);

    /// Called before the first operation if there is no other tier: a store that finds no room may
    /// wait for some before it fails. Where there is another, it has stored the value already.
    fn stand_alone(&self) {}

    /// Whether the tier holds so much that [`Tier::prefetch`] pays off.
    fn is_far(&self) -> bool {
        false
    }

    /// A hint: `key` will be requested soon. See `net::Handler::foresee`.
    fn prefetch(&self, _key: &[u8]) -> u64 {
        0
    }

    /// See `net::Handler::foresee_more`.
    fn prefetch_more(&self, _foreseen: u64) {}

    /// A bounded piece of the tier's own work, at the start of a turn: processing completions, or
    /// reclaiming expired items. Returns how many completions there were.
    fn turn(&self, now: Now) -> usize;

    /// Sends or submits what the operations of the turn have queued, at its end: requests on a link
    /// are sent together.
    fn flush(&self, now: Now);

    /// Whether to note the items that are evicted from here on, for [`Tier::take_evicted`].
    fn note_evicted(&self, _is_wanted: bool) {}

    /// Passes on the items that were evicted since the last call, if they are noted and the tier
    /// knows their keys; returns how many more there were.
    fn take_evicted(&self, _each: &mut dyn FnMut(DumpedItem)) -> u64 {
        0
    }

    /// When [`Tier::turn`] must be called again even if nothing arrives, as an uptime in
    /// microseconds; `u64::MAX`: never.
    fn wake_at_us(&self) -> u64;

    /// Whether, since the last call, something could not be stored because readers hold all memory:
    /// then slow readers must release theirs.
    fn is_starved(&self) -> bool {
        false
    }

    /// Completes what is kept beyond the process, after the last operation. May wait, but not for
    /// ever. Returns whether it is complete.
    fn finish(&self, clock: &Clock) -> bool;
}
