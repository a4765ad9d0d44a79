//! What is written is read, and nothing else is.

use super::*;
use crate::limits::{SSD_OPEN_SEGMENTS_MAX, SSD_SEGMENT_BYTES, SSD_VOIDS_MAX};
use proptest::prelude::*;

fn record(value_bytes: usize) -> Record {
    Record {
        kind: Kind::Item,
        key_bytes: 3,
        value_bytes: value_bytes as u32,
        flags: 7,
        expiry_s: 1_800_000_000,
        incarnation: 5,
        sequence: 1 << 40,
        cas: (1 << 40) - 1,
        kills: Link::new(1 << 33, INCARNATION_MAX),
    }
}

fn bytes_of(record: &Record, unit: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = record
        .encode(unit, |take| {
            take(b"key");
            take(value);
        })
        .to_vec();
    bytes.extend(b"key");
    bytes.extend(value);
    bytes
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let (record, value) = (record(1000), vec![9; 1000]);
    let bytes = bytes_of(&record, 77, &value);
    assert_eq!(bytes.len(), record.len_bytes());
    assert_eq!(Record::decode(&bytes, 77), Some(record));
    assert_eq!(record.key(&bytes), b"key");
    assert_eq!(record.value(&bytes), value);
    assert_eq!(record.kills.unit(), 1 << 33);
    assert_eq!(record.kills.incarnation(), INCARNATION_MAX);
    assert_eq!(Record::decode(&bytes, 78), None, "it lies elsewhere");
    assert_eq!(Record::decode(&bytes[..bytes.len() - 1], 77), None, "cut short");
}

#[test]
fn a_record_with_any_one_bit_flipped_is_none() {
    let mut bytes = bytes_of(&record(20), 77, &[3; 20]);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Record::decode(&bytes, 77), None, "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(Record::decode(&bytes, 77).is_some());
}

#[test]
fn the_head_of_a_record_is_known_though_the_rest_is_damaged_and_not_the_other_way_round() {
    let record = record(20);
    let mut bytes = bytes_of(&record, 77, &[3; 20]);
    assert_eq!(Record::head(&bytes, 78), None, "it lies elsewhere");
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let expected = (bit >= RECORD_HEADER_BYTES * 8).then_some(record);
        assert_eq!(Record::head(&bytes, 77), expected, "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn spans_hold_what_they_are_made_for_and_little_more() {
    for blocks in 1..=4096 {
        let held = Span::of_blocks(blocks).blocks();
        assert!(held >= blocks && held * 8 <= blocks * 9, "{blocks}: {held}");
        if blocks <= 16 {
            assert_eq!(held, blocks);
        }
    }
    assert_eq!(Span::of(63, 64).blocks(), 1);
    assert_eq!(Span::of(63, 65).blocks(), 2);
    assert!(Span::from_bits(127).blocks() >= 1 << 17, "every span has bits");
}

fn header() -> SegmentHeader {
    SegmentHeader {
        log: [3; 16],
        segment: 9,
        incarnation: 10,
        is_used: true,
        class: 2,
        first_sequence: 11,
    }
}

#[test]
fn headers_seals_and_summaries_are_read_as_written_and_only_there() {
    let mut block = vec![1; SSD_BLOCK_BYTES];
    let header = header();
    header.encode(&mut block);
    assert_eq!(SegmentHeader::decode(&block, &[3; 16], 9), Some(header));
    assert_eq!(SegmentHeader::decode(&block, &[3; 16], 8), None);
    assert_eq!(SegmentHeader::decode(&block, &[4; 16], 9), None);
    let seal = Seal {
        log: [3; 16],
        segment: 9,
        incarnation: 10,
        data_end_bytes: 8192,
        entries: 3,
        first_sequence: 11,
        last_sequence: 20,
        expiry_max_s: 30,
    };
    assert_eq!(Seal::decode(&block, &header), None);
    seal.encode(&mut block);
    assert_eq!(Seal::decode(&block, &header), Some(seal));
    let other = SegmentHeader { incarnation: 11, ..header };
    assert_eq!(Seal::decode(&block, &other), None, "of an earlier use");
}

#[test]
fn a_damaged_superblock_is_foreign_and_an_empty_one_is_empty() {
    let superblock = Superblock {
        log: [1; 16],
        hash_key: [2, 3],
        geometry: Geometry { part_bytes: 4 << 20, segment_bytes: 1 << 16, worker: 6, workers: 7 },
        generation: 8,
        durable_sequence: 9,
        next_incarnation: 10,
        segments_used: 11,
        flushed_below: 12,
        flush_at_s: 13,
        clock_s: 1_800_000_000,
        marks: vec![Mark { segment: 1, incarnation: 2, end_bytes: 3 }; SSD_OPEN_SEGMENTS_MAX],
        voids: vec![Void { first: 1, last: 2 }; SSD_VOIDS_MAX],
    };
    let mut block = vec![0; SSD_BLOCK_BYTES];
    assert_eq!(Superblock::decode(&block), SuperblockRead::Empty);
    superblock.encode(&mut block);
    let found = SuperblockRead::Found(Box::new(superblock));
    assert_eq!(Superblock::decode(&block), found);
    for bit in (0..SSD_BLOCK_BYTES * 8).step_by(13) {
        block[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Superblock::decode(&block), SuperblockRead::Foreign);
        block[bit / 8] ^= 1 << (bit % 8);
    }
    block[12] = VERSION as u8 + 1;
    seal_block(&mut block);
    assert_eq!(Superblock::decode(&block), SuperblockRead::Version(VERSION + 1));
}

/// Where the records of a full segment end.
const END: u32 = SSD_SEGMENT_BYTES as u32;

proptest! {
    #[test]
    fn a_summary_is_read_as_written(
        rows in prop::collection::vec(
            (any::<u64>(), any::<u64>(), 128_u32..1 << 18, any::<bool>(), any::<u32>()),
            0..ENTRIES_PER_BLOCK,
        ),
        flip in 0..SSD_BLOCK_BYTES * 8,
    ) {
        let entries: Vec<Entry> = rows
            .iter()
            .map(|&(hash, kills, unit, is_item, sequence)| Entry {
                hash,
                kills: Link(kills),
                unit,
                kind: if is_item { Kind::Item } else { Kind::Tombstone },
                span: Span::of_blocks(unit as usize % 4096 + 1),
                sequence,
            })
            .collect();
        let mut block = vec![0; SSD_BLOCK_BYTES];
        encode_summary(&mut block, 4, 5, &entries);
        let mut read = Vec::new();
        prop_assert!(decode_summary(&block, (4, END), 5, |entry| read.push(entry)));
        prop_assert_eq!(&read, &entries);
        prop_assert!(!decode_summary(&block, (4, END), 6, |_| ()));
        prop_assert!(!decode_summary(&block, (3, END), 5, |_| ()));
        let last = entries.iter().map(|entry| entry.unit).max();
        if let Some(last) = last {
            let cut = (4, last * SSD_UNIT_BYTES as u32);
            prop_assert!(!decode_summary(&block, cut, 5, |_| ()), "behind the last record");
        }
        block[flip / 8] ^= 1 << (flip % 8);
        prop_assert!(!decode_summary(&block, (4, END), 5, |_| ()));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(Record::decode(&bytes, 1), None);
    }
}
