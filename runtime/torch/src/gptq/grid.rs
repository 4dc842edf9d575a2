//! A matrix on a grid: each number is a whole one of a few bits, times a scale that a group of columns shares in each row.
//!
//! ```text
//! value = scale[row, group of column] * (number - zero[row, group of column])
//! ```
//!
//! Numbers of a row follow each other without a gap, the lowest bits first.

use rayon::prelude::*;
use tch::Tensor;

use crate::BackendError;
use crate::weight::Compact;

/// A matrix on a grid, in the processor's memory.
#[derive(Debug)]
pub(crate) struct Grid {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Bits of a number: 2, 3, 4 or 8.
    pub(crate) bits: u32,
    /// The numbers, row by row.
    pub(crate) words: Vec<u32>,
    /// The group of each column.
    pub(crate) groups: Vec<u32>,
    /// Scales of each row's groups, row by row.
    pub(crate) scales: Vec<f32>,
    /// Zeros, likewise.
    pub(crate) zeros: Vec<u8>,
}

impl Grid {
    /// Groups of a row.
    pub(crate) fn count(&self) -> usize {
        self.scales.len() / self.rows
    }

    /// Words of a row.
    pub(crate) fn width(&self) -> usize {
        width(self.columns, self.bits)
    }
}

impl Compact for Grid {
    fn size(&self) -> (i64, i64) {
        (self.rows as i64, self.columns as i64)
    }

    fn widen(&self) -> Result<Tensor, BackendError> {
        let mut values = vec![0.0_f32; self.rows * self.columns];
        let count = self.count();
        values
            .par_chunks_mut(self.columns)
            .zip(self.words.par_chunks(self.width()))
            .zip(self.scales.par_chunks(count))
            .zip(self.zeros.par_chunks(count))
            .for_each(|(((values, words), scales), zeros)| {
                let numbers = unpacked(words, self.bits);
                for ((value, number), group) in values.iter_mut().zip(numbers).zip(&self.groups) {
                    let group = *group as usize;
                    *value = scales[group] * (f32::from(number) - f32::from(zeros[group]));
                }
            });
        let (rows, columns) = self.size();
        Ok(Tensor::f_from_slice(&values)?.f_view([rows, columns])?)
    }
}

/// Words that `count` numbers take.
pub(crate) fn width(count: usize, bits: u32) -> usize {
    (count * bits as usize).div_ceil(32)
}

/// Numbers into words.
pub(crate) fn packed(numbers: &[u8], bits: u32) -> Vec<u32> {
    let mut words = vec![0_u32; width(numbers.len(), bits)];
    for (place, number) in numbers.iter().enumerate() {
        let from = place * bits as usize;
        let (word, shift) = (from / 32, from % 32);
        let wide = u64::from(*number) << shift;
        words[word] |= wide as u32;
        // Three bits may lie across two words.
        if wide >> 32 != 0 {
            words[word + 1] |= (wide >> 32) as u32;
        }
    }
    words
}

/// Words into numbers; those of the last word may be more than were packed.
pub(crate) fn unpacked(words: &[u32], bits: u32) -> impl Iterator<Item = u8> + '_ {
    let mut words = words.iter();
    let (mut held, mut count) = (0_u64, 0);
    std::iter::from_fn(move || {
        if count < bits {
            held |= u64::from(*words.next()?) << count;
            count += 32;
        }
        let number = held & ((1 << bits) - 1);
        held >>= bits;
        count -= bits;
        Some(number as u8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_width_survive_packing() {
        for bits in [2, 3, 4, 8] {
            let top = (1_u32 << bits) - 1;
            let numbers: Vec<u8> = (0..96_u32).map(|n| (n * 37 % (top + 1)) as u8).collect();
            let words = packed(&numbers, bits);
            assert_eq!(words.len(), 3 * bits as usize);
            let back: Vec<u8> = unpacked(&words, bits).collect();
            assert_eq!(back, numbers, "{bits}");
        }
    }

    #[test]
    fn three_bits_lie_across_words_as_auto_gptq_packs_them() {
        // By the loop of AutoGPTQ's `pack`: ten numbers and two bits of the eleventh, its third bit, and so on.
        let numbers: Vec<u8> = (0..32_u8).map(|n| (n * 5 + 3) % 8).collect();
        let at = |place: usize| u32::from(numbers[place]);
        let run = |from: usize, shift: usize| {
            (0..10).fold(0, |word, n| word | at(from + n) << (3 * n + shift))
        };
        let expected = [
            run(0, 0) | at(10) << 30,
            (at(10) >> 2 & 1) | run(11, 1) | at(21) << 31,
            (at(21) >> 1 & 3) | run(22, 2),
        ];
        assert_eq!(packed(&numbers, 3), expected);
    }

    #[test]
    fn values_are_scale_times_distance_from_zero() {
        let numbers: Vec<u8> = (0..32).map(|n| n % 16).collect();
        let grid = Grid {
            rows: 2,
            columns: 32,
            bits: 4,
            words: [packed(&numbers, 4), packed(&numbers, 4)].concat(),
            // Columns of a group need not be neighbours.
            groups: (0..32).map(|column| column % 2).collect(),
            scales: vec![1.0, 0.5, 2.0, 4.0],
            zeros: vec![8, 0, 7, 15],
        };
        let wide = grid.widen().unwrap();
        for (row, column, value) in [
            (0, 0, -8.0),
            (0, 1, 0.5),
            (0, 14, 6.0),
            (1, 2, -10.0),
            (1, 31, 0.0),
        ] {
            let found: f64 = wide.double_value(&[row, column]);
            assert!((found - value).abs() < 1e-9, "{row} {column}: {found}");
        }
    }
}
