//! Keeps items in this process: bounded in bytes, and what is used outlives what is not.
//!
//! A worker has one [`Memory`] for the keys it owns, so there are no locks. All items lie in one
//! region mapped at start, with their index ([`crate::tier::segments`]); nothing is allocated after
//! that. A hit is not copied: an [`ItemValue`] holds the item, and while it lives the item's bytes
//! stay what they were, whatever happens to the key, or are lost to a store that finds no other
//! memory, if their reader pauses.
//!
//! ```text
//! commands ── store: items and counters ── segments: index, records, eviction
//!          ── draft: items whose value is being received
//! ```
//!
//! Commands mean what they mean in memcached 1.6. Two things are different:
//!
//! - A cas number follows from where the item lies: it changes with each change of the item, and
//!   may also change when the store moves the item.
//! - A flush_all with a delay does not bring back what an earlier flush_all removed.

mod commands;
mod draft;
mod drafts;
mod meta;
pub(super) mod number;
mod store;
mod value;
mod waiting;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::buffer::{Body, Chain, Key};
use crate::base::clock::{Clock, Expiry, Now};
use crate::base::limits::{ITEM_BYTES_MAX_LIMIT, item_bytes};
use crate::base::stats::{Counter, WorkerStats};
use crate::tier::dump::DumpedItem;
use crate::tier::segments::{
    self, Companion, FoundRecord, Opening, PieceCursor, SegmentStoreConfig, StartError, StoreFile,
};
use crate::tier::{
    Action, Arithmetic, Draft, Fill, Hit, ItemState, Meta, MetaVerb, Outcome,
    Store as StoreRequest, StoreMode, Tier,
};
use store::Store;
pub use value::ItemValue;
use waiting::Waiting;

/// Smallest [`MemoryConfig::bytes`].
pub const BYTES_MIN: usize = segments::BYTES_MIN;

/// Largest [`MemoryConfig::bytes`]: 32 GiB for one worker.
pub const BYTES_MAX: usize = segments::BYTES_MAX;

/// What free memory is counted in by `stats slabs`, in bytes: the room that a small item takes.
pub const UNIT_BYTES: usize = 32;

/// With fewer items than this, index and items are in the core's own caches, and asking for them in
/// advance costs more than it saves.
const FAR_ITEMS_MIN: usize = 2 * 1024;

/// Buckets of the index that [`Memory::sizes`] looks at, at most.
const SIZES_BUCKETS_MAX: usize = 1 << 17;

/// Width of a bucket in [`Memory::sizes`], in bytes (memcached's too).
const SIZES_BUCKET_BYTES: usize = 32;

/// What a [`Memory`] is made with.
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    /// Bytes for everything, index included, [`BYTES_MIN`] to [`BYTES_MAX`].
    pub bytes: usize,
    /// Largest item, header counted as memcached counts it, in bytes.
    pub item_bytes_max: usize,
    /// The worker whose keys these are, counted from 0.
    pub worker: usize,
    /// Workers in all; cas numbers of different workers are different.
    pub workers: usize,
    /// Where items, bytes and evictions are counted. Hits and misses are the caller's to count.
    pub stats: Arc<WorkerStats>,
}

impl MemoryConfig {
    fn segments(&self) -> SegmentStoreConfig {
        let MemoryConfig { bytes, worker, workers, .. } = *self;
        SegmentStoreConfig { bytes, worker, workers }
    }
}

/// The items of one worker, in memory.
pub struct Memory {
    store: Rc<RefCell<Store>>,
    waiting: Waiting,
}

/// Figures about a [`Memory`] for `stats items` and `stats slabs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Items kept.
    pub items: u64,
    /// Seconds since the oldest segment with items was begun; 0 if there are none.
    pub oldest_age_s: u32,
    /// Bytes of the items, headers included.
    pub bytes_used: usize,
    /// Bytes that items can have.
    pub bytes_total: usize,
    /// Bytes of the index, not part of the above.
    pub index_bytes: usize,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.store.borrow();
        write!(
            f,
            "Memory({} items, {} bytes used)",
            store.segments.items(),
            store.segments.live_bytes()
        )
    }
}

impl Memory {
    /// Maps the memory for items and index.
    ///
    /// # Errors
    /// `InvalidInput` if a figure of the config is out of its range; else the kernel's, if it has
    /// not so much memory.
    pub fn new(config: MemoryConfig) -> io::Result<Memory> {
        let in_range = (BYTES_MIN..=BYTES_MAX).contains(&config.bytes)
            && (1..=ITEM_BYTES_MAX_LIMIT).contains(&config.item_bytes_max)
            && config.worker < config.workers;
        if !in_range {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let store = Rc::new(RefCell::new(Store::new(config)?));
        Ok(Memory { store, waiting: Waiting::default() })
    }

    /// With what is in a file, so that a later start finds it there. `companion`: the log that
    /// this is used with, and the number of its starts, this one included; if it was started
    /// without this before, nothing of what is there is kept.
    ///
    /// # Errors
    /// Why the file is not used.
    pub fn start(
        config: MemoryConfig,
        file: &StoreFile<'_>,
        companion: Option<Companion>,
        now: Now,
    ) -> Result<(Memory, Opening), StartError> {
        let (store, opening) = Store::start(config, file, companion, now)?;
        let store = Rc::new(RefCell::new(store));
        Ok((Memory { store, waiting: Waiting::default() }, opening))
    }

    /// Prefetches the place in the index where a search for `key` begins. Returns what
    /// [`Memory::prefetch_item`] has to know.
    #[inline]
    pub fn prefetch_index(&self, key: &[u8]) -> u64 {
        let store = self.store.borrow();
        let hash = store.segments.hash(key);
        store.segments.prefetch_index(hash);
        hash
    }

    /// Prefetches the item that the key of a [`Memory::prefetch_index`] probably has. Waits for the
    /// index, so it is worth its while some time after that.
    #[inline(always)]
    pub fn prefetch_item(&self, hash: u64) {
        self.store.borrow().segments.prefetch_record(hash);
    }

    /// Once a turn: takes back memory of what has expired or was flushed, and keeps some free.
    /// Bounded.
    pub fn turn(&self, now: Now) {
        let store = &mut *self.store.borrow_mut();
        store.segments.turn(now);
        store.set_pressed(!self.waiting.is_empty() && self.waiting.turn(now));
        if std::mem::replace(&mut store.reported_s, now.unix_s) != now.unix_s {
            let overview = overview(store, now);
            store.stats.set(Counter::OldestItemAge, u64::from(overview.oldest_age_s));
            store.stats.set(Counter::IndexBytes, overview.index_bytes as u64);
        }
        store.account_removals();
    }

    /// Figures about the items. Costs the same however many there are.
    pub fn overview(&self, now: Now) -> Overview {
        overview(&self.store.borrow(), now)
    }

    /// Calls `visit` with size and number of items for each bucket that has any: sizes as memcached
    /// counts them, rounded up to multiples of 32 bytes. Bounded: where there are very many items,
    /// a part of them is counted, and the numbers say so by being too small. Allocates.
    pub fn sizes(&self, mut visit: impl FnMut(usize, u64)) {
        let store = self.store.borrow();
        let mut buckets = std::collections::BTreeMap::new();
        store.segments.visit(0, SIZES_BUCKETS_MAX, |key, flags, value_bytes| {
            let bytes = item_bytes(key.len(), flags, value_bytes);
            *buckets.entry(bytes.div_ceil(SIZES_BUCKET_BYTES)).or_insert(0) += 1;
        });
        for (bucket, items) in buckets {
            visit(bucket * SIZES_BUCKET_BYTES, items);
        }
    }

    /// A hit that holds what was just found.
    #[inline(always)]
    fn hit(&self, store: &mut Store, found: &FoundRecord) -> Outcome<ItemValue> {
        store.segments.note_use(found);
        self.hold(store, found, ItemState::default())
    }

    /// The same without a use, and with what a meta command reports of it.
    #[inline(always)]
    fn hold(&self, store: &mut Store, found: &FoundRecord, state: ItemState) -> Outcome<ItemValue> {
        let Some(opened) = store.segments.open(found) else { return Outcome::OutOfMemory };
        Outcome::Hit(Hit {
            flags: store.segments.flags(found),
            expiry: store.segments.expiry(found),
            cas: store.segments.cas(found),
            state,
            value: ItemValue {
                store: Rc::clone(&self.store),
                opened,
                cursor: Cell::new(PieceCursor::default()),
                takes: Cell::new(store.segments.takes),
            },
        })
    }

    /// Executes a store that may wait; None: there is no room.
    fn store_in_room(
        &self,
        key: &Key,
        request: StoreRequest,
        value: &Chain,
        now: Now,
    ) -> Option<Outcome<ItemValue>> {
        let body = Body::Chain(value);
        let outcome = self.change_now(key.as_bytes(), Action::Store(request), body, now)?;
        self.waiting.retry_soon();
        Some(outcome)
    }
}

fn overview(store: &Store, now: Now) -> Overview {
    let overview = store.segments.overview(now);
    Overview {
        items: overview.items,
        oldest_age_s: if overview.items == 0 { 0 } else { overview.oldest_age_s },
        bytes_used: overview.bytes_used,
        bytes_total: overview.bytes_total,
        index_bytes: overview.index_bytes,
    }
}

impl Tier for Memory {
    type Value = ItemValue;

    #[inline(always)]
    fn try_now(
        &self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Option<Outcome<ItemValue>> {
        // By far the commonest, and so the one that is worth being part of its caller.
        match action {
            Action::Get | Action::GetWithExpiry => Some(self.get_now(key, now)),
            _ => self.change_now(key, action, value, now),
        }
    }

    #[inline(always)]
    fn read_now(
        &self,
        key: &[u8],
        with_state: bool,
        now: Now,
        read: impl FnOnce(Option<Hit<&[u8]>>) -> bool,
    ) -> bool {
        let store = &mut *self.store.borrow_mut();
        let found = store.find(key, store.segments.hash(key), now);
        let hit = match &found {
            None => None,
            Some(found) => {
                let Some(value) = store.segments.whole(found) else { return false };
                let state = match with_state {
                    true => meta::state_of(store, found, now),
                    false => ItemState::default(),
                };
                if state.is_stale || state.is_token_sent {
                    // It may have to be marked anew.
                    return false;
                }
                Some(Hit {
                    flags: store.segments.flags(found),
                    expiry: store.segments.expiry(found),
                    cas: store.segments.cas(found),
                    state,
                    value,
                })
            }
        };
        // Called in one place, so that it is part of this one.
        let is_taken = read(hit);
        if let Some(found) = found.filter(|_| is_taken) {
            store.segments.note_use(&found);
        }
        is_taken
    }

    fn draft(
        &self,
        key: &[u8],
        store: StoreRequest,
        value_bytes: usize,
        now: Now,
    ) -> Option<Draft> {
        self.draft_now(key, store, value_bytes, now)
    }

    fn fill_draft(&self, draft: Draft, offset: usize, fill: &mut Fill<'_>) -> usize {
        self.fill_draft_now(draft, offset, fill)
    }

    fn store_draft(
        &self,
        key: &[u8],
        draft: Draft,
        store: StoreRequest,
        now: Now,
    ) -> Outcome<ItemValue> {
        self.store_draft_now(key, draft, store, now)
    }

    fn drop_draft(&self, draft: Draft) {
        self.drop_draft_now(draft);
    }

    async fn get(&self, key: &Key, now: Now) -> Outcome<ItemValue> {
        self.get_now(key.as_bytes(), now)
    }

    async fn get_and_touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<ItemValue> {
        self.get_and_touch_now(key.as_bytes(), expiry, now)
    }

    async fn store(
        &self,
        key: &Key,
        request: StoreRequest,
        value: &Chain,
        now: Now,
    ) -> Outcome<ItemValue> {
        let mut at = now;
        if self.waiting.is_patient() {
            // Little is kept while it waits: each operation has room for that, in each tier.
            loop {
                if let Some(outcome) = self.store_in_room(key, request, value, at) {
                    return outcome;
                }
                let may_retry = self.waiting.wait(now.uptime_us).await;
                at = self.waiting.now();
                if !may_retry {
                    break;
                }
            }
        }
        self.store_at_last(key.as_bytes(), request, Body::Chain(value), at)
    }

    async fn delete(&self, key: &Key, cas: u64, now: Now) -> Outcome<ItemValue> {
        self.delete_now(key.as_bytes(), cas, now)
    }

    async fn touch(&self, key: &Key, expiry: Expiry, now: Now) -> Outcome<ItemValue> {
        self.touch_now(key.as_bytes(), expiry, now)
    }

    async fn arithmetic(&self, key: &Key, arithmetic: Arithmetic, now: Now) -> Outcome<ItemValue> {
        self.arithmetic_now(key.as_bytes(), arithmetic, now)
    }

    async fn meta(&self, key: &Key, meta: Meta, value: &Chain, now: Now) -> Outcome<ItemValue> {
        let mut at = now;
        loop {
            let outcome = self.meta_now(key.as_bytes(), meta, Body::Chain(value), at);
            if !matches!(outcome, Outcome::OutOfMemory) || !meta.is_store() {
                return outcome;
            }
            let may_retry = self.waiting.is_patient() && self.waiting.wait(now.uptime_us).await;
            if !may_retry {
                self.store.borrow().stats.add(Counter::StoreNoMemory, 1);
                return match meta.verb {
                    // memcached answers an append so for which it finds no memory.
                    MetaVerb::Store(StoreMode::Append | StoreMode::Prepend) => Outcome::NotStored,
                    _ => outcome,
                };
            }
            at = self.waiting.now();
        }
    }

    async fn flush_all(&self, at: Expiry, now: Now) -> Outcome<ItemValue> {
        self.flush_all_now(at, now)
    }

    async fn dump(&self, from: u64, now: Now) -> Outcome<ItemValue> {
        self.dump_now(from, now)
    }

    fn is_far(&self) -> bool {
        self.store.borrow().segments.items() >= FAR_ITEMS_MIN
    }

    #[inline]
    fn prefetch(&self, key: &[u8]) -> u64 {
        self.prefetch_index(key)
    }

    #[inline(always)]
    fn prefetch_more(&self, foreseen: u64) {
        self.prefetch_item(foreseen);
    }

    async fn invalidate(&self, key: &Key, now: Now) {
        self.delete(key, 0, now).await;
    }

    fn is_starved(&self) -> bool {
        let segments = &mut self.store.borrow_mut().segments;
        std::mem::take(&mut segments.is_starved) && segments.has_waiting_readers()
    }

    fn turn(&self, now: Now) -> usize {
        Memory::turn(self, now);
        0
    }

    fn flush(&self, _now: Now) {}

    fn note_evicted(&self, is_wanted: bool) {
        self.store.borrow_mut().segments.note_evicted(is_wanted);
    }

    fn take_evicted(&self, each: &mut dyn FnMut(DumpedItem)) -> u64 {
        self.store.borrow_mut().segments.take_evicted(each)
    }

    fn wake_at_us(&self) -> u64 {
        self.waiting.wake_at_us()
    }

    fn stand_alone(&self) {
        self.waiting.be_patient();
    }

    fn finish(&self, clock: &Clock) -> bool {
        let store = &mut *self.store.borrow_mut();
        // What cannot be marked is looked through at the next start, and nothing is lost.
        let _ = store.segments.stop(clock.read());
        true
    }
}
