//! What the commands mean: each as memcached executes it, and none of them waits.

use super::store::Store;
use super::{ItemValue, Memory, number};
use crate::base::buffer::{Body, Chain};
use crate::base::clock::{Expiry, Now};
use crate::base::limits::{DUMP_BUCKETS, item_bytes};
use crate::base::stats::Counter;
use crate::base::work;
use crate::tier::segments::{FoundRecord, MadeRecord, NewRecord, PieceCursor};
use crate::tier::{Action, Arithmetic, Outcome, Store as StoreRequest, StoreMode};

/// What a number that is shorter than its value is filled up with.
const SPACES: [u8; 1024] = [b' '; 1024];

/// Longest value that is counted in place, in bytes: a longer one is hardly ever counted twice.
const COUNTER_BYTES_MAX: usize = 64;

/// What a store does, once it is known what is there.
pub enum Plan {
    /// Makes a new item, in place of `old` if there is one.
    Write { old: Option<FoundRecord> },
    /// Adds to the value of this item.
    Extend { old: FoundRecord },
}

/// Whether and how `request` may be carried out where its key has the item `old`.
#[inline]
pub fn plan<V>(
    store: &Store,
    request: StoreRequest,
    old: Option<FoundRecord>,
) -> Result<Plan, Outcome<V>> {
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
    if request.cas != 0 && request.cas != store.segments.cas(&item) {
        return Err(Outcome::Exists);
    }
    match request.mode {
        StoreMode::Append | StoreMode::Prepend => Ok(Plan::Extend { old: item }),
        StoreMode::Add if request.cas == 0 => Err(Outcome::NotStored),
        _ => Ok(Plan::Write { old }),
    }
}

/// Carries out a set, add, replace or cas.
#[inline(always)]
fn write<V>(
    store: &mut Store,
    key: &[u8],
    hash: u64,
    request: StoreRequest,
    value: Body<'_>,
    old: Option<FoundRecord>,
    now: Now,
) -> Outcome<V> {
    let StoreRequest { flags, expiry, .. } = request;
    let value_bytes = value.len();
    let new = NewRecord { key, hash, flags, expiry, value_bytes, is_counter: false };
    let made = store.segments.make(&new, old.as_ref(), now);
    let Some(made) = made else {
        // What a set replaces is gone even if it fails; all else fails without a trace.
        if request.mode == StoreMode::Set && request.cas == 0 {
            lose(store, key, hash, old);
        }
        account_apart(store);
        return Outcome::OutOfMemory;
    };
    write_body(store, made, (PieceCursor::default(), 0), value);
    Outcome::Stored { cas: publish(store, key, hash, made, old) }
}

#[cold]
#[inline(never)]
fn account_apart(store: &mut Store) {
    store.account();
}

/// Removes what a set would have replaced, if it is still there.
#[cold]
pub(super) fn lose(store: &mut Store, key: &[u8], hash: u64, old: Option<FoundRecord>) {
    if let Some(old) = old.and_then(|old| store.segments.refresh(old, key, hash)) {
        store.segments.kill(&old);
    }
}

/// Lets a made item take the place of `old`, which making it may have moved or evicted; returns its
/// cas.
#[inline(always)]
fn publish(
    store: &mut Store,
    key: &[u8],
    hash: u64,
    made: MadeRecord,
    old: Option<FoundRecord>,
) -> u64 {
    let old = old.and_then(|old| store.segments.refresh(old, key, hash));
    let cas = store.segments.publish(made, hash, old.as_ref());
    store.account_stored();
    cas
}

/// Carries out an append or prepend. Out of memory means no room for the longer value.
#[inline(never)]
pub(super) fn extend<V>(
    store: &mut Store,
    key: &[u8],
    hash: u64,
    request: StoreRequest,
    value: Body<'_>,
    old: FoundRecord,
    now: Now,
) -> Outcome<V> {
    let (flags, expiry) = (store.segments.flags(&old), store.segments.expiry(&old));
    let old_bytes = store.segments.value_bytes(&old);
    let value_bytes = old_bytes + value.len();
    if item_bytes(key.len(), flags, value_bytes) > store.item_bytes_max {
        // Not `TooLarge`: memcached says so only of the part that was sent.
        return Outcome::NotStored;
    }
    work::note(old_bytes);
    // Its bytes are needed, whatever has to go for the longer value.
    let Some(from) = store.segments.open(&old) else { return Outcome::OutOfMemory };
    if store.segments.has_waiting_readers() {
        // They may have paused.
        store.segments.note_progress(&from, now);
    }
    let new = NewRecord { key, hash, flags, expiry, value_bytes, is_counter: false };
    let made = store.segments.make(&new, Some(&old), now);
    let start = PieceCursor::default();
    if let Some(made) = made {
        if request.mode == StoreMode::Append {
            let cursor = store.segments.copy_value(&from, made, start, 0);
            write_body(store, made, (cursor, old_bytes), value);
        } else {
            let cursor = write_body(store, made, (start, 0), value);
            store.segments.copy_value(&from, made, cursor, value_bytes - old_bytes);
        }
    }
    let outcome = match made {
        Some(made) => Outcome::Stored { cas: publish(store, key, hash, made, Some(old)) },
        None => Outcome::OutOfMemory,
    };
    store.segments.close(&from);
    outcome
}

/// Copies a body into an item's value, from a byte on; returns where that ended.
#[inline(always)]
pub(super) fn write_body(
    store: &mut Store,
    made: MadeRecord,
    (cursor, offset): (PieceCursor, usize),
    body: Body<'_>,
) -> PieceCursor {
    match body {
        Body::Slice(bytes) => store.segments.write_value(made, cursor, offset, bytes),
        Body::Chain(chain) => write_chain(store, made, (cursor, offset), chain),
    }
}

#[inline(never)]
fn write_chain(
    store: &mut Store,
    made: MadeRecord,
    (mut cursor, mut offset): (PieceCursor, usize),
    chain: &Chain,
) -> PieceCursor {
    for piece in chain.pieces() {
        cursor = store.segments.write_value(made, cursor, offset, piece);
        offset += piece.len();
    }
    cursor
}

/// A number's digits.
fn digits(number: u64, buffer: &mut itoa::Buffer) -> &[u8] {
    buffer.format(number).as_bytes()
}

/// Makes an item that holds a number and, behind it, spaces; none if there is no room.
pub(super) fn make_number(
    store: &mut Store,
    new: &NewRecord<'_>,
    number: u64,
    old: Option<&FoundRecord>,
    now: Now,
) -> Option<MadeRecord> {
    let Some(made) = store.segments.make(new, old, now) else {
        store.stats.add(Counter::StoreNoMemory, 1);
        store.account();
        return None;
    };
    let mut buffer = itoa::Buffer::new();
    let digits = digits(number, &mut buffer);
    let mut cursor = store.segments.write_value(made, PieceCursor::default(), 0, digits);
    let mut offset = digits.len();
    while offset < new.value_bytes {
        let spaces = &SPACES[..(new.value_bytes - offset).min(SPACES.len())];
        cursor = store.segments.write_value(made, cursor, offset, spaces);
        offset += spaces.len();
    }
    Some(made)
}

/// Digits with spaces behind them, if they fit into a counter of `value_bytes`.
fn padded(digits: &[u8], value_bytes: usize) -> Option<[u8; COUNTER_BYTES_MAX]> {
    let mut padded = [b' '; COUNTER_BYTES_MAX];
    padded.get_mut(..value_bytes)?.get_mut(..digits.len())?.copy_from_slice(digits);
    Some(padded)
}

/// Carries out an incr or decr of an item.
pub(super) fn count<V>(
    store: &mut Store,
    key: &[u8],
    hash: u64,
    arithmetic: Arithmetic,
    old: FoundRecord,
    now: Now,
) -> Outcome<V> {
    // In this order: an empty value is not a number, whatever its cas (do_add_delta in
    // memcached.c).
    let value_bytes = store.segments.value_bytes(&old);
    if value_bytes == 0 {
        return Outcome::NonNumeric;
    }
    if arithmetic.cas != 0 && arithmetic.cas != store.segments.cas(&old) {
        return Outcome::Exists;
    }
    work::note(value_bytes);
    let Some(before) = number::parse(store.segments.value_pieces(&old)) else {
        return Outcome::NonNumeric;
    };
    let value = if arithmetic.decrement {
        before.saturating_sub(arithmetic.delta)
    } else {
        before.wrapping_add(arithmetic.delta)
    };
    let mut buffer = itoa::Buffer::new();
    let digits = digits(value, &mut buffer);
    if let Some(padded) = padded(digits, value_bytes)
        && let Some(cas) = store.segments.set_counter(&old, &padded[..value_bytes])
    {
        store.segments.note_use(&old);
        return Outcome::Number { value, cas };
    }
    let new = NewRecord {
        key,
        hash,
        flags: store.segments.flags(&old),
        expiry: store.segments.expiry(&old),
        // As long as in place: two tiers that count the same have the same bytes, whoever reads
        // them.
        value_bytes: digits.len().max(value_bytes),
        is_counter: value_bytes <= COUNTER_BYTES_MAX,
    };
    let is_new_for_memcached = digits.len() > value_bytes;
    let Some(made) = make_number(store, &new, value, Some(&old), now) else {
        return Outcome::OutOfMemory;
    };
    let old = store.segments.refresh(old, key, hash);
    let cas = store.segments.publish(made, hash, old.as_ref());
    if is_new_for_memcached {
        store.stats.add(Counter::TotalItems, 1);
    }
    store.account();
    Outcome::Number { value, cas }
}

/// The commands, none of which waits.
impl Memory {
    #[inline(always)]
    pub(super) fn get_now(&self, key: &[u8], now: Now) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        match store.find(key, store.segments.hash(key), now) {
            Some(found) => self.hit(store, &found),
            None => Outcome::Miss,
        }
    }

    /// Gives an item another expiry, which is a use of it. An item for which there is no room then
    /// is evicted: with its old expiry it must not be found.
    fn retouch(store: &mut Store, key: &[u8], expiry: Expiry, now: Now) -> Option<FoundRecord> {
        let hash = store.segments.hash(key);
        let found = store.find(key, hash, now)?;
        let touched = store.segments.touch(found, (key, hash), expiry, now);
        match &touched {
            Some(found) => store.segments.note_use(found),
            None => lose(store, key, hash, Some(found)),
        }
        store.account();
        touched
    }

    pub(super) fn get_and_touch_now(
        &self,
        key: &[u8],
        expiry: Expiry,
        now: Now,
    ) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        match Memory::retouch(store, key, expiry, now) {
            Some(found) => self.hit(store, &found),
            None => Outcome::Miss,
        }
    }

    pub(super) fn touch_now(&self, key: &[u8], expiry: Expiry, now: Now) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        match Memory::retouch(store, key, expiry, now) {
            Some(found) => Outcome::Touched { cas: store.segments.cas(&found) },
            None => Outcome::Miss,
        }
    }

    /// Executes a store, for which no room is the end.
    pub(super) fn store_at_last(
        &self,
        key: &[u8],
        request: StoreRequest,
        value: Body<'_>,
        now: Now,
    ) -> Outcome<ItemValue> {
        self.change_now(key, Action::Store(request), value, now)
            .unwrap_or_else(|| self.note_no_room(request))
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

    #[inline(always)]
    fn store_now(
        &self,
        key: &[u8],
        request: StoreRequest,
        value: Body<'_>,
        now: Now,
    ) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        let hash = store.segments.hash(key);
        let old = store.find(key, hash, now);
        if item_bytes(key.len(), request.flags, value.len()) > store.item_bytes_max {
            store.stats.add(Counter::StoreTooLarge, 1);
            if request.mode == StoreMode::Set
                && let Some(old) = old
            {
                store.segments.kill(&old);
                store.account();
            }
            return Outcome::TooLarge;
        }
        match plan(store, request, old) {
            Ok(Plan::Write { old }) => write(store, key, hash, request, value, old, now),
            Ok(Plan::Extend { old }) => extend(store, key, hash, request, value, old, now),
            Err(outcome) => {
                // A refused add is a use of the item (do_store_item in memcached.c).
                if request.mode == StoreMode::Add
                    && let Some(old) = old
                {
                    store.segments.note_use(&old);
                }
                outcome
            }
        }
    }

    pub(super) fn delete_now(&self, key: &[u8], cas: u64, now: Now) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        let hash = store.segments.hash(key);
        let Some(found) = store.find(key, hash, now) else { return Outcome::Miss };
        if cas != 0 && cas != store.segments.cas(&found) {
            return Outcome::Exists;
        }
        store.segments.kill(&found);
        store.account();
        Outcome::Deleted
    }

    pub(super) fn arithmetic_now(
        &self,
        key: &[u8],
        arithmetic: Arithmetic,
        now: Now,
    ) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        let hash = store.segments.hash(key);
        if let Some(old) = store.find(key, hash, now) {
            return count(store, key, hash, arithmetic, old, now);
        }
        let Some((value, expiry)) = arithmetic.initial else { return Outcome::Miss };
        let value_bytes = digits(value, &mut itoa::Buffer::new()).len();
        let new = NewRecord { key, hash, flags: 0, expiry, value_bytes, is_counter: true };
        match make_number(store, &new, value, None, now) {
            Some(made) => Outcome::Number { value, cas: publish(store, key, hash, made, None) },
            None => Outcome::OutOfMemory,
        }
    }

    pub(super) fn flush_all_now(&self, at: Expiry, now: Now) -> Outcome<ItemValue> {
        self.store.borrow_mut().segments.flush(at, now);
        Outcome::Flushed
    }

    pub(super) fn dump_now(&self, from: u64, now: Now) -> Outcome<ItemValue> {
        let segments = &mut self.store.borrow_mut().segments;
        Outcome::Dumped(Box::new(segments.dump(from, DUMP_BUCKETS, now)))
    }

    /// Every action but a plain get. None: a store finds no room, and may wait for some.
    #[inline(never)]
    pub(super) fn change_now(
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
            Action::Meta(meta) => match self.meta_now(key, meta, value, now) {
                Outcome::OutOfMemory if meta.is_store() => return None,
                outcome => outcome,
            },
            Action::FlushAll { at } => self.flush_all_now(at, now),
            Action::Dump { from } => self.dump_now(from, now),
        })
    }
}
