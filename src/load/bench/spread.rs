//! Which key is requested, and how long keys and values are.
//!
//! A key's lengths are a function of its number, so that whoever asks for it knows what must come
//! back. All of it is drawn from seeds; nothing here allocates once it is made.

use std::fmt;

use crate::base::random::{Random, mix};

/// How often each key is requested.
#[derive(Clone, Debug)]
pub enum Popularity {
    /// All alike.
    Uniform {
        /// How many there are.
        keys: u32,
    },
    /// Key number n in proportion to 1 / (n + 1)^theta.
    Zipf(Zipf),
}

impl Popularity {
    /// The number of the next key.
    #[inline(always)]
    pub fn draw(&self, random: &mut Random) -> u32 {
        match self {
            Popularity::Uniform { keys } => random.below(u64::from(*keys)) as u32,
            Popularity::Zipf(zipf) => zipf.draw(random),
        }
    }
}

/// Zipf's law by rejection and inversion (Hörmann and Derflinger, 1996): exact for every exponent,
/// without a table.
#[derive(Clone, Debug)]
pub struct Zipf {
    keys: f64,
    theta: f64,
    /// Integral of the hat up to the first and the last key.
    first: f64,
    last: f64,
    /// Below this distance from a whole number nothing needs to be rejected.
    sure: f64,
}

impl Zipf {
    /// Over `keys` keys, with an exponent above 0.
    pub fn new(keys: u32, theta: f64) -> Zipf {
        let mut zipf = Zipf { keys: f64::from(keys), theta, first: 0.0, last: 0.0, sure: 0.0 };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(zipf.keys + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    fn density(&self, x: f64) -> f64 {
        (-self.theta * x.ln()).exp()
    }

    /// Integral of the density, from 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.theta) * log;
        log * if t.abs() > 1e-8 { t.exp_m1() / t } else { 1.0 + t / 2.0 }
    }

    fn inverse(&self, area: f64) -> f64 {
        let t = (area * (1.0 - self.theta)).max(-1.0);
        (area * if t.abs() > 1e-8 { t.ln_1p() / t } else { 1.0 - t / 2.0 }).exp()
    }

    fn draw(&self, random: &mut Random) -> u32 {
        loop {
            let area = self.last + random.unit() * (self.first - self.last);
            let x = self.inverse(area);
            let nearest = (x + 0.5).floor().clamp(1.0, self.keys);
            if nearest - x <= self.sure
                || area >= self.integral(nearest + 0.5) - self.density(nearest)
            {
                return nearest as u32 - 1;
            }
        }
    }
}

/// How lengths are distributed over the keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Lengths {
    /// All the same.
    Fixed(u32),
    /// Every length from the first to the second as often.
    Range(u32, u32),
    /// Logarithms normally distributed; cut at `max`.
    LogNormal {
        /// Half of them are shorter.
        median: u32,
        /// Standard deviation of the logarithm.
        sigma: f64,
        /// Longest.
        max: u32,
    },
    /// Lengths, each with its weight.
    Weights(Vec<(u32, f64)>),
}

impl Lengths {
    /// Shortest and longest.
    pub fn bounds(&self) -> (u32, u32) {
        match self {
            Lengths::Fixed(bytes) => (*bytes, *bytes),
            Lengths::Range(min, max) => (*min, *max),
            Lengths::LogNormal { max, .. } => (1, *max),
            Lengths::Weights(weights) => {
                let lengths = || weights.iter().map(|&(bytes, _)| bytes);
                (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0))
            }
        }
    }

    /// The length below which a share `quantile` of all lie.
    fn at(&self, quantile: f64) -> u32 {
        match self {
            Lengths::Fixed(bytes) => *bytes,
            Lengths::Range(min, max) => {
                let width = f64::from(max - min) + 1.0;
                min + ((quantile * width) as u32).min(max - min)
            }
            Lengths::LogNormal { median, sigma, max } => {
                let length = f64::from(*median) * (sigma * normal_quantile(quantile)).exp();
                (length.round() as u32).clamp(1, *max)
            }
            Lengths::Weights(weights) => {
                let total: f64 = weights.iter().map(|&(_, weight)| weight).sum();
                let mut left = quantile * total;
                for &(bytes, weight) in weights {
                    if left < weight {
                        return bytes;
                    }
                    left -= weight;
                }
                weights.last().map_or(0, |&(bytes, _)| bytes)
            }
        }
    }

    /// A table to look lengths up by a key's number.
    pub fn table(&self, seed: u64) -> LengthTable {
        if let Lengths::Fixed(bytes) = self {
            return LengthTable { lengths: Box::new([*bytes]), seed };
        }
        let quantile = |n: usize| (n as f64 + 0.5) / QUANTILES as f64;
        LengthTable { lengths: (0..QUANTILES).map(|n| self.at(quantile(n))).collect(), seed }
    }
}

/// As a command line has them.
impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lengths::Fixed(bytes) => write!(f, "{bytes}"),
            Lengths::Range(min, max) => write!(f, "{min}-{max}"),
            Lengths::LogNormal { median, sigma, max } => {
                write!(f, "lognormal:{median},{sigma},{max}")
            }
            Lengths::Weights(weights) => {
                let words: Vec<_> =
                    weights.iter().map(|(n, weight)| format!("{n}:{weight}")).collect();
                f.write_str(&words.join(","))
            }
        }
    }
}

/// How finely a distribution of lengths is represented: a power of two.
const QUANTILES: usize = 4096;

/// Lengths by number, as [`Lengths`] distributes them, to one part in 4,096.
#[derive(Clone, Debug)]
pub struct LengthTable {
    lengths: Box<[u32]>,
    seed: u64,
}

impl LengthTable {
    /// The length that goes with `number`.
    #[inline(always)]
    pub fn of(&self, number: u32) -> u32 {
        match &self.lengths[..] {
            [fixed] => *fixed,
            table => table[mix(u64::from(number) ^ self.seed) as usize % QUANTILES],
        }
    }
}

/// The value below which a standard normal variable lies with probability `p` (Acklam's rational
/// approximation, relative error below 1.2e-9).
fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
    ];
    const TAIL: f64 = 0.02425;
    let sum = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        sum(&C, q) / (sum(&D, q) * q + 1.0)
    };
    if p < TAIL {
        return tail(p);
    }
    if p > 1.0 - TAIL {
        return -tail(1.0 - p);
    }
    let q = p - 0.5;
    let r = q * q;
    sum(&A, r) * q / (sum(&B, r) * r + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_is_zipfs_law() {
        const KEYS: u32 = 1_000;
        const DRAWS: u32 = 200_000;
        for theta in [0.5, 0.99, 1.0, 1.5] {
            let zipf = Popularity::Zipf(Zipf::new(KEYS, theta));
            let mut random = Random::of(7);
            let mut counts = [0u32; KEYS as usize];
            (0..DRAWS).for_each(|_| counts[zipf.draw(&mut random) as usize] += 1);
            let weight = |n: u32| f64::from(n + 1).powf(-theta);
            let total: f64 = (0..KEYS).map(weight).sum();
            let near = |range: std::ops::Range<u32>| {
                let expected: f64 = range.clone().map(weight).sum::<f64>() / total;
                let seen: u32 = range.clone().map(|n| counts[n as usize]).sum();
                let seen = f64::from(seen) / f64::from(DRAWS);
                assert!(
                    (seen / expected - 1.0).abs() < 0.05,
                    "{theta} {range:?} {seen} {expected}"
                );
            };
            [0..1, 1..2, 2..10, 10..100, 100..1_000].into_iter().for_each(near);
        }
    }

    #[test]
    fn uniform_keys_are_all_alike() {
        let uniform = Popularity::Uniform { keys: 10 };
        let mut random = Random::of(1);
        let mut counts = [0u32; 10];
        (0..100_000).for_each(|_| counts[uniform.draw(&mut random) as usize] += 1);
        assert!(counts.iter().all(|&n| n.abs_diff(10_000) < 500), "{counts:?}");
    }

    #[test]
    fn lengths_are_distributed_as_told_and_stay_with_their_key() {
        let share = |table: &LengthTable, is: &dyn Fn(u32) -> bool| {
            (0..100_000).filter(|&n| is(table.of(n))).count() as f64 / 1e5
        };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 0.01, "{a} for {b}");
        let range = Lengths::Range(10, 19).table(3);
        near(share(&range, &|l| l == 10), 0.1);
        near(share(&range, &|l| l == 19), 0.1);
        near(share(&range, &|l| !(10..20).contains(&l)), 0.0);
        let weights = Lengths::Weights(vec![(64, 3.0), (1024, 1.0)]).table(3);
        near(share(&weights, &|l| l == 64), 0.75);
        near(share(&weights, &|l| l == 1024), 0.25);
        let normal = Lengths::LogNormal { median: 100, sigma: 1.0, max: 100_000 }.table(3);
        near(share(&normal, &|l| l < 100), 0.5);
        near(share(&normal, &|l| l < 272), 0.841);
        near(share(&normal, &|l| l < 37), 0.159);
        assert!((0..1000).all(|n| normal.of(n) == normal.of(n)));
        assert_eq!(Lengths::Fixed(7).table(1).of(99), 7);
        let cut = Lengths::LogNormal { median: 9, sigma: 9.0, max: 500 }.table(1);
        assert!((0..9_999).all(|n| (1..=500).contains(&cut.of(n))));
    }

    #[test]
    fn the_normal_quantile_is_right_in_the_middle_and_in_the_tails() {
        for (p, z) in [(0.5, 0.0), (0.975, 1.959_964), (0.001, -3.090_232), (0.9999, 3.719_016)] {
            assert!((normal_quantile(p) - z).abs() < 1e-5, "{p}");
        }
    }
}
