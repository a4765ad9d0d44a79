//! Items whose value is received where it will stay.
//!
//! A draft is a record that was made and is not published: nobody finds it, and nothing evicts it.
//! So drafts together may hold a share of the memory only; beyond that, and for values that would
//! lie in many small pieces, a value is gathered elsewhere first, as if there were no drafts.

use std::io::IoSliceMut;

use super::commands::{Plan, plan};
use super::store::Store;
use super::{ItemValue, Memory};
use crate::base::clock::Now;
use crate::base::limits::{DRAFT_PIECE_BYTES_MIN, DRAFT_PIECES_MAX, RECEIVE_PIECES, item_bytes};
use crate::tier::segments::NewRecord;
use crate::tier::{Draft, Fill, Outcome, Store as StoreRequest, StoreMode};

/// Pieces of a draft that are received into together.
const FILL_PIECES: usize = 4;

const _: () = assert!(FILL_PIECES <= RECEIVE_PIECES);

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
        let bytes = item_bytes(key.len(), request.flags, value_bytes);
        let fits = is_whole
            && value_bytes > 0
            && bytes <= store.item_bytes_max
            && store.drafts.has_room(bytes)
            && store.segments.may_hold();
        if !fits {
            return None;
        }
        let hash = store.segments.hash(key);
        let old = store.find(key, hash, now);
        let made =
            store.segments.make(&new_record(key, hash, request, value_bytes), old.as_ref(), now)?;
        let made = store.segments.hold(made);
        store.account();
        let pieces = store.segments.pieces(made);
        if pieces > DRAFT_PIECES_MAX && value_bytes / pieces < DRAFT_PIECE_BYTES_MIN {
            store.segments.abandon(made);
            return None;
        }
        store.drafts.add(made, bytes)
    }

    pub(super) fn fill_draft_now(&self, draft: Draft, offset: usize, fill: &mut Fill<'_>) -> usize {
        let store = &mut *self.store.borrow_mut();
        let drafted = store.drafts.get_mut(draft);
        let (rooms, cursor) =
            store.segments.rooms_at::<FILL_PIECES>(drafted.made, drafted.cursor, offset);
        drafted.cursor = cursor;
        let mut rooms = rooms.map(IoSliceMut::new);
        let n = rooms.iter().take_while(|room| !room.is_empty()).count();
        fill(&mut rooms[..n])
    }

    pub(super) fn store_draft_now(
        &self,
        key: &[u8],
        draft: Draft,
        request: StoreRequest,
        now: Now,
    ) -> Outcome<ItemValue> {
        let store = &mut *self.store.borrow_mut();
        let hash = store.segments.hash(key);
        let old = store.find(key, hash, now);
        let planned = match plan(store, request, old) {
            Ok(Plan::Write { old }) => old,
            Ok(Plan::Extend { .. }) => unreachable!("nothing is drafted that extends"),
            Err(outcome) => {
                if request.mode == StoreMode::Add
                    && let Some(old) = old
                {
                    store.segments.note_use(&old);
                }
                forget(store, draft);
                return outcome;
            }
        };
        let made = store.drafts.remove(draft).made;
        let new = new_record(key, hash, request, store.segments.made_bytes(made));
        let made = store.segments.renew(made, &new, now);
        // Making it anew may have moved the old one.
        let old = planned.and_then(|old| store.segments.refresh(old, key, hash));
        let Some(made) = made else {
            if request.mode == StoreMode::Set
                && request.cas == 0
                && let Some(old) = old
            {
                store.segments.kill(&old);
            }
            store.account();
            return Outcome::OutOfMemory;
        };
        let cas = store.segments.publish(made, hash, old.as_ref());
        store.account_stored();
        Outcome::Stored { cas }
    }

    pub(super) fn drop_draft_now(&self, draft: Draft) {
        forget(&mut self.store.borrow_mut(), draft);
    }
}

/// What a draft is made with.
fn new_record(key: &[u8], hash: u64, request: StoreRequest, value_bytes: usize) -> NewRecord<'_> {
    let StoreRequest { flags, expiry, .. } = request;
    NewRecord { key, hash, flags, expiry, value_bytes, is_counter: false }
}

/// Gives back what a draft holds.
fn forget(store: &mut Store, draft: Draft) {
    let drafted = store.drafts.remove(draft);
    store.segments.abandon(drafted.made);
}
