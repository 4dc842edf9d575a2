//! A vendor's device library, found and loaded while the program runs.
//!
//! The program is linked against libtorch's processor half alone. A library that is loaded later registers its devices and
//! their operations as it is loaded; from then on tensors can be there. This must come before anything asks libtorch
//! for a device: it remembers the answer.

use std::path::{Path, PathBuf};

use crate::place::Place;
use crate::{DeviceError, sys};

/// Libtorch's number for CUDA; a build for HIP answers to it as well.
pub(crate) const CUDA: i32 = 1;
/// Libtorch's number for the type that is left to others.
const PRIVATE: i32 = 20;

/// How a library registers its devices.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Registers<'a> {
    /// As CUDA, which builds for HIP do, too.
    Cuda,
    /// As libtorch's type that is left to others, under this name.
    Private(&'a str),
}

impl Registers<'_> {
    fn kind(self) -> i32 {
        match self {
            Self::Cuda => CUDA,
            Self::Private(_) => PRIVATE,
        }
    }
}

/// What is to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct Library<'a> {
    /// File name, such as `libtorch_npu.so`.
    pub file: &'a str,
    /// Libraries that must be loaded before it, where they lie beside it; file names.
    pub first: &'a [String],
    /// What it registers.
    pub registers: Registers<'a>,
    /// What the Python interpreter among `first`, if there is one, is told before the library is asked for a device.
    pub script: &'a str,
}

/// A loaded library.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loaded {
    path: PathBuf,
    kind: i32,
    count: usize,
}

impl Library<'_> {
    /// The first of `folders` that holds it.
    pub fn find(&self, folders: &[PathBuf]) -> Option<PathBuf> {
        let paths = folders.iter().map(|folder| folder.join(self.file));
        paths.into_iter().find(|path| path.is_file())
    }

    /// Loads it from one of `folders`, and counts its devices.
    pub fn load(&self, folders: &[PathBuf]) -> Result<Loaded, DeviceError> {
        let path = self
            .find(folders)
            .ok_or_else(|| DeviceError::LibraryMissing {
                file: self.file.to_owned(),
                folders: folders.to_vec(),
            })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let before = self.first.iter().map(|name| folder.join(name));
        let before: Vec<PathBuf> = before.filter(|path| path.is_file()).collect();
        for path in before.iter().chain([&path]) {
            open(path)?;
        }
        let kind = self.registers.kind();
        let found = match self.registers {
            Registers::Private(_) if sys::is_registered(kind) => sys::private_name(),
            Registers::Cuda if sys::is_registered(kind) => "cuda".to_owned(),
            _ => "nothing".to_owned(),
        };
        let expected = match self.registers {
            Registers::Private(name) => name,
            Registers::Cuda => "cuda",
        };
        if found != expected {
            return Err(DeviceError::LibraryOfOther {
                path,
                found,
                expected: expected.to_owned(),
            });
        }
        if !before.is_empty() {
            sys::interpret(self.script).map_err(DeviceError::refused)?;
        }
        let count = sys::device_count(kind).map_err(DeviceError::refused)?;
        if count == 0 {
            return Err(DeviceError::NoDevice { path });
        }
        Ok(Loaded { path, kind, count })
    }
}

impl Loaded {
    /// The library's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Devices that it sees.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Makes device `index` the one that is computed on.
    pub fn choose(&self, index: usize) -> Result<Place, DeviceError> {
        let number = i32::try_from(index).ok().filter(|_| index < self.count);
        let index = number.ok_or(DeviceError::NoSuchDevice {
            index,
            count: self.count,
        })?;
        let place = Place {
            kind: self.kind,
            index,
        };
        place.take()?;
        Ok(place)
    }
}

fn open(path: &Path) -> Result<(), DeviceError> {
    let unfit = |reason: String| DeviceError::LibraryUnfit {
        path: path.to_owned(),
        reason,
        torch: sys::torch_version(),
    };
    let name = path
        .to_str()
        .ok_or_else(|| unfit("its path is no text".to_owned()))?;
    sys::open(name).map_err(|fault| unfit(fault.0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use report::Diagnose as _;

    use super::*;

    const NPU: Library<'_> = Library {
        file: "libtorch_npu.so",
        first: &[],
        registers: Registers::Private("npu"),
        script: "",
    };

    #[test]
    fn a_library_that_is_not_there_names_where_it_was_looked_for() {
        let folders = [PathBuf::from("/nowhere/lib"), PathBuf::from("/else")];
        let error = NPU.load(&folders).unwrap_err();
        assert_eq!(error.code(), "device.library-missing");
        let said = error.to_string();
        assert!(said.contains("/nowhere/lib") && said.contains("/else"));
    }

    #[test]
    fn a_library_that_cannot_be_loaded_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        for content in [
            &b""[..],
            b"\x7fELF",
            b"not a library, but long enough to look at it twice",
        ] {
            fs::write(folder.path().join(NPU.file), content).unwrap();
            let error = NPU.load(&folders).unwrap_err();
            assert_eq!(error.code(), "device.library-unfit", "{error}");
            assert!(error.to_string().contains(NPU.file), "{error}");
        }
    }
}
