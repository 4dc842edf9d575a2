//! Which roots are trusted, for people to read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bundle_format::{Algorithm, KeyError, RootDocument};
use manifest_schema::Digest;
use serde::Serialize;

use super::{LONGEST_ROOT, RootError, roots};
use crate::disk::{DiskError, read_small};
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

/// Every root that is trusted below `prefix` or by the machine, by fingerprint.
///
/// # Errors
/// When a document cannot be read, or is not the root that its name says.
pub fn trusted_roots(prefix: &Prefix) -> Result<RootList, RootError> {
    let mut list = RootList::default();
    let own = prefix.trust();
    for folder in [own.as_path(), prefix.system_trust()] {
        for path in files_of(folder)? {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let named = Digest::parse_hex(&stem);
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("json") => {
                    let bytes = read_small(&path, LONGEST_ROOT)?;
                    let found = Digest::of(&bytes);
                    if let Some(named) = named.ok().filter(|named| *named != found) {
                        return Err(RootError::Other { found, named });
                    }
                    let mut root = describe(&bytes, path)?;
                    root.system = folder != own;
                    list.roots.push(root);
                }
                Some("expected") => list.expected.extend(named.ok()),
                _ => {}
            }
        }
    }
    let all = roots(prefix)?;
    for root in &mut list.roots {
        root.superseded = all.newer_than(&root.fingerprint).is_some();
    }
    list.roots
        .sort_by_key(|root| (root.fingerprint.hex(), root.system));
    Ok(list)
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
