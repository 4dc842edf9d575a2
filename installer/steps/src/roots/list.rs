//! Which roots are trusted, for people to read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bundle_format::{Algorithm, KeyError, RootDocument, TrustFile, TrustedRoots};
use manifest_schema::Digest;
use serde::Serialize;

use super::RootError;
use crate::disk::DiskError;
use crate::prefix::Prefix;

/// One trusted root.
#[derive(Clone, Debug, Serialize)]
pub struct TrustedRoot {
    /// SHA-256 of the document.
    pub fingerprint: Digest,
    /// Its version.
    pub version: u32,
    /// How many of its keys must sign.
    pub threshold: u32,
    /// Its keys that count.
    pub keys: Vec<String>,
    /// What each of them signs with.
    pub algorithms: Vec<Algorithm>,
    /// Algorithms of which a signature is needed besides P-256.
    pub require: Vec<Algorithm>,
    /// Keys that no longer count.
    pub revoked: Vec<String>,
    /// The file that it is in.
    pub path: PathBuf,
    /// It is the machine's own.
    pub system: bool,
    /// A newer root of the same chain is trusted, and counts instead.
    pub superseded: bool,
}

/// The roots that are trusted, and those that are only named.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RootList {
    /// Roots whose documents are here.
    pub roots: Vec<TrustedRoot>,
    /// Fingerprints of roots that are trusted and whose documents have not come yet.
    pub expected: Vec<Digest>,
}

/// Every root that is trusted below `prefix` or by the machine, by fingerprint; and what is wrong with the files that
/// are none. While there is one of those, nothing is accepted under the others.
pub fn trusted_roots(prefix: &Prefix) -> (RootList, Vec<RootError>) {
    let mut list = RootList::default();
    let mut broken = Vec::new();
    let mut all = TrustedRoots::default();
    let own = prefix.trust();
    for folder in [own.as_path(), prefix.system_trust()] {
        let files = files_of(folder).unwrap_or_else(|error| {
            broken.push(error.into());
            Vec::new()
        });
        for path in files {
            match TrustFile::read(&path) {
                Ok(None) => {}
                Ok(Some(TrustFile::Named(fingerprint))) => list.expected.push(fingerprint),
                Ok(Some(TrustFile::Root(bytes))) => {
                    let described = all.trust_document(&bytes);
                    match described.and_then(|_| describe(&bytes, path)) {
                        Ok(mut root) => {
                            root.system = folder != own;
                            list.roots.push(root);
                        }
                        Err(error) => broken.push(error.into()),
                    }
                }
                Err(error) => broken.push(error.into()),
            }
        }
    }
    for root in &mut list.roots {
        root.superseded = all.newer_than(&root.fingerprint).is_some();
    }
    list.roots
        .sort_by_key(|root| (root.fingerprint.hex(), root.system));
    (list, broken)
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::of("list", folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(DiskError::of("list", folder))?.path());
    }
    Ok(paths)
}

pub(super) fn describe(bytes: &[u8], path: PathBuf) -> Result<TrustedRoot, KeyError> {
    let root = RootDocument::parse(bytes)?;
    Ok(TrustedRoot {
        fingerprint: Digest::of(bytes),
        version: root.version,
        threshold: root.threshold,
        keys: root.usable().map(|key| key.keyid.to_string()).collect(),
        algorithms: root.usable().map(|key| key.scheme).collect(),
        require: root.require.clone(),
        revoked: root.revoked.iter().map(ToString::to_string).collect(),
        path,
        system: false,
        superseded: false,
    })
}
