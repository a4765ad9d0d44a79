//! What is written is read, and nothing else is.

use super::*;
use crate::base::limits::{SSD_OPEN_SEGMENTS_MAX, SSD_SEGMENT_BYTES, SSD_VOIDS_MAX};
use proptest::prelude::*;

fn record(value_bytes: usize) -> Record {
    Record {
        kind: Kind::Item,
        key_bytes: 3,
        marks: ItemMarks { is_stale: value_bytes % 2 == 1, is_token_sent: true },
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
        starts: 3,
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A log that is on a disk has to be read by every version that comes, so these are the bytes.
#[test]
fn the_formats_are_these_to_the_byte() {
    let encoded = |marks| {
        let record = Record { marks, ..record(20) };
        let bytes = record.encode(77, |take| {
            take(b"key");
            take(&[9; 20]);
        });
        hex(&bytes)
    };
    let marked = encoded(ItemMarks { is_stale: true, is_token_sent: true });
    assert_eq!(&marked[8..26], "525302010303000014", "marks lie where there were zeros");
    assert_eq!(
        encoded(ItemMarks::default()),
        "620dabda5253020103000000140000000700000000d2496b0500000000000000\
         00010000ffffffffff00000000000000feffffff73459e7f"
    );
    let is_block = |block: &[u8], start: &str| {
        let (fixed, rest) = block.split_at(start.len() / 2);
        assert_eq!(hex(fixed), start);
        assert!(rest.iter().all(|byte| *byte == 0));
    };
    let mut block = vec![1; SSD_BLOCK_BYTES];
    header().encode(&mut block);
    is_block(
        &block,
        "c7163c4e73756e646572534802000000030303030303030303030303030303030\
         90000000a00000001020b00000000000000",
    );
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
    seal.encode(&mut block);
    is_block(
        &block,
        "3f65f0c073756e646572534502000000030303030303030303030303030303030\
         90000000a00000000200000030000000b0000000000000014000000000000001e000000",
    );
    let entry = Entry {
        hash: 0x0102_0304_0506_0708,
        kills: Link::new(1 << 33, INCARNATION_MAX),
        unit: 200,
        kind: Kind::Tombstone,
        span: Span::of_blocks(20),
        sequence: 7,
    };
    encode_summary(&mut block, 4, 5, &[entry]);
    is_block(
        &block,
        "9a852d87595301000400000005000000080706050403020100000000feffffffc8008c0007000000",
    );
}

#[test]
fn a_superblock_is_this_to_the_byte() {
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
        // As it was before starts were counted.
        starts: 0,
        marks: vec![Mark { segment: 1, incarnation: 2, end_bytes: 3 }],
        voids: vec![Void { first: 1, last: 2 }],
    };
    let mut block = vec![1; SSD_BLOCK_BYTES];
    superblock.encode(&mut block);
    assert_eq!(
        hex(&block[..136]),
        "d04b0c4573756e646572534202000000010101010101010101010101010101010200000000000000\
         03000000000000000000400000000000000001000600000007000000080000000000000009000000\
         000000000a0000000b0000000c000000000000000d00000001000100010000000200000003000000\
         01000000000000000200000000000000"
    );
    assert!(block[136..SSD_BLOCK_BYTES - 64].iter().all(|byte| *byte == 0));
    assert_eq!(hex(&block[SSD_BLOCK_BYTES - 64..][..5]), "00d2496b00");
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
