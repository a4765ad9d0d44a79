//! What the commands do to a key, once it is known what there is.
//!
//! Each is carried out at once: whoever had to read first has done so. They mean what they mean in
//! memcached. What cannot be written, because the disk has too much to do or the policy does not
//! admit it, is treated as stored and lost at once, as a cache may: what was there before is
//! forgotten, and the client is told that it was stored.

use super::disk::Disk;
use super::doubt::changes;
use super::format::{Kind, Link, RECORD_HEADER_BYTES};
use super::log::Log;
use super::lookup::Item;
use super::writer::{Need, NewRecord};
use crate::base::buffer::{Body, Chain, Gather};
use crate::base::clock::{Expiry, Now};
use crate::base::limits::item_bytes;
use crate::base::stats::Counter;
use crate::base::work;
use crate::tier::memory::number;
use crate::tier::{Action, Arithmetic, Hit, ItemState, Outcome, Store, StoreMode};

/// What an item is stored with.
struct Stored<'a> {
    value: [Body<'a>; 2],
    flags: u32,
    expiry: Expiry,
    /// None: one of its own.
    cas: Option<u64>,
}

impl<D: Disk> Log<D> {
    /// Carries out `action` on a key that has the item `old`.
    pub(super) fn act(
        &mut self,
        key: &[u8],
        hash: u64,
        action: Action,
        value: Body<'_>,
        old: Option<Item>,
        now: Now,
    ) -> Outcome<Chain> {
        // It could not be remembered.
        if self.doubt.is_refusing() && changes(action) {
            return Outcome::Failed;
        }
        let old = old.filter(|item| !self.is_flushed(item));
        match self.on_own_clock(action) {
            Action::Get | Action::GetWithExpiry => match old {
                Some(item) => {
                    self.index.note_use(item.slot, hash, item.unit);
                    self.hit(item)
                }
                None => Outcome::Miss,
            },
            Action::GetAndTouch { expiry } => match self.touch(key, hash, expiry, old, now) {
                Some(item) => self.hit(item),
                None => Outcome::Miss,
            },
            Action::Touch { expiry } => match self.touch(key, hash, expiry, old, now) {
                Some(item) => Outcome::Touched { cas: item.record.cas },
                None => Outcome::Miss,
            },
            Action::Store(store) => self.store(key, hash, store, value, old, now),
            Action::StoreTooLarge => {
                self.forget_all(hash);
                Outcome::TooLarge
            }
            Action::StoreNoRoom => {
                self.forget_all(hash);
                Outcome::OutOfMemory
            }
            Action::Delete { cas } => match old {
                None => Outcome::Miss,
                Some(item) if cas != 0 && cas != item.record.cas => Outcome::Exists,
                Some(_) => {
                    self.forget_all(hash);
                    Outcome::Deleted
                }
            },
            Action::Arithmetic(arithmetic) => self.arithmetic(key, hash, arithmetic, old, now),
            // The parser refuses them.
            Action::Meta(_) => Outcome::Failed,
            Action::FlushAll { .. } => unreachable!("concerns no key"),
        }
    }

    /// The same action by the log's own clock.
    fn on_own_clock(&self, action: Action) -> Action {
        if self.clock.is_hosts() {
            return action;
        }
        let own = |expiry| self.clock.own_expiry(expiry);
        match action {
            Action::GetAndTouch { expiry } => Action::GetAndTouch { expiry: own(expiry) },
            Action::Touch { expiry } => Action::Touch { expiry: own(expiry) },
            Action::Store(store) => Action::Store(Store { expiry: own(store.expiry), ..store }),
            Action::Arithmetic(arithmetic) => {
                let initial = arithmetic.initial.map(|(value, expiry)| (value, own(expiry)));
                Action::Arithmetic(Arithmetic { initial, ..arithmetic })
            }
            Action::Get
            | Action::GetWithExpiry
            | Action::StoreTooLarge
            | Action::StoreNoRoom
            | Action::Delete { .. }
            | Action::Meta(_)
            | Action::FlushAll { .. } => action,
        }
    }

    /// Writes an item with a new expiry.
    fn touch(
        &mut self,
        key: &[u8],
        hash: u64,
        expiry: Expiry,
        old: Option<Item>,
        now: Now,
    ) -> Option<Item> {
        let mut item = old?;
        work::note(item.value.len());
        let uses = Body::Chain(&item.value);
        let stored = Stored {
            value: [uses, Body::EMPTY],
            flags: item.record.flags,
            expiry,
            cas: Some(item.record.cas),
        };
        self.put(key, hash, &stored, now);
        item.record.expiry_s = expiry.unix_s();
        Some(item)
    }

    fn store(
        &mut self,
        key: &[u8],
        hash: u64,
        store: Store,
        value: Body<'_>,
        old: Option<Item>,
        now: Now,
    ) -> Outcome<Chain> {
        let Store { mode, flags, expiry, cas } = store;
        if self.is_too_large(key, flags, value.len()) {
            self.count(Counter::StoreTooLarge, 1);
            if mode == StoreMode::Set {
                self.forget_all(hash);
            }
            return Outcome::TooLarge;
        }
        let is_extension = matches!(mode, StoreMode::Append | StoreMode::Prepend);
        // A plain set does not ask what there is.
        if mode == StoreMode::Set && cas == 0 {
            let stored = Stored { value: [value, Body::EMPTY], flags, expiry, cas: None };
            return Outcome::Stored { cas: self.put(key, hash, &stored, now) };
        }
        let Some(item) = old else {
            return match mode {
                _ if is_extension => Outcome::NotStored,
                // memcached makes a cas of any set, add or replace that names one.
                _ if cas != 0 => Outcome::Miss,
                StoreMode::Add => {
                    let stored = Stored { value: [value, Body::EMPTY], flags, expiry, cas: None };
                    Outcome::Stored { cas: self.put(key, hash, &stored, now) }
                }
                _ => Outcome::NotStored,
            };
        };
        if cas != 0 && cas != item.record.cas {
            return Outcome::Exists;
        }
        if mode == StoreMode::Add && cas == 0 {
            self.index.note_use(item.slot, hash, item.unit);
            return Outcome::NotStored;
        }
        if !is_extension {
            let stored = Stored { value: [value, Body::EMPTY], flags, expiry, cas: None };
            return Outcome::Stored { cas: self.put(key, hash, &stored, now) };
        }
        let flags = item.record.flags;
        if self.is_too_large(key, flags, item.value.len() + value.len()) {
            // Not `TooLarge`: memcached says so only of the part that was sent.
            return Outcome::NotStored;
        }
        work::note(item.value.len());
        let kept = Body::Chain(&item.value);
        let value = if mode == StoreMode::Append { [kept, value] } else { [value, kept] };
        let expiry = Expiry::from_unix_s(item.record.expiry_s);
        let stored = Stored { value, flags, expiry, cas: None };
        Outcome::Stored { cas: self.put(key, hash, &stored, now) }
    }

    fn arithmetic(
        &mut self,
        key: &[u8],
        hash: u64,
        arithmetic: Arithmetic,
        old: Option<Item>,
        now: Now,
    ) -> Outcome<Chain> {
        let mut digits = itoa::Buffer::new();
        let Some(item) = old else {
            let Some((value, expiry)) = arithmetic.initial else { return Outcome::Miss };
            let digits = digits.format(value).as_bytes();
            let stored =
                Stored { value: [Body::Slice(digits), Body::EMPTY], flags: 0, expiry, cas: None };
            return Outcome::Number { value, cas: self.put(key, hash, &stored, now) };
        };
        // In this order: an empty value is not a number, whatever its cas (do_add_delta in
        // memcached.c).
        if item.value.is_empty() {
            return Outcome::NonNumeric;
        }
        if arithmetic.cas != 0 && arithmetic.cas != item.record.cas {
            return Outcome::Exists;
        }
        work::note(item.value.len());
        let Some(before) = number::parse(item.value.pieces()) else {
            return Outcome::NonNumeric;
        };
        let value = if arithmetic.decrement {
            before.saturating_sub(arithmetic.delta)
        } else {
            before.wrapping_add(arithmetic.delta)
        };
        let digits = digits.format(value).as_bytes();
        let mut padding = Gather::new();
        padding.fill(item.value.len().saturating_sub(digits.len()), |_, out| {
            out.fill(b' ');
            out.len()
        });
        let padding = padding.finish();
        let stored = Stored {
            value: [Body::Slice(digits), Body::Chain(&padding)],
            flags: item.record.flags,
            expiry: Expiry::from_unix_s(item.record.expiry_s),
            cas: None,
        };
        Outcome::Number { value, cas: self.put(key, hash, &stored, now) }
    }

    fn is_too_large(&self, key: &[u8], flags: u32, value_bytes: usize) -> bool {
        self.admission.is_too_large(item_bytes(key.len(), flags, value_bytes))
            || RECORD_HEADER_BYTES + key.len() + value_bytes > self.record_bytes_max()
    }

    /// Makes an item the key's only one, or leaves the key without any. Returns the item's cas, or
    /// one that no item has.
    fn put(&mut self, key: &[u8], hash: u64, stored: &Stored<'_>, now: Now) -> u64 {
        let old = self.index.take(hash);
        // Rare: records of other keys that cannot be told from the key's without reading.
        self.forget_all(hash);
        self.drain_kills(now);
        let is_refused = stored.expiry.is_past(now)
            || (!self.admission.admits(hash) && old.is_none() && stored.cas.is_none());
        let cas = if is_refused {
            let counter = u64::from(!stored.expiry.is_past(now));
            self.count(Counter::SsdNotAdmitted, counter);
            None
        } else {
            let cas = self.put_record(key, hash, stored, old, now);
            if cas.is_none() {
                self.count(Counter::SsdNotWritten, 1);
                self.doubt.was_not_written(now);
            }
            cas
        };
        match (cas, old) {
            (Some(cas), _) => cas,
            (None, Some(old)) => {
                self.kill(old);
                self.sequences.unused_cas()
            }
            (None, None) => self.sequences.unused_cas(),
        }
    }

    fn put_record(
        &mut self,
        key: &[u8],
        hash: u64,
        stored: &Stored<'_>,
        old: Option<u64>,
        now: Now,
    ) -> Option<u64> {
        if self.is_killing() {
            return None;
        }
        let segments = &self.segments;
        let age = |unit: u64| {
            let segment = segments.locate(unit).map(|(segment, _)| segment);
            segment.map_or(0, |segment| segments.get(segment).last_sequence)
        };
        let at = self.index.new_slot(hash, age);
        // Taking the old one out has left a place free: there is one record to kill at most.
        let gone = old.or(at.evicted);
        let kills = gone.map_or(Link::NONE, |unit| self.segments.link(unit));
        let expiry_s = stored.expiry.unix_s();
        let record = NewRecord {
            kind: Kind::Item,
            hash,
            key,
            value: stored.value,
            flags: stored.flags,
            expiry_s,
            cas: stored.cas,
            kills: if self.segments.target(kills).is_some() { kills } else { Link::NONE },
            class: self.segments.class(expiry_s, now),
        };
        let added = self.append(&record, Need::Wish)?;
        self.count(Counter::SsdEvicted, u64::from(at.evicted.is_some()));
        self.index.put(at, hash, added.unit, added.span);
        let set_bytes = key.len() + stored.value.iter().map(Body::len).sum::<usize>();
        self.count(Counter::SsdBytesSet, set_bytes as u64);
        Some(added.cas)
    }

    fn hit(&self, item: Item) -> Outcome<Chain> {
        Outcome::Hit(Hit {
            flags: item.record.flags,
            expiry: self.clock.host_expiry(item.record.expiry_s),
            cas: item.record.cas,
            state: ItemState::default(),
            value: item.value,
        })
    }
}
