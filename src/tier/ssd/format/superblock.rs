//! The state of a part at a checkpoint, in its first blocks, and how the log was made. As in all of
//! the format, no number of a disk leaves this that the log's geometry does not have.

use super::{
    HEADER_BLOCKS, INCARNATION_MAX, LOCATION_BITS, LogId, Put, SEAL_BLOCKS, SEGMENTS_AT_BYTES,
    SEGMENTS_MAX, SEQUENCES_MAX, SUPER_MAGIC, Take, VERSION, is_sealed, seal_block,
};
use crate::limits::{
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
        let mut put = Put { out, at: 4 };
        put.bytes(&SUPER_MAGIC);
        put.u32(VERSION);
        put.bytes(&self.log);
        put.u64(self.hash_key[0]);
        put.u64(self.hash_key[1]);
        put.u64(self.geometry.part_bytes);
        put.u32(self.geometry.segment_bytes);
        put.u32(self.geometry.worker);
        put.u32(self.geometry.workers);
        put.u64(self.generation);
        put.u64(self.durable_sequence);
        put.u32(self.next_incarnation);
        put.u32(self.segments_used);
        put.u64(self.flushed_below);
        put.u32(self.flush_at_s);
        put.u16(self.marks.len() as u16);
        put.u16(self.voids.len() as u16);
        for mark in &self.marks {
            put.u32(mark.segment);
            put.u32(mark.incarnation);
            put.u32(mark.end_bytes);
        }
        for void in &self.voids {
            put.u64(void.first);
            put.u64(void.last);
        }
        let mut put = Put { out, at: CLOCK_AT_BYTES };
        put.u32(self.clock_s);
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
        let mut take = Take { bytes: block, at: 4 };
        if !is_sealed(block) || take.array() != SUPER_MAGIC {
            return SuperblockRead::Foreign;
        }
        let version = take.u32();
        if version != VERSION {
            return SuperblockRead::Version(version);
        }
        let mut superblock = Superblock {
            log: take.array(),
            hash_key: [take.u64(), take.u64()],
            geometry: Geometry {
                part_bytes: take.u64(),
                segment_bytes: take.u32(),
                worker: take.u32(),
                workers: take.u32(),
            },
            generation: take.u64(),
            durable_sequence: take.u64(),
            next_incarnation: take.u32(),
            segments_used: take.u32(),
            flushed_below: take.u64(),
            flush_at_s: take.u32(),
            clock_s: Take { bytes: block, at: CLOCK_AT_BYTES }.u32(),
            marks: Vec::new(),
            voids: Vec::new(),
        };
        let (marks, voids) = (usize::from(take.u16()), usize::from(take.u16()));
        let is_plausible = superblock.geometry.is_plausible()
            && superblock.next_incarnation <= INCARNATION_MAX + 1
            && u64::from(superblock.segments_used) <= superblock.geometry.segments()
            && superblock.generation < u64::MAX >> 1
            && superblock.durable_sequence < SEQUENCES_MAX
            && superblock.flushed_below < SEQUENCES_MAX;
        if marks > SSD_OPEN_SEGMENTS_MAX || voids > SSD_VOIDS_MAX || !is_plausible {
            return SuperblockRead::Foreign;
        }
        let mark = |take: &mut Take<'_>| Mark {
            segment: take.u32(),
            incarnation: take.u32(),
            end_bytes: take.u32(),
        };
        superblock.marks.extend((0..marks).map(|_| mark(&mut take)));
        let void = |take: &mut Take<'_>| Void { first: take.u64(), last: take.u64() };
        superblock.voids.extend((0..voids).map(|_| void(&mut take)));
        if !superblock.has_possible_lists() {
            return SuperblockRead::Foreign;
        }
        SuperblockRead::Found(Box::new(superblock))
    }
}
