//! Items whose value is received where it will stay.
//!
//! A draft is an item that was made and is not linked: nobody finds it, and nothing evicts it. So
//! drafts together may hold a share of the arena only; beyond that, and for values that would lie
//! in many pieces, a value is gathered elsewhere first, as if there were no drafts.

use super::item::units_of_item;
use super::store::Store;
use super::{ItemValue, Memory, Plan, item_bytes, plan};
use crate::base::clock::Now;
use crate::base::limits::{DRAFT_EXTENTS_MAX, DRAFTS_SHARE};
use crate::tier::{Draft, Outcome, Store as StoreRequest, StoreMode};

impl Memory {
    pub(super) fn draft_now(
        &self,
        key: &[u8],
        request: StoreRequest,
        value_bytes: usize,
        now: Now,
    ) -> Option<Draft> {
        let store = &mut *self.store.borrow_mut();
        let is_whole = !matches!(request.mode, StoreMode::Append | StoreMode::Prepend);
        let room = store.arena.units_total() / DRAFTS_SHARE;
        let units = units_of_item(key.len(), value_bytes);
        let fits = is_whole
            && value_bytes > 0
            && store.drafted_units.saturating_add(units) <= room
            && item_bytes(key, request.flags, value_bytes) <= store.item_bytes_max;
        if !fits {
            return None;
        }
        let item = store.make(key, request.flags, request.expiry, value_bytes, now)?;
        let (extents, units) = store.extent(item);
        if extents > DRAFT_EXTENTS_MAX {
            store.give(item);
            store.account();
            return None;
        }
        store.drafted_units += units;
        store.account();
        Some(Draft(item))
    }

    pub(super) fn fill_draft_now(
        &self,
        draft: Draft,
        offset: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> usize,
    ) -> usize {
        let arena = &mut self.store.borrow_mut().arena;
        let start = arena.value_start(draft.0);
        fill(arena.value_room(draft.0, start, offset).0)
    }

    pub(super) fn store_draft_now(
        &self,
        key: &[u8],
        draft: Draft,
        request: StoreRequest,
        now: Now,
    ) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        let tag = store.tag(key);
        let old = store.find(key, tag, now);
        let old = match plan(store, request, old) {
            Ok(Plan::Write { old }) => old,
            Ok(Plan::Extend { .. }) => unreachable!("nothing is drafted that extends"),
            Err(outcome) => {
                if request.mode == StoreMode::Add
                    && let Some(old) = old
                {
                    store.note_use(old, now);
                }
                forget(store, draft);
                return outcome;
            }
        };
        // Others may have filled the index since the draft had its place in it.
        if old.is_none() && !store.make_place(now) {
            forget(store, draft);
            return Outcome::OutOfMemory;
        }
        store.drafted_units -= store.extent(draft.0).1;
        store.arena.set_used_s(draft.0, now.unix_s);
        if let Some(old) = old {
            store.unlink(old, tag);
        }
        Outcome::Stored { cas: store.link(draft.0, tag) }
    }

    pub(super) fn drop_draft_now(&self, draft: Draft) {
        forget(&mut self.store.borrow_mut(), draft);
    }
}

/// Gives back what a draft holds.
fn forget(store: &mut Store, draft: Draft) {
    store.drafted_units -= store.extent(draft.0).1;
    store.give(draft.0);
    store.account();
}
