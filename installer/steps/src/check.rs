//! Is a release on the disk the tree that it should be?

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use report::{Sink, Step};
use serde::Serialize;

use crate::disk::DiskError;
use crate::store::hash_file;
use crate::tree::{File, Tree};

/// A file that is not as it should be.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Problem {
    /// Where, below the release.
    pub(crate) path: String,
    /// In which way.
    pub(crate) state: Wrong,
}

/// In which way a file is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wrong {
    /// It is not there.
    Missing,
    /// It is there with other bytes, or is not a plain file.
    Changed,
    /// It should be runnable and is not.
    NotExecutable,
}

/// Reads every file of `tree` below `release` and names the ones that are wrong.
pub(crate) fn check_tree(
    release: &Path,
    tree: &Tree,
    sink: &dyn Sink,
) -> Result<Vec<Problem>, DiskError> {
    let total = Some(tree.len() as u64);
    let step = Step::start(sink, "install.working.check", "", total, "files");
    let mut problems = Vec::new();
    for (count, (path, file)) in tree.iter().enumerate() {
        if let Some(state) = check_file(&release.join(path), file)? {
            let path = path.clone();
            problems.push(Problem { path, state });
        }
        step.progress(count as u64 + 1);
    }
    step.finish();
    Ok(problems)
}

/// What is wrong with one file, if anything is.
pub(crate) fn check_file(path: &Path, file: &File) -> Result<Option<Wrong>, DiskError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Some(Wrong::Missing));
        }
        Err(error) => return Err(DiskError::of("read", path)(error)),
    };
    let (size, executable) = match file {
        File::Signed { placed, .. } => (placed.size.0, placed.executable),
        File::Derived { bytes, executable } => (bytes.len() as u64, *executable),
    };
    if !found.is_file() || found.len() != size {
        return Ok(Some(Wrong::Changed));
    }
    let same = match file {
        File::Signed { placed, .. } => hash_file(path)? == placed.digest,
        File::Derived { bytes, .. } => {
            fs::read(path).map_err(DiskError::of("read", path))? == *bytes
        }
    };
    if !same {
        return Ok(Some(Wrong::Changed));
    }
    if executable && found.permissions().mode() & 0o111 == 0 {
        return Ok(Some(Wrong::NotExecutable));
    }
    Ok(None)
}
