//! A disk whose power fails, or that fills up, at the n-th operation.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bundle_format::Extent;
use install_steps::{Disk, DiskError, NewFile, RealDisk};

static REAL: RealDisk = RealDisk;

/// A disk whose operations fail from the n-th on. What was not settled by then loses its second half.
pub(crate) struct FaultyDisk {
    left: AtomicUsize,
    /// It is full, not dead: removing still works.
    full: bool,
    /// What is removed makes room.
    roomier: bool,
    unsettled: Mutex<Vec<PathBuf>>,
    /// Folders that have new entries which are not on the disk yet.
    dirty: Mutex<BTreeSet<PathBuf>>,
}

impl FaultyDisk {
    /// Fails after this many operations, all of them.
    pub(crate) fn that_dies_after(operations: usize) -> Self {
        Self {
            left: AtomicUsize::new(operations),
            full: false,
            roomier: false,
            unsettled: Mutex::default(),
            dirty: Mutex::default(),
        }
    }

    /// Takes nothing more after this many operations.
    #[allow(dead_code, reason = "not every test fills a disk")]
    pub(crate) fn that_is_full_after(operations: usize) -> Self {
        Self {
            full: true,
            ..Self::that_dies_after(operations)
        }
    }

    /// Takes nothing more after this many operations, until a file or a folder is removed.
    #[allow(dead_code, reason = "not every test fills a disk")]
    pub(crate) fn that_is_full_until_freed(operations: usize) -> Self {
        Self {
            roomier: true,
            ..Self::that_is_full_after(operations)
        }
    }

    /// What is removed at `path` leaves room.
    fn free(&self, path: &Path) {
        let kind = std::fs::symlink_metadata(path);
        if self.roomier && kind.is_ok_and(|kind| !kind.is_symlink()) {
            self.left.store(usize::MAX, Ordering::SeqCst);
        }
    }

    /// The folder of `path` has an entry more.
    fn entered(&self, path: &Path) {
        let folder = path.parent().unwrap().to_owned();
        self.dirty.lock().unwrap().insert(folder);
    }

    /// What is to be named `path` must be on the disk by then, or a power cut leaves the name alone.
    fn is_settled_but_for(&self, path: &Path) {
        let name = path.display();
        let unsettled = self.unsettled.lock().unwrap();
        assert!(unsettled.is_empty(), "{name} before {unsettled:?}");
        let mut dirty = self.dirty.lock().unwrap().clone();
        dirty.remove(path.parent().unwrap());
        assert!(dirty.is_empty(), "{name} before what is new in {dirty:?}");
    }

    /// Nothing that was made can be lost any more.
    #[allow(dead_code, reason = "not every test looks at it")]
    pub(crate) fn is_settled(&self) {
        let dirty = self.dirty.lock().unwrap();
        assert!(dirty.is_empty(), "new in {dirty:?}");
    }

    /// An operation that frees space or takes none.
    fn operate_freely(&self, path: &Path) -> Result<(), DiskError> {
        if self.full {
            Ok(())
        } else {
            self.operate(path)
        }
    }

    fn operate(&self, path: &Path) -> Result<(), DiskError> {
        let alive = |left: usize| left.checked_sub(1);
        match self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, alive)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(DiskError {
                action: "reach",
                path: path.to_owned(),
                source: if self.full {
                    io::ErrorKind::StorageFull.into()
                } else {
                    io::Error::other("no power")
                },
            }),
        }
    }

    /// What was not on the disk yet loses its second half.
    pub(crate) fn reboot(self) {
        for path in self.unsettled.into_inner().unwrap() {
            // Root opens what is read-only too; who is not makes it writable for the moment.
            if let Ok(found) = std::fs::metadata(&path) {
                use std::os::unix::fs::PermissionsExt as _;
                let mode = found.permissions().mode() | 0o200;
                let _ = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
            }
            if let Ok(file) = std::fs::OpenOptions::new().write(true).open(&path) {
                let length = file.metadata().unwrap().len();
                file.set_len(length / 2).unwrap();
            }
        }
    }
}

struct FaultyFile<'a> {
    disk: &'a FaultyDisk,
    inner: Box<dyn NewFile + 'a>,
    path: PathBuf,
}

impl Write for FaultyFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk
            .operate(&self.path)
            .map_err(|error| error.source)?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl NewFile for FaultyFile<'_> {
    fn share(&mut self, extents: &[Extent<'_>]) -> Result<bool, DiskError> {
        self.disk.operate(&self.path)?;
        self.inner.share(extents)
    }

    fn expect(&mut self, size: u64) -> Result<(), DiskError> {
        self.disk.operate(&self.path)?;
        self.inner.expect(size)
    }

    fn file(&self) -> &File {
        self.inner.file()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk
            .operate(&self.path)
            .map_err(|error| error.source)?;
        self.inner.write_at(offset, bytes)
    }

    fn settle(self: Box<Self>, mode: u32) -> Result<(), DiskError> {
        self.disk.operate(&self.path)?;
        self.inner.settle(mode)?;
        let mut unsettled = self.disk.unsettled.lock().unwrap();
        unsettled.retain(|path| *path != self.path);
        Ok(())
    }

    fn close(self: Box<Self>, mode: u32) -> Result<(), DiskError> {
        self.disk.operate(&self.path)?;
        self.inner.close(mode)
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.operate(path)?;
        let missing = |folder: &&Path| !folder.exists();
        path.ancestors()
            .take_while(missing)
            .for_each(|folder| self.entered(folder));
        RealDisk.create_dir(path)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn NewFile + '_>, DiskError> {
        self.operate(path)?;
        self.unsettled.lock().unwrap().push(path.to_owned());
        self.entered(path);
        Ok(Box::new(FaultyFile {
            disk: self,
            inner: REAL.create(path)?,
            path: path.to_owned(),
        }))
    }

    fn append(&self, path: &Path, length: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if let Err(error) = self.operate(path) {
            // The cruellest moment: half of the entry is on the disk.
            if !self.full && self.left.load(Ordering::SeqCst) == 0 && path.exists() {
                RealDisk.append(path, length, &bytes[..bytes.len() / 2])?;
            }
            return Err(error);
        }
        if !path.exists() {
            self.entered(path);
        }
        RealDisk.append(path, length, bytes)
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> Result<(), DiskError> {
        self.operate(new)?;
        self.entered(new);
        RealDisk.hard_link(existing, new)
    }

    fn symlink(&self, target: &Path, link: &Path) -> Result<(), DiskError> {
        self.operate(link)?;
        self.entered(link);
        RealDisk.symlink(target, link)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.operate_freely(to)?;
        if to.ends_with("current") {
            self.is_settled_but_for(to);
        }
        RealDisk.rename(from, to)?;
        self.entered(to);
        let moved = |folder: PathBuf| match folder.strip_prefix(from) {
            Ok(rest) => to.join(rest),
            Err(_) => folder,
        };
        let mut dirty = self.dirty.lock().unwrap();
        *dirty = std::mem::take(&mut *dirty).into_iter().map(moved).collect();
        drop(dirty);
        // What is not on the disk yet is no more so under another name, its own or its folder's.
        for path in self.unsettled.lock().unwrap().iter_mut() {
            if let Ok(rest) = path.strip_prefix(from) {
                *path = if rest.as_os_str().is_empty() {
                    to.to_owned()
                } else {
                    to.join(rest)
                };
            }
        }
        Ok(())
    }

    fn set_mode(&self, path: &Path, mode: u32) -> Result<(), DiskError> {
        self.operate_freely(path)?;
        RealDisk.set_mode(path, mode)
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.operate_freely(path)?;
        self.free(path);
        self.unsettled.lock().unwrap().retain(|other| other != path);
        RealDisk.remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> Result<(), DiskError> {
        self.operate_freely(path)?;
        self.free(path);
        let mut dirty = self.dirty.lock().unwrap();
        dirty.retain(|folder| !folder.starts_with(path));
        drop(dirty);
        RealDisk.remove_tree(path)
    }

    fn remove_empty_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.operate_freely(path)?;
        RealDisk.remove_empty_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.operate_freely(path)?;
        RealDisk.sync_dir(path)?;
        self.dirty.lock().unwrap().remove(path);
        Ok(())
    }

    fn sync_all(&self, path: &Path) -> Result<(), DiskError> {
        self.operate_freely(path)?;
        RealDisk.sync_all(path)?;
        self.unsettled.lock().unwrap().clear();
        self.dirty.lock().unwrap().clear();
        Ok(())
    }
}
