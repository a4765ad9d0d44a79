//! The items of one worker: what a command needs to find, make, publish, change and remove them.
//!
//! What was found is valid until something else is made: that may move or evict it.
//! [`SegmentStore::refresh`] finds it again and costs nothing if nothing moved. Who reads it later
//! holds it with [`SegmentStore::open`].

use std::cell::Cell;
use std::io;

use rapidhash::v3::{RapidSecrets, rapidhash_v3_micro_inline};

use super::figures::{EvictedItems, SegmentCounts, SegmentOverview};
use super::geometry::{Geometry, SegmentStoreConfig, header_bytes};
use super::header::{self, State};
use super::index::{IndexAddress, IndexEntry, Inserted, RecordIndex};
use super::record::{
    self, RECORD_VALUE_BYTES_MAX, RecordHead, RecordKind, RecordMarks, RecordShape,
};
use super::region::Region;
use super::scan::{LookAround, SegmentScan, Sweep};
use super::table::{NIL, SegmentQueue, SegmentTable};
use crate::base::clock::{Expiry, Now};
use crate::base::limits::READER_PAUSE_US;
use crate::base::secret;

/// Groups of lifetimes, and the longest of each but the last, in seconds. The first is for ever.
pub(super) const GROUPS: usize = 8;
const LIFETIMES_S: [u32; GROUPS - 2] = [60, 300, 1800, 3 * 3600, 24 * 3600, 7 * 24 * 3600];

/// Bits of a cas that are the offset in a segment.
pub(super) const OFFSET_BITS: u32 = 20;

/// How often buckets are split for a record that has no room in its own.
const CROWDED_SPLITS: usize = 4;

/// An item that was found. Good until something is made.
#[derive(Clone, Copy, Debug)]
pub struct FoundRecord {
    pub(super) place: usize,
    pub(super) head: RecordHead,
    pub(super) entry: IndexEntry,
    stamp: u64,
}

/// An item whose bytes are held for a reader. As small as can be: replies and operations that wait
/// have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedRecord {
    /// Names it for reading, until it is closed.
    pub(super) place: usize,
    /// The lower bits of its segment's: another one means that its bytes are gone.
    pub(super) sequence: u32,
    /// The length of its value, and in the top bit whether that is in pieces.
    length: u32,
}

/// Set in an [`OpenedRecord`]'s length if its value is in pieces. No value is so long.
const IN_PIECES: u32 = 1 << 31;

impl OpenedRecord {
    #[inline(always)]
    pub(super) fn new(
        place: usize,
        sequence: u64,
        value_bytes: usize,
        is_chain: bool,
    ) -> OpenedRecord {
        let in_pieces = if is_chain { IN_PIECES } else { 0 };
        OpenedRecord { place, sequence: sequence as u32, length: value_bytes as u32 | in_pieces }
    }

    /// Length of its value.
    #[inline(always)]
    pub fn value_bytes(&self) -> usize {
        (self.length & !IN_PIECES) as usize
    }

    /// Whether its value is in pieces.
    #[inline(always)]
    pub(super) fn is_chain(&self) -> bool {
        self.length & IN_PIECES != 0
    }
}

/// What an item is made with.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'k> {
    /// Its key.
    pub key: &'k [u8],
    /// The key's hash, of [`SegmentStore::hash`].
    pub hash: u64,
    /// The client's flags.
    pub flags: u32,
    /// When it expires.
    pub expiry: Expiry,
    /// Length of its value, which is written later.
    pub value_bytes: usize,
    /// It has room for a cas of its own and marks: a number that will be changed in place, or an
    /// item that is published with [`SegmentStore::publish_as`].
    pub is_counter: bool,
}

/// An item that nobody finds yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it is published or dropped"]
pub struct MadeRecord {
    pub(super) place: usize,
    pub(super) head: RecordHead,
    /// Its segments must not be emptied.
    pub(super) is_held: bool,
}

/// Hashes that are remembered with what was foreseen for them: more than a burst of requests has.
const FORESEEN: usize = 64;

/// Where an entry for a hash was seen, or that there is none. Whoever looks there checks whether it
/// still is one.
#[derive(Clone, Copy, Debug)]
struct Foreseen {
    hash: u64,
    /// Offset of the entry's slot, or [`Foreseen::NO_SLOT`].
    slot: usize,
    /// That of the index then.
    stamp: u64,
}

impl Foreseen {
    const NO_SLOT: usize = usize::MAX;

    /// Any slot, which is checked.
    fn nothing(index: &RecordIndex) -> Foreseen {
        Foreseen { hash: 0, slot: index.first_slot(), stamp: 0 }
    }
}

/// Everything of one worker.
#[derive(Debug)]
pub struct SegmentStore {
    pub(super) region: Region,
    pub(super) index: RecordIndex,
    pub(super) table: SegmentTable,
    /// What was prefetched last, so that a request that follows need not search for it.
    foreseen: [Cell<Foreseen>; FORESEEN],
    /// What happened since the start.
    pub counts: SegmentCounts,
    /// What was evicted, if somebody watches.
    pub(super) evicted: Option<Box<EvictedItems>>,
    secrets: RapidSecrets,
    /// The open segment of each queue and group.
    pub(super) open: [[u32; GROUPS]; 2],
    pub(super) groups: usize,
    pub(super) sequence_next: u64,
    pub(super) sequence_step: u64,
    /// Where the next cas of a counter comes from: a sequence number of its own, used up in steps.
    pub(super) counter_cas: u64,
    /// What lies in segments with a lower sequence number is flushed.
    pub(super) flushed_below: u64,
    pub(super) flush_at_s: Option<u32>,
    pub(super) scan: Option<SegmentScan>,
    pub(super) look: LookAround,
    /// Free segments that are kept ahead of use.
    pub(super) reserve: u32,
    /// Fewest segments that the index must leave.
    pub(super) segments_min: u32,
    /// The index asks for a segment.
    pub(super) is_index_short: bool,
    /// Something could not be stored for want of room since this was last reset.
    pub is_starved: bool,
    /// Points that the item being made may still use if it finds no room.
    pub(super) at_once_points: u32,
    /// Places of a value's pieces while it is being made.
    pub(super) pieces: Vec<usize>,
    /// Segments with records that are being written.
    pub(super) drafted: u32,
    /// The time that a later start knows of, in seconds of Unix time.
    pub(super) clock_s: u32,
    /// Pins of chains that name a sequence number up to this are of an earlier process.
    pub(super) begun: u64,
    /// After which pause readers may lose their bytes, in microseconds.
    pub reader_pause_us: u64,
    /// Segments that were taken from readers.
    pub takes: u32,
    /// Uptime up to which no reader is looked at again, in microseconds.
    pub(super) readers_seen_us: u64,
    pub(super) sweep: Sweep,
}

impl SegmentStore {
    /// Maps the region and begins it.
    ///
    /// # Errors
    /// `InvalidInput` if a figure of the config is out of its range; else the kernel's, if it has
    /// not so much memory.
    pub fn new(config: SegmentStoreConfig) -> io::Result<SegmentStore> {
        if !config.is_in_range() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let geometry = config.geometry(u64::from_ne_bytes(secret::random()), 0);
        let mut region = Region::new(geometry.bytes)?;
        header::begin(&mut region, geometry, &State::first(&geometry));
        Ok(SegmentStore::in_region(region, geometry, geometry.segments()))
    }

    /// An empty one in a region that has a header, with so many segments that the index does not
    /// have.
    pub(super) fn in_region(region: Region, geometry: Geometry, count: u32) -> SegmentStore {
        let Geometry { bytes, shift, seed, worker, workers, .. } = geometry;
        let index_start = header_bytes(bytes);
        let mut table = SegmentTable::new(bytes, count, shift);
        table.widen(geometry.segments());
        let pieces_max = bytes / (table.segment_bytes() / 64) + 8;
        let index = RecordIndex::new(index_start, table.bottom(), bytes);
        SegmentStore {
            foreseen: std::array::from_fn(|_| Cell::new(Foreseen::nothing(&index))),
            index,
            region,
            counts: SegmentCounts::default(),
            evicted: None,
            secrets: RapidSecrets::seed(seed),
            open: [[NIL; GROUPS]; 2],
            groups: (count as usize / 16).clamp(1, GROUPS),
            sequence_next: u64::from(worker) + 1,
            sequence_step: u64::from(workers),
            counter_cas: 0,
            flushed_below: 0,
            flush_at_s: None,
            scan: None,
            look: LookAround::default(),
            reserve: (count / 80).max(3),
            segments_min: (count / 4).max(8).min(count),
            is_index_short: false,
            is_starved: false,
            at_once_points: 0,
            pieces: Vec::with_capacity(pieces_max.min(1 << 16)),
            drafted: 0,
            begun: 0,
            reader_pause_us: READER_PAUSE_US,
            takes: 0,
            readers_seen_us: 0,
            sweep: Sweep::new(geometry.segments()),
            table,
            clock_s: 0,
        }
    }

    /// The hash that everything goes by.
    #[inline(always)]
    pub fn hash(&self, key: &[u8]) -> u64 {
        rapidhash_v3_micro_inline::<true, false>(key, &self.secrets)
    }

    /// Items kept.
    #[inline]
    pub fn items(&self) -> usize {
        self.index.entries()
    }

    /// Prefetches the index entry for the key with this hash.
    #[inline(always)]
    pub fn prefetch_index(&self, hash: u64) {
        self.index.prefetch(&self.region, self.index.address(hash));
    }

    /// Prefetches the record that the key with this hash probably has. Reads the
    /// index, so call it some time after [`SegmentStore::prefetch_index`].
    #[inline(always)]
    pub fn prefetch_record(&self, hash: u64) {
        let address = self.index.address(hash);
        let entry = self.index.find(&self.region, address, |_| true);
        let slot = entry.map_or(Foreseen::NO_SLOT, IndexEntry::slot);
        let foreseen = Foreseen { hash, slot, stamp: self.index.stamp() };
        self.foreseen[hash as usize % FORESEEN].set(foreseen);
        match entry {
            Some(entry) => self.region.prefetch_record(entry.place()),
            // If it comes to a set, that asks whether the key was evicted lately.
            None => self.index.prefetch_ghosts(&self.region, address),
        }
    }

    /// The live item of `key`. A dead one is removed and counted.
    #[inline(always)]
    pub fn find(&mut self, key: &[u8], hash: u64, now: Now) -> Option<FoundRecord> {
        self.flush_if_asked(now);
        let found = match self.look_where_foreseen(key, hash) {
            Ok(found) => found?,
            Err(()) => self.lookup(key, self.index.address(hash))?,
        };
        let expiry = found.head.expiry(&self.region, found.place);
        let is_flushed = self.is_flushed(found.place);
        if is_flushed || expiry.is_past(now) {
            self.bury_found(found, is_flushed);
            return None;
        }
        Some(found)
    }

    /// Carries out a flush that was asked for and is due.
    #[inline(always)]
    pub(super) fn flush_if_asked(&mut self, now: Now) {
        if self.flush_at_s.is_some() {
            self.flush_if_due(now);
        }
    }

    /// Whether what lies at `place` was there when a flush took effect.
    #[inline(always)]
    pub(super) fn is_flushed(&self, place: usize) -> bool {
        self.flushed_below != 0 && self.sequence_of(place) < self.flushed_below
    }

    #[cold]
    fn bury_found(&mut self, found: FoundRecord, is_flushed: bool) {
        if is_flushed {
            self.counts.found_flushed += 1;
        } else {
            self.counts.found_expired += 1;
        }
        self.remove(found.entry);
    }

    /// The item of `key`, or none, if a prefetch saw what is still so. An error: search for it.
    #[inline(always)]
    fn look_where_foreseen(&self, key: &[u8], hash: u64) -> Result<Option<FoundRecord>, ()> {
        let foreseen = self.foreseen[hash as usize % FORESEEN].get();
        if foreseen.hash != hash {
            return Err(());
        }
        let stamp = self.index.stamp();
        if foreseen.slot == Foreseen::NO_SLOT {
            return if foreseen.stamp == stamp { Ok(None) } else { Err(()) };
        }
        let region = &self.region;
        let address = self.index.address(hash);
        let entry = self.index.entry_at(region, foreseen.slot, address).ok_or(())?;
        let place = entry.place();
        let head = record::head(region, place);
        if !head.has_key(region, place, key) {
            return Err(());
        }
        Ok(Some(FoundRecord { place, head, entry, stamp }))
    }

    /// Forgets what was foreseen: the index has given slots away.
    pub(super) fn forget_foreseen(&self) {
        let foreseen = Foreseen::nothing(&self.index);
        self.foreseen.iter().for_each(|cell| cell.set(foreseen));
    }

    #[inline(always)]
    pub(super) fn lookup(&self, key: &[u8], address: IndexAddress) -> Option<FoundRecord> {
        let region = &self.region;
        let mut head = None;
        let entry = self.index.find(region, address, |place| {
            // Key and value lie in the next lines, but at offsets that only the head gives:
            // without this the CPU would fetch the lines one after another.
            region.prefetch_record(place);
            let found = record::head(region, place);
            head = Some(found);
            found.has_key(region, place, key)
        })?;
        Some(FoundRecord { place: entry.place(), head: head?, entry, stamp: self.index.stamp() })
    }

    /// The same item, if it is still there: what is made in between may have moved or evicted it.
    #[inline(always)]
    pub fn refresh(&self, found: FoundRecord, key: &[u8], hash: u64) -> Option<FoundRecord> {
        if found.stamp == self.index.stamp() {
            return Some(found);
        }
        self.find_again(key, hash)
    }

    #[cold]
    #[inline(never)]
    fn find_again(&self, key: &[u8], hash: u64) -> Option<FoundRecord> {
        self.lookup(key, self.index.address(hash))
    }

    #[inline(always)]
    pub(super) fn sequence_of(&self, place: usize) -> u64 {
        self.table.get(self.table.of(place)).sequence
    }

    /// An item's cas.
    #[inline(always)]
    pub fn cas(&self, found: &FoundRecord) -> u64 {
        self.cas_at(found.head, found.place)
    }

    #[inline(always)]
    pub(super) fn cas_at(&self, head: RecordHead, place: usize) -> u64 {
        head.cas(&self.region, place).unwrap_or_else(|| {
            let segment = self.table.of(place);
            self.table.get(segment).sequence << OFFSET_BITS | self.table.offset(place) as u64
        })
    }

    /// The client's flags.
    #[inline(always)]
    pub fn flags(&self, found: &FoundRecord) -> u32 {
        found.head.flags(&self.region, found.place)
    }

    /// When it expires.
    #[inline(always)]
    pub fn expiry(&self, found: &FoundRecord) -> Expiry {
        found.head.expiry(&self.region, found.place)
    }

    /// The value, if it lies in one piece.
    #[inline(always)]
    pub fn whole(&self, found: &FoundRecord) -> Option<&[u8]> {
        match found.head.kind() {
            RecordKind::Plain => Some(found.head.body(&self.region, found.place)),
            _ => None,
        }
    }

    /// Length of the value.
    #[inline(always)]
    pub fn value_bytes(&self, found: &FoundRecord) -> usize {
        self.value_bytes_at(found.head, found.place)
    }

    #[inline(always)]
    pub(super) fn value_bytes_at(&self, head: RecordHead, place: usize) -> usize {
        match head.kind() {
            RecordKind::Chain => self.region.u32(head.body_at(place)) as usize,
            _ => head.body_bytes(),
        }
    }

    /// Counts a use of an item, which keeps it from being evicted for some time.
    #[inline(always)]
    pub fn note_use(&mut self, found: &FoundRecord) {
        debug_assert_eq!(found.stamp, self.index.stamp());
        self.index.note_use(&mut self.region, found.entry);
    }

    /// Whether nobody holds bytes in the item's segment, so that it may be changed in place.
    #[inline]
    pub(super) fn is_unheld(&self, place: usize) -> bool {
        self.table.get(self.table.of(place)).pins == 0
    }

    pub(super) fn next_counter_cas(&mut self) -> u64 {
        if self.counter_cas & ((1 << OFFSET_BITS) - 1) == 0 {
            self.counter_cas = self.next_sequence() << OFFSET_BITS;
        }
        self.counter_cas += 1;
        self.counter_cas
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        let sequence = self.sequence_next;
        self.sequence_next += self.sequence_step;
        header::set_sequence(&mut self.region, self.sequence_next);
        sequence
    }

    /// The group for records that live up to `expiry`.
    #[inline]
    pub(super) fn group(&self, expiry: Expiry, now: Now) -> u8 {
        if expiry == Expiry::NEVER {
            return 0;
        }
        let left_s = expiry.unix_s().saturating_sub(now.unix_s);
        let group = 1 + LIFETIMES_S.iter().filter(|&&lifetime_s| left_s > lifetime_s).count();
        group.min(self.groups - 1) as u8
    }

    /// Makes an item up to the end of its key; its value is still to be written. Nobody finds it
    /// until it is published. Unless it is held, that is the next call but for writing and
    /// [`SegmentStore::refresh`]. Evicts, within limits: None if that gave no room.
    #[inline(always)]
    pub fn make(
        &mut self,
        new: &NewRecord<'_>,
        old: Option<&FoundRecord>,
        now: Now,
    ) -> Option<MadeRecord> {
        let queue = match old {
            Some(old) => self.table.get(self.table.of(old.place)).queue,
            None => self.queue_for(new.hash),
        };
        let fields = (new.flags, new.expiry, new.is_counter);
        let shape = RecordShape::new(RecordKind::Plain, fields, new.key.len(), new.value_bytes);
        let bytes = shape.bytes(&self.region);
        // More would leave nothing of all else, and still might not fit between what is held.
        if bytes > self.table.count() as usize * self.table.segment_bytes() / 2 {
            self.counts.no_memory += 1;
            return None;
        }
        self.pay(bytes, now);
        let to = (queue, self.group(new.expiry, now));
        let made = if self.is_one_piece(bytes, new.value_bytes, to) {
            self.make_plain(&shape, new.key, to, now)
        } else {
            self.make_chain(new, to, now)
        };
        if made.is_none() {
            self.note_starved();
        }
        made
    }

    #[cold]
    fn note_starved(&mut self) {
        self.counts.no_memory += 1;
        self.is_starved = true;
    }

    /// Whether a record lies in one piece: what is long and would leave much of a segment unused is
    /// cut.
    #[inline(always)]
    fn is_one_piece(
        &self,
        bytes: usize,
        value_bytes: usize,
        (queue, group): (SegmentQueue, u8),
    ) -> bool {
        let segment = self.table.segment_bytes();
        bytes <= segment / 16
            || value_bytes <= RECORD_VALUE_BYTES_MAX
                && bytes <= segment / 4
                && bytes <= self.room(queue, group)
    }

    #[inline(always)]
    fn make_plain(
        &mut self,
        shape: &RecordShape,
        key: &[u8],
        to: (SegmentQueue, u8),
        now: Now,
    ) -> Option<MadeRecord> {
        let place = self.append_paying(to, shape.bytes(&self.region), shape.expiry, now)?;
        shape.write(&mut self.region, place, key);
        self.table.commit(&mut self.region, self.table.of(place));
        Some(MadeRecord { place, head: shape.head(), is_held: false })
    }

    /// Where a new item stands in line: at once among those that were used, if it was evicted
    /// lately.
    #[inline(always)]
    fn queue_for(&mut self, hash: u64) -> SegmentQueue {
        if self.index.recall(&mut self.region, self.index.address(hash)) {
            self.counts.recalled += 1;
            SegmentQueue::Main
        } else {
            SegmentQueue::Small
        }
    }

    /// Keeps a made item's segments from being emptied while its value is being written.
    pub fn hold(&mut self, made: MadeRecord) -> MadeRecord {
        if !made.is_held {
            self.add_draft(made.place, 1);
        }
        MadeRecord { is_held: true, ..made }
    }

    pub(super) fn add_draft(&mut self, place: usize, n: i32) {
        let segment = self.table.of(place);
        let entry = self.table.get_mut(segment);
        let before = entry.drafts;
        entry.drafts = before.strict_add_signed(n);
        if before == 0 {
            self.drafted += 1;
        } else if entry.drafts == 0 {
            self.drafted -= 1;
            self.retire_if_empty(segment);
        }
    }

    /// Whether another item may be held: more would leave too little that can be emptied.
    pub fn may_hold(&self) -> bool {
        self.drafted < self.table.count() / 4
    }

    /// Length of a made item's value.
    pub fn made_bytes(&self, made: MadeRecord) -> usize {
        self.value_bytes_at(made.head, made.place)
    }

    /// Gives up an item that was made.
    pub fn abandon(&mut self, made: MadeRecord) {
        if !made.is_held {
            return;
        }
        self.release(made.place);
    }

    fn release(&mut self, place: usize) {
        if record::head(&self.region, place).kind() == RecordKind::Chain {
            self.release_pieces(place);
        }
        self.add_draft(place, -1);
    }

    /// Lets an item be found in the place of `old`, what its key has now; returns its cas.
    #[inline(always)]
    pub fn publish(&mut self, made: MadeRecord, hash: u64, old: Option<&FoundRecord>) -> u64 {
        let MadeRecord { place, head, is_held } = made;
        if head.has_cas() {
            let cas = self.next_counter_cas();
            head.set_cas(&mut self.region, place, cas, RecordMarks::default());
        }
        if head.kind() == RecordKind::Chain {
            self.publish_pieces(place);
        }
        match old {
            Some(old) => {
                debug_assert_eq!(old.stamp, self.index.stamp());
                let frequency = old.entry.frequency();
                self.kill_record(old.place, old.head);
                self.index.replace(&mut self.region, old.entry, place, frequency);
            }
            None => self.insert(hash, place),
        }
        head.publish(&mut self.region, place);
        self.table.add_live(place, head.bytes(&self.region));
        if is_held {
            self.release(place);
        }
        self.counts.stored += 1;
        self.cas_at(head, place)
    }

    #[inline]
    pub(super) fn insert(&mut self, hash: u64, place: usize) {
        if self.index.is_full() {
            self.grow_index();
        }
        let address = self.index.address(hash);
        if self.index.insert(&mut self.region, address, place) != Inserted::Done {
            self.insert_crowded(hash, place);
        }
    }

    /// Inserts what has no room in its buckets: these may be split next, else an entry has to go.
    #[cold]
    fn insert_crowded(&mut self, hash: u64, place: usize) {
        for _ in 0..CROWDED_SPLITS {
            self.grow_index();
            let address = self.index.address(hash);
            if self.index.insert(&mut self.region, address, place) == Inserted::Done {
                return;
            }
        }
        let address = self.index.address(hash);
        while let Inserted::Full(entry) = self.index.insert(&mut self.region, address, place) {
            self.counts.crowded += 1;
            self.count_eviction(entry);
            self.remove(entry);
        }
    }

    /// Splits a few buckets, or asks for the memory to.
    #[cold]
    #[inline(never)]
    fn grow_index(&mut self) {
        for _ in 0..2 {
            if self.index.can_grow() {
                self.index.grow(&mut self.region);
            }
        }
        self.is_index_short = !self.index.can_grow()
            && self.index.may_grow()
            && self.table.count() > self.segments_min;
    }

    /// An item is evicted: its entry and its record are there until it is removed.
    pub(super) fn count_eviction(&mut self, entry: IndexEntry) {
        self.counts.evictions += 1;
        if entry.frequency() == 0 {
            self.counts.evicted_unused += 1;
        }
        if self.evicted.is_some() {
            self.note_eviction(entry);
        }
    }

    /// Removes an item.
    #[inline]
    pub fn kill(&mut self, found: &FoundRecord) {
        debug_assert_eq!(found.stamp, self.index.stamp());
        self.remove(found.entry);
    }

    /// Removes what an entry names, and the entry.
    #[inline(never)]
    pub(super) fn remove(&mut self, entry: IndexEntry) {
        let place = entry.place();
        self.kill_record(place, record::head(&self.region, place));
        self.index.remove(&mut self.region, entry);
    }

    /// Marks a record, and its pieces if it has some, as dead.
    #[inline(always)]
    pub(super) fn kill_record(&mut self, place: usize, head: RecordHead) {
        debug_assert!(head.is_live());
        head.bury(&mut self.region, place);
        if head.kind() == RecordKind::Chain {
            self.kill_pieces(place);
        }
        if self.table.remove_live(place, head.bytes(&self.region)) {
            self.retire_if_empty(self.table.of(place));
        }
    }

    /// Bytes of all items' records, headers included.
    #[inline(always)]
    pub fn live_bytes(&self) -> u64 {
        self.table.live_bytes()
    }

    /// Bytes of all segments now.
    pub fn segments_bytes(&self) -> usize {
        self.table.count() as usize * self.table.segment_bytes()
    }

    /// Figures about the store. Costs the same however many items there are.
    pub fn overview(&self, now: Now) -> SegmentOverview {
        let opened_s = [SegmentQueue::Small, SegmentQueue::Main]
            .map(|queue| self.table.queue(queue).oldest)
            .into_iter()
            .filter(|&segment| segment != NIL)
            .map(|segment| self.table.get(segment).opened_s)
            .min();
        SegmentOverview {
            items: self.items() as u64,
            bytes_used: self.table.live_bytes() as usize,
            bytes_total: self.segments_bytes(),
            index_bytes: self.index.bytes(),
            oldest_age_s: opened_s.map_or(0, |opened_s| now.unix_s.saturating_sub(opened_s)),
            free: self.table.free(),
            segments: self.table.count(),
        }
    }

    /// Entries of the index that were moved to make room.
    pub fn kicks(&self) -> u64 {
        self.index.kicks
    }

    /// Calls `visit` with the key, flags and value length of the items in the buckets from `bucket`
    /// on, until `buckets` were looked at; returns the bucket to go on with, 0 after the last.
    pub fn visit(
        &self,
        bucket: usize,
        buckets: usize,
        mut visit: impl FnMut(&[u8], u32, usize),
    ) -> usize {
        let end = (bucket + buckets).min(self.index.buckets());
        for bucket in bucket..end {
            for place in self.index.places(&self.region, bucket) {
                if place != 0 {
                    let head = record::head(&self.region, place);
                    let value_bytes = self.value_bytes_at(head, place);
                    let flags = head.flags(&self.region, place);
                    visit(head.key(&self.region, place), flags, value_bytes);
                }
            }
        }
        if end == self.index.buckets() { 0 } else { end }
    }
}
