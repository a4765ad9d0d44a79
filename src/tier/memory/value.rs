//! The value of a hit, which holds its item.
//!
//! Nothing here copies more than it is asked for, or reads what was given away.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use super::item::Cursor;
use super::store::Store;
use crate::base::clock::Now;
use crate::tier::{Take, Value};

/// The value of a hit. The item's bytes do not change while it lives, and are not given away before
/// its reader has paused.
pub struct ItemValue {
    pub(super) store: Rc<RefCell<Store>>,
    pub(super) item: u32,
    pub(super) len: u32,
    /// Where the last copy ended, so that a value in many extents is walked once, not once a copy.
    pub(super) cursor: Cell<Cursor>,
}

impl fmt::Debug for ItemValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ItemValue({} bytes)", self.len)
    }
}

impl Value for ItemValue {
    #[inline]
    fn len(&self) -> usize {
        self.len as usize
    }

    #[inline(always)]
    fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        let n = out.len().min(self.len().saturating_sub(offset));
        let store = self.store.borrow();
        let mut cursor = self.cursor.get();
        if cursor.offset as usize > offset {
            cursor = store.arena.value_start(self.item);
        }
        let Some(cursor) = store.arena.read_value(self.item, cursor, offset, &mut out[..n]) else {
            return 0;
        };
        self.cursor.set(cursor);
        n
    }

    fn show(&self, offset: usize, take: &mut Take<'_>) -> usize {
        let store = self.store.borrow();
        if store.arena.is_lost(self.item) {
            return 0;
        }
        let mut cursor = self.cursor.get();
        if cursor.offset as usize > offset {
            cursor = store.arena.value_start(self.item);
        }
        let (mut pieces, cursor) = store.arena.value_pieces(self.item, cursor, offset);
        self.cursor.set(cursor);
        take(&mut pieces)
    }

    fn note_progress(&self, now: Now) {
        self.store.borrow_mut().note_reader(self.item, now);
    }

    fn is_lost(&self) -> bool {
        self.store.borrow().arena.is_lost(self.item)
    }
}

impl Drop for ItemValue {
    #[inline(always)]
    fn drop(&mut self) {
        self.store.borrow_mut().unpin(self.item);
    }
}
