//! A model judged without training it: which of some tokens it would say next, and how likely it finds a text.

use tch::{Kind, Reduction, Tensor};
use train_data::{Batch, IGNORED};

use crate::BackendError;
use crate::lay_out::lay_out;
use crate::model::{Model, Pass};

/// Logits in memory at a time.
const NUMBERS: i64 = 1 << 23;

impl Model {
    /// The place of the likeliest of `choices` after each of `prompts`; of equals the first.
    pub fn choose_among(
        &self,
        prompts: &[&[i64]],
        choices: &[i64],
    ) -> Result<Vec<usize>, BackendError> {
        let mut pass = Pass::default();
        for prompt in prompts {
            pass.tokens.extend_from_slice(prompt);
            pass.segments.push(prompt.len() as i64);
            pass.wanted.push(pass.tokens.len() as i64 - 1);
        }
        tch::no_grad(|| {
            let logits = self.logits(&pass, false)?;
            let choices = self.place().of_slice(choices)?;
            let logits = logits.f_index_select(1, &choices)?;
            let sum = logits.f_sum(Kind::Double)?.f_double_value(&[])?;
            if !sum.is_finite() {
                return Err(self.no_number());
            }
            let best = logits.f_argmax(1, false)?;
            let best = (0..prompts.len() as i64).map(|row| best.f_int64_value(&[row]));
            let best = best.map(|place| Ok(place? as usize));
            best.collect()
        })
    }

    /// The sum of the losses of a batch's labels, and how many there are that something predicts.
    pub fn text_loss(&self, batch: &Batch) -> Result<(f64, usize), BackendError> {
        let (pass, targets) = lay_out(batch)?;
        if targets.is_empty() {
            return Ok((0.0, 0));
        }
        let count = targets.len() as i64;
        tch::no_grad(|| {
            let rows = self.hidden(&pass, None, false)?;
            let wanted = self.place().of_slice(&pass.wanted)?;
            let rows = rows.f_index_select(0, &wanted)?;
            let targets = self.place().of_slice(&targets)?;
            let step = (NUMBERS / self.config().vocabulary).clamp(16, count.max(16));
            let (mut sum, mut start) = (0.0, 0);
            while start < count {
                let length = step.min(count - start);
                let logits = self.head(&rows.f_narrow(0, start, length)?)?;
                let part = logits.f_cross_entropy_loss(
                    &targets.f_narrow(0, start, length)?,
                    None::<&Tensor>,
                    Reduction::Sum,
                    IGNORED,
                    0.0,
                )?;
                sum += part.f_double_value(&[])?;
                start += length;
            }
            Ok((sum, count as usize))
        })
    }
}
