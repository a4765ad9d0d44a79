//! The memory of two rings: a sealed memfd that a daemon creates and a client maps.
//!
//! ```text
//! 0       magic, version, bytes of a ring, generation
//! 512     the six words of `ring::Word`, 128 bytes apart
//! 4096    the requests, then the answers
//! ```
//!
//! The size is sealed, so that no access can fail because the file became shorter. The other
//! process may write anything anywhere at any time: nothing here makes a reference to the bytes of
//! a ring, and whoever reads them copies them first and checks the copy.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
    memfd_create,
};

use super::ring::{Memory, Side, Way, Word};
use crate::base::limits::{RING_BYTES, RING_BYTES_MAX, RING_BYTES_MIN};

const MAGIC: u64 = u64::from_le_bytes(*b"sunder\0\x01");

/// Changes with every change of the layout or of the protocol.
const VERSION: u32 = 1;

const VERSION_AT: usize = 8;
const RING_BYTES_AT: usize = 12;
const GENERATION_AT: usize = 16;
const WORDS_AT: usize = 512;
/// Two cache lines, because CPUs fetch lines in pairs.
const WORD_BYTES: usize = 128;
const RINGS_AT: usize = 4096;

const _: () = assert!(WORDS_AT + 6 * WORD_BYTES <= RINGS_AT);

/// Without these, the file could become shorter while it is mapped, or the seals be extended.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Why a segment is not used; the rest of a sentence that names the daemon.
#[derive(Debug)]
pub enum Refused {
    /// It cannot be mapped.
    Kernel(io::Error),
    /// It is not sealed, or not a segment of ours.
    Foreign,
    /// Another version of sunder made it.
    Version(u32),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Kernel(error) => write!(f, "its shared memory cannot be mapped: {error}"),
            Refused::Foreign => f.write_str("what it sent is no shared memory of sunder's"),
            Refused::Version(version) => {
                write!(f, "its shared memory has version {version}, expected {VERSION}")
            }
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused::Kernel(error)
    }
}

/// A mapped segment.
#[derive(Debug)]
pub struct Segment {
    map: MmapRaw,
    /// Bytes of one ring, as they were checked when it was mapped.
    ring_bytes: usize,
    generation: u64,
}

impl Segment {
    /// Creates a segment, and the file through which another process maps it. `generation`
    /// identifies the daemon's store.
    ///
    /// # Errors
    /// The kernel's, such as no memory left.
    pub fn create(generation: u64) -> io::Result<(Segment, OwnedFd)> {
        let bytes = RINGS_AT + 2 * RING_BYTES;
        let file = memfd_create("sunder-rings", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes as u64)?;
        fcntl_add_seals(&file, SEALS)?;
        let segment = Segment::map(&file, RING_BYTES, generation)?;
        segment.word64(0).store(MAGIC, Relaxed);
        segment.word(VERSION_AT).store(VERSION, Relaxed);
        segment.word(RING_BYTES_AT).store(RING_BYTES as u32, Relaxed);
        segment.word64(GENERATION_AT).store(generation, Release);
        Ok((segment, file))
    }

    /// Maps a segment that another process created.
    ///
    /// # Errors
    /// It is none, or cannot be mapped.
    pub fn open(file: &OwnedFd) -> Result<Segment, Refused> {
        // Not a memfd: it has no seals.
        let seals = fcntl_get_seals(file).map_err(|_| Refused::Foreign)?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(Refused::Foreign);
        }
        let bytes = fstat(file).map_err(io::Error::from)?.st_size;
        let bytes = usize::try_from(bytes).map_err(|_| Refused::Foreign)?;
        let ring_bytes = bytes.saturating_sub(RINGS_AT) / 2;
        let is_size = ring_bytes.is_power_of_two()
            && (RING_BYTES_MIN..=RING_BYTES_MAX).contains(&ring_bytes)
            && bytes == RINGS_AT + 2 * ring_bytes;
        if !is_size {
            return Err(Refused::Foreign);
        }
        let mut segment = Segment::map(file, ring_bytes, 0)?;
        if segment.word64(0).load(Relaxed) != MAGIC {
            return Err(Refused::Foreign);
        }
        let version = segment.word(VERSION_AT).load(Relaxed);
        if version != VERSION {
            return Err(Refused::Version(version));
        }
        if segment.word(RING_BYTES_AT).load(Relaxed) as usize != ring_bytes {
            return Err(Refused::Foreign);
        }
        segment.generation = segment.word64(GENERATION_AT).load(Relaxed);
        Ok(segment)
    }

    fn map(file: &OwnedFd, ring_bytes: usize, generation: u64) -> io::Result<Segment> {
        let map =
            MmapOptions::new().len(RINGS_AT + 2 * ring_bytes).populate().map_raw(&file.as_fd())?;
        Ok(Segment { map, ring_bytes, generation })
    }

    /// Bytes of one ring.
    pub fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    /// Identifies the daemon's store.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at.is_multiple_of(4) && at < RINGS_AT);
        // SAFETY: `at` is one of the constants above, aligned and within the header, which is
        // mapped for as long as `self` lives; the seal keeps the file from becoming shorter. Both
        // processes access the words only atomically; one that does not can change their values,
        // which are not trusted.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    fn word64(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at.is_multiple_of(8) && at < RINGS_AT);
        // SAFETY: as in `word`.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    #[inline]
    fn shared(&self, word: Word) -> &AtomicU32 {
        let place = match word {
            Word::Written(Way::Requests) => 0,
            Word::Read(Way::Requests) => 1,
            Word::Written(Way::Answers) => 2,
            Word::Read(Way::Answers) => 3,
            Word::Sleeps(Side::Client) => 4,
            Word::Sleeps(Side::Daemon) => 5,
        };
        self.word(WORDS_AT + place * WORD_BYTES)
    }

    /// Where byte `at` of a ring is, and `bytes` more behind it.
    ///
    /// # Panics
    /// If they are not within the ring.
    #[inline]
    fn bytes(&self, way: Way, at: usize, bytes: usize) -> *mut u8 {
        assert!(at <= self.ring_bytes && bytes <= self.ring_bytes - at, "within the ring");
        let ring = match way {
            Way::Requests => 0,
            Way::Answers => self.ring_bytes,
        };
        self.map.as_mut_ptr().wrapping_add(RINGS_AT + ring + at)
    }
}

impl Memory for Segment {
    #[inline]
    fn load(&self, word: Word) -> u32 {
        self.shared(word).load(Acquire)
    }

    #[inline]
    fn store(&self, word: Word, value: u32) {
        self.shared(word).store(value, Release);
    }

    #[inline]
    fn fence(&self) {
        fence(SeqCst);
    }

    #[inline]
    fn copy_in(&self, way: Way, at: usize, bytes: &[u8]) {
        let to = self.bytes(way, at, bytes.len());
        // SAFETY: `bytes` has checked that the destination is within the mapping, to which this
        // process has no references. A correct reader does not read these bytes before the index is
        // published; an incorrect one gets whatever it gets.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    #[inline]
    fn copy_out(&self, way: Way, at: usize, out: &mut [u8]) {
        let from = self.bytes(way, at, out.len());
        // SAFETY: as in `copy_in`. A correct writer does not write these bytes until they are read;
        // an incorrect one can only change which bytes are copied, and any byte is valid.
        unsafe { from.copy_to_nonoverlapping(out.as_mut_ptr(), out.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::ftruncate;

    fn memfd(bytes: u64, seals: SealFlags) -> OwnedFd {
        let file = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, bytes).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    }

    #[test]
    fn a_segment_is_the_same_memory_on_both_sides_and_cannot_become_shorter() {
        let (daemon, file) = Segment::create(42).unwrap();
        let client = Segment::open(&file).unwrap();
        assert_eq!((client.generation(), client.ring_bytes()), (42, RING_BYTES));
        for (n, way) in [(1, Way::Requests), (2, Way::Answers)] {
            client.copy_in(way, RING_BYTES - 3, &[n, n + 1, n + 2]);
            let mut out = [0; 3];
            daemon.copy_out(way, RING_BYTES - 3, &mut out);
            assert_eq!(out, [n, n + 1, n + 2]);
            client.store(Word::Written(way), n.into());
            assert_eq!(daemon.load(Word::Written(way)), u32::from(n));
        }
        assert!(ftruncate(&file, 0).is_err() && ftruncate(&file, 1 << 20).is_err());
    }

    #[test]
    #[should_panic(expected = "within the ring")]
    fn no_copy_leaves_a_ring() {
        let (segment, _file) = Segment::create(1).unwrap();
        segment.copy_in(Way::Answers, RING_BYTES - 1, &[0; 2]);
    }

    #[test]
    fn what_is_no_segment_is_refused() {
        let bytes = (RINGS_AT + 2 * RING_BYTES) as u64;
        let is_foreign = |file: OwnedFd| matches!(Segment::open(&file), Err(Refused::Foreign));
        assert!(is_foreign(memfd(bytes, SealFlags::empty())), "it may become shorter");
        assert!(is_foreign(memfd(0, SEALS)), "it has no header");
        assert!(is_foreign(memfd(bytes - 1, SEALS)), "its size is none of ours");
        assert!(is_foreign(memfd(bytes, SEALS)), "it has no magic");
        assert!(is_foreign(std::fs::File::open("/dev/null").unwrap().into()));
        let (segment, file) = Segment::create(1).unwrap();
        segment.word(VERSION_AT).store(VERSION + 1, Relaxed);
        assert!(matches!(Segment::open(&file), Err(Refused::Version(2))));
        segment.word(VERSION_AT).store(VERSION, Relaxed);
        segment.word(RING_BYTES_AT).store(u32::MAX, Relaxed);
        assert!(is_foreign(file), "its header lies about its rings");
    }
}
