//! Stands in for a chip in tests: a device library over the processor's memory.
//!
//! It is loaded as a vendor's library is, and registers two devices called `npu`. What lies on them is the
//! processor's memory, and what is computed on them is computed by libtorch's own operations there; but no code that
//! takes a tensor for one of the processor's gets away with it. `HOST_NPU_BYTES` is how much a device holds,
//! `HOST_NPU_DEVICES` how many there are, `HOST_NPU_NAME` what they are called.

use std::path::{Path, PathBuf};

/// The library, where this was built with a libtorch.
pub fn library() -> Option<&'static Path> {
    option_env!("HOST_NPU").map(Path::new)
}

/// The folder that holds it.
///
/// # Panics
///
/// Where this was built without a libtorch.
pub fn folder() -> PathBuf {
    let folder = library().and_then(Path::parent);
    folder.expect(WITHOUT).to_owned()
}

/// A library that stands in for a bridge to the vendor's collectives: it adds up tensors of the devices. It lies under a name
/// by which it is not found, so that only a test that wants it has it.
///
/// # Panics
///
/// Where this was built without a libtorch.
pub fn bridge() -> &'static Path {
    option_env!("HOST_HCCL").map(Path::new).expect(WITHOUT)
}

const WITHOUT: &str = "tests on devices are built with LIBTORCH set";
