//! What becomes of answers: the closed set of ways in which a batch gathers its own.

use super::{Head, Status};
use crate::buffer::{self, Chain, Gather, Key};
use crate::tier::memcached::item::Item;
use crate::tier::memcached::layout::Assembly;

/// Where the answers to one batch go. Value bytes are handed over straight from the read buffer.
#[derive(Debug)]
pub enum Collector {
    /// One answer, with its value.
    One(One),
    /// How many answers of which status; values are dropped.
    Statuses(Statuses),
    /// A value that comes in chunks.
    Chunks(Assembly),
    /// The same behind its metadata.
    Item(Item),
    /// The answer to the delete of a key that must not be served any more. Made by
    /// [`super::Link::invalidate`] only: should the answer never come, the key is remembered.
    Invalidation(Box<Key>),
}

/// One answer.
#[derive(Debug, Default)]
pub struct One {
    /// Its head.
    pub head: Head,
    value: Gather,
    /// There was no room for the value.
    is_refused: bool,
}

impl One {
    /// A value that there is no room for is as good as refused.
    #[inline]
    fn begin(&mut self, head: &Head) {
        self.head = *head;
        if !buffer::may_gather(head.value_bytes) {
            self.head.status = Status::Refused;
            self.is_refused = true;
        }
    }

    /// The head, and the value; empty if there is none.
    pub fn into_parts(self) -> (Head, Chain) {
        (self.head, self.value.finish())
    }
}

/// Counts of statuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statuses {
    counts: [u32; Status::COUNT],
}

impl Statuses {
    /// Answers with this status.
    pub fn of(&self, status: Status) -> u32 {
        self.counts[status as usize]
    }

    /// All answers.
    pub fn total(&self) -> u32 {
        self.counts.iter().sum()
    }
}

impl Collector {
    /// A collector for one answer.
    pub fn one() -> Collector {
        Collector::One(One::default())
    }

    /// A collector of statuses.
    pub fn statuses() -> Collector {
        Collector::Statuses(Statuses::default())
    }

    /// An answer begins.
    #[inline]
    pub(super) fn head(&mut self, head: &Head) {
        match self {
            Collector::One(one) => one.begin(head),
            Collector::Statuses(statuses) => statuses.counts[head.status as usize] += 1,
            Collector::Chunks(assembly) => {
                assembly.begin((head.status == Status::Value).then_some(head.value_bytes));
            }
            Collector::Item(item) => item.begin(head),
            Collector::Invalidation(_) => {}
        }
    }

    /// The next bytes of its value.
    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        match self {
            Collector::One(one) if one.is_refused => {}
            Collector::One(one) => one.value.extend(bytes),
            Collector::Chunks(assembly) => assembly.bytes(bytes),
            Collector::Item(item) => item.bytes(bytes),
            Collector::Statuses(_) | Collector::Invalidation(_) => {}
        }
    }

    /// The value was whole.
    #[inline]
    pub(super) fn end(&mut self) {
        match self {
            Collector::Chunks(assembly) => assembly.end(),
            Collector::Item(item) => item.end(),
            Collector::One(_) | Collector::Statuses(_) | Collector::Invalidation(_) => {}
        }
    }

    /// What was collected, of a batch begun with [`Collector::one`].
    ///
    /// # Panics
    /// If the batch was begun with another.
    pub fn into_one(self) -> One {
        let Collector::One(one) = self else { unreachable!("begun with another collector") };
        one
    }

    /// What was collected, of a batch begun with [`Collector::statuses`].
    ///
    /// # Panics
    /// If the batch was begun with another.
    pub fn into_statuses(self) -> Statuses {
        let Collector::Statuses(statuses) = self else {
            unreachable!("begun with another collector")
        };
        statuses
    }

    /// What was collected, of a batch begun with [`Collector::Chunks`].
    ///
    /// # Panics
    /// If the batch was begun with another.
    pub fn into_chunks(self) -> Assembly {
        let Collector::Chunks(assembly) = self else {
            unreachable!("begun with another collector")
        };
        assembly
    }

    /// What was collected, of a batch begun with [`Collector::Item`].
    ///
    /// # Panics
    /// If the batch was begun with another.
    pub fn into_item(self) -> Item {
        let Collector::Item(item) = self else { unreachable!("begun with another collector") };
        item
    }
}
