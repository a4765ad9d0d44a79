//! What the meta commands do to a key, once it is known what there is: as memcached 1.6.45 executes
//! them.
//!
//! Marks and a cas that a client chose are part of an item's record, which is written anew. While
//! nothing can be written, a get marks nothing and tells no client to fetch the item again.

use super::commands::{Stored, counted};
use super::disk::Disk;
use super::format::ItemMarks;
use super::log::Log;
use super::lookup::Item;
use crate::base::buffer::{Body, Chain};
use crate::base::clock::{Expiry, Now};
use crate::base::stats::Counter;
use crate::tier::meta::left_s;
use crate::tier::{
    Arithmetic, Hit, ItemInfo, ItemState, Meta, MetaFlags, MetaVerb, Outcome, StoreMode,
};

/// A key and its hash.
type Name<'k> = (&'k [u8], u64);

/// The largest cas.
const CAS_MAX: u64 = (1 << 62) - 1;

/// An item that was stored or marked.
fn changed(cas: u64, value_bytes: usize) -> Outcome<Chain> {
    let value_bytes = value_bytes as u32;
    Outcome::Changed(ItemInfo { cas, number: 0, value_bytes, left_s: 0, is_new: false })
}

fn expiry_of(item: &Item) -> Expiry {
    Expiry::from_unix_s(item.record.expiry_s)
}

impl<D: Disk> Log<D> {
    /// Carries out a meta command on a key that has the item `old`.
    pub(super) fn meta(
        &mut self,
        name: Name<'_>,
        meta: &Meta,
        value: Body<'_>,
        old: Option<Item>,
        now: Now,
    ) -> Outcome<Chain> {
        match (meta.verb, old) {
            (MetaVerb::Get, Some(item)) => self.meta_get(name, meta, item, now),
            (MetaVerb::Get, None) if meta.has(MetaFlags::VIVIFY) => self.vivify(name, meta, now),
            (MetaVerb::Debug, Some(item)) => {
                let state = self.state_of(name.1, &item, now);
                self.hit_with(item, state)
            }
            (MetaVerb::Store(mode), old) => self.meta_store(name, meta, (mode, value), old, now),
            (MetaVerb::Delete, Some(item)) => self.meta_delete(name, meta, item, now),
            (MetaVerb::Count { decrement }, old) => {
                self.meta_count(name, meta, (decrement, old), now)
            }
            (MetaVerb::Get | MetaVerb::Debug | MetaVerb::Delete, None) => Outcome::Miss,
        }
    }

    /// What is known of an item before a command changes it.
    fn state_of(&self, hash: u64, item: &Item, now: Now) -> ItemState {
        let ItemMarks { is_stale, is_token_sent } = item.record.marks;
        ItemState {
            is_stale,
            is_token_sent,
            is_won: false,
            is_fetched: self.index.is_used(item.slot, hash, item.unit),
            idle_s: 0,
            left_s: left_s(expiry_of(item), now),
        }
    }

    fn meta_get(
        &mut self,
        (key, hash): Name<'_>,
        meta: &Meta,
        mut item: Item,
        now: Now,
    ) -> Outcome<Chain> {
        let (before, old) = (item.record, expiry_of(&item));
        let mut state = self.state_of(hash, &item, now);
        state.left_s = meta.reported_left_s(old, now);
        if meta.has(MetaFlags::TOUCH) {
            item.record.expiry_s = meta.expiry.unix_s();
        }
        let is_wanted = meta.is_due(old) || state.is_stale;
        if is_wanted && !state.is_token_sent && !self.doubt.is_refusing() {
            item.record.marks.is_token_sent = true;
            state.is_won = true;
        }
        let is_use = !meta.has(MetaFlags::NO_USE);
        if item.record != before {
            self.put_again(key, hash, &item, now);
            if is_use || state.is_fetched {
                self.note_use_of(hash);
            }
        } else if is_use {
            self.index.note_use(item.slot, hash, item.unit);
        }
        self.hit_with(item, state)
    }

    /// An mg that found none and makes one, which others find while this client fetches its value.
    fn vivify(&mut self, (key, hash): Name<'_>, meta: &Meta, now: Now) -> Outcome<Chain> {
        if self.doubt.is_refusing() {
            return Outcome::Miss;
        }
        let expiry = meta.created_expiry();
        // With a cas, so that it is admitted: without the item every client would fetch the value.
        let cas = Some(meta.chosen_cas().unwrap_or(self.sequences.next_cas()));
        let marks = ItemMarks { is_stale: false, is_token_sent: true };
        let stored = Stored { cas, marks, ..Stored::new([Body::EMPTY; 2], 0, expiry) };
        let cas = self.put(key, hash, &stored, now);
        if !meta.has(MetaFlags::NO_USE) {
            self.note_use_of(hash);
        }
        let left_s = meta.created_left_s(now);
        let state = ItemState { is_won: true, left_s, ..ItemState::default() };
        let expiry = self.clock.host_expiry(expiry.unix_s());
        Outcome::Hit(Hit { flags: 0, expiry, cas, state, value: Chain::new() })
    }

    /// Counts a use of the item that was just written, if it was.
    fn note_use_of(&mut self, hash: u64) {
        let written = self.index.find(hash).next();
        if let Some(item) = written {
            self.index.note_use(item.slot, hash, item.unit);
        }
    }

    fn meta_store(
        &mut self,
        (key, hash): Name<'_>,
        meta: &Meta,
        (mode, value): (StoreMode, Body<'_>),
        old: Option<Item>,
        now: Now,
    ) -> Outcome<Chain> {
        if self.is_too_large(key, meta.flags, value.len()) {
            self.count(Counter::StoreTooLarge, 1);
            self.forget_all(hash);
            return Outcome::TooLarge;
        }
        let fields = Stored::new([value, Body::EMPTY], meta.flags, meta.expiry);
        let mut stored = Stored { cas: meta.chosen_cas(), ..fields };
        let is_extension = matches!(mode, StoreMode::Append | StoreMode::Prepend);
        match (mode, old) {
            (StoreMode::Set | StoreMode::Replace, None) if meta.has(MetaFlags::CAS) => {
                return Outcome::Miss;
            }
            (_, None) if is_extension && meta.has(MetaFlags::VIVIFY) => stored.expiry = meta.vivify,
            (StoreMode::Replace, None) => return Outcome::NotStored,
            (_, None) if is_extension => return Outcome::NotStored,
            (StoreMode::Add, Some(item)) => {
                // A refused add is a use of the item.
                self.index.note_use(item.slot, hash, item.unit);
                return Outcome::NotStored;
            }
            (_, Some(item)) if is_extension => {
                if meta.has(MetaFlags::CAS) && meta.cas != 0 && meta.cas != item.record.cas {
                    return Outcome::Exists;
                }
                let value_bytes = item.value.len() + value.len();
                let part = (mode == StoreMode::Prepend, value);
                return match self.extend(key, hash, part, meta.chosen_cas(), item, now) {
                    Some(cas) => changed(cas, value_bytes),
                    None => Outcome::NotStored,
                };
            }
            (_, Some(item)) if meta.has(MetaFlags::CAS) => {
                let cas = item.record.cas;
                match meta.cas {
                    0 => return Outcome::Exists,
                    asked if asked == cas => {}
                    asked if meta.has(MetaFlags::INVALIDATE) && asked < cas => {
                        // What is stored is out of date: it is served until a newer value comes.
                        stored.expiry = expiry_of(&item);
                        stored.marks = ItemMarks { is_stale: true, ..item.record.marks };
                    }
                    _ => return Outcome::Exists,
                }
            }
            (_, _) => {}
        }
        changed(self.put(key, hash, &stored, now), value.len())
    }

    fn meta_delete(
        &mut self,
        (key, hash): Name<'_>,
        meta: &Meta,
        mut item: Item,
        now: Now,
    ) -> Outcome<Chain> {
        let old_cas = item.record.cas;
        if meta.has(MetaFlags::CAS) && meta.cas != old_cas {
            return Outcome::Exists;
        }
        let is_stale = meta.has(MetaFlags::INVALIDATE);
        if !is_stale && !meta.has(MetaFlags::EMPTY) {
            self.forget_all(hash);
            return Outcome::Deleted;
        }
        let kept = if is_stale { self.cas_above(old_cas) } else { old_cas };
        let cas = meta.chosen_cas().unwrap_or(kept);
        // So the next client that asks is the one to fetch it again.
        let marks = ItemMarks { is_stale, is_token_sent: false };
        if meta.has(MetaFlags::EMPTY) {
            let fields = Stored::new([Body::EMPTY; 2], meta.flags, meta.expiry);
            self.put(key, hash, &Stored { cas: Some(cas), marks, ..fields }, now);
        } else {
            (item.record.cas, item.record.marks) = (cas, marks);
            if meta.has(MetaFlags::TOUCH) {
                item.record.expiry_s = meta.expiry.unix_s();
            }
            let is_fetched = self.index.is_used(item.slot, hash, item.unit);
            self.put_again(key, hash, &item, now);
            if is_fetched {
                self.note_use_of(hash);
            }
        }
        if is_stale { changed(cas, 0) } else { Outcome::Deleted }
    }

    /// A cas above one, so that a client that knows the item by it is recognized as late.
    fn cas_above(&self, cas: u64) -> u64 {
        let next = self.sequences.next_cas();
        if next <= cas && cas < CAS_MAX { cas + 1 } else { next }
    }

    fn meta_count(
        &mut self,
        (key, hash): Name<'_>,
        meta: &Meta,
        (decrement, old): (bool, Option<Item>),
        now: Now,
    ) -> Outcome<Chain> {
        let Some(mut item) = old else {
            if !meta.has(MetaFlags::VIVIFY) {
                return Outcome::Miss;
            }
            let (number, left_s) = (meta.initial, meta.created_left_s(now));
            let named = (meta.created_expiry(), meta.chosen_cas());
            let cas = self.put_first(key, hash, number, named, now);
            return Outcome::Changed(ItemInfo {
                cas,
                number,
                value_bytes: 0,
                left_s,
                is_new: true,
            });
        };
        let cas = if meta.has(MetaFlags::CAS) { meta.cas } else { 0 };
        let arithmetic = Arithmetic { decrement, delta: meta.delta, initial: None, cas };
        let number = match counted(&item, arithmetic) {
            Ok(number) => number,
            Err(outcome) => return outcome,
        };
        let left_s = meta.reported_left_s(expiry_of(&item), now);
        if meta.has(MetaFlags::TOUCH) {
            item.record.expiry_s = meta.expiry.unix_s();
        }
        let cas = self.put_number(key, hash, number, (&item, meta.chosen_cas()), now);
        Outcome::Changed(ItemInfo { cas, number, value_bytes: 0, left_s, is_new: false })
    }
}
