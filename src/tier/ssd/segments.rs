//! Which segment is in which state, and which is reclaimed next.
//!
//! ```text
//! free ─> open ─> sealed ─> reclaimed ─> emptied ─> freed ──> dead ─> (discarded) ─> free
//!           │                 what must   until that  header    entries   where the
//!           └ abandoned ────> outlive it  is durable  says so   leave     disk can
//!             after an error  is written                        the index
//! ```
//!
//! Sealed segments wait in a line for each class. This must never hand out a segment as free before
//! the disk knows durably that what was in it is gone.

use std::collections::VecDeque;

use super::format::{
    INCARNATION_MAX, Link, LogId, Mark, SEGMENTS_AT_BYTES, Seal, SegmentHeader, Span,
};
use crate::base::clock::Now;
use crate::base::limits::{SSD_BLOCK_BYTES, SSD_CLASSES_MAX, SSD_UNIT_BYTES};

/// Where a segment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// Nothing in it is alive, and the disk knows.
    Free,
    /// Being filled, or its seal is not written yet.
    Open,
    /// Whole.
    Sealed,
    /// What must outlive it is being written anew.
    Reclaimed,
    /// All that was written anew must be there after any crash before it is given up.
    Emptied {
        /// It is when this checkpoint is settled.
        checkpoint: u64,
    },
    /// The header that gives it up is on its way.
    Freeing,
    /// That header is written, and not durable yet.
    Freed,
    /// It is durable; the last entries leave the index.
    Dead,
    /// The disk is being told.
    Discarded,
}

/// One segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Where it is in its life.
    pub state: SegmentState,
    /// Number of its present or last use.
    pub incarnation: u32,
    /// The class of lifetimes in it.
    pub class: u8,
    /// Records have at least this sequence.
    pub first_sequence: u64,
    /// Records have at most this sequence.
    pub last_sequence: u64,
    /// When its last item expires, as Unix time in seconds; 0: some never do.
    pub expiry_max_s: u32,
    /// Where its records end, in bytes.
    pub data_end_bytes: u32,
    /// How many records it has.
    pub entries: u32,
}

impl Segment {
    /// An item with this expiry is in it.
    pub fn note_expiry(&mut self, expiry_s: u32) {
        if self.expiry_max_s != 0 {
            self.expiry_max_s = if expiry_s == 0 { 0 } else { self.expiry_max_s.max(expiry_s) };
        }
    }
}

const UNUSED: Segment = Segment {
    state: SegmentState::Free,
    incarnation: 0,
    class: 0,
    first_sequence: 0,
    last_sequence: 0,
    expiry_max_s: 1,
    data_end_bytes: 0,
    entries: 0,
};

/// All segments of a part.
#[derive(Debug)]
pub struct Segments {
    table: Vec<Segment>,
    segment_bytes: u32,
    /// Segments from this one on were never used.
    used: u32,
    free: VecDeque<u32>,
    sealed: [VecDeque<u32>; SSD_CLASSES_MAX],
    next_incarnation: u32,
    /// Segments between sealed and free.
    on_their_way: Vec<u32>,
    /// Classes of lifetimes.
    classes: usize,
    /// Records below this sequence were flushed, and every superblock that a crash may leave says
    /// so.
    flushed_below: u64,
    /// Incarnations below this are known to every superblock that a crash may leave.
    settled_incarnation: u32,
}

/// Segments opened at most between two checkpoints that are durable; recovery skips as many
/// numbers.
pub const OPENS_PER_CHECKPOINT: u32 = 512;

impl Segments {
    /// As many segments as a part has room for, none used.
    pub fn new(part_bytes: u64, segment_bytes: u32) -> Segments {
        let count = part_bytes.saturating_sub(SEGMENTS_AT_BYTES) / u64::from(segment_bytes);
        // Small logs have fewer, so that open segments are a small part of them.
        let classes = (count as u32 / 8).clamp(1, SSD_CLASSES_MAX as u32) as usize;
        Segments {
            table: vec![UNUSED; count as usize],
            segment_bytes,
            used: 0,
            free: VecDeque::with_capacity(count as usize),
            sealed: Default::default(),
            next_incarnation: 1,
            on_their_way: Vec::new(),
            classes,
            flushed_below: 0,
            settled_incarnation: 1,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.table.len() as u32
    }

    /// Bytes of each.
    pub fn segment_bytes(&self) -> u32 {
        self.segment_bytes
    }

    /// Segments from this one on were never used.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Higher than every incarnation given out.
    pub fn next_incarnation(&self) -> u32 {
        self.next_incarnation
    }

    /// Every superblock that a crash may leave says that what is below `flushed_below` was flushed,
    /// and knows the incarnations below this one.
    pub fn settle(&mut self, flushed_below: u64, incarnation: u32) {
        (self.flushed_below, self.settled_incarnation) = (flushed_below, incarnation);
    }

    /// Segments opened since.
    pub fn opened(&self) -> u32 {
        self.next_incarnation - self.settled_incarnation
    }

    /// Segments that can be opened before the next ones are settled.
    pub fn opens_left(&self) -> u32 {
        OPENS_PER_CHECKPOINT.saturating_sub(self.opened())
    }

    /// Classes of lifetimes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The class of an item with this expiry.
    pub fn class(&self, expiry_s: u32, now: Now) -> u8 {
        class_of(expiry_s, now, self.classes)
    }

    /// Where a segment starts on the part, in bytes.
    pub fn start_bytes(&self, segment: u32) -> u64 {
        SEGMENTS_AT_BYTES + u64::from(segment) * u64::from(self.segment_bytes)
    }

    /// Where a byte of a segment is, in units from the start of the part.
    pub fn unit(&self, segment: u32, offset_bytes: u32) -> u64 {
        (self.start_bytes(segment) + u64::from(offset_bytes)) / SSD_UNIT_BYTES as u64
    }

    /// Segment and byte in it of a place; none for one that is in no segment.
    pub fn locate(&self, unit: u64) -> Option<(u32, u32)> {
        let bytes = (unit * SSD_UNIT_BYTES as u64).checked_sub(SEGMENTS_AT_BYTES)?;
        let segment = bytes / u64::from(self.segment_bytes);
        let offset = bytes % u64::from(self.segment_bytes);
        (segment < self.table.len() as u64).then_some((segment as u32, offset as u32))
    }

    /// Where a read of the record at `unit` begins, and how long it is: as much as its span says,
    /// but not beyond its segment, nor `len_bytes_max`, which no record exceeds. In bytes.
    pub fn extent(&self, unit: u64, span: Span, len_bytes_max: usize) -> (u64, usize) {
        let start = unit * SSD_UNIT_BYTES as u64;
        let start = start - start % SSD_BLOCK_BYTES as u64;
        let end = match self.locate(unit) {
            Some((segment, _)) => self.start_bytes(segment) + u64::from(self.segment_bytes),
            None => start,
        };
        let len_bytes = (span.blocks() * SSD_BLOCK_BYTES).min(len_bytes_max);
        (start, len_bytes.min((end - start) as usize))
    }

    /// One of them.
    pub fn get(&self, segment: u32) -> &Segment {
        &self.table[segment as usize]
    }

    /// One of them.
    pub fn get_mut(&mut self, segment: u32) -> &mut Segment {
        &mut self.table[segment as usize]
    }

    /// The segment of the record that a link names, if a crash could bring that record back: unless
    /// the segment is free or used anew, or all in it was flushed.
    pub fn target(&self, link: Link) -> Option<u32> {
        if link.is_none() {
            return None;
        }
        let (segment, _) = self.locate(link.unit())?;
        let it = self.get(segment);
        let is_there = it.incarnation == link.incarnation()
            && it.last_sequence >= self.flushed_below
            && !matches!(
                it.state,
                SegmentState::Free | SegmentState::Dead | SegmentState::Discarded
            );
        is_there.then_some(segment)
    }

    /// The link that names the record at `unit` now.
    pub fn link(&self, unit: u64) -> Link {
        match self.locate(unit) {
            Some((segment, _)) => Link::new(unit, self.get(segment).incarnation),
            None => Link::NONE,
        }
    }

    /// Names the present use of a segment, in 56 bits.
    pub fn use_of(&self, segment: u32) -> u64 {
        u64::from(self.get(segment).incarnation) << 24 | u64::from(segment)
    }

    /// The segment whose present use has that name.
    pub fn used_as(&self, what: u64) -> Option<u32> {
        let segment = (what & 0xff_ffff) as u32;
        (self.use_of(segment) == what).then_some(segment)
    }

    /// What the header of a segment says.
    pub fn header(&self, log: &LogId, segment: u32, is_used: bool) -> SegmentHeader {
        let it = self.get(segment);
        SegmentHeader {
            log: *log,
            segment,
            incarnation: it.incarnation,
            is_used,
            class: it.class,
            first_sequence: it.first_sequence,
        }
    }

    /// What the seal of a segment says.
    pub fn seal_of(&self, log: &LogId, segment: u32) -> Seal {
        let it = self.get(segment);
        Seal {
            log: *log,
            segment,
            incarnation: it.incarnation,
            data_end_bytes: it.data_end_bytes,
            entries: it.entries,
            first_sequence: it.first_sequence,
            last_sequence: it.last_sequence,
            expiry_max_s: it.expiry_max_s,
        }
    }

    /// Segments that can be opened.
    pub fn free_count(&self) -> usize {
        self.free.len() + (self.count() - self.used) as usize
    }

    /// Segments that can be opened before all incarnations are used up.
    pub fn fills_left(&self) -> u32 {
        (INCARNATION_MAX + 1).saturating_sub(self.next_incarnation)
    }

    /// Segments that are about to be free.
    pub fn on_their_way(&self) -> usize {
        self.on_their_way.len()
    }

    /// Opens a free segment.
    pub fn open(&mut self, class: u8, first_sequence: u64) -> Option<u32> {
        if self.fills_left() == 0 {
            return None;
        }
        let segment = match self.free.pop_front() {
            Some(segment) => segment,
            None if self.used < self.count() => {
                self.used += 1;
                self.used - 1
            }
            None => return None,
        };
        self.table[segment as usize] = Segment {
            state: SegmentState::Open,
            incarnation: self.next_incarnation,
            class,
            first_sequence,
            last_sequence: first_sequence,
            ..UNUSED
        };
        self.next_incarnation += 1;
        Some(segment)
    }

    /// An open segment is whole, or one that could not be reclaimed goes back.
    pub fn seal(&mut self, segment: u32) {
        if self.get(segment).state == SegmentState::Reclaimed {
            self.on_their_way.retain(|other| *other != segment);
        }
        self.get_mut(segment).state = SegmentState::Sealed;
        let class = usize::from(self.get(segment).class);
        self.sealed[class].push_back(segment);
    }

    /// Takes the segment out of its line that is to be reclaimed next: one whose items are all
    /// dead, else the one that was sealed first. None that has records above `durable`.
    pub fn reclaim(&mut self, durable: u64, flushed_below: u64, now: Now) -> Option<u32> {
        let rank = |segment: u32| {
            let it = self.get(segment);
            let is_expired = it.expiry_max_s != 0 && it.expiry_max_s <= now.unix_s;
            let is_dead = is_expired || it.last_sequence < flushed_below;
            (it.last_sequence <= durable).then_some((!is_dead, it.last_sequence))
        };
        let fronts = self.sealed.iter().enumerate();
        let (_, class) = fronts
            .filter_map(|(class, line)| Some((rank(*line.front()?)?, class)))
            .min_by_key(|(rank, _)| *rank)?;
        let segment = self.sealed[class].pop_front()?;
        self.get_mut(segment).state = SegmentState::Reclaimed;
        self.on_their_way.push(segment);
        Some(segment)
    }

    /// All that must outlive a segment is written anew.
    pub fn empty(&mut self, segment: u32, checkpoint: u64) {
        if self.get(segment).state == SegmentState::Open {
            self.on_their_way.push(segment);
        }
        self.get_mut(segment).state = SegmentState::Emptied { checkpoint };
    }

    /// One of the segments between sealed and free whose state `is` says yes to.
    pub fn any(&self, is: impl Fn(SegmentState) -> bool) -> Option<u32> {
        self.on_their_way.iter().copied().find(|segment| is(self.get(*segment).state))
    }

    /// All such segments.
    pub fn all(&self, is: impl Fn(SegmentState) -> bool) -> impl Iterator<Item = u32> {
        self.on_their_way.iter().copied().filter(move |segment| is(self.get(*segment).state))
    }

    /// Marks of the segments that were given up before they were sealed, and perhaps not durably
    /// so.
    pub fn unsealed(&self) -> impl Iterator<Item = Mark> {
        self.on_their_way.iter().copied().filter_map(|segment| {
            let it = self.get(segment);
            let mark = Mark { segment, incarnation: it.incarnation, end_bytes: 0 };
            (it.data_end_bytes == 0).then_some(mark)
        })
    }

    /// A segment can be opened again.
    pub fn give(&mut self, segment: u32) {
        self.get_mut(segment).state = SegmentState::Free;
        self.on_their_way.retain(|other| *other != segment);
        self.free.push_back(segment);
    }

    /// Enters what recovery found: the lines in order of sequence, everything else free.
    pub fn restore(&mut self, used: u32, next_incarnation: u32) {
        self.used = used;
        self.next_incarnation = next_incarnation;
        self.settled_incarnation = next_incarnation;
        let mut sealed: Vec<u32> = Vec::new();
        for segment in 0..used {
            match self.get(segment).state {
                SegmentState::Sealed => sealed.push(segment),
                _ => self.free.push_back(segment),
            }
        }
        sealed.sort_by_key(|&segment| self.get(segment).last_sequence);
        for segment in sealed {
            let class = usize::from(self.get(segment).class);
            self.sealed[class].push_back(segment);
        }
    }

    /// The least sequence of any segment that is not free.
    pub fn first_sequence(&self) -> Option<u64> {
        let is_there = |it: &&Segment| it.state != SegmentState::Free;
        self.table.iter().filter(is_there).map(|it| it.first_sequence).min()
    }
}

/// Ends of the classes but the last, in seconds to live.
const CLASS_ENDS_S: [u32; SSD_CLASSES_MAX - 1] =
    [60, 600, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 30 * 86_400];

/// The class of an item with this expiry, of so many.
fn class_of(expiry_s: u32, now: Now, classes: usize) -> u8 {
    let life_s = if expiry_s == 0 { u32::MAX } else { expiry_s.saturating_sub(now.unix_s) };
    let class = CLASS_ENDS_S.iter().position(|end_s| life_s <= *end_s);
    let class = class.unwrap_or(SSD_CLASSES_MAX - 1);
    (class * classes / SSD_CLASSES_MAX) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { uptime_us: 0, unix_s: 1_000 };

    fn filled(segments: &mut Segments, class: u8, last: u64, expiry_s: u32) -> u32 {
        let segment = segments.open(class, last).unwrap();
        let it = segments.get_mut(segment);
        (it.last_sequence, it.expiry_max_s) = (last, expiry_s);
        segments.seal(segment);
        segment
    }

    #[test]
    fn dead_segments_go_first_and_then_the_oldest() {
        let mut segments = Segments::new(SEGMENTS_AT_BYTES + 10 * 65536, 65536);
        let old = filled(&mut segments, 0, 10, 0);
        let expired = filled(&mut segments, 1, 20, 900);
        let young = filled(&mut segments, 2, 30, 2_000);
        assert_eq!(segments.reclaim(9, 0, NOW), None, "nothing is durable for long enough");
        assert_eq!(segments.reclaim(100, 0, NOW), Some(expired));
        assert_eq!(segments.reclaim(100, 0, NOW), Some(old));
        assert_eq!(segments.reclaim(29, 0, NOW), None);
        assert_eq!(segments.reclaim(29, 31, NOW), None);
        assert_eq!(segments.reclaim(30, 31, NOW), Some(young));
    }

    #[test]
    fn a_link_has_a_target_until_the_segment_is_free() {
        let mut segments = Segments::new(SEGMENTS_AT_BYTES + 2 * 65536, 65536);
        let segment = filled(&mut segments, 0, 10, 0);
        let unit = segments.unit(segment, 8192);
        let link = segments.link(unit);
        assert_eq!(segments.locate(unit), Some((segment, 8192)));
        assert_eq!(segments.target(link), Some(segment));
        segments.reclaim(10, 0, NOW).unwrap();
        segments.empty(segment, 11);
        assert_eq!(segments.target(link), Some(segment));
        assert_eq!((segments.free_count(), segments.on_their_way()), (1, 1));
        segments.give(segment);
        assert_eq!(segments.target(link), None);
        assert_eq!((segments.free_count(), segments.on_their_way()), (2, 0));
        assert_eq!(segments.open(0, 12), Some(segment));
        assert_eq!(segments.target(link), None, "another use");
    }

    #[test]
    fn the_name_of_a_use_is_of_no_other() {
        let mut segments = Segments::new(SEGMENTS_AT_BYTES + 2 * 65536, 65536);
        let segment = filled(&mut segments, 0, 10, 0);
        let name = segments.use_of(segment);
        assert_eq!((segments.used_as(name), name >> 56), (Some(segment), 0));
        segments.reclaim(10, 0, NOW).unwrap();
        segments.give(segment);
        assert_eq!(segments.open(0, 11), Some(segment));
        assert_eq!(segments.used_as(name), None);
    }

    #[test]
    fn segments_are_opened_only_as_far_as_recovery_skips_numbers() {
        let mut segments = Segments::new(SEGMENTS_AT_BYTES + 4 * 65536, 65536);
        segments.open(0, 1).unwrap();
        segments.open(0, 2).unwrap();
        assert_eq!((segments.opened(), segments.opens_left()), (2, OPENS_PER_CHECKPOINT - 2));
        segments.settle(0, segments.next_incarnation() - 1);
        assert_eq!((segments.opened(), segments.opens_left()), (1, OPENS_PER_CHECKPOINT - 1));
        segments.restore(0, 900);
        assert_eq!(segments.opened(), 0);
    }

    #[test]
    fn classes_part_lifetimes_and_small_logs_have_fewer() {
        assert_eq!(class_of(NOW.unix_s + 1, NOW, 8), 0);
        assert_eq!(class_of(NOW.unix_s + 61, NOW, 8), 1);
        assert_eq!(class_of(0, NOW, 8), 7);
        assert_eq!(class_of(0, NOW, 2), 1);
        assert_eq!(class_of(NOW.unix_s + 61, NOW, 2), 0);
        assert_eq!(class_of(0, NOW, 1), 0);
    }
}
