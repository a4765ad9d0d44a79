//! The state of a part at a checkpoint, in its first blocks, and how the log was made. As in all of
//! the format, no number of a disk leaves this that the log's geometry does not have.

use bytes::{Buf, BufMut};

use super::{
    CHECKSUM_BYTES, HEADER_BLOCKS, INCARNATION_MAX, LOCATION_BITS, LogId, SEAL_BLOCKS,
    SEGMENTS_AT_BYTES, SEGMENTS_MAX, SEQUENCES_MAX, SUPER_MAGIC, VERSION, is_sealed, seal_block,
    take_array,
};
use crate::base::limits::{
    SSD_BLOCK_BYTES, SSD_OPEN_SEGMENTS_MAX, SSD_SEGMENT_BYTES, SSD_UNIT_BYTES, SSD_VOIDS_MAX,
    WORKERS_MAX,
};

/// Where in a superblock the log's clock is, behind the longest lists: zeros in those of servers
/// that had none, which pass over it.
const CLOCK_AT_BYTES: usize = SSD_BLOCK_BYTES - 64;

const _: () = assert!(128 + SSD_OPEN_SEGMENTS_MAX * 12 + SSD_VOIDS_MAX * 16 <= CLOCK_AT_BYTES);

/// What has to be the same for a log to be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of the part.
    pub part_bytes: u64,
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Which worker's part it is.
    pub worker: u32,
    /// Of how many.
    pub workers: u32,
}

impl Geometry {
    /// Whether nothing but the size differs.
    pub fn is_of_another_size(&self, other: &Geometry) -> bool {
        *self != *other && Geometry { part_bytes: other.part_bytes, ..*self } == *other
    }

    /// Of all parts together, in bytes.
    pub fn log_bytes(&self) -> u64 {
        self.part_bytes.saturating_mul(self.workers.into())
    }

    /// Whether any server can have made such a log: what is reckoned with it does not overflow.
    fn is_plausible(&self) -> bool {
        let blocks = self.segment_bytes as usize / SSD_BLOCK_BYTES;
        (self.segment_bytes as usize).is_multiple_of(SSD_BLOCK_BYTES)
            && blocks >= HEADER_BLOCKS + SEAL_BLOCKS + 2
            && self.segment_bytes as usize <= SSD_SEGMENT_BYTES
            && self.worker < self.workers
            && self.workers as usize <= WORKERS_MAX
            && (self.part_bytes / SSD_UNIT_BYTES as u64) >> LOCATION_BITS == 0
            && self.part_bytes.is_multiple_of(SSD_BLOCK_BYTES as u64)
            && (1..SEGMENTS_MAX).contains(&self.segments())
    }

    /// Segments of the part.
    pub fn segments(&self) -> u64 {
        self.part_bytes.saturating_sub(SEGMENTS_AT_BYTES) / u64::from(self.segment_bytes)
    }
}

/// How far a segment that is not sealed was durable at a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which segment.
    pub segment: u32,
    /// Its use.
    pub incarnation: u32,
    /// Everything before is there, in bytes from the start of the segment.
    pub end_bytes: u32,
}

/// Sequences whose records count for nothing, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Void {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// The state of a part at a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The log.
    pub log: LogId,
    /// The key of the hash of keys.
    pub hash_key: [u64; 2],
    /// What must not change.
    pub geometry: Geometry,
    /// Counts superblocks; number n is written to block n modulo 2.
    pub generation: u64,
    /// Every record up to this sequence is durable, or was given up for good.
    pub durable_sequence: u64,
    /// Higher than every incarnation that was given out.
    pub next_incarnation: u32,
    /// Segments from this one on were never used.
    pub segments_used: u32,
    /// Items with lower sequences were flushed.
    pub flushed_below: u64,
    /// A flush_all that is to come, as Unix time in seconds; 0: none.
    pub flush_at_s: u32,
    /// The log's own clock, as Unix time in seconds; 0: nobody knows.
    pub clock_s: u32,
    /// How often the log was started; 0: before this was counted.
    pub starts: u32,
    /// The segments that were not sealed.
    pub marks: Vec<Mark>,
    /// What earlier recoveries cut off.
    pub voids: Vec<Void>,
}

/// What a block is when a superblock is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuperblockRead {
    /// Nothing but zeros.
    Empty,
    /// A superblock of another version.
    Version(u32),
    /// Something else, or damaged.
    Foreign,
    /// A superblock.
    Found(Box<Superblock>),
}

impl Superblock {
    /// Writes it to `out`, a block.
    ///
    /// # Panics
    /// If there are more marks or voids than have room.
    pub fn encode(&self, out: &mut [u8]) {
        assert!(self.marks.len() <= SSD_OPEN_SEGMENTS_MAX && self.voids.len() <= SSD_VOIDS_MAX);
        out.fill(0);
        let mut put = &mut out[CHECKSUM_BYTES..];
        put.put_slice(&SUPER_MAGIC);
        put.put_u32_le(VERSION);
        put.put_slice(&self.log);
        put.put_u64_le(self.hash_key[0]);
        put.put_u64_le(self.hash_key[1]);
        put.put_u64_le(self.geometry.part_bytes);
        put.put_u32_le(self.geometry.segment_bytes);
        put.put_u32_le(self.geometry.worker);
        put.put_u32_le(self.geometry.workers);
        put.put_u64_le(self.generation);
        put.put_u64_le(self.durable_sequence);
        put.put_u32_le(self.next_incarnation);
        put.put_u32_le(self.segments_used);
        put.put_u64_le(self.flushed_below);
        put.put_u32_le(self.flush_at_s);
        put.put_u16_le(self.marks.len() as u16);
        put.put_u16_le(self.voids.len() as u16);
        for mark in &self.marks {
            put.put_u32_le(mark.segment);
            put.put_u32_le(mark.incarnation);
            put.put_u32_le(mark.end_bytes);
        }
        for void in &self.voids {
            put.put_u64_le(void.first);
            put.put_u64_le(void.last);
        }
        let mut put = &mut out[CLOCK_AT_BYTES..];
        put.put_u32_le(self.clock_s);
        put.put_u32_le(self.starts);
        seal_block(out);
    }

    fn has_possible_lists(&self) -> bool {
        let is_mark = |mark: &Mark| {
            u64::from(mark.segment) < self.geometry.segments()
                && mark.incarnation <= INCARNATION_MAX
                && mark.end_bytes <= self.geometry.segment_bytes
        };
        let is_void = |void: &Void| void.first <= void.last && void.last < SEQUENCES_MAX << 1;
        self.marks.iter().all(is_mark) && self.voids.iter().all(is_void)
    }

    /// What `block` is.
    pub fn decode(block: &[u8]) -> SuperblockRead {
        if block.iter().all(|byte| *byte == 0) {
            return SuperblockRead::Empty;
        }
        let mut take = block.get(CHECKSUM_BYTES..).unwrap_or_default();
        if !is_sealed(block) || take_array(&mut take) != Some(SUPER_MAGIC) {
            return SuperblockRead::Foreign;
        }
        match take.try_get_u32_le() {
            Ok(VERSION) => {}
            Ok(version) => return SuperblockRead::Version(version),
            Err(_) => return SuperblockRead::Foreign,
        }
        let clock = block.get(CLOCK_AT_BYTES..).unwrap_or_default();
        match Superblock::take(take, clock) {
            Some(superblock) => SuperblockRead::Found(Box::new(superblock)),
            None => SuperblockRead::Foreign,
        }
    }

    /// What stands behind the version, and where the clock is. None: it cannot be true.
    fn take(mut take: &[u8], mut clock: &[u8]) -> Option<Superblock> {
        let mut superblock = Superblock {
            log: take_array(&mut take)?,
            hash_key: [take.try_get_u64_le().ok()?, take.try_get_u64_le().ok()?],
            geometry: Geometry {
                part_bytes: take.try_get_u64_le().ok()?,
                segment_bytes: take.try_get_u32_le().ok()?,
                worker: take.try_get_u32_le().ok()?,
                workers: take.try_get_u32_le().ok()?,
            },
            generation: take.try_get_u64_le().ok()?,
            durable_sequence: take.try_get_u64_le().ok()?,
            next_incarnation: take.try_get_u32_le().ok()?,
            segments_used: take.try_get_u32_le().ok()?,
            flushed_below: take.try_get_u64_le().ok()?,
            flush_at_s: take.try_get_u32_le().ok()?,
            clock_s: clock.try_get_u32_le().ok()?,
            starts: clock.try_get_u32_le().ok()?,
            marks: Vec::new(),
            voids: Vec::new(),
        };
        let (marks, voids) =
            (usize::from(take.try_get_u16_le().ok()?), usize::from(take.try_get_u16_le().ok()?));
        let is_plausible = superblock.geometry.is_plausible()
            && superblock.next_incarnation <= INCARNATION_MAX + 1
            && u64::from(superblock.segments_used) <= superblock.geometry.segments()
            && superblock.generation < u64::MAX >> 1
            && superblock.durable_sequence < SEQUENCES_MAX
            && superblock.flushed_below < SEQUENCES_MAX;
        if marks > SSD_OPEN_SEGMENTS_MAX || voids > SSD_VOIDS_MAX || !is_plausible {
            return None;
        }
        for _ in 0..marks {
            let (segment, incarnation, end_bytes) = (
                take.try_get_u32_le().ok()?,
                take.try_get_u32_le().ok()?,
                take.try_get_u32_le().ok()?,
            );
            superblock.marks.push(Mark { segment, incarnation, end_bytes });
        }
        for _ in 0..voids {
            superblock.voids.push(Void {
                first: take.try_get_u64_le().ok()?,
                last: take.try_get_u64_le().ok()?,
            });
        }
        superblock.has_possible_lists().then_some(superblock)
    }
}
