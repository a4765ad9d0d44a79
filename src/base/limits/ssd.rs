//! The capacities of the SSD tier. Nothing may size a queue, a loop or an allocation by a number
//! from a disk without a limit from here.

use super::ITEM_BYTES_MAX_LIMIT;

/// Default of `object=`, in bytes: the assumed average size of an object on an SSD.
pub const SSD_OBJECT_BYTES: u64 = 1024;

/// Smallest and largest `object=`, in bytes.
pub const SSD_OBJECT_BYTES_MIN: u64 = 64;
/// As [`SSD_OBJECT_BYTES_MIN`].
pub const SSD_OBJECT_BYTES_MAX: u64 = 1024 * 1024;

/// Default of `flush=`, in milliseconds: at most this much is lost in a crash.
pub const SSD_FLUSH_MS: u64 = 100;

/// Largest `flush=`, in milliseconds.
pub const SSD_FLUSH_MS_MAX: u64 = 60_000;

/// How long a clean stop waits for the disk at most, in microseconds.
pub const SSD_STOP_US: u64 = 10_000_000;

/// How long it waits for a disk that makes no progress, in microseconds.
pub const SSD_STOP_SILENT_US: u64 = 2_000_000;

/// How long it sleeps before it checks the disk's progress again, in microseconds.
pub const SSD_STOP_PAUSE_US: u64 = 500;

/// How long changes may take to become durable, beyond `flush=`, before the log is marked so that
/// the next start does not trust the disk: on a disk that failed a write, that a request waits for,
/// or that does not answer. Microseconds. A server that is killed earlier may serve data this old.
pub const SSD_DOUBT_FAILED_US: u64 = 1_000_000;
/// As [`SSD_DOUBT_FAILED_US`].
pub const SSD_DOUBT_WAITED_US: u64 = 2_000_000;
/// As [`SSD_DOUBT_FAILED_US`].
pub const SSD_DOUBT_SILENT_US: u64 = 10_000_000;

/// Delay before that is checked again, in microseconds: the host may have been paused.
pub const SSD_DOUBT_LOOK_US: u64 = 250_000;

/// How long a flush_all waits until it is durable, in microseconds; then it fails.
pub const SSD_FLUSH_ALL_US: u64 = 5_000_000;

/// How long a stop waits for the mark on the log, in microseconds.
pub const SSD_NOTE_US: u64 = 2_000_000;

/// How far the clock of a log may be ahead of the host's, which was set back, in seconds: a year.
/// If it is more, the log is discarded; otherwise its items would expire immediately for that long.
pub const SSD_CLOCK_AHEAD_MAX_S: u32 = 365 * 86_400;

/// Block size of the disk, in bytes: offsets, lengths and addresses of I/Os are multiples of it.
/// Devices have blocks of 512 or 4,096.
pub const SSD_BLOCK_BYTES: usize = 4096;

/// Unit in which a disk is divided among workers and its log is reclaimed, in bytes.
pub const SSD_SEGMENT_BYTES: usize = 16 * 1024 * 1024;

/// Reads and writes of one worker in flight.
pub const SSD_QUEUE_DEPTH: usize = 256;

/// Flushes and discards of one worker in flight.
pub const SSD_SLOW_QUEUE_DEPTH: usize = 16;

/// How much of a file is allocated in one step if the file system has no room for all of it,
/// although the file may be allocated already, in bytes.
pub const SSD_ALLOCATE_BYTES: u64 = 1 << 20;

/// How often, and how long each time, a start waits for a disk in use, in milliseconds: 2 s
/// together, until the kernel releases it after a process was killed.
pub const SSD_LOCK_TRIES: usize = 100;
/// As [`SSD_LOCK_TRIES`].
pub const SSD_LOCK_WAIT_MS: u64 = 20;

/// How often in vain, and how long each time, a disk is waited for whose first read is in flight,
/// in milliseconds: 30 s together, the time after which the kernel resets a disk.
pub const SSD_FIRST_WAITS: usize = 300;
/// How often in vain a disk that is closed is waited for: 2 s together.
pub const SSD_CLOSE_WAITS: usize = 20;
/// As [`SSD_FIRST_WAITS`] and [`SSD_CLOSE_WAITS`].
pub const SSD_WAIT_MS: u32 = 100;

/// How often in a row an I/O is submitted again that was interrupted or was short of a block.
pub const SSD_TRIES_MAX: u32 = 16;

/// Completions that one turn of a worker takes from its disk.
pub const SSD_DONE_PER_TURN: usize = 128;

/// Completions that a turn processes at most if no more I/Os arrived than that: a device that
/// completes many at the same time gets its next ones sooner than if all were processed first.
pub const SSD_DONE_PER_TURN_MIN: usize = 8;

/// Size of a write buffer, in which records gather, in bytes.
pub const SSD_WRITE_BUFFER_BYTES: usize = 1024 * 1024;

/// Write buffers of one worker: one for each of eight classes of lifetime, for new records and for
/// those moved by reclaim, and half as many again in flight to the disk.
pub const SSD_WRITE_BUFFERS: usize = 8 * 2 + 8;

/// Disk space of a record beyond the size of its item, in bytes: its header is not longer than the
/// one that memcached counts, so rounding up to a block is enough.
pub const SSD_SPAN_EXTRA_BYTES: usize = SSD_BLOCK_BYTES;

/// Bytes of the longest read, for items of up to `item_bytes_max`: no record is longer than a
/// segment.
pub const fn ssd_span_bytes(item_bytes_max: usize) -> usize {
    let bytes = (item_bytes_max + SSD_SPAN_EXTRA_BYTES).next_multiple_of(SSD_BLOCK_BYTES);
    if bytes < SSD_SEGMENT_BYTES { bytes } else { SSD_SEGMENT_BYTES }
}

/// Read buffers of one worker, as length in bytes and number. One block each for all that can be in
/// flight, fewer longer ones, and some of the maximum length: reads that find none wait. Shorter
/// reads never take longer buffers, so that the longest reads always have theirs.
pub const fn ssd_read_buffers(item_bytes_max: usize) -> [(usize, usize); 5] {
    [
        (SSD_BLOCK_BYTES, SSD_QUEUE_DEPTH),
        (4 * SSD_BLOCK_BYTES, 64),
        (16 * SSD_BLOCK_BYTES, 32),
        (64 * SSD_BLOCK_BYTES, 8),
        (ssd_span_bytes(item_bytes_max), 4),
    ]
}

/// Memory of one worker's disk buffers, in bytes: with items of up to 1 MiB, 6 MiB for reads of up
/// to 256 KiB, 4 MiB and 16 KiB for longer ones, 24 MiB for writes.
pub const fn ssd_pool_bytes(item_bytes_max: usize) -> usize {
    let classes = ssd_read_buffers(item_bytes_max);
    let mut bytes = SSD_WRITE_BUFFERS * SSD_WRITE_BUFFER_BYTES;
    let mut i = 0;
    while i < classes.len() {
        bytes += classes[i].0 * classes[i].1;
        i += 1;
    }
    bytes
}

const _: () = assert!(ssd_pool_bytes(1 << 20) == (6 << 20) + 4 * ((1 << 20) + 4096) + (24 << 20));
// One registration with the kernel covers up to 1 GiB.
const _: () = assert!(ssd_pool_bytes(ITEM_BYTES_MAX_LIMIT) < 1 << 30);
const _: () = assert!(SSD_SEGMENT_BYTES.is_multiple_of(SSD_WRITE_BUFFER_BYTES));
const _: () = assert!(SSD_WRITE_BUFFER_BYTES.is_multiple_of(SSD_BLOCK_BYTES));

/// Records of the log start at multiples of this, in bytes.
pub const SSD_UNIT_BYTES: usize = 64;

/// A record crosses a block boundary, so that reading it takes one more block, only where the
/// padding would exceed this fraction (1/n) of its segment.
pub const SSD_PADDING_SHARE: usize = 32;

/// How much of a block must be left for that, in bytes: header and longest key are in one block.
pub const SSD_CROSSING_ROOM_BYTES: usize = 5 * SSD_UNIT_BYTES;

/// Longer records never do, in bytes: their padding is small in comparison.
pub const SSD_CROSSING_BYTES_MAX: usize = 8 * SSD_BLOCK_BYTES;

/// Most segments of one log that are open, or not yet finally sealed, at the same time: one for
/// each of eight classes of lifetime, and the rest for a disk that fails.
pub const SSD_OPEN_SEGMENTS_MAX: usize = 32;

/// Ranges of records cut off by recoveries that a log remembers; after one more crash it starts
/// empty. Each is forgotten when its segments are reclaimed.
pub const SSD_VOIDS_MAX: usize = 128;

/// Bytes at the start of a part that are all zeros if nothing was stored: file systems and volume
/// managers put their first superblock there (Btrfs at 64 KiB, ZFS before 256 KiB).
pub const SSD_BLANK_BYTES: u64 = 256 * 1024;

/// With this few nameable segments left, a start warns: 1 in 100, 160 TiB.
pub const SSD_FILLS_LEFT_WARN: u32 = (1 << 30) / 100;

/// Classes of lifetime, each with an open segment of its own.
pub const SSD_CLASSES_MAX: usize = 8;

/// Bytes of one write to the log, except the last before a flush.
pub const SSD_WRITE_BYTES: usize = 256 * 1024;

/// Records of one worker that wait for their tombstone while the disk accepts none. With more,
/// everything is flushed instead.
pub const SSD_KILLS_MAX: usize = 256 * 1024;

/// Of those, how many get their tombstone immediately, twice per turn and once with each item: if a
/// disk accepted nothing for seconds, there are a hundred thousand.
pub const SSD_KILLS_PER_CALL: usize = 64;

/// Reads of one worker for clients that are in flight, or wait for a buffer or the disk. Further
/// ones are throttled.
pub const SSD_READS_MAX: usize = 1024;

/// Records that reclaim examines in one turn of a worker.
pub const SSD_RECLAIM_PER_TURN: usize = 128;

/// Free segments that reclaim keeps ready in addition to one per class.
pub const SSD_FREE_SEGMENTS: usize = 4;

/// Share of a reclaimed segment that may be moved because it was used, in percent.
pub const SSD_REINSERT_PERCENT: usize = 10;

/// How long a worker does not write after its disk failed a write, in microseconds.
pub const SSD_RETRY_US: u64 = 10_000;
/// Its maximum after repeated failures without a successful write.
pub const SSD_RETRY_MAX_US: u64 = 250_000;

/// How often a piece of an open segment is written before its segment ends there, if other writes
/// succeed meanwhile.
pub const SSD_WRITE_TRIES: usize = 8;

/// Keys remembered by the policy that admits items at the second touch, in one worker: 4 MiB.
pub const SSD_TOUCHES: usize = 1024 * 1024;
