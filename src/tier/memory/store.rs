//! The items of one worker: index, LRU list and arena kept in step.
//!
//! Here an item is made, found, linked, unlinked, evicted and given back. What a command means is
//! the caller's affair. An item's extents go back to the arena when it is neither linked nor
//! pinned. Those of its value go earlier if there is no other memory left and its readers have
//! paused: see `readers`.

use std::io;
use std::sync::Arc;

use rapidhash::v3::{RapidSecrets, rapidhash_v3_micro_inline};

use super::MemoryConfig;
use super::arena::{Arena, NIL, UNIT_BYTES};
use super::index::Index;
use super::item::{
    CARE, FETCHED, HEADER_BYTES, Head, KEPT, LINKED, Opened, room_in_head, room_in_piece,
    units_of_head, units_of_item, units_of_piece,
};
use super::ticks::{Pause, Ticks};
use crate::base::clock::{Expiry, Now};
use crate::base::limits::KEPT_SHARE;
use crate::base::secret;
use crate::base::stats::{Counter, WorkerStats};

/// Arena bytes for each slot of the index. At 7 of 8 slots in use an item has 91 bytes, header and
/// rounding included; where items are smaller than that, the index decides how many there are.
pub const ARENA_BYTES_PER_SLOT: usize = 80;

/// Items up to this size, in bytes, are worth a few evictions to lie in one extent: then a hit
/// touches one place.
const SMALL_ITEM_BYTES: usize = 1024;

/// How many evictions that is worth.
const SMALL_ITEM_EVICTIONS: usize = 8;

/// Smallest extent but the last of a value in pieces, in units: an eighth of it is header.
const PIECE_UNITS_MIN: u32 = 4;

/// Items looked at from the end of the LRU list for a dead one before a live one is evicted.
const TAIL_LOOKS: usize = 3;

/// The whole index is searched for dead items about once in this time, in microseconds: a little
/// longer where many are found, because a slot from which one was removed is looked at again.
const SWEEP_PERIOD_US: u64 = 60 * 1_000_000;

/// Slots of the index that one sweep looks at, at most.
const SWEEP_SLOTS_MAX: u64 = 128;

/// Why an item that is in the index must not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    Expired,
    Flushed,
}

/// A list of items, through their headers.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// Its front, or [`NIL`].
    pub newest: u32,
    /// Its end, or [`NIL`].
    pub oldest: u32,
}

impl List {
    const EMPTY: List = List { newest: NIL, oldest: NIL };

    /// Adds an item at the front.
    #[inline]
    pub fn push(&mut self, arena: &mut Arena, item: u32) {
        arena.set_newer(item, NIL);
        arena.set_older(item, self.newest);
        if self.newest == NIL {
            self.oldest = item;
        } else {
            arena.set_newer(self.newest, item);
        }
        self.newest = item;
    }

    /// Removes an item.
    #[inline]
    pub fn remove(&mut self, arena: &mut Arena, item: u32) {
        let (newer, older) = (arena.newer(item), arena.older(item));
        if newer == NIL {
            self.newest = older;
        } else {
            arena.set_older(newer, older);
        }
        if older == NIL {
            self.oldest = newer;
        } else {
            arena.set_newer(older, newer);
        }
    }
}

/// Index, LRU list and arena.
#[derive(Debug)]
pub struct Store {
    /// Something could not be stored, since readers hold what would have to go for it.
    pub is_starved: bool,
    /// A store has waited for room for so long that readers may lose theirs sooner.
    pub is_pressed: bool,
    /// The second in which the gauges were brought up to date.
    pub reported_s: u32,
    pub arena: Arena,
    pub index: Index,
    pub stats: Arc<WorkerStats>,
    pub item_bytes_max: usize,
    secrets: RapidSecrets,
    /// Linked items, from the most to the least recently used.
    pub lru: List,
    /// Items that only readers hold and whose value is not lost.
    pub held: List,
    items: u32,
    /// Links ever made, and ticks in which a reader made progress, modulo 2^32: the order of uses.
    pub links: u32,
    pub ticks: Ticks,
    /// Uptime at which nothing could be evicted, in microseconds.
    starved_us: Option<u64>,
    /// When readers are looked at again that hold more than their share, as an uptime in
    /// microseconds.
    pub limit_at_us: u64,
    /// Units of items that replies keep.
    pub kept_units: u32,
    /// With more of them, who has paused loses some before anybody needs them.
    pub kept_units_max: u32,
    cas_next: u64,
    cas_step: u64,
    /// Items with a smaller cas are flushed.
    flushed_below: u64,
    /// A flush_all that is to come, in seconds of Unix time.
    flush_at_s: Option<u32>,
    /// Units that drafts hold.
    pub drafted_units: u32,
    sweep_slot: usize,
    /// Uptime up to which the sweep is done, in microseconds.
    swept_us: u64,
}

impl Store {
    pub fn new(config: MemoryConfig) -> io::Result<Store> {
        let arena = Arena::new(config.bytes)?;
        let units_total = arena.units_total();
        let slots = units_total as usize * UNIT_BYTES / ARENA_BYTES_PER_SLOT;
        Ok(Store {
            is_starved: false,
            is_pressed: false,
            reported_s: 0,
            arena,
            index: Index::new(slots)?,
            stats: config.stats,
            item_bytes_max: config.item_bytes_max,
            secrets: RapidSecrets::seed(u64::from_ne_bytes(secret::random())),
            lru: List::EMPTY,
            held: List::EMPTY,
            items: 0,
            links: 0,
            ticks: Ticks::default(),
            starved_us: None,
            limit_at_us: 0,
            kept_units: 0,
            kept_units_max: units_total / KEPT_SHARE,
            cas_next: config.worker as u64 + 1,
            cas_step: config.workers as u64,
            flushed_below: 0,
            flush_at_s: None,
            drafted_units: 0,
            sweep_slot: 0,
            swept_us: 0,
        })
    }

    /// The 32 bits of a key's hash that the index goes by.
    #[inline]
    pub fn tag(&self, key: &[u8]) -> u32 {
        (rapidhash_v3_micro_inline::<true, false>(key, &self.secrets) >> 32) as u32
    }

    pub fn next_cas(&mut self) -> u64 {
        let cas = self.cas_next;
        self.cas_next += self.cas_step;
        cas
    }

    pub fn items(&self) -> u32 {
        self.items
    }

    /// Least recently used item, or [`NIL`].
    pub fn oldest(&self) -> u32 {
        self.lru.oldest
    }

    #[inline(always)]
    fn death(&self, item: u32, now: Now) -> Option<Death> {
        let (expiry, cas) = self.arena.vitals(item);
        if cas < self.flushed_below {
            Some(Death::Flushed)
        } else if expiry.is_past(now) {
            Some(Death::Expired)
        } else {
            None
        }
    }

    /// The live item of `key`. A dead one is removed and counted.
    #[inline(always)]
    pub fn find(&mut self, key: &[u8], tag: u32, now: Now) -> Option<u32> {
        if self.flush_at_s.is_some() {
            self.flush_if_due(now);
        }
        let arena = &self.arena;
        let item = self.index.find(tag, |item| arena.has_key(item, key))?;
        match self.death(item, now) {
            None => Some(item),
            Some(death) => {
                self.bury(item, tag, death);
                None
            }
        }
    }

    /// Removes a dead item that was asked for.
    #[cold]
    fn bury(&mut self, item: u32, tag: u32, death: Death) {
        match death {
            Death::Flushed => self.stats.add(Counter::GetFlushed, 1),
            Death::Expired => self.stats.add(Counter::GetExpired, 1),
        }
        self.unlink(item, tag);
    }

    /// Notes a use of a linked item: at the front of the LRU list it cannot be evicted soon.
    ///
    /// An item moves at most once while an eighth as many items as there are were linked: so many
    /// evictions at most can choose it sooner than they should, and reads alone move nothing.
    #[inline]
    pub fn note_use(&mut self, item: u32, now: Now) {
        self.arena.set_used_s(item, now.unix_s);
        self.refresh(item, self.arena.stamp(item));
    }

    /// As [`Store::note_use`], and somebody has read it.
    #[inline(always)]
    pub fn note_read(&mut self, item: u32, now: Now) {
        let stamp = self.arena.mark_read(item, now.unix_s);
        self.refresh(item, stamp);
    }

    /// Moves a linked item to the front of the LRU list, if its stamp is old.
    #[inline]
    fn refresh(&mut self, item: u32, stamp: u32) {
        if self.links.wrapping_sub(stamp) > self.items / 8 {
            self.move_to_front(item);
        }
    }

    /// Holds a linked item for a reader; None if so many hold it that one more could not be
    /// counted. A use, as in [`Store::note_use`].
    #[inline(always)]
    pub fn open(&mut self, item: u32, now: Now) -> Option<Opened> {
        let opened = self.arena.open(item, now.unix_s)?;
        self.refresh(item, opened.stamp);
        Some(opened)
    }

    pub fn move_to_front(&mut self, item: u32) {
        self.arena.set_stamp(item, self.links);
        if self.lru.newest != item {
            self.lru.remove(&mut self.arena, item);
            self.lru.push(&mut self.arena, item);
        }
    }

    /// Makes an item with header and key; its value is still to be written. It is not linked: the
    /// caller links it or gives it back before it makes another, or asks [`Store::make_place`] for
    /// its place in the index again. Evicts, but never what is pinned.
    pub fn make(
        &mut self,
        key: &[u8],
        flags: u32,
        expiry: Expiry,
        value_bytes: usize,
        now: Now,
    ) -> Option<u32> {
        if !self.make_place(now) {
            return None;
        }
        let item = self.allocate(key.len(), value_bytes, now)?;
        let head = Head {
            cas: 0,
            expiry,
            flags,
            // Bounded by item_bytes_max, which Memory::new bounds.
            value_bytes: value_bytes as u32,
            stamp: 0,
            used_s: now.unix_s,
        };
        self.arena.write_head(item, key, &head);
        Some(item)
    }

    /// Sees to it that the index has room for one more item; false if readers hold all there are.
    pub fn make_place(&mut self, now: Now) -> bool {
        while self.index.is_full() {
            if !self.evict_one(now) {
                return false;
            }
        }
        true
    }

    /// Puts a finished item where it is found, under a new cas, which is returned. Nothing else may
    /// be linked under its key.
    pub fn link(&mut self, item: u32, tag: u32) -> u64 {
        let cas = self.next_cas();
        self.arena.set_cas(item, cas);
        self.links = self.links.wrapping_add(1);
        self.arena.set_stamp(item, self.links);
        self.arena.set_bits(item, LINKED);
        self.index.insert(tag, item);
        self.lru.push(&mut self.arena, item);
        self.items += 1;
        self.stats.add(Counter::TotalItems, 1);
        self.account();
        cas
    }

    /// As if a linked item nobody holds was unlinked and another of the same size linked in its
    /// place, under a new cas, which is returned. The value is still to be written.
    pub fn relink(&mut self, item: u32, flags: u32, expiry: Expiry, now: Now) -> u64 {
        debug_assert_eq!(self.arena.pins(item), 0);
        let cas = self.next_cas();
        self.arena.set_cas(item, cas);
        self.arena.set_flags(item, flags);
        self.arena.set_expiry(item, expiry);
        self.arena.set_used_s(item, now.unix_s);
        self.arena.set_bits(item, LINKED);
        self.links = self.links.wrapping_add(1);
        self.move_to_front(item);
        self.stats.add(Counter::TotalItems, 1);
        cas
    }

    /// Takes a linked item out of sight. Its memory goes back once no reader holds it.
    pub fn unlink(&mut self, item: u32, tag: u32) {
        let bits = self.arena.bits(item);
        assert!(bits & LINKED != 0, "only a linked item is unlinked");
        self.arena.set_bits(item, bits & !LINKED | CARE);
        self.index.remove(tag, item);
        self.lru.remove(&mut self.arena, item);
        self.items -= 1;
        if self.arena.pins(item) == 0 {
            self.give(item);
        } else {
            self.held.push(&mut self.arena, item);
        }
        self.account();
    }

    /// Holds an item, which is no use of it; false if so many hold it that one more could not be
    /// counted.
    #[inline]
    pub fn pin(&mut self, item: u32) -> bool {
        let Some(pins) = self.arena.pins(item).checked_add(1) else { return false };
        self.arena.set_pins(item, pins);
        true
    }

    /// Lets go of an item.
    #[inline(always)]
    pub fn unpin(&mut self, item: u32) {
        if self.arena.close(item) {
            self.give_held(item);
        }
    }

    /// The last reader of an item with [`CARE`] has let go of it.
    #[cold]
    fn give_held(&mut self, item: u32) {
        let bits = self.arena.bits(item);
        if bits & KEPT != 0 {
            self.kept_units -= self.extent(item).1;
        }
        if bits & LINKED != 0 {
            return self.arena.set_bits(item, bits & !(KEPT | CARE));
        }
        if !self.arena.is_lost(item) {
            self.held.remove(&mut self.arena, item);
        }
        self.give(item);
        self.account();
    }

    /// How many extents an item has, and how many units together.
    pub fn extent(&self, item: u32) -> (usize, u32) {
        let (mut extents, mut units, mut next) = (0, 0, item);
        while next != NIL {
            extents += 1;
            units += self.arena.units_of(next);
            next = self.arena.link(next);
        }
        (extents, units)
    }

    /// Gives all extents of an item back to the arena.
    pub fn give(&mut self, item: u32) {
        let mut extent = item;
        while extent != NIL {
            let next = self.arena.link(extent);
            self.arena.give(extent);
            extent = next;
        }
    }

    pub fn account(&self) {
        self.stats.set(Counter::CurrItems, u64::from(self.items));
        self.stats.set(Counter::Bytes, self.bytes_used() as u64);
    }

    /// Bytes of the arena in use: headers, rounding and items that only readers hold included.
    pub fn bytes_used(&self) -> usize {
        (self.arena.units_total() - self.arena.units_free()) as usize * UNIT_BYTES
    }

    /// Whether an item lies in one extent that is just the right size for another value.
    pub fn fits_exactly(&self, item: u32, key_bytes: usize, value_bytes: usize) -> bool {
        self.arena.link(item) == NIL
            && self.arena.units_of(item) == units_of_item(key_bytes, value_bytes)
    }

    /// Extents for an item: one if that is cheap, else several.
    fn allocate(&mut self, key_bytes: usize, value_bytes: usize, now: Now) -> Option<u32> {
        let units = units_of_item(key_bytes, value_bytes);
        if units > self.arena.units_total() {
            return None;
        }
        if let Some(item) = self.arena.take(units) {
            return Some(item);
        }
        if HEADER_BYTES + key_bytes + value_bytes <= SMALL_ITEM_BYTES {
            for _ in 0..SMALL_ITEM_EVICTIONS {
                if !self.evict_one(now) {
                    break;
                }
                if let Some(item) = self.arena.take(units) {
                    return Some(item);
                }
            }
        } else {
            // All that is needed is evicted first: holes that grow together make fewer pieces.
            while self.arena.units_free() < units && self.evict_one(now) {}
        }
        self.allocate_pieces(units, key_bytes, value_bytes, now)
    }

    /// Extents for an item, the largest first. The first holds header and key.
    fn allocate_pieces(
        &mut self,
        units: u32,
        key_bytes: usize,
        value_bytes: usize,
        now: Now,
    ) -> Option<u32> {
        let item = self.take_or_evict(units, units_of_head(key_bytes), now)?;
        let mut left =
            value_bytes.saturating_sub(room_in_head(self.arena.units_of(item), key_bytes));
        let mut last = item;
        while left > 0 {
            let units = units_of_piece(left);
            let Some(piece) = self.take_or_evict(units, units.min(PIECE_UNITS_MIN), now) else {
                self.give(item);
                self.account();
                return None;
            };
            self.arena.set_link(last, piece);
            last = piece;
            left = left.saturating_sub(room_in_piece(self.arena.units_of(piece)));
        }
        Some(item)
    }

    fn take_or_evict(&mut self, units: u32, units_min: u32, now: Now) -> Option<u32> {
        loop {
            if let Some(extent) = self.arena.take_up_to(units, units_min) {
                return Some(extent);
            }
            if !self.evict_one(now) {
                return None;
            }
        }
    }

    /// Removes the least recently used item that no reader holds, or a dead one close to it, or
    /// takes one from readers that have paused; false if none have. What readers hold moves to the
    /// front: it is in use.
    fn evict_one(&mut self, now: Now) -> bool {
        let mut item = self.lru.oldest;
        for _ in 0..TAIL_LOOKS {
            if item == NIL {
                break;
            }
            if self.arena.pins(item) == 0 && self.reclaim_if_dead(item, now) {
                return true;
            }
            item = self.arena.newer(item);
        }
        for _ in 0..self.items {
            let item = self.lru.oldest;
            if self.arena.pins(item) == 0 {
                self.evict(item);
                return true;
            }
            // It was found in this turn already: to look at all that is held for each of many
            // stores would take long.
            if self.starved_us == Some(now.uptime_us) {
                return false;
            }
            // Without a new stamp: that says when its readers made progress.
            self.lru.remove(&mut self.arena, item);
            self.lru.push(&mut self.arena, item);
        }
        let pause = if self.is_pressed { Pause::Short } else { Pause::Long };
        let is_taken = self.take_from_readers(pause, now);
        if !is_taken {
            self.is_starved = true;
            self.starved_us = Some(now.uptime_us);
        }
        is_taken
    }

    /// Removes a live item to make room.
    pub fn evict(&mut self, item: u32) {
        self.stats.add(Counter::Evictions, 1);
        if self.arena.bits(item) & FETCHED == 0 {
            self.stats.add(Counter::EvictedUnfetched, 1);
        }
        let tag = self.tag(self.arena.key(item));
        self.unlink(item, tag);
    }

    /// Removes a linked item if it is dead.
    fn reclaim_if_dead(&mut self, item: u32, now: Now) -> bool {
        let Some(death) = self.death(item, now) else { return false };
        if death == Death::Expired {
            self.stats.add(Counter::Reclaimed, 1);
            if self.arena.bits(item) & FETCHED == 0 {
                self.stats.add(Counter::ExpiredUnfetched, 1);
            }
        }
        let tag = self.tag(self.arena.key(item));
        self.unlink(item, tag);
        true
    }

    /// Looks at the next few slots of the index and removes what is dead, at a pace that visits
    /// all in about [`SWEEP_PERIOD_US`]. Bounded by [`SWEEP_SLOTS_MAX`].
    pub fn sweep(&mut self, now: Now) {
        if self.flush_at_s.is_some() {
            self.flush_if_due(now);
        }
        let slots = self.index.slots() as u64;
        let elapsed_us = now.uptime_us.saturating_sub(self.swept_us);
        let due = slots.saturating_mul(elapsed_us) / SWEEP_PERIOD_US;
        if due == 0 {
            return;
        }
        if due > SWEEP_SLOTS_MAX {
            // Behind: the rest is not caught up with, so that it cannot pile up.
            self.swept_us = now.uptime_us;
        } else {
            self.swept_us += due * SWEEP_PERIOD_US / slots;
        }
        for _ in 0..due.min(SWEEP_SLOTS_MAX) {
            let dead = match self.index.item_in(self.sweep_slot) {
                Some(item) => self.reclaim_if_dead(item, now),
                None => false,
            };
            // Where one was removed, another may have moved in.
            if !dead {
                self.sweep_slot += 1;
                if self.sweep_slot == self.index.slots() {
                    self.sweep_slot = 0;
                }
            }
        }
    }

    /// Flushes now, or at a second to come; either way a flush that was to come is forgotten. As in
    /// memcached a flush that begins at once consumes a cas number, and a later one does not.
    pub fn flush_all(&mut self, at: Expiry, now: Now) {
        self.flush_if_due(now);
        let at_s = at.unix_s();
        if at_s == 0 || at_s <= now.unix_s {
            self.flush_at_s = None;
            self.flushed_below = self.next_cas();
            return;
        }
        self.flush_at_s = Some(at_s);
    }

    /// Flushes if it is time. It is asked before anything is looked for and so before anything is
    /// linked: what is there now was stored before that second.
    #[cold]
    fn flush_if_due(&mut self, now: Now) {
        let Some(at_s) = self.flush_at_s else { return };
        if now.unix_s >= at_s {
            self.flushed_below = self.cas_next;
            self.flush_at_s = None;
        }
    }
}
