//! Limits for answers to unsolicited segments: challenges, acknowledgements in TIME-WAIT, resets to
//! unknown flows, and neighbour requests.
//!
//! A limit shared by all peers leaks information: an attacker who sends segments in another's name
//! and then counts the answers to his own learns whether that other has a connection, and
//! eventually its sequence numbers (CVE-2016-5696). So each connection has its own limit, and
//! addresses without one share theirs with few others, with different ones in each interval, and of
//! a size that nobody knows.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::flows::FlowKey;
use crate::base::limits::{
    TCP_CHALLENGES_MAX, TCP_SEEK_GROUPS, TCP_SEEKS_MAX, TCP_SEEKS_MIN, TCP_STRAY_GROUPS,
    TCP_STRAY_INTERVAL_US, TCP_STRAY_REPLIES_MAX, TCP_STRAY_REPLIES_MIN,
};

/// The answers of one connection, or of one tuple in TIME-WAIT.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    /// Number of the interval of `used`.
    interval: u32,
    used: u8,
}

impl Allowance {
    /// Whether another answer is allowed at `now_us`.
    pub fn take(&mut self, now_us: u64) -> bool {
        let interval = (now_us / TCP_STRAY_INTERVAL_US) as u32;
        if self.interval != interval {
            *self = Allowance { interval, used: 0 };
        }
        let is_free = self.used < TCP_CHALLENGES_MAX;
        self.used += u8::from(is_free);
        is_free
    }
}

/// The limit per group of peers' addresses: `LEAST` to `MOST` for each group in an interval.
pub(super) struct Grants<const GROUPS: usize, const LEAST: u16, const MOST: u16> {
    hasher: SipHasher24,
    /// Number of the interval of `left`.
    interval: u64,
    left: [u16; GROUPS],
}

/// Answers to peers without a connection.
pub(super) type Strays = Grants<TCP_STRAY_GROUPS, TCP_STRAY_REPLIES_MIN, TCP_STRAY_REPLIES_MAX>;

/// Neighbour requests on behalf of connections. The whole link sees each.
pub(super) type Seeks = Grants<TCP_SEEK_GROUPS, TCP_SEEKS_MIN, TCP_SEEKS_MAX>;

impl<const GROUPS: usize, const LEAST: u16, const MOST: u16> Grants<GROUPS, LEAST, MOST> {
    /// `secret` is known to nobody.
    pub fn new(secret: &[u8; 16]) -> Self {
        let hasher = SipHasher24::new_with_key(secret);
        let mut grants = Grants { hasher, interval: 0, left: [0; GROUPS] };
        grants.refill(0);
        grants
    }

    /// Whether the peer of `key` is allowed another one at `now_us`.
    pub fn take(&mut self, key: &FlowKey, now_us: u64) -> bool {
        let interval = now_us / TCP_STRAY_INTERVAL_US;
        if self.interval != interval {
            self.refill(interval);
        }
        let group = self.draw([interval, key.remote[0], key.remote[1]]) as usize;
        let left = &mut self.left[group % GROUPS];
        let is_free = *left > 0;
        *left -= u16::from(is_free);
        is_free
    }

    fn refill(&mut self, interval: u64) {
        self.interval = interval;
        let spread = u64::from(MOST - LEAST) + 1;
        for group in 0..GROUPS {
            let more = self.draw([interval, group as u64, u64::MAX]) % spread;
            self.left[group] = LEAST + more as u16;
        }
    }

    fn draw(&self, words: [u64; 3]) -> u64 {
        let mut hasher = self.hasher;
        words.iter().for_each(|&word| hasher.write_u64(word));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> FlowKey {
        FlowKey::v4(0x0a00_0000 | n, 0x0a00_0001, 0x1234_2bcb)
    }

    #[test]
    fn an_allowance_is_renewed_with_the_interval() {
        let mut allowance = Allowance::default();
        let taken =
            |allowance: &mut Allowance, now_us| (0..100).filter(|_| allowance.take(now_us)).count();
        assert_eq!(taken(&mut allowance, 5), usize::from(TCP_CHALLENGES_MAX));
        assert_eq!(taken(&mut allowance, TCP_STRAY_INTERVAL_US - 1), 0);
        assert_eq!(taken(&mut allowance, TCP_STRAY_INTERVAL_US), usize::from(TCP_CHALLENGES_MAX));
    }

    #[test]
    fn limits_and_groups_of_unknown_peers_change() {
        let mut strays = Strays::new(&[7; 16]);
        let mut sizes = std::collections::BTreeSet::new();
        let mut together = 0;
        for interval in 0..400 {
            let now_us = interval * TCP_STRAY_INTERVAL_US;
            let size = (0..1000).filter(|_| strays.take(&peer(1), now_us)).count();
            assert!(size >= usize::from(TCP_STRAY_REPLIES_MIN), "{size}");
            assert!(size <= usize::from(TCP_STRAY_REPLIES_MAX), "{size}");
            sizes.insert(size);
            together += u32::from(!strays.take(&peer(2), now_us));
        }
        assert!(sizes.len() > 50, "{sizes:?}");
        // One in 64, by chance and never for long.
        assert!((1..30).contains(&together), "{together}");
    }

    #[test]
    fn one_who_causes_many_neighbour_requests_takes_little_from_others() {
        let (mut seeks, mut refused) = (Seeks::new(&[7; 16]), 0);
        for interval in 0..400 {
            let now_us = interval * TCP_STRAY_INTERVAL_US;
            let taken = (0..1000).filter(|_| seeks.take(&peer(1), now_us)).count();
            assert!((usize::from(TCP_SEEKS_MIN)..=usize::from(TCP_SEEKS_MAX)).contains(&taken));
            refused += u32::from(!seeks.take(&peer(2), now_us));
        }
        // One in 16, by chance and never for long.
        assert!((5..60).contains(&refused), "{refused}");
    }
}
