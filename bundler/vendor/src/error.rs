//! Why a vendor's signature does not hold.

use std::fmt::Display;
use std::io;

use report::{Args, Diagnose, Outcome};

/// Why a vendor's signature does not hold, or cannot be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VendorSignatureError {
    /// The package cannot be read.
    #[error("cannot read the package to its end")]
    Unreadable {
        /// The system's reason.
        source: io::Error,
    },
    /// A file that belongs to a signature cannot be read.
    #[error("cannot read `{path}`, which belongs to a vendor's signature")]
    File {
        /// Its path in the backend.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The root is not the one that was pinned.
    #[error("the signature leads to the root `{root}` ({found}), not to {expected}")]
    RootDiffers {
        /// Whose root.
        root: String,
        /// SHA-256 of its certificate.
        found: String,
        /// The pinned one.
        expected: String,
    },
    /// A signature, list or root is larger than any real one.
    #[error("the {what} has {found} bytes, at most {limit} are read")]
    TooLarge {
        /// `signature`, `revocation list` or `root`.
        what: &'static str,
        /// Its bytes.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// Something is not what it should be.
    #[error("the {what} cannot be read: {problem}")]
    Malformed {
        /// `signature`, `certificate`, `revocation list` or `root`.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// An algorithm that is too weak, or not known.
    #[error("the signature uses the algorithm {algorithm}, which does not count here")]
    UnknownAlgorithm {
        /// Its object identifier.
        algorithm: String,
    },
    /// No root was given.
    #[error("there is no root certificate to check against")]
    NoRoot,
    /// The package is not what was signed.
    #[error("the package is not what `{signer}` signed: found {found}, signed {expected}")]
    ContentDiffers {
        /// Whose signature.
        signer: String,
        /// Hash of the package.
        found: String,
        /// Hash that was signed.
        expected: String,
    },
    /// The signature is not by that key.
    #[error("the signature of `{signer}` does not hold")]
    SignatureInvalid {
        /// Whose signature it claims to be.
        signer: String,
    },
    /// A certificate is not for what it is used for.
    #[error("the certificate of `{certificate}` may not be used for this: {problem}")]
    CertificateUnfit {
        /// Whose certificate.
        certificate: String,
        /// Why not.
        problem: String,
    },
    /// No way leads from the signer to a root.
    #[error("`{signer}` signed, and nobody leads from `{issuer}` to a root that is trusted here")]
    Untrusted {
        /// Who signed.
        signer: String,
        /// The last authority that was found.
        issuer: String,
    },
    /// A revocation list is not by whom it claims to be by.
    #[error("the revocation list of `{issuer}` does not hold: {problem}")]
    ListInvalid {
        /// Whose list.
        issuer: String,
        /// What is wrong.
        problem: String,
    },
    /// The signer, or an authority above, was revoked.
    #[error("the certificate {serial} of `{certificate}` was revoked on {on}")]
    Revoked {
        /// Whose certificate.
        certificate: String,
        /// Its number.
        serial: String,
        /// The day.
        on: String,
    },
}

pub(crate) fn malformed(what: &'static str, problem: impl Display) -> VendorSignatureError {
    VendorSignatureError::Malformed {
        what,
        problem: problem.to_string(),
    }
}

impl Diagnose for VendorSignatureError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "vendor.unreadable",
            Self::File { .. } => "vendor.file",
            Self::RootDiffers { .. } => "vendor.root-differs",
            Self::TooLarge { .. } => "vendor.too-large",
            Self::Malformed { .. } => "vendor.malformed",
            Self::UnknownAlgorithm { .. } => "vendor.unknown-algorithm",
            Self::NoRoot => "vendor.no-root",
            Self::ContentDiffers { .. } => "vendor.content-differs",
            Self::SignatureInvalid { .. } => "vendor.signature-invalid",
            Self::CertificateUnfit { .. } => "vendor.certificate-unfit",
            Self::Untrusted { .. } => "vendor.untrusted",
            Self::ListInvalid { .. } => "vendor.list-invalid",
            Self::Revoked { .. } => "vendor.revoked",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Unreadable { .. } | Self::NoRoot => Args::new(),
            Self::File { path, .. } => vec![("path", path.clone())],
            Self::RootDiffers {
                root,
                found,
                expected,
            } => vec![
                ("root", root.clone()),
                ("found", found.clone()),
                ("expected", expected.clone()),
            ],
            Self::TooLarge { what, found, limit } => vec![
                ("what", (*what).to_owned()),
                ("found", found.to_string()),
                ("limit", limit.to_string()),
            ],
            Self::Malformed { what, problem } => {
                vec![("what", (*what).to_owned()), ("problem", problem.clone())]
            }
            Self::UnknownAlgorithm { algorithm } => vec![("algorithm", algorithm.clone())],
            Self::ContentDiffers {
                signer,
                found,
                expected,
            } => vec![
                ("signer", signer.clone()),
                ("found", found.clone()),
                ("expected", expected.clone()),
            ],
            Self::SignatureInvalid { signer } => vec![("signer", signer.clone())],
            Self::CertificateUnfit {
                certificate,
                problem,
            } => vec![
                ("certificate", certificate.clone()),
                ("problem", problem.clone()),
            ],
            Self::Untrusted { signer, issuer } => {
                vec![("signer", signer.clone()), ("issuer", issuer.clone())]
            }
            Self::ListInvalid { issuer, problem } => {
                vec![("issuer", issuer.clone()), ("problem", problem.clone())]
            }
            Self::Revoked {
                certificate,
                serial,
                on,
            } => vec![
                ("certificate", certificate.clone()),
                ("serial", serial.clone()),
                ("on", on.clone()),
            ],
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Unreadable { .. } | Self::File { .. } => Outcome::HostFault,
            Self::NoRoot => Outcome::Usage,
            _ => Outcome::Untrusted,
        }
    }
}
