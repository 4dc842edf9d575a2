//! Every file operation of an install, in one place.
//!
//! Whatever changes the disk goes through [`Disk`], so that a test can let the power fail after the n-th
//! operation and look at what is left. Reading needs no such door: it breaks nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bundle_format::{Direct, Extent, make_room, open_plain, share_blocks, write_all_at};
use report::{Args, Diagnose, Outcome};

/// One file operation that the machine refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{path}`")]
pub struct DiskError {
    /// What was tried: `create`, `rename`, `read` and so on.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl DiskError {
    /// Makes the error of `action` on `path`; for `map_err`.
    pub(crate) fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            action,
            path,
            source,
        }
    }

    /// Whether there was no room left.
    pub(crate) fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

impl Diagnose for DiskError {
    fn code(&self) -> &'static str {
        if self.is_full() {
            "install.disk-full"
        } else {
            match self.source.kind() {
                io::ErrorKind::PermissionDenied => "install.permission-denied",
                io::ErrorKind::ReadOnlyFilesystem => "install.disk-read-only",
                _ => "install.disk-failed",
            }
        }
    }

    fn args(&self) -> Args {
        vec![
            ("action", self.action.to_owned()),
            ("path", self.path.display().to_string()),
        ]
    }

    fn outcome(&self) -> Outcome {
        Outcome::HostFault
    }
}

/// What an install may do to a disk.
pub trait Disk: Send + Sync {
    /// Makes a folder and its parents; one that is there is fine.
    fn create_dir(&self, path: &Path) -> Result<(), DiskError>;
    /// Makes a new file; one that is there is an error.
    fn create(&self, path: &Path) -> Result<Box<dyn NewFile + '_>, DiskError>;
    /// Adds bytes at the end of a file, after cutting it to `length`, and waits until they are on the disk.
    fn append(&self, path: &Path, length: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// Gives a file that is there a second name.
    fn hard_link(&self, existing: &Path, new: &Path) -> Result<(), DiskError>;
    /// Makes a link that holds `target` as it is written.
    fn symlink(&self, target: &Path, link: &Path) -> Result<(), DiskError>;
    /// Moves a file, link or folder; a file or link at `to` is replaced in one step.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;
    /// Sets the permission bits.
    fn set_mode(&self, path: &Path, mode: u32) -> Result<(), DiskError>;
    /// Removes a file or link; one that is not there is fine.
    fn remove_file(&self, path: &Path) -> Result<(), DiskError>;
    /// Removes a folder with all it holds, never following links; one that is not there is fine.
    fn remove_tree(&self, path: &Path) -> Result<(), DiskError>;
    /// Removes a folder if nothing is in it.
    fn remove_empty_dir(&self, path: &Path) -> Result<(), DiskError>;
    /// Waits until the entries of a folder are on the disk.
    fn sync_dir(&self, path: &Path) -> Result<(), DiskError>;
    /// Waits until everything on the file system that holds `path` is on the disk.
    fn sync_all(&self, path: &Path) -> Result<(), DiskError>;
}

/// A file that is being written.
pub trait NewFile: Write + Send + Sync {
    /// Fills the file, of which nothing was written yet, with the bytes of `extents` without copying them, where the file
    /// system can share them between two files. Returns whether it did.
    ///
    /// Nothing is checked, and a disk may read them otherwise now than before: the caller reads them again.
    fn share(&mut self, extents: &[Extent<'_>]) -> Result<bool, DiskError>;
    /// Makes room for the `size` bytes that [`NewFile::write_at`] will write, in runs of whole blocks: as far as the file system
    /// allows they go straight to the disk.
    fn expect(&mut self, size: u64) -> Result<(), DiskError>;
    /// The file, to be read.
    fn file(&self) -> &File;
    /// Writes all of `bytes` at `offset`, wherever writing has come to.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Waits until the bytes are on the disk, and sets the permission bits.
    fn settle(self: Box<Self>, mode: u32) -> Result<(), DiskError>;
    /// Sets the permission bits. The bytes are on the disk only after [`Disk::sync_all`].
    fn close(self: Box<Self>, mode: u32) -> Result<(), DiskError>;
}

/// The machine's own disk.
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> Result<(), DiskError> {
        fs::create_dir_all(path).map_err(DiskError::of("create", path))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn NewFile + '_>, DiskError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(DiskError::of("create", path))?;
        Ok(Box::new(RealFile {
            file,
            direct: None,
            path: path.to_owned(),
        }))
    }

    fn append(&self, path: &Path, length: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let append = || {
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            file.set_len(length)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        append().map_err(DiskError::of("append to", path))
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> Result<(), DiskError> {
        fs::hard_link(existing, new).map_err(DiskError::of("link", new))
    }

    fn symlink(&self, target: &Path, link: &Path) -> Result<(), DiskError> {
        std::os::unix::fs::symlink(target, link).map_err(DiskError::of("link", link))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        fs::rename(from, to).map_err(DiskError::of("rename", to))
    }

    fn set_mode(&self, path: &Path, mode: u32) -> Result<(), DiskError> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(DiskError::of("change the mode of", path))
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        absent_is_fine(fs::remove_file(path)).map_err(DiskError::of("remove", path))
    }

    fn remove_tree(&self, path: &Path) -> Result<(), DiskError> {
        absent_is_fine(fs::remove_dir_all(path)).map_err(DiskError::of("remove", path))
    }

    fn remove_empty_dir(&self, path: &Path) -> Result<(), DiskError> {
        match absent_is_fine(fs::remove_dir(path)) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => other.map_err(DiskError::of("remove", path)),
        }
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(DiskError::of("sync", path))
    }

    fn sync_all(&self, path: &Path) -> Result<(), DiskError> {
        File::open(path)
            .and_then(|folder| Ok(rustix::fs::syncfs(folder)?))
            .map_err(DiskError::of("sync", path))
    }
}

struct RealFile {
    file: File,
    /// The file once more, for what need not go through the cache.
    direct: Option<Direct>,
    path: PathBuf,
}

impl Write for RealFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl NewFile for RealFile {
    fn share(&mut self, extents: &[Extent<'_>]) -> Result<bool, DiskError> {
        if share_blocks(extents, &self.file, 0) {
            return Ok(true);
        }
        let emptied = self.file.set_len(0);
        emptied.map_err(DiskError::of("write", &self.path))?;
        Ok(false)
    }

    fn expect(&mut self, size: u64) -> Result<(), DiskError> {
        self.direct = Direct::writing(&self.file);
        if self.direct.is_none() {
            return Ok(());
        }
        make_room(&self.file, size).map_err(DiskError::of("write", &self.path))
    }

    fn file(&self) -> &File {
        &self.file
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_all_at(&self.file, self.direct.as_ref(), bytes, offset)
    }

    fn settle(self: Box<Self>, mode: u32) -> Result<(), DiskError> {
        self.file
            .set_permissions(fs::Permissions::from_mode(mode))
            .and_then(|()| self.file.sync_all())
            .map_err(DiskError::of("sync", &self.path))
    }

    fn close(self: Box<Self>, mode: u32) -> Result<(), DiskError> {
        self.file
            .set_permissions(fs::Permissions::from_mode(mode))
            .map_err(DiskError::of("change the mode of", &self.path))
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Writes a whole small file that is not there yet, and leaves it to [`Disk::sync_all`] when it is on the disk.
pub(crate) fn write_new_unsynced(
    disk: &dyn Disk,
    path: &Path,
    bytes: &[u8],
    mode: u32,
) -> Result<(), DiskError> {
    let mut file = disk.create(path)?;
    file.write_all(bytes)
        .map_err(DiskError::of("write", path))?;
    file.close(mode)
}

/// Writes a whole small file that is not there yet.
pub(crate) fn write_new(
    disk: &dyn Disk,
    path: &Path,
    bytes: &[u8],
    mode: u32,
) -> Result<(), DiskError> {
    let mut file = disk.create(path)?;
    file.write_all(bytes)
        .map_err(DiskError::of("write", path))?;
    file.settle(mode)
}

/// Reads a whole file of at most `limit` bytes; anything longer is not what we wrote.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, DiskError> {
    use io::Read as _;
    let mut bytes = Vec::new();
    open_plain(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(DiskError::of("read", path))?;
    if bytes.len() as u64 > limit {
        let source = io::Error::other(format!("the file has more than {limit} bytes"));
        return Err(DiskError::of("read", path)(source));
    }
    Ok(bytes)
}

/// Free and block bytes of the file system that holds `path` or its nearest parent that is there.
pub(crate) fn free_space(path: &Path) -> Result<FreeSpace, DiskError> {
    let there = path
        .ancestors()
        .find(|candidate| candidate.exists())
        .unwrap_or(Path::new("/"));
    let found = rustix::fs::statvfs(there)
        .map_err(|errno| DiskError::of("measure", there)(errno.into()))?;
    Ok(FreeSpace {
        bytes: found.f_bavail.saturating_mul(found.f_frsize),
        block: found.f_frsize.max(512),
        entries: (found.f_files > 0).then_some(found.f_favail),
    })
}

/// What a file system can still take.
pub(crate) struct FreeSpace {
    /// Bytes for an ordinary user.
    pub(crate) bytes: u64,
    /// Bytes of a block: each file takes whole ones.
    pub(crate) block: u64,
    /// Files it can still hold; unknown where the file system makes them as needed.
    pub(crate) entries: Option<u64>,
}
