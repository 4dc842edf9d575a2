//! Devices that libtorch learns of at run time, and groups of processes: what tch lacks.
//!
//! ```text
//! libtorch_npu.so, libtorch_cuda.so --Library::load--> Loaded --choose--> Place --put, empty, zeros--> tensors there
//! processes of one machine --Group::join--> sum, share
//! ```
//!
//! All operations on tensors that are on a device go there by themselves; only what makes a tensor has to be told. The
//! C++ beside this crate is what tch has no function for, and nothing else.

mod alarm;
mod bridge;
mod error;
mod group;
mod library;
mod place;
mod sys;

pub use alarm::Alarm;
pub use bridge::{Bridge, end, end_where_devices_wait};
pub use error::DeviceError;
pub use group::{Group, Meeting, Trial};
pub use library::{Library, Loaded, Registers};
pub use place::{DeviceMemory, Place};

/// The release of libtorch that this program was compiled for.
pub fn torch_version() -> String {
    sys::torch_version()
}
