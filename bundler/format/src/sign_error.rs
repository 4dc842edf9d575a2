//! Why a bundle that is written already cannot be signed.

use std::io;
use std::path::PathBuf;

use manifest_schema::Digest;
use report::{Args, Diagnose, Outcome};

use crate::key_error::KeyError;
use crate::verify_error::VerifyError;

/// Why a bundle that is written already cannot be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The bundle is damaged, or its metadata does not agree with its statement.
    #[error(transparent)]
    Bundle(#[from] VerifyError),
    /// A key or root cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key is not in the root, or is revoked there.
    #[error("key `{key}` is not one of the trust root's")]
    KeyNotInRoot {
        /// Its identifier.
        key: String,
    },
    /// The signature is of another bundle, or by another key.
    #[error("no key of the trust root made this signature over this bundle")]
    Foreign,
    /// The bundle keeps no room for this key.
    #[error("`{}` has no room for a signature by key {key}", path.display())]
    NoRoom {
        /// The bundle.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// The bytes are not the statement of a bundle.
    #[error("not the statement of a bundle: {cause}")]
    Malformed {
        /// What is wrong.
        cause: String,
    },
    /// The statement stands under another root than the key's folder knows.
    #[error("the statement stands under the trust root {}, and this key's folder knows {}", stated.hex(), known.hex())]
    OtherRoot {
        /// The statement's.
        stated: Digest,
        /// The folder's.
        known: Digest,
    },
    /// The bundle cannot be written.
    #[error("cannot write `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Diagnose for SignError {
    fn code(&self) -> &'static str {
        match self {
            Self::Bundle(error) => error.code(),
            Self::Key(error) => error.code(),
            Self::KeyNotInRoot { .. } => "bundle.key-not-in-root",
            Self::Foreign => "bundle.sign-foreign",
            Self::NoRoom { .. } => "bundle.sign-no-room",
            Self::Malformed { .. } => "bundle.sign-malformed",
            Self::OtherRoot { .. } => "bundle.sign-other-root",
            Self::File { .. } => "bundle.output-failed",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Bundle(error) => error.args(),
            Self::Key(error) => error.args(),
            Self::KeyNotInRoot { key } => vec![("key", key.clone())],
            Self::Foreign => Args::new(),
            Self::NoRoom { path, key } => {
                vec![("path", path.display().to_string()), ("key", key.clone())]
            }
            Self::Malformed { cause } => vec![("cause", cause.clone())],
            Self::OtherRoot { stated, known } => {
                vec![("stated", stated.hex()), ("known", known.hex())]
            }
            Self::File { path, .. } => vec![("path", path.display().to_string())],
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Bundle(error) => error.outcome(),
            Self::Key(error) => error.outcome(),
            Self::KeyNotInRoot { .. } | Self::NoRoom { .. } | Self::Malformed { .. } => {
                Outcome::Usage
            }
            Self::Foreign | Self::OtherRoot { .. } => Outcome::Untrusted,
            Self::File { .. } => Outcome::HostFault,
        }
    }
}
