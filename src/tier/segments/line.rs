//! Compares all of a cache line of the index at once.
//!
//! The compiler does not see that a bit for each of eight marks takes a dozen instructions where
//! there are vectors, so they are named here; elsewhere a loop does the same.

use super::region::LINE_BYTES;

/// Bits of a slot's upper half below the mark.
const BELOW_MARK_BITS: i32 = 5;

/// Which of the eight slots of a bucket have this mark, a bit for each.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(unsafe_code, reason = "intrinsics")]
pub fn marks_equal(line: &[u8; LINE_BYTES], mark: u32) -> u32 {
    use std::arch::x86_64::{
        _mm_castps_si128, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_movemask_epi8, _mm_packs_epi16,
        _mm_packs_epi32, _mm_set_epi64x, _mm_set1_epi32, _mm_setzero_si128, _mm_shuffle_ps,
        _mm_srli_epi32,
    };
    let (words, _) = line.as_chunks::<8>();
    let word = |slot: usize| i64::from_le_bytes(words[slot]);
    // SAFETY: every x86-64 CPU has SSE2, and none of these reads or writes memory.
    unsafe {
        // The upper halves of four slots.
        let uppers = |slot: usize| {
            let a = _mm_castsi128_ps(_mm_set_epi64x(word(slot + 1), word(slot)));
            let b = _mm_castsi128_ps(_mm_set_epi64x(word(slot + 3), word(slot + 2)));
            _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(a, b))
        };
        let wanted = _mm_set1_epi32(mark as i32);
        let low = _mm_cmpeq_epi32(_mm_srli_epi32::<BELOW_MARK_BITS>(uppers(0)), wanted);
        let high = _mm_cmpeq_epi32(_mm_srli_epi32::<BELOW_MARK_BITS>(uppers(4)), wanted);
        let equal = _mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128());
        _mm_movemask_epi8(equal) as u32
    }
}

/// Which of the 31 ghosts in a line are this one, a bit for each.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(unsafe_code, reason = "intrinsics")]
pub fn ghosts_equal(line: &[u8; LINE_BYTES], ghost: u16) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set_epi64x, _mm_set1_epi16,
    };
    let (words, _) = line.as_chunks::<8>();
    let word = |i: usize| i64::from_le_bytes(words[i]);
    // SAFETY: every x86-64 CPU has SSE2, and none of these reads or writes memory.
    let mask = unsafe {
        let wanted = _mm_set1_epi16(ghost as i16);
        let equal = |i: usize| _mm_cmpeq_epi16(_mm_set_epi64x(word(i + 1), word(i)), wanted);
        let low = _mm_movemask_epi8(_mm_packs_epi16(equal(0), equal(2))) as u32;
        let high = _mm_movemask_epi8(_mm_packs_epi16(equal(4), equal(6))) as u32;
        low | high << 16
    };
    mask & (u32::MAX >> 1)
}

/// Which of the eight slots of a bucket have this mark, a bit for each.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[cfg_attr(target_arch = "x86_64", allow(dead_code, reason = "a test compares them"))]
fn marks_equal_one_by_one(line: &[u8; LINE_BYTES], mark: u32) -> u32 {
    let (words, _) = line.as_chunks::<8>();
    words.iter().enumerate().fold(0, |mask, (slot, &word)| {
        let upper = (u64::from_le_bytes(word) >> 32) as u32;
        mask | u32::from(upper >> BELOW_MARK_BITS == mark) << slot
    })
}

/// Which of the 31 ghosts in a line are this one, a bit for each.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[cfg_attr(target_arch = "x86_64", allow(dead_code, reason = "a test compares them"))]
fn ghosts_equal_one_by_one(line: &[u8; LINE_BYTES], ghost: u16) -> u32 {
    let (ghosts, _) = line.as_chunks::<2>();
    ghosts
        .iter()
        .take(31)
        .enumerate()
        .fold(0, |mask, (i, &bytes)| mask | u32::from(u16::from_le_bytes(bytes) == ghost) << i)
}

#[cfg(not(target_arch = "x86_64"))]
pub use {ghosts_equal_one_by_one as ghosts_equal, marks_equal_one_by_one as marks_equal};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_at_once_and_one_by_one_agree() {
        let mut line = [0; LINE_BYTES];
        let marks = [1_u64, 2, 0, (1 << 27) - 1, 1, 1 << 26, 7, 0];
        for (slot, mark) in marks.into_iter().enumerate() {
            let word = if mark == 0 { 0 } else { mark << 37 | 3 << 35 | 0x1234_5678 };
            line[8 * slot..8 * slot + 8].copy_from_slice(&word.to_le_bytes());
        }
        for mark in [0, 1, 2, 3, 7, 1 << 26, (1 << 27) - 1] {
            let expected = marks
                .iter()
                .enumerate()
                .fold(0, |mask, (slot, &it)| mask | u32::from(it == u64::from(mark)) << slot);
            assert_eq!(marks_equal(&line, mark), expected);
            assert_eq!(marks_equal_one_by_one(&line, mark), expected);
        }
        for (i, byte) in line.iter_mut().enumerate() {
            *byte = (i * i % 7) as u8;
        }
        for ghost in 0..2000 {
            assert_eq!(ghosts_equal(&line, ghost), ghosts_equal_one_by_one(&line, ghost));
        }
    }
}
