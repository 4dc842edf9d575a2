//! Products with a matrix that may be kept in fewer bits than it is computed with.
//!
//! Widening 16 bits to 32 loses nothing, so such products have the bits that a matrix kept in 32 would give, in half
//! of its memory. A few rows at a time are widened, into room that stays in the processor's cache: what is read from memory
//! is half as much, too, and the widening is paid for by that.

use tch::{Device, Kind, Tensor};
use torch_device::Place;

use crate::BackendError;

/// Numbers of a matrix that are wide at a time.
const PIECE: i64 = 1 << 19;

/// `matrix` as [`forth`] and [`back`] take it for products in `kind`: itself where it is widened piece by piece, or has
/// that kind.
pub(crate) fn ready(matrix: &Tensor, kind: Kind) -> Result<Tensor, BackendError> {
    if kind == Kind::Float && is_narrow(matrix) {
        return Ok(matrix.shallow_clone());
    }
    Ok(matrix.f_to_kind(kind)?)
}

/// `x @ matrix^T`, and `bias` to each row.
pub(crate) fn forth(
    x: &Tensor,
    matrix: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor, BackendError> {
    let recorded = bias.is_some_and(Tensor::requires_grad);
    let Some(pieces) = Pieces::of(matrix, x)?.filter(|_| !recorded) else {
        return Ok(x.f_linear(&matrix.f_to_kind(x.kind())?, bias)?);
    };
    let rows = matrix.size()[0];
    let result = Tensor::f_empty([x.size()[0], rows], (Kind::Float, Device::Cpu))?;
    pieces.each(|start, count, wide| {
        let place = result.f_narrow(1, start, count)?;
        let turned = wide.f_transpose(0, 1)?;
        match bias {
            Some(bias) => bias
                .f_narrow(0, start, count)?
                .f_addmm_out(&place, x, &turned),
            None => x.f_mm_out(&place, &turned),
        }
    })?;
    Ok(result)
}

/// `sum + out @ matrix`, in the place of `sum` where there is one.
pub(crate) fn back(
    sum: Option<Tensor>,
    out: &Tensor,
    matrix: &Tensor,
) -> Result<Tensor, BackendError> {
    let Some(pieces) = Pieces::of(matrix, out)? else {
        let matrix = matrix.f_to_kind(out.kind())?;
        return match sum {
            None => Ok(out.f_mm(&matrix)?),
            Some(mut sum) => Ok(sum.f_addmm_(out, &matrix)?),
        };
    };
    let mut sum = match sum {
        Some(sum) => sum,
        None => Place::PROCESSOR.zeros(&[out.size()[0], matrix.size()[1]], Kind::Float)?,
    };
    pieces.each(|start, count, wide| sum.f_addmm_(&out.f_narrow(1, start, count)?, wide))?;
    Ok(sum)
}

/// Whether a matrix is of 16 bits, on the processor.
fn is_narrow(matrix: &Tensor) -> bool {
    matches!(matrix.kind(), Kind::BFloat16 | Kind::Half) && Place::of(matrix).is_processor()
}

/// A matrix that is widened a few rows at a time.
struct Pieces<'a> {
    matrix: &'a Tensor,
    rows: i64,
    /// Rows that are wide at a time.
    step: i64,
    room: Tensor,
}

impl<'a> Pieces<'a> {
    /// None where the products need no wider numbers, or libtorch is to find their gradients itself: it has to keep all
    /// that it multiplies with.
    fn of(matrix: &'a Tensor, other: &Tensor) -> Result<Option<Self>, BackendError> {
        if other.kind() != Kind::Float || !is_narrow(matrix) || other.requires_grad() {
            return Ok(None);
        }
        let (rows, columns) = matrix.size2()?;
        let step = (PIECE / columns.max(1)).clamp(1, rows.max(1));
        let room = Tensor::f_empty([step, columns], (Kind::Float, Device::Cpu))?;
        Ok(Some(Self {
            matrix,
            rows,
            step,
            room,
        }))
    }

    /// Calls `act` with the first row, the number of rows and the numbers of each piece.
    fn each(
        &self,
        mut act: impl FnMut(i64, i64, &Tensor) -> Result<Tensor, tch::TchError>,
    ) -> Result<(), BackendError> {
        let mut start = 0;
        while start < self.rows {
            let count = self.step.min(self.rows - start);
            let mut wide = self.room.f_narrow(0, 0, count)?;
            wide.f_copy_(&self.matrix.f_narrow(0, start, count)?)?;
            let _written = act(start, count, &wide)?;
            start += count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_16_bits_gives_what_it_gives_in_32() {
        tch::manual_seed(5);
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        // As many rows as make three pieces, the last of them short.
        let columns = 64;
        let rows = 2 * PIECE / columns + 7;
        let (x, out) = (random(&[5, columns]), random(&[5, rows]));
        let (bias, sum) = (random(&[rows]), random(&[5, columns]));
        for kind in [Kind::BFloat16, Kind::Half] {
            let narrow = random(&[rows, columns]).to_kind(kind);
            assert_eq!(ready(&narrow, Kind::Float).unwrap().kind(), kind);
            let wide = narrow.to_kind(Kind::Float);
            let near = |a: Tensor, b: Tensor| {
                let gap = (&a - &b).abs().max() / b.abs().max();
                let gap = gap.double_value(&[]);
                assert!(gap < 1e-6, "{kind:?}: {gap}");
            };
            for bias in [None, Some(&bias)] {
                near(forth(&x, &narrow, bias).unwrap(), x.linear(&wide, bias));
            }
            let plain = out.mm(&wide);
            near(back(None, &out, &narrow).unwrap(), plain.shallow_clone());
            near(back(Some(sum.copy()), &out, &narrow).unwrap(), plain + &sum);
            // Libtorch can go back through it, too.
            let leaf = x.copy().set_requires_grad(true);
            forth(&leaf, &narrow, None)
                .unwrap()
                .sum(Kind::Float)
                .backward();
            near(leaf.grad(), Tensor::ones_like(&out).mm(&wide));
        }
    }
}
