//! Disks whose checksums are right and whose numbers are anybody's: whoever looks at them, opens
//! them and goes on with them may find nothing, and must neither panic nor take memory for it.

use super::disk::Disk;
use super::format::{HEADER_BLOCKS, RECORD_HEADER_BYTES, SEAL_BLOCKS, Superblock, SuperblockRead};
use super::*;
use crate::base::limits::{SSD_BLOCK_BYTES, SSD_UNIT_BYTES};

const BLOCK: usize = SSD_BLOCK_BYTES;

/// The same in every run of a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % end
    }

    /// A number that somebody may have forgotten, for one that was there.
    fn number(&mut self, was: u64, bits: u32) -> u64 {
        let all = u64::MAX >> (64 - bits);
        let any = (self.below(1 << 30) as u64) << 34 | self.below(1 << 30) as u64;
        let shift = self.below(bits as usize);
        match self.below(8) {
            0 => 0,
            1 => all,
            2 => all - self.below(3) as u64,
            3 => 1 << shift,
            4 => was.wrapping_add(1 + self.below(1_000) as u64),
            5 => was.wrapping_sub(1),
            6 => any >> shift,
            _ => was ^ 1 << shift,
        }
    }

    /// Writes such a number over one of `bytes`.
    fn spoil(&mut self, bytes: &mut [u8]) {
        let width = [1, 2, 4, 8][self.below(4)];
        let at = self.below(bytes.len() - width + 1);
        let mut was = [0; 8];
        was[..width].copy_from_slice(&bytes[at..at + width]);
        let number = self.number(u64::from_le_bytes(was), 8 * width as u32);
        bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
    }
}

fn name(i: usize) -> String {
    format!("key{i}")
}

/// Logs as kills and stops leave them: with open segments and sealed ones, tombstones, and a
/// stretch that was cut off.
fn images() -> Vec<Vec<u8>> {
    let mut bench = Bench::new();
    let mut images = Vec::new();
    for round in 0..3 {
        for i in 0..900 {
            let life = [Expiry::NEVER, Expiry::from_unix_s(NOW.unix_s + 50 + i as u32)][i % 2];
            bench.set(name(i % 300), &vec![i as u8; 40 + i * 13 % 1_500], life);
            if i % 5 == 0 {
                bench.delete(name(i % 299));
            }
            if i % 3 == 0 {
                bench.turn();
            }
        }
        images.push(bench.medium.image(Cut::Torn));
        let stats = Options { stats: Arc::default(), ..options() };
        if round == 1 {
            bench = Bench::with(bench.medium.image(Cut::Torn), stats, 3);
        } else {
            bench.stop();
            images.push(bench.medium.image(Cut::Lost));
            bench = Bench::with(bench.medium.image(Cut::Lost), stats, 3);
        }
    }
    images
}

/// Where segments start.
fn segments() -> impl Iterator<Item = usize> {
    (0..SEGMENTS).map(|segment| format::SEGMENTS_AT_BYTES as usize + segment * SEGMENT_BYTES)
}

fn seal(block: &mut [u8]) {
    let checksum = crc32c::crc32c(&block[4..BLOCK]).to_le_bytes();
    block[..4].copy_from_slice(&checksum);
}

/// The blocks with a checksum of their own, and how much of each says something.
fn blocks(image: &[u8]) -> Vec<(usize, usize)> {
    let is_whole = |at: &usize| {
        let block = &image[*at..*at + BLOCK];
        block[..4] == crc32c::crc32c(&block[4..]).to_le_bytes()
            && block[4..].iter().any(|b| *b != 0)
    };
    let places = (0..2 * BLOCK)
        .step_by(BLOCK)
        .chain(segments().flat_map(|start| (start..start + SEGMENT_BYTES).step_by(BLOCK)));
    let used = |at: usize| image[at..at + BLOCK].iter().rposition(|byte| *byte != 0).unwrap_or(0);
    places.filter(is_whole).map(|at| (at, (used(at) + 9).min(BLOCK))).collect()
}

/// Where records begin.
fn records(image: &[u8]) -> Vec<usize> {
    let first = HEADER_BLOCKS * BLOCK;
    let last = SEGMENT_BYTES - SEAL_BLOCKS * BLOCK;
    let places = segments().flat_map(|start| (start + first..start + last).step_by(SSD_UNIT_BYTES));
    let is_record =
        |at: &usize| format::Record::head(&image[*at..], (*at / SSD_UNIT_BYTES) as u64).is_some();
    places.filter(is_record).collect()
}

/// Spoils what is in one kind of place: both copies alike where there are two, so that neither
/// stands in for the other.
fn craft(image: &mut [u8], random: &mut Random, (blocks, records): (&[(usize, usize)], &[usize])) {
    if random.below(3) == 0 {
        let at = records[random.below(records.len())];
        let unit = (at / SSD_UNIT_BYTES) as u64;
        let head = &mut image[at..at + RECORD_HEADER_BYTES];
        random.spoil(&mut head[8..RECORD_HEADER_BYTES - 4]);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&unit.to_le_bytes()), &head[4..]);
        head[..4].copy_from_slice(&checksum.to_le_bytes());
        return;
    }
    // The superblock as often as all others together.
    let of = if random.below(2) == 0 { 2 } else { blocks.len() };
    let (at, used) = blocks[random.below(of)];
    random.spoil(&mut image[at + 4..at + used]);
    seal(&mut image[at..at + BLOCK]);
    let other = blocks.iter().map(|it| it.0).find(|other| other ^ BLOCK == at);
    if let Some(other) = other.filter(|_| random.below(2) == 0) {
        image.copy_within(at..at + BLOCK, other);
    }
}

/// Looks at a disk, opens it and uses it until all of it was reclaimed.
fn use_it(image: Vec<u8>) {
    let mut disk = SimDisk::from_image(image.clone(), pool(), 1);
    assert!(disk.size_bytes() > 0);
    let looked_at = check(&mut disk, None, NOW);
    let options = Options { stats: Arc::default(), ..options() };
    let Ok(mut bench) = Bench::try_with(image, options, 1, NOW) else { return };
    assert!(looked_at.is_ok(), "{looked_at:?}, and it is opened");
    for i in 0..300 {
        bench.run(name(i).as_bytes(), Action::Get, b"");
    }
    for i in 0..1_600 {
        let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
        bench.store(name(i % 350).as_bytes(), &[i as u8; 1_000], store);
        if i % 2 == 0 {
            bench.run(name(i % 301).as_bytes(), Action::GetWithExpiry, b"");
        }
        bench.turn();
    }
    let mut turns = 0;
    bench.ssd.stop(
        || bench.now,
        || {
            turns += 1;
            turns > 2_000
        },
    );
    let options = Options { stats: Arc::default(), ..super::options() };
    drop(Bench::try_with(bench.medium.image(Cut::Lost), options, 1, NOW));
}

#[test]
fn no_number_on_a_disk_panics_whoever_reads_it() {
    let images = images();
    let places: Vec<_> = images.iter().map(|image| (blocks(image), records(image))).collect();
    for seed in 0..wanted("SUNDER_SSD_CRAFTED", 200) {
        let mut random = Random(seed);
        let which = random.below(images.len());
        let mut image = images[which].clone();
        let (blocks, records) = &places[which];
        assert!(blocks.len() > 20 && records.len() > 100, "{} {}", blocks.len(), records.len());
        for _ in 0..1 + random.below(3) {
            craft(&mut image, &mut random, (blocks, records));
        }
        println!("seed {seed}");
        use_it(image);
    }
}

#[test]
fn pieces_of_several_states_of_a_log_panic_nobody() {
    let images = images();
    for seed in 0..wanted("SUNDER_SSD_CRAFTED", 200) / 4 {
        let mut random = Random(seed);
        let mut image = images[random.below(images.len())].clone();
        for (i, start) in segments().chain([0]).enumerate() {
            let of = &images[random.below(images.len())];
            let len = if i == SEGMENTS { 2 * BLOCK } else { SEGMENT_BYTES };
            image[start..start + len].copy_from_slice(&of[start..start + len]);
        }
        println!("seed {seed}");
        use_it(image);
    }
}

#[test]
fn a_superblock_that_says_more_was_used_than_there_is_is_refused() {
    let images = images();
    let (first, second) = (images[1].clone(), images.last().expect("some").clone());
    for mut image in [first, second] {
        let SuperblockRead::Found(superblock) = Superblock::decode(&image[..BLOCK]) else {
            panic!("a superblock")
        };
        let wrong = Superblock { segments_used: 1_000, generation: 1 << 40, ..*superblock };
        wrong.encode(&mut image[..BLOCK]);
        wrong.encode(&mut image[BLOCK..2 * BLOCK]);
        let mut disk = SimDisk::from_image(image.clone(), pool(), 1);
        let looked_at = check(&mut disk, None, NOW);
        assert!(matches!(looked_at, Err(OpenError::Foreign)), "{looked_at:?}");
        let opened = Bench::try_with(image, options(), 1, NOW);
        assert!(matches!(opened, Err(OpenError::Foreign)));
    }
}
