//! Opening a log: a new one, or what a crash or a clean stop left.
//!
//! It reads superblocks, headers and summaries, and the records of segments that were open, and
//! then ends every open segment where the prefix ends (see [`super::scan`]), so that serving begins
//! with nothing half done. If anything fails or stops on the way, the next attempt finds the same.
//! This is the only place that waits for a disk, and it must never serve an item that it is not
//! certain of: a log that is damaged beyond one block in a place starts afresh.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::admission::{Admission, Admit};
use super::checkpoint::Checkpoint;
use super::disk::{Disk, DiskError};
use super::doubt::Doubt;
use super::format::{ENTRIES_PER_BLOCK, INCARNATION_MAX, LOCATION_BITS, VERSION, summary_blocks};
use super::format::{
    Entry, Geometry, HEADER_BLOCKS, Kind, SEAL_BLOCKS, SEGMENTS_AT_BYTES, SUPERBLOCKS, Seal,
    SegmentHeader, Superblock, SuperblockRead, Void, encode_summary,
};
use super::identity::Identity;
use super::index::Index;
use super::kills::Kills;
use super::log::{Log, superblock_at};
use super::marks::Witness;
use super::own_clock::OwnClock;
use super::queue::Queue;
use super::reclaim::Reclaim;
use super::scan::{Scan, Used, Waited};
use super::segments::{OPENS_PER_CHECKPOINT, Segment, SegmentState, Segments};
use super::sequences::Sequences;
use super::writer::Writer;
use crate::base::clock::Now;
use crate::base::latency::Level;
use crate::base::limits::{
    SSD_BLANK_BYTES, SSD_BLOCK_BYTES, SSD_CLASSES_MAX, SSD_CLOCK_AHEAD_MAX_S, SSD_FREE_SEGMENTS,
    SSD_UNIT_BYTES, SSD_VOIDS_MAX,
};
use crate::base::stats::{Counter, WorkerStats};

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The worker whose part it is, counted from 0.
    pub worker: usize,
    /// Workers in all; a key's owner depends on it, so that it cannot change.
    pub workers: usize,
    /// Bytes of a segment.
    pub segment_bytes: usize,
    /// Largest item, counted as memcached counts it, in bytes.
    pub item_bytes_max: usize,
    /// What an object is taken to need on the disk, in bytes: the index has a place for so many.
    pub object_bytes: u64,
    /// What a crash may lose, in milliseconds: so often everything is made durable.
    pub flush_ms: u64,
    /// What is worth a write.
    pub admit: Admit,
    /// Start afresh, whatever is there.
    pub format: bool,
    /// The key of the hash of keys, which all parts of a server's disk share: what is there has to
    /// have it, what is new gets it. None: any.
    pub hash_key: Option<[u64; 2]>,
    /// What the operator knows the disk by.
    pub name: String,
    /// Where it is noted that what the disk holds is not to be believed.
    pub witness: Arc<dyn Witness>,
    /// Where everything is counted.
    pub stats: Arc<WorkerStats>,
}

/// A log that is not believed may have given out more sequences than the disk knows: less than
/// this. No cas of an item then is one of an item now.
const SEQUENCES_UNKNOWN: u64 = 1 << 40;

/// Fewest segments of a part: open ones, free ones and some to keep items in.
pub const SEGMENTS_MIN: u32 = 16;

/// Why a log could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The part has room for too few segments.
    TooSmall {
        /// Bytes of the part.
        part_bytes: u64,
        /// Bytes that are needed.
        needed_bytes: u64,
    },
    /// The part is larger than a log can be.
    TooLarge {
        /// Bytes of the part.
        part_bytes: u64,
    },
    /// There is something else than a log.
    Foreign,
    /// The log is of another version.
    Version {
        /// Which.
        found: u32,
    },
    /// The log is of another size, and of the same number of workers.
    Size {
        /// Bytes of all parts of the log together, or of the file that they fill as far as whole
        /// segments can: a log of either size is this one.
        log_bytes: u64,
        /// Bytes that are asked for.
        asked_bytes: u64,
    },
    /// The log was made with other numbers.
    Geometry {
        /// Those it was made with.
        found: Geometry,
        /// Those that are asked for.
        asked: Geometry,
    },
    /// What the log is on has become shorter than the log.
    CutOff {
        /// Bytes that there are.
        has_bytes: u64,
        /// Bytes of the log, all parts together.
        log_bytes: u64,
    },
    /// The part was not made together with the first one: a format was interrupted.
    OtherParts,
    /// The disk failed.
    Disk(DiskError),
    /// There is no memory for the index.
    Memory(io::Error),
}

impl OpenError {
    /// A log that was made otherwise than asked for.
    pub fn other(found: Geometry, asked: Geometry) -> OpenError {
        if found.is_of_another_size(&asked) {
            OpenError::Size { log_bytes: found.log_bytes(), asked_bytes: asked.log_bytes() }
        } else {
            OpenError::Geometry { found, asked }
        }
    }

    /// Whether what was asked for is wrong, not the host: another size or number of workers is
    /// needed.
    pub fn is_of_request(&self) -> bool {
        match self {
            OpenError::TooSmall { .. } | OpenError::TooLarge { .. } | OpenError::Size { .. } => {
                true
            }
            OpenError::Geometry { found, asked } => found.segment_bytes == asked.segment_bytes,
            OpenError::Foreign
            | OpenError::Version { .. }
            | OpenError::CutOff { .. }
            | OpenError::OtherParts
            | OpenError::Disk(_)
            | OpenError::Memory(_) => false,
        }
    }
}

/// What is wrong, without what can be done about it.
impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::TooSmall { part_bytes, needed_bytes } => {
                write!(f, "{part_bytes} bytes a worker are too few: {needed_bytes} are needed")
            }
            OpenError::TooLarge { part_bytes } => {
                let max = (SSD_UNIT_BYTES as u64) << LOCATION_BITS;
                write!(f, "{part_bytes} bytes a worker are too many: up to {max}")
            }
            OpenError::Foreign => {
                f.write_str("is no log of sunder: it holds something else, or a damaged log")
            }
            OpenError::Version { found } => {
                write!(f, "holds a log of version {found}, and this is version {VERSION}")
            }
            OpenError::Geometry { found, asked } if found.workers != asked.workers => write!(
                f,
                "holds a log in {} parts, one for each worker, and {} are asked for",
                found.workers, asked.workers,
            ),
            OpenError::Size { log_bytes, asked_bytes } => {
                let (log, asked) = (log_bytes >> 20, asked_bytes >> 20);
                write!(f, "holds a log of {log} MiB, and this is {asked} MiB")
            }
            OpenError::Geometry { found, asked } => write!(
                f,
                "holds a log of {} workers with {} bytes each in segments of {} (this is part {}), \
                 and asked for are {} with {} in segments of {} (part {})",
                found.workers,
                found.part_bytes,
                found.segment_bytes,
                found.worker,
                asked.workers,
                asked.part_bytes,
                asked.segment_bytes,
                asked.worker,
            ),
            OpenError::CutOff { has_bytes, log_bytes } => write!(
                f,
                "was cut off: it has {} MiB, and by its own superblock its log has {} MiB",
                has_bytes >> 20,
                log_bytes >> 20
            ),
            OpenError::OtherParts => {
                f.write_str("its parts were not made together (was a format interrupted?)")
            }
            OpenError::Disk(error) => write!(f, "{error}"),
            OpenError::Memory(error) => write!(f, "no memory for the index: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> OpenError {
        OpenError::Disk(error)
    }
}

/// The blocks where superblocks are, as they are on the disk.
pub(super) fn superblocks<D: Disk>(disk: &mut Waited<'_, D>) -> Vec<SuperblockRead> {
    let mut blocks = [0; SUPERBLOCKS * SSD_BLOCK_BYTES];
    disk.read(0, &mut blocks);
    blocks.chunks(SSD_BLOCK_BYTES).map(Superblock::decode).collect()
}

/// The newest superblock, or None if there never was one.
pub(super) fn superblock<D: Disk>(
    disk: &mut Waited<'_, D>,
) -> Result<Option<Superblock>, OpenError> {
    let read = superblocks(disk);
    newest(disk, &read)
}

/// The newest of the superblocks `read` from a disk.
pub(super) fn newest<D: Disk>(
    disk: &mut Waited<'_, D>,
    read: &[SuperblockRead],
) -> Result<Option<Superblock>, OpenError> {
    let found = read.iter().filter_map(|it| match it {
        SuperblockRead::Found(superblock) => Some(superblock),
        _ => None,
    });
    if let Some(newest) = found.max_by_key(|superblock| superblock.generation) {
        return Ok(Some((**newest).clone()));
    }
    if let Some(error) = disk.error {
        return Err(OpenError::Disk(error));
    }
    for it in read {
        match it {
            SuperblockRead::Version(found) => return Err(OpenError::Version { found: *found }),
            SuperblockRead::Foreign => return Err(OpenError::Foreign),
            SuperblockRead::Empty | SuperblockRead::Found(_) => {}
        }
    }
    if is_blank(disk) {
        return Ok(None);
    }
    Err(disk.error.map_or(OpenError::Foreign, OpenError::Disk))
}

/// Whether nobody has written to the beginning of a part. Its first blocks alone do not tell: what
/// has its own superblock behind a gap, as Btrfs and ZFS do, would be taken for nothing.
fn is_blank<D: Disk>(disk: &mut Waited<'_, D>) -> bool {
    let mut blocks = [0; SUPERBLOCKS * SSD_BLOCK_BYTES];
    let end_bytes = SSD_BLANK_BYTES.min(disk.disk.size_bytes());
    (0..end_bytes).step_by(blocks.len()).all(|at| {
        let rest = blocks.len().min((end_bytes - at) as usize);
        disk.read(at, &mut blocks[..rest]);
        blocks[..rest].iter().all(|byte| *byte == 0)
    })
}

/// Why the log that was there was given up, though it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// It was noted that its disk had taken no writes.
    Distrusted,
    /// The clock was far ahead when it was written.
    FarAhead,
}

/// Opens the log of a worker on its part of the disk. Waits for the disk.
///
/// # Errors
/// See [`OpenError`]; nothing is served then.
pub(super) fn open<D: Disk>(
    mut disk: D,
    options: &Options,
    now: Now,
) -> Result<(Log<D>, Option<GivenUp>), OpenError> {
    let geometry = geometry_of(&disk, options)?;
    let mut waited = Waited::new(&mut disk);
    let found = if options.format {
        // Whatever was noted of a log that is gone now.
        if let Ok(Some(gone)) = superblock(&mut waited) {
            options.witness.forget(&gone.log);
        }
        None
    } else {
        superblock(&mut waited)?
    };
    let Some(found) = found else {
        return Ok((Log::fresh(disk, options, geometry, 1, now)?, None));
    };
    if found.geometry != geometry {
        return Err(OpenError::other(found.geometry, geometry));
    }
    if options.hash_key.is_some_and(|key| key != found.hash_key) {
        return Err(OpenError::OtherParts);
    }
    if options.witness.is_distrusted(&found.log) {
        let sequence = found.durable_sequence.max(found.flushed_below) + SEQUENCES_UNKNOWN;
        let log = Log::fresh(disk, options, geometry, sequence, now)?;
        options.stats.add(Counter::SsdDrops, 1);
        options.witness.forget(&found.log);
        return Ok((log, Some(GivenUp::Distrusted)));
    }
    let ahead_s = ahead_s(&found, now);
    let given_up = ahead_s.is_none().then_some(GivenUp::FarAhead);
    let ahead_s = ahead_s.unwrap_or(0);
    let now = Now { unix_s: now.unix_s + ahead_s, ..now };
    let mut scan = Scan::of(&mut waited, found);
    flush_what_is_due(&mut scan, given_up.is_some(), now);
    let first = scan.used.iter().map(|it| it.seal.first_sequence).min().unwrap_or(u64::MAX);
    scan.voids.retain(|void| void.last >= first);
    let dead = if scan.is_damaged || scan.voids.len() > SSD_VOIDS_MAX {
        None
    } else {
        Dead::find(&mut waited, &mut scan)
    };
    let Some(dead) = dead else {
        if let Some(error) = waited.error {
            return Err(OpenError::Disk(error));
        }
        options.stats.add(Counter::SsdDrops, 1);
        return Ok((Log::fresh(disk, options, geometry, scan.next_sequence, now)?, None));
    };
    options.stats.add(Counter::SsdCorrupt, scan.records_lost);
    end_open_segments(&mut waited, &mut scan)?;
    let mut log = Log::restore(disk, options, &scan, now)?;
    log.clock.set_ahead_s(ahead_s);
    options.stats.add(Counter::SsdDrops, u64::from(given_up.is_some()));
    log.enter_all(&mut scan, &dead)?;
    log.note_start()?;
    log.note_gauges();
    Ok((log, given_up))
}

/// Flushes everything if the log is given up, or if it was to be flushed meanwhile.
fn flush_what_is_due(scan: &mut Scan, is_given_up: bool, now: Now) {
    let flush_at_s = scan.superblock.flush_at_s;
    if is_given_up || flush_at_s != 0 && flush_at_s <= now.unix_s {
        scan.superblock.flush_at_s = 0;
        scan.superblock.flushed_below = scan.next_sequence;
    }
}

impl<D: Disk> Log<D> {
    fn fresh(
        disk: D,
        options: &Options,
        geometry: Geometry,
        next_sequence: u64,
        now: Now,
    ) -> Result<Log<D>, OpenError> {
        let key = crate::base::secret::random::<16>();
        let half = |i: usize| u64::from_le_bytes(std::array::from_fn(|j| key[8 * i + j]));
        let superblock = Superblock {
            log: crate::base::secret::random(),
            hash_key: options.hash_key.unwrap_or([half(0), half(1)]),
            geometry,
            generation: 0,
            durable_sequence: next_sequence - 1,
            next_incarnation: 1,
            segments_used: 0,
            flushed_below: 0,
            flush_at_s: 0,
            clock_s: now.unix_s,
            starts: 0,
            marks: Vec::new(),
            voids: Vec::new(),
        };
        let scan = Scan {
            superblock,
            used: Vec::new(),
            segments_used: 0,
            headless: Vec::new(),
            next_incarnation: 1,
            last_sequence: next_sequence - 1,
            next_sequence,
            voids: Vec::new(),
            is_damaged: false,
            records_lost: 0,
        };
        let mut log = Log::restore(disk, options, &scan, now)?;
        log.note_start()?;
        log.note_gauges();
        Ok(log)
    }

    /// A log with what was found, but for its items.
    fn restore(disk: D, options: &Options, scan: &Scan, now: Now) -> Result<Log<D>, OpenError> {
        let superblock = &scan.superblock;
        let mut segments = segments_of(scan);
        // At the end of all numbers: none is left to be given out twice.
        let next_incarnation =
            (scan.next_incarnation + OPENS_PER_CHECKPOINT).min(INCARNATION_MAX + 1);
        segments.restore(scan.segments_used, next_incarnation);
        let objects = super::objects(superblock.geometry.part_bytes, options.object_bytes);
        let durable = scan.next_sequence - 1;
        let generation = superblock.generation;
        let interval_us = options.flush_ms * 1_000;
        let flushed_below = superblock.flushed_below;
        segments.settle(flushed_below, next_incarnation);
        let checkpoint =
            Checkpoint::new(interval_us, generation, durable, flushed_below, &segments, now);
        let sequences = Sequences::new(
            scan.next_sequence,
            flushed_below,
            superblock.flush_at_s,
            scan.voids.clone(),
        );
        let identity = Identity {
            log: superblock.log,
            hash_key: superblock.hash_key,
            geometry: superblock.geometry,
            starts: superblock.starts.saturating_add(1),
        };
        let blocks_max = disk.pool().read_bytes_max() / SSD_BLOCK_BYTES;
        Ok(Log {
            identity,
            queue: Queue::new(disk, Arc::clone(&options.stats)),
            index: Index::new(objects, blocks_max).map_err(OpenError::Memory)?,
            segments,
            sequences,
            writer: Writer::default(),
            kills: Kills::new(),
            checkpoint,
            reclaim: Reclaim::default(),
            doubt: Doubt::new(Arc::clone(&options.witness), options.name.clone()),
            admission: Admission::new(options.admit, options.item_bytes_max),
            clock: OwnClock::new(now),
            stats: Arc::clone(&options.stats),
            level: Level::L2,
            reads_over: 0,
        })
    }

    /// Enters the items that are alive, and writes the summaries anew that are damaged.
    fn enter_all(&mut self, scan: &mut Scan, dead: &Dead) -> Result<(), OpenError> {
        for at in 0..scan.used.len() {
            let segments = &self.segments;
            let mut waited = Waited::new(self.queue.disk_mut());
            let (used, entries) = scan.take_entries(&mut waited, segments, at);
            // It could be read a moment ago.
            let Some(entries) = entries else {
                return Err(OpenError::Disk(waited.error.unwrap_or(DiskError::Ended)));
            };
            if !used.is_summarized {
                self.stats.add(Counter::SsdBadSummaries, 1);
                write_end(&mut waited, segments, used, &entries)?;
            }
            let (first, segment) = (used.seal.first_sequence, used.header.segment);
            for entry in entries {
                let sequence = first + u64::from(entry.sequence);
                let is_alive = entry.kind == Kind::Item
                    && scan.counts(sequence)
                    && !self.sequences.is_flushed(sequence)
                    && !dead.has(segment, entry.unit);
                if is_alive {
                    let unit = self.segments.unit(segment, entry.unit * SSD_UNIT_BYTES as u32);
                    self.enter(&entry, unit);
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, entry: &Entry, unit: u64) {
        let segments = &self.segments;
        let age = |unit: u64| {
            let segment = segments.locate(unit).map(|(segment, _)| segment);
            segment.map_or(0, |segment| segments.get(segment).last_sequence)
        };
        let at = self.index.new_slot(entry.hash, age);
        let evicted = at.evicted;
        self.index.put(at, entry.hash, unit, entry.span);
        if let Some(evicted) = evicted {
            self.stats.add(Counter::SsdEvicted, 1);
            self.kill(evicted);
        }
    }

    /// Says in both superblocks that everything found is durable and nothing is open.
    fn note_start(&mut self) -> Result<(), OpenError> {
        for _ in 0..SUPERBLOCKS {
            let superblock = self.superblock();
            self.checkpoint.note_start(&superblock);
            let mut block = vec![0; SSD_BLOCK_BYTES];
            superblock.encode(&mut block);
            let mut waited = Waited::new(self.queue.disk_mut());
            waited.write(superblock_at(&superblock), &block)?;
            waited.flush()?;
        }
        Ok(())
    }
}

/// By how much a log's own clock is ahead of the host's, in seconds; None: by more than can be, so
/// that one of them was wrong.
pub(super) fn ahead_s(superblock: &Superblock, now: Now) -> Option<u32> {
    let ahead_s = superblock.clock_s.saturating_sub(now.unix_s);
    (ahead_s <= SSD_CLOCK_AHEAD_MAX_S).then_some(ahead_s)
}

fn geometry_of(disk: &impl Disk, options: &Options) -> Result<Geometry, OpenError> {
    let part_bytes = disk.size_bytes();
    let needed_bytes = SEGMENTS_AT_BYTES + u64::from(SEGMENTS_MIN) * options.segment_bytes as u64;
    if part_bytes < needed_bytes {
        return Err(OpenError::TooSmall { part_bytes, needed_bytes });
    }
    if (part_bytes / SSD_UNIT_BYTES as u64) >> LOCATION_BITS != 0 {
        return Err(OpenError::TooLarge { part_bytes });
    }
    Ok(Geometry {
        part_bytes,
        segment_bytes: options.segment_bytes as u32,
        worker: options.worker as u32,
        workers: options.workers as u32,
    })
}

/// The table of segments that a scan found.
pub(super) fn segments_of(scan: &Scan) -> Segments {
    let geometry = scan.superblock.geometry;
    let mut segments = Segments::new(geometry.part_bytes, geometry.segment_bytes);
    for used in &scan.used {
        let seal = &used.seal;
        *segments.get_mut(seal.segment) = Segment {
            state: SegmentState::Sealed,
            incarnation: seal.incarnation,
            class: used.header.class.min(SSD_CLASSES_MAX as u8 - 1),
            first_sequence: seal.first_sequence,
            last_sequence: seal.last_sequence,
            expiry_max_s: seal.expiry_max_s,
            data_end_bytes: seal.data_end_bytes,
            entries: seal.entries,
        };
    }
    segments
}

impl Scan {
    /// The entries of one of the used segments, if they can be read.
    pub(super) fn take_entries<D: Disk>(
        &mut self,
        disk: &mut Waited<'_, D>,
        segments: &Segments,
        at: usize,
    ) -> (&Used, Option<Vec<Entry>>) {
        let hash_key = self.superblock.hash_key;
        let used = &mut self.used[at];
        if used.entries.is_none() {
            used.read_entries(disk, segments, hash_key);
        }
        let entries = used.entries.take();
        (&self.used[at], entries)
    }
}

/// The records that others killed: a bit for each unit of a segment that has any.
pub(super) struct Dead {
    bits: Vec<Option<Box<[u64]>>>,
}

impl Dead {
    /// Looks at what all records killed that count. None: those of a segment cannot be read.
    pub(super) fn find<D: Disk>(disk: &mut Waited<'_, D>, scan: &mut Scan) -> Option<Dead> {
        let segments = segments_of(scan);
        let units = segments.segment_bytes() as usize / SSD_UNIT_BYTES;
        let mut dead = Dead { bits: vec![None; segments.count() as usize] };
        for at in 0..scan.used.len() {
            let is_kept = scan.used[at].entries.is_some();
            let (used, entries) = scan.take_entries(disk, &segments, at);
            let (first, entries) = (used.seal.first_sequence, entries?);
            for entry in &entries {
                let target = segments.target(entry.kills);
                let place = segments.locate(entry.kills.unit());
                if let (Some(target), Some((_, offset_bytes))) = (target, place)
                    && scan.counts(first + u64::from(entry.sequence))
                {
                    let unit = offset_bytes as usize / SSD_UNIT_BYTES;
                    let bits = &mut dead.bits[target as usize];
                    let bits = bits.get_or_insert_with(|| vec![0; units.div_ceil(64)].into());
                    bits[unit / 64] |= 1 << (unit % 64);
                }
            }
            if is_kept {
                scan.used[at].entries = Some(entries);
            }
        }
        Some(dead)
    }

    /// Whether the record at `unit` of a segment was killed.
    pub(super) fn has(&self, segment: u32, unit: u32) -> bool {
        let bits = self.bits[segment as usize].as_ref();
        bits.is_some_and(|bits| bits[unit as usize / 64] >> (unit % 64) & 1 == 1)
    }
}

/// Ends the segments that were open: each gets the summary of what counts of it, and its seal; one
/// of which nothing does is given up.
fn end_open_segments<D: Disk>(disk: &mut Waited<'_, D>, scan: &mut Scan) -> Result<(), OpenError> {
    let segments = segments_of(scan);
    for &segment in &scan.headless {
        let header = SegmentHeader {
            log: scan.superblock.log,
            segment,
            incarnation: 0,
            is_used: false,
            class: 0,
            first_sequence: 0,
        };
        write_header(disk, &segments, header)?;
    }
    for at in 0..scan.used.len() {
        let voids = scan.voids.clone();
        let used = &mut scan.used[at];
        if used.is_sealed {
            continue;
        }
        let first = used.seal.first_sequence;
        let counts = |void: &Void, sequence| sequence < void.first || void.last < sequence;
        let entries = used.entries.as_mut().into_iter().flat_map(|it| {
            it.retain(|entry| {
                voids.iter().all(|void| counts(void, first + u64::from(entry.sequence)))
            });
            it.iter().copied()
        });
        let entries: Vec<Entry> = entries.collect();
        used.seal.entries = entries.len() as u32;
        let last = entries.iter().map(|entry| first + u64::from(entry.sequence)).max();
        used.seal.last_sequence = last.unwrap_or(first);
        write_end(disk, &segments, used, &entries)?;
        used.is_summarized = true;
    }
    disk.flush()?;
    for used in &scan.used {
        if !used.is_sealed && used.seal.entries > 0 {
            let mut blocks = [0; SEAL_BLOCKS * SSD_BLOCK_BYTES];
            blocks.chunks_mut(SSD_BLOCK_BYTES).for_each(|block| used.seal.encode(block));
            let start_bytes = segments.start_bytes(used.seal.segment);
            let end_bytes = start_bytes + u64::from(segments.segment_bytes());
            disk.write(end_bytes - blocks.len() as u64, &blocks)?;
        }
    }
    scan.used.retain(|used| used.is_sealed || used.seal.entries > 0);
    disk.flush()?;
    Ok(())
}

fn write_header<D: Disk>(
    disk: &mut Waited<'_, D>,
    segments: &Segments,
    header: SegmentHeader,
) -> Result<(), OpenError> {
    let mut blocks = [0; HEADER_BLOCKS * SSD_BLOCK_BYTES];
    blocks.chunks_mut(SSD_BLOCK_BYTES).for_each(|block| header.encode(block));
    Ok(disk.write(segments.start_bytes(header.segment), &blocks)?)
}

/// The summary, or the header that gives the segment up.
fn write_end<D: Disk>(
    disk: &mut Waited<'_, D>,
    segments: &Segments,
    used: &Used,
    entries: &[Entry],
) -> Result<(), OpenError> {
    let Seal { segment, incarnation, data_end_bytes, .. } = used.seal;
    let start_bytes = segments.start_bytes(segment);
    if entries.is_empty() {
        return write_header(disk, segments, SegmentHeader { is_used: false, ..used.header });
    }
    let mut bytes = vec![0; summary_blocks(entries.len()) * SSD_BLOCK_BYTES];
    let pieces = bytes.chunks_mut(SSD_BLOCK_BYTES).zip(entries.chunks(ENTRIES_PER_BLOCK));
    for (index, (block, entries)) in pieces.enumerate() {
        encode_summary(block, incarnation, index as u32, entries);
    }
    Ok(disk.write(start_bytes + u64::from(data_end_bytes), &bytes)?)
}

const _: () = assert!(SEGMENTS_MIN as usize > SSD_FREE_SEGMENTS + 4);
