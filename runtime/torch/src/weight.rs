//! A weight matrix in memory: as numbers, or packed into four bits.

use tch::{Kind, Tensor};
use torch_device::Place;

use crate::four_bit::Packed;
use crate::four_bit_device::DevicePacked;
use crate::{BackendError, product};

/// A matrix `[rows, columns]` of a linear layer.
#[derive(Debug)]
pub(crate) enum Weight {
    /// Numbers, of 16 or 32 bits. Only these can be trained.
    Numbers(Tensor),
    /// Four bits a number, widened each time they are used.
    Packed(Packed),
    /// The same on a device.
    DevicePacked(DevicePacked),
}

impl Weight {
    /// A packed matrix that is used in `place`, and kept there.
    pub(crate) fn of_packed(packed: Packed, place: Place) -> Result<Self, BackendError> {
        if place.is_processor() {
            return Ok(Self::Packed(packed));
        }
        DevicePacked::of(&packed, place).map(Self::DevicePacked)
    }

    /// The matrix in `kind`: the stored tensor itself where it is of that kind.
    pub(crate) fn matrix(&self, kind: Kind) -> Result<Tensor, BackendError> {
        match self {
            Self::Numbers(tensor) => Ok(tensor.f_to_kind(kind)?),
            Self::Packed(packed) => Ok(packed.widen()?.f_to_kind(kind)?),
            Self::DevicePacked(packed) => Ok(packed.widen()?.f_to_kind(kind)?),
        }
    }

    /// `x @ matrix^T`, and `bias` to each row; in the number format of `x`.
    pub(crate) fn forth(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, BackendError> {
        match self {
            Self::Numbers(tensor) => product::forth(x, tensor, bias),
            _ => product::forth(x, &self.matrix(x.kind())?, bias),
        }
    }

    /// `sum + out @ matrix`, in the place of `sum` where there is one.
    pub(crate) fn back(&self, sum: Option<Tensor>, out: &Tensor) -> Result<Tensor, BackendError> {
        match self {
            Self::Numbers(tensor) => product::back(sum, out, tensor),
            _ => product::back(sum, out, &self.matrix(out.kind())?),
        }
    }

    /// Rows and columns.
    pub(crate) fn size(&self) -> Result<(i64, i64), BackendError> {
        match self {
            Self::Numbers(tensor) => Ok(tensor.size2()?),
            Self::Packed(packed) => Ok(packed.size()),
            Self::DevicePacked(packed) => Ok(packed.size()),
        }
    }

    /// Where it is kept and used.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Numbers(tensor) => Place::of(tensor),
            Self::Packed(_) => Place::PROCESSOR,
            Self::DevicePacked(packed) => packed.place(),
        }
    }

    /// How many numbers the matrix has.
    pub(crate) fn count(&self) -> usize {
        let (rows, columns) = match self {
            Self::Numbers(tensor) => return tensor.numel(),
            Self::Packed(packed) => packed.size(),
            Self::DevicePacked(packed) => packed.size(),
        };
        (rows * columns) as usize
    }

    /// The tensor, unless it is packed.
    pub(crate) fn numbers(&self) -> Option<&Tensor> {
        match self {
            Self::Numbers(tensor) => Some(tensor),
            Self::Packed(_) | Self::DevicePacked(_) => None,
        }
    }

    /// Whether it is packed into four bits.
    pub(crate) fn is_packed(&self) -> bool {
        self.numbers().is_none()
    }

    /// Whether gradients are wanted for it.
    pub(crate) fn trains(&self) -> bool {
        self.numbers().is_some_and(Tensor::requires_grad)
    }
}
