//! The value of a hit, which holds its item.
//!
//! Nothing here copies more than it is asked for, or reads what was given away.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use super::store::Store;
use crate::base::clock::Now;
use crate::base::stats::Counter;
use crate::tier::segments::{OpenedRecord, PieceCursor};
use crate::tier::{Take, Value};

/// The value of a hit. The item's bytes do not change while it lives, and are not given away before
/// its reader has paused.
pub struct ItemValue {
    pub(super) store: Rc<RefCell<Store>>,
    pub(super) opened: OpenedRecord,
    /// Where the last copy ended, so that a value in many pieces is walked once, not once a copy.
    pub(super) cursor: Cell<PieceCursor>,
    /// How many segments had been taken from readers when it was last looked at, or [`LOST`].
    pub(super) takes: Cell<u32>,
}

/// Its bytes were taken.
const LOST: u32 = u32::MAX;

impl fmt::Debug for ItemValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ItemValue({} bytes)", self.len())
    }
}

impl ItemValue {
    /// Whether its bytes were taken.
    #[inline(always)]
    fn look(&self, store: &Store) -> bool {
        store.segments.takes != self.takes.get() && self.look_again(store)
    }

    #[cold]
    #[inline(never)]
    fn look_again(&self, store: &Store) -> bool {
        if self.takes.get() == LOST {
            return true;
        }
        let is_lost = store.segments.is_lost(&self.opened);
        if is_lost {
            store.stats.add(Counter::EvictedUnread, 1);
        }
        self.takes.set(if is_lost { LOST } else { store.segments.takes });
        is_lost
    }
}

impl Value for ItemValue {
    #[inline]
    fn len(&self) -> usize {
        self.opened.value_bytes()
    }

    #[inline(always)]
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        let n = out.len().min(self.len().saturating_sub(offset));
        let store = self.store.borrow();
        if self.look(&store) {
            return 0;
        }
        let cursor =
            store.segments.read_value(&self.opened, self.cursor.get(), offset, &mut out[..n]);
        self.cursor.set(cursor);
        n
    }

    fn show(&self, offset: usize, take: &mut Take<'_>) -> usize {
        let store = self.store.borrow();
        if self.look(&store) {
            return 0;
        }
        // That of the first piece is enough: they are taken from the first on.
        self.cursor.set(store.segments.value_at(&self.opened, self.cursor.get(), offset).1);
        take(&mut store.segments.rest_of_value(&self.opened, self.cursor.get(), offset))
    }

    fn note_progress(&self, now: Now) {
        self.store.borrow_mut().segments.note_progress(&self.opened, now);
    }

    fn is_lost(&self) -> bool {
        self.look(&self.store.borrow())
    }
}

impl Drop for ItemValue {
    #[inline(always)]
    fn drop(&mut self) {
        let store = &mut *self.store.borrow_mut();
        self.look(store);
        store.segments.close(&self.opened);
    }
}
