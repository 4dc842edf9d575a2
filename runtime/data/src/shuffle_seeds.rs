//! The seeds that `datasets` takes where it is given none.

use crate::numpy::Generator;

/// The generator behind `numpy.random.seed`, as far as `datasets` looks into it: where no seed is given, its `shuffle`
/// takes the next word of the state for one.
#[derive(Clone, Debug)]
pub struct ShuffleSeeds {
    words: Vec<u32>,
    at: usize,
}

/// Words of the state, and how far apart two are that make a third.
const STATE: usize = 624;
const APART: usize = 397;

impl ShuffleSeeds {
    /// After `numpy.random.seed(seed)`.
    pub fn new(seed: u32) -> Self {
        let mut words = vec![seed];
        for number in 1..STATE {
            let before = words[number - 1];
            let next = 1_812_433_253_u32.wrapping_mul(before ^ (before >> 30));
            words.push(next.wrapping_add(number as u32));
        }
        Self { words, at: STATE }
    }

    /// The order in which the next `Dataset.shuffle()` puts `count` records.
    pub fn shuffle(&mut self, count: usize) -> Vec<usize> {
        let place = if self.at < STATE { self.at } else { 0 };
        let seed = self.words[place];
        if self.at == STATE {
            self.renew();
        }
        // It draws one number of 53 bits, of two words, to go on.
        self.at += 2;
        Generator::new(seed.into()).permutation(count)
    }

    fn renew(&mut self) {
        for at in 0..STATE {
            let joined =
                (self.words[at] & 0x8000_0000) | (self.words[(at + 1) % STATE] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[at] = self.words[(at + APART) % STATE] ^ (joined >> 1) ^ odd;
        }
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drawn by `datasets` 4.0, one `shuffle()` after another.
    #[test]
    fn shuffles_without_a_seed_are_those_of_datasets() {
        let mut seeds = ShuffleSeeds::new(42);
        let drawn: Vec<Vec<usize>> = (0..400).map(|_| seeds.shuffle(5)).collect();
        for (number, order) in [
            (0, [4, 2, 3, 1, 0]),
            (1, [3, 0, 1, 2, 4]),
            (2, [1, 0, 4, 3, 2]),
            (5, [4, 1, 3, 0, 2]),
            (311, [4, 2, 1, 0, 3]),
            (312, [4, 1, 3, 2, 0]),
            (313, [3, 0, 2, 4, 1]),
            (399, [1, 4, 2, 0, 3]),
        ] {
            assert_eq!(drawn[number], order, "{number}");
        }
    }
}
