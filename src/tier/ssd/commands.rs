//! What the commands do to a key, once it is known what there is.
//!
//! Each is carried out at once: whoever had to read first has done so. They mean what they mean in
//! memcached. What cannot be written, because the disk has too much to do or the policy does not
//! admit it, is treated as stored and lost at once, as a cache may: what was there before is
//! forgotten, and the client is told that it was stored.

use super::disk::Disk;
use super::doubt::changes;
use super::format::{ItemMarks, Kind, Link, RECORD_HEADER_BYTES, Record};
use super::log::Log;
use super::lookup::Item;
use super::writer::{Need, NewRecord};
use crate::base::buffer::{Body, Chain, Gather};
use crate::base::clock::{Expiry, Now};
use crate::base::limits::item_bytes;
use crate::base::stats::Counter;
use crate::base::work;
use crate::tier::memory::number;
use crate::tier::{Action, Arithmetic, Hit, ItemState, Meta, Outcome, Store, StoreMode};

/// What an item is stored with.
pub(super) struct Stored<'a> {
    pub value: [Body<'a>; 2],
    pub flags: u32,
    pub expiry: Expiry,
    /// None: one of its own.
    pub cas: Option<u64>,
    pub marks: ItemMarks,
}

impl<'a> Stored<'a> {
    /// An item with a cas of its own.
    pub(super) fn new(value: [Body<'a>; 2], flags: u32, expiry: Expiry) -> Stored<'a> {
        Stored { value, flags, expiry, cas: None, marks: ItemMarks::default() }
    }
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
            Action::Meta(meta) => self.meta((key, hash), &meta, value, old, now),
            Action::FlushAll { .. } | Action::Dump { .. } => unreachable!("concerns no key"),
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
            Action::Meta(meta) => Action::Meta(Meta {
                expiry: own(meta.expiry),
                vivify: own(meta.vivify),
                recache: own(meta.recache),
                ..meta
            }),
            Action::Get
            | Action::GetWithExpiry
            | Action::StoreTooLarge
            | Action::StoreNoRoom
            | Action::Delete { .. }
            | Action::FlushAll { .. }
            | Action::Dump { .. } => action,
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
        item.record.expiry_s = expiry.unix_s();
        self.put_again(key, hash, &item, now);
        Some(item)
    }

    /// Writes an item whose head was changed.
    pub(super) fn put_again(&mut self, key: &[u8], hash: u64, item: &Item, now: Now) {
        let Record { flags, expiry_s, cas, marks, .. } = item.record;
        work::note(item.value.len());
        let stored = Stored {
            value: [Body::Chain(&item.value), Body::EMPTY],
            flags,
            expiry: Expiry::from_unix_s(expiry_s),
            cas: Some(cas),
            marks,
        };
        self.put(key, hash, &stored, now);
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
            let stored = Stored::new([value, Body::EMPTY], flags, expiry);
            return Outcome::Stored { cas: self.put(key, hash, &stored, now) };
        }
        let Some(item) = old else {
            return match mode {
                _ if is_extension => Outcome::NotStored,
                // memcached makes a cas of any set, add or replace that names one.
                _ if cas != 0 => Outcome::Miss,
                StoreMode::Add => {
                    let stored = Stored::new([value, Body::EMPTY], flags, expiry);
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
            let stored = Stored::new([value, Body::EMPTY], flags, expiry);
            return Outcome::Stored { cas: self.put(key, hash, &stored, now) };
        }
        let is_before = mode == StoreMode::Prepend;
        match self.extend(key, hash, (is_before, value), None, item, now) {
            Some(cas) => Outcome::Stored { cas },
            // Not `TooLarge`: memcached says so only of the part that was sent.
            None => Outcome::NotStored,
        }
    }

    /// Adds to the value of an item, and returns its cas. None: it would be too large.
    pub(super) fn extend(
        &mut self,
        key: &[u8],
        hash: u64,
        (is_before, value): (bool, Body<'_>),
        cas: Option<u64>,
        item: Item,
        now: Now,
    ) -> Option<u64> {
        let flags = item.record.flags;
        if self.is_too_large(key, flags, item.value.len() + value.len()) {
            return None;
        }
        work::note(item.value.len());
        let kept = Body::Chain(&item.value);
        let value = if is_before { [value, kept] } else { [kept, value] };
        let expiry = Expiry::from_unix_s(item.record.expiry_s);
        Some(self.put(key, hash, &Stored { cas, ..Stored::new(value, flags, expiry) }, now))
    }

    fn arithmetic(
        &mut self,
        key: &[u8],
        hash: u64,
        arithmetic: Arithmetic,
        old: Option<Item>,
        now: Now,
    ) -> Outcome<Chain> {
        let Some(item) = old else {
            let Some((value, expiry)) = arithmetic.initial else { return Outcome::Miss };
            let cas = self.put_first(key, hash, value, (expiry, None), now);
            return Outcome::Number { value, cas };
        };
        match counted(&item, arithmetic) {
            Ok(value) => Outcome::Number {
                value,
                cas: self.put_number(key, hash, value, (&item, None), now),
            },
            Err(outcome) => outcome,
        }
    }

    /// Writes the number of a key without an item.
    pub(super) fn put_first(
        &mut self,
        key: &[u8],
        hash: u64,
        value: u64,
        (expiry, cas): (Expiry, Option<u64>),
        now: Now,
    ) -> u64 {
        let mut digits = itoa::Buffer::new();
        let value = [Body::Slice(digits.format(value).as_bytes()), Body::EMPTY];
        self.put(key, hash, &Stored { cas, ..Stored::new(value, 0, expiry) }, now)
    }

    /// Writes the number that an item has now, as long as the one before.
    pub(super) fn put_number(
        &mut self,
        key: &[u8],
        hash: u64,
        value: u64,
        (item, cas): (&Item, Option<u64>),
        now: Now,
    ) -> u64 {
        let mut digits = itoa::Buffer::new();
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
            cas,
            marks: item.record.marks,
        };
        self.put(key, hash, &stored, now)
    }

    pub(super) fn is_too_large(&self, key: &[u8], flags: u32, value_bytes: usize) -> bool {
        self.admission.is_too_large(item_bytes(key.len(), flags, value_bytes))
            || RECORD_HEADER_BYTES + key.len() + value_bytes > self.record_bytes_max()
    }

    /// Makes an item the key's only one, or leaves the key without any. Returns the item's cas, or
    /// one that no item has.
    pub(super) fn put(&mut self, key: &[u8], hash: u64, stored: &Stored<'_>, now: Now) -> u64 {
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
            marks: stored.marks,
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
        let ItemMarks { is_stale, is_token_sent } = item.record.marks;
        let state = ItemState { is_stale, is_token_sent, ..ItemState::default() };
        self.hit_with(item, state)
    }

    pub(super) fn hit_with(&self, item: Item, state: ItemState) -> Outcome<Chain> {
        Outcome::Hit(Hit {
            flags: item.record.flags,
            expiry: self.clock.host_expiry(item.record.expiry_s),
            cas: item.record.cas,
            state,
            value: item.value,
        })
    }
}

/// The number that an item has after it was counted, or why it is not counted.
pub(super) fn counted(item: &Item, arithmetic: Arithmetic) -> Result<u64, Outcome<Chain>> {
    // In this order: an empty value is not a number, whatever its cas (do_add_delta in
    // memcached.c).
    if item.value.is_empty() {
        return Err(Outcome::NonNumeric);
    }
    if arithmetic.cas != 0 && arithmetic.cas != item.record.cas {
        return Err(Outcome::Exists);
    }
    work::note(item.value.len());
    let before = number::parse(item.value.pieces()).ok_or(Outcome::NonNumeric)?;
    Ok(match arithmetic.decrement {
        true => before.saturating_sub(arithmetic.delta),
        false => before.wrapping_add(arithmetic.delta),
    })
}
