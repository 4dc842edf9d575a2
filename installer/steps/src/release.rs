//! `release.json`: what a release was installed from, and with which choices.
//!
//! Nobody signed it; the log keeps its digest. It helps to find the signed things, and pins what was made on
//! site from them.

use std::collections::BTreeMap;
use std::path::Path;

use manifest_schema::{Arch, BackendName, BundleName, Digest, KeyId, PackageSetName};
use report::{Args, Diagnose, Outcome};
use serde::{Deserialize, Serialize};

use crate::disk::{DiskError, read_small};
use crate::prefix::{Prefix, ReleaseName};

/// The record of a release cannot be read, or is none.
#[derive(Debug, thiserror::Error)]
#[error("`release.json` of `{release}` cannot be read")]
pub struct RecordError {
    /// Which.
    pub release: ReleaseName,
    /// Why: the file is not there, is none, or is no record.
    pub source: DiskError,
}

impl Diagnose for RecordError {
    fn code(&self) -> &'static str {
        "install.record-unreadable"
    }

    fn args(&self) -> Args {
        vec![("release", self.release.to_string())]
    }

    fn outcome(&self) -> Outcome {
        self.source.outcome()
    }
}

/// What `release.json` says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ReleaseRecord {
    /// Version of this format: 1.
    pub format: u32,
    /// Name of the bundle.
    pub name: BundleName,
    /// Its release number.
    pub release: u64,
    /// What the numbers count in.
    pub channel: String,
    /// SHA-256 of the signed statement.
    pub statement: Digest,
    /// SHA-256 of the trust root under which the signatures held.
    pub root: Digest,
    /// Keys that signed.
    pub keys: Vec<KeyId>,
    /// The backend that was chosen, where the bundle had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendName>,
    /// The machine's architecture, where images were chosen by it rather than by a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<Arch>,
    /// The set of packages of the operating system, where the bundle had one for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_packages: Option<PackageSetName>,
    /// Version of the installer.
    pub installer: String,
    /// Files of the Python environment that no wheel brought, by their path below `env/`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub made_on_site: BTreeMap<String, Digest>,
}

impl ReleaseRecord {
    /// Reads the record of an installed release.
    ///
    /// # Errors
    /// When the file is missing or is not a record.
    pub fn read(prefix: &Prefix, name: &ReleaseName) -> Result<Self, RecordError> {
        Self::read_from(&prefix.release(name)).map_err(|source| RecordError {
            release: name.clone(),
            source,
        })
    }

    fn read_from(release: &Path) -> Result<Self, DiskError> {
        let path = release.join(RECORD);
        let bytes = read_small(&path, LONGEST_RECORD)?;
        serde_json::from_slice(&bytes).map_err(|error| DiskError::of("parse", &path)(error.into()))
    }

    /// Whether both are of one bundle with the same choices; another version of the installer may have written it.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        let choices = |record: &Self| Self {
            installer: String::new(),
            made_on_site: BTreeMap::new(),
            ..record.clone()
        };
        choices(self) == choices(other)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// Name of the record in a release's folder.
pub(crate) const RECORD: &str = "release.json";

/// A line for each file that a Python environment got on site, which wheels of headers and scripts can make many.
const LONGEST_RECORD: u64 = 64 * 1024 * 1024;
