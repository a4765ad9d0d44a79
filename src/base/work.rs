//! The work of operations beyond their own bytes, counted so that turns are shared evenly.
//!
//! A request of ten bytes may copy or scan a value of a megabyte. Code that does so notes the bytes
//! here; code that bounds a visit or a turn compares the sum before and after. Each thread, and so
//! each worker, has its own sum. Nothing here decides anything or reads a clock.

use std::cell::Cell;

thread_local! {
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// Notes that `bytes` bytes which are not part of a request were scanned, copied or written.
#[inline]
pub fn note(bytes: usize) {
    BYTES.set(BYTES.get().wrapping_add(bytes as u64));
}

/// All bytes noted on this thread so far, modulo 2^64.
#[inline]
pub fn bytes() -> u64 {
    BYTES.get()
}

/// The bytes noted since the sum was `before`.
#[inline]
pub fn since(before: u64) -> usize {
    bytes().wrapping_sub(before) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_its_own_sum() {
        let before = bytes();
        note(3);
        note(4);
        std::thread::spawn(|| note(100)).join().expect("it does not panic");
        assert_eq!(since(before), 7);
    }
}
