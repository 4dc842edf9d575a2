//! A library that makes a vendor's collectives one of libtorch's, so that tensors are added up where they lie.
//!
//! It is compiled against one release of libtorch and one file of the vendor's, and knows their classes by their size: beside
//! others it would write where it must not. So it says what it was made for, and that is compared before it is used.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use crate::{DeviceError, Place, sys};

/// A bridge that suits this program and the vendor's library.
#[derive(Clone, Debug)]
pub struct Bridge {
    pub(crate) path: PathBuf,
    /// This process's device.
    pub(crate) place: Place,
}

impl Bridge {
    /// Loads the bridge at `path`, for a process that computes on `place`. `library` is the vendor's library, which is loaded
    /// already; without it only the release of libtorch is compared, for another process of the run compares the rest.
    pub fn open(path: &Path, library: Option<&Path>, place: Place) -> Result<Self, DeviceError> {
        let unfit = |reason: String| DeviceError::BridgeUnfit {
            path: path.to_owned(),
            reason,
            torch: sys::torch_version(),
        };
        let name = path
            .to_str()
            .ok_or_else(|| unfit("its path is no text".to_owned()))?;
        let made_for = sys::bridge_made_for(name).map_err(|fault| unfit(fault.0))?;
        let (torch, digest) = made_for
            .split_once(' ')
            .ok_or_else(|| unfit(format!("it is made for `{made_for}`")))?;
        let of_other = |expected: String, found: String| DeviceError::BridgeOfOther {
            path: path.to_owned(),
            expected,
            found,
        };
        let here = sys::torch_version();
        if torch != here {
            return Err(of_other(
                format!("libtorch {torch}"),
                format!("libtorch {here}"),
            ));
        }
        if let Some(library) = library {
            let found = digest_of(library)
                .map_err(|error| unfit(format!("`{}`: {error}", library.display())))?;
            if found != digest {
                let name = library.file_name().unwrap_or_default().to_string_lossy();
                return Err(of_other(
                    format!("`{name}` sha256:{digest}"),
                    format!("sha256:{found}"),
                ));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            place,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            break;
        }
        hash.update(&piece[..length]);
    }
    let mut digest = String::new();
    for byte in hash.finalize() {
        let _never_fails = write!(digest, "{byte:02x}");
    }
    Ok(digest)
}

/// Whether a vendor's collective was ever made here.
static MADE: AtomicBool = AtomicBool::new(false);

pub(crate) fn note_made() {
    MADE.store(true, Ordering::Relaxed);
}

/// Ends the program where a vendor's collective was made: after a failure its library, and the device's, would wait at the
/// program's end for what is never done. Returns where there was none.
pub fn end_where_devices_wait(status: u8) {
    if MADE.load(Ordering::Relaxed) {
        sys::end(status);
    }
}

/// Ends the program at once, whatever its threads are at.
pub fn end(status: u8) -> ! {
    sys::end(status)
}
