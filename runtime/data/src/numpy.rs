//! The numbers that `numpy.random.default_rng(seed)` draws: what `datasets` splits, mixes and shuffles by.
//!
//! `SeedSequence` spreads the seed over 256 bits, PCG64 (XSL-RR) draws from them, and Lemire's method takes a number
//! below a bound out of 32 bits of it. `tests/golden/vectors/numpy.json` holds what numpy itself draws.

/// PCG's multiplier.
const STEP: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

/// A generator as `default_rng` makes it.
#[derive(Clone, Debug)]
pub struct Generator {
    state: u128,
    increment: u128,
    /// The upper half of the last draw, where the lower was asked for alone.
    kept: Option<u32>,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of([seed as u32, (seed >> 32) as u32, 0, 0])
    }

    /// As `default_rng([seed, stream])` makes it: draws of their own for each of many uses of one seed.
    pub fn stream(seed: u64, stream: u64) -> Self {
        let mut entropy = [0; 4];
        let words = [seed, stream].into_iter().flat_map(|number| {
            let high = (number >> 32) as u32;
            [Some(number as u32), (high > 0).then_some(high)]
        });
        for (place, word) in entropy.iter_mut().zip(words.flatten()) {
            *place = word;
        }
        Self::of(entropy)
    }

    /// Words that a short seed lacks are zeros, and hashed as such.
    fn of(entropy: [u32; 4]) -> Self {
        let [a, b, c, d] = spread(entropy);
        let pair = |high: u64, low: u64| (u128::from(high) << 64) | u128::from(low);
        let mut generator = Self {
            state: 0,
            increment: (pair(c, d) << 1) | 1,
            kept: None,
        };
        generator.advance();
        generator.state = generator.state.wrapping_add(pair(a, b));
        generator.advance();
        generator
    }

    fn advance(&mut self) {
        self.state = self.state.wrapping_mul(STEP).wrapping_add(self.increment);
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.advance();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    fn next_u32(&mut self) -> u32 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        let drawn = self.next_u64();
        self.kept = Some((drawn >> 32) as u32);
        drawn as u32
    }

    /// A number from zero up to, but without, one.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// A number from zero to `most`, which takes 32 bits.
    fn up_to(&mut self, most: u32) -> u32 {
        if most == 0 {
            return 0;
        }
        let Some(count) = most.checked_add(1) else {
            return self.next_u32();
        };
        let mut product = u64::from(self.next_u32()) * u64::from(count);
        if (product as u32) < count {
            let least = (u32::MAX - most) % count;
            while (product as u32) < least {
                product = u64::from(self.next_u32()) * u64::from(count);
            }
        }
        (product >> 32) as u32
    }

    /// A number below `count`, as `integers(0, count)` draws it for counts of 32 bits.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        let most = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
        self.up_to(most) as usize
    }

    /// Shuffles as `Generator.shuffle` does, which draws places in another way than [`Self::below`]: bits again and
    /// again until they are no more than asked for.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            let most = u32::try_from(at).unwrap_or(u32::MAX);
            let mask = u32::MAX >> most.leading_zeros();
            let mut other = self.next_u32() & mask;
            while other > most {
                other = self.next_u32() & mask;
            }
            list.swap(at, other as usize);
        }
    }

    /// The numbers below `count`, shuffled, as `Generator.permutation` has them.
    pub(crate) fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        self.shuffle(&mut order);
        order
    }
}

/// Draws sources by their probabilities, as `Generator.choice` does with `p`.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    generator: Generator,
    /// Upper end of each source's share.
    ends: Vec<f64>,
}

impl Choice {
    /// `shares` add up to one.
    pub(crate) fn new(generator: Generator, shares: &[f64]) -> Self {
        let mut sum = 0.0;
        let ends = shares.iter().map(|share| {
            sum += share;
            sum
        });
        let mut ends: Vec<f64> = ends.collect();
        for end in &mut ends {
            *end /= sum;
        }
        Self { generator, ends }
    }

    pub(crate) fn draw(&mut self) -> usize {
        let drawn = self.generator.unit();
        let found = self.ends.partition_point(|end| *end <= drawn);
        found.min(self.ends.len().saturating_sub(1))
    }
}

/// `SeedSequence(seed).generate_state(4, uint64)`.
fn spread(entropy: [u32; 4]) -> [u64; 4] {
    let mut hash = Hash(0x43b0_d7e5, 0x931e_8875);
    let mut pool = entropy.map(|word| hash.of(word));
    for from in 0..4 {
        for to in (0..4).filter(|to| *to != from) {
            let other = hash.of(pool[from]);
            let mixed = pool[to]
                .wrapping_mul(0xca01_f9dd)
                .wrapping_sub(other.wrapping_mul(0x4973_f715));
            pool[to] = mixed ^ (mixed >> 16);
        }
    }
    let mut hash = Hash(0x8b51_f9dd, 0x58f3_8ded);
    let mut words = pool.iter().cycle();
    let mut word = || u64::from(hash.of(words.next().copied().unwrap_or(0)));
    std::array::from_fn(|_| word() | (word() << 32))
}

/// A running hash: its constant, and what the constant is multiplied by.
struct Hash(u32, u32);

impl Hash {
    fn of(&mut self, word: u32) -> u32 {
        let mixed = word ^ self.0;
        self.0 = self.0.wrapping_mul(self.1);
        let mixed = mixed.wrapping_mul(self.0);
        mixed ^ (mixed >> 16)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// `tests/golden/make/data.py` says how they are made.
    fn vectors() -> Value {
        let text = include_str!("../../../tests/golden/vectors/numpy.json");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn draws_are_numpys() {
        let vectors = vectors();
        let cases = vectors["draws"].as_array().unwrap();
        assert!(cases.len() > 3);
        for case in cases {
            let seed = case["seed"].as_u64().unwrap();
            let numbers = |name: &str| -> Vec<u64> {
                let numbers = case[name].as_array().unwrap().iter();
                numbers.map(|n| n.as_u64().unwrap()).collect()
            };
            let drawn: Vec<u64> = {
                let mut generator = Generator::new(seed);
                (0..5).map(|_| generator.next_u64()).collect()
            };
            assert_eq!(drawn, numbers("raw"), "{seed}");
            for (name, bound) in [("below_7", 7), ("below_16384", 16_384)] {
                let mut generator = Generator::new(seed);
                let drawn: Vec<u64> = (0..20).map(|_| generator.below(bound) as u64).collect();
                assert_eq!(drawn, numbers(name), "{seed}");
            }
            let mut generator = Generator::new(seed);
            let order: Vec<u64> = generator
                .permutation(33)
                .iter()
                .map(|n| *n as u64)
                .collect();
            assert_eq!(order, numbers("permutation_33"), "{seed}");
            let mut choice = Choice::new(Generator::new(seed), &[0.5, 0.2, 0.3]);
            let drawn: Vec<u64> = (0..20).map(|_| choice.draw() as u64).collect();
            assert_eq!(drawn, numbers("choice"), "{seed}");
        }
    }

    #[test]
    fn nothing_to_choose_from_is_no_panic() {
        let mut generator = Generator::new(1);
        assert_eq!((generator.below(0), generator.below(1)), (0, 0));
        assert_eq!(generator.permutation(0), [0; 0]);
    }
}
