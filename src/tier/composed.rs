//! Meta commands on a tier that has none: composed of its other operations.
//!
//! Such a tier has no room for marks. What is marked as stale is deleted, so that the next mg with
//! N makes a placeholder: an empty item with flags of its own, which is what a client that is
//! fetching the value leaves for the others to find. R tells nobody to fetch an item early: without
//! a mark everybody would be told. A cas that a client chooses is not kept.
//!
//! The owner of a key runs one operation on it at a time, so no other operation of this server
//! comes between. Nothing here may report as stored what is not.

use super::{
    Arithmetic, Hit, ItemInfo, ItemState, Meta, MetaFlags, MetaVerb, Outcome, Store, StoreMode,
    Tier, Value,
};
use crate::base::buffer::{Chain, Key};
use crate::base::clock::{Expiry, Now};

/// The flags of a placeholder.
const PLACEHOLDER_FLAGS: u32 = 0x8d3a_61f7;

/// Whether a hit is the placeholder of an item that a client is fetching.
pub fn is_placeholder<V: Value>(hit: &Hit<V>) -> bool {
    hit.flags == PLACEHOLDER_FLAGS && hit.value.is_empty()
}

/// Executes a meta command; `value` is that of a store.
pub async fn meta<T: Tier + ?Sized>(
    tier: &T,
    key: &Key,
    meta: &Meta,
    value: &Chain,
    now: Now,
) -> Outcome<T::Value> {
    match meta.verb {
        MetaVerb::Get => get(tier, key, meta, now).await,
        MetaVerb::Debug => found(tier.get_with_expiry(key, now).await, meta, now),
        MetaVerb::Store(mode) => store(tier, key, meta, (mode, value), now).await,
        MetaVerb::Delete => delete(tier, key, meta, now).await,
        MetaVerb::Count { decrement } => count(tier, key, meta, decrement, now).await,
    }
}

/// The outcome of a get as that of an mg.
fn found<V: Value>(outcome: Outcome<V>, meta: &Meta, now: Now) -> Outcome<V> {
    let Outcome::Hit(hit) = outcome else { return outcome };
    if hit.expiry.is_past(now) {
        return Outcome::Miss;
    }
    let is_token_sent = is_placeholder(&hit);
    let flags = if is_token_sent { 0 } else { hit.flags };
    let left_s = meta.reported_left_s(hit.expiry, now);
    let state = ItemState { is_token_sent, left_s, ..ItemState::default() };
    Outcome::Hit(Hit { flags, state, ..hit })
}

async fn get<T: Tier + ?Sized>(tier: &T, key: &Key, meta: &Meta, now: Now) -> Outcome<T::Value> {
    let mut hit = match found(tier.get_with_expiry(key, now).await, meta, now) {
        Outcome::Hit(hit) => hit,
        Outcome::Miss if meta.has(MetaFlags::VIVIFY) => return vivify(tier, key, meta, now).await,
        outcome => return outcome,
    };
    if meta.has(MetaFlags::TOUCH) {
        match tier.touch(key, meta.expiry, now).await {
            Outcome::Touched { cas } => (hit.cas, hit.expiry) = (cas, meta.expiry),
            outcome => return outcome,
        }
    }
    Outcome::Hit(hit)
}

/// An mg that found none and makes one.
async fn vivify<T: Tier + ?Sized>(tier: &T, key: &Key, meta: &Meta, now: Now) -> Outcome<T::Value> {
    let expiry = meta.created_expiry();
    let store = Store { mode: StoreMode::Add, flags: PLACEHOLDER_FLAGS, expiry, cas: 0 };
    let is_won = match tier.store(key, store, &Chain::new(), now).await {
        Outcome::Stored { .. } => true,
        // Another server of the same items was first.
        Outcome::NotStored => false,
        outcome => return outcome,
    };
    let Outcome::Hit(hit) = found(tier.get_with_expiry(key, now).await, meta, now) else {
        return Outcome::Miss;
    };
    if !is_won {
        return Outcome::Hit(hit);
    }
    let state = ItemState { is_won, left_s: meta.created_left_s(now), ..ItemState::default() };
    Outcome::Hit(Hit { state, ..hit })
}

/// An item that was stored.
fn changed<V>(cas: u64, value_bytes: usize) -> Outcome<V> {
    let value_bytes = value_bytes as u32;
    Outcome::Changed(ItemInfo { cas, number: 0, value_bytes, left_s: 0, is_new: false })
}

/// Whether a condition cannot be met: no item has the cas 0.
fn names_none(meta: &Meta) -> bool {
    meta.has(MetaFlags::CAS) && meta.cas == 0
}

/// The answer to a command whose condition no item meets.
async fn unmet<T: Tier + ?Sized>(tier: &T, key: &Key, now: Now) -> Outcome<T::Value> {
    match tier.get(key, now).await {
        Outcome::Hit(_) => Outcome::Exists,
        outcome => outcome,
    }
}

/// The cas of the condition; 0 = none.
fn condition(meta: &Meta) -> u64 {
    if meta.has(MetaFlags::CAS) { meta.cas } else { 0 }
}

async fn store<T: Tier + ?Sized>(
    tier: &T,
    key: &Key,
    meta: &Meta,
    (mode, value): (StoreMode, &Chain),
    now: Now,
) -> Outcome<T::Value> {
    let Meta { flags, expiry, .. } = *meta;
    let is_extension = matches!(mode, StoreMode::Append | StoreMode::Prepend);
    let (mode, cas) = match mode {
        StoreMode::Add => (mode, 0),
        StoreMode::Set | StoreMode::Replace if names_none(meta) => {
            return unmet(tier, key, now).await;
        }
        // As a cas it is a miss without an item.
        StoreMode::Replace if meta.has(MetaFlags::CAS) => (StoreMode::Set, meta.cas),
        _ => (mode, condition(meta)),
    };
    let request = Store { mode, flags, expiry, cas };
    let stored = match tier.store(key, request, value, now).await {
        Outcome::NotStored if is_extension && meta.has(MetaFlags::VIVIFY) => {
            let request = Store { mode: StoreMode::Add, flags, expiry: meta.vivify, cas: 0 };
            tier.store(key, request, value, now).await
        }
        outcome => outcome,
    };
    match stored {
        Outcome::Stored { cas } => changed(cas, value.len()),
        outcome => outcome,
    }
}

async fn delete<T: Tier + ?Sized>(tier: &T, key: &Key, meta: &Meta, now: Now) -> Outcome<T::Value> {
    if names_none(meta) {
        return unmet(tier, key, now).await;
    }
    let cas = condition(meta);
    // An empty value that is stale is of no use to anybody.
    if meta.has(MetaFlags::INVALIDATE) || !meta.has(MetaFlags::EMPTY) {
        return tier.delete(key, cas, now).await;
    }
    let mode = if cas == 0 { StoreMode::Replace } else { StoreMode::Set };
    let request = Store { mode, flags: meta.flags, expiry: meta.expiry, cas };
    match tier.store(key, request, &Chain::new(), now).await {
        Outcome::Stored { .. } => Outcome::Deleted,
        Outcome::NotStored => Outcome::Miss,
        outcome => outcome,
    }
}

async fn count<T: Tier + ?Sized>(
    tier: &T,
    key: &Key,
    meta: &Meta,
    decrement: bool,
    now: Now,
) -> Outcome<T::Value> {
    let is_creating = meta.has(MetaFlags::VIVIFY);
    let initial = is_creating.then(|| (meta.initial, meta.created_expiry()));
    let request = Arithmetic { decrement, delta: meta.delta, initial, cas: condition(meta) };
    let (number, mut cas) = match tier.arithmetic(key, request, now).await {
        Outcome::Number { value, cas } => (value, cas),
        outcome => return outcome,
    };
    // A number that is counted to exactly that value is taken for a new one.
    let is_new = is_creating && number == meta.initial;
    let is_asked = meta.has(MetaFlags::LEFT) && !meta.has(MetaFlags::EXPIRY_AFTER_TOUCH);
    let mut old = Expiry::NEVER;
    if is_asked && let Outcome::Hit(hit) = tier.get_with_expiry(key, now).await {
        old = hit.expiry;
    }
    if meta.has(MetaFlags::TOUCH)
        && !is_new
        && let Outcome::Touched { cas: touched } = tier.touch(key, meta.expiry, now).await
    {
        cas = touched;
    }
    let left_s = match is_new {
        true => meta.created_left_s(now),
        false => meta.reported_left_s(old, now),
    };
    Outcome::Changed(ItemInfo { cas, number, value_bytes: 0, left_s, is_new })
}
