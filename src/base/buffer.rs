//! Pooled memory: a worker takes and returns it without calling the allocator.
//!
//! [`Chain`] holds the bytes of one value in pooled blocks; [`Key`] holds a key inline;
//! [`map_huge`] maps the large regions that hold everything long-lived. Free blocks are in the
//! thread's cache; a thread that has too many (values cross workers) moves the surplus to a depot
//! that all threads share. Nothing here may grow by a peer's number: code that gathers bytes into a
//! chain accounts for them against a budget from `limits`.

mod conversions;
mod fifo;

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicIsize, AtomicUsize};

use arrayvec::ArrayVec;
use crossbeam_queue::ArrayQueue;
use memmap2::{Advice, MmapMut, MmapOptions};

use crate::base::limits::{
    BLOCK_BYTES, BLOCK_CACHE_BLOCKS, BLOCK_STOCK_BLOCKS, KEY_BYTES_MAX, RECEIVE_PIECES,
};

pub use fifo::Fifo;

/// A key, stored inline.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(ArrayVec<u8, KEY_BYTES_MAX>);

impl Key {
    /// The key of operations without a key.
    pub const EMPTY: Key = Key(ArrayVec::new_const());

    /// A copy of `bytes`, or None if they exceed the limit for keys.
    pub fn new(bytes: &[u8]) -> Option<Key> {
        ArrayVec::try_from(bytes).ok().map(Key)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", String::from_utf8_lossy(self.as_bytes()))
    }
}

struct Block {
    next: Option<Box<Block>>,
    bytes: [u8; BLOCK_BYTES],
}

/// Blocks that no thread needs at the moment. Bounded, so that the memory of a burst is eventually
/// freed.
static DEPOT: OnceLock<ArrayQueue<Box<Block>>> = OnceLock::new();

/// Most blocks in the depot: what [`WORKERS_MAX`](crate::base::limits::WORKERS_MAX) workers return
/// at the same time.
const DEPOT_BLOCKS: usize = crate::base::limits::WORKERS_MAX * BLOCK_CACHE_BLOCKS / 2;

fn depot() -> &'static ArrayQueue<Box<Block>> {
    DEPOT.get_or_init(|| ArrayQueue::new(DEPOT_BLOCKS))
}

/// A thread's free blocks, and its part of the count.
struct Cache {
    #[allow(clippy::vec_box, reason = "blocks move between caches and chains by pointer")]
    blocks: Vec<Box<Block>>,
    /// Blocks taken minus blocks returned that are not in [`USED`] yet.
    uncounted: isize,
}

impl Cache {
    /// Counts `blocks` more in use. In batches, so that threads do not contend for the sum.
    #[inline]
    fn count(&mut self, blocks: isize) {
        self.uncounted += blocks;
        if self.uncounted.unsigned_abs() >= COUNTED_BLOCKS {
            USED.fetch_add(std::mem::take(&mut self.uncounted), Relaxed);
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        USED.fetch_add(self.uncounted, Relaxed);
    }
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::new(Cache {
        blocks: Vec::with_capacity(BLOCK_CACHE_BLOCKS),
        uncounted: 0,
    });
}

/// A thread adds its count to the sum when it reaches this many blocks.
const COUNTED_BLOCKS: usize = 64;

/// Blocks held by chains, except what threads have not counted yet.
static USED: AtomicIsize = AtomicIsize::new(0);

/// Bytes in chains above which replies are no longer gathered; 0: no limit.
static GATHER_BYTES_MAX: AtomicUsize = AtomicUsize::new(0);

/// Bytes of the blocks in the chains of all threads, to within 256 KiB per thread.
pub fn bytes_in_use() -> usize {
    usize::try_from(USED.load(Relaxed)).unwrap_or(0) * BLOCK_BYTES
}

/// Sets the number of bytes in chains above which [`may_gather`] refuses. If it is set several
/// times in a process, the largest number applies.
pub fn limit_gathering(bytes_max: usize) {
    GATHER_BYTES_MAX.fetch_max(bytes_max, Relaxed);
}

/// Whether `bytes` more may be gathered without a reservation. What fits into one block always may:
/// the number of requests in flight bounds it.
pub fn may_gather(bytes: usize) -> bool {
    let bytes_max = GATHER_BYTES_MAX.load(Relaxed);
    bytes <= BLOCK_BYTES || bytes_max == 0 || bytes_in_use().saturating_add(bytes) <= bytes_max
}

/// Blocks ever allocated, for tests of what is bounded.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// How many blocks all threads have allocated so far; they are reused and seldom freed.
#[cfg(feature = "internals")]
pub fn blocks_made() -> usize {
    MADE.load(Relaxed)
}

fn new_block() -> Box<Block> {
    MADE.fetch_add(1, Relaxed);
    Box::new(Block { next: None, bytes: [0; BLOCK_BYTES] })
}

/// Fills the calling thread's cache and its share of the depot, so that requests find blocks there.
pub fn prepare_thread() {
    for _ in 0..BLOCK_STOCK_BLOCKS {
        // A full depot is enough for all threads.
        let _ = depot().push(new_block());
    }
    CACHE.with_borrow_mut(|cache| {
        while cache.blocks.len() < BLOCK_CACHE_BLOCKS / 2 {
            cache.blocks.push(new_block());
        }
    });
}

fn take_block() -> Box<Block> {
    CACHE.with_borrow_mut(|cache| {
        cache.count(1);
        if cache.blocks.is_empty() {
            for _ in 0..BLOCK_CACHE_BLOCKS / 4 {
                match depot().pop() {
                    Some(block) => cache.blocks.push(block),
                    None => break,
                }
            }
        }
        cache.blocks.pop().unwrap_or_else(new_block)
    })
}

fn give_block(block: Box<Block>) {
    // A thread that is ending no longer has a cache; its blocks go to the allocator.
    let kept = CACHE.try_with(|cache| {
        let mut cache = cache.borrow_mut();
        cache.count(-1);
        if cache.blocks.len() == BLOCK_CACHE_BLOCKS {
            for surplus in cache.blocks.drain(BLOCK_CACHE_BLOCKS / 2..) {
                if depot().push(surplus).is_err() {
                    break;
                }
            }
        }
        cache.blocks.push(block);
    });
    if kept.is_err() {
        USED.fetch_sub(1, Relaxed);
    }
}

/// The bytes of one value, in pooled blocks that are returned when the chain is dropped.
///
/// While it is being gathered, a chain has its newest block first; [`Gather::finish`] reverses the
/// order.
#[derive(Default)]
pub struct Chain {
    head: Option<Box<Block>>,
    len: usize,
}

impl Chain {
    /// No bytes.
    pub const fn new() -> Chain {
        Chain { head: None, len: 0 }
    }

    /// A copy of `bytes`.
    pub fn from_slice(bytes: &[u8]) -> Chain {
        let mut gather = Gather::new();
        gather.extend(bytes);
        gather.finish()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes in order, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = self.len;
        let mut next = self.head.as_deref();
        std::iter::from_fn(move || {
            let block = next?;
            next = block.next.as_deref();
            let n = left.min(BLOCK_BYTES);
            left -= n;
            Some(&block.bytes[..n])
        })
    }

    /// Copies bytes from `offset` on into `out`, at most its length; returns how many.
    pub fn copy_to(&self, offset: usize, out: &mut [u8]) -> usize {
        let mut done = 0;
        let mut skip = offset;
        for piece in self.pieces() {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let n = (piece.len() - skip).min(out.len() - done);
            out[done..done + n].copy_from_slice(&piece[skip..skip + n]);
            skip = 0;
            done += n;
            if done == out.len() {
                break;
            }
        }
        done
    }

    /// Returns the blocks that lie wholly before `offset` to the pool. Returns their length in
    /// bytes, by which all later offsets decrease.
    pub fn discard_before(&mut self, offset: usize) -> usize {
        let mut discarded = 0;
        while offset - discarded >= BLOCK_BYTES
            && let Some(mut block) = self.head.take()
        {
            self.head = block.next.take();
            give_block(block);
            discarded += BLOCK_BYTES.min(self.len);
            self.len -= BLOCK_BYTES.min(self.len);
        }
        discarded
    }

    /// All bytes in one vector; for tests and for values known to be short.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0; self.len];
        self.copy_to(0, &mut out);
        out
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({} bytes)", self.len)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // In a loop: the drop that the compiler generates would recurse once per block.
        let mut next = self.head.take();
        while let Some(mut block) = next {
            next = block.next.take();
            give_block(block);
        }
    }
}

/// The bytes of a value to be stored, and where they are.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// In the receive buffer.
    Slice(&'a [u8]),
    /// In pooled blocks.
    Chain(&'a Chain),
}

impl Body<'_> {
    /// No bytes.
    pub const EMPTY: Body<'static> = Body::Slice(b"");

    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Body::Slice(bytes) => bytes.len(),
            Body::Chain(chain) => chain.len(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `take` with the bytes in order, piece by piece.
    #[inline]
    pub fn for_each_piece(&self, mut take: impl FnMut(&[u8])) {
        match self {
            Body::Slice(bytes) => take(bytes),
            Body::Chain(chain) => chain.pieces().for_each(take),
        }
    }
}

/// A chain that is being filled.
#[derive(Debug, Default)]
pub struct Gather {
    /// Newest block first.
    chain: Chain,
    /// Free bytes at the end of the newest block.
    room: usize,
}

impl Gather {
    /// An empty one.
    pub const fn new() -> Gather {
        Gather { chain: Chain::new(), room: 0 }
    }

    /// Bytes gathered so far.
    pub fn len(&self) -> usize {
        self.chain.len
    }

    /// Whether nothing was gathered yet.
    pub fn is_empty(&self) -> bool {
        self.chain.len == 0
    }

    /// Appends `bytes`.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.fill(bytes.len(), |offset, out| {
            out.copy_from_slice(&bytes[offset..offset + out.len()]);
            out.len()
        });
    }

    /// Appends `bytes` bytes: `fill` gets the offset and the destination of each piece and fills it
    /// completely.
    pub fn fill(&mut self, bytes: usize, mut fill: impl FnMut(usize, &mut [u8]) -> usize) {
        let mut done = 0;
        while done < bytes {
            let out = self.room();
            let n = out.len().min(bytes - done);
            let filled = fill(done, &mut out[..n]);
            assert_eq!(filled, n, "a value is as long as it says");
            self.room -= n;
            self.chain.len += n;
            done += n;
        }
    }

    /// Appends up to `bytes_max` bytes: `receive` fills the given pieces in order and returns how
    /// many bytes it wrote, which is also returned here.
    pub fn receive(
        &mut self,
        bytes_max: usize,
        receive: impl FnOnce(&mut [IoSliceMut<'_>]) -> usize,
    ) -> usize {
        let in_newest = self.room.min(bytes_max);
        let mut fresh = ArrayVec::<Box<Block>, { RECEIVE_PIECES - 1 }>::new();
        while in_newest + fresh.len() * BLOCK_BYTES < bytes_max && !fresh.is_full() {
            fresh.push(take_block());
        }
        let mut slices = ArrayVec::<IoSliceMut<'_>, RECEIVE_PIECES>::new();
        if let Some(newest) = self.chain.head.as_mut().filter(|_| in_newest > 0) {
            let start = BLOCK_BYTES - self.room;
            slices.push(IoSliceMut::new(&mut newest.bytes[start..start + in_newest]));
        }
        let mut offered = in_newest;
        for block in &mut fresh {
            let n = BLOCK_BYTES.min(bytes_max - offered);
            slices.push(IoSliceMut::new(&mut block.bytes[..n]));
            offered += n;
        }
        let received = receive(&mut slices);
        drop(slices);
        assert!(received <= offered, "more than the pieces hold");
        self.chain.len += received;
        let mut left = received - received.min(in_newest);
        self.room -= received - left;
        for mut block in fresh {
            if left == 0 {
                give_block(block);
                continue;
            }
            block.next = self.chain.head.take();
            self.chain.head = Some(block);
            let n = left.min(BLOCK_BYTES);
            self.room = BLOCK_BYTES - n;
            left -= n;
        }
        received
    }

    /// The free bytes of the newest block, at least one.
    fn room(&mut self) -> &mut [u8] {
        if self.room == 0 {
            let mut block = take_block();
            block.next = self.chain.head.take();
            self.chain.head = Some(block);
            self.room = BLOCK_BYTES;
        }
        let Some(block) = self.chain.head.as_mut() else { unreachable!("pushed above") };
        &mut block.bytes[BLOCK_BYTES - self.room..]
    }

    /// The gathered bytes, in order.
    pub fn finish(mut self) -> Chain {
        let mut ordered = None;
        let mut next = self.chain.head.take();
        while let Some(mut block) = next {
            next = std::mem::replace(&mut block.next, ordered);
            ordered = Some(block);
        }
        Chain { head: ordered, len: std::mem::take(&mut self.chain.len) }
    }
}

/// Maps `bytes` bytes of zeroed memory, on huge pages if the kernel has them.
///
/// # Errors
/// If the kernel does not have that much address space.
pub fn map_huge(bytes: usize) -> io::Result<MmapMut> {
    let map = MmapMut::map_anon(bytes.max(1))?;
    // A hint: the region also works without transparent huge pages.
    let _ = map.advise(Advice::HugePage);
    Ok(map)
}

/// Maps the first `bytes` bytes of a file, shared with whoever maps them later.
///
/// # Errors
/// The kernel's.
#[allow(unsafe_code, reason = "a file is mapped")]
pub fn map_file(file: &File, bytes: usize) -> io::Result<MmapMut> {
    // SAFETY: the caller holds the file's lock and has made it so long. That no other process
    // writes it or makes it shorter while it is mapped is the operator's to see to, as the mode of
    // the file does: bytes that change by themselves, or a SIGBUS, would be what came of it.
    unsafe { MmapOptions::new().len(bytes).map_mut(file) }
}

/// Like [`map_huge`], for memory that is used until the process ends.
///
/// # Errors
/// As [`map_huge`].
pub fn map_huge_forever(bytes: usize) -> io::Result<&'static mut [u8]> {
    Ok(&mut Box::leak(Box::new(map_huge(bytes)?))[..])
}

/// A vector that never moves: its whole address range is reserved in advance, on huge pages, and a
/// page uses memory only after an element on it is first pushed.
pub struct HugeVec<T> {
    map: MmapMut,
    len: usize,
    capacity: usize,
    elements: PhantomData<T>,
}

impl<T> HugeVec<T> {
    /// An empty vector with room for `capacity` elements.
    ///
    /// # Errors
    /// As [`map_huge`].
    pub fn with_capacity(capacity: usize) -> io::Result<HugeVec<T>> {
        const { assert!(align_of::<T>() <= 4096, "a page's alignment is all that mmap promises") };
        let bytes = capacity.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(HugeVec { map: map_huge(bytes)?, len: 0, capacity, elements: PhantomData })
    }

    /// The largest number of elements.
    #[cfg(feature = "internals")]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Appends `value`.
    ///
    /// # Panics
    /// If the vector is full.
    #[allow(unsafe_code, reason = "elements are built in mapped memory")]
    pub fn push(&mut self, value: T) {
        assert!(self.len < self.capacity, "a full HugeVec");
        // SAFETY: the map holds `capacity` elements, is aligned to a page, and slot `len` is below
        // the capacity and holds no element yet.
        unsafe { self.map.as_mut_ptr().cast::<T>().add(self.len).write(value) };
        self.len += 1;
    }

    /// The address of element `index`, which need not exist.
    #[inline(always)]
    pub fn address(&self, index: usize) -> usize {
        (self.map.as_ptr() as usize).wrapping_add(index.wrapping_mul(size_of::<T>()))
    }
}

impl<T> Deref for HugeVec<T> {
    type Target = [T];

    #[inline(always)]
    #[allow(unsafe_code, reason = "elements live in mapped memory")]
    fn deref(&self) -> &[T] {
        // SAFETY: `push` built the first `len` elements, and nothing else writes the map.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.len) }
    }
}

impl<T> DerefMut for HugeVec<T> {
    #[inline(always)]
    #[allow(unsafe_code, reason = "elements live in mapped memory")]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast(), self.len) }
    }
}

impl<T> Drop for HugeVec<T> {
    #[allow(unsafe_code, reason = "elements live in mapped memory")]
    fn drop(&mut self) {
        // SAFETY: the elements are dropped once, here, and the map is unmapped right after.
        unsafe { std::ptr::drop_in_place::<[T]>(&mut **self) }
    }
}

/// Reserves room for `count` values that live until the process ends, on huge pages that use memory
/// only after they are first written. Take values from it with `split_first_mut`.
///
/// # Errors
/// As [`map_huge`].
#[allow(unsafe_code, reason = "a byte region becomes uninitialised places for values")]
pub fn huge_slots_forever<T>(count: usize) -> io::Result<&'static mut [MaybeUninit<T>]> {
    const { assert!(align_of::<T>() <= 4096, "a page's alignment is all that mmap promises") };
    let bytes = count.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
    let region = map_huge_forever(bytes)?;
    // SAFETY: the region is aligned to a page, holds `count` values, is never unmapped, and this is
    // its only reference; MaybeUninit allows any content.
    Ok(unsafe { std::slice::from_raw_parts_mut(region.as_mut_ptr().cast(), count) })
}

/// Prefetches the cache lines of `BYTES` bytes from address `start` on. Has no visible effect,
/// whatever the address is.
#[inline(always)]
#[allow(unsafe_code, reason = "a prefetch is an intrinsic")]
pub fn prefetch_range<const BYTES: usize>(start: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..BYTES.div_ceil(64) {
        // SAFETY: the instruction never faults, at no address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let at = start.wrapping_add(line * 64);
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance::<i8>(at));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = start;
}

/// Prefetches the cache line at `target`. Has no visible effect.
#[inline(always)]
#[allow(unsafe_code, reason = "a prefetch is an intrinsic")]
pub fn prefetch<T>(target: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction never faults, and the reference is valid anyway.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(target).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = target;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_returns_the_gathered_bytes() {
        let bytes: Vec<u8> = (0..3 * BLOCK_BYTES + 7).map(|i| (i * 31 % 251) as u8).collect();
        for step in [1, 100, BLOCK_BYTES, bytes.len()] {
            let mut gather = Gather::new();
            for piece in bytes.chunks(step) {
                gather.extend(piece);
            }
            let chain = gather.finish();
            assert_eq!(chain.len(), bytes.len());
            assert_eq!(chain.to_vec(), bytes);
            let mut tail = [0; 100];
            assert_eq!(chain.copy_to(bytes.len() - 50, &mut tail), 50);
            assert_eq!(tail[..50], bytes[bytes.len() - 50..]);
        }
        assert_eq!(Chain::new().to_vec(), b"");
    }

    #[test]
    fn bytes_received_in_pieces_are_in_order() {
        let bytes: Vec<u8> = (0..3 * BLOCK_BYTES + 7).map(|i| (i * 31 % 251) as u8).collect();
        for step in [1, 100, BLOCK_BYTES, BLOCK_BYTES + 1, bytes.len()] {
            let mut gather = Gather::new();
            gather.extend(&bytes[..5]);
            while gather.len() < bytes.len() {
                let rest = &bytes[gather.len()..];
                let received = gather.receive(rest.len(), |pieces| {
                    let mut done = 0;
                    for piece in pieces {
                        let n = piece.len().min(step.min(rest.len()) - done);
                        piece[..n].copy_from_slice(&rest[done..done + n]);
                        done += n;
                    }
                    done
                });
                assert_eq!(received, step.min(rest.len()));
            }
            assert_eq!(gather.finish().to_vec(), bytes, "step {step}");
        }
        let mut most = Gather::new();
        let offered = |pieces: &mut [IoSliceMut<'_>]| {
            assert_eq!(pieces.len(), RECEIVE_PIECES - 1);
            0
        };
        assert_eq!(most.receive(1 << 30, offered), 0);
        assert!(most.is_empty());
    }

    #[test]
    fn a_huge_vec_keeps_and_drops_its_elements() {
        let witness = std::rc::Rc::new(());
        let mut vec = HugeVec::with_capacity(1000).unwrap();
        for i in 0..1000u32 {
            vec.push((i, witness.clone()));
        }
        vec[999].0 += 1;
        assert!(vec.iter().map(|e| e.0).eq((0..999).chain([1000])));
        prefetch_range::<1000>(vec.address(usize::MAX));
        drop(vec);
        assert_eq!(std::rc::Rc::strong_count(&witness), 1);
    }

    #[test]
    #[should_panic(expected = "a full HugeVec")]
    fn pushing_onto_a_full_huge_vec_panics() {
        let mut vec = HugeVec::with_capacity(1).unwrap();
        vec.push(1);
        vec.push(2);
    }

    #[test]
    fn discarding_keeps_the_bytes_after_the_offset() {
        let bytes: Vec<u8> = (0..3 * BLOCK_BYTES + 7).map(|i| (i * 31 % 251) as u8).collect();
        for offset in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 5, bytes.len()] {
            let mut chain = Chain::from_slice(&bytes);
            let discarded = chain.discard_before(offset);
            assert!(discarded <= offset && offset - discarded < BLOCK_BYTES, "{offset}");
            assert_eq!(chain.to_vec(), bytes[discarded..], "{offset}");
        }
    }

    #[test]
    fn a_key_above_the_limit_is_refused() {
        assert!(Key::new(&[b'k'; 250]).is_some());
        assert!(Key::new(&[b'k'; 251]).is_none());
    }

    #[test]
    fn a_huge_chain_is_dropped_without_recursion() {
        drop(Chain::from_slice(&vec![1; 64 * 1024 * 1024]));
    }
}
