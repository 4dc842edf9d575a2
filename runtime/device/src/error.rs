//! Why a device or a group of processes cannot be used.

use std::path::PathBuf;

use report::{Args, Diagnose, Outcome};
use tch::TchError;

use crate::sys::Fault;

/// Why a device or a group of processes cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The vendor's library is in none of the folders.
    #[error("`{file}` is in none of {}", shown(.folders))]
    LibraryMissing {
        /// The library.
        file: String,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// The vendor's library, or one that it needs, cannot be loaded.
    #[error("`{path}` cannot be loaded beside libtorch {torch}: {reason}")]
    LibraryUnfit {
        /// The library.
        path: PathBuf,
        /// What the system said.
        reason: String,
        /// The release of libtorch in this program.
        torch: String,
    },
    /// The library registered other devices than those it stands for.
    #[error("`{path}` registers {found}, expected {expected}")]
    LibraryOfOther {
        /// The library.
        path: PathBuf,
        /// What it registered.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// The library sees no device.
    #[error("`{path}` sees no device")]
    NoDevice {
        /// The library.
        path: PathBuf,
    },
    /// There are not so many devices.
    #[error("there is no device {index}; there are {count}, counted from 0")]
    NoSuchDevice {
        /// The device asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The device's library refused.
    #[error("the device refused: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// A bridge to the vendor's collectives cannot be loaded, or is none.
    #[error("`{path}` cannot be used beside libtorch {torch}: {reason}")]
    BridgeUnfit {
        /// The bridge.
        path: PathBuf,
        /// What the system said.
        reason: String,
        /// The release of libtorch in this program.
        torch: String,
    },
    /// A bridge was made for other libraries than those that are there.
    #[error("`{path}` is made for {expected}, found {found}")]
    BridgeOfOther {
        /// The bridge.
        path: PathBuf,
        /// What it was made for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The processes did not find together.
    #[error("process {rank} of {count} did not reach the others: {reason}")]
    NotJoined {
        /// This process, counted from 0.
        rank: usize,
        /// How many there are.
        count: usize,
        /// What c10d said.
        reason: String,
    },
    /// A process is gone, or has not answered for too long.
    #[error("process {rank} has lost another one: {reason}")]
    PeerLost {
        /// This process, counted from 0.
        rank: usize,
        /// What c10d said.
        reason: String,
    },
}

fn shown(folders: &[PathBuf]) -> String {
    let names = folders
        .iter()
        .map(|folder| format!("`{}`", folder.display()));
    names.collect::<Vec<_>>().join(", ")
}

impl DeviceError {
    pub(crate) fn refused(fault: Fault) -> Self {
        Self::Refused { reason: fault.0 }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "so that it can be handed to `map_err`"
    )]
    pub(crate) fn library(error: TchError) -> Self {
        // The first line is the message; what follows is a C++ call stack.
        let text = error.to_string();
        Self::Refused {
            reason: text.lines().next().unwrap_or_default().to_owned(),
        }
    }
}

impl Diagnose for DeviceError {
    fn code(&self) -> &'static str {
        match self {
            Self::LibraryMissing { .. } => "device.library-missing",
            Self::LibraryUnfit { .. } => "device.library-unfit",
            Self::LibraryOfOther { .. } => "device.library-of-other",
            Self::NoDevice { .. } => "device.none",
            Self::NoSuchDevice { .. } => "device.no-such",
            Self::Refused { .. } => "device.refused",
            Self::BridgeUnfit { .. } => "device.bridge-unfit",
            Self::BridgeOfOther { .. } => "device.bridge-of-other",
            Self::NotJoined { .. } => "device.not-joined",
            Self::PeerLost { .. } => "device.peer-lost",
        }
    }

    fn args(&self) -> Args {
        let path = |path: &PathBuf| path.display().to_string();
        match self {
            Self::LibraryMissing { file, folders } => {
                vec![("file", file.clone()), ("folders", shown(folders))]
            }
            Self::LibraryUnfit {
                path: library,
                reason,
                torch,
            }
            | Self::BridgeUnfit {
                path: library,
                reason,
                torch,
            } => vec![
                ("path", path(library)),
                ("reason", reason.clone()),
                ("torch", torch.clone()),
            ],
            Self::LibraryOfOther {
                path: library,
                found,
                expected,
            }
            | Self::BridgeOfOther {
                path: library,
                found,
                expected,
            } => vec![
                ("path", path(library)),
                ("found", found.clone()),
                ("expected", expected.clone()),
            ],
            Self::NoDevice { path: library } => vec![("path", path(library))],
            Self::NoSuchDevice { index, count } => {
                vec![("index", index.to_string()), ("count", count.to_string())]
            }
            Self::Refused { reason } => vec![("reason", reason.clone())],
            Self::NotJoined {
                rank,
                count,
                reason,
            } => vec![
                ("rank", rank.to_string()),
                ("count", count.to_string()),
                ("reason", reason.clone()),
            ],
            Self::PeerLost { rank, reason } => {
                vec![("rank", rank.to_string()), ("reason", reason.clone())]
            }
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::NoSuchDevice { .. } => Outcome::Usage,
            Self::LibraryMissing { .. }
            | Self::LibraryUnfit { .. }
            | Self::LibraryOfOther { .. }
            | Self::NoDevice { .. }
            | Self::Refused { .. }
            | Self::BridgeUnfit { .. }
            | Self::BridgeOfOther { .. }
            | Self::NotJoined { .. }
            | Self::PeerLost { .. } => Outcome::HostFault,
        }
    }
}
