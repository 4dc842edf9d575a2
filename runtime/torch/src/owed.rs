//! Gradients that are not computed yet: the products that they are the sums of.
//!
//! ```text
//! gradient of W [rows, columns] = out^T x        out [tokens, rows], x [tokens, columns]
//! ```
//!
//! With few tokens the two sides together are smaller than their product, and are kept in its place. The optimizer
//! multiplies them out a few rows at a time, applies these and forgets them: the whole gradient is never in memory. Its
//! length, which clipping asks for before anything is applied, is found without it:
//!
//! ```text
//! |out^T x|^2 = sum of (out out^T) * (x x^T)     both [tokens, tokens]
//! ```
//!
//! With many tokens the gradient is summed up in its buffer as any other. Which of both it is depends on the step alone, so
//! that a run that goes on computes what the first would have.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::{BackendError, gradient};

/// Numbers of a gradient that are multiplied out at a time.
const PIECE: i64 = 1 << 19;

/// What one trained matrix is owed; the layer and the optimizer share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owed(Arc<Mutex<Debt>>);

#[derive(Debug, Default)]
struct Debt {
    /// `out` and `x`.
    products: Vec<(Tensor, Tensor)>,
    /// Rows of the gradient by their numbers, as an embedding has them.
    rows: Vec<(Vec<i64>, Tensor)>,
    /// Numbers that both hold.
    held: usize,
    /// The gradient is in its buffer, until the step is done.
    settled: bool,
}

impl Owed {
    fn debt(&self) -> MutexGuard<'_, Debt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `out^T x` to the gradient of `parameter`.
    pub(crate) fn add(
        &self,
        parameter: &Tensor,
        out: &Tensor,
        x: &Tensor,
    ) -> Result<(), BackendError> {
        let mut debt = self.debt();
        if !debt.grows(parameter, out.numel() + x.numel())? {
            return gradient::add_product(parameter, &out.f_transpose(0, 1)?, x);
        }
        // The caller goes on to change what it hands over as `out`.
        debt.products
            .push((out.f_detach_copy()?, x.shallow_clone()));
        Ok(())
    }

    /// Adds `part` to the rows `places` of the gradient of `parameter`.
    pub(crate) fn add_rows(
        &self,
        parameter: &Tensor,
        places: &Tensor,
        part: &Tensor,
    ) -> Result<(), BackendError> {
        let mut debt = self.debt();
        if !debt.grows(parameter, part.numel())? {
            let _ = gradient::of(parameter)?.f_index_add_(0, places, part)?;
            return Ok(());
        }
        let places = Vec::<i64>::try_from(places)?;
        debt.rows.push((places, part.f_detach_copy()?));
        Ok(())
    }

    /// Whether the gradient is in its buffer.
    pub(crate) fn is_settled(&self) -> bool {
        self.debt().settled
    }

    /// Adds all of it to the buffer of `parameter`, where the gradient then is until the step is done.
    pub(crate) fn settle(&self, parameter: &Tensor) -> Result<(), BackendError> {
        self.debt().settle(parameter)
    }

    /// The gradient's length, squared.
    pub(crate) fn square(&self) -> Result<f64, BackendError> {
        self.debt().square()
    }

    /// Multiplies the gradient of `parameter` out. Calls `act` with the first row, the number of rows and the numbers of each
    /// piece, which are then overwritten.
    pub(crate) fn each(
        &self,
        parameter: &Tensor,
        mut act: impl FnMut(i64, i64, &Tensor) -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        let debt = self.debt();
        let (rows, columns) = parameter.size2()?;
        let step = (PIECE / columns.max(1)).clamp(1, rows.max(1));
        let room = Tensor::f_empty([step, columns], (parameter.kind(), Device::Cpu))?;
        let mut start = 0;
        while start < rows {
            let count = step.min(rows - start);
            let mut piece = room.f_narrow(0, 0, count)?;
            debt.multiply_out(start, count, &mut piece)?;
            act(start, count, &piece)?;
            start += count;
        }
        Ok(())
    }

    /// The step is done: nothing is owed any more.
    pub(crate) fn forget(&self) {
        *self.debt() = Debt::default();
    }
}

impl Debt {
    /// Whether so many numbers more may be held. Where the buffer is the smaller, all goes over to it for this step.
    fn grows(&mut self, parameter: &Tensor, numbers: usize) -> Result<bool, BackendError> {
        if self.settled {
            return Ok(false);
        }
        self.held += numbers;
        if self.held < parameter.numel() {
            return Ok(true);
        }
        self.settle(parameter)?;
        Ok(false)
    }

    fn settle(&mut self, parameter: &Tensor) -> Result<(), BackendError> {
        for (out, x) in self.products.drain(..) {
            gradient::add_product(parameter, &out.f_transpose(0, 1)?, &x)?;
        }
        let mut buffer = gradient::of(parameter)?;
        for (places, part) in self.rows.drain(..) {
            let _ = buffer.f_index_add_(0, &Tensor::f_from_slice(&places)?, &part)?;
        }
        self.settled = true;
        Ok(())
    }

    fn square(&self) -> Result<f64, BackendError> {
        let sum = |product: &Tensor| product.f_sum(Kind::Double)?.f_double_value(&[]);
        let turned = |tensor: &Tensor| tensor.f_transpose(0, 1);
        let mut square = 0.0;
        for (at, (out, x)) in self.products.iter().enumerate() {
            for (other_out, other_x) in &self.products[at..] {
                let both = out
                    .f_mm(&turned(other_out)?)?
                    .f_mul_(&x.f_mm(&turned(other_x)?)?)?;
                let twice = if std::ptr::eq(x, other_x) { 1.0 } else { 2.0 };
                square += twice * sum(&both)?;
            }
            for (places, part) in &self.rows {
                let places = Tensor::f_from_slice(places)?;
                let rows = turned(&out.f_index_select(1, &places)?)?.f_mm(x)?;
                square += 2.0 * sum(&rows.f_mul(part)?)?;
            }
        }
        for (at, (places, part)) in self.rows.iter().enumerate() {
            let places = Tensor::f_from_slice(places)?.f_unsqueeze(1)?;
            for (other_places, other_part) in &self.rows[at..] {
                let other_places = Tensor::f_from_slice(other_places)?.f_unsqueeze(0)?;
                let same = places.f_eq_tensor(&other_places)?.f_to_kind(part.kind())?;
                let both = part.f_mm(&turned(other_part)?)?.f_mul(&same)?;
                let twice = if std::ptr::eq(part, other_part) {
                    1.0
                } else {
                    2.0
                };
                square += twice * sum(&both)?;
            }
        }
        Ok(square.max(0.0))
    }

    /// `count` rows of the gradient from row `start` on, into `piece`.
    fn multiply_out(&self, start: i64, count: i64, piece: &mut Tensor) -> Result<(), BackendError> {
        let mut products = self.products.iter();
        let left = |out: &Tensor| out.f_narrow(1, start, count)?.f_transpose(0, 1);
        let _written = match products.next() {
            Some((out, x)) => left(out)?.f_mm_out(piece, x)?,
            None => piece.f_zero_()?,
        };
        for (out, x) in products {
            let _added = piece.f_addmm_(&left(out)?, x)?;
        }
        for (places, part) in &self.rows {
            let here = (0_i64..).zip(places);
            let here = here.filter(|(_, place)| (start..start + count).contains(*place));
            let (from, to): (Vec<i64>, Vec<i64>) = here.map(|(at, row)| (at, row - start)).unzip();
            if !from.is_empty() {
                let part = part.f_index_select(0, &Tensor::f_from_slice(&from)?)?;
                let _added = piece.f_index_add_(0, &Tensor::f_from_slice(&to)?, &part)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: i64 = PIECE / 32 + 9;

    fn random(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    /// A parameter, what it is owed after `times` additions of `tokens` tokens, and the gradient as libtorch adds it up.
    fn case(times: usize, tokens: i64) -> (Tensor, Owed, Tensor) {
        tch::manual_seed(6);
        let parameter = random(&[ROWS, 32]);
        gradient::want(&parameter).unwrap();
        let owed = Owed::default();
        let mut whole = Tensor::zeros([ROWS, 32], (Kind::Float, Device::Cpu));
        tch::no_grad(|| {
            for _ in 0..times {
                let (out, x) = (random(&[tokens, ROWS]), random(&[tokens, 32]));
                whole = &whole + out.transpose(0, 1).mm(&x);
                owed.add(&parameter, &out, &x).unwrap();
                let part = random(&[5, 32]);
                let places = Tensor::from_slice(&[3_i64, ROWS - 1, 3, 700, 0]);
                whole = whole.index_add(0, &places, &part);
                owed.add_rows(&parameter, &places, &part).unwrap();
            }
        });
        (parameter, owed, whole)
    }

    #[test]
    fn what_is_owed_is_the_gradient() {
        for times in [1, 2] {
            let (parameter, owed, whole) = case(times, 4);
            assert!(!owed.is_settled());
            tch::no_grad(|| {
                let length = whole.norm().double_value(&[]);
                let found = owed.square().unwrap().sqrt();
                assert!((found - length).abs() < 1e-5 * length, "{found} {length}");
                let mut rows = 0;
                owed.each(&parameter, |start, count, piece| {
                    let gap = (piece - whole.narrow(0, start, count)).abs().max();
                    assert!(gap.double_value(&[]) < 1e-4);
                    rows += count;
                    Ok(())
                })
                .unwrap();
                assert_eq!(rows, ROWS);
            });
            assert!(!parameter.grad().defined());
            owed.forget();
            assert!(tch::no_grad(|| owed.square()).unwrap() < 1e-9);
        }
    }

    #[test]
    fn many_tokens_are_summed_up_in_the_buffer() {
        let (parameter, owed, whole) = case(2, 40);
        assert!(owed.is_settled());
        let gap = (parameter.grad() - whole).abs().max().double_value(&[]);
        assert!(gap < 1e-3, "{gap}");
        owed.forget();
        assert!(!owed.is_settled());
    }
}
