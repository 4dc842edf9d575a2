//! What nothing needs any more: leftovers of cut installs, blobs of no release, conversions of no blob.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use manifest_schema::{ByteSize, Digest};
use serde::Serialize;

use crate::disk::{Disk, DiskError};
use crate::guard::Guard;
use crate::journal::{Action, Journal};
use crate::manage::ManageError;
use crate::prefix::Prefix;

/// What can go.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Garbage {
    /// Unfinished releases and blobs.
    pub leftovers: Vec<PathBuf>,
    /// Blobs that no release links to.
    pub blobs: Vec<PathBuf>,
    /// Conversions of blobs that are not in the store, or go with this.
    pub converted: Vec<PathBuf>,
    /// Bytes that all of it takes.
    pub bytes: ByteSize,
}

impl Garbage {
    /// Looks below `prefix`, and touches nothing.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn find(prefix: &Prefix) -> Result<Self, DiskError> {
        let mut garbage = Self {
            leftovers: prefix.leftovers()?,
            ..Self::default()
        };
        let mut kept = Vec::new();
        for path in entries(&prefix.store())? {
            let Some(digest) = digest_named(&path) else {
                continue;
            };
            let found = fs::symlink_metadata(&path).map_err(DiskError::of("read", &path))?;
            if found.nlink() == 1 {
                garbage.blobs.push(path);
            } else {
                kept.push(digest);
            }
        }
        garbage.converted = entries(&prefix.converted())?
            .into_iter()
            .filter(|path| digest_named(path).is_some_and(|digest| !kept.contains(&digest)))
            .collect();
        let all = garbage
            .leftovers
            .iter()
            .chain(&garbage.blobs)
            .chain(&garbage.converted);
        let mut bytes = 0;
        for path in all {
            bytes += size_of(path)?;
        }
        garbage.bytes = ByteSize(bytes);
        Ok(garbage)
    }

    /// How many things can go.
    pub fn count(&self) -> usize {
        self.leftovers.len() + self.blobs.len() + self.converted.len()
    }

    /// Removes all of it, and logs that.
    ///
    /// # Errors
    /// When the disk or the log fails; what is left is found by another call.
    pub fn remove(
        &self,
        disk: &dyn Disk,
        _guard: &Guard,
        prefix: &Prefix,
    ) -> Result<(), ManageError> {
        if self.count() == 0 {
            return Ok(());
        }
        let action = Action::Sweep {
            things: self.count(),
            bytes: self.bytes,
        };
        Journal::read(prefix)?.add(disk, prefix, action)?;
        for path in self
            .leftovers
            .iter()
            .chain(&self.blobs)
            .chain(&self.converted)
        {
            if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
                disk.remove_tree(path)?;
            } else {
                disk.remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn digest_named(path: &Path) -> Option<Digest> {
    Digest::parse_hex(path.file_name()?.to_str()?).ok()
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::of("list", folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(DiskError::of("list", folder))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Bytes below `path`. A blob that is linked elsewhere frees nothing when a leftover goes.
fn size_of(path: &Path) -> Result<u64, DiskError> {
    let found = fs::symlink_metadata(path).map_err(DiskError::of("read", path))?;
    if !found.is_dir() {
        return Ok(if found.nlink() == 1 { found.len() } else { 0 });
    }
    let mut bytes = 0;
    for inside in entries(path)? {
        bytes += size_of(&inside)?;
    }
    Ok(bytes)
}
