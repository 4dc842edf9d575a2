//! Where tensors are, and how they get there.

use std::fmt;

use tch::{Device, Kind, Tensor};

use crate::{DeviceError, sys};

/// Libtorch's number for the processor among its types of devices.
pub(crate) const PROCESSOR: i32 = 0;

/// The processor's memory, or one device's.
///
/// tch names devices of two types only; this names any, by libtorch's own number for the type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    pub(crate) kind: i32,
    pub(crate) index: i32,
}

/// Bytes of a device's memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeviceMemory {
    /// Not used by anybody.
    pub free: u64,
    /// All of it.
    pub total: u64,
    /// The most that tensors of this program held at a time.
    pub peak: u64,
}

impl Default for Place {
    fn default() -> Self {
        Self::PROCESSOR
    }
}

impl Place {
    /// The processor's memory.
    pub const PROCESSOR: Self = Self {
        kind: PROCESSOR,
        index: -1,
    };

    /// Where a tensor is.
    pub fn of(tensor: &Tensor) -> Self {
        let (kind, index) = sys::place_of(tensor);
        Self { kind, index }
    }

    /// Whether this is the processor's memory.
    pub fn is_processor(self) -> bool {
        self.kind == PROCESSOR
    }

    /// The tensor with the same numbers here: itself where it is here already, else a copy.
    pub fn put(self, tensor: &Tensor) -> Result<Tensor, DeviceError> {
        if self.is_processor() && sys::place_of(tensor).0 == PROCESSOR {
            return Ok(tensor.shallow_clone());
        }
        sys::put(tensor, self.kind, self.index).map_err(DeviceError::refused)
    }

    /// A tensor of these numbers.
    pub fn of_slice<T: tch::kind::Element>(self, numbers: &[T]) -> Result<Tensor, DeviceError> {
        let tensor = Tensor::f_from_slice(numbers).map_err(DeviceError::library)?;
        if self.is_processor() {
            return Ok(tensor);
        }
        self.put(&tensor)
    }

    /// A tensor of unset numbers.
    pub fn empty(self, size: &[i64], kind: Kind) -> Result<Tensor, DeviceError> {
        let like = if self.is_processor() { size } else { &[0] };
        let made = Tensor::f_empty(like, (kind, Device::Cpu)).map_err(DeviceError::library)?;
        if self.is_processor() {
            return Ok(made);
        }
        sys::empty(size, &made, self.kind, self.index).map_err(DeviceError::refused)
    }

    /// A tensor of zeros.
    pub fn zeros(self, size: &[i64], kind: Kind) -> Result<Tensor, DeviceError> {
        let mut made = self.empty(size, kind)?;
        made.f_zero_().map_err(DeviceError::library)
    }

    /// Makes this the device of the calling thread: every thread has its own, the first one where nothing was said.
    pub fn take(self) -> Result<(), DeviceError> {
        if self.is_processor() {
            return Ok(());
        }
        sys::set_device(self.kind, self.index).map_err(DeviceError::refused)
    }

    /// Waits until everything that was asked of the device is done.
    pub fn finish(self) -> Result<(), DeviceError> {
        if self.is_processor() {
            return Ok(());
        }
        sys::synchronize(self.kind, self.index).map_err(DeviceError::refused)
    }

    /// Whether numbers that go there come back as they were.
    pub fn copies(self) -> Result<bool, DeviceError> {
        let numbers: Vec<f32> = (0..1000_u16).map(|n| f32::from(n) / 7.0).collect();
        let here = Self::PROCESSOR.of_slice(&numbers)?;
        let back = Self::PROCESSOR.put(&self.put(&here)?)?;
        self.finish()?;
        back.f_equal(&here).map_err(DeviceError::library)
    }

    /// The device's memory, where its library tells.
    pub fn memory(self) -> Option<DeviceMemory> {
        if self.is_processor() {
            return None;
        }
        // torch_npu knows its memory only once it has given some.
        let _first = self.empty(&[1], Kind::Uint8).ok()?;
        let [free, total, peak] = sys::memory(self.kind, self.index)?;
        let bytes = |number: i64| u64::try_from(number).unwrap_or_default();
        Some(DeviceMemory {
            free: bytes(free),
            total: bytes(total),
            peak: bytes(peak),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            PROCESSOR => f.write_str("cpu"),
            crate::library::CUDA => write!(f, "cuda:{}", self.index),
            _ => write!(f, "{}:{}", sys::private_name(), self.index),
        }
    }
}
