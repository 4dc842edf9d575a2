//! The output layer and the loss on it, a few rows at a time: the logits of all rows at once would be the largest
//! tensor of a pass.

use tch::{Kind, Tensor};
use torch_device::Place;

use crate::owed::Owed;
use crate::{BackendError, gradient, product};

/// Logits in memory at a time.
const NUMBERS: i64 = 1 << 23;

/// Cross-entropy of `rows @ weight^T` against `targets`, each row's divided by `items`. Returns the sum, and its gradient
/// for `rows`; adds to that of `weight`, or to what it is owed, where it trains. Products are computed in `kind`, the rest in `f32`.
///
/// `rows` is `[n, hidden]`, `weight` `[vocabulary, hidden]`, `targets` `[n]`.
pub(crate) fn cross_entropy(
    rows: &Tensor,
    (weight, owed): (&Tensor, Option<&Owed>),
    targets: &Tensor,
    items: f64,
    kind: Kind,
) -> Result<(f64, Tensor), BackendError> {
    let (count, _) = rows.size2()?;
    let (vocabulary, _) = weight.size2()?;
    let matrix = product::ready(weight, kind)?;
    let step = (NUMBERS / vocabulary).clamp(16, count.max(16));
    let mut loss = 0.0;
    let mut gradients = Vec::new();
    let mut start = 0;
    while start < count {
        let length = step.min(count - start);
        let part = rows.f_narrow(0, start, length)?.f_to_kind(kind)?;
        let targets = targets.f_narrow(0, start, length)?.f_unsqueeze(1)?;
        start += length;
        let mut logits = product::forth(&part, &matrix, None)?.f_to_kind(Kind::Float)?;
        let level = logits.f_logsumexp(1, true)?;
        let right = logits.f_gather(1, &targets, false)?;
        loss += level
            .f_sub(&right)?
            .f_sum(Kind::Double)?
            .f_double_value(&[])?;
        // d logits = (softmax - one at the target) / items, in the place of the logits.
        let mut shares = logits.f_sub_(&level)?.f_exp_()?;
        let ones = Place::of(&shares)
            .zeros(&[length, 1], Kind::Float)?
            .f_fill_(-1.0)?;
        let shares = shares
            .f_scatter_add_(1, &targets, &ones)?
            .f_div_scalar_(items)?
            .f_to_kind(kind)?;
        if weight.requires_grad() {
            gradient::add_outer(weight, owed, &shares, &part)?;
        }
        gradients.push(product::back(None, &shares, &matrix)?.f_to_kind(rows.kind())?);
    }
    let gradient = if gradients.len() == 1 {
        gradients.remove(0)
    } else {
        Tensor::f_cat(&gradients, 0)?
    };
    Ok((loss / items, gradient))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Reduction};

    use super::*;

    #[test]
    fn pieces_add_up_to_the_loss_and_gradients_of_the_whole() {
        tch::manual_seed(4);
        let leaf = |shape: [i64; 2]| {
            Tensor::randn(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true)
        };
        // As many rows as make three pieces.
        let (rows, weight) = (leaf([40, 3]), leaf([(NUMBERS / 16) + 5, 3]));
        let targets: Vec<i64> = (0..40).map(|row| row * 101).collect();
        let targets = Tensor::from_slice(&targets);
        let whole = rows.matmul(&weight.transpose(0, 1)).cross_entropy_loss(
            &targets,
            None::<&Tensor>,
            Reduction::Sum,
            -100,
            0.0,
        ) / 7.0;
        whole.backward();
        let (for_rows, for_weight) = (rows.grad(), weight.grad().copy());
        gradient::want(&weight).unwrap();
        let before = weight.grad().copy();
        let (loss, found) =
            tch::no_grad(|| cross_entropy(&rows, (&weight, None), &targets, 7.0, Kind::Float))
                .unwrap();
        assert!((loss - whole.double_value(&[])).abs() < 1e-4, "{loss}");
        let gap = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        let gaps = [
            gap(&found, &for_rows),
            gap(&(weight.grad() - before), &for_weight),
        ];
        assert!(gaps.iter().all(|gap| *gap < 1e-4), "{gaps:?}");
    }
}
