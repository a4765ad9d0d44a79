//! The meta commands: each as memcached 1.6.45 executes it, and none of them waits.
//!
//! Marks (stale, token sent) and a cas that a client chose lie in an item's own cas, which most
//! items do not have: one that needs it is copied once. Whether an item was read is known as far as
//! eviction knows it, and when it was used only as the age of its segment.

use super::commands::{count, extend, lose, make_number, write_body};
use super::store::Store;
use super::{ItemValue, Memory};
use crate::base::buffer::Body;
use crate::base::clock::{Expiry, Now};
use crate::base::limits::item_bytes;
use crate::base::stats::Counter;
use crate::tier::meta::left_s;
use crate::tier::segments::{FoundRecord, NewRecord, PieceCursor, RecordMarks};
use crate::tier::{
    Arithmetic, ItemInfo, ItemState, Meta, MetaFlags, MetaVerb, Outcome, Store as StoreRequest,
    StoreMode,
};

/// A key and its hash.
type Name<'k> = (&'k [u8], u64);

/// What a new item gets beside its value.
#[derive(Clone, Copy)]
struct Fields {
    flags: u32,
    expiry: Expiry,
    cas: Option<u64>,
    marks: RecordMarks,
}

/// Makes an item of a value and lets it take the place of `old`; returns its cas. None if there is
/// no room.
fn write(
    store: &mut Store,
    (key, hash): Name<'_>,
    fields: Fields,
    value: Body<'_>,
    old: Option<FoundRecord>,
    now: Now,
) -> Option<u64> {
    let Fields { flags, expiry, cas, marks } = fields;
    let is_counter = cas.is_some() || marks != RecordMarks::default();
    let value_bytes = value.len();
    let new = NewRecord { key, hash, flags, expiry, value_bytes, is_counter };
    let Some(made) = store.segments.make(&new, old.as_ref(), now) else {
        // What would have been replaced must not be served.
        lose(store, key, hash, old);
        store.account();
        return None;
    };
    write_body(store, made, (PieceCursor::default(), 0), value);
    let old = old.and_then(|old| store.segments.refresh(old, key, hash));
    let cas = match is_counter {
        true => store.segments.publish_as(made, hash, old.as_ref(), (cas, marks)),
        false => store.segments.publish(made, hash, old.as_ref()),
    };
    store.account_stored();
    Some(cas)
}

/// Marks an item. One for which there is no room then is removed: without the mark it would be
/// served as what it is not.
fn mark(
    store: &mut Store,
    name: Name<'_>,
    found: FoundRecord,
    (marks, cas): (RecordMarks, Option<u64>),
    now: Now,
) -> Option<FoundRecord> {
    let marked = store.segments.mark(found, name, marks, cas, now);
    if marked.is_none() {
        lose(store, name.0, name.1, Some(found));
    }
    store.account();
    marked
}

/// Gives an item another expiry, as [`mark`] gives it marks.
fn touch(
    store: &mut Store,
    name: Name<'_>,
    found: FoundRecord,
    expiry: Expiry,
    now: Now,
) -> Option<FoundRecord> {
    let touched = store.segments.touch(found, name, expiry, now);
    if touched.is_none() {
        lose(store, name.0, name.1, Some(found));
    }
    store.account();
    touched
}

impl Memory {
    /// Executes a meta command; `value` is that of a store. Out of memory: nothing is left of what
    /// it would have replaced.
    #[inline(never)]
    pub(super) fn meta_now(
        &self,
        key: &[u8],
        meta: Meta,
        value: Body<'_>,
        now: Now,
    ) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        let name = (key, store.segments.hash(key));
        let old = store.find(key, name.1, now);
        match (meta.verb, old) {
            (MetaVerb::Get, Some(found)) => self.meta_get(store, name, &meta, found, now),
            (MetaVerb::Get, None) if meta.has(MetaFlags::VIVIFY) => {
                self.vivify(store, name, &meta, now)
            }
            (MetaVerb::Debug, Some(found)) => {
                let state = state_of(store, &found, now);
                self.hold(store, &found, state)
            }
            (MetaVerb::Store(mode), old) => {
                let outcome = meta_store(store, name, &meta, (mode, value), old, now);
                outcome.unwrap_or(Outcome::OutOfMemory)
            }
            (MetaVerb::Delete, Some(found)) => meta_delete(store, name, &meta, found, now),
            (MetaVerb::Count { decrement }, old) => {
                meta_count(store, name, &meta, (decrement, old), now)
            }
            (MetaVerb::Get | MetaVerb::Debug | MetaVerb::Delete, None) => Outcome::Miss,
        }
    }

    /// An mg that found an item.
    #[inline]
    fn meta_get(
        &self,
        store: &mut Store,
        name: Name<'_>,
        meta: &Meta,
        found: FoundRecord,
        now: Now,
    ) -> Outcome<ItemValue> {
        let old = store.segments.expiry(&found);
        let mut state = state_of(store, &found, now);
        state.left_s = meta.reported_left_s(old, now);
        let mut found = found;
        if meta.has(MetaFlags::TOUCH) {
            match touch(store, name, found, meta.expiry, now) {
                Some(touched) => found = touched,
                None => return Outcome::Miss,
            }
        }
        if (meta.is_due(old) || state.is_stale) && !state.is_token_sent {
            let marks = RecordMarks { is_stale: state.is_stale, is_token_sent: true };
            match mark(store, name, found, (marks, None), now) {
                Some(marked) => found = marked,
                None => return Outcome::Miss,
            }
            state.is_won = true;
        }
        if !meta.has(MetaFlags::NO_USE) {
            store.segments.note_use(&found);
        }
        self.hold(store, &found, state)
    }

    /// An mg that found none and makes one, which others find while this client fetches its value.
    fn vivify(
        &self,
        store: &mut Store,
        name: Name<'_>,
        meta: &Meta,
        now: Now,
    ) -> Outcome<ItemValue> {
        let marks = RecordMarks { is_stale: false, is_token_sent: true };
        let expiry = meta.created_expiry();
        let fields = Fields { flags: 0, expiry, cas: meta.chosen_cas(), marks };
        if write(store, name, fields, Body::EMPTY, None, now).is_none() {
            return Outcome::Miss;
        }
        let Some(found) = store.segments.peek(name.0, name.1) else { return Outcome::Miss };
        let left_s = meta.created_left_s(now);
        let state = ItemState { is_won: true, left_s, ..ItemState::default() };
        if !meta.has(MetaFlags::NO_USE) {
            store.segments.note_use(&found);
        }
        self.hold(store, &found, state)
    }
}

/// What is known of an item before a command changes it.
#[inline(always)]
pub(super) fn state_of(store: &Store, found: &FoundRecord, now: Now) -> ItemState {
    let RecordMarks { is_stale, is_token_sent } = store.segments.marks(found);
    ItemState {
        is_stale,
        is_token_sent,
        is_won: false,
        is_fetched: store.segments.is_used(found),
        idle_s: store.segments.age_s(found, now),
        left_s: left_s(store.segments.expiry(found), now),
    }
}

/// An item that was stored or marked.
fn changed<V>(cas: u64, value_bytes: usize) -> Outcome<V> {
    let value_bytes = value_bytes as u32;
    Outcome::Changed(ItemInfo { cas, number: 0, value_bytes, left_s: 0, is_new: false })
}

/// Carries out an ms. None: there is no room.
fn meta_store<V>(
    store: &mut Store,
    name: Name<'_>,
    meta: &Meta,
    (mode, value): (StoreMode, Body<'_>),
    old: Option<FoundRecord>,
    now: Now,
) -> Option<Outcome<V>> {
    let value_bytes = value.len();
    if item_bytes(name.0.len(), meta.flags, value_bytes) > store.item_bytes_max {
        store.stats.add(Counter::StoreTooLarge, 1);
        lose(store, name.0, name.1, old);
        store.account();
        return Some(Outcome::TooLarge);
    }
    let marks = RecordMarks::default();
    let mut fields =
        Fields { flags: meta.flags, expiry: meta.expiry, cas: meta.chosen_cas(), marks };
    match (mode, old) {
        (StoreMode::Set | StoreMode::Replace, None) if meta.has(MetaFlags::CAS) => {
            return Some(Outcome::Miss);
        }
        (StoreMode::Replace, None) => return Some(Outcome::NotStored),
        (StoreMode::Append | StoreMode::Prepend, None) if meta.has(MetaFlags::VIVIFY) => {
            fields.expiry = meta.vivify;
        }
        (StoreMode::Append | StoreMode::Prepend, None) => return Some(Outcome::NotStored),
        (StoreMode::Set | StoreMode::Add, None) => {}
        (StoreMode::Add, Some(item)) => {
            // A refused add is a use of the item.
            store.segments.note_use(&item);
            return Some(Outcome::NotStored);
        }
        (StoreMode::Append | StoreMode::Prepend, Some(item)) => {
            return meta_extend(store, name, meta, (mode, value), item, now);
        }
        (StoreMode::Set | StoreMode::Replace, Some(item)) if meta.has(MetaFlags::CAS) => {
            let cas = store.segments.cas(&item);
            let is_older = meta.has(MetaFlags::INVALIDATE) && meta.cas < cas;
            match meta.cas {
                0 => return Some(Outcome::Exists),
                asked if asked == cas => {}
                _ if is_older => {
                    // What is stored is out of date: it is served until a newer value comes.
                    fields.expiry = store.segments.expiry(&item);
                    fields.marks = RecordMarks { is_stale: true, ..store.segments.marks(&item) };
                }
                _ => return Some(Outcome::Exists),
            }
        }
        (StoreMode::Set | StoreMode::Replace, Some(_)) => {}
    }
    let cas = write(store, name, fields, value, old, now)?;
    Some(changed(cas, value_bytes))
}

/// Carries out an ms that adds to the value of an item. None: there is no room.
fn meta_extend<V>(
    store: &mut Store,
    name: Name<'_>,
    meta: &Meta,
    (mode, value): (StoreMode, Body<'_>),
    item: FoundRecord,
    now: Now,
) -> Option<Outcome<V>> {
    if meta.has(MetaFlags::CAS) && meta.cas != 0 && meta.cas != store.segments.cas(&item) {
        return Some(Outcome::Exists);
    }
    let value_bytes = store.segments.value_bytes(&item) + value.len();
    let request = StoreRequest { mode, flags: 0, expiry: Expiry::NEVER, cas: 0 };
    let cas = match extend::<V>(store, name.0, name.1, request, value, item, now) {
        Outcome::Stored { cas } => cas,
        Outcome::OutOfMemory => return None,
        outcome => return Some(outcome),
    };
    let Some(chosen) = meta.chosen_cas() else { return Some(changed(cas, value_bytes)) };
    let found = store.find(name.0, name.1, now)?;
    mark(store, name, found, (RecordMarks::default(), Some(chosen)), now)?;
    Some(changed(chosen, value_bytes))
}

/// Carries out an md of an item.
fn meta_delete<V>(
    store: &mut Store,
    name: Name<'_>,
    meta: &Meta,
    found: FoundRecord,
    now: Now,
) -> Outcome<V> {
    let old_cas = store.segments.cas(&found);
    if meta.has(MetaFlags::CAS) && meta.cas != old_cas {
        return Outcome::Exists;
    }
    let is_stale = meta.has(MetaFlags::INVALIDATE);
    // So the next client that asks is the one to fetch it again.
    let marks = RecordMarks { is_stale, is_token_sent: false };
    if meta.has(MetaFlags::EMPTY) {
        let cas = match meta.chosen_cas() {
            None if is_stale => store.segments.cas_above(old_cas),
            chosen => chosen.unwrap_or(old_cas),
        };
        let fields = Fields { flags: meta.flags, expiry: meta.expiry, cas: Some(cas), marks };
        return match write(store, name, fields, Body::EMPTY, Some(found), now) {
            None => Outcome::OutOfMemory,
            Some(cas) if is_stale => changed(cas, 0),
            Some(_) => Outcome::Deleted,
        };
    }
    if !is_stale {
        store.segments.kill(&found);
        store.account();
        return Outcome::Deleted;
    }
    let cas = meta.chosen_cas().unwrap_or_else(|| store.segments.cas_above(old_cas));
    let touched = match meta.has(MetaFlags::TOUCH) {
        true => touch(store, name, found, meta.expiry, now),
        false => Some(found),
    };
    // Where there is no room the item is gone, which invalidates it as well.
    touched.and_then(|found| mark(store, name, found, (marks, Some(cas)), now));
    changed(cas, 0)
}

/// Carries out an ma.
fn meta_count<V>(
    store: &mut Store,
    name: Name<'_>,
    meta: &Meta,
    (decrement, old): (bool, Option<FoundRecord>),
    now: Now,
) -> Outcome<V> {
    let Some(old) = old else { return meta_create(store, name, meta, now) };
    let old_expiry = store.segments.expiry(&old);
    let cas = if meta.has(MetaFlags::CAS) { meta.cas } else { 0 };
    let arithmetic = Arithmetic { decrement, delta: meta.delta, initial: None, cas };
    let (number, mut cas) = match count::<V>(store, name.0, name.1, arithmetic, old, now) {
        Outcome::Number { value, cas } => (value, cas),
        outcome => return outcome,
    };
    let mut found = store.find(name.0, name.1, now);
    if let (Some(item), Some(chosen)) = (found, meta.chosen_cas()) {
        let marks = store.segments.marks(&item);
        found = mark(store, name, item, (marks, Some(chosen)), now);
        cas = chosen;
    }
    if let Some(item) = found.filter(|_| meta.has(MetaFlags::TOUCH)) {
        touch(store, name, item, meta.expiry, now);
    }
    let left_s = meta.reported_left_s(old_expiry, now);
    Outcome::Changed(ItemInfo { cas, number, value_bytes: 0, left_s, is_new: false })
}

/// Carries out an ma of a key without an item.
fn meta_create<V>(store: &mut Store, name: Name<'_>, meta: &Meta, now: Now) -> Outcome<V> {
    if !meta.has(MetaFlags::VIVIFY) {
        return Outcome::Miss;
    }
    let ((key, hash), number) = (name, meta.initial);
    let value_bytes = itoa::Buffer::new().format(number).len();
    let expiry = meta.created_expiry();
    let new = NewRecord { key, hash, flags: 0, expiry, value_bytes, is_counter: true };
    let Some(made) = make_number(store, &new, number, None, now) else {
        return Outcome::OutOfMemory;
    };
    let named = (meta.chosen_cas(), RecordMarks::default());
    let cas = store.segments.publish_as(made, hash, None, named);
    store.account_stored();
    let left_s = meta.created_left_s(now);
    Outcome::Changed(ItemInfo { cas, number, value_bytes: 0, left_s, is_new: true })
}
