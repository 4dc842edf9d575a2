//! Examples of different lengths into one rectangle of tokens.

use crate::example::{Example, Item};

/// Label of a token that the loss leaves out.
pub const IGNORED: i64 = -100;

/// Widths are rounded up to a multiple of this, as tensor units like it.
const WIDTH_STEP: usize = 8;

/// One micro-batch: `rows` × `columns` tokens, row after row.
///
/// A batch of preferences holds the preferred answers in its first half of rows and the rejected ones, in the
/// same order, in its second.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Batch {
    /// Examples in it.
    pub rows: usize,
    /// Tokens of the longest example, rounded up to a multiple of eight.
    pub columns: usize,
    /// Token ids; the pad id where an example is shorter.
    pub input_ids: Vec<i64>,
    /// The id that each position must predict one step earlier, or [`IGNORED`].
    pub labels: Vec<i64>,
    /// Zero for padding, else the number of the token's segment in its row, counted from one. A token sees
    /// only its own segment.
    pub attention_mask: Vec<i64>,
    /// Position of each token in its text; empty: tokens are counted from zero in each row.
    pub positions: Vec<i64>,
    /// Whether each row is a wanted answer; only in batches of single judgements.
    pub desirable: Vec<bool>,
    /// The same questions, each with the answer to another; only in batches of single judgements.
    pub mismatched: Option<Box<Batch>>,
}

impl Batch {
    /// Lays `items` side by side.
    pub fn of(items: &[&Item], pad_id: u32) -> Self {
        let (mut first, mut second, mut mismatched) = (Vec::new(), Vec::new(), Vec::new());
        let mut desirable = Vec::new();
        for item in items {
            match item {
                Item::Single(example) => first.push(example),
                Item::Pair { chosen, rejected } => {
                    first.push(chosen);
                    second.push(rejected);
                }
                Item::Judged {
                    example,
                    mismatched: other,
                    desirable: wanted,
                } => {
                    first.push(example);
                    mismatched.push(other);
                    desirable.push(*wanted);
                }
            }
        }
        first.extend(second);
        let mut batch = Self::collate(&first, pad_id);
        if !mismatched.is_empty() {
            batch.mismatched = Some(Box::new(Self::collate(&mismatched, pad_id)));
        }
        batch.desirable = desirable;
        batch
    }

    /// Pads `examples` on the right to one width.
    pub fn collate(examples: &[&Example], pad_id: u32) -> Self {
        let longest = examples.iter().map(|e| e.input_ids.len()).max();
        let columns = longest.unwrap_or(0).next_multiple_of(WIDTH_STEP);
        let cells = examples.len() * columns;
        let mut batch = Self {
            rows: examples.len(),
            columns,
            input_ids: Vec::with_capacity(cells),
            labels: Vec::with_capacity(cells),
            attention_mask: Vec::with_capacity(cells),
            ..Self::default()
        };
        let packed = examples.iter().any(|example| example.packed.is_some());
        for (row, example) in examples.iter().enumerate() {
            let end = (row + 1) * columns;
            let ids = example.input_ids.iter().map(|id| i64::from(*id));
            batch.input_ids.extend(ids);
            batch.labels.extend_from_slice(&example.labels);
            if let Some(packed) = &example.packed {
                batch.attention_mask.extend_from_slice(&packed.segments);
                batch.positions.extend_from_slice(&packed.positions);
            } else {
                batch.attention_mask.resize(batch.input_ids.len(), 1);
                if packed {
                    batch.positions.extend(0..example.input_ids.len() as i64);
                }
            }
            batch.input_ids.resize(end, i64::from(pad_id));
            batch.labels.resize(end, IGNORED);
            batch.attention_mask.resize(end, 0);
            if packed {
                batch.positions.resize(end, 0);
            }
        }
        batch
    }

    /// Returns the number of labels, by which the original divides the sum of the losses.
    ///
    /// It counts a label on a row's first token too, although nothing predicts that one.
    pub fn label_tokens(&self) -> usize {
        let counted = self.labels.iter().filter(|label| **label != IGNORED);
        counted.count()
    }

    /// Returns how many tokens are not padding.
    pub fn tokens(&self) -> usize {
        self.attention_mask
            .iter()
            .filter(|mask| **mask != 0)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::Packed;

    fn example(ids: &[u32]) -> Example {
        Example {
            input_ids: ids.to_vec(),
            labels: ids.iter().map(|id| i64::from(*id)).collect(),
            packed: None,
        }
    }

    #[test]
    fn rows_are_padded_on_the_right_to_a_multiple_of_eight() {
        let mut short = example(&[6, 7]);
        short.labels[0] = IGNORED;
        let batch = Batch::collate(&[&example(&[5; 9]), &short], 3);
        assert_eq!((batch.rows, batch.columns), (2, 16));
        assert_eq!(batch.input_ids[16..20], [6, 7, 3, 3]);
        assert_eq!(batch.labels[16..20], [IGNORED, 7, IGNORED, IGNORED]);
        assert_eq!(
            batch.attention_mask[7..20],
            [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]
        );
        assert_eq!((batch.label_tokens(), batch.tokens()), (10, 11));
        assert!(batch.positions.is_empty());
    }

    #[test]
    fn packed_rows_bring_their_segments_and_positions() {
        let mut packed = example(&[5, 6, 7]);
        packed.packed = Some(Packed {
            segments: vec![1, 2, 0],
            positions: vec![0, 0, 0],
        });
        let batch = Batch::collate(&[&packed, &example(&[8, 9])], 3);
        assert_eq!(batch.attention_mask[..4], [1, 2, 0, 0]);
        assert_eq!(batch.positions[8..11], [0, 1, 0]);
    }

    #[test]
    fn preferred_answers_come_before_rejected_ones() {
        let pair = |chosen: u32, rejected: u32| Item::Pair {
            chosen: example(&[chosen]),
            rejected: example(&[rejected]),
        };
        let batch = Batch::of(&[&pair(1, 2), &pair(3, 4)], 0);
        let firsts: Vec<i64> = batch.input_ids.chunks(8).map(|row| row[0]).collect();
        assert_eq!(firsts, [1, 3, 2, 4]);
    }

    #[test]
    fn no_examples_make_an_empty_batch() {
        let batch = Batch::collate(&[], 0);
        assert_eq!((batch.rows, batch.columns, batch.label_tokens()), (0, 0, 0));
    }
}
