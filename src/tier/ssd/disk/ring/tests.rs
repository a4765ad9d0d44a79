//! The same tests as for any disk, on a real file and on a block device, and what only a real one
//! has: waking a worker that sleeps, threads, a file that becomes shorter.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use mio::{Events, Poll};

use super::*;
use crate::base::readiness;
use crate::tier::ssd::disk::DiskError;
use crate::tier::ssd::disk::open::{OpenRequest, Opened, open};
use crate::tier::ssd::disk::suite::{self, Loop, SIZE_BYTES, Scratch};

fn opened(path: &Path, workers: usize) -> Opened {
    let size_bytes = Some((SIZE_BYTES * workers) as u64);
    open(&OpenRequest { path, size_bytes, workers, segments_min: 1 }).expect("a disk")
}

fn disk(path: &Path) -> RingDisk {
    RingDisk::new(opened(path, 1).part(0), suite::pool(), &Readiness::none()).expect("a ring")
}

#[test]
fn a_file_is_a_disk() {
    let mut files = Vec::new();
    suite::run(|| {
        files.push(Scratch::new());
        disk(files[files.len() - 1].path())
    });
}

#[test]
fn a_file_is_a_disk_without_registered_buffers() {
    let mut files = Vec::new();
    suite::run(|| {
        files.push(Scratch::new());
        let mut disk = disk(files[files.len() - 1].path());
        assert!(disk.mode.is_registered, "the tests' buffers are few");
        disk.data.is_registered = false;
        disk
    });
}

#[test]
fn a_block_device_is_a_disk() {
    let Some(device) = Loop::new(SIZE_BYTES, &[]) else { return };
    suite::run(|| {
        let zeros = vec![0; SIZE_BYTES];
        let raw = OpenOptions::new().write(true).open(device.path()).expect("the device");
        raw.write_all_at(&zeros, 0).and_then(|()| raw.sync_all()).expect("writable");
        drop(raw);
        disk(device.path())
    });
}

#[test]
fn a_discard_frees_room_and_reads_as_zeros() {
    let file = Scratch::new();
    let mut disk = disk(file.path());
    suite::write(&mut disk, 0, 1 << 20, 1);
    suite::flush(&mut disk);
    let blocks = || {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(file.path()).expect("there").blocks()
    };
    let before = blocks();
    suite::submit(&mut disk, 0, Op::Discard { offset_bytes: 0, len_bytes: 1 << 20 });
    assert_eq!(suite::wait(&mut disk, 1)[0].result, Ok(()));
    assert_eq!(before - blocks(), (1 << 20) / 512);
    assert!(suite::read(&mut disk, 0, 1 << 20).iter().all(|byte| *byte == 0));
}

#[test]
fn what_is_written_is_there_for_the_next_process() {
    let file = Scratch::new();
    let mut first = disk(file.path());
    suite::write(&mut first, 1 << 20, 65536, 5);
    drop(first);
    let mut second = disk(file.path());
    suite::assert_pattern(&suite::read(&mut second, 1 << 20, 65536), 1 << 20, 5);
}

#[test]
fn a_disk_is_free_as_soon_as_it_is_dropped() {
    let file = Scratch::new();
    for _ in 0..20 {
        let mut disk = disk(file.path());
        suite::read(&mut disk, 0, 4096);
        drop(disk);
        let next = std::fs::File::open(file.path()).expect("there");
        assert!(next.try_lock().is_ok());
    }
}

/// Also what the kernel was not even told of: nobody else may have its memory before it is.
#[test]
fn a_queue_that_is_dropped_waits_for_what_is_under_way() {
    let file = Scratch::new();
    let part = opened(file.path(), 1).part(0);
    let pool = suite::pool();
    let free = pool.free();
    for is_handed_over in [false, true] {
        let mut queue = Queue::new(&part, 8, false).expect("a ring");
        let mut buffer = pool.write_buffer().expect("free");
        let byte = 1 + u8::from(is_handed_over);
        buffer.open_mut()[..SSD_BLOCK_BYTES].fill(byte);
        let op = Op::Write { offset_bytes: 0, bytes: buffer.freeze(SSD_BLOCK_BYTES) };
        drop(buffer);
        queue.push(Flight::new(Io { token: 0, op }, part.size_bytes()));
        if is_handed_over {
            queue.enter();
        }
        assert!(pool.free() < free);
        drop(queue);
        assert_eq!(pool.free(), free);
        assert_eq!(std::fs::read(file.path()).expect("there")[..2], [byte; 2]);
    }
}

/// The kernel answers for many one after the other: each answer is one more wait.
#[test]
fn a_queue_that_is_dropped_waits_for_more_ios_than_times() {
    let file = Scratch::new();
    let part = opened(file.path(), 1).part(0);
    let pool = suite::pool();
    let free = pool.free();
    let count = 4 * SSD_CLOSE_WAITS;
    let mut queue = Queue::new(&part, count, false).expect("a ring");
    let bytes = pool.write_buffer().expect("free").freeze(1 << 18);
    for token in 0..count as u64 {
        let op = Op::Write { offset_bytes: token << 18, bytes: bytes.clone() };
        queue.push(Flight::new(Io { token, op }, part.size_bytes()));
    }
    drop(bytes);
    drop(queue);
    assert_eq!(pool.free(), free);
}

/// Kernels seldom stop half-way, so what follows a short count is begun by hand.
#[test]
fn the_rest_of_an_io_goes_where_it_belongs() {
    let file = Scratch::new();
    let mut disk = disk(file.path());
    suite::write(&mut disk, 65536, 65536, 1);
    let mut buffer = disk.pool().read_buffer(65536).expect("free");
    buffer.open_mut().fill(0xEE);
    let op = Op::Read { offset_bytes: 65536, len_bytes: 65536, buffer };
    half_way(&mut disk, op, 16384);
    let done = suite::wait(&mut disk, 1).pop().expect("one");
    let Op::Read { buffer, .. } = done.io.op else { panic!("a read was submitted") };
    assert!(buffer[..16384].iter().all(|byte| *byte == 0xEE), "it was done already");
    suite::assert_pattern(&buffer[16384..65536], 65536 + 16384, 1);
    let mut buffer = disk.pool().write_buffer().expect("free");
    for (i, block) in buffer.open_mut()[..65536].chunks_mut(4096).enumerate() {
        block.fill(i as u8);
    }
    let op = Op::Write { offset_bytes: 65536, bytes: buffer.freeze(65536) };
    half_way(&mut disk, op, 16384);
    assert_eq!(suite::wait(&mut disk, 1)[0].result, Ok(()));
    let bytes = suite::read(&mut disk, 65536, 65536);
    suite::assert_pattern(&bytes[..16384], 65536, 1);
    for (i, block) in bytes[..65536].chunks(4096).enumerate().skip(4) {
        assert!(block.iter().all(|byte| *byte == i as u8));
    }
}

fn half_way(disk: &mut RingDisk, op: Op, done_bytes: usize) {
    let mut flight = Flight::new(Io { token: 0, op }, disk.part.size_bytes());
    flight.done_bytes = done_bytes;
    disk.data.push(flight);
}

/// A disk as a worker has it that sleeps, and where that sleeps.
fn watched(file: &Scratch) -> (RingDisk, Poll) {
    let poll = Poll::new().expect("epoll");
    let readiness = Readiness::new(poll.registry()).expect("epoll");
    let part = opened(file.path(), 1).part(0);
    (RingDisk::new(part, suite::pool(), &readiness).expect("a ring"), poll)
}

#[test]
fn a_worker_that_sleeps_is_woken_by_either_ring() {
    let file = Scratch::new();
    let (mut disk, mut poll) = watched(&file);
    assert_eq!(disk.mode().completions, Completions::Sleeping);
    let mut events = Events::with_capacity(8);
    let mut done = Vec::new();
    // What watching alone brought.
    poll.poll(&mut events, Some(Duration::ZERO)).expect("epoll");
    for round in 0..50_u64 {
        let op = if round % 2 == 0 {
            let buffer = disk.pool().read_buffer(4096).expect("free");
            Op::Read { offset_bytes: round * 4096, len_bytes: 4096, buffer }
        } else {
            Op::Flush
        };
        suite::submit(&mut disk, round, op);
        while disk.in_flight() > 0 {
            disk.turn(Now::default(), &mut done);
            if disk.in_flight() > 0 {
                poll.poll(&mut events, Some(Duration::from_secs(10))).expect("epoll");
                assert!(events.iter().any(|event| event.token() == readiness::TOKEN), "{round}");
            }
        }
    }
    assert_eq!(done.len(), 50);
}

#[test]
fn what_is_handed_over_needs_no_turn_to_wake_the_worker() {
    let file = Scratch::new();
    let (mut disk, mut poll) = watched(&file);
    suite::write(&mut disk, 0, 1 << 20, 1);
    let mut events = Events::with_capacity(8);
    poll.poll(&mut events, Some(Duration::ZERO)).expect("epoll");
    for token in 0..64 {
        let buffer = disk.pool().read_buffer(4096).expect("free");
        let op = Op::Read { offset_bytes: token * 4096, len_bytes: 4096, buffer };
        suite::submit(&mut disk, token, op);
        assert!(!disk.wakes(), "not handed over");
        disk.hand_over();
        assert!(disk.wakes() || disk.data.is_answered());
    }
    let mut done = Vec::new();
    // As if these had come in long ago.
    disk.submitted = 0;
    while disk.in_flight() > 0 {
        if disk.wakes() {
            poll.poll(&mut events, Some(Duration::from_secs(10))).expect("epoll");
            assert!(events.iter().any(|event| event.token() == readiness::TOKEN));
        }
        let count = disk.turn(Now::default(), &mut done);
        assert!(count <= SSD_DONE_PER_TURN_MIN, "the rest is for the next turn");
        assert!(!disk.data.is_answered() || !disk.wakes(), "which comes at once");
    }
    assert!(done.len() == 64 && done.iter().all(|done| done.result.is_ok()));
}

#[test]
fn workers_have_parts_of_their_own() {
    let file = Scratch::new();
    let opened = opened(file.path(), 2);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let part = opened.part(worker);
            scope.spawn(move || {
                let pool = suite::pool();
                let mut disk = RingDisk::new(part, pool, &Readiness::none()).expect("ring");
                for i in 0..8 {
                    suite::write(&mut disk, i << 20, 1 << 20, worker as u8 + 1);
                }
                for i in 0..8 {
                    let bytes = suite::read(&mut disk, i << 20, 1 << 20);
                    suite::assert_pattern(&bytes, i << 20, worker as u8 + 1);
                }
            });
        }
    });
    let mut second = vec![0; 4096];
    let raw = std::fs::File::open(file.path()).expect("there");
    raw.read_exact_at(&mut second, SIZE_BYTES as u64).expect("long enough");
    suite::assert_pattern(&second, 0, 2);
}

#[test]
fn a_file_that_became_shorter_ends() {
    let file = Scratch::new();
    let mut disk = disk(file.path());
    let raw = OpenOptions::new().write(true).open(file.path()).expect("there");
    raw.set_len(1 << 20).expect("shorter");
    for offset_bytes in [(1 << 20) - 32768, 1 << 20, 2 << 20] {
        let buffer = disk.pool().read_buffer(65536).expect("free");
        let op = Op::Read { offset_bytes, len_bytes: 65536, buffer };
        suite::submit(&mut disk, 0, op);
        assert_eq!(suite::wait(&mut disk, 1)[0].result, Err(DiskError::Ended));
    }
}

#[test]
fn a_process_that_may_not_lock_so_much_does_without_registered_buffers() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    const LIMIT_BYTES: u64 = 8 << 20;
    let file = Scratch::new();
    let opened = opened(file.path(), 1);
    // The whole process's: root is not held to it, and other tests lock less than that.
    let before = getrlimit(Resource::Memlock);
    let current = before.current.map_or(LIMIT_BYTES, |bytes| bytes.min(LIMIT_BYTES));
    setrlimit(Resource::Memlock, Rlimit { current: Some(current), ..before }).expect("lower");
    let limit_bytes = current;
    // Capabilities are a thread's own.
    let thread = std::thread::spawn(move || {
        let mut mine = capabilities(None).expect("our own");
        mine.effective.remove(CapabilitySet::IPC_LOCK);
        set_capabilities(None, mine).expect("fewer are always allowed");
        let count = (limit_bytes >> 20) as usize + 1;
        let pool = Pool::with_buffers(&[(4096, 8)], (1 << 20, count)).expect("memory");
        let part = opened.part(0);
        let mut disk = RingDisk::new(part, pool, &Readiness::none()).expect("a ring");
        assert!(!disk.mode().is_registered);
        suite::write(&mut disk, 0, 1 << 20, 3);
        suite::assert_pattern(&suite::read(&mut disk, 4096, 4096), 4096, 3);
    });
    thread.join().expect("no panic");
    setrlimit(Resource::Memlock, before).expect("as it was");
}

#[test]
fn a_ring_that_is_refused_says_why() {
    let refused = |errno: i32| RingError::at("setting up")(io::Error::from_raw_os_error(errno));
    assert!(refused(libc::EPERM).to_string().contains("io_uring_disabled"));
    assert!(refused(libc::EPERM).to_string().contains("seccomp"));
    assert!(refused(libc::ENOMEM).to_string().contains("ulimit -l"));
    assert!(refused(libc::EINVAL).to_string().contains("6.1"));
}
