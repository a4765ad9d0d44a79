//! Memory that disks read into and write from: aligned, mapped once, never given back to the kernel
//! while anybody holds a piece of it.
//!
//! A [`Buffer`] has one owner, who may write to it. What is to be written to disk is frozen first:
//! [`Buffer::freeze`] gives a [`Frozen`] piece that nobody can change any more, which an I/O owns
//! while the buffer's owner goes on reading all of it and filling the rest. The memory returns to
//! its pool when the buffer and all its pieces are gone. A pool belongs to one thread.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

use memmap2::MmapMut;

use crate::base::buffer::map_huge;
use crate::base::limits::{
    SSD_BLOCK_BYTES, SSD_WRITE_BUFFER_BYTES, SSD_WRITE_BUFFERS, ssd_read_buffers,
};

/// The buffers of one worker's disk. Copies are the same pool.
#[derive(Clone)]
pub struct Pool(Rc<Region>);

struct Region {
    /// Start of `map`, taken once: buffers hold references into the mapping, so that nothing may
    /// borrow the whole of it again.
    start: NonNull<u8>,
    map: MmapMut,
    places: Box<[BufferPlace]>,
    /// Those of reads, shortest first, and last the one of writes.
    classes: Box<[Class]>,
}

/// Where one buffer lies.
struct BufferPlace {
    offset_bytes: usize,
    class: usize,
    /// The buffer and its frozen pieces that are still there.
    holders: Cell<u32>,
}

struct Class {
    len_bytes: usize,
    count: usize,
    free: RefCell<Vec<u32>>,
}

impl Pool {
    /// A pool with the buffers that `limits` says for items of up to `item_bytes_max`.
    ///
    /// # Errors
    /// The kernel's, if it has no such amount of memory.
    pub fn new(item_bytes_max: usize) -> io::Result<Pool> {
        Pool::with_buffers(
            &ssd_read_buffers(item_bytes_max),
            (SSD_WRITE_BUFFER_BYTES, SSD_WRITE_BUFFERS),
        )
    }

    /// A pool with these buffers, as length in bytes and number: `reads` with the longest last.
    ///
    /// # Errors
    /// As [`Pool::new`].
    ///
    /// # Panics
    /// If a length is no multiple of a block.
    pub fn with_buffers(reads: &[(usize, usize)], writes: (usize, usize)) -> io::Result<Pool> {
        let mut places = Vec::new();
        let mut classes = Vec::new();
        let mut bytes = 0;
        let longest_read = reads.last().map_or(0, |(len_bytes, _)| *len_bytes);
        for &(len_bytes, count) in reads.iter().chain([&writes]) {
            assert!(len_bytes > 0 && len_bytes.is_multiple_of(SSD_BLOCK_BYTES), "whole blocks");
            let class = classes.len();
            // A class longer than the longest read has no use.
            let count = if class < reads.len() && len_bytes > longest_read { 0 } else { count };
            let mut free = Vec::with_capacity(count);
            for _ in 0..count {
                free.push(places.len() as u32);
                places.push(BufferPlace { offset_bytes: bytes, class, holders: Cell::new(0) });
                bytes += len_bytes;
            }
            // The lowest first, so that those in use stay close together.
            free.reverse();
            classes.push(Class { len_bytes, count, free: RefCell::new(free) });
        }
        let mut map = map_huge(bytes)?;
        let start = NonNull::new(map.as_mut_ptr()).ok_or(io::ErrorKind::OutOfMemory)?;
        let (places, classes) = (places.into(), classes.into());
        Ok(Pool(Rc::new(Region { start, map, places, classes })))
    }

    /// A buffer to read `len_bytes` into, of the shortest length that is enough for them. Its bytes
    /// are whatever they were last. None: all of that length are in use, and the read has to wait;
    /// or none is long enough (see [`Pool::read_bytes_max`]).
    pub fn read_buffer(&self, len_bytes: usize) -> Option<Buffer> {
        let reads = self.0.classes.len() - 1;
        let fits = |class: &Class| class.len_bytes >= len_bytes && class.count > 0;
        let class = self.0.classes[..reads].iter().position(fits)?;
        self.take(class)
    }

    /// A buffer to gather what is to be written; its bytes are whatever they were last. None: all
    /// are in use.
    pub fn write_buffer(&self) -> Option<Buffer> {
        self.take(self.0.classes.len() - 1)
    }

    /// Length of the longest buffer for reads, in bytes.
    pub fn read_bytes_max(&self) -> usize {
        let reads = self.0.classes.len() - 1;
        self.0.classes[..reads].last().map_or(0, |class| class.len_bytes)
    }

    /// Memory of all the buffers, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.0.map.len()
    }

    /// Buffers that nobody holds.
    pub fn free(&self) -> usize {
        self.0.classes.iter().map(|class| class.free.borrow().len()).sum()
    }

    /// Where its memory starts; there are [`Pool::size_bytes`] of it.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.0.start
    }

    fn take(&self, class: usize) -> Option<Buffer> {
        let place = self.0.classes[class].free.borrow_mut().pop()?;
        self.0.places[place as usize].holders.set(1);
        let len_bytes = self.0.classes[class].len_bytes;
        Some(Buffer {
            held: Held { region: Rc::clone(&self.0), place },
            len_bytes,
            frozen_bytes: 0,
        })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} of {} buffers free)", self.free(), self.0.places.len())
    }
}

/// A share in one place of the pool.
struct Held {
    region: Rc<Region>,
    place: u32,
}

impl Held {
    fn place(&self) -> &BufferPlace {
        &self.region.places[self.place as usize]
    }

    #[allow(unsafe_code, reason = "an address inside the pool's mapping")]
    fn address(&self, offset_bytes: usize) -> NonNull<u8> {
        // SAFETY: the place lies within the mapping, and callers stay within the place: they assert
        // that `offset_bytes` is at most its length.
        unsafe { self.region.start.add(self.place().offset_bytes + offset_bytes) }
    }
}

impl Clone for Held {
    fn clone(&self) -> Held {
        let holders = &self.place().holders;
        holders.set(holders.get() + 1);
        Held { region: Rc::clone(&self.region), place: self.place }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let place = self.place();
        let left = place.holders.get() - 1;
        place.holders.set(left);
        if left == 0 {
            self.region.classes[place.class].free.borrow_mut().push(self.place);
        }
    }
}

/// Memory for one I/O, or for several writes one after another; aligned to a block.
pub struct Buffer {
    held: Held,
    len_bytes: usize,
    /// Of the first so many there are, or were, frozen pieces: nobody may change them.
    frozen_bytes: usize,
}

impl Buffer {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len_bytes
    }

    /// Whether it has no bytes; it never is.
    pub fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// How many of its first bytes are frozen.
    pub fn frozen_bytes(&self) -> usize {
        self.frozen_bytes
    }

    /// What is not frozen: the bytes from [`Buffer::frozen_bytes`] on.
    #[allow(unsafe_code, reason = "bytes of the pool's mapping that this buffer alone may change")]
    pub fn open_mut(&mut self) -> &mut [u8] {
        let start = self.held.address(self.frozen_bytes);
        // SAFETY: the place was this buffer's alone when it was taken, frozen pieces end where
        // `frozen_bytes` begins, and the mapping lives as long as `held`. An I/O that reads into
        // the buffer owns it, so the kernel is not writing here meanwhile.
        unsafe {
            std::slice::from_raw_parts_mut(start.as_ptr(), self.len_bytes - self.frozen_bytes)
        }
    }

    /// Freezes the next `len_bytes` of it, for a write to take. The owner goes on reading the whole
    /// buffer and changing what comes behind them.
    ///
    /// # Panics
    /// If so many are not left, or they are no whole blocks.
    pub fn freeze(&mut self, len_bytes: usize) -> Frozen {
        assert!(len_bytes.is_multiple_of(SSD_BLOCK_BYTES), "whole blocks");
        assert!(len_bytes <= self.len_bytes - self.frozen_bytes, "what is left");
        let start_bytes = self.frozen_bytes;
        self.frozen_bytes += len_bytes;
        Frozen { held: self.held.clone(), start_bytes, len_bytes }
    }

    /// Where the kernel reads to. Nothing of it may be frozen.
    pub(super) fn address(&mut self) -> NonNull<u8> {
        assert!(self.frozen_bytes == 0, "a read does not change what is frozen");
        self.held.address(0)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[allow(unsafe_code, reason = "bytes of the pool's mapping that this buffer holds")]
    fn deref(&self) -> &[u8] {
        // SAFETY: as in `open_mut`; nobody changes bytes of the place but through this buffer,
        // which is borrowed.
        unsafe { std::slice::from_raw_parts(self.held.address(0).as_ptr(), self.len_bytes) }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes, {} frozen)", self.len_bytes, self.frozen_bytes)
    }
}

/// Bytes of a buffer that nobody changes any more; as long as a piece is there they stay. Copies
/// are the same bytes.
#[derive(Clone)]
pub struct Frozen {
    held: Held,
    start_bytes: usize,
    len_bytes: usize,
}

impl Frozen {
    /// Where the kernel writes from.
    pub(super) fn address(&self) -> NonNull<u8> {
        self.held.address(self.start_bytes)
    }
}

impl Deref for Frozen {
    type Target = [u8];

    #[allow(unsafe_code, reason = "bytes of the pool's mapping that are frozen")]
    fn deref(&self) -> &[u8] {
        // SAFETY: the piece lies in its buffer's place, which goes to nobody else while `held` is
        // there, and the buffer does not give frozen bytes to be changed.
        unsafe { std::slice::from_raw_parts(self.address().as_ptr(), self.len_bytes) }
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frozen({} bytes)", self.len_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool::with_buffers(&[(4096, 2), (16384, 1), (65536, 1)], (131_072, 1)).expect("memory")
    }

    #[test]
    fn a_buffer_is_the_shortest_that_is_enough_and_goes_back_when_dropped() {
        let pool = pool();
        assert_eq!(pool.free(), 5);
        let one = pool.read_buffer(1).expect("free");
        let two = pool.read_buffer(4096).expect("free");
        assert_eq!((one.len(), two.len()), (4096, 4096));
        assert!(pool.read_buffer(4096).is_none(), "a longer one is for longer reads");
        let long = pool.read_buffer(4097).expect("free");
        assert_eq!(long.len(), 16384);
        assert!(pool.read_buffer(65537).is_none(), "longer than any");
        assert_eq!(pool.read_bytes_max(), 65536);
        let write = pool.write_buffer().expect("free");
        assert_eq!(write.len(), 131_072);
        assert!(pool.write_buffer().is_none());
        drop((one, two, long, write));
        assert_eq!(pool.free(), 5);
    }

    #[test]
    fn buffers_are_aligned_and_do_not_overlap() {
        let pool = pool();
        let mut all: Vec<Buffer> = [4096, 4096, 8192, 65536]
            .into_iter()
            .map(|len| pool.read_buffer(len).expect("free"))
            .chain([pool.write_buffer().expect("free")])
            .collect();
        for (i, buffer) in all.iter_mut().enumerate() {
            assert!(buffer.as_ptr().addr().is_multiple_of(4096));
            buffer.open_mut().fill(i as u8 + 1);
        }
        for (i, buffer) in all.iter().enumerate() {
            assert!(buffer.iter().all(|byte| *byte == i as u8 + 1));
        }
    }

    #[test]
    fn frozen_bytes_stay_while_the_rest_is_filled_and_keep_the_place() {
        let pool = pool();
        let mut buffer = pool.write_buffer().expect("free");
        buffer.open_mut().fill(1);
        let first = buffer.freeze(4096);
        let second = buffer.freeze(8192);
        assert_eq!((first.len(), second.len(), buffer.frozen_bytes()), (4096, 8192, 12288));
        buffer.open_mut().fill(2);
        assert!(first.iter().chain(second.iter()).all(|byte| *byte == 1));
        assert_eq!((buffer[12287], buffer[12288]), (1, 2));
        assert_eq!(buffer.open_mut().len(), 131_072 - 12288);
        drop(buffer);
        let copy = second.clone();
        drop((first, second));
        assert!(pool.write_buffer().is_none(), "a piece is still there");
        drop(copy);
        assert!(pool.write_buffer().is_some_and(|buffer| buffer.frozen_bytes() == 0));
    }

    #[test]
    fn memory_stays_while_a_piece_outlives_its_pool() {
        let mut buffer = pool().write_buffer().expect("free");
        buffer.open_mut().fill(7);
        let piece = buffer.freeze(131_072);
        drop(buffer);
        assert!(piece.iter().all(|byte| *byte == 7));
    }

    #[test]
    #[should_panic(expected = "frozen")]
    fn what_is_frozen_is_not_read_into() {
        let mut buffer = pool().write_buffer().expect("free");
        let _piece = buffer.freeze(4096);
        let _ = buffer.address();
    }
}
