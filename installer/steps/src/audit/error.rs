//! Why nothing can be said about an installed release.

use bundle_format::{KeyError, VerifyError};
use report::{Args, Diagnose, Outcome};

use crate::disk::DiskError;
use crate::journal::JournalError;
use crate::plan::PlanError;
use crate::prefix::ReleaseName;
use crate::release::RecordError;

/// Nothing can be said about an installed release.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// Nothing is installed.
    #[error("nothing is installed below `{prefix}`")]
    NothingInstalled {
        /// Where.
        prefix: std::path::PathBuf,
    },
    /// There is no such release.
    #[error("release `{release}` is not installed")]
    NoRelease {
        /// What was asked for.
        release: ReleaseName,
    },
    /// The release's record does not agree with what was signed.
    #[error("`release.json` of `{release}` does not agree with the signed metadata beside it")]
    Record {
        /// Which.
        release: ReleaseName,
    },
    /// The release's metadata is not signed.
    #[error(transparent)]
    Metadata(#[from] VerifyError),
    /// The trusted roots cannot be read.
    #[error(transparent)]
    Roots(#[from] KeyError),
    /// The tree cannot be computed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The log is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The release's record cannot be read.
    #[error(transparent)]
    Unread(#[from] RecordError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Diagnose for AuditError {
    fn code(&self) -> &'static str {
        match self {
            Self::NothingInstalled { .. } => "install.nothing-installed",
            Self::NoRelease { .. } => "install.no-release",
            Self::Record { .. } => "install.record-differs",
            Self::Metadata(error) => error.code(),
            Self::Roots(error) => error.code(),
            Self::Plan(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Unread(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::NothingInstalled { prefix } => vec![("prefix", prefix.display().to_string())],
            Self::NoRelease { release } | Self::Record { release } => {
                vec![("release", release.to_string())]
            }
            Self::Metadata(error) => error.args(),
            Self::Roots(error) => error.args(),
            Self::Plan(error) => error.args(),
            Self::Journal(error) => error.args(),
            Self::Unread(error) => error.args(),
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::NothingInstalled { .. } | Self::NoRelease { .. } => Outcome::Failed,
            Self::Record { .. } => Outcome::Untrusted,
            Self::Metadata(error) => error.outcome(),
            Self::Roots(error) => error.outcome(),
            Self::Plan(error) => error.outcome(),
            Self::Journal(error) => error.outcome(),
            Self::Unread(error) => error.outcome(),
            Self::Disk(error) => error.outcome(),
        }
    }
}
