//! Says what a log holds, and verifies every record of it. Changes nothing.
//!
//! It reads all that is used of a part, and must never trust a summary where it can look at the
//! records themselves.

use std::collections::BTreeMap;
use std::fmt;

use super::Made;
use super::disk::Disk;
use super::format::{Geometry, Kind, SEAL_BLOCKS, SUPERBLOCKS, Superblock, SuperblockRead};
use super::log::superblock_at;
use super::recovery::{Dead, OpenError, ahead_s, newest, segments_of, superblocks};
use super::scan::{Scan, Waited, summary, walk};
use crate::base::clock::{Expiry, Now};
use crate::base::limits::SSD_BLOCK_BYTES;

/// What one part holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Which part, and of how many.
    pub worker: u32,
    /// Of how many.
    pub workers: u32,
    /// The block of the superblock that was used, the newest one, counted from 1.
    pub superblock: u32,
    /// How many superblocks were written before it.
    pub generation: u64,
    /// Blocks whose superblock cannot be read, counted from 1: of another version, or damaged.
    pub superblocks_bad: Vec<u32>,
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Segments that there are.
    pub segments: u32,
    /// Segments that hold records.
    pub segments_used: u32,
    /// Segments that were being filled.
    pub segments_open: u32,
    /// Records that are whole.
    pub records: u64,
    /// Items that would be served.
    pub items: u64,
    /// Bytes of their keys and values.
    pub item_bytes: u64,
    /// Items that have expired.
    pub expired: u64,
    /// Items that newer ones have replaced, or that were deleted or flushed.
    pub dead: u64,
    /// Records that are there for what they kill.
    pub tombstones: u64,
    /// Records that cannot be recovered: the crash came before their checkpoint.
    pub cut_off: u64,
    /// Segments of which a record or a summary is damaged.
    pub segments_damaged: Vec<u32>,
    /// Something is missing that nothing replaces: opening this log starts afresh.
    pub is_lost: bool,
}

impl Report {
    /// Of the part whose superblocks were `read`, before anything else is: `used` is the newest.
    fn of(used: &Superblock, read: &[SuperblockRead]) -> Report {
        use SuperblockRead::{Foreign, Version};
        let is_bad = |it: &SuperblockRead| matches!(it, Foreign | Version(_));
        Report {
            worker: used.geometry.worker,
            workers: used.geometry.workers,
            superblock: (superblock_at(used) / SSD_BLOCK_BYTES as u64) as u32 + 1,
            generation: used.generation,
            superblocks_bad: (1..).zip(read).filter(|(_, it)| is_bad(it)).map(|(n, _)| n).collect(),
            segment_bytes: used.geometry.segment_bytes,
            ..Report::default()
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "part {} of {}", self.worker, self.workers)?;
        let (used, generation) = (self.superblock, self.generation);
        writeln!(f, "superblock {used} of {SUPERBLOCKS} used, generation {generation}")?;
        for bad in &self.superblocks_bad {
            writeln!(
                f,
                "note: superblock {bad} cannot be read (a crash may damage one while it is \
                 written); superblock {used} is used, and a start writes both"
            )?;
        }
        let damaged = self.segments_damaged.len() as u64;
        let kib = self.segment_bytes >> 10;
        let rows = [
            ("segments", self.segments.into(), format!("of {kib} KiB each, in this part")),
            ("used", self.segments_used.into(), "segments that hold records".into()),
            ("open", self.segments_open.into(), "of these, not yet full".into()),
            ("damaged", damaged, "of these, with a damaged record or summary".into()),
            ("records", self.records, "in used segments, all kinds below".into()),
            ("items", self.items, "records that a start would serve".into()),
            ("bytes", self.item_bytes, "bytes of keys and values of these items".into()),
            ("expired", self.expired, "records of items whose time is over".into()),
            ("dead", self.dead, "records of items replaced, deleted or flushed since".into()),
            ("tombstones", self.tombstones, "records of deletions".into()),
            ("cut_off", self.cut_off, "records after the last checkpoint, lost by a crash".into()),
        ];
        let rows = rows.map(|(name, count, text)| format!("{name:<10} {count:>12}  {text}"));
        f.write_str(&rows.join("\n"))?;
        if self.is_lost {
            f.write_str("\ndamaged beyond repair: a start discards all that this part holds")?;
        }
        Ok(())
    }
}

/// Refuses a part that does not belong to the others, or is not all there.
fn refuse_other(found: &Superblock, made: Option<&Made>, size_bytes: u64) -> Result<(), OpenError> {
    let found_geometry = found.geometry;
    let asked = match made {
        Some(made) => made.geometry,
        None if found_geometry.part_bytes <= size_bytes => found_geometry,
        None => Geometry { part_bytes: size_bytes, ..found_geometry },
    };
    if found_geometry != asked {
        return Err(OpenError::other(found_geometry, asked));
    }
    if made.is_some_and(|made| found.hash_key != made.hash_key) {
        return Err(OpenError::OtherParts);
    }
    Ok(())
}

/// Reads a whole part. None: there never was a log. Waits for the disk. `made`: how it was
/// made, as the first of the parts that belong together says.
///
/// # Errors
/// As [`super::Ssd::open`], but for the geometry, which is the log's own.
pub fn check(
    disk: &mut impl Disk,
    made: Option<&Made>,
    now: Now,
) -> Result<Option<Report>, OpenError> {
    let mut waited = Waited::new(disk);
    let read = superblocks(&mut waited);
    let Some(found) = newest(&mut waited, &read)? else { return Ok(None) };
    refuse_other(&found, made, waited.disk.size_bytes())?;
    let ahead_s = ahead_s(&found, now);
    let now = Now { unix_s: now.unix_s + ahead_s.unwrap_or(0), ..now };
    let mut scan = Scan::of(&mut waited, found);
    let segments = segments_of(&scan);
    let dead = Dead::find(&mut waited, &mut scan);
    let mut report = Report {
        is_lost: scan.is_damaged || dead.is_none(),
        ..Report::of(&scan.superblock, &read)
    };
    report.segments = segments.count();
    report.segments_used = scan.used.len() as u32;
    let hash_key = scan.superblock.hash_key;
    let flushed_below = ahead_s.map_or(u64::MAX, |_| scan.superblock.flushed_below);
    for used in &scan.used {
        report.segments_open += u32::from(!used.is_sealed);
        let limit = segments.segment_bytes() - (SEAL_BLOCKS * SSD_BLOCK_BYTES) as u32;
        let limit = if used.is_sealed { used.seal.data_end_bytes } else { limit };
        let segment = used.header.segment;
        let mut places = BTreeMap::new();
        let walked =
            walk(&mut waited, &segments, &used.header, hash_key, (limit, limit), |record, _| {
                places.insert(record.sequence, *record);
            });
        let summary = summary(&mut waited, &segments, &used.seal);
        let expected = used.seal.entries as usize;
        let is_whole = walked.lost == 0
            && walked.entries.len() == expected
            && summary.is_some_and(|summary| summary == walked.entries);
        if used.is_sealed && !is_whole {
            report.segments_damaged.push(segment);
        }
        for entry in &walked.entries {
            let sequence = used.header.first_sequence + u64::from(entry.sequence);
            let Some(record) = places.get(&sequence) else { continue };
            report.records += 1;
            let is_dead = dead.as_ref().is_some_and(|dead| dead.has(segment, entry.unit));
            if entry.kind == Kind::Tombstone {
                report.tombstones += 1;
            } else if !scan.counts(sequence) {
                report.cut_off += 1;
            } else if is_dead || sequence < flushed_below {
                report.dead += 1;
            } else if Expiry::from_unix_s(record.expiry_s).is_past(now) {
                report.expired += 1;
            } else {
                report.items += 1;
                report.item_bytes += u64::from(record.key_bytes) + u64::from(record.value_bytes);
            }
        }
    }
    Ok(Some(report))
}
