//! Failed logins by address: who has failed too often may not try now.
//!
//! A fixed table that all workers share without a lock: no address can make it grow, and one that
//! does not know the key of its hash cannot choose whose place it takes. A right login changes
//! nothing here, so an attacker who has an account of its own does not get attempts back by it.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use siphasher::sip::SipHasher13;

use super::limits::{ATTEMPT_SETS, ATTEMPT_US, ATTEMPT_WAYS};
use super::secret;

/// Ticks in the time after which an address may fail once more.
const ATTEMPT_TICKS: u32 = 16;

const TICK_US: u64 = ATTEMPT_US / ATTEMPT_TICKS as u64;

/// The addresses of one hash: a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; ATTEMPT_WAYS]);

const _: () = assert!(size_of::<Set>() == 64);

/// An entry: which address, and the tick at which its failures are forgotten, as one number. 0 is
/// a free one.
#[derive(Clone, Copy)]
struct Entry {
    tag: u32,
    full_at: u32,
}

impl Entry {
    fn of(word: u64) -> Entry {
        Entry { tag: (word >> 32) as u32, full_at: word as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.tag) << 32 | u64::from(self.full_at)
    }
}

/// A bucket of attempts for each address, filled by one each [`ATTEMPT_US`].
#[derive(Debug)]
pub struct Attempts {
    sets: Box<[Set]>,
    hasher: SipHasher13,
    /// Ticks until an empty bucket is full.
    bucket_ticks: AtomicU32,
}

impl Attempts {
    /// Each address may fail `at_once` times, and then once each [`ATTEMPT_US`]. Takes all of its
    /// memory now.
    pub fn new(at_once: u32) -> Attempts {
        Attempts {
            sets: (0..ATTEMPT_SETS).map(|_| Set::default()).collect(),
            hasher: SipHasher13::new_with_key(&secret::random()),
            bucket_ticks: AtomicU32::new(at_once * ATTEMPT_TICKS),
        }
    }

    /// Each address may fail `at_once` times from now on.
    pub fn limit(&self, at_once: u32) {
        self.bucket_ticks.store(at_once * ATTEMPT_TICKS, Relaxed);
    }

    /// Whether this address may try. Changes nothing.
    pub fn may_try(&self, address: IpAddr, now_us: u64) -> bool {
        let (set, tag) = self.place(address);
        let now = ticks(now_us);
        let words = set.0.iter().map(|word| Entry::of(word.load(Relaxed)));
        words.filter(|entry| entry.tag == tag).all(|entry| self.has_left(entry.full_at, now))
    }

    /// This address has failed.
    pub fn note_failure(&self, address: IpAddr, now_us: u64) {
        let (set, tag) = self.place(address);
        let now = ticks(now_us);
        loop {
            let words: [u64; ATTEMPT_WAYS] = std::array::from_fn(|way| set.0[way].load(Relaxed));
            let own = words.iter().position(|&word| Entry::of(word).tag == tag);
            // The fullest bucket is the one whose failures are forgotten first.
            let fullest = || (0..words.len()).min_by_key(|&way| Entry::of(words[way]).full_at);
            let Some(way) = own.or_else(fullest) else { return };
            let before = own.map_or(0, |way| Entry::of(words[way]).full_at);
            // What is beyond an empty bucket was tried at the same time on another worker.
            let full_at =
                (before.max(now) + ATTEMPT_TICKS).min(now + self.bucket_ticks.load(Relaxed));
            let after = Entry { tag, full_at }.word();
            // It fails only if another worker has noted something in this set.
            if set.0[way].compare_exchange(words[way], after, Relaxed, Relaxed).is_ok() {
                return;
            }
        }
    }

    fn has_left(&self, full_at: u32, now: u32) -> bool {
        full_at.saturating_sub(now) + ATTEMPT_TICKS <= self.bucket_ticks.load(Relaxed)
    }

    /// The set of an address, and what tells it from others there. The addresses of one IPv6
    /// network of 64 bits are one: its owner can use all of them.
    fn place(&self, address: IpAddr) -> (&Set, u32) {
        let mut bytes = [0; 9];
        match address.to_canonical() {
            IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => {
                bytes[..8].copy_from_slice(&address.octets()[..8]);
                bytes[8] = 1;
            }
        }
        let hash = self.hasher.hash(&bytes);
        (&self.sets[hash as usize % ATTEMPT_SETS], (hash >> 32) as u32)
    }
}

/// For about eight years of uptime.
fn ticks(now_us: u64) -> u32 {
    u32::try_from(now_us / TICK_US).unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::{Ipv4Addr, Ipv6Addr};

    const AT_ONCE: u32 = 10;
    const S: u64 = 1_000_000;

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    /// Tries once and fails, if it may; whether it might.
    fn fail(attempts: &Attempts, address: IpAddr, now_us: u64) -> bool {
        let may_try = attempts.may_try(address, now_us);
        if may_try {
            attempts.note_failure(address, now_us);
        }
        may_try
    }

    #[test]
    fn one_address_fails_ten_times_and_then_once_a_second() {
        let attempts = Attempts::new(AT_ONCE);
        let own = v4(0x0a00_0001);
        let passed = (0..1_000_000).filter(|_| fail(&attempts, own, 5 * S)).count();
        assert_eq!(passed, 10);
        assert!(attempts.may_try(v4(0x0a00_0002), 5 * S), "others are not concerned");
        // A million more within a thousand seconds.
        let passed =
            (0..1_000_000u64).filter(|n| fail(&attempts, own, 5 * S + n * S / 1_000)).count();
        assert!((999..=1_000).contains(&passed), "{passed}");
        // Ten seconds without a failure: all are forgotten, and not more than all.
        let later = 2_000 * S;
        let passed = (0..100).filter(|_| fail(&attempts, own, later)).count();
        assert_eq!(passed, 10);
    }

    #[test]
    fn another_limit_is_for_who_has_failed_before_too() {
        let attempts = Attempts::new(2);
        let own = v4(7);
        assert_eq!((0..9).filter(|_| fail(&attempts, own, S)).count(), 2);
        attempts.limit(5);
        assert_eq!((0..9).filter(|_| fail(&attempts, own, S)).count(), 3);
        attempts.limit(1);
        assert!(!attempts.may_try(own, 5 * S) && attempts.may_try(own, 6 * S));
    }

    #[test]
    fn trying_without_failing_takes_and_gives_nothing() {
        let attempts = Attempts::new(AT_ONCE);
        let own = v4(7);
        for _ in 0..9 {
            attempts.note_failure(own, S);
        }
        assert!((0..1_000).all(|_| attempts.may_try(own, S)));
        attempts.note_failure(own, S);
        assert!((0..1_000).all(|_| !attempts.may_try(own, S)));
        assert!(!attempts.may_try(own, S * 19 / 10) && attempts.may_try(own, 2 * S));
    }

    #[test]
    fn what_is_tried_at_the_same_time_does_not_lock_out_for_longer() {
        let attempts = Attempts::new(AT_ONCE);
        for _ in 0..10_000 {
            attempts.note_failure(v4(7), S);
        }
        assert!(!attempts.may_try(v4(7), S) && attempts.may_try(v4(7), 2 * S));
    }

    #[test]
    fn a_network_of_64_bits_is_one_address_and_a_mapped_address_its_own() {
        let attempts = Attempts::new(1);
        let v6 = |high: u64, low: u64| {
            IpAddr::from(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)))
        };
        attempts.note_failure(v6(0x2001_0db8_0000_0001, 1), S);
        assert!(!attempts.may_try(v6(0x2001_0db8_0000_0001, u64::MAX), S));
        assert!(attempts.may_try(v6(0x2001_0db8_0000_0002, 1), S));
        attempts.note_failure("::ffff:10.0.0.1".parse().unwrap(), S);
        assert!(!attempts.may_try(v4(0x0a00_0001), S));
        assert!(attempts.may_try("::ffff:10.0.0.2".parse().unwrap(), S), "not all of ::/64");
    }

    #[test]
    fn a_million_addresses_neither_grow_it_nor_free_one_that_is_limited() {
        let attempts = Attempts::new(AT_ONCE);
        let own = v4(0x0a00_0001);
        (0..20).for_each(|_| assert!(fail(&attempts, own, S) || !attempts.may_try(own, S)));
        // One failure of each: their buckets are fuller, so they take each other's places.
        for number in 0..1_000_000 {
            attempts.note_failure(v4(0x2000_0000 + number), S);
        }
        assert!(!attempts.may_try(own, S));
        assert_eq!(attempts.sets.len() * size_of::<Set>(), ATTEMPT_SETS * 64);
        // Entries that are forgotten are taken first.
        let used = |attempts: &Attempts| {
            let words = attempts.sets.iter().flat_map(|set| &set.0);
            words.filter(|word| word.load(Relaxed) != 0).count()
        };
        assert_eq!(used(&attempts), ATTEMPT_SETS * ATTEMPT_WAYS);
        assert!(attempts.may_try(v4(0x3000_0000), S), "a new one may try");
    }

    #[test]
    fn a_full_set_gives_up_its_fullest_bucket() {
        let attempts = Attempts::new(AT_ONCE);
        let (own, tag) = attempts.place(v4(1));
        let now = ticks(100 * S);
        let limited = Entry { tag: !tag, full_at: now + AT_ONCE * ATTEMPT_TICKS };
        for (way, word) in own.0.iter().enumerate() {
            let entry = match way {
                5 => Entry { tag: 5, full_at: now + 2 * ATTEMPT_TICKS },
                6 => Entry { tag: 6, full_at: now + ATTEMPT_TICKS },
                _ => limited,
            };
            word.store(entry.word(), Relaxed);
        }
        attempts.note_failure(v4(1), 100 * S);
        for (way, word) in own.0.iter().enumerate() {
            let entry = Entry::of(word.load(Relaxed));
            assert_eq!(entry.tag == tag, way == 6, "{way}");
        }
    }

    #[test]
    fn workers_together_count_each_failure_once() {
        let attempts = Attempts::new(1_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| attempts.note_failure(v4(9), S)));
            }
        });
        let left = (0..2_000).filter(|_| fail(&attempts, v4(9), S)).count();
        assert_eq!(left, 200);
    }
}
