//! Finding a key's item: in memory, or where a read has to go.
//!
//! The index says which records may be it; the record itself says whether it is, and whether it is
//! alive. Records of other keys are left alone. This must never take a record for the key's that
//! was not checked: those from the disk by their checksum, place and use of the segment.

use arrayvec::ArrayVec;

use super::disk::{Buffer, Disk, DiskError};
use super::format::{RECORD_HEADER_BYTES, Record};
use super::index::{BUCKET_SLOTS, Candidate};
use super::log::Log;
use super::segments::SegmentState;
use crate::base::buffer::{Chain, Gather};
use crate::base::clock::Expiry;
use crate::base::limits::{SSD_BLOCK_BYTES, SSD_UNIT_BYTES};
use crate::base::stats::Counter;

/// An item as it was found.
#[derive(Debug)]
pub(super) struct Item {
    /// Where in the index it was found.
    pub slot: usize,
    pub unit: u64,
    pub record: Record,
    pub value: Chain,
}

/// Records that turned out to be of other keys.
pub(super) type Others = ArrayVec<u64, { 2 * BUCKET_SLOTS }>;

/// What there is to a key.
#[derive(Debug)]
pub(super) enum Look {
    /// No item.
    Nothing,
    /// Its item.
    Item(Item),
    /// What this read says.
    Read(RecordRead),
}

/// A read of a record that may be the one.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordRead {
    pub candidate: Candidate,
    incarnation: u32,
    pub offset_bytes: u64,
    pub len_bytes: usize,
}

/// What a read turned out to be.
#[derive(Debug)]
pub(super) enum Verified {
    /// The key's item.
    Item(Item),
    /// Not the key's item, or not any more: look again.
    LookAgain,
    /// The key's item is not to be had.
    Lost,
    /// The disk could not read it.
    Unreadable,
}

impl<D: Disk> Log<D> {
    /// Looks for a key.
    pub(super) fn look(&mut self, key: &[u8], hash: u64, others: &mut Others) -> Look {
        let candidates: ArrayVec<Candidate, { 2 * BUCKET_SLOTS }> =
            self.index.find(hash).filter(|it| !others.contains(&it.unit)).collect();
        for candidate in candidates {
            let Some((segment, offset)) = self.segments.locate(candidate.unit) else { continue };
            if self.writer.has_lost(segment, offset) {
                continue;
            }
            if self.segments.get(segment).state == SegmentState::Open
                && let Some(looked) = self.look_in_memory(segment, offset, &candidate, key)
            {
                match looked {
                    Some(item) if self.is_alive(&item.record) => {
                        self.count(Counter::SsdBufferHits, 1);
                        return Look::Item(item);
                    }
                    Some(_) => {
                        self.forget(hash, candidate.unit);
                        return Look::Nothing;
                    }
                    None => {
                        others.push(candidate.unit);
                        continue;
                    }
                }
            }
            let len_bytes_max = self.queue.pool().read_bytes_max();
            let (offset_bytes, len_bytes) =
                self.segments.extent(candidate.unit, candidate.span, len_bytes_max);
            let incarnation = self.segments.get(segment).incarnation;
            return Look::Read(RecordRead { candidate, incarnation, offset_bytes, len_bytes });
        }
        Look::Nothing
    }

    /// The item at a place that is in memory; Some(None) if it is another key's. None: the place is
    /// not in memory.
    fn look_in_memory(
        &self,
        segment: u32,
        offset: u32,
        candidate: &Candidate,
        key: &[u8],
    ) -> Option<Option<Item>> {
        let open = self.writer.open_of(segment)?;
        let mut pieces = open.in_memory(offset)?;
        // Header and key are in one block.
        let first = pieces.next()?;
        let record = Record::peek(first)?;
        if record.key(first) != key {
            return Some(None);
        }
        let mut left = record.value_bytes as usize;
        let mut value = Gather::new();
        let start = RECORD_HEADER_BYTES + key.len();
        for piece in std::iter::once(&first[start..]).chain(pieces) {
            let n = left.min(piece.len());
            value.extend(&piece[..n]);
            left -= n;
            if left == 0 {
                break;
            }
        }
        assert_eq!(left, 0, "a record is in memory wholly or not at all");
        let &Candidate { slot, unit, .. } = candidate;
        Some(Some(Item { slot, unit, record, value: value.finish() }))
    }

    pub(super) fn is_alive(&self, record: &Record) -> bool {
        !self.sequences.is_flushed(record.sequence)
            && !Expiry::from_unix_s(record.expiry_s).is_past(self.clock.now())
    }

    /// Whether an item that was found a while ago has been flushed meanwhile.
    pub(super) fn is_flushed(&self, item: &Item) -> bool {
        self.sequences.is_flushed(item.record.sequence)
    }

    /// Verifies what was read.
    pub(super) fn verify(
        &mut self,
        key: &[u8],
        hash: u64,
        read: &RecordRead,
        result: Result<Buffer, DiskError>,
        others: &mut Others,
    ) -> Verified {
        let Candidate { slot, unit, .. } = read.candidate;
        let Ok(buffer) = result else { return Verified::Unreadable };
        if !self.index.is_at(slot, hash, unit)
            || self.segments.link(unit).incarnation() != read.incarnation
        {
            // It was moved, or had to go.
            return Verified::LookAgain;
        }
        let bytes = &buffer[unit as usize * SSD_UNIT_BYTES % SSD_BLOCK_BYTES..read.len_bytes];
        // Longer than any read: it was stored when items could be larger, and may be there again.
        let is_cut = |record: &Record| record.len_bytes() > bytes.len();
        let head = Record::head(bytes, unit);
        let has_key =
            |record: &Record| RECORD_HEADER_BYTES + usize::from(record.key_bytes) <= bytes.len();
        let Some(record) = head.filter(|record| {
            record.incarnation == read.incarnation
                && has_key(record)
                && (is_cut(record) || record.is_whole(bytes))
        }) else {
            self.count(Counter::SsdCorrupt, 1);
            self.forget(hash, unit);
            return Verified::Lost;
        };
        if record.key(bytes) != key {
            self.count(Counter::SsdFalseReads, 1);
            others.push(unit);
            return Verified::LookAgain;
        }
        if !self.is_alive(&record) {
            self.forget(hash, unit);
            return Verified::Lost;
        }
        if is_cut(&record) {
            self.count(Counter::SsdTooLarge, 1);
            return Verified::Unreadable;
        }
        let mut value = Gather::new();
        value.extend(record.value(bytes));
        Verified::Item(Item { slot, unit, record, value: value.finish() })
    }
}
