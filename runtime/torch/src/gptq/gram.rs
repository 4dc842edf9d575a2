//! What a rounding error in each column of a matrix costs, found from the inputs that the matrix has.
//!
//! ```text
//! gram    sum over the inputs x of x x^T, the second derivative of the squared error of W x up to a factor that falls out
//! factor  the upper Cholesky factor of its inverse, columns in the order in which they are rounded
//! ```
//!
//! The order is that of the original's libraries (`act_group_aware`; Gafni et al. 2025): groups of columns by their
//! strongest, the strongest columns of a group first. A group stays together, so that no reader need know of the order.

use std::cmp::Ordering;

use tch::{Kind, Tensor};
use torch_device::Place;

use super::GROUP;
use crate::BackendError;
use crate::load::is_finite;

/// Part of the mean diagonal that is added to it, so that it can be inverted; the next ones where that does not do.
/// The first is the default of transformers' `GPTQConfig`.
pub(super) const DAMPS: [f64; 4] = [0.1, 0.2, 0.4, 0.8];

/// A sum over inputs.
pub(super) struct Gram(Tensor);

impl Gram {
    pub(super) fn new(columns: i64, place: Place) -> Result<Self, BackendError> {
        Ok(Self(place.zeros(&[columns, columns], Kind::Float)?))
    }

    /// Adds inputs, one a row.
    pub(super) fn add(&mut self, inputs: &Tensor) -> Result<(), BackendError> {
        let _same = self.0.f_addmm_(&inputs.f_transpose(0, 1)?, inputs)?;
        Ok(())
    }

    /// None where inputs were not finite.
    pub(super) fn sum(self) -> Result<Option<Tensor>, BackendError> {
        let sum = Place::PROCESSOR.put(&self.0)?;
        Ok(is_finite(&sum)?.then_some(sum))
    }
}

/// The order in which columns are rounded, and what passes from each to those that follow.
pub(super) struct Factor {
    /// Which column comes at each place.
    pub(super) order: Vec<usize>,
    /// The same as a tensor.
    pub(super) places: Tensor,
    /// Columns that no input reaches: one for those that one does, else zero, in that order.
    pub(super) alive: Tensor,
    /// Upper triangle, `[columns, columns]`, in that order.
    pub(super) upper: Tensor,
}

impl Factor {
    /// None where the sum cannot be inverted, however much is added to its diagonal.
    pub(super) fn of(sum: &Tensor) -> Result<Option<Self>, BackendError> {
        let diagonal = sum.f_diagonal(0, 0, 1)?;
        let dead = diagonal.f_eq(0.0)?;
        let strengths = diagonal.f_add(&dead.f_to_kind(Kind::Float)?)?;
        let mut values = vec![0.0_f32; strengths.numel()];
        strengths.f_copy_data(&mut values, strengths.numel())?;
        let order = order(&values);
        let places: Vec<i64> = order.iter().map(|place| *place as i64).collect();
        let places = Tensor::f_from_slice(&places)?;
        let alive = dead.f_logical_not()?.f_to_kind(Kind::Float)?;
        let strengths = strengths.f_index_select(0, &places)?;
        let sorted = sum.f_index_select(0, &places)?.f_index_select(1, &places)?;
        let mean = strengths.f_mean(Kind::Double)?.f_double_value(&[])?;
        for (attempt, damp) in DAMPS.into_iter().enumerate() {
            // Where 32 bits do not do, the next attempts have 64.
            let kind = if attempt == 0 {
                Kind::Float
            } else {
                Kind::Double
            };
            let damped = sorted.f_to_dtype(kind, false, true)?;
            let mut to = damped.f_diagonal(0, 0, 1)?;
            to.f_copy_(&strengths.f_to_kind(kind)?.f_add_scalar(damp * mean)?)?;
            if let Some(upper) = inverse_factor(&damped)? {
                return Ok(Some(Self {
                    alive: alive.f_index_select(0, &places)?,
                    order,
                    places,
                    upper: upper.f_to_kind(Kind::Float)?,
                }));
            }
        }
        Ok(None)
    }
}

/// The upper Cholesky factor of the inverse of a matrix, unless the matrix has none.
fn inverse_factor(matrix: &Tensor) -> Result<Option<Tensor>, BackendError> {
    let (lower, failed) = matrix.f_linalg_cholesky_ex(false, false)?;
    if failed.f_int64_value(&[])? != 0 {
        return Ok(None);
    }
    let inverse = lower.f_cholesky_inverse(false)?;
    let (upper, failed) = inverse.f_linalg_cholesky_ex(true, false)?;
    let whole = failed.f_int64_value(&[])? == 0 && is_finite(&upper)?;
    Ok(whole.then_some(upper))
}

/// Whole groups by their strongest column, a group's columns by their strength, then what fills no group.
fn order(strengths: &[f32]) -> Vec<usize> {
    let falling = |a: &f32, b: &f32| b.partial_cmp(a).unwrap_or(Ordering::Equal);
    let whole = strengths.len() / GROUP * GROUP;
    let mut groups: Vec<Vec<usize>> = (0..whole)
        .step_by(GROUP)
        .map(|start| {
            let mut group: Vec<usize> = (start..start + GROUP).collect();
            group.sort_by(|a, b| falling(&strengths[*a], &strengths[*b]));
            group
        })
        .collect();
    groups.sort_by(|a, b| falling(&strengths[a[0]], &strengths[b[0]]));
    let rest = whole..strengths.len();
    groups.into_iter().flatten().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stay_together_and_the_strongest_comes_first() {
        let mut strengths = vec![1.0; 300];
        (strengths[200], strengths[130], strengths[5]) = (9.0, 3.0, 7.0);
        let order = order(&strengths);
        assert_eq!(order[..3], [200, 130, 128]);
        assert_eq!(order[128..130], [5, 0]);
        assert_eq!(order[256..], (256..300).collect::<Vec<_>>());
        let mut all = order.clone();
        all.sort_unstable();
        assert_eq!(all, (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn the_factor_is_that_of_the_damped_inverse() {
        tch::manual_seed(1);
        let inputs = Tensor::randn([50, 6], (Kind::Float, tch::Device::Cpu));
        let mut gram = Gram::new(6, Place::PROCESSOR).unwrap();
        gram.add(&inputs.narrow(0, 0, 20)).unwrap();
        gram.add(&inputs.narrow(0, 20, 30)).unwrap();
        let sum = gram.sum().unwrap().unwrap();
        let factor = Factor::of(&sum).unwrap().unwrap();
        let back = factor.upper.tr().matmul(&factor.upper).inverse();
        let mean = sum.diagonal(0, 0, 1).mean(Kind::Float);
        let wanted = &sum + Tensor::eye(6, (Kind::Float, tch::Device::Cpu)) * mean * 0.1;
        let gap = (back - wanted).abs().max().double_value(&[]);
        assert!(gap < 1e-2, "{gap}");
    }

    #[test]
    fn inputs_that_are_nothing_or_all_alike_are_still_rounded_by() {
        for inputs in [
            Tensor::zeros([4, 130], (Kind::Float, tch::Device::Cpu)),
            Tensor::ones([4, 130], (Kind::Float, tch::Device::Cpu)),
        ] {
            let mut gram = Gram::new(130, Place::PROCESSOR).unwrap();
            gram.add(&inputs).unwrap();
            let factor = Factor::of(&gram.sum().unwrap().unwrap()).unwrap().unwrap();
            assert!(is_finite(&factor.upper).unwrap());
        }
        let mut gram = Gram::new(2, Place::PROCESSOR).unwrap();
        gram.add(&Tensor::from_slice(&[1.0_f32, f32::NAN]).view([1, 2]))
            .unwrap();
        assert!(gram.sum().unwrap().is_none());
    }
}
