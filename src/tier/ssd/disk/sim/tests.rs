//! The same tests as for any disk, with and without what a caller must not notice; and that faults
//! and cuts are what they say, again and again for the same seed.

use super::*;
use crate::tier::ssd::disk::{DiskError, suite};

const SIZE_BYTES: usize = 1 << 20;

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(SIZE_BYTES, suite::pool(), seed)
}

fn with(seed: u64, faults: Faults) -> SimDisk {
    let disk = disk(seed);
    disk.handle().set_faults(faults);
    disk
}

fn read_result(disk: &mut SimDisk, offset_bytes: u64) -> Result<(), DiskError> {
    let buffer = disk.pool().read_buffer(4096).expect("free");
    suite::submit(disk, 0, Op::Read { offset_bytes, len_bytes: 4096, buffer });
    suite::wait(disk, 1)[0].result
}

fn write_result(disk: &mut SimDisk, offset_bytes: u64, byte: u8) -> Result<(), DiskError> {
    submit_write(disk, offset_bytes, byte);
    suite::wait(disk, 1)[0].result
}

fn submit_write(disk: &mut SimDisk, offset_bytes: u64, byte: u8) {
    let mut buffer = disk.pool().read_buffer(4096).expect("free");
    buffer.open_mut()[..4096].fill(byte);
    let bytes = buffer.freeze(4096);
    suite::submit(disk, 0, Op::Write { offset_bytes, bytes });
}

#[test]
fn it_is_a_disk() {
    suite::run(|| SimDisk::new(suite::SIZE_BYTES, suite::pool(), 1));
}

#[test]
fn what_ends_in_the_disk_is_not_noticed_above() {
    let mut seed = 0;
    for discard in [Discard::Kept, Discard::Either, Discard::Unsupported] {
        suite::run(|| {
            seed += 1;
            let disk = SimDisk::new(suite::SIZE_BYTES, suite::pool(), seed);
            disk.handle().set_faults(Faults {
                short: ALWAYS / 5,
                interrupted: ALWAYS / 20,
                delay_us: 1..=5000,
                discard,
                ..Faults::default()
            });
            disk
        });
    }
}

/// All that can be seen of a run with everything going wrong at times.
fn run(seed: u64) -> (Vec<(u64, bool)>, Tally, Vec<u8>) {
    let mut disk = with(
        seed,
        Faults {
            short: ALWAYS / 10,
            interrupted: ALWAYS / 10,
            read_flip: ALWAYS / 10,
            lost_sector: ALWAYS / 10,
            no_space: ALWAYS / 10,
            delay_us: 0..=500,
            discard: Discard::Either,
            ..Faults::failing(ALWAYS / 10)
        },
    );
    let mut order = Vec::new();
    let mut done = Vec::new();
    for turn in 0..400 {
        submit_write(&mut disk, turn % 64 * 4096, turn as u8);
        let buffer = disk.pool().read_buffer(4096).expect("free");
        let op = Op::Read { offset_bytes: turn * 7 % 64 * 4096, len_bytes: 4096, buffer };
        suite::submit(&mut disk, turn, op);
        if turn % 16 == 0 {
            suite::submit(&mut disk, turn, Op::Flush);
        }
        let mut now = Now { uptime_us: turn * 10_000, unix_s: 0 };
        while disk.in_flight() > 0 {
            disk.turn(now, &mut done);
            order.extend(done.drain(..).map(|done| (done.io.token, done.result.is_ok())));
            now.uptime_us = disk.handle().next_due_us().unwrap_or(now.uptime_us);
        }
    }
    (order, disk.handle().tally(), disk.handle().image(Cut::Torn))
}

#[test]
fn a_seed_replays_a_run_and_another_does_not() {
    let (first, again, other) = (run(7), run(7), run(8));
    assert!(first == again);
    assert!(first.0 != other.0 && first.2 != other.2);
}

#[test]
fn faults_come_at_their_rates_and_go() {
    let mut disk = disk(3);
    for (rate, range) in [(0, 0..=0), (ALWAYS / 100, 5..=40), (ALWAYS, 2000..=2000)] {
        disk.handle().set_faults(Faults::failing(rate));
        let failed = (0..2000)
            .filter(|i| match i % 2 {
                0 => read_result(&mut disk, i / 2 % 256 * 4096).is_err(),
                _ => write_result(&mut disk, i / 2 % 256 * 4096, 1).is_err(),
            })
            .count();
        assert!(range.contains(&failed), "{failed} at a rate of {rate}");
    }
    let eio = Err(DiskError::Failed { errno: 5 });
    assert_eq!((read_result(&mut disk, 0), write_result(&mut disk, 0, 1)), (eio, eio));
    suite::submit(&mut disk, 0, Op::Flush);
    assert_eq!(suite::wait(&mut disk, 1)[0].result, eio);
    let full = Faults { no_space: ALWAYS, ..Faults::default() };
    disk.handle().set_faults(full);
    assert_eq!(write_result(&mut disk, 0, 1), Err(DiskError::NoSpace));
    assert_eq!(read_result(&mut disk, 0), Ok(()));
    disk.handle().set_faults(Faults::default());
    assert_eq!(write_result(&mut disk, 0, 9), Ok(()));
    assert!(suite::read(&mut disk, 0, 4096)[..4096].iter().all(|byte| *byte == 9));
}

#[test]
fn a_bit_that_flips_is_one_bit() {
    let mut disk = disk(4);
    suite::write(&mut disk, 0, 65536, 1);
    let wrong_bits = |disk: &mut SimDisk| -> u32 {
        let bytes = suite::read(disk, 0, 65536);
        (0..65536).map(|at| (bytes[at] ^ suite::pattern(at as u64, 1)).count_ones()).sum()
    };
    disk.handle().set_faults(Faults { read_flip: ALWAYS, ..Faults::default() });
    assert_eq!(wrong_bits(&mut disk), 1);
    disk.handle().set_faults(Faults::default());
    assert_eq!(wrong_bits(&mut disk), 0, "it is right on the disk");
    let at = disk.handle().flip_bit(4096..8192);
    assert!((4096..8192).contains(&at));
    assert_eq!(wrong_bits(&mut disk), 1);
}

#[test]
fn an_io_takes_as_long_as_said_and_comes_in_any_order() {
    let mut disk = with(5, Faults { delay_us: 5_000_000..=5_000_000, ..Faults::default() });
    let mut done = Vec::new();
    let at = |uptime_us| Now { uptime_us, unix_s: 0 };
    let buffer = disk.pool().read_buffer(4096).expect("free");
    suite::submit(&mut disk, 0, Op::Read { offset_bytes: 0, len_bytes: 4096, buffer });
    assert_eq!(disk.turn(at(1000), &mut done), 0);
    assert_eq!(disk.handle().next_due_us(), Some(5_001_000));
    assert_eq!(disk.turn(at(5_000_999), &mut done), 0);
    assert_eq!(disk.turn(at(5_001_000), &mut done), 1);
    assert_eq!((disk.handle().next_due_us(), disk.in_flight()), (None, 0));
    done.clear();
    disk.handle().set_faults(Faults { delay_us: 10..=1000, ..Faults::default() });
    for token in 0..32 {
        let buffer = disk.pool().read_buffer(4096).expect("free");
        suite::submit(&mut disk, token, Op::Read { offset_bytes: 0, len_bytes: 4096, buffer });
    }
    disk.turn(at(6_000_000), &mut done);
    disk.turn(at(6_001_000), &mut done);
    assert_eq!(done.len(), 32);
    assert!(!done.is_sorted_by_key(|done| done.io.token));
}

#[test]
fn a_cut_keeps_what_was_flushed_and_tears_what_was_not() {
    let (mut lost, mut landed, mut torn, mut begun) = (0, 0, 0, 0);
    for seed in 0..200 {
        let mut disk = disk(seed);
        suite::write(&mut disk, 0, 65536, 1);
        suite::flush(&mut disk);
        for (place, byte) in [(0, 2), (4096, 3)] {
            write_result(&mut disk, place, byte).expect("no faults");
        }
        // Submitted, and never done.
        submit_write(&mut disk, 8192, 4);
        let image = disk.handle().image(Cut::Torn);
        suite::assert_pattern(&image[12288..65536], 12288, 1);
        for (place, byte) in [(0, 2), (4096, 3), (8192, 4)] {
            let sectors = image[place..place + 4096].chunks(SECTOR_BYTES).enumerate();
            let new = sectors
                .filter(|(i, sector)| {
                    let is_new = sector.iter().all(|b| *b == byte);
                    if !is_new {
                        suite::assert_pattern(sector, (place + i * SECTOR_BYTES) as u64, 1);
                    }
                    is_new
                })
                .count();
            match new {
                0 => lost += 1,
                8 => landed += 1,
                _ => torn += 1,
            }
            begun += usize::from(place == 8192 && new > 0);
        }
        let image = disk.handle().image(Cut::Lost);
        suite::assert_pattern(&image[..65536], 0, 1);
        let image = disk.handle().image(Cut::Kept);
        assert_eq!((image[0], image[4096], image[8192]), (2, 3, suite::pattern(8192, 1)));
        let mut next = SimDisk::from_image(image, suite::pool(), seed);
        assert_eq!(suite::read(&mut next, 4096, 4096)[..4096], [3; 4096]);
    }
    assert!([lost, landed, torn, begun].iter().all(|count| *count > 10), "{lost} {landed} {torn}");
}

#[test]
fn a_flush_keeps_only_what_was_done_before_it_was_submitted() {
    let slow = || Faults { delay_us: 100..=100, ..Faults::default() };
    let mut disk = with(6, slow());
    let mut done = Vec::new();
    write_result(&mut disk, 0, 1).expect("no faults");
    suite::submit(&mut disk, 1, Op::Flush);
    submit_write(&mut disk, 4096, 2);
    // The write is done before the flush.
    let start = 1_000_000;
    disk.handle().set_faults(Faults::default());
    disk.turn(Now { uptime_us: start, unix_s: 0 }, &mut done);
    assert_eq!(done.len(), 2);
    let image = disk.handle().image(Cut::Lost);
    assert_eq!((image[0], image[4096]), (1, 0));
    suite::flush(&mut disk);
    assert_eq!(disk.handle().image(Cut::Lost)[4096], 2);
}

#[test]
fn a_flush_that_failed_keeps_nothing_and_a_failed_write_lands_in_part() {
    let mut disk = disk(9);
    write_result(&mut disk, 0, 1).expect("no faults");
    disk.handle().set_faults(Faults { flush_error: ALWAYS, ..Faults::default() });
    suite::submit(&mut disk, 0, Op::Flush);
    assert!(suite::wait(&mut disk, 1)[0].result.is_err());
    assert_eq!(disk.handle().image(Cut::Lost)[0], 0);
    disk.handle().set_faults(Faults { write_error: ALWAYS, ..Faults::default() });
    let mut landed = [0, 0];
    for i in 1..100 {
        assert!(write_result(&mut disk, i * 4096, 7).is_err());
        for sector in disk.handle().visible()[i as usize * 4096..][..4096].chunks(SECTOR_BYTES) {
            landed[usize::from(sector.iter().all(|byte| *byte == 7))] += 1;
        }
    }
    assert!(landed.iter().all(|count| *count > 100), "{landed:?}");
    disk.handle().set_faults(Faults { lost_sector: ALWAYS, ..Faults::default() });
    write_result(&mut disk, 0, 8).expect("it says so");
    let seen = disk.handle().visible();
    let lost = seen[..4096].chunks(SECTOR_BYTES).filter(|sector| sector[0] == 1).count();
    assert_eq!(lost, 1);
}

#[test]
fn a_cut_may_fall_between_any_two_writes() {
    let mut disk = disk(10);
    disk.handle().set_done_per_turn(1);
    for place in 0..32 {
        submit_write(&mut disk, place * 4096, 1);
    }
    let mut done = Vec::new();
    for count in 1..=32 {
        assert_eq!(disk.turn(Now::default(), &mut done), 1);
        let image = disk.handle().image(Cut::Kept);
        assert_eq!(image.chunks(4096).filter(|block| block[0] == 1).count(), count);
    }
}
