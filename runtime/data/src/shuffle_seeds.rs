//! The seeds that `datasets` takes where it is given none.

use crate::numpy::Generator;
use crate::twister::Twister;

/// The generator behind `numpy.random.seed`, as far as `datasets` looks into it: where no seed is given, its `shuffle`
/// takes the next word of the state for one.
#[derive(Clone, Debug)]
pub struct ShuffleSeeds(Twister);

impl ShuffleSeeds {
    /// After `numpy.random.seed(seed)`.
    pub fn new(seed: u32) -> Self {
        Self(Twister::new(seed))
    }

    /// The order in which the next `Dataset.shuffle()` puts `count` records.
    pub fn shuffle(&mut self, count: usize) -> Vec<usize> {
        let seed = self.0.bare();
        // It draws one number of 53 bits, of two words, to go on.
        self.0.next_u32();
        self.0.next_u32();
        Generator::new(seed.into()).permutation(count)
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
