//! What an audit says of a release, file by file.

use std::io;

use manifest_schema::{CodeOnLoad, Digest, KeyId, Origin};
use serde::Serialize;

use crate::check::Wrong;
use crate::disk::DiskError;
use crate::prefix::ReleaseName;

/// What is known of one release.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// Its name.
    pub release: ReleaseName,
    /// SHA-256 of the signed statement.
    pub statement: Digest,
    /// SHA-256 of the trust root.
    pub root: Digest,
    /// Keys whose signatures hold.
    pub keys: Vec<KeyId>,
    /// Every file that is there or should be, by its path below the prefix.
    pub files: Vec<AuditedFile>,
    /// Entries of the log, whose chain holds; `None` where there is no such log.
    pub log_entries: Option<usize>,
}

impl Audit {
    /// The files that are not as they should be.
    pub fn problems(&self) -> impl Iterator<Item = &AuditedFile> {
        self.files.iter().filter(|file| file.standing.is_wrong())
    }
}

/// One file of an audit.
#[derive(Clone, Debug, Serialize)]
pub struct AuditedFile {
    /// Where, below the prefix.
    pub path: String,
    /// Whether it is as it should be, and by what right.
    pub standing: Standing,
    /// SHA-256 of what was signed, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Where it came from, or the template that it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What it was made from on site: a wheel, a blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_from: Option<String>,
    /// Its licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// How it runs code when it is loaded, and what allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_on_load: Option<CodeOnLoad>,
}

/// How a file stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The signed digest, byte for byte.
    Signed,
    /// Follows from signed metadata, byte for byte.
    Derived,
    /// A member of a signed wheel, byte for byte.
    FromWheel,
    /// Made on site by a named program, and unchanged since.
    MadeOnSite,
    /// Should be there and is not.
    Missing,
    /// There, but not what it should be.
    Changed,
    /// Should be runnable and is not.
    NotExecutable,
    /// There, and the disk does not give it.
    Unreadable,
    /// Nobody signed it.
    Unsigned,
}

impl Standing {
    /// Whether the file is not as it should be.
    pub fn is_wrong(self) -> bool {
        matches!(
            self,
            Self::Missing | Self::Changed | Self::NotExecutable | Self::Unreadable | Self::Unsigned
        )
    }

    /// How a file stands that must have the digest `expected`; by `right`, where it has.
    pub(crate) fn of(
        right: Self,
        expected: Option<Digest>,
        found: Result<Digest, DiskError>,
    ) -> Self {
        match (expected, found) {
            (None, _) => Self::Unsigned,
            (Some(expected), Ok(found)) if expected == found => right,
            (Some(_), Ok(_)) => Self::Changed,
            (Some(_), Err(error)) => Self::unread(&error),
        }
    }

    /// This one, unless the file was found to be wrong, or could not be looked at.
    pub(super) fn unless(self, found: Result<Option<Wrong>, DiskError>) -> Self {
        match found {
            Ok(None) => self,
            Ok(Some(Wrong::Missing)) => Self::Missing,
            Ok(Some(Wrong::Changed)) => Self::Changed,
            Ok(Some(Wrong::NotExecutable)) => Self::NotExecutable,
            Err(error) => Self::unread(&error),
        }
    }

    /// What is no file at all was put in its place; what the disk does not give may be whole.
    fn unread(error: &DiskError) -> Self {
        match error.source.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::InvalidInput => Self::Changed,
            _ => Self::Unreadable,
        }
    }
}
