//! What lies on the disk, byte by byte: records, segment headers, seals, summaries, superblocks.
//!
//! ```text
//! part:    | superblock | superblock | ... | segment 0 | segment 1 | ...
//! segment: | header | header | records ... | summary ... |      | seal | seal |
//! ```
//!
//! Everything is little-endian and has a crc32c of its own, a record's head one beside that of its
//! key and value: where the next record begins, and what this one killed, is known though its value
//! is damaged. What there is only once in a segment, or in a part, is written in two blocks: then
//! one bad block loses no more than the records in it. Nothing here reads or writes a disk; bytes
//! from a disk must never panic it.

use std::ops::Range;

use bytes::{Buf, BufMut};

use crate::base::limits::{
    KEY_BYTES_MAX, SSD_BLOCK_BYTES, SSD_CROSSING_ROOM_BYTES, SSD_UNIT_BYTES,
};

/// Version of all that is described here.
pub const VERSION: u32 = 2;

/// Bytes of a record before its key.
pub const RECORD_HEADER_BYTES: usize = 56;

const _: () = assert!(RECORD_HEADER_BYTES + KEY_BYTES_MAX <= SSD_CROSSING_ROOM_BYTES);

/// Blocks at the start of a segment with its header, twice.
pub const HEADER_BLOCKS: usize = 2;

/// Blocks at the end of a segment with its seal, twice.
pub const SEAL_BLOCKS: usize = 2;

/// Blocks of superblocks at the start of a part.
pub const SUPERBLOCKS: usize = 2;

/// Bytes at the start of a part before its first segment.
pub const SEGMENTS_AT_BYTES: u64 = 64 * 1024;

/// Bytes of an entry of a summary.
pub const ENTRY_BYTES: usize = 24;

/// Bytes of a summary block before its entries.
const SUMMARY_HEADER_BYTES: usize = 16;

/// Entries in one block of a summary.
pub const ENTRIES_PER_BLOCK: usize = (SSD_BLOCK_BYTES - SUMMARY_HEADER_BYTES) / ENTRY_BYTES;

/// Bytes of the checksum that everything begins with.
const CHECKSUM_BYTES: usize = 4;

const RECORD_MAGIC: u16 = 0x5352;
const SUMMARY_MAGIC: u16 = 0x5359;
const HEADER_MAGIC: [u8; 8] = *b"sunderSH";
const SEAL_MAGIC: [u8; 8] = *b"sunderSE";
const SUPER_MAGIC: [u8; 8] = *b"sunderSB";

/// Where the first byte of a record is, in units from the start of the part: 34 bits.
pub const LOCATION_BITS: u32 = 34;

/// Bits of an incarnation: the number of a segment's use, counted over all segments of a part.
pub const INCARNATION_BITS: u32 = 30;

/// Higher than every sequence: whatever is reckoned with one on the disk does not overflow.
pub const SEQUENCES_MAX: u64 = 1 << 62;

/// Segments that a part has at most.
pub const SEGMENTS_MAX: u64 = 1 << 24;

/// Largest incarnation.
pub const INCARNATION_MAX: u32 = (1 << INCARNATION_BITS) - 1;

/// A record, named once and for all: where it is, and in which use of its segment. No two records
/// ever have the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link(u64);

impl Link {
    /// Names no record.
    pub const NONE: Link = Link(0);

    /// The record at `unit` of a segment in its use `incarnation`.
    pub fn new(unit: u64, incarnation: u32) -> Link {
        debug_assert!(unit >> LOCATION_BITS == 0 && incarnation <= INCARNATION_MAX);
        Link(u64::from(incarnation) << LOCATION_BITS | unit)
    }

    /// Whether it names none.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Where the record is.
    pub fn unit(self) -> u64 {
        self.0 & ((1 << LOCATION_BITS) - 1)
    }

    /// In which use of its segment.
    pub fn incarnation(self) -> u32 {
        (self.0 >> LOCATION_BITS) as u32
    }
}

/// The next `N` bytes.
fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let mut array = [0; N];
    bytes.try_copy_to_slice(&mut array).ok()?;
    Some(array)
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An item.
    Item,
    /// No item: it is there for what it kills.
    Tombstone,
}

/// What meta commands noted at an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemMarks {
    /// It is out of date.
    pub is_stale: bool,
    /// A client was told to fetch it again.
    pub is_token_sent: bool,
}

impl ItemMarks {
    fn bits(self) -> u8 {
        u8::from(self.is_stale) | u8::from(self.is_token_sent) << 1
    }

    fn from_bits(bits: u8) -> ItemMarks {
        ItemMarks { is_stale: bits & 1 != 0, is_token_sent: bits & 2 != 0 }
    }
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// Length of the key, in bytes.
    pub key_bytes: u8,
    /// The marks of an item. They lie where older logs have zeros.
    pub marks: ItemMarks,
    /// Length of the value, in bytes.
    pub value_bytes: u32,
    /// The client's flags.
    pub flags: u32,
    /// When the item expires, as Unix time in seconds; 0 for never. A tombstone has the expiry of
    /// the youngest item in the segment of what it kills.
    pub expiry_s: u32,
    /// The use of the segment that it was written in.
    pub incarnation: u32,
    /// Its number among all records of the part, in the order in which they took effect.
    pub sequence: u64,
    /// The item's cas; it survives being moved.
    pub cas: u64,
    /// The record that must not be found again now that this one is there.
    pub kills: Link,
}

impl Record {
    /// Length with header, key and value, in bytes.
    pub fn len_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + usize::from(self.key_bytes) + self.value_bytes as usize
    }

    /// The record's first bytes, with the checksums of themselves and of the rest: `rest` is called
    /// with a function that takes key and value piece by piece.
    pub fn encode(
        &self,
        unit: u64,
        rest: impl FnOnce(&mut dyn FnMut(&[u8])),
    ) -> [u8; RECORD_HEADER_BYTES] {
        let mut out = [0; RECORD_HEADER_BYTES];
        let mut put = &mut out[CHECKSUM_BYTES..];
        put.put_u16_le(RECORD_MAGIC);
        put.put_u8(VERSION as u8);
        put.put_u8(match self.kind {
            Kind::Item => 1,
            Kind::Tombstone => 2,
        });
        put.put_u8(self.key_bytes);
        put.put_u8(self.marks.bits());
        put.put_slice(&[0; 2]);
        put.put_u32_le(self.value_bytes);
        put.put_u32_le(self.flags);
        put.put_u32_le(self.expiry_s);
        put.put_u32_le(self.incarnation);
        put.put_u64_le(self.sequence);
        put.put_u64_le(self.cas);
        put.put_u64_le(self.kills.0);
        let mut crc = 0;
        rest(&mut |piece| crc = crc32c::crc32c_append(crc, piece));
        out[RECORD_HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        let crc = head_checksum(&out, unit);
        out[..4].copy_from_slice(&crc);
        out
    }

    /// The head of a record at the start of `bytes`, unchecked but for what makes its length make
    /// sense. None: this is not the start of a record.
    pub fn peek(bytes: &[u8]) -> Option<Record> {
        // Of a known length, so that it is checked once.
        let head = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
        let mut take = &head[CHECKSUM_BYTES..];
        if take.get_u16_le() != RECORD_MAGIC || u32::from(take.get_u8()) != VERSION {
            return None;
        }
        let kind = match take.get_u8() {
            1 => Kind::Item,
            2 => Kind::Tombstone,
            _ => return None,
        };
        let key_bytes = take.get_u8();
        let marks = ItemMarks::from_bits(take.get_u8());
        take.advance(2);
        Some(Record {
            kind,
            key_bytes,
            marks,
            value_bytes: take.get_u32_le(),
            flags: take.get_u32_le(),
            expiry_s: take.get_u32_le(),
            incarnation: take.get_u32_le(),
            sequence: take.get_u64_le(),
            cas: take.get_u64_le(),
            kills: Link(take.get_u64_le()),
        })
    }

    /// The head of the record that starts at `bytes` and lies at `unit`, if the head is undamaged.
    /// Of the key and the value nothing is known.
    pub fn head(bytes: &[u8], unit: u64) -> Option<Record> {
        let record = Record::peek(bytes)?;
        let head = bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
        (head_checksum(head, unit) == head[..4]).then_some(record)
    }

    /// Whether key and value of this record, whose head was found at the start of `bytes`, are
    /// there and undamaged.
    pub fn is_whole(&self, bytes: &[u8]) -> bool {
        let rest = bytes.get(RECORD_HEADER_BYTES..self.len_bytes());
        rest.is_some_and(|rest| {
            crc32c::crc32c(rest).to_le_bytes() == bytes[RECORD_HEADER_BYTES - 4..][..4]
        })
    }

    /// The record that starts at `bytes` and lies at `unit`, if it is whole and undamaged. Its key
    /// and value follow its header.
    pub fn decode(bytes: &[u8], unit: u64) -> Option<Record> {
        Record::head(bytes, unit).filter(|record| record.is_whole(bytes))
    }

    /// The key of a decoded record.
    pub fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + usize::from(self.key_bytes)]
    }

    /// The value of a decoded record.
    pub fn value<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[RECORD_HEADER_BYTES + usize::from(self.key_bytes)..self.len_bytes()]
    }
}

/// The checksum of a record's head. Its place is part of it: a record that a disk gives from
/// elsewhere is damaged.
fn head_checksum(head: &[u8; RECORD_HEADER_BYTES], unit: u64) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(&unit.to_le_bytes()), &head[4..]).to_le_bytes()
}

/// How many blocks a read of a record takes, in 7 bits: exact up to 16, then at most an eighth too
/// many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(u8);

impl Span {
    /// Bits of a span.
    pub const BITS: u32 = 7;

    /// The span that holds `blocks`.
    ///
    /// # Panics
    /// If `blocks` is 0 or above 2^17, which no segment has.
    pub fn of_blocks(blocks: usize) -> Span {
        assert!((1..=1 << 17).contains(&blocks), "within a segment");
        let mut code = 0;
        while Span(code).blocks() < blocks {
            code += 1;
        }
        Span(code)
    }

    /// The span of a record of `len_bytes` that starts at `unit`.
    pub fn of(unit: u64, len_bytes: usize) -> Span {
        let start_bytes = unit as usize * SSD_UNIT_BYTES % SSD_BLOCK_BYTES;
        Span::of_blocks((start_bytes + len_bytes).div_ceil(SSD_BLOCK_BYTES))
    }

    /// From its bits.
    pub fn from_bits(bits: u8) -> Span {
        Span(bits & ((1 << Span::BITS) - 1))
    }

    /// Its bits.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// At least so many blocks.
    pub fn blocks_min(self) -> usize {
        self.0.checked_sub(1).map_or(1, |below| Span(below).blocks() + 1)
    }

    /// At most so many blocks.
    pub fn blocks(self) -> usize {
        match self.0 {
            code @ 0..8 => usize::from(code) + 1,
            code => (9 + usize::from(code & 7)) << (code >> 3).saturating_sub(1),
        }
    }
}

/// What a summary says of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The hash of the key; 0 for a tombstone.
    pub hash: u64,
    /// What it kills.
    pub kills: Link,
    /// Where it starts, in units from the start of its segment.
    pub unit: u32,
    /// What it is.
    pub kind: Kind,
    /// How much a read of it takes.
    pub span: Span,
    /// Its sequence, less the first of the segment.
    pub sequence: u32,
}

/// Bits of [`Entry::unit`]: a segment has up to 2^18 units.
pub const ENTRY_UNIT_BITS: u32 = 18;

impl Entry {
    fn put(&self, put: &mut impl BufMut) {
        let kind = match self.kind {
            Kind::Item => 0,
            Kind::Tombstone => 1,
        };
        put.put_u64_le(self.hash);
        put.put_u64_le(self.kills.0);
        let span = u32::from(self.span.bits()) << (ENTRY_UNIT_BITS + 1);
        put.put_u32_le(span | kind << ENTRY_UNIT_BITS | self.unit);
        put.put_u32_le(self.sequence);
    }

    fn take(take: &mut &[u8]) -> Option<Entry> {
        let hash = take.try_get_u64_le().ok()?;
        let kills = Link(take.try_get_u64_le().ok()?);
        let packed = take.try_get_u32_le().ok()?;
        Some(Entry {
            hash,
            kills,
            unit: packed & ((1 << ENTRY_UNIT_BITS) - 1),
            kind: if packed >> ENTRY_UNIT_BITS & 1 == 0 { Kind::Item } else { Kind::Tombstone },
            span: Span::from_bits((packed >> (ENTRY_UNIT_BITS + 1)) as u8),
            sequence: take.try_get_u32_le().ok()?,
        })
    }
}

/// Blocks of a summary of `entries`.
pub fn summary_blocks(entries: usize) -> usize {
    entries.div_ceil(ENTRIES_PER_BLOCK)
}

/// Writes block number `index` of a summary, with up to [`ENTRIES_PER_BLOCK`] entries, to `out`.
pub fn encode_summary(out: &mut [u8], incarnation: u32, index: u32, entries: &[Entry]) {
    out.fill(0);
    let mut put = &mut out[CHECKSUM_BYTES..];
    put.put_u16_le(SUMMARY_MAGIC);
    put.put_u16_le(entries.len() as u16);
    put.put_u32_le(incarnation);
    put.put_u32_le(index);
    entries.iter().for_each(|entry| entry.put(&mut put));
    seal_block(out);
}

/// Calls `visit` with the entries of a summary's block, of a segment whose records end at
/// `data_end_bytes`. False: the block is damaged, or not the one that is meant, or speaks of
/// records that cannot be; what was visited then counts for nothing.
pub fn decode_summary(
    block: &[u8],
    (incarnation, data_end_bytes): (u32, u32),
    index: u32,
    visit: impl FnMut(Entry),
) -> bool {
    let units = HEADER_UNITS..data_end_bytes / SSD_UNIT_BYTES as u32;
    is_sealed(block)
        && visit_summary(&block[CHECKSUM_BYTES..], incarnation, index, units, visit).is_some()
}

fn visit_summary(
    mut take: &[u8],
    incarnation: u32,
    index: u32,
    units: Range<u32>,
    mut visit: impl FnMut(Entry),
) -> Option<()> {
    let magic = take.try_get_u16_le().ok()?;
    let count = usize::from(take.try_get_u16_le().ok()?);
    let is_it = magic == SUMMARY_MAGIC
        && count <= ENTRIES_PER_BLOCK
        && take.try_get_u32_le().ok()? == incarnation
        && take.try_get_u32_le().ok()? == index;
    if !is_it {
        return None;
    }
    for _ in 0..count {
        let entry = Entry::take(&mut take)?;
        if !units.contains(&entry.unit) {
            return None;
        }
        visit(entry);
    }
    Some(())
}

/// Where the first record of a segment may be.
const HEADER_UNITS: u32 = (HEADER_BLOCKS * SSD_BLOCK_BYTES / SSD_UNIT_BYTES) as u32;

/// Records that a segment has room for whose records end there.
fn records_max(data_end_bytes: u32) -> u32 {
    (data_end_bytes / SSD_UNIT_BYTES as u32).saturating_sub(HEADER_UNITS)
}

/// Puts the checksum of a block's other bytes into its first four.
fn seal_block(block: &mut [u8]) {
    let crc = crc32c::crc32c(&block[CHECKSUM_BYTES..]);
    block[..4].copy_from_slice(&crc.to_le_bytes());
}

fn is_sealed(block: &[u8]) -> bool {
    block.len() >= SSD_BLOCK_BYTES
        && crc32c::crc32c(&block[CHECKSUM_BYTES..]).to_le_bytes() == block[..4]
}

/// Who wrote a part: a random number of its own for every log.
pub type LogId = [u8; 16];

/// What the first blocks of a segment say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log.
    pub log: LogId,
    /// Which segment this is.
    pub segment: u32,
    /// Its use.
    pub incarnation: u32,
    /// Whether it holds records; else it was given up.
    pub is_used: bool,
    /// The class of lifetimes that it holds.
    pub class: u8,
    /// Every record in it has at least this sequence.
    pub first_sequence: u64,
}

impl SegmentHeader {
    /// Writes it to `out`, a block.
    pub fn encode(&self, out: &mut [u8]) {
        out.fill(0);
        let mut put = &mut out[CHECKSUM_BYTES..];
        put.put_slice(&HEADER_MAGIC);
        put.put_u32_le(VERSION);
        put.put_slice(&self.log);
        put.put_u32_le(self.segment);
        put.put_u32_le(self.incarnation);
        put.put_u8(u8::from(self.is_used));
        put.put_u8(self.class);
        put.put_u64_le(self.first_sequence);
        seal_block(out);
    }

    /// The header in `block`, if it is undamaged and of this log and segment.
    pub fn decode(block: &[u8], log: &LogId, segment: u32) -> Option<SegmentHeader> {
        if !is_sealed(block) {
            return None;
        }
        let mut take = &block[CHECKSUM_BYTES..];
        let magic = take_array(&mut take)?;
        if magic != HEADER_MAGIC || take.try_get_u32_le().ok()? != VERSION {
            return None;
        }
        let header = SegmentHeader {
            log: take_array(&mut take)?,
            segment: take.try_get_u32_le().ok()?,
            incarnation: take.try_get_u32_le().ok()?,
            is_used: take.try_get_u8().ok()? == 1,
            class: take.try_get_u8().ok()?,
            first_sequence: take.try_get_u64_le().ok()?,
        };
        let is_of = header.log == *log && header.segment == segment;
        let is_possible =
            header.incarnation <= INCARNATION_MAX && header.first_sequence < SEQUENCES_MAX;
        (is_of && is_possible).then_some(header)
    }
}

/// What the last blocks of a segment say once nothing is added to it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The log.
    pub log: LogId,
    /// Which segment this is.
    pub segment: u32,
    /// Its use.
    pub incarnation: u32,
    /// Where its records end and its summary begins, in bytes from the start of the segment; whole
    /// blocks.
    pub data_end_bytes: u32,
    /// Records in it.
    pub entries: u32,
    /// Every record in it has at least this sequence; those in the summary count from here.
    pub first_sequence: u64,
    /// No record in it has a higher one.
    pub last_sequence: u64,
    /// When the last of its items expires, as Unix time in seconds; 0: some never do.
    pub expiry_max_s: u32,
}

impl Seal {
    /// Writes it to `out`, a block.
    pub fn encode(&self, out: &mut [u8]) {
        out.fill(0);
        let mut put = &mut out[CHECKSUM_BYTES..];
        put.put_slice(&SEAL_MAGIC);
        put.put_u32_le(VERSION);
        put.put_slice(&self.log);
        put.put_u32_le(self.segment);
        put.put_u32_le(self.incarnation);
        put.put_u32_le(self.data_end_bytes);
        put.put_u32_le(self.entries);
        put.put_u64_le(self.first_sequence);
        put.put_u64_le(self.last_sequence);
        put.put_u32_le(self.expiry_max_s);
        seal_block(out);
    }

    /// The seal in `block`, if it is undamaged and of this use of this segment.
    pub fn decode(block: &[u8], header: &SegmentHeader) -> Option<Seal> {
        if !is_sealed(block) {
            return None;
        }
        let mut take = &block[CHECKSUM_BYTES..];
        let magic = take_array(&mut take)?;
        if magic != SEAL_MAGIC || take.try_get_u32_le().ok()? != VERSION {
            return None;
        }
        let seal = Seal {
            log: take_array(&mut take)?,
            segment: take.try_get_u32_le().ok()?,
            incarnation: take.try_get_u32_le().ok()?,
            data_end_bytes: take.try_get_u32_le().ok()?,
            entries: take.try_get_u32_le().ok()?,
            first_sequence: take.try_get_u64_le().ok()?,
            last_sequence: take.try_get_u64_le().ok()?,
            expiry_max_s: take.try_get_u32_le().ok()?,
        };
        let is_of = seal.log == header.log
            && seal.segment == header.segment
            && seal.incarnation == header.incarnation;
        is_of.then_some(seal)
    }

    /// Whether a segment of this length can have such a seal.
    pub fn is_possible(&self, segment_bytes: u32) -> bool {
        let summary_bytes = summary_blocks(self.entries as usize) as u64 * SSD_BLOCK_BYTES as u64;
        let room_bytes = u64::from(segment_bytes) - (SEAL_BLOCKS * SSD_BLOCK_BYTES) as u64;
        let sequences = self.last_sequence.checked_sub(self.first_sequence);
        self.data_end_bytes.is_multiple_of(SSD_BLOCK_BYTES as u32)
            && self.data_end_bytes as usize >= HEADER_BLOCKS * SSD_BLOCK_BYTES
            && u64::from(self.data_end_bytes) + summary_bytes <= room_bytes
            && self.entries <= records_max(self.data_end_bytes)
            && self.last_sequence < SEQUENCES_MAX
            && sequences.is_some_and(|sequences| sequences <= u64::from(u32::MAX))
    }
}

mod superblock;

pub use superblock::{Geometry, Mark, Superblock, SuperblockRead, Void};

#[cfg(test)]
mod tests;
