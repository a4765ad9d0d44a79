//! Starting with what an earlier process left in the region, and stopping so that a later one can.
//!
//! ```text
//! header whole and ours? ──no──> an error, and nothing is touched
//!   │ yes: the clean mark is taken away
//! walk all segments: every live record's check; counters; pieces of chains
//!   │
//!   ├ clean mark, nothing damaged, the index's sum fits ──> the index as it is
//!   └ else ──> the index is made anew from the records
//! ```
//!
//! Nothing that is read here is believed before it was checked against the region's bounds. What is
//! damaged is given up and counted: a miss, never a wrong value. A stop in the middle of a start
//! leaves what a stop at any other time leaves.

use std::io;

use super::checksum::Checksum;
use super::geometry::{Geometry, SegmentStoreConfig};
use super::header::{self, CleanMark, Companion, Found, State};
use super::mapping::{self, Mapped, StoreFile};
use super::opening::{Beginning, Emptied, Opening, StartError};
use super::record::{self, RecordHead, RecordKind, WORD_BYTES};
use super::region::Region;
use super::store::{GROUPS, SegmentStore};
use super::table::{self, NO_EXPIRY, SEGMENT_HEADER_BYTES, SegmentQueue};
use crate::base::clock::{Expiry, Now};
use crate::base::secret;

/// Records whose buckets are prefetched together.
const BATCH: usize = 16;

/// What a start has to know beside the region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// What is there is given up.
    pub is_afresh: bool,
    /// The machine's run, if what is there might not be whole after another.
    pub boot: u64,
    /// What decides which worker owns a key.
    pub key_seed: u64,
    /// The log that the store must have been used with last, if there is one.
    pub companion: Option<Companion>,
}

/// What was seen in the segments.
#[derive(Debug, Default)]
struct Walk {
    items: usize,
    damaged: u64,
    /// Segments with records, in the order in which they were opened.
    segments: Vec<u32>,
    /// Heads of chains.
    chains: Vec<usize>,
    /// Live pieces, in order of place, and whether a chain has them.
    pieces: Vec<(usize, bool)>,
}

impl SegmentStore {
    /// Starts with what is in a file, or makes it. `companion` is the log that the store must have
    /// been used with last, or else it starts empty.
    ///
    /// # Errors
    /// Why the file is not used. It is as it was then.
    pub fn start(
        config: SegmentStoreConfig,
        file: &StoreFile<'_>,
        companion: Option<Companion>,
        now: Now,
    ) -> Result<(SegmentStore, Opening), StartError> {
        let Mapped { map, file: opened, config } = mapping::open(config, file)?;
        let StoreFile { is_afresh, key_seed, .. } = *file;
        let terms = Terms { is_afresh, boot: mapping::boot(), key_seed, companion };
        SegmentStore::resume(Region::of_file(map, opened), &config, &terms, now)
    }

    /// Starts with what is in a region.
    pub(super) fn resume(
        region: Region,
        config: &SegmentStoreConfig,
        terms: &Terms,
        now: Now,
    ) -> Result<(SegmentStore, Opening), StartError> {
        let found = header::geometry(&region);
        let seed = u64::from_ne_bytes(secret::random());
        let begin = |region, beginning| {
            let geometry = config.geometry(seed, terms.key_seed);
            let store = SegmentStore::begin_kept(region, geometry, terms.boot, now);
            Ok((store, Opening { beginning, items: 0, damaged: 0, back_s: 0 }))
        };
        if terms.is_afresh || found == Found::Nothing {
            let is_new = found == Found::Nothing && !terms.is_afresh;
            let emptied = Beginning::Emptied(Emptied::Asked);
            return begin(region, if is_new { Beginning::New } else { emptied });
        }
        let geometry = header::check(found, config)?;
        let state = header::state(&region).ok_or(StartError::Damaged)?;
        let steps = state.sequence_next.checked_sub(u64::from(geometry.worker) + 1);
        if !(1..=geometry.segments()).contains(&state.segments)
            || steps.is_none_or(|steps| steps % u64::from(geometry.workers) != 0)
        {
            return Err(StartError::Damaged);
        }
        if terms.companion.is_some() && state.companion != terms.companion {
            return begin(region, Beginning::Emptied(Emptied::Companion));
        }
        if geometry.key_seed != terms.key_seed {
            return Err(StartError::Keys);
        }
        if state.clean.is_none() && state.boot != terms.boot {
            return begin(region, Beginning::Emptied(Emptied::Rebooted));
        }
        Ok(SegmentStore::resume_state(region, geometry, state, terms, now))
    }

    /// Begins an empty store whose records have checks.
    fn begin_kept(mut region: Region, geometry: Geometry, boot: u64, now: Now) -> SegmentStore {
        header::end(&mut region);
        let state = State { boot, clock_s: now.unix_s, ..State::first(&geometry) };
        region.set_checksum(Checksum::new(geometry.seed, geometry.places()));
        (0..geometry.segments()).for_each(|segment| {
            table::forget(&mut region, geometry.places().start(segment));
        });
        header::begin(&mut region, geometry, &state);
        let mut store = SegmentStore::in_region(region, geometry, state.segments);
        store.index.clear(&mut store.region);
        store.clock_s = now.unix_s;
        store
    }

    fn resume_state(
        mut region: Region,
        geometry: Geometry,
        state: State,
        terms: &Terms,
        now: Now,
    ) -> (SegmentStore, Opening) {
        // From here on it is not as it was left.
        let begun = State { clean: None, boot: terms.boot, companion: None, ..state };
        header::write(&mut region, &begun);
        let _ = region.sync(header::LOOK_BYTES);
        region.set_checksum(Checksum::new(geometry.seed, geometry.places()));
        let mut store = SegmentStore::in_region(region, geometry, state.segments);
        store.sequence_next = state.sequence_next;
        // Readers of that process are gone.
        store.begun = store.next_sequence();
        store.flushed_below = state.flushed_below;
        let back_s = state.clock_s.saturating_sub(now.unix_s);
        store.flush_at_s = state.flush_at_s.map(|at_s| at_s.saturating_sub(back_s).max(1));
        let mut walk = store.walk_segments(back_s);
        store.join_chains(&mut walk);
        let is_clean = state.clean.is_some_and(|mark| store.take_index(&state, mark, &walk));
        if !is_clean {
            store.make_index(state.buckets, &walk, now);
        }
        for &segment in &walk.segments {
            store.retire_if_empty(segment);
        }
        // Only now is what is there by today's clock.
        store.note_time_at_once(now);
        header::set_flush(&mut store.region, store.flushed_below, store.flush_at_s);
        let beginning = if is_clean { Beginning::Clean } else { Beginning::Rebuilt };
        let opening = Opening { beginning, items: store.items(), damaged: walk.damaged, back_s };
        (store, opening)
    }

    /// Looks at every record and takes what is damaged for dead.
    fn walk_segments(&mut self, back_s: u32) -> Walk {
        let mut walk = Walk::default();
        let mut found = Vec::new();
        for segment in 0..self.table.count() {
            let start = self.table.start(segment);
            match self.segment_found(start) {
                Ok(Some((sequence, used))) => found.push((sequence, used, segment)),
                Ok(None) => table::forget(&mut self.region, start),
                Err(()) => {
                    walk.damaged += 1;
                    table::forget(&mut self.region, start);
                }
            }
        }
        found.sort_unstable();
        for (sequence, used, segment) in found {
            let (queue, group, opened_s) = table::origin(&self.region, self.table.start(segment));
            let queue = if queue == 0 { SegmentQueue::Small } else { SegmentQueue::Main };
            self.table.restore(segment, (sequence, used), (queue, group), opened_s);
            self.walk_records(segment, back_s, &mut walk);
            walk.segments.push(segment);
        }
        walk.pieces.sort_unstable();
        walk
    }

    /// Sequence number and fill level of a segment that may have records; an error if its header
    /// cannot be true.
    fn segment_found(&self, start: usize) -> Result<Option<(u64, u32)>, ()> {
        let (sequence, used) = table::header(&self.region, start);
        if sequence == 0 || sequence < self.flushed_below {
            return Ok(None);
        }
        let (queue, group, _) = table::origin(&self.region, start);
        let used_max = self.table.segment_bytes() - WORD_BYTES;
        let is_step = self.sequence_next.wrapping_sub(sequence) % self.sequence_step == 0;
        if sequence >= self.sequence_next
            || !is_step
            || !(SEGMENT_HEADER_BYTES..=used_max).contains(&(used as usize))
            || queue > SegmentQueue::Main as u8
            || usize::from(group) >= GROUPS.min(self.groups)
        {
            return Err(());
        }
        Ok(Some((sequence, used)))
    }

    fn walk_records(&mut self, segment: u32, back_s: u32, walk: &mut Walk) {
        let start = self.table.start(segment);
        let end = start + self.table.get(segment).used as usize;
        let mut place = start + SEGMENT_HEADER_BYTES;
        let mut expiry_max_s = 0;
        while place < end {
            let head = record::head(&self.region, place);
            let bytes = head.bytes(&self.region);
            if !head.is_known() || bytes > end - place {
                // Where the next one begins is not known: it ends here.
                walk.damaged += 1;
                self.table.get_mut(segment).used = (place - start) as u32;
                self.table.commit(&mut self.region, segment);
                break;
            }
            if !head.is_live() {
            } else if !head.is_intact(&self.region, place) {
                walk.damaged += 1;
                head.bury(&mut self.region, place);
            } else {
                self.table.add_live(place, bytes);
                if head.kind() != RecordKind::Plain {
                    self.note_chain(place);
                }
                match head.kind() {
                    RecordKind::Piece => walk.pieces.push((place, false)),
                    kind => {
                        walk.items += 1;
                        let expiry_s = self.set_back((place, head), back_s);
                        expiry_max_s = expiry_max_s.max(expiry_s);
                        if kind == RecordKind::Chain {
                            walk.chains.push(place);
                        }
                    }
                }
            }
            place += bytes;
        }
        self.table.get_mut(segment).expiry_max_s = expiry_max_s;
    }

    /// Shortens a record's life by what the clock was set back; returns when it expires.
    fn set_back(&mut self, (place, head): (usize, RecordHead), back_s: u32) -> u32 {
        let expiry = head.expiry(&self.region, place);
        if expiry == Expiry::NEVER {
            return NO_EXPIRY;
        }
        if back_s == 0 {
            return expiry.unix_s();
        }
        let expiry_s = expiry.unix_s().saturating_sub(back_s).max(1);
        head.set_expiry(&mut self.region, place, Expiry::from_unix_s(expiry_s));
        expiry_s
    }

    /// Finds the pieces of every chain; a chain that has not all of them is dead, and so is a piece
    /// that no chain has.
    fn join_chains(&mut self, walk: &mut Walk) {
        for i in 0..walk.chains.len() {
            let place = walk.chains[i];
            if !self.join_chain(place, &mut walk.pieces) {
                walk.items -= 1;
                walk.damaged += 1;
                self.give_up(place);
            }
        }
        for i in 0..walk.pieces.len() {
            let (place, is_joined) = walk.pieces[i];
            if !is_joined {
                // A stop in the middle of a set leaves them, too.
                self.give_up(place);
            }
        }
    }

    fn give_up(&mut self, place: usize) {
        let head = record::head(&self.region, place);
        head.bury(&mut self.region, place);
        self.table.remove_live(place, head.bytes(&self.region));
    }

    fn join_chain(&mut self, place: usize, pieces: &mut [(usize, bool)]) -> bool {
        let head = record::head(&self.region, place);
        let Some(list_bytes) = head.body_bytes().checked_sub(record::LIST_BYTES) else {
            return false;
        };
        let hash = self.hash(head.key(&self.region, place));
        let count = list_bytes / record::PLACE_BYTES;
        let mut value_bytes = 0;
        let mut is_whole = list_bytes.is_multiple_of(record::PLACE_BYTES);
        let mut found = Vec::new();
        for i in 0..count {
            let piece = self.piece(place, head, i);
            let at = pieces.binary_search_by_key(&piece, |&(place, _)| place);
            let free = at.ok().filter(|&at| !pieces[at].1);
            let Some(at) = free else {
                is_whole = false;
                break;
            };
            let piece_head = record::head(&self.region, piece);
            is_whole &= self.owner_of_piece(piece, piece_head) == (hash, i);
            value_bytes += piece_head.body_bytes();
            found.push(at);
        }
        if !is_whole || value_bytes != self.value_bytes_at(head, place) {
            return false;
        }
        record::forget_pins(&mut self.region, head.body_at(place));
        let expiry_s = match head.expiry(&self.region, place) {
            Expiry::NEVER => NO_EXPIRY,
            expiry => expiry.unix_s(),
        };
        for at in found {
            pieces[at].1 = true;
            let segment = self.table.of(pieces[at].0);
            let entry = self.table.get_mut(segment);
            entry.expiry_max_s = entry.expiry_max_s.max(expiry_s);
        }
        true
    }

    /// Takes the index as it is, if it is the one of these records.
    fn take_index(&mut self, state: &State, mark: CleanMark, walk: &Walk) -> bool {
        let is_whole = walk.damaged == 0
            && walk.items == mark.entries
            && walk.pieces.iter().all(|&(_, is_joined)| is_joined);
        let Some(index) = self.index.resumed(state.buckets, mark.entries).filter(|_| is_whole)
        else {
            return false;
        };
        if header::sum_in(&self.region, index.contents(&self.region)) != mark.index_sum {
            return false;
        }
        self.index = index;
        true
    }

    /// Makes the index of the live records; what has expired is not among them.
    fn make_index(&mut self, buckets: usize, walk: &Walk, now: Now) {
        if let Some(index) = self.index.resumed(buckets, 0) {
            self.index = index;
        }
        self.index.clear(&mut self.region);
        for &segment in &walk.segments {
            let mut batch = [(0, 0); BATCH];
            let mut len = 0;
            let start = self.table.start(segment);
            let end = start + self.table.get(segment).used as usize;
            let mut place = start + SEGMENT_HEADER_BYTES;
            while place < end {
                let head = record::head(&self.region, place);
                let bytes = head.bytes(&self.region);
                if head.is_live() && head.kind() != RecordKind::Piece {
                    let hash = self.hash(head.key(&self.region, place));
                    self.index.prefetch(&self.region, self.index.address(hash));
                    batch[len] = (place, hash);
                    len += 1;
                }
                place += bytes;
                if len == BATCH {
                    batch.iter().for_each(|&found| self.enter(found, now));
                    len = 0;
                }
            }
            batch[..len].iter().for_each(|&found| self.enter(found, now));
        }
    }

    /// Puts a record into the index. Of two of a key the later one counts.
    fn enter(&mut self, (place, hash): (usize, u64), now: Now) {
        let head = record::head(&self.region, place);
        if !head.is_live() {
            return;
        }
        if head.expiry(&self.region, place).is_past(now) {
            self.kill_record(place, head);
            return;
        }
        let address = self.index.address(hash);
        if let Some(older) = self.lookup(head.key(&self.region, place), address) {
            self.remove(older.entry);
        }
        self.insert(hash, place);
    }

    /// Lets a later start know what time it is, once a second.
    #[inline]
    pub(super) fn note_time(&mut self, now: Now) {
        if now.unix_s != self.clock_s && self.region.checksum().is_some() {
            self.note_time_at_once(now);
        }
    }

    #[cold]
    fn note_time_at_once(&mut self, now: Now) {
        self.clock_s = now.unix_s;
        let buckets = self.index.buckets();
        header::change(&mut self.region, |state| {
            state.clock_s = now.unix_s;
            state.buckets = buckets;
        });
    }

    /// The log and its run that this is used with.
    pub fn companion(&self) -> Option<Companion> {
        header::state(&self.region).and_then(|state| state.companion)
    }

    /// This is used with a log and a run of it from now on.
    pub fn set_companion(&mut self, companion: Option<Companion>) {
        header::change(&mut self.region, |state| state.companion = companion);
    }

    /// Stops so that a later start can take everything as it is. Nothing may be changed after that.
    ///
    /// # Errors
    /// The disk's, if the file is on one: a later start makes the index anew then.
    pub fn stop(&mut self, now: Now) -> io::Result<()> {
        if self.region.checksum().is_none() {
            return Ok(());
        }
        self.flush_if_due(now);
        self.finish_sweep(now);
        self.mark_clean(now)
    }

    fn mark_clean(&mut self, now: Now) -> io::Result<()> {
        let mark = CleanMark {
            entries: self.index.entries(),
            index_sum: header::sum_in(&self.region, self.index.contents(&self.region)),
        };
        let buckets = self.index.buckets();
        self.region.sync(self.region.bytes())?;
        header::change(&mut self.region, |state| {
            state.clock_s = now.unix_s;
            state.buckets = buckets;
            state.clean = Some(mark);
        });
        self.region.sync(header::LOOK_BYTES)
    }
}
