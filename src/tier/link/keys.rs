//! The keys that were looked up and not answered, in order.
//!
//! An answer to a lookup of many names only the keys that have items, so the requested keys must be
//! remembered. Bounded by the requests: see `Inner::has_space`.

/// Bytes freed at the front before the rest is moved there.
const COMPACT_BYTES: usize = 4096;

/// A queue of keys of up to 255 bytes.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Each key after its length.
    bytes: Vec<u8>,
    start: usize,
}

impl Keys {
    /// Bytes used by the keys.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    #[inline]
    pub(super) fn push(&mut self, key: &[u8]) {
        self.bytes.push(u8::try_from(key.len()).expect("a key of up to 255 bytes"));
        self.bytes.extend_from_slice(key);
    }

    /// Removes the oldest key.
    #[inline]
    pub(super) fn pop(&mut self) {
        self.start += 1 + usize::from(self.bytes[self.start]);
        if self.start == self.bytes.len() {
            self.clear();
        } else if self.start >= COMPACT_BYTES && self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// How many keys are before the first that equals `key`, among the `count` oldest.
    #[inline]
    pub(super) fn before(&self, key: &[u8], count: usize) -> Option<usize> {
        let mut rest = &self.bytes[self.start..];
        for index in 0..count {
            let (&len, behind) = rest.split_first()?;
            let (other, behind) = behind.split_at(usize::from(len));
            if other == key {
                return Some(index);
            }
            rest = behind;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_leave_in_order_and_are_found_among_the_oldest() {
        let mut keys = Keys::default();
        let key = |n: usize| format!("{n}").repeat(n % 60 + 1).into_bytes();
        let (mut first, mut next) = (0, 0);
        for round in 0..400 {
            for _ in 0..round % 7 + 3 {
                keys.push(&key(next));
                next += 1;
            }
            let count = next - first;
            assert_eq!(keys.before(&key(next - 1), count), Some(count - 1));
            assert_eq!(keys.before(&key(next - 1), count - 1), None);
            assert_eq!(keys.before(b"another", count), None);
            for _ in 0..count.min(round % 5 + 3) {
                assert_eq!(keys.before(&key(first), 1), Some(0));
                keys.pop();
                first += 1;
            }
            let bytes: usize = (first..next).map(|n| 1 + key(n).len()).sum();
            assert_eq!(keys.bytes(), bytes);
        }
        while first < next {
            keys.pop();
            first += 1;
        }
        assert_eq!((keys.bytes(), keys.before(b"another", 1)), (0, None));
    }
}
