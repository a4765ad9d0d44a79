//! What operations have cost beyond their own bytes, so that who shares out turns can count it.
//!
//! A request of ten bytes may copy or look through a value of a megabyte. Whoever does that notes
//! the bytes here; code that bounds a visit or a turn compares the sum before and after. A thread,
//! and so a worker, has its own sum. Nothing here decides anything or reads a clock.

use std::cell::Cell;

thread_local! {
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// Notes that `bytes` bytes that no request carried were looked at, copied or written.
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
    fn what_is_noted_adds_up_on_its_thread_alone() {
        let before = bytes();
        note(3);
        note(4);
        std::thread::spawn(|| note(100)).join().expect("it does not panic");
        assert_eq!(since(before), 7);
    }
}
