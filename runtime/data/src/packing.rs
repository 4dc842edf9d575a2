//! Several examples in one row, so that short ones leave no padding.

use std::collections::HashMap;

use crate::batch::IGNORED;
use crate::example::{Example, Packed};

/// Whether and how examples share rows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Packing {
    /// Each example is a row.
    #[default]
    Off,
    /// Examples that share a row see the ones before them, as the original's `packing` has it.
    Plain,
    /// Examples that share a row do not see each other: the original's `neat_packing`.
    Neat,
}

/// Packs `examples`, none longer than `capacity`, into rows of `capacity + 1` tokens.
///
/// The order is the original's: a row takes the longest example that still fits, and of several of one length the
/// last. One token more than the capacity keeps its attention from dropping a mask that is all ones.
pub(crate) fn pack(
    examples: Vec<Example>,
    capacity: usize,
    pad_id: u32,
    packing: Packing,
) -> Vec<Example> {
    let mut lengths: Vec<usize> = examples.iter().map(|e| e.input_ids.len()).collect();
    let mut by_length: HashMap<usize, Vec<Example>> = HashMap::new();
    for example in examples {
        let length = example.input_ids.len();
        by_length.entry(length).or_default().push(example);
    }
    lengths.sort_unstable();
    let mut rows = Vec::new();
    while !lengths.is_empty() {
        let mut row = Row::default();
        let mut left = capacity;
        while let Some(index) = lengths.partition_point(|l| *l <= left).checked_sub(1) {
            let length = lengths.remove(index);
            left -= length;
            if let Some(example) = by_length.get_mut(&length).and_then(Vec::pop) {
                row.push(example, packing);
            }
        }
        rows.push(row.filled(capacity + 1, pad_id, packing));
    }
    rows
}

#[derive(Default)]
struct Row {
    example: Example,
    packed: Packed,
    count: i64,
}

impl Row {
    fn push(&mut self, example: Example, packing: Packing) {
        self.count += 1;
        let length = example.input_ids.len();
        let segment = if packing == Packing::Neat {
            self.count
        } else {
            1
        };
        let segments = &mut self.packed.segments;
        segments.resize(segments.len() + length, segment);
        self.packed.positions.extend(0..length as i64);
        self.example.input_ids.extend(example.input_ids);
        self.example.labels.extend(example.labels);
    }

    fn filled(self, width: usize, pad_id: u32, packing: Packing) -> Example {
        let (mut example, mut packed) = (self.example, self.packed);
        example.input_ids.resize(width, pad_id);
        example.labels.resize(width, IGNORED);
        // Where examples see each other the original lets padding count as text, too.
        let padding = i64::from(packing != Packing::Neat);
        packed.segments.resize(width, padding);
        packed.positions.resize(width, 0);
        example.packed = Some(packed);
        example
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(id: u32, length: usize) -> Example {
        Example {
            input_ids: vec![id; length],
            labels: vec![i64::from(id); length],
            packed: None,
        }
    }

    #[test]
    fn a_row_takes_the_longest_that_fits() {
        let examples = vec![example(1, 5), example(2, 3), example(3, 5), example(4, 2)];
        let rows = pack(examples, 8, 0, Packing::Neat);
        let ids: Vec<&[u32]> = rows.iter().map(|row| row.input_ids.as_slice()).collect();
        assert_eq!(ids[0], [3, 3, 3, 3, 3, 2, 2, 2, 0]);
        assert_eq!(ids[1], [1, 1, 1, 1, 1, 4, 4, 0, 0]);
        let packed = rows[1].packed.as_ref().unwrap();
        assert_eq!(packed.segments, [1, 1, 1, 1, 1, 2, 2, 0, 0]);
        assert_eq!(packed.positions, [0, 1, 2, 3, 4, 0, 1, 0, 0]);
    }

    #[test]
    fn empty_examples_do_not_loop_for_ever() {
        let rows = pack(vec![example(1, 0), example(2, 0)], 4, 0, Packing::Plain);
        assert_eq!(rows.len(), 1);
        assert!(pack(Vec::new(), 4, 0, Packing::Plain).is_empty());
    }
}
