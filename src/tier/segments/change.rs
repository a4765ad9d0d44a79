//! Changes of items that are there: numbers, expiry, and a flush of all.

use super::header;
use super::index::IndexEntry;
use super::record::{self, RecordKind, RecordMarks};
use super::store::{FoundRecord, GROUPS, SegmentStore};
use super::table::{NO_EXPIRY, SegmentQueue};
use crate::base::clock::{Expiry, Now};

impl SegmentStore {
    /// Changes the value of a counter in place; returns the cas it has then. None if it has to be
    /// made anew: because it was made as something else or has another length, or because readers
    /// hold it.
    pub fn set_counter(&mut self, found: &FoundRecord, value: &[u8]) -> Option<u64> {
        let FoundRecord { head, place, .. } = *found;
        if !head.has_cas()
            || head.kind() != RecordKind::Plain
            || head.body_bytes() != value.len()
            || !self.is_unheld(place)
        {
            return None;
        }
        let cas = self.next_counter_cas();
        let marks = head.marks(&self.region, place);
        head.set_cas(&mut self.region, place, cas, marks);
        self.region.write(head.body_at(place), value);
        head.write_check(&mut self.region, place);
        Some(cas)
    }

    /// Gives an item another expiry; None if there was no room for that. It may be moved, and has
    /// its old cas as its own then.
    pub fn touch(
        &mut self,
        found: FoundRecord,
        (key, hash): (&[u8], u64),
        expiry: Expiry,
        now: Now,
    ) -> Option<FoundRecord> {
        if found.head.set_expiry(&mut self.region, found.place, expiry) {
            let segment = self.table.of(found.place);
            let expiry_s = if expiry == Expiry::NEVER { NO_EXPIRY } else { expiry.unix_s() };
            let entry = self.table.get_mut(segment);
            entry.expiry_max_s = entry.expiry_max_s.max(expiry_s);
            return Some(found);
        }
        let named = (self.cas(&found), found.head.marks(&self.region, found.place));
        self.remake(found, (key, hash), expiry, named, now)
    }

    /// Gives an item other marks and, if it is not None, another cas; None if there was no room for
    /// that. It may be moved.
    pub fn mark(
        &mut self,
        found: FoundRecord,
        (key, hash): (&[u8], u64),
        marks: RecordMarks,
        cas: Option<u64>,
        now: Now,
    ) -> Option<FoundRecord> {
        let cas = cas.unwrap_or_else(|| self.cas(&found));
        if found.head.has_cas() {
            found.head.set_cas(&mut self.region, found.place, cas, marks);
            found.head.write_check(&mut self.region, found.place);
            return Some(found);
        }
        let expiry = self.expiry(&found);
        self.remake(found, (key, hash), expiry, (cas, marks), now)
    }

    /// Lets a copy of an item that has a cas of its own take its place.
    fn remake(
        &mut self,
        found: FoundRecord,
        (key, hash): (&[u8], u64),
        expiry: Expiry,
        (cas, marks): (u64, RecordMarks),
        now: Now,
    ) -> Option<FoundRecord> {
        let shape = found.head.shape_with_cas(&self.region, found.place, expiry);
        let bytes = shape.bytes(&self.region);
        self.pay(bytes, now);
        let mut found = self.refresh(found, key, hash)?;
        let queue = self.table.get(self.table.of(found.place)).queue;
        let to = (queue, self.group(expiry, now));
        if self.room(to.0, to.1) < bytes && self.table.free() <= 1 {
            self.pay_at_once(now);
            found = self.refresh(found, key, hash)?;
        }
        let place = self.append(to, bytes, expiry, (1, now))?;
        shape.write(&mut self.region, place, key);
        let from = found.head.body_at(found.place);
        let body_bytes = found.head.body_bytes();
        let head = shape.head();
        self.region.copy(from, head.body_at(place), body_bytes);
        head.set_cas(&mut self.region, place, cas, marks);
        if head.kind() == RecordKind::Chain {
            record::forget_pins(&mut self.region, head.body_at(place));
        }
        if head.kind() != RecordKind::Plain {
            self.note_chain(place);
        }
        self.table.commit(&mut self.region, self.table.of(place));
        self.supersede(found.entry, found.entry.frequency(), place);
        self.refresh(found, key, hash)
    }

    /// Lets a copy of a record take its place. Its pieces, if it has some, stay.
    pub(super) fn supersede(&mut self, entry: IndexEntry, frequency: u8, place: usize) {
        let old = entry.place();
        let old_head = record::head(&self.region, old);
        let head = record::head(&self.region, place);
        old_head.bury(&mut self.region, old);
        self.index.replace(&mut self.region, entry, place, frequency);
        head.publish(&mut self.region, place);
        self.table.add_live(place, head.bytes(&self.region));
        if self.table.remove_live(old, old_head.bytes(&self.region)) {
            self.retire_if_empty(self.table.of(old));
        }
    }

    /// Flushes now, or at a second to come; either way a flush that was to come is forgotten.
    pub fn flush(&mut self, at: Expiry, now: Now) {
        self.flush_if_due(now);
        let at_s = at.unix_s();
        if at_s != 0 && at_s > now.unix_s {
            self.flush_at_s = Some(at_s);
            header::set_flush(&mut self.region, self.flushed_below, Some(at_s));
            return;
        }
        self.flush_at_s = None;
        self.flush_now();
    }

    fn flush_now(&mut self) {
        for queue in [SegmentQueue::Small, SegmentQueue::Main] {
            (0..GROUPS as u8).for_each(|group| self.seal(queue, group));
        }
        self.flushed_below = self.sequence_next;
        header::set_flush(&mut self.region, self.flushed_below, None);
    }

    /// Flushes if it is time. It is asked before anything is looked for and so before anything is
    /// published: what is there now was stored before that second.
    #[cold]
    pub(super) fn flush_if_due(&mut self, now: Now) {
        if self.flush_at_s.is_some_and(|at_s| now.unix_s >= at_s) {
            self.flush_at_s = None;
            self.flush_now();
        }
    }
}
