//! Random numbers from a seed, for faults, loads and simulations: the same seed gives the same
//! numbers. For numbers that a peer must not guess, use [`crate::base::secret`].
//!
//! SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): each
//! seed, including zero, gives its own sequence. The sequence of a seed must never change, because
//! a reported seed has to reproduce the same fault.

/// The factors of [`mix`], both odd.
pub const FACTORS: [u64; 2] = [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];
/// The constant that [`mix`] adds, and the step from one state to the next.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Maps a number to another that reveals nothing about it; a bijection.
#[inline(always)]
pub const fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_add(STEP);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(FACTORS[0]);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(FACTORS[1]);
    mixed ^ (mixed >> 31)
}

/// A sequence of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence that starts at this state: SplitMix64 with this seed.
    pub const fn new(state: u64) -> Random {
        Random(state)
    }

    /// A sequence for a seed that is close to others, such as one per thread.
    pub const fn of(seed: u64) -> Random {
        Random(mix(seed).wrapping_add(STEP))
    }

    /// The next 64 bits.
    #[inline(always)]
    pub fn draw(&mut self) -> u64 {
        let drawn = mix(self.0);
        self.0 = self.0.wrapping_add(STEP);
        drawn
    }

    /// At least 0 and below 1.
    #[inline(always)]
    pub fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Below `bound`, which is not 0. By a multiplication: a remainder would favour low numbers.
    #[inline(always)]
    pub fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0, "no number is below zero");
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of the authors' own code for this seed, used in the tests of other
    /// implementations.
    #[test]
    fn the_sequence_is_splitmix64s() {
        let mut random = Random::new(1_234_567);
        let drawn = [(); 5].map(|()| random.draw());
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(drawn, expected);
    }

    /// The seed of a load gives the same numbers as in every release.
    #[test]
    fn a_seed_gives_the_same_numbers_as_before() {
        let mut random = Random::of(7);
        let drawn = [random.draw(), random.draw()];
        let again = [2, 3].map(|steps| mix(mix(7).wrapping_add(STEP.wrapping_mul(steps - 1))));
        assert_eq!(drawn, again);
    }

    #[test]
    fn bounds_hold() {
        let mut random = Random::new(0);
        for bound in [1, 2, 7, u64::MAX] {
            assert!((0..1_000).all(|_| random.below(bound) < bound), "{bound}");
        }
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&random.unit())));
    }
}
