//! Why a key, a root or a chain of roots cannot be used.

use std::path::PathBuf;
use std::{fmt, io};

use report::{Args, Diagnose, Outcome};

use crate::chain::ChainFault;

/// Why a key, a root or a chain of roots cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not a key.
    #[error("not a key in PEM of an algorithm that is known here: {cause}")]
    Malformed {
        /// What is wrong.
        cause: String,
    },
    /// The password does not open the key.
    #[error("the password does not open this key")]
    Password,
    /// The root document is wrong in itself.
    #[error("not a usable trust root: {cause}")]
    Root {
        /// What is wrong.
        cause: String,
    },
    /// A file of a folder of trusted roots is not the root that its name says.
    #[error("`{path}` is not the trust root that its name says: {cause}")]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// A root does not follow from the one before it.
    #[error(transparent)]
    Chain(#[from] ChainFault),
    /// A stored root cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Diagnose for KeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "bundle.key-malformed",
            Self::Password => "bundle.key-password",
            Self::Root { .. } => "bundle.root-malformed",
            Self::Kept { .. } => "bundle.root-kept-malformed",
            Self::Chain(fault) => fault.code(),
            Self::Unreadable { .. } => "bundle.root-unreadable",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Malformed { cause } | Self::Root { cause } => vec![("cause", cause.clone())],
            Self::Password => Args::new(),
            Self::Kept { path, cause } => {
                vec![
                    ("path", path.display().to_string()),
                    ("cause", cause.clone()),
                ]
            }
            Self::Chain(fault) => fault.args(),
            Self::Unreadable { path, .. } => vec![("path", path.display().to_string())],
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Unreadable { .. } => Outcome::HostFault,
            Self::Malformed { .. } | Self::Password => Outcome::Usage,
            Self::Root { .. } | Self::Kept { .. } | Self::Chain(_) => Outcome::Untrusted,
        }
    }
}

pub(crate) fn malformed(cause: impl fmt::Display) -> KeyError {
    KeyError::Malformed {
        cause: cause.to_string(),
    }
}

pub(crate) fn refused(cause: impl fmt::Display) -> KeyError {
    KeyError::Root {
        cause: cause.to_string(),
    }
}
