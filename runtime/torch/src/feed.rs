//! The feed-forward half of a layer: three matrices for all tokens, or experts that each see some.
//!
//! ```text
//! x -> silu(gate x) * up x -> down
//! ```
//!
//! Gate and up are kept for the backward pass; their product is computed again.

use tch::{Kind, Tensor};

use crate::BackendError;
use crate::block::Around;
use crate::experts::{Experts, KeptExperts};
use crate::lora::{Linear, Mode};

/// The feed-forward half of a layer.
#[derive(Debug)]
pub(crate) enum Feed {
    Dense(Box<Gated>),
    Experts(Box<Experts>),
}

/// What it keeps for its backward pass.
#[derive(Debug)]
pub(crate) enum KeptFeed {
    Dense(KeptGated),
    Experts(KeptExperts),
}

impl Feed {
    pub(crate) fn linears(&self) -> Box<dyn Iterator<Item = &Linear> + '_> {
        match self {
            Self::Dense(gated) => Box::new(gated.linears().into_iter()),
            Self::Experts(experts) => Box::new(experts.linears()),
        }
    }

    pub(crate) fn linears_mut(&mut self) -> Box<dyn Iterator<Item = &mut Linear> + '_> {
        match self {
            Self::Dense(gated) => Box::new(gated.linears_mut().into_iter()),
            Self::Experts(experts) => Box::new(experts.linears_mut()),
        }
    }

    /// Computes it. Where `keep`, returns what [`Self::backward`] needs.
    pub(crate) fn forward(
        &self,
        x: Tensor,
        around: &Around,
        keep: bool,
    ) -> Result<(Tensor, Option<KeptFeed>), BackendError> {
        match self {
            Self::Dense(gated) => {
                let (result, kept) = gated.forward(x, around.mode)?;
                Ok((result, keep.then_some(KeptFeed::Dense(kept))))
            }
            Self::Experts(experts) => {
                let (result, kept) = experts.forward(&x, around, keep)?;
                Ok((result, kept.map(KeptFeed::Experts)))
            }
        }
    }

    /// Adds to the gradients of what trains, given the gradient `out` of the result. Returns that of the input, which
    /// `x` computes once more.
    pub(crate) fn backward(
        &self,
        kept: KeptFeed,
        out: &Tensor,
        x: &dyn Fn() -> Result<Tensor, BackendError>,
        around: &Around,
    ) -> Result<Tensor, BackendError> {
        match (self, kept) {
            (Self::Dense(gated), KeptFeed::Dense(kept)) => {
                Ok(gated.backward(kept, out, x, None, around.mode)?.0)
            }
            (Self::Experts(experts), KeptFeed::Experts(kept)) => {
                experts.backward(kept, out, &x()?, around)
            }
            _ => Err(BackendError::Library(
                "a layer kept what belongs to another".to_owned(),
            )),
        }
    }
}

/// Three matrices: those of a dense layer, or of one expert.
#[derive(Debug)]
pub(crate) struct Gated {
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// The results of gate and up.
#[derive(Debug)]
pub(crate) struct KeptGated {
    gate: Tensor,
    up: Tensor,
}

impl Gated {
    pub(crate) fn linears(&self) -> [&Linear; 3] {
        [&self.gate, &self.up, &self.down]
    }

    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; 3] {
        [&mut self.gate, &mut self.up, &mut self.down]
    }

    pub(crate) fn forward(
        &self,
        x: Tensor,
        mode: Mode,
    ) -> Result<(Tensor, KeptGated), BackendError> {
        let gate = self.gate.forward(&x, mode)?;
        let up = self.up.forward(&x, mode)?;
        drop(x);
        let product = gate.f_silu()?.f_mul(&up)?;
        let result = self.down.forward(&product, mode)?;
        Ok((result, KeptGated { gate, up }))
    }

    /// The input of the last matrix.
    pub(crate) fn product(&self, x: &Tensor, mode: Mode) -> Result<Tensor, BackendError> {
        let gate = self.gate.forward(x, mode)?;
        Ok(gate.f_silu()?.f_mul(&self.up.forward(x, mode)?)?)
    }

    /// The gradient of the input from that of the result. Where each row of the result was multiplied by its `share`
    /// (`[rows, 1]`) afterwards, `out` is the gradient of that product, and the shares' gradient comes second.
    pub(crate) fn backward(
        &self,
        kept: KeptGated,
        out: &Tensor,
        x: &dyn Fn() -> Result<Tensor, BackendError>,
        share: Option<&Tensor>,
        mode: Mode,
    ) -> Result<(Tensor, Option<Tensor>), BackendError> {
        let KeptGated { gate, up } = kept;
        let mut open = gate.f_silu()?;
        let product = open.f_mul(&up)?;
        let (mut inner, for_share) = match share {
            None => {
                let inner = self.down.backward(&product, out, None, true, mode)?;
                (inner.ok_or_else(nothing)?, None)
            }
            // A matrix does not mind on which side a row is scaled. Scaled on its way in, what comes back is the
            // gradient of the unscaled product, and the share's is their product: the result need not be kept.
            Some(share) => {
                let scaled = product.f_mul(share)?;
                let inner = self.down.backward(&scaled, out, None, true, mode)?;
                let mut inner = inner.ok_or_else(nothing)?;
                let along = product
                    .f_mul(&inner)?
                    .f_sum_dim_intlist(1, false, Kind::Float)?;
                (inner.f_mul_(share)?, Some(along))
            }
        };
        drop(product);
        let for_up = open.f_mul_(&inner)?;
        let for_gate = gate.f_silu_backward(&inner.f_mul_(&up)?)?;
        drop((gate, up, inner));
        let x = x()?;
        let sum = self.gate.backward(&x, &for_gate, None, true, mode)?;
        drop(for_gate);
        let sum = self.up.backward(&x, &for_up, sum, true, mode)?;
        Ok((sum.ok_or_else(nothing)?, for_share))
    }
}

/// A gradient was asked for and not given: a fault of this crate.
pub(crate) fn nothing() -> BackendError {
    BackendError::Library("a layer gave no gradient of its input".to_owned())
}
