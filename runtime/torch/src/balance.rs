//! The loss that keeps experts equally busy (Fedus et al. 2021, equations 4 to 6), over all layers of a pass at once as
//! transformers computes it.
//!
//! ```text
//! loss = weight * experts * sum over experts of used * likely
//! used    how often a token was sent to the expert: sendings / (layers * tokens), a constant
//! likely  its mean probability over the same
//! ```

use std::cell::{OnceCell, RefCell};

use tch::{Kind, Tensor};
use torch_device::Place;

use crate::BackendError;

/// Gathers what the layers of one pass send where; once settled, gives the gradient of their probabilities.
#[derive(Debug)]
pub(crate) struct Balance {
    weight: f64,
    totals: RefCell<Option<Totals>>,
    row: OnceCell<Tensor>,
}

#[derive(Debug)]
struct Totals {
    /// Tokens sent to each expert.
    sent: Vec<f64>,
    /// Each expert's probability, summed over the tokens.
    likely: Tensor,
    /// Tokens, counted once a layer.
    tokens: f64,
}

impl Balance {
    pub(crate) fn new(weight: f64) -> Self {
        Self {
            weight,
            totals: RefCell::new(None),
            row: OnceCell::new(),
        }
    }

    /// Takes in a layer: the probabilities, `[tokens, experts]`, and how many tokens it sent to each expert. A layer that
    /// is computed a second time, on the way back, is not counted again.
    pub(crate) fn gather(&self, all: &Tensor, counts: &[i64]) -> Result<(), BackendError> {
        if self.row.get().is_some() {
            return Ok(());
        }
        let likely = all.f_detach()?.f_sum_dim_intlist(0, false, Kind::Float)?;
        let tokens = all.size()[0] as f64;
        let mut totals = self.totals.borrow_mut();
        match totals.as_mut() {
            None => {
                *totals = Some(Totals {
                    sent: counts.iter().map(|count| *count as f64).collect(),
                    likely,
                    tokens,
                });
            }
            Some(totals) => {
                for (sent, count) in totals.sent.iter_mut().zip(counts) {
                    *sent += *count as f64;
                }
                let _ = totals.likely.f_add_(&likely)?;
                totals.tokens += tokens;
            }
        }
        Ok(())
    }

    /// The same, counted so many times.
    pub(crate) fn times(mut self, factor: f64) -> Self {
        self.weight *= factor;
        self
    }

    /// The loss of what was gathered; from now on [`Self::row`] has its gradient.
    pub(crate) fn settle(&self) -> Result<f64, BackendError> {
        let totals = self.totals.borrow();
        let Some(totals) = totals.as_ref() else {
            return Ok(0.0);
        };
        let experts = totals.sent.len() as f64;
        let scale = self.weight * experts / (totals.tokens * totals.tokens);
        let row: Vec<f32> = totals.sent.iter().map(|n| (n * scale) as f32).collect();
        let row = Place::of(&totals.likely).of_slice(&row)?;
        let value = row
            .f_mul(&totals.likely)?
            .f_sum(Kind::Double)?
            .f_double_value(&[])?;
        // Set once: a pass is settled once.
        let _ = self.row.set(row);
        Ok(value)
    }

    /// The gradient of each token's probabilities, `[experts]`.
    pub(crate) fn row(&self) -> Option<&Tensor> {
        self.row.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equations 4 to 6, written out for two layers of three tokens, two experts, one choice.
    #[test]
    fn the_loss_is_that_of_the_paper() {
        let balance = Balance::new(0.5);
        let layer = |values: [f32; 6]| Tensor::from_slice(&values).view([3, 2]);
        balance
            .gather(&layer([0.9, 0.1, 0.8, 0.2, 0.4, 0.6]), &[2, 1])
            .unwrap();
        balance
            .gather(&layer([0.7, 0.3, 0.6, 0.4, 0.9, 0.1]), &[3, 0])
            .unwrap();
        let (used, likely) = ([5.0 / 6.0, 1.0 / 6.0], [4.3 / 6.0, 1.7 / 6.0]);
        let wanted = 0.5 * 2.0 * (used[0] * likely[0] + used[1] * likely[1]);
        let found = balance.settle().unwrap();
        assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
        let row = Vec::<f32>::try_from(balance.row().unwrap()).unwrap();
        // d loss / d probability = weight * experts * used / (layers * tokens)
        assert!((f64::from(row[0]) - 0.5 * 2.0 * used[0] / 6.0).abs() < 1e-7);
        // What comes later is the same pass once more.
        balance.gather(&layer([0.0; 6]), &[0, 3]).unwrap();
        let again = Vec::<f32>::try_from(balance.row().unwrap()).unwrap();
        assert_eq!(row, again);
    }
}
