//! The collectors of a chunked tier's batches.

use super::assembly::Assembly;
use super::item::Item;
use crate::tier::link::{Collect, Head, One, Status, Statuses};

/// Collects the answers to one batch.
#[derive(Debug)]
pub enum Collector {
    /// One answer, with its value.
    One(One),
    /// The number of answers of each status; values are dropped.
    Statuses(Statuses),
    /// A value that arrives in chunks.
    Chunks(Assembly),
    /// The same after its metadata.
    Item(Item),
}

impl Collector {
    /// For one answer.
    pub fn one() -> Collector {
        Collector::One(One::default())
    }

    /// For statuses.
    pub fn statuses() -> Collector {
        Collector::Statuses(Statuses::default())
    }

    /// The result of a batch begun with [`Collector::one`].
    ///
    /// # Panics
    /// If the batch was begun with another.
    pub fn into_one(self) -> One {
        let Collector::One(one) = self else { unreachable!("begun with another collector") };
        one
    }

    /// The result of a batch begun with [`Collector::statuses`].
    ///
    /// # Panics
    /// If the batch was begun with another.
    pub fn into_statuses(self) -> Statuses {
        let Collector::Statuses(statuses) = self else {
            unreachable!("begun with another collector")
        };
        statuses
    }

    /// The result of a batch begun with [`Collector::Chunks`].
    ///
    /// # Panics
    /// If the batch was begun with another.
    pub fn into_chunks(self) -> Assembly {
        let Collector::Chunks(assembly) = self else {
            unreachable!("begun with another collector")
        };
        assembly
    }

    /// The result of a batch begun with [`Collector::Item`].
    ///
    /// # Panics
    /// If the batch was begun with another.
    pub fn into_item(self) -> Item {
        let Collector::Item(item) = self else { unreachable!("begun with another collector") };
        item
    }
}

impl Collect for Collector {
    #[inline]
    fn begin(&mut self, head: &Head) {
        match self {
            Collector::One(one) => one.begin(head),
            Collector::Statuses(statuses) => statuses.begin(head),
            Collector::Chunks(assembly) => {
                assembly.begin((head.status == Status::Value).then_some(head.value_bytes));
            }
            Collector::Item(item) => item.begin(head),
        }
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        match self {
            Collector::One(one) => one.bytes(bytes),
            Collector::Statuses(statuses) => statuses.bytes(bytes),
            Collector::Chunks(assembly) => assembly.bytes(bytes),
            Collector::Item(item) => item.bytes(bytes),
        }
    }

    #[inline]
    fn end(&mut self) {
        match self {
            Collector::One(one) => one.end(),
            Collector::Statuses(statuses) => statuses.end(),
            Collector::Chunks(assembly) => assembly.end(),
            Collector::Item(item) => item.end(),
        }
    }
}
