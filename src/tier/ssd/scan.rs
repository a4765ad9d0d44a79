//! Reading what a crash, or a clean stop, left of a log. Changes nothing.
//!
//! What is found is a prefix of what was done: every record up to some sequence, and none behind
//! it, though the disk may have kept later ones. A log of which a piece is missing that was durable
//! is damaged beyond that: then nobody can say which older records it had killed. Bytes from the
//! disk must never panic this.

use super::disk::{Disk, DiskError, Io, Op};
use super::format::{
    Entry, HEADER_BLOCKS, Kind, LogId, Mark, Record, SEAL_BLOCKS, Seal, SegmentHeader, Span,
    Superblock, Void, decode_summary, summary_blocks,
};
use super::identity;
use super::segments::{OPENS_PER_CHECKPOINT, Segments};
use crate::base::clock::Now;
use crate::base::limits::{SSD_BLOCK_BYTES, SSD_UNIT_BYTES};

const BLOCK: usize = SSD_BLOCK_BYTES;

/// Bytes of one read.
const READ_BYTES: usize = 16 * BLOCK;

/// A disk that is waited for: only before and after serving.
pub(super) struct Waited<'a, D> {
    pub disk: &'a mut D,
    /// What kept a block from being read, if anything did.
    pub error: Option<DiskError>,
    /// A clock that goes on while somebody waits, for disks that are simulated.
    now: Now,
}

impl<D: Disk> Waited<'_, D> {
    pub fn new(disk: &mut D) -> Waited<'_, D> {
        Waited { disk, error: None, now: Now::default() }
    }

    fn run(&mut self, op: Op) -> Result<Op, DiskError> {
        let mut io = Io { token: 0, op };
        let mut done = Vec::new();
        while let Err(back) = self.disk.submit(io) {
            io = back;
            self.disk.turn(self.now, &mut done);
        }
        loop {
            self.now.uptime_us += 1_000;
            self.disk.turn(self.now, &mut done);
            if let Some(done) = done.pop() {
                return done.result.map(|()| done.io.op);
            }
            std::thread::yield_now();
        }
    }

    fn read_once(&mut self, offset_bytes: u64, out: &mut [u8]) -> Result<(), DiskError> {
        let len_bytes = out.len();
        let buffer = self.disk.pool().read_buffer(len_bytes).expect("nobody else has buffers");
        let op = self.run(Op::Read { offset_bytes, len_bytes, buffer })?;
        if let Op::Read { buffer, .. } = op {
            out.copy_from_slice(&buffer[..len_bytes]);
        }
        Ok(())
    }

    /// Reads whole blocks. Those that cannot be read are all ones, which no block here is, and the
    /// error is remembered.
    pub fn read(&mut self, offset_bytes: u64, out: &mut [u8]) {
        for (i, piece) in out.chunks_mut(READ_BYTES).enumerate() {
            let at = offset_bytes + (i * READ_BYTES) as u64;
            if self.read_once(at, piece).is_ok() {
                continue;
            }
            for (j, block) in piece.chunks_mut(BLOCK).enumerate() {
                if let Err(error) = self.read_once(at + (j * BLOCK) as u64, block) {
                    self.error = Some(error);
                    block.fill(0xff);
                }
            }
        }
    }

    /// Writes whole blocks.
    pub fn write(&mut self, offset_bytes: u64, bytes: &[u8]) -> Result<(), DiskError> {
        for (i, piece) in bytes.chunks(READ_BYTES).enumerate() {
            let pool = self.disk.pool();
            let mut buffer = pool.read_buffer(piece.len()).expect("nobody else has buffers");
            buffer.open_mut()[..piece.len()].copy_from_slice(piece);
            let bytes = buffer.freeze(piece.len());
            let offset_bytes = offset_bytes + (i * READ_BYTES) as u64;
            self.run(Op::Write { offset_bytes, bytes })?;
        }
        Ok(())
    }

    pub fn flush(&mut self) -> Result<(), DiskError> {
        self.run(Op::Flush).map(|_| ())
    }
}

/// What is known of a segment that holds records.
#[derive(Debug)]
pub(super) struct Used {
    pub header: SegmentHeader,
    /// If it has a seal, or was walked: then as if it had one.
    pub seal: Seal,
    pub is_sealed: bool,
    /// Its records, where they had to be looked at.
    pub entries: Option<Vec<Entry>>,
    /// No summary of it was found to be damaged.
    pub is_summarized: bool,
}

impl Used {
    /// Looks its records up: in its summary, or, if that is damaged, among themselves. None are
    /// found if those are not all there either.
    pub fn read_entries<D: Disk>(
        &mut self,
        disk: &mut Waited<'_, D>,
        segments: &Segments,
        hash_key: [u64; 2],
    ) {
        self.entries = summary(disk, segments, &self.seal);
        self.is_summarized = self.entries.is_some();
        if self.is_summarized {
            return;
        }
        let header = SegmentHeader { first_sequence: self.seal.first_sequence, ..self.header };
        let limits = (self.seal.data_end_bytes, self.seal.data_end_bytes);
        let mut entries = walk(disk, segments, &header, hash_key, limits, |_, _| ()).entries;
        // Behind the last there may be one that a failed write cut in two.
        entries.truncate(self.seal.entries as usize);
        self.entries = (entries.len() == self.seal.entries as usize).then_some(entries);
    }
}

/// What a log holds.
#[derive(Debug)]
pub(super) struct Scan {
    pub superblock: Superblock,
    /// Segments with records.
    pub used: Vec<Used>,
    /// Segments from this one on were never used.
    pub segments_used: u32,
    /// Segments below that have no header and need none until they are used.
    pub headless: Vec<u32>,
    /// Higher than every incarnation on the disk.
    pub next_incarnation: u32,
    /// The last sequence of the prefix.
    pub last_sequence: u64,
    /// Higher than every sequence on the disk.
    pub next_sequence: u64,
    /// What is cut off, and was before.
    pub voids: Vec<Void>,
    /// Something is missing that was durable.
    pub is_damaged: bool,
    /// Records of which no more than the head is there.
    pub records_lost: u64,
}

/// The records of a segment in the order in which they lie there.
pub(super) struct Walk {
    pub entries: Vec<Entry>,
    /// Where it ended, in bytes: everything before is whole.
    pub end_bytes: u32,
    pub expiry_max_s: u32,
    pub last_sequence: u64,
    /// Records of which no more than the head is there.
    pub lost: u64,
}

/// A segment's bytes, read as far as somebody looked.
struct Tape<'a, 'b, D> {
    disk: &'a mut Waited<'b, D>,
    start_bytes: u64,
    bytes: Vec<u8>,
    len: usize,
}

impl<D: Disk> Tape<'_, '_, D> {
    /// The bytes from `at` on, at least `len` of them if the segment has so many.
    fn from(&mut self, at: usize, len: usize) -> &[u8] {
        let wanted = (at + len).next_multiple_of(READ_BYTES).min(self.len);
        let have = self.bytes.len();
        if wanted > have {
            self.bytes.resize(wanted, 0);
            self.disk.read(self.start_bytes + have as u64, &mut self.bytes[have..]);
        }
        &self.bytes[at.min(self.bytes.len())..]
    }
}

/// The head of the record at the start of `bytes`, which lies at `unit`, if it is undamaged and of
/// this incarnation of its segment, whose first sequence is given, and fits into `room_bytes`.
pub(super) fn head_of(
    bytes: &[u8],
    unit: u64,
    (incarnation, first_sequence): (u32, u64),
    room_bytes: usize,
) -> Option<Record> {
    Record::head(bytes, unit).filter(|record| {
        record.len_bytes() <= room_bytes
            && record.incarnation == incarnation
            && record.sequence.checked_sub(first_sequence).is_some_and(|n| n >> 32 == 0)
    })
}

/// What a summary says of a record, which is `at` bytes from the start of its segment, at `unit` of
/// the part. `key`: an item's; None: all that counts of it is what it killed.
pub(super) fn entry_of(
    record: &Record,
    key: Option<&[u8]>,
    hash_key: [u64; 2],
    (at, unit): (usize, u64),
    first_sequence: u64,
) -> Entry {
    Entry {
        hash: key.map_or(0, |key| identity::hash(hash_key, key)),
        kills: record.kills,
        unit: (at / SSD_UNIT_BYTES) as u32,
        kind: if key.is_some() { Kind::Item } else { Kind::Tombstone },
        span: Span::of(unit, record.len_bytes()),
        sequence: (record.sequence - first_sequence) as u32,
    }
}

/// Walks the records of a segment up to `limit_bytes`. Calls `visit` with each and its bytes. One
/// before `durable_bytes` that is damaged behind its head was there whole once: it is entered as a
/// tombstone, for what it killed. Any other that is not whole is the end.
pub(super) fn walk<D: Disk>(
    disk: &mut Waited<'_, D>,
    segments: &Segments,
    header: &SegmentHeader,
    hash_key: [u64; 2],
    (limit_bytes, durable_bytes): (u32, u32),
    mut visit: impl FnMut(&Record, &[u8]),
) -> Walk {
    let start_bytes = segments.start_bytes(header.segment);
    let len = limit_bytes as usize;
    let mut tape = Tape { disk, start_bytes, bytes: Vec::new(), len };
    let first_sequence = header.first_sequence;
    let mut walk = Walk {
        entries: Vec::new(),
        end_bytes: 0,
        expiry_max_s: 1,
        last_sequence: first_sequence,
        lost: 0,
    };
    let mut at = HEADER_BLOCKS * BLOCK;
    while at < len {
        let unit = segments.unit(header.segment, at as u32);
        let of = (header.incarnation, first_sequence);
        let head = head_of(tape.from(at, BLOCK), unit, of, len - at);
        let bytes = tape.from(at, head.map_or(BLOCK, |record| record.len_bytes()));
        let is_whole = head.is_some_and(|record| record.is_whole(bytes));
        let Some(record) = head.filter(|_| is_whole || at < durable_bytes as usize) else {
            let rest = at.next_multiple_of(BLOCK) - at;
            if rest == 0 {
                break;
            }
            if bytes[..rest.min(bytes.len())].iter().any(|byte| *byte != 0) {
                break;
            }
            at += rest;
            continue;
        };
        if is_whole {
            visit(&record, bytes);
        } else {
            walk.lost += 1;
        }
        let key = (is_whole && record.kind == Kind::Item).then(|| record.key(bytes));
        walk.entries.push(entry_of(&record, key, hash_key, (at, unit), first_sequence));
        walk.last_sequence = walk.last_sequence.max(record.sequence);
        walk.expiry_max_s = match (walk.expiry_max_s, record.expiry_s) {
            (0, _) | (_, 0) => 0,
            (max, expiry_s) => max.max(expiry_s),
        };
        at = (at + record.len_bytes()).next_multiple_of(SSD_UNIT_BYTES);
    }
    walk.end_bytes = at.min(len) as u32;
    walk
}

/// The entries of a sealed segment as its summary has them, if it is undamaged.
pub(super) fn summary<D: Disk>(
    disk: &mut Waited<'_, D>,
    segments: &Segments,
    seal: &Seal,
) -> Option<Vec<Entry>> {
    let start_bytes = segments.start_bytes(seal.segment) + u64::from(seal.data_end_bytes);
    let mut bytes = vec![0; summary_blocks(seal.entries as usize) * BLOCK];
    disk.read(start_bytes, &mut bytes);
    let mut entries = Vec::with_capacity(seal.entries as usize);
    let of = (seal.incarnation, seal.data_end_bytes);
    let is_whole = bytes
        .chunks(BLOCK)
        .enumerate()
        .all(|(index, block)| decode_summary(block, of, index as u32, |entry| entries.push(entry)));
    (is_whole && entries.len() == seal.entries as usize).then_some(entries)
}

/// The header of a segment, of which there are two: the later one that is undamaged.
fn header<D: Disk>(
    disk: &mut Waited<'_, D>,
    segments: &Segments,
    log: &LogId,
    segment: u32,
) -> Option<SegmentHeader> {
    let mut blocks = [0; HEADER_BLOCKS * BLOCK];
    disk.read(segments.start_bytes(segment), &mut blocks);
    let headers = blocks.chunks(BLOCK).filter_map(|it| SegmentHeader::decode(it, log, segment));
    headers.max_by_key(|header| (header.incarnation, !header.is_used))
}

fn seal<D: Disk>(
    disk: &mut Waited<'_, D>,
    segments: &Segments,
    header: &SegmentHeader,
) -> Option<Seal> {
    let mut blocks = [0; SEAL_BLOCKS * BLOCK];
    let end_bytes = segments.start_bytes(header.segment) + u64::from(segments.segment_bytes());
    disk.read(end_bytes - blocks.len() as u64, &mut blocks);
    let seals = blocks.chunks(BLOCK).filter_map(|block| Seal::decode(block, header));
    seals.into_iter().find(|seal| seal.is_possible(segments.segment_bytes()))
}

impl Scan {
    /// Looks at the log that `superblock` is of.
    pub fn of<D: Disk>(disk: &mut Waited<'_, D>, superblock: Superblock) -> Scan {
        let geometry = superblock.geometry;
        let segments = Segments::new(geometry.part_bytes, geometry.segment_bytes);
        let looked_at = superblock.segments_used.saturating_add(OPENS_PER_CHECKPOINT);
        let looked_at = segments.count().min(looked_at);
        let mut scan = Scan {
            used: Vec::new(),
            segments_used: superblock.segments_used,
            headless: Vec::new(),
            next_incarnation: superblock.next_incarnation,
            last_sequence: superblock.durable_sequence,
            // What was flushed may not have been durable: no number of it is given out again.
            next_sequence: (superblock.durable_sequence + 1).max(superblock.flushed_below),
            voids: superblock.voids.clone(),
            is_damaged: false,
            records_lost: 0,
            superblock,
        };
        for segment in 0..looked_at {
            scan.look_at(disk, &segments, segment);
        }
        let segments_used = scan.segments_used;
        scan.headless.retain(|segment| *segment < segments_used);
        scan.cut(disk, &segments);
        scan
    }

    fn look_at<D: Disk>(&mut self, disk: &mut Waited<'_, D>, segments: &Segments, segment: u32) {
        let superblock = &self.superblock;
        let Some(header) = header(disk, segments, &superblock.log, segment) else {
            // One whose very first write failed.
            let is_excused = |mark: &Mark| mark.segment == segment && mark.end_bytes == 0;
            let is_excused = superblock.marks.iter().any(is_excused);
            self.is_damaged |= segment < superblock.segments_used && !is_excused;
            self.headless.push(segment);
            return;
        };
        self.segments_used = self.segments_used.max(segment + 1);
        self.next_incarnation = self.next_incarnation.max(header.incarnation + 1);
        if !header.is_used {
            return;
        }
        if let Some(seal) = seal(disk, segments, &header) {
            self.next_sequence = self.next_sequence.max(seal.last_sequence + 1);
            self.used.push(Used {
                header,
                seal,
                is_sealed: true,
                entries: None,
                is_summarized: true,
            });
            return;
        }
        let is_this =
            |mark: &&Mark| mark.segment == segment && mark.incarnation == header.incarnation;
        let mark = superblock.marks.iter().find(is_this);
        let is_new = header.incarnation >= superblock.next_incarnation;
        let limit_bytes = segments.segment_bytes() - (SEAL_BLOCKS * BLOCK) as u32;
        let hash_key = superblock.hash_key;
        let limits = (limit_bytes, mark.map_or(0, |mark| mark.end_bytes));
        let walk = walk(disk, segments, &header, hash_key, limits, |_, _| ());
        self.records_lost += walk.lost;
        // Behind the mark a broken end is an ordinary one.
        self.is_damaged |= match mark {
            Some(mark) => walk.end_bytes < mark.end_bytes,
            None => !is_new,
        };
        self.next_sequence = self.next_sequence.max(walk.last_sequence + 1);
        let seal = Seal {
            log: header.log,
            segment,
            incarnation: header.incarnation,
            data_end_bytes: walk.end_bytes.next_multiple_of(BLOCK as u32),
            entries: walk.entries.len() as u32,
            first_sequence: header.first_sequence,
            last_sequence: walk.last_sequence,
            expiry_max_s: walk.expiry_max_s,
        };
        let entries = Some(walk.entries);
        self.used.push(Used { header, seal, is_sealed: false, entries, is_summarized: false });
    }

    /// Finds the end of the prefix.
    fn cut<D: Disk>(&mut self, disk: &mut Waited<'_, D>, segments: &Segments) {
        let durable = self.superblock.durable_sequence;
        let mut later: Vec<u64> = Vec::new();
        for used in &mut self.used {
            if used.seal.last_sequence <= durable {
                continue;
            }
            if used.entries.is_none() {
                used.read_entries(disk, segments, self.superblock.hash_key);
            }
            let Some(entries) = &used.entries else {
                self.is_damaged = true;
                continue;
            };
            let sequences =
                entries.iter().map(|it| used.seal.first_sequence + u64::from(it.sequence));
            later.extend(sequences.filter(|sequence| *sequence > durable));
        }
        later.sort_unstable();
        let dense = (durable + 1..).zip(&later).take_while(|(expected, it)| expected == *it);
        self.last_sequence = durable + dense.count() as u64;
        if self.next_sequence > self.last_sequence + 1 {
            self.voids.push(Void { first: self.last_sequence + 1, last: self.next_sequence - 1 });
        }
    }

    /// Whether a record with this sequence counts.
    pub fn counts(&self, sequence: u64) -> bool {
        !self.voids.iter().any(|void| void.first <= sequence && sequence <= void.last)
    }
}
