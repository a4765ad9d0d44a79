//! The bytes that a store lives in, read and written by offset.
//!
//! Everything that a store keeps lies in one region: nothing in it is a pointer, and every access
//! is checked against its end. Numbers are little-endian. A test can stop the program after any
//! write, to look at what a kill at that moment would leave behind.

use std::fs::File;
use std::io;

use memmap2::MmapMut;

use super::checksum::{CHECK_BYTES, Checksum};
use crate::base::buffer;

/// What of a record is asked for in advance: all of one with a short value.
const AHEAD_BYTES: usize = 192;

/// A cache line, in bytes.
pub const LINE_BYTES: usize = 64;

/// The bytes.
#[derive(Debug)]
pub struct Region {
    map: MmapMut,
    /// How records are checked, if they are.
    checksum: Option<Checksum>,
    /// Keeps others from using it.
    file: Option<File>,
}

impl Region {
    /// `bytes` bytes, all 0.
    ///
    /// # Errors
    /// The kernel's, if it has not so many.
    pub fn new(bytes: usize) -> io::Result<Region> {
        Ok(Region { map: buffer::map_huge(bytes)?, checksum: None, file: None })
    }

    /// How many there are.
    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    /// `map`, which is the file's, as long as that is locked.
    pub fn of_file(map: MmapMut, file: File) -> Region {
        Region { map, checksum: None, file: Some(file) }
    }

    /// Sees to it that what was written so far is on the disk, if the bytes are a file's.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self, n: usize) -> io::Result<()> {
        if self.file.is_some() { self.map.flush_range(0, n) } else { Ok(()) }
    }

    /// From now on every record ends with a check.
    pub fn set_checksum(&mut self, checksum: Checksum) {
        self.checksum = Some(checksum);
    }

    /// How records are checked, if they are.
    #[inline(always)]
    pub fn checksum(&self) -> Option<&Checksum> {
        self.checksum.as_ref()
    }

    /// Bytes of a record's check.
    #[inline(always)]
    pub fn check_bytes(&self) -> usize {
        if self.checksum.is_some() { CHECK_BYTES } else { 0 }
    }

    /// `N` bytes from `at` on.
    #[inline(always)]
    pub fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        match self.map.get(at..).and_then(|rest| rest.first_chunk()) {
            Some(bytes) => *bytes,
            None => outside(at, N),
        }
    }

    #[inline(always)]
    fn set_array<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        match self.map.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            Some(place) => *place = bytes,
            None => outside(at, N),
        }
        written();
    }

    /// The number at `at`.
    #[inline(always)]
    pub fn u8(&self, at: usize) -> u8 {
        u8::from_le_bytes(self.array(at))
    }

    /// The number at `at`.
    #[inline(always)]
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    /// The number at `at`.
    #[inline(always)]
    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    /// Writes a number at `at`.
    #[inline(always)]
    pub fn set_u8(&mut self, at: usize, number: u8) {
        self.set_array(at, number.to_le_bytes());
    }

    /// Writes a number at `at`.
    #[inline(always)]
    pub fn set_u32(&mut self, at: usize, number: u32) {
        self.set_array(at, number.to_le_bytes());
    }

    /// Writes a number at `at`.
    #[inline(always)]
    pub fn set_u64(&mut self, at: usize, number: u64) {
        self.set_array(at, number.to_le_bytes());
    }

    /// `n` bytes from `at` on.
    #[inline(always)]
    pub fn slice(&self, at: usize, n: usize) -> &[u8] {
        match self.map.get(at..).and_then(|rest| rest.get(..n)) {
            Some(bytes) => bytes,
            None => outside(at, n),
        }
    }

    /// `n` bytes from `at` on.
    #[inline(always)]
    pub fn slice_mut(&mut self, at: usize, n: usize) -> &mut [u8] {
        match self.map.get_mut(at..).and_then(|rest| rest.get_mut(..n)) {
            Some(bytes) => bytes,
            None => outside(at, n),
        }
    }

    /// The bytes of each of these ranges, given by start and length, which have none in common.
    #[inline]
    pub fn slices_mut<const N: usize>(&mut self, ranges: [(usize, usize); N]) -> [&mut [u8]; N] {
        let (at, n) = ranges.first().copied().unwrap_or_default();
        match self.map.get_disjoint_mut(ranges.map(|(at, n)| at..at + n)) {
            Ok(slices) => slices,
            Err(_) => outside(at, n),
        }
    }

    /// Writes `bytes` at `at`.
    #[inline(always)]
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        self.slice_mut(at, bytes.len()).copy_from_slice(bytes);
        written();
    }

    /// Copies `n` bytes.
    #[inline]
    pub fn copy(&mut self, from: usize, to: usize, n: usize) {
        self.map.copy_within(from..from + n, to);
        written();
    }

    /// Makes `n` bytes 0.
    pub fn clear(&mut self, at: usize, n: usize) {
        self.slice_mut(at, n).fill(0);
        written();
    }

    /// What was written before is there before what is written after, should the process end in
    /// between. A killed process's stores all arrive, in the order of its instructions, so only the
    /// compiler has to be told.
    #[inline(always)]
    pub fn in_order(&self) {
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    }

    /// Prefetches the cache line at `at`.
    #[inline(always)]
    pub fn prefetch(&self, at: usize) {
        buffer::prefetch_range::<LINE_BYTES>((self.map.as_ptr() as usize).wrapping_add(at));
    }

    /// Prefetches the first lines of a record.
    #[inline(always)]
    pub fn prefetch_record(&self, at: usize) {
        buffer::prefetch_range::<AHEAD_BYTES>((self.map.as_ptr() as usize).wrapping_add(at));
    }
}

#[cold]
#[inline(never)]
fn outside(at: usize, n: usize) -> ! {
    panic!("{n} bytes at {at} are not in the region");
}

#[cfg(not(test))]
#[inline(always)]
fn written() {}

#[cfg(test)]
thread_local! {
    /// Writes left before the program is stopped.
    pub static WRITES_LEFT: std::cell::Cell<u64> = const { std::cell::Cell::new(u64::MAX) };
}

/// What a test's stop unwinds with.
#[cfg(test)]
pub struct Killed;

#[cfg(test)]
fn written() {
    WRITES_LEFT.with(|left| match left.get() {
        u64::MAX => {}
        0 => {
            left.set(u64::MAX);
            // Not a panic: nobody needs to read of it.
            std::panic::resume_unwind(Box::new(Killed));
        }
        n => left.set(n - 1),
    });
}
