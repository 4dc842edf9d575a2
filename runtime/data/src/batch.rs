//! Examples of different lengths into one rectangle of tokens.

use crate::example::Example;

/// Label of a token that the loss leaves out.
pub const IGNORED: i64 = -100;

/// Widths are rounded up to a multiple of this, as tensor units like it.
const WIDTH_STEP: usize = 8;

/// One micro-batch: `rows` × `columns` tokens, row after row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Batch {
    /// Examples in it.
    pub rows: usize,
    /// Tokens of the longest example, rounded up to a multiple of eight.
    pub columns: usize,
    /// Token ids; the pad id where an example is shorter.
    pub input_ids: Vec<i64>,
    /// The id that each position must predict one step earlier, or [`IGNORED`].
    pub labels: Vec<i64>,
    /// One for a token, zero for padding.
    pub attention_mask: Vec<i64>,
}

impl Batch {
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
        };
        for (row, example) in examples.iter().enumerate() {
            let end = (row + 1) * columns;
            let ids = example.input_ids.iter().map(|id| i64::from(*id));
            batch.input_ids.extend(ids);
            batch.labels.extend_from_slice(&example.labels);
            batch.attention_mask.resize(batch.input_ids.len(), 1);
            batch.input_ids.resize(end, i64::from(pad_id));
            batch.labels.resize(end, IGNORED);
            batch.attention_mask.resize(end, 0);
        }
        batch
    }

    /// Returns how many positions the loss counts: labels that a token before them predicts.
    pub fn label_tokens(&self) -> usize {
        let rows = self.labels.chunks(self.columns.max(1));
        rows.flat_map(|row| row.iter().skip(1))
            .filter(|label| **label != IGNORED)
            .count()
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

    #[test]
    fn rows_are_padded_on_the_right_to_a_multiple_of_eight() {
        let long = Example {
            input_ids: vec![5; 9],
            labels: vec![5; 9],
        };
        let short = Example {
            input_ids: vec![6, 7],
            labels: vec![IGNORED, 7],
        };
        let batch = Batch::collate(&[&long, &short], 3);
        assert_eq!((batch.rows, batch.columns), (2, 16));
        assert_eq!(batch.input_ids[16..20], [6, 7, 3, 3]);
        assert_eq!(batch.labels[16..20], [IGNORED, 7, IGNORED, IGNORED]);
        assert_eq!(
            batch.attention_mask[7..20],
            [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]
        );
        assert_eq!((batch.label_tokens(), batch.tokens()), (9, 11));
    }

    #[test]
    fn no_examples_make_an_empty_batch() {
        let batch = Batch::collate(&[], 0);
        assert_eq!((batch.rows, batch.columns, batch.label_tokens()), (0, 0, 0));
    }
}
