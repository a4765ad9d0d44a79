//! What every disk has to do: the same tests for all of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Buffer, Disk, Done, Io, Op, Pool};
use crate::base::clock::{Clock, Now};
use crate::base::limits::{SSD_DONE_PER_TURN, SSD_QUEUE_DEPTH};

/// Size of the disks that the tests are run on.
pub(super) const SIZE_BYTES: usize = 32 << 20;

/// Buffers for the tests.
pub(super) fn pool() -> Pool {
    let reads = [(4096, SSD_QUEUE_DEPTH + 8), (65536, 8), (1 << 20, 2)];
    Pool::with_buffers(&reads, (1 << 20, 4)).expect("memory")
}

/// A path of a test's own, on a file system that has direct I/O; what is there goes with it.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Nothing yet.
    pub(super) fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/disk-tests");
        std::fs::create_dir_all(&folder).expect("a folder for test files");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Scratch(folder.join(format!("{}-{number}", std::process::id())))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A block device over a file.
pub(super) struct Loop {
    device: PathBuf,
    _file: Scratch,
}

impl Loop {
    /// None without root, which is said.
    ///
    /// # Panics
    /// If root cannot make one: nothing that could be tested is left out.
    pub(super) fn new(size_bytes: usize, arguments: &[&str]) -> Option<Loop> {
        let file = Scratch::new();
        let made = std::fs::File::create(file.path()).and_then(|f| f.set_len(size_bytes as u64));
        made.expect("a file behind it");
        let path = file.path().to_str().expect("text");
        let shown = run_command("losetup", &[&["-f", "--show"], arguments, &[path]].concat());
        let Some(device) = shown else {
            left_out("no loop device can be made: block devices are not tested");
            return None;
        };
        Some(Loop { device: device.trim().into(), _file: file })
    }

    pub(super) fn path(&self) -> &Path {
        &self.device
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run_command("losetup", &["-d", self.device.to_str().expect("text")]);
    }
}

/// Says what is not tested, which only an ordinary user may leave out.
///
/// # Panics
/// As root, who can do everything that the tests need.
pub(super) fn left_out(what: &str) {
    assert!(!rustix::process::geteuid().is_root(), "{what}");
    eprintln!("{what}");
}

/// What a command prints, if it succeeds.
pub(super) fn run_command(name: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(name).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Longest that a disk of a test may take for anything.
const PATIENCE_US: u64 = 30_000_000;

/// Runs all of them, each on a new disk of zeros.
pub(super) fn run<D: Disk>(mut disk: impl FnMut() -> D) {
    what_is_written_is_read(&mut disk());
    spans_of_many_sizes_are_whole(&mut disk());
    pieces_of_one_buffer_are_written_apart(&mut disk());
    a_full_queue_gives_the_io_back(&mut disk());
    one_turn_brings_only_so_many(&mut disk());
    a_discard_leaves_zeros_or_what_was_there(&mut disk());
    memory_returns_when_the_disk_is_dropped_with_ios_under_way(disk());
    an_io_beyond_the_end_panics(disk());
}

/// Turns until `count` I/Os are done.
pub(super) fn wait(disk: &mut impl Disk, count: usize) -> Vec<Done> {
    let clock = Clock::start();
    let mut all = Vec::new();
    let mut now = Now::default();
    while all.len() < count {
        // A simulated disk follows the time that it is given, a real one takes its own.
        now.uptime_us += 10;
        disk.turn(now, &mut all);
        assert!(clock.read().uptime_us < PATIENCE_US, "{} of {count} done", all.len());
    }
    all
}

pub(super) fn submit(disk: &mut impl Disk, token: u64, op: Op) {
    disk.submit(Io { token, op }).expect("the queue has room");
}

/// Writes `len_bytes` of a pattern that depends on `seed` and place, and waits for it.
pub(super) fn write(disk: &mut impl Disk, offset_bytes: u64, len_bytes: usize, seed: u8) {
    let mut buffer = disk.pool().write_buffer().expect("free");
    fill(&mut buffer.open_mut()[..len_bytes], offset_bytes, seed);
    let bytes = buffer.freeze(len_bytes);
    submit(disk, 0, Op::Write { offset_bytes, bytes });
    assert_eq!(wait(disk, 1)[0].result, Ok(()));
}

/// Reads and waits for it.
pub(super) fn read(disk: &mut impl Disk, offset_bytes: u64, len_bytes: usize) -> Buffer {
    let buffer = disk.pool().read_buffer(len_bytes).expect("free");
    submit(disk, 0, Op::Read { offset_bytes, len_bytes, buffer });
    let done = wait(disk, 1).pop().expect("one");
    assert_eq!(done.result, Ok(()));
    let Op::Read { buffer, .. } = done.io.op else { panic!("a read was submitted") };
    buffer
}

/// Flushes and waits for it.
pub(super) fn flush(disk: &mut impl Disk) {
    submit(disk, 0, Op::Flush);
    assert_eq!(wait(disk, 1)[0].result, Ok(()));
}

fn fill(bytes: &mut [u8], offset_bytes: u64, seed: u8) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = pattern(offset_bytes + i as u64, seed);
    }
}

/// The byte that [`write`] puts at a place.
pub(super) fn pattern(at: u64, seed: u8) -> u8 {
    ((at >> 12) as u8).wrapping_mul(31) ^ (at as u8) ^ seed
}

pub(super) fn assert_pattern(bytes: &[u8], offset_bytes: u64, seed: u8) {
    let wrong = (0..bytes.len()).find(|i| bytes[*i] != pattern(offset_bytes + *i as u64, seed));
    assert_eq!(wrong, None, "the first wrong byte of a read at {offset_bytes}");
}

fn what_is_written_is_read(disk: &mut impl Disk) {
    assert_eq!(disk.size_bytes(), SIZE_BYTES as u64);
    assert!(read(disk, 4096, 4096).iter().all(|byte| *byte == 0), "a new disk has zeros");
    write(disk, 4096, 4096, 1);
    write(disk, 8192, 4096, 2);
    assert_pattern(&read(disk, 4096, 4096), 4096, 1);
    flush(disk);
    write(disk, 4096, 4096, 3);
    assert_pattern(&read(disk, 4096, 4096), 4096, 3);
    assert_pattern(&read(disk, 8192, 4096), 8192, 2);
    assert_eq!(disk.in_flight(), 0);
}

fn spans_of_many_sizes_are_whole(disk: &mut impl Disk) {
    let last = SIZE_BYTES as u64 - (1 << 20);
    for (i, offset_bytes) in [0, 1 << 20, 5 << 20, last].into_iter().enumerate() {
        write(disk, offset_bytes, 1 << 20, i as u8);
    }
    for (offset_bytes, len_bytes, seed) in
        [(0, 1 << 20, 0), (4096, 65536, 0), ((1 << 20) + 8192, 12288, 1), (last, 1 << 20, 3)]
    {
        assert_pattern(&read(disk, offset_bytes, len_bytes)[..len_bytes], offset_bytes, seed);
    }
    // Across what two writes wrote.
    let bytes = read(disk, (1 << 20) - 4096, 8192);
    assert_pattern(&bytes[..4096], (1 << 20) - 4096, 0);
    assert_pattern(&bytes[4096..8192], 1 << 20, 1);
}

fn pieces_of_one_buffer_are_written_apart(disk: &mut impl Disk) {
    let mut buffer = disk.pool().write_buffer().expect("free");
    for i in 0..8_u64 {
        fill(&mut buffer.open_mut()[..131_072], i * 131_072, 9);
        let bytes = buffer.freeze(131_072);
        submit(disk, i, Op::Write { offset_bytes: i * 131_072, bytes });
    }
    assert_pattern(&buffer, 0, 9);
    drop(buffer);
    let mut tokens: Vec<u64> = wait(disk, 8).iter().map(|done| done.io.token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..8).collect::<Vec<u64>>());
    assert_pattern(&read(disk, 0, 1 << 20), 0, 9);
}

fn a_full_queue_gives_the_io_back(disk: &mut impl Disk) {
    let pool = disk.pool().clone();
    let read = |token: u64| {
        let buffer = pool.read_buffer(4096).expect("free");
        Io { token, op: Op::Read { offset_bytes: token * 4096, len_bytes: 4096, buffer } }
    };
    for token in 0..SSD_QUEUE_DEPTH as u64 {
        disk.submit(read(token)).expect("room");
    }
    assert_eq!(disk.in_flight(), SSD_QUEUE_DEPTH);
    let back = disk.submit(read(1000)).expect_err("full");
    assert_eq!(back.token, 1000);
    let done = wait(disk, 1);
    disk.submit(back).expect("room again");
    let done = done.len() + wait(disk, SSD_QUEUE_DEPTH + 1 - done.len()).len();
    assert_eq!((done, disk.in_flight()), (SSD_QUEUE_DEPTH + 1, 0));
}

fn one_turn_brings_only_so_many(disk: &mut impl Disk) {
    for token in 0..SSD_QUEUE_DEPTH as u64 {
        let buffer = disk.pool().read_buffer(4096).expect("free");
        submit(disk, token, Op::Read { offset_bytes: 0, len_bytes: 4096, buffer });
    }
    let mut all = Vec::new();
    let mut now = Now::default();
    let clock = Clock::start();
    while all.len() < SSD_QUEUE_DEPTH {
        let before = all.len();
        now.uptime_us += 1_000_000;
        let count = disk.turn(now, &mut all);
        assert_eq!(count, all.len() - before);
        assert!(count <= SSD_DONE_PER_TURN);
        assert!(clock.read().uptime_us < PATIENCE_US);
    }
    assert_eq!(disk.turn(now, &mut all), 0);
}

fn a_discard_leaves_zeros_or_what_was_there(disk: &mut impl Disk) {
    write(disk, 0, 1 << 20, 4);
    submit(disk, 5, Op::Discard { offset_bytes: 65536, len_bytes: 65536 });
    let done = wait(disk, 1);
    assert!(matches!(done[0].result, Ok(()) | Err(super::DiskError::Unsupported)));
    let bytes = read(disk, 0, 1 << 20);
    assert_pattern(&bytes[..65536], 0, 4);
    assert_pattern(&bytes[131_072..], 131_072, 4);
    for (i, block) in bytes[65536..131_072].chunks(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            assert_pattern(block, 65536 + i as u64 * 4096, 4);
        }
    }
    write(disk, 65536, 65536, 6);
    assert_pattern(&read(disk, 65536, 65536), 65536, 6);
}

fn memory_returns_when_the_disk_is_dropped_with_ios_under_way(mut disk: impl Disk) {
    let pool = disk.pool().clone();
    let all = pool.free();
    let mut done = Vec::new();
    for round in 0..2 {
        for token in 0..16 {
            let buffer = pool.read_buffer(4096).expect("free");
            submit(&mut disk, token, Op::Read { offset_bytes: 0, len_bytes: 4096, buffer });
        }
        let mut buffer = pool.write_buffer().expect("free");
        let bytes = buffer.freeze(1 << 20);
        submit(&mut disk, 99, Op::Write { offset_bytes: 1 << 20, bytes });
        if round == 0 {
            disk.turn(Now::default(), &mut done);
        }
    }
    drop(disk);
    drop(done);
    assert_eq!(pool.free(), all);
}

fn an_io_beyond_the_end_panics(mut disk: impl Disk) {
    let beyond =
        Io { token: 0, op: Op::Discard { offset_bytes: SIZE_BYTES as u64, len_bytes: 4096 } };
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| disk.submit(beyond)));
    assert!(panics.is_err());
}
