//! Root-mean-square norm: `y = w * x / sqrt(mean(x^2) + epsilon)` over the last side.

use tch::{Kind, Tensor};

use crate::{BackendError, gradient};

/// A norm and its weight.
#[derive(Debug)]
pub(crate) struct Norm {
    /// Name in the files without `.weight`.
    pub(crate) name: String,
    /// One factor for each place of the last side.
    pub(crate) weight: Tensor,
    pub(crate) epsilon: f64,
}

impl Norm {
    /// Applies the norm. The mean is computed in `f32` whatever `x` is; the result is of the kind of `x`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, BackendError> {
        if x.kind() == Kind::Float && self.weight.kind() == Kind::Float {
            return Ok(x.f_rms_norm(self.weight.size(), Some(&self.weight), self.epsilon)?);
        }
        let (even, _) = self.evened(x)?;
        Ok(even.f_to_kind(x.kind())?.f_mul(&self.weight)?)
    }

    /// `x` over its root mean square, and one over that root; both `f32`.
    fn evened(&self, x: &Tensor) -> Result<(Tensor, Tensor), BackendError> {
        let x = x.f_to_kind(Kind::Float)?;
        let inverse = x
            .f_square()?
            .f_mean_dim(-1, true, Kind::Float)?
            .f_add_scalar(self.epsilon)?
            .f_rsqrt()?;
        Ok((x.f_mul(&inverse)?, inverse))
    }

    /// The gradient of `x` from that of the result, in the kind of `x`. Adds to the weight's gradient if that trains.
    pub(crate) fn backward(&self, x: &Tensor, out: &Tensor) -> Result<Tensor, BackendError> {
        let (even, inverse) = self.evened(x)?;
        let out = out.f_to_kind(Kind::Float)?;
        if self.weight.requires_grad() {
            let sides: Vec<i64> = (0..out.dim() as i64 - 1).collect();
            let part = out
                .f_mul(&even)?
                .f_sum_dim_intlist(sides, false, Kind::Float)?;
            gradient::add(&self.weight, &part)?;
        }
        let mut out = out.f_mul(&self.weight.f_to_kind(Kind::Float)?)?;
        let along = out.f_mul(&even)?.f_mean_dim(-1, true, Kind::Float)?;
        // d x = (d even - even * mean(d even * even)) / root
        let mut even = even;
        let lost = even.f_mul_(&along)?;
        Ok(out.f_sub_(&lost)?.f_mul_(&inverse)?.f_to_kind(x.kind())?)
    }
}
