//! Bytes that wait in files without a name until they are written to the archive.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use rustix::fs::{FallocateFlags, fallocate};

/// Files that grow at their end and are given back from any place.
pub(crate) struct Spill {
    folder: PathBuf,
    end: Mutex<End>,
    files: RwLock<Vec<File>>,
}

/// Where the next bytes go.
struct End {
    file: usize,
    offset: u64,
}

/// A run of bytes in a [`Spill`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Extent {
    file: usize,
    offset: u64,
    size: u64,
}

/// Bytes held in memory at a time.
const CHUNK: u64 = 1 << 20;

/// Most bytes of one file: a stick that takes no larger ones may be what the bundle is written to.
const FILE: u64 = 2 << 30;

impl Spill {
    /// A spill in `folder`. Nothing is made there before it is needed.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            end: Mutex::new(End { file: 0, offset: 0 }),
            files: RwLock::default(),
        }
    }

    /// Keeps `bytes`; several threads may do so at a time.
    pub(crate) fn keep(&self, bytes: &[u8]) -> io::Result<Extent> {
        let size = bytes.len() as u64;
        let extent = self.allot(size)?;
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files[extent.file].write_all_at(bytes, extent.offset)?;
        Ok(extent)
    }

    fn allot(&self, size: u64) -> io::Result<Extent> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.offset + size > FILE {
            (end.file, end.offset) = (end.file + 1, 0);
        }
        let (file, offset) = (end.file, end.offset);
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if files.len() == file {
            files.push(tempfile::tempfile_in(&self.folder)?);
        }
        end.offset += size;
        Ok(Extent { file, offset, size })
    }

    /// Hands out the bytes of some extents, one after the other.
    pub(crate) fn read(
        &self,
        extents: &[Extent],
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = Vec::new();
        for extent in extents {
            let (mut at, end) = (extent.offset, extent.offset + extent.size);
            while at < end {
                buffer.resize((end - at).min(CHUNK) as usize, 0);
                files[extent.file].read_exact_at(&mut buffer, at)?;
                take(&buffer)?;
                at += buffer.len() as u64;
            }
        }
        Ok(())
    }

    /// Gives the room of some extents back, where the file system can: the archive grows by as much.
    pub(crate) fn release(&self, extents: &[Extent]) {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        for extent in extents {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = fallocate(&files[extent.file], flags, extent.offset, extent.size);
        }
    }
}
