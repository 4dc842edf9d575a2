//! Why a bundle is not trusted, or cannot be read.

use std::io;
use std::path::PathBuf;

use manifest_schema::Digest;
use report::{Args, Diagnose, Outcome};

use crate::algorithm::Algorithm;
use crate::chain::ChainFault;
use crate::key_error::KeyError;
use crate::root::Lack;

/// Why a bundle is not trusted, or cannot be read. Each names the file and the place.
#[derive(Debug, thiserror::Error)]
#[error("`{path}`: {fault}")]
pub struct VerifyError {
    /// The bundle, or the file being written.
    pub path: PathBuf,
    /// What is wrong.
    pub fault: Fault,
    /// The system's reason, where there is one.
    #[source]
    pub cause: Option<io::Error>,
}

/// What is wrong with a bundle.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file cannot be read.
    #[error("cannot be read")]
    Unreadable,
    /// A file cannot be written.
    #[error("cannot be written")]
    Unwritable,
    /// The file does not begin as a bundle does.
    #[error("is not a bundle")]
    NotABundle,
    /// The file ends too early.
    #[error("ends at byte {size}, within `{member}`, which needs byte {needed}")]
    CutShort {
        /// The member that is cut, or `end`.
        member: String,
        /// Bytes of the file.
        size: u64,
        /// Bytes that it needs at least.
        needed: u64,
    },
    /// A header is not one that the format allows.
    #[error("at byte {offset}, after `{member}`, stands no header of a bundle")]
    Header {
        /// The member before.
        member: String,
        /// Where.
        offset: u64,
    },
    /// The bytes after a member are not zero.
    #[error("the padding of `{member}` at byte {offset} is not zero")]
    Padding {
        /// The member.
        member: String,
        /// Where.
        offset: u64,
    },
    /// Bytes follow the end.
    #[error("ends at byte {end}, and {size} bytes are there")]
    Trailing {
        /// Where the archive ends.
        end: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// A member that does not belong here: unknown, twice, or out of order.
    #[error("`{member}` at byte {offset} does not belong there")]
    Unexpected {
        /// The member.
        member: String,
        /// Where.
        offset: u64,
    },
    /// A member is larger than its kind may be.
    #[error("`{member}` has {size} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The member.
        member: String,
        /// Its size.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// A member is missing.
    #[error("has no `{member}`")]
    Missing {
        /// The member.
        member: String,
    },
    /// A folder holds more than one bundle.
    #[error("holds `{one}` and `{other}`")]
    Several {
        /// The one.
        one: String,
        /// The other.
        other: String,
    },
    /// Volumes of the bundle are not at hand.
    #[error("is one of {of} volumes, and not there are: {missing}")]
    VolumesMissing {
        /// Their numbers.
        missing: String,
        /// How many there are.
        of: u32,
    },
    /// A volume is there twice, or has a number that the bundle has not.
    #[error("is volume {number} of {of}, which is not one that is missing")]
    VolumeStray {
        /// Its number.
        number: u32,
        /// How many it says there are.
        of: u32,
    },
    /// A volume belongs to another bundle.
    #[error("is a volume of another bundle than `{first}`: `{member}` differs")]
    VolumeDiffers {
        /// The volume that was read first.
        first: String,
        /// The first member that differs.
        member: String,
    },
    /// The root is not one that a person accepted.
    #[error("is signed under the trust root {fingerprint}, which is not trusted here")]
    RootUntrusted {
        /// Its fingerprint.
        fingerprint: String,
    },
    /// The trusted root cannot be used.
    #[error("has an unusable trust root: {cause}")]
    RootUnusable {
        /// What is wrong.
        cause: String,
    },
    /// A signature is not over this statement, or by a key that does not count.
    #[error("the signature `{member}` does not hold")]
    SignatureInvalid {
        /// The signature.
        member: String,
    },
    /// A signature is not one of its algorithm at all.
    #[error("the signature `{member}` is not a {algorithm} signature in its one encoding")]
    SignatureMalformed {
        /// The signature.
        member: String,
        /// What its key signs with.
        algorithm: Algorithm,
    },
    /// A signature goes by the name of another algorithm than its key has.
    #[error(
        "the signature `{member}` is by its name of another algorithm than its key, {algorithm}"
    )]
    SignatureAlgorithm {
        /// The signature.
        member: String,
        /// What its key signs with.
        algorithm: Algorithm,
    },
    /// A key signed that was revoked.
    #[error("is signed by key {key}, which version {version} of the trust root revoked")]
    KeyRevoked {
        /// The key.
        key: String,
        /// Version of the root that revokes it.
        version: u32,
    },
    /// Signatures are missing.
    #[error("is not signed as its trust root asks: {lack}")]
    Unsigned {
        /// How many, and by which keys.
        lack: Lack,
    },
    /// A root does not follow from the one before it.
    #[error(transparent)]
    Chain(#[from] ChainFault),
    /// The bundle's chain of roots is another than the one that is trusted.
    #[error(
        "offers version {version} of the trust root, {offered}, and another one of that version is trusted here"
    )]
    RootForked {
        /// The version.
        version: u32,
        /// Fingerprint of the bundle's.
        offered: String,
    },
    /// The bundle is older than the trusted root, which would not accept it.
    #[error(
        "is signed under version {version} of the trust root; version {trusted} is trusted here: {lack}"
    )]
    RootRollback {
        /// Version of the bundle's newest root.
        version: u32,
        /// Version of the trusted one.
        trusted: u32,
        /// What it misses.
        lack: Lack,
    },
    /// A member's bytes are not those that were signed.
    #[error("`{member}` is not as it was signed")]
    MemberDiffers {
        /// The member.
        member: String,
    },
    /// A signed document cannot be read by this program.
    #[error("`{member}` cannot be understood: {cause}")]
    Malformed {
        /// The member.
        member: String,
        /// What is wrong.
        cause: String,
    },
    /// The signed index and the archive do not agree.
    #[error("the index and the archive do not agree about `{member}`")]
    IndexDiffers {
        /// The member.
        member: String,
    },
    /// A profile needs a blob that is not there.
    #[error("`{file}` needs blob {blob}, which is not there with that size")]
    BlobMissing {
        /// The blob.
        blob: Digest,
        /// The file of the profile.
        file: String,
    },
    /// A blob was asked for that the bundle does not have.
    #[error("has no blob {blob}")]
    BlobUnknown {
        /// The blob.
        blob: Digest,
    },
    /// A delta leaves the blob out, because the target should have it.
    #[error("is a delta without blob {blob}, which must be installed already")]
    BlobRequired {
        /// The blob.
        blob: Digest,
    },
    /// A piece of a blob is damaged.
    #[error("blob {blob} is damaged in the {size} bytes from byte {offset}")]
    PieceDiffers {
        /// The blob.
        blob: Digest,
        /// Where the piece begins in the bundle.
        offset: u64,
        /// Bytes of the piece.
        size: u64,
    },
}

impl Fault {
    /// The fault, with the file that has it.
    pub(crate) fn of(self, path: impl Into<PathBuf>) -> VerifyError {
        VerifyError {
            path: path.into(),
            fault: self,
            cause: None,
        }
    }

    /// The fault, with the file that has it and the system's reason.
    pub(crate) fn because(self, path: impl Into<PathBuf>, cause: io::Error) -> VerifyError {
        VerifyError {
            path: path.into(),
            fault: self,
            cause: Some(cause),
        }
    }
}

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Chain(fault) => Self::Chain(fault),
            other => Self::RootUnusable {
                cause: other.to_string(),
            },
        }
    }
}

impl Diagnose for VerifyError {
    fn code(&self) -> &'static str {
        match self.fault {
            Fault::Unreadable => "bundle.unreadable",
            Fault::Unwritable => "bundle.unwritable",
            Fault::NotABundle => "bundle.not-a-bundle",
            Fault::CutShort { .. } => "bundle.cut-short",
            Fault::Header { .. } => "bundle.header-invalid",
            Fault::Padding { .. } => "bundle.padding-invalid",
            Fault::Trailing { .. } => "bundle.trailing-data",
            Fault::Unexpected { .. } => "bundle.member-unexpected",
            Fault::TooLarge { .. } => "bundle.member-too-large",
            Fault::Missing { .. } => "bundle.member-missing",
            Fault::Several { .. } => "bundle.several",
            Fault::VolumesMissing { .. } => "bundle.volumes-missing",
            Fault::VolumeStray { .. } => "bundle.volume-stray",
            Fault::VolumeDiffers { .. } => "bundle.volume-differs",
            Fault::BlobRequired { .. } => "bundle.blob-required",
            Fault::RootUntrusted { .. } => "bundle.root-untrusted",
            Fault::RootUnusable { .. } => "bundle.root-malformed",
            Fault::SignatureInvalid { .. } => "bundle.signature-invalid",
            Fault::SignatureMalformed { .. } => "bundle.signature-malformed",
            Fault::SignatureAlgorithm { .. } => "bundle.signature-algorithm",
            Fault::KeyRevoked { .. } => "bundle.key-revoked",
            Fault::Unsigned {
                lack: Lack::Signatures { .. },
            } => "bundle.signatures-too-few",
            Fault::Unsigned {
                lack: Lack::Algorithm { .. },
            } => "bundle.algorithm-missing",
            Fault::Chain(ref fault) => fault.code(),
            Fault::RootForked { .. } => "bundle.root-forked",
            Fault::RootRollback { .. } => "bundle.root-rollback",
            Fault::MemberDiffers { .. } => "bundle.member-differs",
            Fault::Malformed { .. } => "bundle.member-malformed",
            Fault::IndexDiffers { .. } => "bundle.index-differs",
            Fault::BlobMissing { .. } => "bundle.blob-missing",
            Fault::BlobUnknown { .. } => "bundle.blob-unknown",
            Fault::PieceDiffers { .. } => "bundle.piece-differs",
        }
    }

    fn args(&self) -> Args {
        let mut args = vec![("path", self.path.display().to_string())];
        let mut add = |name, value: &dyn ToString| args.push((name, value.to_string()));
        match &self.fault {
            Fault::Unreadable | Fault::Unwritable | Fault::NotABundle => {}
            Fault::CutShort {
                member,
                size,
                needed,
            } => {
                add("member", member);
                add("size", size);
                add("needed", needed);
            }
            Fault::Header { member, offset }
            | Fault::Padding { member, offset }
            | Fault::Unexpected { member, offset } => {
                add("member", member);
                add("offset", offset);
            }
            Fault::Trailing { end, size } => {
                add("end", end);
                add("size", size);
            }
            Fault::TooLarge {
                member,
                size,
                limit,
            } => {
                add("member", member);
                add("size", size);
                add("limit", limit);
            }
            Fault::Missing { member }
            | Fault::SignatureInvalid { member }
            | Fault::MemberDiffers { member }
            | Fault::IndexDiffers { member } => add("member", member),
            Fault::Several { one, other } => {
                add("one", one);
                add("other", other);
            }
            Fault::VolumesMissing { missing, of } => {
                add("missing", missing);
                add("of", of);
            }
            Fault::VolumeStray { number, of } => {
                add("number", number);
                add("of", of);
            }
            Fault::VolumeDiffers { first, member } => {
                add("first", first);
                add("member", member);
            }
            Fault::RootUntrusted { fingerprint } => add("fingerprint", fingerprint),
            Fault::RootUnusable { cause } => add("cause", cause),
            Fault::SignatureMalformed { member, algorithm }
            | Fault::SignatureAlgorithm { member, algorithm } => {
                add("member", member);
                add("algorithm", algorithm);
            }
            Fault::KeyRevoked { key, version } => {
                add("key", key);
                add("version", version);
            }
            Fault::Unsigned { lack } => args.extend(lack.args()),
            Fault::Chain(fault) => args.extend(fault.args()),
            Fault::RootForked { version, offered } => {
                add("version", version);
                add("offered", offered);
            }
            Fault::RootRollback {
                version,
                trusted,
                lack,
            } => {
                add("version", version);
                add("trusted", trusted);
                add("keys", &lack.keys());
            }
            Fault::Malformed { member, cause } => {
                add("member", member);
                add("cause", cause);
            }
            Fault::BlobMissing { blob, file } => {
                add("blob", blob);
                add("file", file);
            }
            Fault::BlobUnknown { blob } | Fault::BlobRequired { blob } => add("blob", blob),
            Fault::PieceDiffers { blob, offset, size } => {
                add("blob", blob);
                add("offset", offset);
                add("size", size);
            }
        }
        args
    }

    fn outcome(&self) -> Outcome {
        match self.fault {
            Fault::Unreadable | Fault::Unwritable => Outcome::HostFault,
            Fault::NotABundle | Fault::Several { .. } | Fault::VolumesMissing { .. } => {
                Outcome::Usage
            }
            Fault::BlobUnknown { .. } | Fault::BlobRequired { .. } => Outcome::Failed,
            _ => Outcome::Untrusted,
        }
    }
}
