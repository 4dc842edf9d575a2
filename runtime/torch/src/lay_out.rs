//! A batch as a pass: its rows end to end, and the labels of the wanted positions.

use train_data::{Batch, IGNORED};

use crate::BackendError;
use crate::model::Pass;

/// Lays the rows of a batch end to end, without padding and without the tokens after the last one that predicts a label:
/// a decoder looks only back, so these change no loss. Returns what to compute, and the label of each wanted position.
pub(crate) fn lay_out(batch: &Batch) -> Result<(Pass, Vec<i64>), BackendError> {
    lay_out_up_to(batch, false)
}

/// The same; where `whole`, with those last tokens.
pub(crate) fn lay_out_up_to(batch: &Batch, whole: bool) -> Result<(Pass, Vec<i64>), BackendError> {
    let bad = |reason: &str| BackendError::BadBatch {
        reason: reason.to_owned(),
    };
    let cells = batch.rows * batch.columns;
    let columns = [&batch.input_ids, &batch.labels, &batch.attention_mask];
    if columns.iter().any(|column| column.len() != cells) {
        return Err(bad("its columns differ in length"));
    }
    let (mut pass, mut targets) = (Pass::default(), Vec::new());
    if batch.positions.is_empty() {
        // In the original a row is as long as its padding makes it.
        pass.reach = batch.columns as i64;
    }
    for row in 0..batch.rows {
        let cells = row * batch.columns..(row + 1) * batch.columns;
        let labels = &batch.labels[cells.clone()];
        let mask = &batch.attention_mask[cells.clone()];
        let length = mask.iter().take_while(|on| **on != 0).count();
        if mask[length..].iter().any(|on| *on != 0) {
            return Err(bad("it is padded elsewhere than on the right"));
        }
        let start = pass.tokens.len() as i64;
        let mut used = 0;
        for (at, label) in labels.iter().enumerate().skip(1) {
            if *label != IGNORED {
                if at >= length {
                    return Err(bad("a label stands on padding"));
                }
                used = at;
                pass.wanted.push(start + at as i64 - 1);
                targets.push(*label);
            }
        }
        let used = if whole { length } else { used };
        if used > 0 {
            let ids = &batch.input_ids[cells.clone()];
            pass.tokens.extend_from_slice(&ids[..used]);
            let segments = mask[..used].chunk_by(|a, b| a == b);
            pass.segments.extend(segments.map(|part| part.len() as i64));
            if let Some(positions) = batch.positions.get(cells) {
                pass.positions.extend_from_slice(&positions[..used]);
            }
        }
    }
    Ok((pass, targets))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two rows of four tokens.
    pub(crate) fn batch(mask: [i64; 8], labels: [i64; 8]) -> Batch {
        Batch {
            rows: 2,
            columns: 4,
            input_ids: (10..18).collect(),
            labels: labels.to_vec(),
            attention_mask: mask.to_vec(),
            ..Batch::default()
        }
    }

    #[test]
    fn rows_lie_end_to_end_up_to_the_last_token_that_predicts() {
        let no = IGNORED;
        let (pass, targets) = lay_out(&batch(
            [1, 1, 1, 1, 1, 1, 0, 0],
            [no, no, 12, no, no, 15, no, no],
        ))
        .unwrap();
        assert_eq!(pass.tokens, [10, 11, 14]);
        assert_eq!(pass.segments, [2, 1]);
        assert_eq!(pass.reach, 4, "as the original sees it");
        assert_eq!((pass.wanted, targets), (vec![1, 2], vec![12, 15]));
    }

    #[test]
    fn what_would_be_computed_wrongly_is_refused() {
        let no = IGNORED;
        let labels = [no, no, 12, no, no, 15, no, no];
        for mask in [[0, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]] {
            assert!(lay_out(&batch(mask, labels)).is_err(), "{mask:?}");
        }
    }
}
