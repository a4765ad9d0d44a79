//! Summaries that a disk damaged, and blocks that are whole and say what no server wrote.

use super::disk::Disk;
use super::format::{Geometry, SEAL_BLOCKS, SEGMENTS_AT_BYTES, Seal, Superblock, SuperblockRead};
use super::segments::SegmentState;
use super::*;
use crate::base::limits::SSD_BLOCK_BYTES;

const BLOCK: usize = SSD_BLOCK_BYTES;

/// Where the summaries of sealed segments begin on the disk.
fn summaries(bench: &Bench) -> Vec<usize> {
    let segments = &bench.ssd.log.borrow().segments;
    let sealed = (0..segments.count()).filter(|it| segments.get(*it).state == SegmentState::Sealed);
    sealed
        .map(|it| segments.start_bytes(it) as usize + segments.get(it).data_end_bytes as usize)
        .collect()
}

fn name(i: usize) -> String {
    format!("key{i:05}")
}

/// Sets items of 700 to 1,199 bytes, of which each fifth is deleted at once.
fn fill(bench: &mut Bench, range: std::ops::Range<usize>) {
    for i in range {
        bench.set(name(i), &vec![i as u8; 700 + i % 500], Expiry::NEVER);
        if i % 5 == 0 {
            assert!(bench.delete(name(i)));
        }
        for _ in 0..4 {
            bench.turn();
        }
    }
}

fn hits(bench: &mut Bench, range: std::ops::Range<usize>) -> usize {
    let mut hits = 0;
    for i in range {
        if let Some(value) = bench.get(name(i)) {
            assert!(value == vec![i as u8; 700 + i % 500] && i % 5 != 0, "{i}");
            hits += 1;
        }
    }
    hits
}

#[test]
fn segments_whose_summaries_are_damaged_are_reclaimed_by_their_records() {
    let kept = |is_damaged: bool| {
        let mut bench = Bench::new();
        fill(&mut bench, 0..2_000);
        bench.settle();
        let summaries = summaries(&bench);
        assert!(summaries.len() > 8, "the log is full");
        if is_damaged {
            for at in &summaries {
                bench.medium.flip_bit(*at..at + 64);
            }
        }
        let reclaimed = bench.counter(Counter::SsdReclaimed);
        fill(&mut bench, 2_000..5_000);
        assert!(bench.counter(Counter::SsdReclaimed) > reclaimed + 30, "all of them, and more");
        let bad = bench.counter(Counter::SsdBadSummaries);
        assert_eq!(bad, if is_damaged { summaries.len() as u64 } else { 0 });
        let hits_before = hits(&mut bench, 0..5_000);
        bench.restart();
        // What waited to be reclaimed may have been, meanwhile.
        let hits_after = hits(&mut bench, 0..5_000);
        assert!((hits_before * 95 / 100..=hits_before).contains(&hits_after), "{hits_after}");
        assert_eq!(bench.counter(Counter::SsdDrops), 0);
        hits_before
    };
    let (whole, damaged) = (kept(false), kept(true));
    assert!(whole > 300 && damaged * 10 > whole * 9, "{damaged} of {whole}");
}

#[test]
fn a_damaged_summary_is_told_of_and_written_anew_at_the_start() {
    let mut bench = Bench::new();
    fill(&mut bench, 0..2_000);
    bench.stop();
    let damaged = summaries(&bench);
    let expected = hits(&mut bench, 0..2_000);
    for at in &damaged {
        bench.medium.flip_bit(*at..at + 64);
    }
    let look = |image: Vec<u8>| {
        let mut disk = SimDisk::from_image(image, pool(), 1);
        check(&mut disk, None, NOW).expect("a log").expect("a log")
    };
    let report = look(bench.medium.image(Cut::Lost));
    assert_eq!((report.segments_damaged.len(), report.is_lost), (damaged.len(), false));
    let image = bench.medium.image(Cut::Lost);
    let mut bench = Bench::with(image, Options { stats: Arc::default(), ..options() }, 1);
    assert_eq!(bench.counter(Counter::SsdBadSummaries), damaged.len() as u64);
    assert_eq!(hits(&mut bench, 0..2_000), expected);
    bench.stop();
    let report = look(bench.medium.image(Cut::Lost));
    assert_eq!((report.segments_damaged.len(), report.is_lost), (0, false));
}

/// The image of a log that was stopped, and the first of its sealed segments.
fn stopped() -> (Vec<u8>, usize) {
    let mut bench = Bench::new();
    fill(&mut bench, 0..500);
    bench.stop();
    let segments = &bench.ssd.log.borrow().segments;
    let is_sealed = |it: &u32| segments.get(*it).state == SegmentState::Sealed;
    let segment = (0..segments.count()).find(is_sealed).expect("one is full");
    (bench.medium.image(Cut::Lost), segments.start_bytes(segment) as usize)
}

#[test]
fn seals_with_places_that_are_none_do_not_stop_it() {
    let (image, start) = stopped();
    let block = image[start..start + BLOCK].to_vec();
    let superblock = superblock_of(&image);
    let segment = (start as u64 - SEGMENTS_AT_BYTES) / SEGMENT_BYTES as u64;
    let header = format::SegmentHeader::decode(&block, &superblock.log, segment as u32);
    let header = header.expect("its header");
    let seals_at = start + SEGMENT_BYTES - SEAL_BLOCKS * BLOCK;
    let seal = Seal::decode(&image[seals_at..][..BLOCK], &header).expect("its seal");
    let full = u32::MAX;
    for data_end_bytes in [0, 1, 4096, 8191, 8193, SEGMENT_BYTES as u32, full] {
        for (entries, last_sequence) in
            [(seal.entries, seal.last_sequence), (full, seal.last_sequence), (1, u64::MAX)]
        {
            let mut image = image.clone();
            let wrong = Seal { data_end_bytes, entries, last_sequence, ..seal };
            for block in image[seals_at..][..SEAL_BLOCKS * BLOCK].chunks_mut(BLOCK) {
                wrong.encode(block);
            }
            let mut disk = SimDisk::from_image(image.clone(), pool(), 1);
            let report = check(&mut disk, None, NOW).expect("a log").expect("a log");
            assert!(report.is_lost, "{wrong:?}");
            let mut bench = Bench::with(image, Options { stats: Arc::default(), ..options() }, 1);
            assert_eq!(bench.counter(Counter::SsdDrops), 1, "{wrong:?}");
            assert_eq!(hits(&mut bench, 0..500), 0);
        }
    }
}

fn superblock_of(image: &[u8]) -> Superblock {
    let read = image[..2 * BLOCK].chunks(BLOCK).map(Superblock::decode);
    let found = read.filter_map(|it| match it {
        SuperblockRead::Found(superblock) => Some(*superblock),
        _ => None,
    });
    found.max_by_key(|it| it.generation).expect("a log")
}

#[test]
fn superblocks_with_numbers_that_no_server_has_are_no_superblocks() {
    let (image, _) = stopped();
    let superblock = superblock_of(&image);
    let is = superblock.geometry;
    let geometries = [
        Geometry { workers: 0, ..is },
        Geometry { workers: u32::MAX, ..is },
        Geometry { worker: 1, ..is },
        Geometry { segment_bytes: 0, ..is },
        Geometry { segment_bytes: 1, ..is },
        Geometry { segment_bytes: 64, ..is },
        Geometry { segment_bytes: 1 << 31, ..is },
        Geometry { segment_bytes: u32::MAX, ..is },
        Geometry { part_bytes: u64::MAX, ..is },
        Geometry { part_bytes: 1 << 62, ..is },
    ];
    let wrong = geometries.map(|geometry| Superblock { geometry, ..superblock.clone() });
    let numbers = [
        Superblock { next_incarnation: u32::MAX, ..superblock.clone() },
        Superblock { durable_sequence: u64::MAX, ..superblock.clone() },
        Superblock { flushed_below: u64::MAX, ..superblock.clone() },
    ];
    for wrong in wrong.iter().chain(&numbers) {
        let mut image = image.clone();
        image[..2 * BLOCK].chunks_mut(BLOCK).for_each(|block| wrong.encode(block));
        let mut disk = SimDisk::from_image(image.clone(), pool(), 1);
        assert!(disk.size_bytes() > 0);
        let looked_at = check(&mut disk, None, NOW);
        assert!(matches!(looked_at, Err(OpenError::Foreign)), "{wrong:?}: {looked_at:?}");
        let opened = Bench::try_with(image, options(), 1, NOW);
        assert!(matches!(opened, Err(OpenError::Foreign)), "{wrong:?}");
    }
}
