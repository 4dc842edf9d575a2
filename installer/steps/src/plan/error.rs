//! Why no install can be planned.

use std::path::PathBuf;

use manifest_schema::{BackendName, ByteSize, Digest};
use report::{Args, Diagnose, Outcome};

use crate::disk::DiskError;
use crate::journal::JournalError;
use crate::program::ProgramError;

/// No install can be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The bundle has no such backend.
    #[error("the bundle has no backend `{wanted}`; it has {known}")]
    NoBackend {
        /// What was asked for.
        wanted: BackendName,
        /// What there is.
        known: String,
    },
    /// The bundle gives one place to two files.
    #[error("the bundle gives `{path}` to two files, or a file and a folder")]
    Clash {
        /// The place, below the release.
        path: String,
    },
    /// A newer release of the channel was installed before.
    #[error("release {found} of channel `{channel}` is older than {newest}, installed before")]
    Downgrade {
        /// The bundle's channel.
        channel: String,
        /// The bundle's release.
        found: u64,
        /// The newest that this prefix has seen.
        newest: u64,
    },
    /// The bundle is a delta, and what it leaves out is not here.
    #[error("the bundle is a delta without {count} blobs that are not in the store, {first} first")]
    DeltaBase {
        /// How many blobs.
        count: usize,
        /// The first of them.
        first: Digest,
    },
    /// The disk is too small.
    #[error("`{path}` has {free} free, and the install needs {needed}")]
    NoSpace {
        /// The prefix.
        path: PathBuf,
        /// Bytes free.
        free: ByteSize,
        /// Bytes needed.
        needed: ByteSize,
    },
    /// The file system can hold no more files.
    #[error("`{path}` can take {free} more files, and the install makes {needed}")]
    NoEntries {
        /// The prefix.
        path: PathBuf,
        /// Files that it can still hold.
        free: u64,
        /// Files and folders that the install makes.
        needed: u64,
    },
    /// No Python to make the environment with.
    #[error(transparent)]
    Python(#[from] ProgramError),
    /// The log is damaged, so nothing is known of earlier releases.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Diagnose for PlanError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoBackend { .. } => "install.no-backend",
            Self::Clash { .. } => "install.path-clash",
            Self::Downgrade { .. } => "install.downgrade",
            Self::DeltaBase { .. } => "install.delta-base-missing",
            Self::NoSpace { .. } => "install.no-space",
            Self::NoEntries { .. } => "install.no-entries",
            Self::Python(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::NoBackend { wanted, known } => {
                vec![("wanted", wanted.to_string()), ("known", known.clone())]
            }
            Self::Clash { path } => vec![("path", path.clone())],
            Self::Downgrade {
                channel,
                found,
                newest,
            } => vec![
                ("channel", channel.clone()),
                ("found", found.to_string()),
                ("newest", newest.to_string()),
            ],
            Self::DeltaBase { count, first } => {
                vec![("count", count.to_string()), ("first", first.hex())]
            }
            Self::NoSpace { path, free, needed } => vec![
                ("path", path.display().to_string()),
                ("free", free.to_string()),
                ("needed", needed.to_string()),
            ],
            Self::NoEntries { path, free, needed } => vec![
                ("path", path.display().to_string()),
                ("free", free.to_string()),
                ("needed", needed.to_string()),
            ],
            Self::Python(error) => error.args(),
            Self::Journal(error) => error.args(),
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::NoBackend { .. } => Outcome::Usage,
            Self::Clash { .. } | Self::Downgrade { .. } => Outcome::Untrusted,
            Self::DeltaBase { .. } => Outcome::Failed,
            Self::NoSpace { .. } | Self::NoEntries { .. } => Outcome::HostFault,
            Self::Python(error) => error.outcome(),
            Self::Journal(error) => error.outcome(),
            Self::Disk(error) => error.outcome(),
        }
    }
}
