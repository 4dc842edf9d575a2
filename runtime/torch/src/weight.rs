//! A weight matrix in memory: as numbers, or packed into four bits.

use tch::{Kind, Tensor};
use torch_device::Place;

use crate::BackendError;
use crate::four_bit::Packed;

/// A matrix `[rows, columns]` of a linear layer.
#[derive(Debug)]
pub(crate) enum Weight {
    /// Numbers, `f32` or `bf16`. Only these can be trained.
    Numbers(Tensor),
    /// Four bits a number, widened each time they are used.
    Packed(Packed),
}

impl Weight {
    /// The matrix in `kind`: the stored tensor itself where it is of that kind.
    pub(crate) fn matrix(&self, kind: Kind) -> Result<Tensor, BackendError> {
        match self {
            Self::Numbers(tensor) => Ok(tensor.f_to_kind(kind)?),
            Self::Packed(packed) => Ok(packed.widen()?.f_to_kind(kind)?),
        }
    }

    /// Rows and columns.
    pub(crate) fn size(&self) -> Result<(i64, i64), BackendError> {
        match self {
            Self::Numbers(tensor) => Ok(tensor.size2()?),
            Self::Packed(packed) => Ok(packed.size()),
        }
    }

    /// Where it is used.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Numbers(tensor) => Place::of(tensor),
            Self::Packed(packed) => packed.place(),
        }
    }

    /// How many numbers the matrix has.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Numbers(tensor) => tensor.numel(),
            Self::Packed(packed) => {
                let (rows, columns) = packed.size();
                (rows * columns) as usize
            }
        }
    }

    /// The tensor, unless it is packed.
    pub(crate) fn numbers(&self) -> Option<&Tensor> {
        match self {
            Self::Numbers(tensor) => Some(tensor),
            Self::Packed(_) => None,
        }
    }

    /// Whether it is packed into four bits.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self, Self::Packed(_))
    }

    /// Whether gradients are wanted for it.
    pub(crate) fn trains(&self) -> bool {
        self.numbers().is_some_and(Tensor::requires_grad)
    }
}
