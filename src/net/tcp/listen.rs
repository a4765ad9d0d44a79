//! Initial sequence numbers, and the tuples in TIME-WAIT.
//!
//! Nobody outside may be able to guess the sequence numbers of another's connection, and closed
//! connections must never take more than the memory reserved here.

use std::io;

use siphasher::sip::SipHasher24;

use super::credit::Allowance;
use super::flows::FlowKey;
use crate::base::buffer::HugeVec;
use crate::base::limits::{TCP_TIME_WAIT_MAX, TCP_TIME_WAIT_US};

/// Set in a table index that refers to TIME-WAIT instead of a flow.
pub const TIME_WAIT: u32 = 1 << 31;

/// Initial sequence numbers: RFC 6528, ISN = M + F(tuple, secret), with M a clock of 4 microseconds
/// and F SipHash-2-4.
pub struct InitialSequence {
    hasher: SipHasher24,
}

impl InitialSequence {
    /// `secret` is random and known to nobody.
    pub fn new(secret: &[u8; 16]) -> InitialSequence {
        InitialSequence { hasher: SipHasher24::new_with_key(secret) }
    }

    /// The number for a connection of `key` that starts at `now_us`.
    pub fn number(&self, key: &FlowKey, now_us: u64) -> u32 {
        let f = self.hasher.hash(&key.to_bytes());
        (now_us / 4).wrapping_add(f) as u32
    }

    /// The seed with which a new smoltcp Interface draws that number for its first connection.
    ///
    /// smoltcp accepts no initial sequence number; it draws one from a generator that it seeds from
    /// its configuration, after having drawn a nonzero IPv4 identification. The generator is
    /// s' = s * M + A, its output the 32 bits above bit 29 - (s' >> 61), and it can be inverted.
    /// The bits that are not output come from SipHash: if smoltcp changed its generator, our
    /// numbers would no longer be those of RFC 6528, but no easier to guess.
    pub fn seed(&self, key: &FlowKey, now_us: u64) -> u64 {
        const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
        const INCREMENT: u64 = 0x7590_ef39;
        const INVERSE: u64 = inverse(MULTIPLIER);
        let number = u64::from(self.number(key, now_us));
        let back = |state: u64| state.wrapping_sub(INCREMENT).wrapping_mul(INVERSE);
        let mut hidden = self.hasher.hash(&now_us.to_le_bytes()) >> 35;
        loop {
            // The three topmost bits are zero, so the output begins at bit 29.
            let before = back(number << 29 | hidden);
            let drawn = (before >> (29 - (before >> 61))) as u32;
            if (drawn ^ drawn >> 16) as u16 != 0 {
                return back(before);
            }
            hidden ^= 1;
        }
    }
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut round = 0;
    while round < 6 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        round += 1;
    }
    assert!(x.wrapping_mul(odd) == 1);
    x
}

/// A connection in TIME-WAIT (RFC 9293, 3.3.2): the state needed to acknowledge its peer's FIN
/// again and to tell an old segment from a new connection.
#[derive(Clone, Copy, Debug)]
pub struct TimeWait {
    pub key: FlowKey,
    pub hash: u32,
    /// Our next sequence number.
    pub seq: u32,
    /// The peer's next sequence number.
    pub ack: u32,
    pub next_hop: [u8; 6],
    allowance: Allowance,
    is_live: bool,
    until_us: u64,
}

/// All tuples in TIME-WAIT, oldest first.
pub struct TimeWaits {
    /// A ring: record number n is at n modulo its length.
    records: HugeVec<TimeWait>,
    first: u64,
    next: u64,
}

impl TimeWaits {
    /// An empty one.
    ///
    /// # Errors
    /// As [`crate::base::buffer::map_huge`].
    pub fn new() -> io::Result<TimeWaits> {
        Ok(TimeWaits { records: HugeVec::with_capacity(TCP_TIME_WAIT_MAX)?, first: 0, next: 0 })
    }

    /// Remembers a tuple from `now_us` on; there must be room, see [`TimeWaits::take_oldest`].
    /// Returns its index.
    pub fn push(
        &mut self,
        key: FlowKey,
        hash: u32,
        [seq, ack]: [u32; 2],
        next_hop: [u8; 6],
        now_us: u64,
    ) -> u32 {
        assert!(self.next - self.first < TCP_TIME_WAIT_MAX as u64, "no room in TIME-WAIT");
        let until_us = now_us + TCP_TIME_WAIT_US;
        let allowance = Allowance::default();
        let record = TimeWait { key, hash, seq, ack, next_hop, allowance, is_live: true, until_us };
        let place = (self.next % TCP_TIME_WAIT_MAX as u64) as usize;
        match self.records.get_mut(place) {
            Some(old) => *old = record,
            None => self.records.push(record),
        }
        self.next += 1;
        place as u32
    }

    /// The record at `place`.
    pub fn get(&self, place: u32) -> &TimeWait {
        &self.records[place as usize]
    }

    /// Whether the peer of the record at `place` may get another answer.
    pub fn may_answer(&mut self, place: u32, now_us: u64) -> bool {
        self.records[place as usize].allowance.take(now_us)
    }

    /// Forgets the record at `place`; its place is reused when it is the oldest.
    pub fn forget(&mut self, place: u32) {
        self.records[place as usize].is_live = false;
    }

    /// Whether there is room for another only without the oldest.
    pub fn is_full(&self) -> bool {
        self.next - self.first == TCP_TIME_WAIT_MAX as u64
    }

    /// Drops the oldest record if its time is over at `now_us`, or unconditionally. Returns whether
    /// there was one, and its index if it was still remembered.
    pub fn take_oldest(&mut self, now_us: u64, unconditionally: bool) -> Option<Option<u32>> {
        if self.first == self.next {
            return None;
        }
        let place = (self.first % TCP_TIME_WAIT_MAX as u64) as usize;
        let record = &mut self.records[place];
        if record.is_live && record.until_us > now_us && !unconditionally {
            return None;
        }
        self.first += 1;
        Some(std::mem::take(&mut record.is_live).then_some(place as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FlowKey =
        FlowKey { remote: [0, 0xffff_0a00_0002], local: [0, 0xffff_0a00_0001], ports: 0x9c40_2bcb };

    #[test]
    fn a_number_depends_on_secret_and_tuple_and_grows_with_the_clock() {
        let ours = InitialSequence::new(&[1; 16]);
        let theirs = InitialSequence::new(&[2; 16]);
        let other = FlowKey { ports: 0x9c41_2bcb, ..KEY };
        let number = ours.number(&KEY, 1_000_000);
        assert_ne!(number, theirs.number(&KEY, 1_000_000));
        assert_ne!(number, ours.number(&other, 1_000_000));
        assert_eq!(ours.number(&KEY, 1_000_400).wrapping_sub(number), 100);
        // The difference between two tuples depends on the secret.
        let distance =
            |isn: &InitialSequence| isn.number(&other, 0).wrapping_sub(isn.number(&KEY, 0));
        assert_ne!(distance(&ours), distance(&theirs));
    }

    #[test]
    fn time_wait_expires_in_order_and_is_bounded() {
        let mut waits = TimeWaits::new().unwrap();
        for n in 0..TCP_TIME_WAIT_MAX as u64 {
            assert!(!waits.is_full());
            waits.push(KEY, 0, [n as u32, 0], [0; 6], n);
        }
        assert!(waits.is_full());
        assert_eq!(waits.take_oldest(TCP_TIME_WAIT_US - 1, false), None);
        waits.forget(0);
        assert_eq!(waits.take_oldest(0, false), Some(None));
        assert_eq!(waits.take_oldest(0, true), Some(Some(1)));
        assert_eq!(waits.push(KEY, 0, [7, 0], [0; 6], 9), 0);
        assert_eq!(waits.take_oldest(TCP_TIME_WAIT_US + 2, false), Some(Some(2)));
        assert_eq!(waits.take_oldest(TCP_TIME_WAIT_US + 2, false), None);
        assert_eq!(waits.get(0).seq, 7);
    }
}
