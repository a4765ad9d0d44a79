//! Segments: how the region is divided, in which order they were opened, and what lives in each.
//!
//! Segments are counted from the region's end, so that the one with the highest number lies right
//! behind the index and can be handed over to it. Counters are in ordinary memory: they follow from
//! the records. What a later start needs (sequence and fill level) is in the segment's own header.
//!
//! ```text
//! | header | index → |        ... | segment 2 | segment 1 | segment 0 |
//! ```

use super::places::SegmentPlaces;
use super::region::Region;

/// Bytes before a segment's first record: sequence, fill level, queue and group, and when it was
/// opened.
pub const SEGMENT_HEADER_BYTES: usize = 32;
const SEQUENCE_AT: usize = 0;
const USED_AT: usize = 8;
const QUEUE_AT: usize = 12;
const GROUP_AT: usize = 13;
const OPENED_AT: usize = 16;

/// No segment.
pub const NIL: u32 = u32::MAX;

/// An expiry that no time reaches.
pub const NO_EXPIRY: u32 = u32::MAX;

/// Where a segment stands in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentQueue {
    /// For records that are new, a tenth of all bytes.
    Small = 0,
    /// For those that were used since.
    Main = 1,
}

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// Empty.
    Free,
    /// Records are added to it.
    Open,
    /// It is full.
    Sealed,
    /// It is being emptied through the index; a later start does not see it.
    Swept,
    /// Its records are gone or elsewhere, and readers hold it.
    Held,
    /// The index has it.
    Gone,
}

/// What is known of a segment: a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Segment {
    /// Never used twice; 0 while free.
    pub sequence: u64,
    /// Bytes from its start to where the next record goes.
    pub used: u32,
    pub live_bytes: u32,
    pub live_records: u32,
    /// Readers that hold records of it.
    pub pins: u32,
    /// Offset of a head of a chain with readers, which leads to the others; 0 if there is none.
    pub pinned_head: u32,
    /// Records of it that are being written.
    pub drafts: u32,
    /// Uptime in microseconds at which a waiting reader of it last made progress; 0 if none waits.
    pub read_us: u64,
    /// By then all of its records are expired, in seconds of Unix time.
    pub expiry_max_s: u32,
    /// When it was opened, in seconds of Unix time.
    pub opened_s: u32,
    newer: u32,
    older: u32,
    pub state: SegmentState,
    pub queue: SegmentQueue,
    pub group: u8,
    /// There is something to do when the last reader lets go: it is held, or a reader waits.
    pub needs_care: bool,
    /// It has, or had, pieces or heads of long values.
    pub has_chains: bool,
}

const FREE: Segment = Segment {
    sequence: 0,
    used: SEGMENT_HEADER_BYTES as u32,
    live_bytes: 0,
    live_records: 0,
    pins: 0,
    pinned_head: 0,
    drafts: 0,
    read_us: 0,
    expiry_max_s: 0,
    opened_s: 0,
    newer: NIL,
    older: NIL,
    state: SegmentState::Free,
    queue: SegmentQueue::Small,
    group: 0,
    needs_care: false,
    has_chains: false,
};

/// Segments in the order in which they joined.
#[derive(Clone, Copy, Debug)]
pub struct List {
    pub oldest: u32,
    pub newest: u32,
    pub len: u32,
}

const EMPTY: List = List { oldest: NIL, newest: NIL, len: 0 };

/// All segments.
#[derive(Debug)]
pub struct SegmentTable {
    segments: Vec<Segment>,
    /// Segments that the index does not have.
    count: u32,
    places: SegmentPlaces,
    free: List,
    queues: [List; 2],
    /// Live bytes in the segments of each queue.
    live_bytes: [u64; 2],
    /// Those that only readers hold.
    pub held: u32,
    /// Those that readers hold who wait.
    pub kept: u32,
}

impl SegmentTable {
    /// Divides the bytes up to `end` into `count` segments of 2^`shift` bytes, all free.
    pub fn new(end: usize, count: u32, shift: u32) -> SegmentTable {
        let mut table = SegmentTable {
            segments: vec![FREE; count as usize],
            count,
            places: SegmentPlaces { end, shift },
            free: EMPTY,
            queues: [EMPTY; 2],
            live_bytes: [0; 2],
            held: 0,
            kept: 0,
        };
        // Those far from the index are used first.
        (0..count).rev().for_each(|segment| table.push_free(segment));
        table
    }

    /// Bytes of a segment.
    #[inline(always)]
    pub fn segment_bytes(&self) -> usize {
        1 << self.places.shift
    }

    /// Segments that the index does not have.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Free ones.
    #[inline(always)]
    pub fn free(&self) -> u32 {
        self.free.len
    }

    /// The segment that a place is in.
    #[inline(always)]
    pub fn of(&self, place: usize) -> u32 {
        self.places.of(place)
    }

    /// Where a segment starts.
    #[inline(always)]
    pub fn start(&self, segment: u32) -> usize {
        self.places.start(segment)
    }

    /// How far a place is from the start of its segment.
    #[inline(always)]
    pub fn offset(&self, place: usize) -> usize {
        place.wrapping_sub(self.places.end) & (self.segment_bytes() - 1)
    }

    /// Where all segments start.
    pub fn bottom(&self) -> usize {
        self.places.end - ((self.count as usize) << self.places.shift)
    }

    #[inline(always)]
    pub fn get(&self, segment: u32) -> &Segment {
        &self.segments[segment as usize]
    }

    #[inline(always)]
    pub fn get_mut(&mut self, segment: u32) -> &mut Segment {
        &mut self.segments[segment as usize]
    }

    /// A queue's segments.
    pub fn queue(&self, queue: SegmentQueue) -> List {
        self.queues[queue as usize]
    }

    /// Live bytes in a queue.
    pub fn queue_live_bytes(&self, queue: SegmentQueue) -> u64 {
        self.live_bytes[queue as usize]
    }

    /// Live bytes in all.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes[0] + self.live_bytes[1]
    }

    /// The segment that was opened after this one.
    pub fn newer(&self, segment: u32) -> u32 {
        self.get(segment).newer
    }

    /// Counts a record that is live now.
    #[inline(always)]
    pub fn add_live(&mut self, place: usize, bytes: usize) {
        let segment = self.of(place);
        let segment = self.get_mut(segment);
        segment.live_bytes += bytes as u32;
        segment.live_records += 1;
        let queue = segment.queue;
        self.live_bytes[queue as usize] += bytes as u64;
    }

    /// Counts a record that is dead now; true if the segment is sealed and nobody needs it.
    #[inline(always)]
    pub fn remove_live(&mut self, place: usize, bytes: usize) -> bool {
        let segment = self.of(place);
        let segment = self.get_mut(segment);
        segment.live_records -= 1;
        if segment.state == SegmentState::Swept {
            // Its bytes count no more.
            return false;
        }
        segment.live_bytes -= bytes as u32;
        let is_empty = segment.live_records == 0 && segment.state == SegmentState::Sealed;
        let queue = segment.queue;
        self.live_bytes[queue as usize] -= bytes as u64;
        is_empty
    }

    fn push(&mut self, list: impl Fn(&mut SegmentTable) -> &mut List, segment: u32) {
        let newest = list(self).newest;
        self.get_mut(segment).older = newest;
        self.get_mut(segment).newer = NIL;
        if newest != NIL {
            self.get_mut(newest).newer = segment;
        }
        let list = list(self);
        list.newest = segment;
        if newest == NIL {
            list.oldest = segment;
        }
        list.len += 1;
    }

    fn unlink(&mut self, list: impl Fn(&mut SegmentTable) -> &mut List, segment: u32) {
        let Segment { newer, older, .. } = *self.get(segment);
        if newer != NIL {
            self.get_mut(newer).older = older;
        }
        if older != NIL {
            self.get_mut(older).newer = newer;
        }
        let list = list(self);
        if list.newest == segment {
            list.newest = older;
        }
        if list.oldest == segment {
            list.oldest = newer;
        }
        list.len -= 1;
    }

    fn push_free(&mut self, segment: u32) {
        self.push(|table| &mut table.free, segment);
    }

    /// Opens a free segment, the one that was freed last.
    pub fn open(
        &mut self,
        region: &mut Region,
        sequence: u64,
        (queue, group): (SegmentQueue, u8),
        now_s: u32,
    ) -> Option<u32> {
        let segment = self.free.newest;
        if segment == NIL {
            return None;
        }
        self.unlink(|table| &mut table.free, segment);
        let entry = self.get_mut(segment);
        *entry =
            Segment { sequence, opened_s: now_s, state: SegmentState::Open, queue, group, ..FREE };
        let start = self.start(segment);
        region.set_u32(start + USED_AT, SEGMENT_HEADER_BYTES as u32);
        region.set_u8(start + QUEUE_AT, queue as u8);
        region.set_u8(start + GROUP_AT, group);
        region.set_u32(start + OPENED_AT, now_s);
        region.in_order();
        region.set_u64(start + SEQUENCE_AT, sequence);
        self.push(|table| &mut table.queues[queue as usize], segment);
        Some(segment)
    }

    /// Takes a segment that was filled before the start out of the free ones, as one to which
    /// nothing is added. They come in the order in which they were opened.
    pub fn restore(
        &mut self,
        segment: u32,
        (sequence, used): (u64, u32),
        (queue, group): (SegmentQueue, u8),
        opened_s: u32,
    ) {
        self.unlink(|table| &mut table.free, segment);
        let state = SegmentState::Sealed;
        *self.get_mut(segment) = Segment { sequence, used, opened_s, state, queue, group, ..FREE };
        self.push(|table| &mut table.queues[queue as usize], segment);
    }

    /// Lets a later start see the segment's records up to its fill level.
    #[inline(always)]
    pub fn commit(&self, region: &mut Region, segment: u32) {
        region.in_order();
        region.set_u32(self.start(segment) + USED_AT, self.get(segment).used);
        region.in_order();
    }

    /// Takes a segment without live records out of its queue: it is free once no reader holds it.
    pub fn retire(&mut self, region: &mut Region, segment: u32) {
        let Segment { queue, live_records, drafts, state, .. } = *self.get(segment);
        assert!(live_records == 0 && drafts == 0, "only what is empty is retired");
        debug_assert!(!matches!(state, SegmentState::Free | SegmentState::Gone));
        self.unlink(|table| &mut table.queues[queue as usize], segment);
        region.in_order();
        region.set_u64(self.start(segment) + SEQUENCE_AT, 0);
        region.in_order();
        let entry = self.get_mut(segment);
        entry.state = SegmentState::Held;
        entry.needs_care = true;
        self.held += 1;
        if self.get(segment).pins == 0 {
            self.set_free(segment);
        }
    }

    /// A full segment will be emptied through the index: records that are removed from there are
    /// not marked as dead, so a later start must not see any of it.
    pub fn begin_sweep(&mut self, region: &mut Region, segment: u32) {
        debug_assert_eq!(self.get(segment).state, SegmentState::Sealed);
        region.in_order();
        region.set_u64(self.start(segment) + SEQUENCE_AT, 0);
        region.in_order();
        let entry = self.get_mut(segment);
        entry.state = SegmentState::Swept;
        let bytes = std::mem::take(&mut entry.live_bytes);
        let queue = entry.queue;
        self.live_bytes[queue as usize] -= u64::from(bytes);
    }

    /// Frees a segment that was retired.
    pub fn set_free(&mut self, segment: u32) {
        let Segment { state, read_us, .. } = *self.get(segment);
        assert_eq!(state, SegmentState::Held, "only what is retired is freed");
        self.held -= 1;
        self.kept -= u32::from(read_us > 0);
        *self.get_mut(segment) = FREE;
        self.push_free(segment);
    }

    /// A segment's last reader has let go of it.
    #[cold]
    pub fn end_care(&mut self, segment: u32) {
        if self.get(segment).state == SegmentState::Held {
            return self.set_free(segment);
        }
        let entry = self.get_mut(segment);
        let is_kept = entry.read_us > 0;
        entry.read_us = 0;
        entry.needs_care = false;
        self.kept -= u32::from(is_kept);
    }

    /// A waiting reader of a pinned segment made progress at this uptime in microseconds.
    pub fn note_progress(&mut self, segment: u32, now_us: u64) {
        let entry = self.get_mut(segment);
        let is_first = entry.read_us == 0;
        entry.read_us = entry.read_us.max(now_us).max(1);
        entry.needs_care = true;
        self.kept += u32::from(is_first);
    }

    /// Takes a segment back that the index had, if it had one.
    pub fn take_back(&mut self, region: &mut Region) {
        debug_assert!((self.count as usize) < self.segments.len());
        let segment = self.count;
        forget(region, self.start(segment));
        region.in_order();
        self.count += 1;
        *self.get_mut(segment) = FREE;
        self.push_free(segment);
    }

    /// In all there are so many segments, of which the index has the rest.
    pub fn widen(&mut self, segments: u32) {
        let given = Segment { state: SegmentState::Gone, ..FREE };
        self.segments.resize(segments as usize, given);
    }

    /// Whether the index has segments that were not its own from the start.
    pub fn has_given(&self) -> bool {
        (self.count as usize) < self.segments.len()
    }

    /// The segment next to the index.
    pub fn boundary(&self) -> u32 {
        self.count - 1
    }

    /// Takes the free segment next to the index away, for the index.
    pub fn hand_over(&mut self) {
        let segment = self.boundary();
        debug_assert_eq!(self.get(segment).state, SegmentState::Free);
        self.unlink(|table| &mut table.free, segment);
        self.get_mut(segment).state = SegmentState::Gone;
        self.count -= 1;
    }
}

/// What a segment's header says at `start`: sequence and fill level.
pub fn header(region: &Region, start: usize) -> (u64, u32) {
    (region.u64(start + SEQUENCE_AT), region.u32(start + USED_AT))
}

/// What else it says: the numbers of queue and group, and when it was opened.
pub fn origin(region: &Region, start: usize) -> (u8, u8, u32) {
    let [queue, group] = region.array(start + QUEUE_AT);
    (queue, group, region.u32(start + OPENED_AT))
}

/// Sees to it that a later start takes the segment for free.
pub fn forget(region: &mut Region, start: usize) {
    region.set_u64(start + SEQUENCE_AT, 0);
}
