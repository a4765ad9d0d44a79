//! How long requests took: histograms that a worker fills and anyone may read.
//!
//! Each has one writer, so that an entry is a load and a store, and readers sum over the workers.
//! Nothing here reads a clock or decides what is measured.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Buckets in each doubling of the time: an entry is known to within 1/32, 3 %.
const STEPS: usize = 32;

/// Times from 2^36 ns, 68 s, count as that.
const DOUBLINGS: usize = 36;

/// Buckets of a histogram: the first are a nanosecond wide.
pub const BUCKETS: usize = (DOUBLINGS - STEPS.ilog2() as usize + 1) * STEPS;

/// The bucket of a time in nanoseconds.
#[inline]
fn bucket(ns: u64) -> usize {
    let ns = ns.min((1 << DOUBLINGS) - 1);
    let shift = (ns | STEPS as u64).ilog2() - STEPS.ilog2();
    (shift as usize * STEPS) + (ns >> shift) as usize
}

/// The largest time in nanoseconds that belongs to a bucket.
pub fn upper_ns(bucket: usize) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    let step = bucket - shift * STEPS;
    ((step as u64 + 1) << shift) - 1
}

/// Times by logarithmic buckets.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Histogram {
    #[allow(clippy::declare_interior_mutable_const, reason = "what new ones are made of")]
    const EMPTY: Histogram =
        Histogram { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_ns: AtomicU64::new(0) };

    /// Adds `count` entries of `ns` nanoseconds. Only the owning worker may call this.
    pub fn record(&self, ns: u64, count: u64) {
        let add = |to: &AtomicU64, n: u64| to.store(to.load(Relaxed).wrapping_add(n), Relaxed);
        add(&self.buckets[bucket(ns)], count);
        add(&self.sum_ns, ns.saturating_mul(count));
    }
}

/// The sum of histograms at one time, or what came to it since another time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// Entries of each bucket.
    pub buckets: Vec<u64>,
    /// All of them together, in nanoseconds.
    pub sum_ns: u64,
}

impl Default for Times {
    fn default() -> Times {
        Times { buckets: vec![0; BUCKETS], sum_ns: 0 }
    }
}

impl Times {
    /// Adds what a histogram has now.
    pub fn add(&mut self, histogram: &Histogram) {
        for (to, from) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *to = to.wrapping_add(from.load(Relaxed));
        }
        self.sum_ns = self.sum_ns.wrapping_add(histogram.sum_ns.load(Relaxed));
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Times) {
        for (to, from) in self.buckets.iter_mut().zip(&other.buckets) {
            *to = to.wrapping_add(*from);
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// What came since `before`.
    pub fn since(&self, before: &Times) -> Times {
        let pairs = self.buckets.iter().zip(&before.buckets);
        Times {
            buckets: pairs.map(|(now, before)| now.saturating_sub(*before)).collect(),
            sum_ns: self.sum_ns.saturating_sub(before.sum_ns),
        }
    }

    /// The number of entries.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The time that a share of the entries, from 0 to 1, do not exceed, in nanoseconds; 0 without
    /// entries.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let count = self.count();
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        for (bucket, entries) in self.buckets.iter().enumerate() {
            seen += entries;
            if seen >= rank {
                return upper_ns(bucket);
            }
        }
        0
    }

    /// Entries of at most `ns` nanoseconds, which must be one less than a power of two from 32.
    pub fn count_to(&self, ns: u64) -> u64 {
        self.buckets[..=bucket(ns)].iter().sum()
    }
}

macro_rules! labels {
    ($(#[doc = $doc:literal])+ $type:ident {
        $($(#[doc = $of:literal])+ $name:ident => $label:literal,)+
    }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $type { #[default] $($(#[doc = $of])+ $name,)+ }

        impl $type {
            /// All of them.
            pub const ALL: &'static [$type] = &[$($type::$name,)+];

            /// As metrics name it.
            pub fn name(self) -> &'static str {
                match self { $($type::$name => $label,)+ }
            }
        }
    };
}

labels! {
    /// What a client asked for. A meta command counts as what it does.
    Verb {
        /// None of the others, or a piece of one that was counted.
        Other => "other",
        /// A get of one key, of a multi-get too.
        Get => "get",
        /// A get-and-touch.
        GetAndTouch => "gat",
        /// A touch.
        Touch => "touch",
        /// A set.
        Set => "set",
        /// An add.
        Add => "add",
        /// A replace.
        Replace => "replace",
        /// An append.
        Append => "append",
        /// A prepend.
        Prepend => "prepend",
        /// A set under the condition of a cas.
        Cas => "cas",
        /// A delete.
        Delete => "delete",
        /// An incr.
        Incr => "incr",
        /// A decr.
        Decr => "decr",
    }
}

labels! {
    /// How it ended.
    Ending {
        /// It was refused, or a tier failed.
        Error => "error",
        /// Found, stored, deleted, touched, counted.
        Ok => "ok",
        /// There was no item, or a condition was not met.
        Miss => "miss",
    }
}

labels! {
    /// The last tier that was asked.
    Level {
        /// The first.
        L1 => "l1",
        /// The second.
        L2 => "l2",
    }
}

const KINDS: usize = Verb::ALL.len() * Ending::ALL.len() * Level::ALL.len();

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// What was asked for.
    pub verb: Verb,
    /// How it ended.
    pub ending: Ending,
    /// Where.
    pub level: Level,
}

impl Kind {
    /// All kinds.
    pub fn all() -> impl Iterator<Item = Kind> {
        Verb::ALL.iter().flat_map(|&verb| {
            Ending::ALL.iter().flat_map(move |&ending| {
                Level::ALL.iter().map(move |&level| Kind { verb, ending, level })
            })
        })
    }

    fn index(self) -> usize {
        let Kind { verb, ending, level } = self;
        (verb as usize * Ending::ALL.len() + ending as usize) * Level::ALL.len() + level as usize
    }
}

/// Of what waits one in this many is measured while there is much of it.
pub const THINNED: u32 = 8;

/// All histograms of a worker: 640 KiB.
#[derive(Debug)]
pub struct Latencies {
    /// Of what waits one in [`THINNED`] is measured, else all.
    is_thinned: AtomicBool,
    requests: Box<[Histogram]>,
    tiers: Box<[Histogram]>,
}

impl Default for Latencies {
    fn default() -> Latencies {
        let empty = |count| (0..count).map(|_| Histogram::EMPTY).collect();
        let (requests, tiers) = (empty(KINDS), empty(Level::ALL.len()));
        Latencies { is_thinned: AtomicBool::new(false), requests, tiers }
    }
}

impl Latencies {
    /// Whether there is so much to do that of what waits not all is measured. Only the owning
    /// worker may call this.
    pub fn thin(&self, is_thinned: bool) {
        self.is_thinned.store(is_thinned, Relaxed);
    }

    /// What the `number`th of those that wait counts as; 0: it is not measured. Those that are
    /// follow no pattern of small periods: a Weyl sequence.
    #[inline]
    pub fn weight(&self, number: u32) -> u32 {
        const GOLDEN: u32 = 0x9e37_79b9;
        if !self.is_thinned.load(Relaxed) {
            return 1;
        }
        let is_drawn = number.wrapping_mul(GOLDEN) < u32::MAX / THINNED;
        if is_drawn { THINNED } else { 0 }
    }

    /// The time of requests in sunder.
    pub fn requests(&self, kind: Kind) -> &Histogram {
        &self.requests[kind.index()]
    }

    /// The time that a tier took for what it was asked and could not answer at once.
    pub fn tier(&self, level: Level) -> &Histogram {
        &self.tiers[level as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_known_to_within_a_thirty_second() {
        let mut before = 0;
        for ns in (0..10_000).chain((14..40).flat_map(|power| [(1_u64 << power) - 1, 1 << power])) {
            let of = bucket(ns);
            assert!(of < BUCKETS && of >= before, "{ns}: {of} after {before}");
            before = of;
            let clamped = ns.min((1 << DOUBLINGS) - 1);
            assert!(upper_ns(of) >= clamped, "{ns}");
            assert!(upper_ns(of) - clamped <= clamped / STEPS as u64, "{ns}");
        }
        assert_eq!(upper_ns(BUCKETS - 1), (1 << DOUBLINGS) - 1);
    }

    #[test]
    fn quantiles_and_limits_count_the_entries_they_say() {
        let histogram = Histogram::EMPTY;
        for us in 1..=1_000 {
            histogram.record(us * 1_000, 2);
        }
        let mut times = Times::default();
        times.add(&histogram);
        assert_eq!(times.count(), 2_000);
        assert_eq!(times.sum_ns, 1_001 * 1_000 * 1_000);
        for (share, us) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1_000)] {
            let found = times.quantile_ns(share) as f64 / 1_000.0;
            assert!(found >= f64::from(us) && found <= f64::from(us) * 1.04, "{share}: {found}");
        }
        assert_eq!(times.count_to((1 << 16) - 1), 2 * 65);
        assert_eq!(times.since(&times).count(), 0);
        assert_eq!(Times::default().quantile_ns(0.5), 0);
    }

    #[test]
    fn what_is_thinned_stands_for_all() {
        let latencies = Latencies::default();
        let sum = |step: u32| (0..80_000).map(|n| latencies.weight(n * step)).sum::<u32>();
        assert_eq!(sum(1), 80_000);
        latencies.thin(true);
        // Also of every second, third.. one alone.
        for step in 1..=16 {
            assert!(sum(step).abs_diff(80_000) < 800, "{step}: {}", sum(step));
        }
    }

    #[test]
    fn every_kind_has_a_histogram_of_its_own() {
        let mut seen = [false; KINDS];
        for kind in Kind::all() {
            assert!(!std::mem::replace(&mut seen[kind.index()], true), "{kind:?}");
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
