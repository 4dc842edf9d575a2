//! Why a trusted root could not be added or removed.

use std::path::PathBuf;

use bundle_format::{KeyError, VerifyError};
use manifest_schema::Digest;
use report::{Args, Diagnose, Outcome};

use crate::disk::DiskError;
use crate::journal::JournalError;
use crate::prefix::ReleaseName;
use crate::release::RecordError;

/// A trusted root could not be added or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The document has another fingerprint than the one that was named.
    #[error("the document has the fingerprint {found}, not {named}")]
    Other {
        /// What it has.
        found: Digest,
        /// What was named.
        named: Digest,
    },
    /// No such root is trusted.
    #[error("no root with the fingerprint {fingerprint} is trusted")]
    Unknown {
        /// What was named.
        fingerprint: Digest,
    },
    /// A release that is installed stands on it.
    #[error("release `{release}` stands on this root")]
    InUse {
        /// The first of them.
        release: ReleaseName,
    },
    /// A newer root of the same chain is trusted.
    #[error(
        "version {version} of the trust root is trusted here, which is newer than version {found}"
    )]
    Older {
        /// Version of the document.
        found: u32,
        /// Version that is trusted.
        version: u32,
    },
    /// The root, or an earlier one that would count again, is the machine's own.
    #[error("the root is trusted by `{path}`, which is not written here")]
    System {
        /// The file.
        path: PathBuf,
    },
    /// The chain of roots is not trusted, or another than the one that is.
    #[error("the file of roots {fault}")]
    Chain {
        /// Why.
        fault: Box<VerifyError>,
    },
    /// The document is no root.
    #[error(transparent)]
    Root(#[from] KeyError),
    /// The log could not be continued.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The record of a release, which may stand on the root, cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Diagnose for RootError {
    fn code(&self) -> &'static str {
        match self {
            Self::Other { .. } => "install.root-other",
            Self::Unknown { .. } => "install.root-unknown",
            Self::InUse { .. } => "install.root-in-use",
            Self::Older { .. } => "install.root-older",
            Self::System { .. } => "install.root-system",
            Self::Chain { fault } => fault.code(),
            Self::Root(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Record(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Other { found, named } => vec![("found", found.hex()), ("named", named.hex())],
            Self::Unknown { fingerprint } => vec![("fingerprint", fingerprint.hex())],
            Self::InUse { release } => vec![("release", release.to_string())],
            Self::Older { found, version } => vec![
                ("found", found.to_string()),
                ("version", version.to_string()),
            ],
            Self::System { path } => vec![("path", path.display().to_string())],
            Self::Chain { fault } => fault.args(),
            Self::Root(error) => error.args(),
            Self::Journal(error) => error.args(),
            Self::Record(error) => error.args(),
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Other { .. } | Self::Older { .. } => Outcome::Untrusted,
            Self::Unknown { .. } => Outcome::Usage,
            Self::InUse { .. } | Self::System { .. } => Outcome::Failed,
            Self::Chain { fault } => fault.outcome(),
            Self::Root(error) => error.outcome(),
            Self::Journal(error) => error.outcome(),
            Self::Record(error) => error.outcome(),
            Self::Disk(error) => error.outcome(),
        }
    }
}
