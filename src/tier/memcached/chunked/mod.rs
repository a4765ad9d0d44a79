//! Items stored in a memcached in chunks, in Rend's format ([`layout`]): values beyond memcached's
//! own limit, and items of few sizes whatever the values' sizes are.
//!
//! A value is served completely, as one writer wrote it, or not at all: number and tokens of its
//! chunks are checked every time, and each write has a new token, which is in its metadata, written
//! last. An item that has lost a chunk is deleted. Only an append keeps the token: it writes only
//! after the bytes that the old metadata counts, so that the old value stays readable until the new
//! metadata is written. If the first chunk has the name that older versions used, an append also
//! writes the whole value again, with a new token. This is safe because one task at a time works on
//! a key, and the link never lets a late request overtake a newer one; where two keys share a
//! chunk's name, the tokens tell them apart.
//!
//! The item's cas is that of its metadata item. A touch gives all its items a new expiry in
//! memcached, because writing the metadata again would change the cas; the expiry in the metadata
//! is then an old one, and is read only to keep a running expiry from drifting.

pub mod assembly;
mod change;
pub mod collect;
mod foresight;
pub mod item;
pub mod layout;
pub mod name;
mod read;
pub mod token;
mod write;

use std::fmt;
use std::sync::Arc;

use self::collect::Collector;
use self::foresight::Foresight;
use self::layout::{Metadata, Shape};
use self::name::Name;
use self::token::Tokens;
use super::meta::Meta;
use crate::base::buffer::{Body, Chain, Key};
use crate::base::clock::{Clock, Expiry, Now};
use crate::base::limits::{
    CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNK_WINDOW_BYTES, CHUNK_WINDOW_CHUNKS,
};
use crate::base::secret;
use crate::base::stats::WorkerStats;
use crate::tier::link::{self, Down, Link, OpenError, Status};
use crate::tier::{Action, Arithmetic, Outcome, Store, Tier};

/// A running expiry returned by memcached may differ this much from the one in the metadata, in
/// seconds: its clock ticks once a second, and so does ours.
const CLOCK_SLACK_S: u32 = 2;

/// The settings of a [`Chunked`].
#[derive(Debug)]
pub struct ChunkedConfig {
    /// The link to the memcached.
    pub link: link::LinkConfig,
    /// Size of a chunk in memcached, in bytes: [`CHUNK_BYTES_MIN`] to [`CHUNK_BYTES_MAX`]. Items
    /// written with another size stay readable.
    pub chunk_bytes: usize,
    /// Largest item, including its header as memcached counts it, in bytes.
    pub item_bytes_max: usize,
}

/// One memcached that stores values in chunks, behind one link.
pub struct Chunked {
    link: Link<Meta, Collector>,
    chunk_bytes: usize,
    item_bytes_max: usize,
    tokens: Tokens,
    foresight: Foresight,
    stats: Arc<WorkerStats>,
}

impl fmt::Debug for Chunked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunked({} bytes, {:?})", self.chunk_bytes, self.link)
    }
}

/// How the metadata is requested.
#[derive(Clone, Copy)]
enum Lookup {
    Plain,
    WithExpiry,
    Touch(Expiry),
}

/// Metadata in memcached.
struct Stored {
    metadata: Metadata,
    /// The metadata item's cas, which is the item's.
    cas: u64,
    /// As memcached knows it, if requested.
    expiry: Expiry,
}

impl Stored {
    /// When the item expires, if the expiry was requested. memcached's answer is rounded to its
    /// clock's tick: an item that is written again and again would live longer each time.
    fn expiry(&self) -> Expiry {
        let written = self.metadata.expiry;
        let is_running = self.expiry != Expiry::NEVER && written != Expiry::NEVER;
        let apart_s = self.expiry.unix_s().abs_diff(written.unix_s());
        if is_running && apart_s <= CLOCK_SLACK_S { written } else { self.expiry }
    }
}

/// The result of looking up a metadata key.
enum Existing {
    /// The key's item.
    Stored(Stored),
    /// Nothing.
    Nothing,
    /// Another key's item under the same name; its cas.
    Foreign(u64),
    /// Invalid metadata; its cas.
    Invalid(u64),
}

/// The condition for writing metadata.
#[derive(Clone, Copy)]
enum Condition {
    Always,
    /// There is no item.
    Absent,
    /// There is an item.
    Present,
    /// There is an item with this cas.
    Cas(u64),
}

/// The result of writing a value.
enum Written {
    /// It is written, with this cas.
    Done(u64),
    /// A chunk could not be written: the value of the key is lost.
    Lost(Outcome<Chain>),
    /// The metadata's condition does not hold.
    Unmet(Status),
}

/// Chunks of this shape that are requested at the same time.
fn window(shape: &Shape) -> u32 {
    (CHUNK_WINDOW_BYTES / shape.chunk_item_bytes()).clamp(1, CHUNK_WINDOW_CHUNKS) as u32
}

type Answer = Result<Outcome<Chain>, Down>;

impl Chunked {
    /// Connects to the memcached; waits for its greeting.
    ///
    /// # Errors
    /// If no server listens there, or not a memcached with the meta commands.
    ///
    /// # Panics
    /// If a number in the config is out of range.
    pub fn open(config: ChunkedConfig, now: Now) -> Result<Chunked, OpenError> {
        let ChunkedConfig { link, chunk_bytes, item_bytes_max } = config;
        assert!((CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk_bytes), "checked before");
        let stats = Arc::clone(&link.stats);
        let link = Link::open(link, now)?;
        let tokens = Tokens::new(secret::random());
        let foresight = Foresight::new();
        Ok(Chunked { link, chunk_bytes, item_bytes_max, tokens, foresight, stats })
    }

    /// The link.
    pub fn link(&self) -> &Link<Meta, Collector> {
        &self.link
    }
}

/// The outcome of an operation, if its link was not lost.
fn outcome(answer: Answer) -> Outcome<Chain> {
    answer.unwrap_or(Outcome::Failed)
}

impl Tier for Chunked {
    type Value = Chain;

    fn try_now(
        &self,
        _key: &[u8],
        _action: Action,
        _value: Body<'_>,
        _now: Now,
    ) -> Option<Outcome<Chain>> {
        None
    }

    async fn get(&self, key: &Key, now: Now) -> Outcome<Chain> {
        outcome(self.read(key, Lookup::Plain, now).await)
    }

    async fn get_with_expiry(&self, key: &Key, now: Now) -> Outcome<Chain> {
        outcome(self.read(key, Lookup::WithExpiry, now).await)
    }

    async fn get_and_touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Chain> {
        outcome(self.read(key, Lookup::Touch(expiry), now).await)
    }

    async fn store(&self, key: &Key, store: Store, value: &Chain, now: Now) -> Outcome<Chain> {
        outcome(self.try_store(key, &store, value, now).await)
    }

    async fn delete(&self, key: &Key, cas: u64, now: Now) -> Outcome<Chain> {
        outcome(self.try_delete(key, cas, now).await)
    }

    async fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<Chain> {
        outcome(self.try_touch(key, expiry, now).await)
    }

    async fn arithmetic(&self, key: &Key, arithmetic: Arithmetic, now: Now) -> Outcome<Chain> {
        outcome(self.try_arithmetic(key, &arithmetic, now).await)
    }

    async fn flush_all(&self, at: Expiry, now: Now) -> Outcome<Chain> {
        outcome(self.try_flush_all(at, now).await)
    }

    async fn invalidate(&self, key: &Key, now: Now) {
        if self.try_delete(key, 0, now).await.is_err() {
            // Without its metadata there is no item; memcached evicts its chunks.
            let mut name = Name::of(key.as_bytes());
            let metadata = Key::new(name.metadata()).expect("no longer than a key may be");
            self.link.invalidate(&metadata).await;
        }
    }

    fn turn(&self, now: Now) -> usize {
        self.link.turn(now)
    }

    fn flush(&self, now: Now) {
        self.link.flush(now);
    }

    fn wake_at_us(&self) -> u64 {
        self.link.wake_at_us()
    }

    fn finish(&self, _clock: &Clock) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
