//! Why a bundle cannot be built.

use std::io;
use std::path::PathBuf;

use manifest_schema::{ByteSize, Digest};
use report::{Args, Diagnose, Outcome};

use crate::key_error::KeyError;
use crate::root::Lack;

/// Why a bundle cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A key or the root cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A signing key is not in the root, or is revoked there.
    #[error("key `{key}` is not one of the trust root's")]
    KeyNotInRoot {
        /// Its identifier.
        key: String,
    },
    /// Signatures are missing.
    #[error("the bundle would not be signed as its trust root asks: {lack}")]
    Unsigned {
        /// How many, and by which keys.
        lack: Lack,
    },
    /// The piece size is out of range.
    #[error("a piece of {found} bytes is not a power of two from 4 KiB to 1 GiB")]
    PieceSize {
        /// The size asked for.
        found: u64,
    },
    /// A volume cannot hold the metadata and one piece.
    #[error("a volume of {size} is too small; this bundle needs at least {needed}")]
    VolumeTooSmall {
        /// The size asked for.
        size: ByteSize,
        /// The smallest that would do.
        needed: ByteSize,
    },
    /// More volumes than three digits can count.
    #[error("{found} volumes are more than 999")]
    TooManyVolumes {
        /// Volumes needed.
        found: u32,
    },
    /// The profiles place a file whose blob is not given, or has another size.
    #[error("`{file}` needs blob {blob}, which is not given with that size")]
    BlobMissing {
        /// The blob.
        blob: Digest,
        /// The file.
        file: String,
    },
    /// A blob is given that nothing places.
    #[error("blob {blob} is not needed by any file")]
    BlobUnused {
        /// The blob.
        blob: Digest,
    },
    /// A blob's file holds other bytes.
    #[error("`{path}` should be {expected} and is {found}")]
    BlobDiffers {
        /// The blob's file.
        path: PathBuf,
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A blob's file changed while the bundle was written.
    #[error("`{path}` changed while it was being packed")]
    BlobChanged {
        /// The blob's file.
        path: PathBuf,
    },
    /// A metadata member or installer is too large.
    #[error("`{name}` has {size}; at most 64 MiB are allowed")]
    MetadataTooLarge {
        /// Name of the member.
        name: String,
        /// Its size.
        size: ByteSize,
    },
    /// An input cannot be read.
    #[error("cannot read `{path}`")]
    Input {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The bundle cannot be written.
    #[error("cannot write `{path}`")]
    Output {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Diagnose for BuildError {
    fn code(&self) -> &'static str {
        match self {
            Self::Key(error) => error.code(),
            Self::KeyNotInRoot { .. } => "bundle.key-not-in-root",
            Self::Unsigned {
                lack: Lack::Signatures { .. },
            } => "bundle.signers-too-few",
            Self::Unsigned {
                lack: Lack::Algorithm { .. },
            } => "bundle.signers-algorithm",
            Self::PieceSize { .. } => "bundle.piece-size",
            Self::VolumeTooSmall { .. } => "bundle.volume-too-small",
            Self::TooManyVolumes { .. } => "bundle.too-many-volumes",
            Self::BlobMissing { .. } => "bundle.blob-not-given",
            Self::BlobUnused { .. } => "bundle.blob-unused",
            Self::BlobDiffers { .. } => "bundle.blob-differs",
            Self::BlobChanged { .. } => "bundle.blob-changed",
            Self::MetadataTooLarge { .. } => "bundle.metadata-too-large",
            Self::Input { .. } => "bundle.input-unreadable",
            Self::Output { .. } => "bundle.output-failed",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Key(error) => error.args(),
            Self::KeyNotInRoot { key } => vec![("key", key.clone())],
            Self::Unsigned { lack } => lack.args(),
            Self::PieceSize { found } => vec![("found", found.to_string())],
            Self::VolumeTooSmall { size, needed } => {
                let exact = format!("{needed} ({} B)", needed.0);
                vec![("size", size.to_string()), ("needed", exact)]
            }
            Self::TooManyVolumes { found } => vec![("found", found.to_string())],
            Self::BlobMissing { blob, file } => {
                vec![("blob", blob.to_string()), ("file", file.clone())]
            }
            Self::BlobUnused { blob } => vec![("blob", blob.to_string())],
            Self::BlobDiffers {
                path,
                expected,
                found,
            } => vec![
                ("path", path.display().to_string()),
                ("expected", expected.to_string()),
                ("found", found.to_string()),
            ],
            Self::MetadataTooLarge { name, size } => {
                vec![("name", name.clone()), ("size", size.to_string())]
            }
            Self::Input { path, .. } | Self::Output { path, .. } | Self::BlobChanged { path } => {
                vec![("path", path.display().to_string())]
            }
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Key(error) => error.outcome(),
            Self::BlobDiffers { .. } | Self::BlobChanged { .. } => Outcome::Untrusted,
            Self::Input { .. } | Self::Output { .. } => Outcome::HostFault,
            _ => Outcome::Usage,
        }
    }
}
