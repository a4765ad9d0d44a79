//! Commands, as a tier would make them of a store's functions.

use super::super::recover::Terms;
use super::super::region::Region;
use super::super::{
    Beginning, FoundRecord, MadeRecord, NewRecord, OpenedRecord, Opening, PieceCursor,
    SegmentStore, SegmentStoreConfig,
};
use crate::base::clock::{Expiry, Now};

pub fn at(unix_s: u32) -> Now {
    Now { uptime_us: 0, unix_s }
}

/// Turns of a second each, but for the clock that expiries go by.
pub fn turns(store: &mut SegmentStore, n: u64, unix_s: u32) {
    (0..n).for_each(|second| store.turn(Now { uptime_us: second * 1_000_000, unix_s }));
}

pub const NOW: Now = Now { uptime_us: 0, unix_s: 1_800_000_000 };

pub fn store(bytes: usize) -> SegmentStore {
    SegmentStore::new(SegmentStoreConfig { bytes, worker: 0, workers: 1 }).unwrap()
}

pub const TERMS: Terms = Terms { is_afresh: false, boot: 1, key_seed: 9, companion: None };

/// Starts with what is in a region.
pub fn resume(region: Region, now: Now) -> (SegmentStore, Opening) {
    let config = SegmentStoreConfig { bytes: region.bytes(), worker: 0, workers: 1 };
    SegmentStore::resume(region, &config, &TERMS, now).unwrap()
}

/// One that a later start can go on with.
pub fn kept_store(bytes: usize) -> SegmentStore {
    let (store, opening) = resume(Region::new(bytes).unwrap(), NOW);
    assert_eq!(opening.beginning, Beginning::New);
    store
}

/// A copy of a store's bytes.
pub fn copy(store: &SegmentStore) -> Region {
    let mut region = Region::new(store.region.bytes()).unwrap();
    region.write(0, store.region.slice(0, store.region.bytes()));
    region
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub value: Vec<u8>,
    pub flags: u32,
    pub expiry: Expiry,
    pub cas: u64,
}

/// What is set beside the key.
#[derive(Clone, Copy, Debug)]
pub struct Set<'v> {
    pub value: &'v [u8],
    pub flags: u32,
    pub expiry: Expiry,
    /// It will be counted.
    pub is_counter: bool,
}

pub fn plain(value: &[u8]) -> Set<'_> {
    Set { value, flags: 0, expiry: Expiry::NEVER, is_counter: false }
}

pub fn find(store: &mut SegmentStore, key: &[u8], now: Now) -> Option<FoundRecord> {
    let hash = store.hash(key);
    store.find(key, hash, now)
}

pub fn read(store: &SegmentStore, opened: &OpenedRecord) -> Vec<u8> {
    let (mut value, mut cursor) = (Vec::new(), PieceCursor::default());
    while value.len() < opened.value_bytes() {
        let (bytes, next) = store.value_at(opened, cursor, value.len());
        assert!(!bytes.is_empty());
        value.extend_from_slice(bytes);
        cursor = next;
    }
    value
}

pub fn open(store: &mut SegmentStore, key: &[u8], now: Now) -> Option<OpenedRecord> {
    let found = find(store, key, now)?;
    store.note_use(&found);
    store.open(&found)
}

pub fn get(store: &mut SegmentStore, key: &[u8], now: Now) -> Option<Item> {
    let found = find(store, key, now)?;
    store.note_use(&found);
    let opened = store.open(&found)?;
    let value = read(store, &opened);
    store.close(&opened);
    let (flags, expiry, cas) = (store.flags(&found), store.expiry(&found), store.cas(&found));
    Some(Item { value, flags, expiry, cas })
}

pub fn make(store: &mut SegmentStore, key: &[u8], set: &Set<'_>, now: Now) -> Option<MadeRecord> {
    let hash = store.hash(key);
    let old = store.find(key, hash, now);
    let new = NewRecord {
        key,
        hash,
        flags: set.flags,
        expiry: set.expiry,
        value_bytes: set.value.len(),
        is_counter: set.is_counter,
    };
    store.make(&new, old.as_ref(), now)
}

pub fn publish(store: &mut SegmentStore, key: &[u8], made: MadeRecord, now: Now) -> u64 {
    let hash = store.hash(key);
    let old = store.find(key, hash, now);
    store.publish(made, hash, old.as_ref())
}

/// Its cas, or None without room; then the old item is gone.
pub fn set(store: &mut SegmentStore, key: &[u8], set: &Set<'_>, now: Now) -> Option<u64> {
    match make(store, key, set, now) {
        Some(made) => {
            store.write_value(made, PieceCursor::default(), 0, set.value);
            Some(publish(store, key, made, now))
        }
        None => {
            delete(store, key, now);
            None
        }
    }
}

pub fn delete(store: &mut SegmentStore, key: &[u8], now: Now) -> bool {
    match find(store, key, now) {
        Some(found) => {
            store.kill(&found);
            true
        }
        None => false,
    }
}

/// The new value and cas.
pub fn append(
    store: &mut SegmentStore,
    key: &[u8],
    tail: &[u8],
    now: Now,
) -> Option<(Vec<u8>, u64)> {
    let found = find(store, key, now)?;
    store.note_use(&found);
    let (flags, expiry) = (store.flags(&found), store.expiry(&found));
    let old = store.open(&found)?;
    let mut value = read(store, &old);
    value.extend_from_slice(tail);
    let request = Set { value: &value, flags, expiry, is_counter: false };
    let made = make(store, key, &request, now);
    let cas = made.map(|made| {
        let cursor = store.copy_value(&old, made, PieceCursor::default(), 0);
        store.write_value(made, cursor, old.value_bytes(), tail);
        publish(store, key, made, now)
    });
    store.close(&old);
    cas.map(|cas| (value, cas))
}

pub fn touch(store: &mut SegmentStore, key: &[u8], expiry: Expiry, now: Now) -> Option<u64> {
    let hash = store.hash(key);
    let found = store.find(key, hash, now)?;
    let found = store.touch(found, (key, hash), expiry, now)?;
    Some(store.cas(&found))
}
