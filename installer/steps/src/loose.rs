//! A deep audit's second look: who else could change what was installed, and does the log tell of everything?

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use crate::audit::AuditError;
use crate::disk::DiskError;
use crate::journal::{Action, Journal};
use crate::prefix::{Prefix, ReleaseName};
use crate::release::RECORD;
use crate::store::hash_file;

/// Something below the prefix that somebody other than its owner could change, or that runs as its owner.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Loose {
    /// Where, below the prefix.
    pub path: String,
    /// In which way.
    pub how: Looseness,
}

/// In which way something is loose.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Looseness {
    /// Everybody may write it.
    WorldWritable,
    /// It belongs to another user than the prefix.
    OtherOwner,
    /// It runs with its owner's rights.
    Setuid,
}

impl Looseness {
    /// Catalogue code of the words for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::WorldWritable => "installer.loose.world-writable",
            Self::OtherOwner => "installer.loose.other-owner",
            Self::Setuid => "installer.loose.setuid",
        }
    }
}

/// Everything below the prefix that is loose. The runtime's cache may belong to whoever trains.
///
/// # Errors
/// When a folder cannot be read.
pub fn loose(prefix: &Prefix) -> Result<Vec<Loose>, AuditError> {
    let root = prefix.path();
    let owner = fs::symlink_metadata(root)
        .map_err(DiskError::of("read", root))?
        .uid();
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).map_err(DiskError::of("list", &folder))?;
        for entry in entries {
            let path = entry.map_err(DiskError::of("list", &folder))?.path();
            let kind = fs::symlink_metadata(&path).map_err(DiskError::of("read", &path))?;
            if kind.is_symlink() {
                continue;
            }
            let inside = path.strip_prefix(root).unwrap_or(&path);
            let mode = kind.mode();
            let how = if mode & 0o002 != 0 && mode & 0o1000 == 0 {
                Some(Looseness::WorldWritable)
            } else if kind.is_file() && mode & 0o6000 != 0 {
                Some(Looseness::Setuid)
            } else if kind.uid() != owner && !inside.starts_with("cache") {
                Some(Looseness::OtherOwner)
            } else {
                None
            };
            if let Some(how) = how {
                found.push(Loose {
                    path: inside.display().to_string(),
                    how,
                });
            }
            if kind.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// A release, root or link that the log does not account for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Unlogged {
    /// A release is there, and no entry says that it was installed.
    Release {
        /// Its name.
        name: ReleaseName,
    },
    /// The release's record is not the one that its entry names.
    Record {
        /// The release.
        name: ReleaseName,
    },
    /// A root is trusted, and the last entry about it does not say so.
    Root {
        /// Its file.
        name: String,
    },
    /// `current` names another release than the last entry. Power may have gone between the two.
    Current {
        /// What it names.
        found: Option<ReleaseName>,
        /// What the log says.
        logged: Option<ReleaseName>,
    },
}

/// Compares the prefix with its log: a log that lost its end still has a whole chain.
///
/// # Errors
/// When the disk or the log cannot be read.
pub fn unlogged(prefix: &Prefix, journal: &Journal) -> Result<Vec<Unlogged>, AuditError> {
    let mut found = Vec::new();
    for name in prefix.installed()? {
        match journal.record_of(&name) {
            None => found.push(Unlogged::Release { name }),
            Some(logged) if hash_file(&prefix.release(&name).join(RECORD)).ok() != Some(logged) => {
                found.push(Unlogged::Record { name });
            }
            Some(_) => {}
        }
    }
    for name in root_files(&prefix.trust()) {
        if !is_trusted(journal, &name) {
            found.push(Unlogged::Root { name });
        }
    }
    let logged = current_by(journal);
    let current = prefix.current()?;
    if current != logged {
        found.push(Unlogged::Current {
            found: current,
            logged,
        });
    }
    Ok(found)
}

fn root_files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "json" || extension == "expected")
        })
        .collect();
    names.sort();
    names
}

fn is_trusted(journal: &Journal, file: &str) -> bool {
    let last = journal
        .entries()
        .iter()
        .rev()
        .find_map(|entry| match &entry.action {
            Action::Trust { fingerprint } | Action::FollowRoot { fingerprint, .. }
                if file.starts_with(&fingerprint.hex()) =>
            {
                Some(true)
            }
            Action::Distrust { fingerprint } if file.starts_with(&fingerprint.hex()) => Some(false),
            _ => None,
        });
    last == Some(true)
}

/// What `current` names by the log.
fn current_by(journal: &Journal) -> Option<ReleaseName> {
    let mut current = None;
    for entry in journal.entries() {
        match &entry.action {
            Action::Install { release, .. } | Action::Rollback { release, .. } => {
                current = Some(release.clone());
            }
            Action::Remove { release } if current.as_ref() == Some(release) => current = None,
            _ => {}
        }
    }
    current
}
