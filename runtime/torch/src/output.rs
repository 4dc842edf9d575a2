//! Files written beside their place, flushed, then renamed: a reader never sees half of one.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::BackendError;

/// Lets `write` fill a file beside `path`, then moves it there.
pub(crate) fn placed(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), BackendError>,
) -> Result<(), BackendError> {
    let fresh = beside(path);
    let written =
        write(&fresh).and_then(|()| fs::rename(&fresh, path).map_err(BackendError::writing(path)));
    if written.is_err() {
        // Best effort: the first error is the one to tell.
        let _ = fs::remove_file(&fresh);
    }
    written
}

/// Lets `write` fill a folder beside `path`, then moves it there. What stood there before is then removed; until then it
/// is untouched.
pub(crate) fn placed_folder(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), BackendError>,
) -> Result<(), BackendError> {
    // A path such as `out/` or `.` names the folder all the same.
    let path = &std::path::absolute(path).map_err(BackendError::writing(path))?;
    let failed = || BackendError::writing(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed())?;
    }
    sweep(path);
    let fresh = beside(path);
    let placed = fs::create_dir(&fresh)
        .map_err(failed())
        .and_then(|()| write(&fresh))
        .and_then(|()| {
            sync_folder(&fresh)
                .and_then(|()| take_place(&fresh, path))
                .and_then(|()| sync_folder(path.parent().unwrap_or(path)))
                .map_err(failed())
        });
    // What was written for nothing, or what stood in its place before. Best effort: a later call sweeps.
    let _ = fs::remove_dir_all(&fresh);
    placed
}

/// Moves the folder `fresh` to `path`; what stood there is then at `fresh`.
fn take_place(fresh: &Path, path: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, fresh, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => fs::rename(fresh, path),
        // A file system, or a kernel, that cannot swap two names. With any other error nothing is touched: of a folder that
        // another file system is mounted on, the content would go and the folder stay.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if path.exists() {
                fs::remove_dir_all(path)?;
            }
            fs::rename(fresh, path)
        }
        Err(error) => Err(error.into()),
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a JSON document with a line end.
pub(crate) fn json(path: &Path, value: &serde_json::Value) -> Result<(), BackendError> {
    placed(path, |fresh| {
        let mut file = File::create(fresh).map_err(BackendError::writing(path))?;
        writeln!(file, "{value:#}")
            .and_then(|()| file.sync_all())
            .map_err(BackendError::writing(path))
    })
}

/// Copies a file with the same care.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), BackendError> {
    let bytes = fs::read(from).map_err(BackendError::reading(from))?;
    placed(to, |fresh| {
        let mut file = File::create(fresh).map_err(BackendError::writing(to))?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(BackendError::writing(to))
    })
}

/// Removes what processes that are gone left beside `path`, files or folders. Best effort.
pub(crate) fn sweep(path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let start = format!(".{name}.");
    let Some(Ok(entries)) = path.parent().map(fs::read_dir) else {
        return;
    };
    for entry in entries.flatten() {
        let left = entry.file_name().to_string_lossy().into_owned();
        let owner = left
            .strip_prefix(&start)
            .and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let path = entry.path();
            let _left = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }
}

/// A name next to `path` that no other process takes.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}
