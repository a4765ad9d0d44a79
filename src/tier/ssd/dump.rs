//! Listing the items of a log in the order of its index.
//!
//! The index knows no keys, so the head of each record is read: one block, a few at once. What is
//! read is an item only if the index still has it under its key's hash.

use arrayvec::ArrayVec;

use super::disk::{Buffer, Disk, DiskError};
use super::format::{Kind, RECORD_HEADER_BYTES, Record};
use super::index::Candidate;
use super::log::Log;
use super::segments::SegmentState;
use super::{Reading, Ssd};
use crate::base::buffer::{Chain, Key};
use crate::base::clock::Now;
use crate::base::limits::{DUMP_SLOTS, SSD_BLOCK_BYTES, SSD_UNIT_BYTES};
use crate::base::stats::Counter;
use crate::tier::{Dumped, DumpedItem, Outcome};

/// Reads of one piece that are in flight at once: clients' reads go on between them.
const READS: usize = 8;

/// What there is in a slot of the index.
enum Found {
    Item(Box<DumpedItem>),
    Nothing,
    /// A read in this slot of the queue, of this use of the segment, says.
    Read {
        slot: u32,
        incarnation: u32,
    },
    /// There are too many reads.
    Throttled,
}

impl<D: Disk> Ssd<D> {
    /// A piece of the items, from slot `from` of the index on.
    pub(super) async fn dump_piece(&self, from: u64, now: Now) -> Outcome<Chain> {
        let (candidates, next) = {
            let log = &mut *self.log.borrow_mut();
            log.see(now);
            log.index.piece(from, DUMP_SLOTS)
        };
        let mut items = Vec::new();
        for group in candidates.chunks(READS) {
            let mut reads = ArrayVec::<_, READS>::new();
            for candidate in group {
                match self.log.borrow_mut().begin_dump(candidate) {
                    Found::Item(item) => items.push(*item),
                    Found::Nothing => {}
                    Found::Read { slot, incarnation } => {
                        let reading = Reading { log: &self.log, slot: Some(slot) };
                        reads.push((candidate, incarnation, reading));
                    }
                    Found::Throttled => return Outcome::Throttled,
                }
            }
            for (candidate, incarnation, reading) in reads {
                let result = reading.await;
                let log = self.log.borrow();
                items.extend(log.dumped(candidate, incarnation, result));
            }
        }
        Outcome::Dumped(Box::new(Dumped { items, next }))
    }
}

impl<D: Disk> Log<D> {
    fn begin_dump(&mut self, candidate: &Candidate) -> Found {
        let Some((segment, offset)) = self.segments.locate(candidate.unit) else {
            return Found::Nothing;
        };
        if self.writer.has_lost(segment, offset) {
            return Found::Nothing;
        }
        let &super::segments::Segment { state, incarnation, .. } = self.segments.get(segment);
        if state == SegmentState::Open
            && let Some(open) = self.writer.open_of(segment)
            && let Some(mut pieces) = open.in_memory(offset)
        {
            let item = pieces.next().and_then(|first| {
                let record = Record::peek(first)?;
                self.dumped_item(candidate, &record, first)
            });
            return item.map_or(Found::Nothing, |item| Found::Item(Box::new(item)));
        }
        let (offset_bytes, _) =
            self.segments.extent(candidate.unit, candidate.span, SSD_BLOCK_BYTES);
        let Some(slot) = self.queue.reads_mut().begin(offset_bytes, SSD_BLOCK_BYTES) else {
            return Found::Throttled;
        };
        self.count(Counter::SsdReads, 1);
        Found::Read { slot, incarnation }
    }

    /// The item that a read found, if the index still has it.
    fn dumped(
        &self,
        candidate: &Candidate,
        incarnation: u32,
        result: Result<Buffer, DiskError>,
    ) -> Option<DumpedItem> {
        let buffer = result.ok()?;
        let bytes = &buffer[candidate.unit as usize * SSD_UNIT_BYTES % SSD_BLOCK_BYTES..];
        let bytes = &bytes[..bytes.len().min(SSD_BLOCK_BYTES)];
        let record = Record::head(bytes, candidate.unit)?;
        let is_same = record.incarnation == incarnation
            && self.segments.link(candidate.unit).incarnation() == incarnation;
        self.dumped_item(candidate, &record, bytes).filter(|_| is_same)
    }

    /// The item of a record whose head and key are at the start of `bytes`.
    fn dumped_item(
        &self,
        candidate: &Candidate,
        record: &Record,
        bytes: &[u8],
    ) -> Option<DumpedItem> {
        let end = RECORD_HEADER_BYTES + usize::from(record.key_bytes);
        if record.kind != Kind::Item || end > bytes.len() || !self.is_alive(record) {
            return None;
        }
        let key = record.key(bytes);
        if !self.index.is_at(candidate.slot, self.hash(key), candidate.unit) {
            return None;
        }
        Some(DumpedItem {
            key: Key::new(key)?,
            flags: record.flags,
            expiry: self.clock.host_expiry(record.expiry_s),
            // It is not known when.
            used_s: self.clock.host_expiry(self.clock.now().unix_s).unix_s(),
            cas: record.cas,
            is_fetched: candidate.uses > 0,
            value_bytes: record.value_bytes as usize,
        })
    }
}
