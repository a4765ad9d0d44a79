//! Keeps items in this process: bounded in bytes, least recently used out first.
//!
//! A worker has one [`Memory`] for the keys it owns, so there are no locks. All items lie in one
//! region mapped at start (`arena`), found through an index of fixed size (`index`); nothing is
//! allocated after that. A hit is not copied: an [`ItemValue`] holds the item, and while it lives
//! the item's bytes stay what they were, whatever happens to the key, or are lost to a store that
//! finds no other memory, if their reader pauses.
//!
//! ```text
//! commands (here) ── store: index + LRU list + arena kept in step ── item: bytes of one item
//!                                                                     arena: extents
//! ```
//!
//! Commands mean what they mean in memcached 1.6, cas numbers included: with one worker an item has
//! the same cas as in a memcached that was sent the same commands. Two things are different:
//!
//! - The LRU list is one list in order of use, not segments; an item moves to its front at most
//!   once while an eighth as many items as there are were linked.
//! - A flush_all with a delay does not bring back what an earlier flush_all removed.

mod arena;
mod draft;
mod index;
mod item;
pub(super) mod number;
mod readers;
mod store;
mod ticks;
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
use crate::base::limits::{ITEM_BYTES_MAX_LIMIT, ITEM_HEADER_BYTES};
use crate::base::stats::{Counter, WorkerStats};
use crate::base::work;
use crate::tier::{
    Action, Arithmetic, Draft, Hit, Outcome, Store as StoreRequest, StoreMode, Tier,
};
use arena::NIL;
use store::Store;
pub use value::ItemValue;
use waiting::Waiting;

/// What the memory is given out in, in bytes.
pub const UNIT_BYTES: usize = arena::UNIT_BYTES;

/// Smallest [`MemoryConfig::bytes`].
pub const BYTES_MIN: usize = 64 * 1024;

/// Largest [`MemoryConfig::bytes`]: 32 GiB for one worker.
pub const BYTES_MAX: usize = arena::REGION_BYTES_MAX;

/// With fewer items than this, index and items are in the core's own caches, and asking for them in
/// advance costs more than it saves.
const FAR_ITEMS_MIN: u32 = 2 * 1024;

/// Slots of the index that [`Memory::sizes`] looks at, at most.
const SIZES_SLOTS_MAX: usize = 1 << 20;

/// Width of a bucket in [`Memory::sizes`], in bytes (memcached's too).
const SIZES_BUCKET_BYTES: usize = 32;

/// What a number that is shorter than its value is filled up with.
const SPACES: [u8; 1024] = [b' '; 1024];

/// Bytes for items where items and their index together take `bytes`.
pub const fn items_bytes(bytes: u64) -> u64 {
    bytes / (store::ARENA_BYTES_PER_SLOT + index::SLOT_BYTES) as u64
        * store::ARENA_BYTES_PER_SLOT as u64
}

/// What a [`Memory`] is made with.
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    /// Bytes for items, their headers included, [`BYTES_MIN`] to [`BYTES_MAX`]. The index takes a
    /// tenth as much besides.
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
    /// Seconds since the least recently used item was used; 0 if there is none.
    pub oldest_age_s: u32,
    /// Bytes in use, headers, rounding and items that only readers hold included.
    pub bytes_used: usize,
    /// Bytes that can be in use.
    pub bytes_total: usize,
    /// Bytes of the index, in use from the start and not part of the above.
    pub index_bytes: usize,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.store.borrow();
        write!(f, "Memory({} items, {} bytes used)", store.items(), store.bytes_used())
    }
}

/// An item's size as memcached counts it (item_make_header in its items.c: header and cas, key and
/// a NUL, flags unless they are 0, value and `\r\n`). The limit on items is on this.
pub(super) fn item_bytes(key: &[u8], flags: u32, value_bytes: usize) -> usize {
    let flags_bytes = if flags == 0 { 0 } else { 4 };
    ITEM_HEADER_BYTES + key.len() + 1 + flags_bytes + value_bytes + 2
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

    /// Asks the CPU to bring the place in the index where a search for `key` begins close to it.
    /// Returns what [`Memory::prefetch_item`] has to know.
    #[inline]
    pub fn prefetch_index(&self, key: &[u8]) -> u32 {
        let store = self.store.borrow();
        let tag = store.tag(key);
        store.index.prefetch(tag);
        tag
    }

    /// Asks the CPU to bring the item close that the key of a [`Memory::prefetch_index`] probably
    /// has. Waits for the index, so it is worth its while some time after that.
    #[inline]
    pub fn prefetch_item(&self, tag: u32) {
        let store = self.store.borrow();
        if let Some(item) = store.index.guess(tag) {
            store.arena.prefetch(item);
        }
    }

    /// Once a turn: takes back the memory of a few items that have expired or were flushed. All
    /// items are visited in about a minute if turns are frequent. Bounded.
    pub fn turn(&self, now: Now) {
        let is_new_second = {
            let store = &mut *self.store.borrow_mut();
            store.sweep(now);
            if store.kept_units > store.kept_units_max {
                store.limit_readers(now);
            }
            store.is_pressed = !self.waiting.is_empty() && self.waiting.turn(now);
            std::mem::replace(&mut store.reported_s, now.unix_s) != now.unix_s
        };
        if is_new_second {
            self.report(now);
        }
    }

    /// Brings the gauges up to date.
    fn report(&self, now: Now) {
        let overview = self.overview(now);
        let stats = &self.store.borrow().stats;
        stats.set(Counter::OldestItemAge, u64::from(overview.oldest_age_s));
        stats.set(Counter::IndexBytes, overview.index_bytes as u64);
    }

    /// Figures about the items. Costs the same however many there are.
    pub fn overview(&self, now: Now) -> Overview {
        let store = self.store.borrow();
        let oldest_age_s = match store.oldest() {
            NIL => 0,
            oldest => now.unix_s.saturating_sub(store.arena.used_s(oldest)),
        };
        Overview {
            items: u64::from(store.items()),
            oldest_age_s,
            bytes_used: store.bytes_used(),
            bytes_total: store.arena.units_total() as usize * arena::UNIT_BYTES,
            index_bytes: store.index.bytes(),
        }
    }

    /// Calls `visit` with size and number of items for each bucket that has any: sizes as memcached
    /// counts them, rounded up to multiples of 32 bytes. Bounded: where there are very many items,
    /// a part of them is counted, and the numbers say so by being too small. Allocates.
    pub fn sizes(&self, mut visit: impl FnMut(usize, u64)) {
        let store = self.store.borrow();
        let mut buckets = std::collections::BTreeMap::new();
        for slot in 0..store.index.slots().min(SIZES_SLOTS_MAX) {
            let Some(item) = store.index.item_in(slot) else { continue };
            let flags_bytes = if store.arena.flags(item) == 0 { 0 } else { 4 };
            let bytes = ITEM_HEADER_BYTES
                + usize::from(store.arena.key_bytes(item))
                + 1
                + flags_bytes
                + store.arena.value_bytes(item) as usize
                + 2;
            *buckets.entry(bytes.div_ceil(SIZES_BUCKET_BYTES)).or_insert(0) += 1;
        }
        for (bucket, items) in buckets {
            visit(bucket * SIZES_BUCKET_BYTES, items);
        }
    }

    /// A hit that holds `item`, which was just found.
    #[inline(always)]
    fn hit(&self, store: &mut Store, item: u32, now: Now) -> Outcome<ItemValue> {
        let Some(opened) = store.open(item, now) else { return Outcome::OutOfMemory };
        Outcome::Hit(Hit {
            flags: opened.flags,
            expiry: opened.expiry,
            cas: opened.cas,
            value: ItemValue {
                store: Rc::clone(&self.store),
                item,
                len: opened.value_bytes,
                cursor: Cell::new(store.arena.value_start(item)),
            },
        })
    }
}

/// What a store does, once it is known what is there.
enum Plan {
    /// Makes a new item, in place of `old` if there is one.
    Write { old: Option<u32> },
    /// Adds to the value of this item.
    Extend { old: u32 },
}

/// Whether and how `request` may be carried out where its key has the item `old`.
fn plan<V>(store: &Store, request: StoreRequest, old: Option<u32>) -> Result<Plan, Outcome<V>> {
    let is_extension = matches!(request.mode, StoreMode::Append | StoreMode::Prepend);
    let Some(item) = old else {
        return match request.mode {
            _ if is_extension => Err(Outcome::NotStored),
            // memcached makes a cas of any set, add or replace that names one.
            _ if request.cas != 0 => Err(Outcome::Miss),
            StoreMode::Set | StoreMode::Add => Ok(Plan::Write { old: None }),
            _ => Err(Outcome::NotStored),
        };
    };
    if request.cas != 0 && request.cas != store.arena.cas(item) {
        return Err(Outcome::Exists);
    }
    match request.mode {
        StoreMode::Append | StoreMode::Prepend => Ok(Plan::Extend { old: item }),
        StoreMode::Add if request.cas == 0 => Err(Outcome::NotStored),
        _ => Ok(Plan::Write { old }),
    }
}

/// Carries out a set, add, replace or cas.
fn write<V>(
    store: &mut Store,
    key: &[u8],
    tag: u32,
    request: StoreRequest,
    value: Body<'_>,
    old: Option<u32>,
    now: Now,
) -> Outcome<V> {
    let StoreRequest { flags, expiry, .. } = request;
    if let Some(old) = old
        && store.arena.pins(old) == 0
        && store.fits_exactly(old, key.len(), value.len())
    {
        let cas = store.relink(old, flags, expiry, now);
        store.arena.set_value_bytes(old, value.len() as u32);
        write_body(store, old, 0, value);
        return Outcome::Stored { cas };
    }
    // What a set replaces is gone even if it fails; its memory may be what is needed. All else
    // fails without a trace, so there the old item must outlive the making of the new one.
    let mut old = old;
    if request.mode == StoreMode::Set
        && request.cas == 0
        && let Some(old) = old.take()
    {
        store.unlink(old, tag);
    }
    let made = keeping(store, old, now, |store| store.make(key, flags, expiry, value.len(), now));
    let Some(item) = made else { return Outcome::OutOfMemory };
    write_body(store, item, 0, value);
    if let Some(old) = old {
        store.unlink(old, tag);
    }
    Outcome::Stored { cas: store.link(item, tag) }
}

/// Carries out an append or prepend. Out of memory means no room for the longer value.
fn extend<V>(
    store: &mut Store,
    key: &[u8],
    tag: u32,
    request: StoreRequest,
    value: Body<'_>,
    old: u32,
    now: Now,
) -> Outcome<V> {
    let (flags, expiry) = (store.arena.flags(old), store.arena.expiry(old));
    let old_bytes = store.arena.value_bytes(old) as usize;
    let value_bytes = old_bytes + value.len();
    if item_bytes(key, flags, value_bytes) > store.item_bytes_max {
        // Not `TooLarge`: memcached says so only of the part that was sent.
        return Outcome::NotStored;
    }
    work::note(old_bytes);
    let make = |store: &mut Store| store.make(key, flags, expiry, value_bytes, now);
    let Some(item) = keeping(store, Some(old), now, make) else { return Outcome::OutOfMemory };
    let start = store.arena.value_start(item);
    if request.mode == StoreMode::Append {
        store.arena.copy_value(item, start, 0, old);
        write_body(store, item, old_bytes, value);
    } else {
        write_body(store, item, 0, value);
        store.arena.copy_value(item, start, value.len(), old);
    }
    store.unlink(old, tag);
    Outcome::Stored { cas: store.link(item, tag) }
}

/// Does something that may evict, but not `item`.
fn keeping<R>(
    store: &mut Store,
    item: Option<u32>,
    now: Now,
    f: impl FnOnce(&mut Store) -> R,
) -> R {
    // If it cannot be counted once more, it is held already, and by many.
    let held = item.filter(|&item| store.pin(item));
    if let Some(item) = item {
        // Its readers may have paused, and it is needed now.
        store.note_reader(item, now);
    }
    let result = f(store);
    if let Some(item) = held {
        store.unpin(item);
    }
    result
}

/// Copies a body into an item's value, from byte `offset` on.
fn write_body(store: &mut Store, item: u32, mut offset: usize, body: Body<'_>) {
    let mut cursor = store.arena.value_start(item);
    body.for_each_piece(|piece| {
        cursor = store.arena.write_value(item, cursor, offset, piece);
        offset += piece.len();
    });
}

/// A number's digits.
fn digits(number: u64, buffer: &mut itoa::Buffer) -> &[u8] {
    buffer.format(number).as_bytes()
}

/// Makes an item of `value_bytes` bytes that holds a number and, behind it, spaces; none if there
/// is no room.
fn make_number(
    store: &mut Store,
    key: &[u8],
    flags: u32,
    expiry: Expiry,
    (number, value_bytes): (u64, usize),
    now: Now,
) -> Option<u32> {
    let Some(item) = store.make(key, flags, expiry, value_bytes, now) else {
        store.stats.add(Counter::StoreNoMemory, 1);
        return None;
    };
    write_number(store, item, number, value_bytes);
    Some(item)
}

/// Writes a number over the `value_bytes` bytes of an item, and spaces behind it.
fn write_number(store: &mut Store, item: u32, number: u64, value_bytes: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = digits(number, &mut buffer);
    let start = store.arena.value_start(item);
    let mut cursor = store.arena.write_value(item, start, 0, digits);
    let mut offset = digits.len();
    while offset < value_bytes {
        let n = (value_bytes - offset).min(SPACES.len());
        let spaces = &SPACES[..n];
        cursor = store.arena.write_value(item, cursor, offset, spaces);
        offset += n;
    }
}

/// Carries out an incr or decr of an item.
fn count<V>(
    store: &mut Store,
    key: &[u8],
    tag: u32,
    arithmetic: Arithmetic,
    old: u32,
    now: Now,
) -> Outcome<V> {
    // In this order: an empty value is not a number, whatever its cas (do_add_delta in
    // memcached.c).
    let value_bytes = store.arena.value_bytes(old) as usize;
    if value_bytes == 0 {
        return Outcome::NonNumeric;
    }
    if arithmetic.cas != 0 && arithmetic.cas != store.arena.cas(old) {
        return Outcome::Exists;
    }
    work::note(value_bytes);
    let Some(before) = number::parse(store.arena.whole_value(old)) else {
        return Outcome::NonNumeric;
    };
    let value = if arithmetic.decrement {
        before.saturating_sub(arithmetic.delta)
    } else {
        before.wrapping_add(arithmetic.delta)
    };
    let digit_count = digits(value, &mut itoa::Buffer::new()).len();
    if digit_count <= value_bytes && store.arena.pins(old) == 0 {
        let cas = store.next_cas();
        store.arena.set_cas(old, cas);
        write_number(store, old, value, value_bytes);
        store.note_use(old, now);
        return Outcome::Number { value, cas };
    }
    let (flags, expiry) = (store.arena.flags(old), store.arena.expiry(old));
    // As long as in place: two tiers that count the same have the same bytes, whoever reads them.
    let number = (value, digit_count.max(value_bytes));
    let made =
        keeping(store, Some(old), now, |store| make_number(store, key, flags, expiry, number, now));
    let Some(item) = made else { return Outcome::OutOfMemory };
    store.unlink(old, tag);
    Outcome::Number { value, cas: store.link(item, tag) }
}

/// The commands, none of which waits.
impl Memory {
    #[inline(always)]
    fn get_now(&self, key: &[u8], now: Now) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        match store.find(key, store.tag(key), now) {
            Some(item) => self.hit(store, item, now),
            None => Outcome::Miss,
        }
    }

    fn get_and_touch_now(&self, key: &[u8], expiry: Expiry, now: Now) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        match store.find(key, store.tag(key), now) {
            Some(item) => {
                store.arena.set_expiry(item, expiry);
                self.hit(store, item, now)
            }
            None => Outcome::Miss,
        }
    }

    /// As [`Memory::store_now`], where no room is the end.
    #[inline]
    fn store_at_last(
        &self,
        key: &[u8],
        request: StoreRequest,
        value: Body<'_>,
        now: Now,
    ) -> Outcome<ItemValue> {
        match self.store_now(key, request, value, now) {
            Outcome::OutOfMemory => self.note_no_room(request),
            outcome => outcome,
        }
    }

    /// Counts a store that failed for want of room; returns its outcome.
    #[cold]
    fn note_no_room(&self, request: StoreRequest) -> Outcome<ItemValue> {
        self.store.borrow().stats.add(Counter::StoreNoMemory, 1);
        // memcached answers an append so for which it finds no memory.
        match request.mode {
            StoreMode::Append | StoreMode::Prepend => Outcome::NotStored,
            StoreMode::Set | StoreMode::Add | StoreMode::Replace => Outcome::OutOfMemory,
        }
    }

    /// As [`Memory::store_now`], for a store that may wait; None: there is no room.
    fn store_in_room(
        &self,
        key: &Key,
        request: StoreRequest,
        value: &Chain,
        now: Now,
    ) -> Option<Outcome<ItemValue>> {
        match self.store_now(key.as_bytes(), request, Body::Chain(value), now) {
            Outcome::OutOfMemory => None,
            outcome => {
                self.waiting.retry_soon();
                Some(outcome)
            }
        }
    }

    #[inline]
    fn store_now(
        &self,
        key: &[u8],
        request: StoreRequest,
        value: Body<'_>,
        now: Now,
    ) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        let tag = store.tag(key);
        let old = store.find(key, tag, now);
        if item_bytes(key, request.flags, value.len()) > store.item_bytes_max {
            store.stats.add(Counter::StoreTooLarge, 1);
            if request.mode == StoreMode::Set
                && let Some(old) = old
            {
                store.unlink(old, tag);
            }
            return Outcome::TooLarge;
        }
        match plan(store, request, old) {
            Ok(Plan::Write { old }) => write(store, key, tag, request, value, old, now),
            Ok(Plan::Extend { old }) => extend(store, key, tag, request, value, old, now),
            Err(outcome) => {
                // A refused add is a use of the item (do_store_item in memcached.c).
                if request.mode == StoreMode::Add
                    && let Some(old) = old
                {
                    store.note_use(old, now);
                }
                outcome
            }
        }
    }

    fn delete_now(&self, key: &[u8], cas: u64, now: Now) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        let tag = store.tag(key);
        let Some(item) = store.find(key, tag, now) else { return Outcome::Miss };
        if cas != 0 && cas != store.arena.cas(item) {
            return Outcome::Exists;
        }
        store.unlink(item, tag);
        Outcome::Deleted
    }

    fn touch_now(&self, key: &[u8], expiry: Expiry, now: Now) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        let tag = store.tag(key);
        let Some(item) = store.find(key, tag, now) else { return Outcome::Miss };
        store.arena.set_expiry(item, expiry);
        store.note_use(item, now);
        Outcome::Touched { cas: store.arena.cas(item) }
    }

    fn arithmetic_now(&self, key: &[u8], arithmetic: Arithmetic, now: Now) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        let tag = store.tag(key);
        if let Some(old) = store.find(key, tag, now) {
            return count(store, key, tag, arithmetic, old, now);
        }
        let Some((value, expiry)) = arithmetic.initial else { return Outcome::Miss };
        let digit_count = digits(value, &mut itoa::Buffer::new()).len();
        match make_number(store, key, 0, expiry, (value, digit_count), now) {
            Some(item) => Outcome::Number { value, cas: store.link(item, tag) },
            None => Outcome::OutOfMemory,
        }
    }

    fn flush_all_now(&self, at: Expiry, now: Now) -> Outcome<ItemValue> {
        self.store.borrow_mut().flush_all(at, now);
        Outcome::Flushed
    }

    /// Every action but a plain get.
    #[inline(never)]
    fn change_now(
        &self,
        key: &[u8],
        action: Action,
        value: Body<'_>,
        now: Now,
    ) -> Option<Outcome<ItemValue>> {
        Some(match action {
            Action::Get | Action::GetWithExpiry => self.get_now(key, now),
            Action::GetAndTouch { expiry } => self.get_and_touch_now(key, expiry, now),
            Action::Store(store) => match self.store_now(key, store, value, now) {
                // It may wait for some.
                Outcome::OutOfMemory => return None,
                outcome => outcome,
            },
            Action::StoreTooLarge => {
                self.delete_now(key, 0, now);
                Outcome::TooLarge
            }
            Action::StoreNoRoom => {
                self.delete_now(key, 0, now);
                Outcome::OutOfMemory
            }
            Action::Delete { cas } => self.delete_now(key, cas, now),
            Action::Touch { expiry } => self.touch_now(key, expiry, now),
            Action::Arithmetic(arithmetic) => self.arithmetic_now(key, arithmetic, now),
            Action::FlushAll { at } => self.flush_all_now(at, now),
        })
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
        now: Now,
        read: impl FnOnce(Option<Hit<&[u8]>>) -> bool,
    ) -> bool {
        let store = &mut *self.store.borrow_mut();
        let found = store.find(key, store.tag(key), now);
        let hit = found.and_then(|item| store.arena.whole(item));
        if hit.is_none() && found.is_some() || !read(hit) {
            return false;
        }
        if let Some(item) = found {
            store.note_read(item, now);
        }
        true
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

    fn fill_draft(
        &self,
        draft: Draft,
        offset: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> usize,
    ) -> usize {
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

    async fn flush_all(&self, at: Expiry, now: Now) -> Outcome<ItemValue> {
        self.flush_all_now(at, now)
    }

    fn is_far(&self) -> bool {
        self.store.borrow().items() >= FAR_ITEMS_MIN
    }

    #[inline]
    fn prefetch(&self, key: &[u8]) -> u32 {
        self.prefetch_index(key)
    }

    #[inline]
    fn prefetch_more(&self, foreseen: u32) {
        self.prefetch_item(foreseen);
    }

    async fn invalidate(&self, key: &Key, now: Now) {
        self.delete(key, 0, now).await;
    }

    fn is_starved(&self) -> bool {
        std::mem::take(&mut self.store.borrow_mut().is_starved)
    }

    fn turn(&self, now: Now) -> usize {
        Memory::turn(self, now);
        0
    }

    fn flush(&self, _now: Now) {}

    fn wake_at_us(&self) -> u64 {
        self.waiting.wake_at_us()
    }

    fn stand_alone(&self) {
        self.waiting.be_patient();
    }

    fn finish(&self, _clock: &Clock) -> bool {
        true
    }
}
