//! A weight matrix in memory: as numbers, or packed into a few bits.

use std::fmt::Debug;

use tch::{Kind, Tensor};
use torch_device::Place;

use crate::four_bit::Packed;
use crate::four_bit_device::DevicePacked;
use crate::gptq::{DeviceGrid, Grid};
use crate::{BackendError, product};

/// A matrix in a few bits a number.
pub(crate) trait Compact: Debug + Send {
    /// Rows and columns.
    fn size(&self) -> (i64, i64);

    /// Where it is kept and used.
    fn place(&self) -> Place {
        Place::PROCESSOR
    }

    /// The matrix as `f32`.
    fn widen(&self) -> Result<Tensor, BackendError>;
}

/// A matrix `[rows, columns]` of a linear layer.
#[derive(Debug)]
pub(crate) enum Weight {
    /// Numbers, of 16 or 32 bits. Only these can be trained.
    Numbers(Tensor),
    /// A few bits a number, widened each time they are used.
    Packed(Box<dyn Compact>),
}

impl Weight {
    /// A matrix in four bits that is used in `place`, and kept there.
    pub(crate) fn of_packed(packed: Packed, place: Place) -> Result<Self, BackendError> {
        Ok(Self::Packed(if place.is_processor() {
            Box::new(packed)
        } else {
            Box::new(DevicePacked::of(&packed, place)?)
        }))
    }

    /// The same of a matrix on a grid.
    pub(crate) fn of_grid(grid: Grid, place: Place) -> Result<Self, BackendError> {
        Ok(Self::Packed(if place.is_processor() {
            Box::new(grid)
        } else {
            Box::new(DeviceGrid::of(&grid, place)?)
        }))
    }

    /// The matrix in `kind`: the stored tensor itself where it is of that kind.
    pub(crate) fn matrix(&self, kind: Kind) -> Result<Tensor, BackendError> {
        match self {
            Self::Numbers(tensor) => Ok(tensor.f_to_kind(kind)?),
            Self::Packed(packed) => Ok(packed.widen()?.f_to_kind(kind)?),
        }
    }

    /// `x @ matrix^T`, and `bias` to each row; in the number format of `x`.
    pub(crate) fn forth(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, BackendError> {
        match self {
            Self::Numbers(tensor) => product::forth(x, tensor, bias),
            Self::Packed(_) => product::forth(x, &self.matrix(x.kind())?, bias),
        }
    }

    /// `sum + out @ matrix`, in the place of `sum` where there is one.
    pub(crate) fn back(&self, sum: Option<Tensor>, out: &Tensor) -> Result<Tensor, BackendError> {
        match self {
            Self::Numbers(tensor) => product::back(sum, out, tensor),
            Self::Packed(_) => product::back(sum, out, &self.matrix(out.kind())?),
        }
    }

    /// Rows and columns.
    pub(crate) fn size(&self) -> Result<(i64, i64), BackendError> {
        match self {
            Self::Numbers(tensor) => Ok(tensor.size2()?),
            Self::Packed(packed) => Ok(packed.size()),
        }
    }

    /// Where it is kept and used.
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

    /// Whether it is packed into a few bits.
    pub(crate) fn is_packed(&self) -> bool {
        self.numbers().is_none()
    }

    /// Whether gradients are wanted for it.
    pub(crate) fn trains(&self) -> bool {
        self.numbers().is_some_and(Tensor::requires_grad)
    }
}
