//! What can be done with releases that are installed: go back, remove.

use std::io;
use std::path::Path;

use report::{Args, Diagnose, Outcome, Sink};

use crate::audit::{AuditError, Installed};
use crate::check::check_tree;
use crate::disk::{Disk, DiskError};
use crate::guard::Guard;
use crate::host::is_of_host;
use crate::journal::{Action, Journal, JournalError};
use crate::prefix::{Prefix, ReleaseName, names_in, switch_current};
use crate::store::collect_garbage;

/// A release could not be made current or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// There is no earlier release.
    #[error("no release was current before `{current}`, or none is there any more")]
    NothingBefore {
        /// The release in use.
        current: ReleaseName,
    },
    /// The release to go back to is not what was signed.
    #[error("`{first}` of release `{release}` is not as signed, and {count} files in all")]
    Damaged {
        /// Which.
        release: ReleaseName,
        /// How many files.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// The release in use cannot be removed alone.
    #[error("release `{release}` is the current one")]
    InUse {
        /// Which.
        release: ReleaseName,
    },
    /// The release is unknown or not signed.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The log could not be continued.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Diagnose for ManageError {
    fn code(&self) -> &'static str {
        match self {
            Self::NothingBefore { .. } => "install.nothing-before",
            Self::Damaged { .. } => "install.release-damaged",
            Self::InUse { .. } => "install.release-in-use",
            Self::Audit(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::NothingBefore { current } => vec![("current", current.to_string())],
            Self::Damaged {
                release,
                count,
                first,
            } => vec![
                ("release", release.to_string()),
                ("count", count.to_string()),
                ("first", first.clone()),
            ],
            Self::InUse { release } => vec![("release", release.to_string())],
            Self::Audit(error) => error.args(),
            Self::Journal(error) => error.args(),
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::NothingBefore { .. } | Self::InUse { .. } => Outcome::Failed,
            Self::Damaged { .. } => Outcome::Untrusted,
            Self::Audit(error) => error.outcome(),
            Self::Journal(error) => error.outcome(),
            Self::Disk(error) => error.outcome(),
        }
    }
}

/// The release that a rollback goes to: the one that is wanted, else the one that was current before and is still there.
///
/// # Errors
/// When nothing is installed or there is none.
pub fn rollback_target(
    prefix: &Prefix,
    wanted: Option<ReleaseName>,
) -> Result<ReleaseName, ManageError> {
    let current = current(prefix)?;
    if let Some(release) = wanted {
        if !prefix.release(&release).is_dir() {
            return Err(AuditError::NoRelease { release }.into());
        }
        return Ok(release);
    }
    let journal = Journal::read(prefix)?;
    let before = journal
        .was_current()
        .into_iter()
        .find(|name| **name != current && prefix.release(name).is_dir());
    before
        .cloned()
        .ok_or(ManageError::NothingBefore { current })
}

/// Makes `to` the current release, after checking every file of it.
///
/// # Errors
/// When the release is not there or is not what was signed; `current` is untouched then.
pub fn rollback(
    disk: &dyn Disk,
    _guard: &Guard,
    prefix: &Prefix,
    to: &ReleaseName,
    sink: &dyn Sink,
) -> Result<(), ManageError> {
    let from = current(prefix)?;
    let mut journal = Journal::read(prefix)?;
    let installed = Installed::open(prefix, to)?;
    let problems = check_tree(&prefix.release(to), &installed.tree, sink)?;
    if let Some(first) = problems.first() {
        return Err(ManageError::Damaged {
            release: to.clone(),
            count: problems.len(),
            first: first.path.clone(),
        });
    }
    if from == *to {
        return Ok(());
    }
    let release = to.clone();
    journal.add(disk, prefix, Action::Rollback { release, from })?;
    switch_current(disk, prefix, to)?;
    Ok(())
}

/// Fails where [`remove`] would not take this release.
///
/// # Errors
/// When the release is in use or not there.
pub fn removable(prefix: &Prefix, name: &ReleaseName) -> Result<(), ManageError> {
    let release = name.clone();
    if prefix.current()?.as_ref() == Some(name) {
        return Err(ManageError::InUse { release });
    }
    if !prefix.release(name).is_dir() {
        return Err(AuditError::NoRelease { release }.into());
    }
    Ok(())
}

/// Removes one release that is not in use, and the blobs that no other release needs. Returns how many blobs.
///
/// # Errors
/// When the release is in use or not there, or the disk fails.
pub fn remove(
    disk: &dyn Disk,
    _guard: &Guard,
    prefix: &Prefix,
    name: &ReleaseName,
) -> Result<usize, ManageError> {
    removable(prefix, name)?;
    told(disk, prefix, std::slice::from_ref(name), || {
        take_away(disk, prefix, name)?;
        collect_garbage(disk, prefix)
    })
}

/// Removes every release, the store and the cache. The log, the trusted roots and the site's key stay: they say
/// what was here, and by whom it is known. Nothing else in the prefix is touched.
///
/// # Errors
/// When the disk fails; what is left is removed by another call.
pub fn remove_all(disk: &dyn Disk, _guard: &Guard, prefix: &Prefix) -> Result<(), ManageError> {
    let releases = prefix.installed()?;
    told(disk, prefix, &releases, || {
        disk.remove_file(&prefix.current_link())?;
        disk.sync_dir(prefix.path())?;
        for name in &releases {
            take_away(disk, prefix, name)?;
        }
        for path in prefix.leftovers()? {
            if path.is_dir() {
                disk.remove_tree(&path)?;
            } else {
                disk.remove_file(&path)?;
            }
        }
        collect_garbage(disk, prefix)?;
        remove_known(disk, &prefix.cache(), |name| CACHES.contains(&name))?;
        remove_known(disk, &prefix.host(), is_of_host)?;
        let store = prefix.store();
        let folders = [
            store.clone(),
            prefix.path().join("store"),
            prefix.releases(),
        ];
        for folder in folders {
            disk.remove_empty_dir(&folder)?;
        }
        Ok(())
    })
}

/// Removes releases by `act`, and has the log tell it before. Where the disk has no room for the log, afterwards: who
/// removes wants room.
fn told<T>(
    disk: &dyn Disk,
    prefix: &Prefix,
    releases: &[ReleaseName],
    act: impl FnOnce() -> Result<T, DiskError>,
) -> Result<T, ManageError> {
    let mut journal = Journal::read(prefix)?;
    let mut open = releases.iter().cloned().peekable();
    let mut tell = || -> Result<(), JournalError> {
        while let Some(release) = open.peek().cloned() {
            journal.add(disk, prefix, Action::Remove { release })?;
            open.next();
        }
        Ok(())
    };
    match tell() {
        Ok(()) => Ok(act()?),
        Err(JournalError::Disk(error)) if error.is_full() => {
            let done = act()?;
            tell()?;
            Ok(done)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes what is known of a folder, and the folder if nothing else is in it: a prefix may be somebody's folder, with
/// a cache of their own.
fn remove_known(
    disk: &dyn Disk,
    folder: &Path,
    is_known: impl Fn(&str) -> bool,
) -> Result<(), DiskError> {
    for name in names_in(folder)?.iter().filter(|name| is_known(name)) {
        let path = folder.join(name);
        if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            disk.remove_tree(&path)?;
        } else {
            disk.remove_file(&path)?;
        }
    }
    disk.remove_empty_dir(folder)
}

/// A release is taken out of sight in one step, so that power cannot leave half of one under its name.
fn take_away(disk: &dyn Disk, prefix: &Prefix, name: &ReleaseName) -> Result<(), DiskError> {
    let staging = prefix.staging(name);
    disk.remove_tree(&staging)?;
    match disk.rename(&prefix.release(name), &staging) {
        // An overlay does not rename the folders of its lower layer. What a cut leaves of the release then is found damaged.
        Err(error) if error.source.kind() == io::ErrorKind::CrossesDevices => {
            disk.remove_tree(&prefix.release(name))?;
            return disk.sync_dir(&prefix.releases());
        }
        other => other?,
    }
    disk.sync_dir(&prefix.releases())?;
    disk.remove_tree(&staging)
}

fn current(prefix: &Prefix) -> Result<ReleaseName, ManageError> {
    prefix.current()?.ok_or_else(|| {
        let prefix = prefix.path().to_owned();
        AuditError::NothingInstalled { prefix }.into()
    })
}

/// What the runtime, Python and the other engine keep in the cache of a prefix.
const CACHES: [&str; 4] = ["converted", "huggingface", "pycache", "tokens"];
