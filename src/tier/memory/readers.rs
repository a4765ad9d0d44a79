//! Items that replies hold which wait to leave, and what becomes of them when memory runs out.
//!
//! A reply holds its item, so a client that asks and does not read could keep memory from all
//! others. Once nothing else can be evicted, the value of an item goes whose readers have all made
//! no progress for a while; what is left of it is its header, as long as they hold it. They find
//! out when they go on. Nothing here may take an item from somebody who reads it, and what no reply
//! has kept yet is not a reader's that could have paused.

use super::arena::NIL;
use super::item::{CARE, KEPT, LINKED, LOST, units_of_head};
use super::store::Store;
use super::ticks::Pause;
use crate::base::clock::Now;
use crate::base::limits::ROOM_WAIT_US;
use crate::base::stats::Counter;

/// Memory is scarce with less than this fraction (1/n) of it free.
const SCARCE_SHARE: u32 = 8;

impl Store {
    /// A reader of an item that is pinned made progress, or begins to wait.
    pub fn note_reader(&mut self, item: u32, now: Now) {
        self.ticks.begin(&mut self.links, now);
        let bits = self.arena.bits(item);
        if bits & (KEPT | LOST) == 0 {
            self.arena.set_bits(item, bits | KEPT | CARE);
            self.kept_units += self.extent(item).1;
        }
        if bits & LINKED != 0 {
            self.move_to_front(item);
        } else if bits & LOST == 0 {
            self.arena.set_stamp(item, self.links);
            self.held.remove(&mut self.arena, item);
            self.held.push(&mut self.arena, item);
        }
    }

    /// Keeps what replies hold within their share while memory is scarce: takes an item from
    /// readers that have paused, before anybody needs it.
    pub fn limit_readers(&mut self, now: Now) {
        let is_scarce = self.arena.units_free() < self.arena.units_total() / SCARCE_SHARE;
        let is_due = is_scarce && now.uptime_us >= self.limit_at_us;
        if is_due && !self.take_from_readers(Pause::Long, now) {
            self.limit_at_us = now.uptime_us + ROOM_WAIT_US;
        }
    }

    /// Takes the value of an item from readers that have paused: of one that nobody else can find
    /// any more, else of the one that was used least recently. False if all have made progress.
    #[cold]
    pub fn take_from_readers(&mut self, pause: Pause, now: Now) -> bool {
        self.ticks.begin(&mut self.links, now);
        for is_linked in [false, true] {
            let mut item = if is_linked { self.lru.oldest } else { self.held.oldest };
            while item != NIL {
                if self.has_paused(item, pause) && self.is_worthwhile(item) {
                    if is_linked {
                        self.evict(item);
                    }
                    self.lose(item);
                    return true;
                }
                item = self.arena.newer(item);
            }
        }
        false
    }

    /// Whether the readers of an item made no progress in the time of `pause`.
    fn has_paused(&self, item: u32, pause: Pause) -> bool {
        let is_kept = self.arena.bits(item) & KEPT != 0;
        is_kept && self.ticks.is_older(self.arena.stamp(item), pause)
    }

    /// Whether an item has more memory than what would be left of it.
    fn is_worthwhile(&self, item: u32) -> bool {
        let head = units_of_head(usize::from(self.arena.key_bytes(item)));
        self.arena.link(item) != NIL || self.arena.units_of(item) > head
    }

    /// Gives the memory of the value of an item back that only readers hold.
    fn lose(&mut self, item: u32) {
        self.stats.add(Counter::EvictedUnread, 1);
        self.held.remove(&mut self.arena, item);
        let bits = self.arena.bits(item);
        self.arena.set_bits(item, bits & !KEPT | LOST);
        self.kept_units -= self.extent(item).1;
        let rest = self.arena.link(item);
        if rest != NIL {
            self.give(rest);
        }
        self.arena.set_link(item, NIL);
        let head = units_of_head(usize::from(self.arena.key_bytes(item)));
        self.arena.shrink(item, head);
        self.account();
    }
}
