//! Why the log cannot be read or continued.

use report::{Args, Diagnose, Outcome};

use crate::disk::DiskError;

/// The log is not what the installer wrote.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A line does not follow from the one before.
    #[error("line {line} of `{path}` does not follow from the line before it")]
    Broken {
        /// Counted from 1.
        line: usize,
        /// The log.
        path: std::path::PathBuf,
    },
    /// The log cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Diagnose for JournalError {
    fn code(&self) -> &'static str {
        match self {
            Self::Broken { .. } => "install.log-broken",
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Broken { line, path } => {
                vec![
                    ("line", line.to_string()),
                    ("path", path.display().to_string()),
                ]
            }
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Broken { .. } => Outcome::Untrusted,
            Self::Disk(error) => error.outcome(),
        }
    }
}
