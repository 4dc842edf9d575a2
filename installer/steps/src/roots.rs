//! Trusted roots: which there are, and how one is added or taken away by hand.

use std::fs;
use std::io;

use bundle_format::{KeyError, RootDocument};
use manifest_schema::Digest;
use report::{Args, Diagnose, Outcome};
use serde::Serialize;

use crate::disk::{Disk, DiskError, read_small, write_new};
use crate::guard::Guard;
use crate::journal::{Action, Journal, JournalError};
use crate::prefix::{Prefix, ReleaseName};
use crate::release::ReleaseRecord;

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
    /// The document is no root.
    #[error(transparent)]
    Root(#[from] KeyError),
    /// The log could not be continued.
    #[error(transparent)]
    Journal(#[from] JournalError),
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
            Self::Root(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Other { found, named } => vec![("found", found.hex()), ("named", named.hex())],
            Self::Unknown { fingerprint } => vec![("fingerprint", fingerprint.hex())],
            Self::InUse { release } => vec![("release", release.to_string())],
            Self::Root(error) => error.args(),
            Self::Journal(error) => error.args(),
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Other { .. } => Outcome::Untrusted,
            Self::Unknown { .. } => Outcome::Usage,
            Self::InUse { .. } => Outcome::Failed,
            Self::Root(error) => error.outcome(),
            Self::Journal(error) => error.outcome(),
            Self::Disk(error) => error.outcome(),
        }
    }
}

/// One trusted root.
#[derive(Clone, Debug, Serialize)]
pub struct TrustedRoot {
    /// SHA-256 of the document.
    pub fingerprint: Digest,
    /// Its version.
    pub version: u32,
    /// How many of its keys must sign.
    pub threshold: u32,
    /// Its keys.
    pub keys: Vec<String>,
    /// Keys of it that no longer count.
    pub revoked: Vec<String>,
}

/// Every root that is trusted below `prefix`, by fingerprint.
///
/// # Errors
/// When a document cannot be read, or is not the root that its name says.
pub fn trusted_roots(prefix: &Prefix) -> Result<Vec<TrustedRoot>, RootError> {
    let folder = prefix.trust();
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::of("list", &folder)(error).into()),
    };
    let mut roots = Vec::new();
    for entry in entries {
        let path = entry.map_err(DiskError::of("list", &folder))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let bytes = read_small(&path, LONGEST_ROOT)?;
        let found = Digest::of(&bytes);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        match Digest::parse_hex(&stem) {
            Ok(named) if named != found => return Err(RootError::Other { found, named }),
            _ => roots.push(describe(&bytes)?),
        }
    }
    roots.sort_by_key(|root| root.fingerprint.hex());
    Ok(roots)
}

fn describe(bytes: &[u8]) -> Result<TrustedRoot, KeyError> {
    let root = RootDocument::parse(bytes)?;
    Ok(TrustedRoot {
        fingerprint: Digest::of(bytes),
        version: root.version,
        threshold: root.threshold,
        keys: root.keys.iter().map(|key| key.keyid.to_string()).collect(),
        revoked: root.revoked.iter().map(ToString::to_string).collect(),
    })
}

/// Trusts the root `document`, whose fingerprint a person has compared.
///
/// # Errors
/// When the document is no root, or has another fingerprint.
pub fn add_root(
    disk: &dyn Disk,
    _guard: &Guard,
    prefix: &Prefix,
    document: &[u8],
    compared: Digest,
) -> Result<TrustedRoot, RootError> {
    let found = Digest::of(document);
    if found != compared {
        return Err(RootError::Other {
            found,
            named: compared,
        });
    }
    let root = describe(document)?;
    let folder = prefix.trust();
    let path = folder.join(format!("{}.json", found.hex()));
    if path.exists() {
        return Ok(root);
    }
    disk.create_dir(&folder)?;
    let next = folder.join(".next");
    disk.remove_file(&next)?;
    write_new(disk, &next, document, 0o444)?;
    let action = Action::Trust { fingerprint: found };
    Journal::read(prefix)?.add(disk, prefix, action)?;
    disk.rename(&next, &path)?;
    disk.sync_dir(&folder)?;
    Ok(root)
}

/// Trusts a root no more.
///
/// # Errors
/// When it is not trusted, or an installed release stands on it: an audit could say nothing of that any more.
pub fn remove_root(
    disk: &dyn Disk,
    _guard: &Guard,
    prefix: &Prefix,
    fingerprint: Digest,
) -> Result<(), RootError> {
    let path = prefix.trust().join(format!("{}.json", fingerprint.hex()));
    if !path.exists() {
        return Err(RootError::Unknown { fingerprint });
    }
    for release in prefix.installed()? {
        if ReleaseRecord::read(prefix, &release)?.root == fingerprint {
            return Err(RootError::InUse { release });
        }
    }
    let action = Action::Distrust { fingerprint };
    Journal::read(prefix)?.add(disk, prefix, action)?;
    disk.remove_file(&path)?;
    disk.sync_dir(&prefix.trust())?;
    Ok(())
}

const LONGEST_ROOT: u64 = 1024 * 1024;
