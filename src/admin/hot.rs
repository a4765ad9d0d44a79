//! Which keys are requested most, out of samples.
//!
//! Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k
//! elements in data streams", 2005), its smallest counters dropped in batches: a key that is
//! requested more often than the smallest counter is never missed, and a count is too large by at
//! most what it says. Counts decay, so that what was hot is forgotten. Memory is bounded, whatever
//! keys there are.

use std::collections::HashMap;

/// Keys that are remembered between two batches.
const KEYS: usize = 1_024;

/// What is left of a count after a second: half of it after five.
const DECAY: f64 = 0.870_550_563_296_124_1;

/// Requests a second of which a key has more that is shown.
const RATE_MIN: f64 = 0.1;

/// Requests a second if a count stays as it is: then it loses as many.
fn rate_of(weight: f64) -> f64 {
    weight * (1.0 - DECAY)
}

/// A key and how hot it is.
#[derive(Clone, Debug, PartialEq)]
pub struct HotKey {
    /// The key.
    pub key: Vec<u8>,
    /// Its part of all requests, from 0 to 1.
    pub share: f64,
    /// By how much that may be too large.
    pub error: f64,
    /// Requests a second.
    pub rate: f64,
    /// Its part of the requests of the last whole second, from 0 to 1.
    pub now: f64,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    weight: f64,
    error: f64,
    second: Second,
}

/// Requests of this second, and of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    this: f64,
    last: f64,
}

impl Second {
    fn end(&mut self) {
        *self = Second { this: 0.0, last: self.this };
    }
}

/// Counts the requests of keys.
#[derive(Debug, Default)]
pub struct HotKeys {
    counts: HashMap<Vec<u8>, Count>,
    /// No forgotten key has been requested more often.
    floor: f64,
    total: f64,
    second: Second,
}

impl HotKeys {
    /// A key was requested, `weight` times.
    pub fn add(&mut self, key: &[u8], weight: u32) {
        let weight = f64::from(weight);
        self.total += weight;
        self.second.this += weight;
        if let Some(count) = self.counts.get_mut(key) {
            count.weight += weight;
            count.second.this += weight;
            return;
        }
        if self.counts.len() == 2 * KEYS {
            self.forget();
        }
        let second = Second { this: weight, last: 0.0 };
        let count = Count { weight: self.floor + weight, error: self.floor, second };
        self.counts.insert(key.to_vec(), count);
    }

    /// Drops the smaller half.
    fn forget(&mut self) {
        let mut weights: Vec<f64> = self.counts.values().map(|count| count.weight).collect();
        let (_, floor, _) = weights.select_nth_unstable_by(KEYS, f64::total_cmp);
        let floor = *floor;
        let mut room = KEYS;
        self.counts.retain(|_, count| {
            let stays = count.weight > floor && room > 0;
            room -= usize::from(stays);
            stays
        });
        self.floor = floor;
    }

    /// A second has passed.
    pub fn decay(&mut self) {
        self.counts.retain(|_, count| {
            count.weight *= DECAY;
            count.error *= DECAY;
            count.second.end();
            // Less than a request a minute ago.
            count.weight > 0.01
        });
        self.floor *= DECAY;
        self.total *= DECAY;
        self.second.end();
    }

    /// The hottest keys, at most `most` of them, the hottest first. A key that may have been
    /// requested no more often than others that were forgotten is none.
    pub fn top(&self, most: usize) -> Vec<HotKey> {
        let is_sure =
            |count: &Count| count.weight > 2.0 * count.error && rate_of(count.weight) > RATE_MIN;
        let mut all: Vec<_> = self.counts.iter().filter(|(_, count)| is_sure(count)).collect();
        all.sort_by(|a, b| b.1.weight.total_cmp(&a.1.weight).then_with(|| a.0.cmp(b.0)));
        let total = self.total.max(f64::MIN_POSITIVE);
        let last = self.second.last.max(f64::MIN_POSITIVE);
        let hot = |(key, count): (&Vec<u8>, &Count)| HotKey {
            key: key.clone(),
            share: count.weight / total,
            error: count.error / total,
            rate: rate_of(count.weight),
            now: count.second.last / last,
        };
        all.into_iter().take(most).map(hot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    #[test]
    fn a_key_of_a_twentieth_of_all_requests_is_first_after_two_seconds() {
        let mut random = Random::of(7);
        let mut hot = HotKeys::default();
        for second in 0..12 {
            for _ in 0..10_000 {
                match random.below(20) {
                    0 if second >= 10 => hot.add(b"hot", 128),
                    _ => hot.add(format!("k{}", random.below(1_000_000)).as_bytes(), 128),
                }
            }
            hot.decay();
        }
        let top = hot.top(10);
        assert_eq!(top[0].key, b"hot", "{top:?}");
        assert!(top[0].share > 0.01 && top[0].error < 0.002, "{top:?}");
        assert!((0.045..0.055).contains(&top[0].now), "{top:?}");
        for _ in 0..120 {
            hot.decay();
        }
        assert_eq!(hot.top(10), [], "what was hot is forgotten");
    }

    #[test]
    fn memory_is_bounded_and_counts_are_within_their_error() {
        let mut hot = HotKeys::default();
        for n in 0..100_000 {
            hot.add(&[b'x'; 250][..usize::try_from(n % 250).expect("small")], 1);
            hot.add(format!("only once {n}").as_bytes(), 1);
        }
        assert!(hot.counts.len() <= 2 * KEYS);
        for key in hot.top(250) {
            let least = (key.share - key.error) * hot.total;
            assert!(least <= 400.001, "{key:?}");
        }
    }
}
