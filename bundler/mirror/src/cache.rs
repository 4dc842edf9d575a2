//! The content-addressed cache: a file has its name only after its bytes matched it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use manifest_schema::Digest;
use sha2::{Digest as _, Sha256};

use crate::MirrorError;

/// A folder of files named by their SHA-256.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

/// A file that the cache holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cached {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

impl Cache {
    /// Opens the cache below `root`, making it where there is none.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path) -> Result<Self, MirrorError> {
        let folder = root.join("sha256");
        fs::create_dir_all(&folder).map_err(|source| MirrorError::file(&folder, source))?;
        Ok(Self { folder })
    }

    /// Where the file with `digest` is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// Whether the file is there with `size` bytes.
    pub fn holds(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.path(digest)).is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// Hashes the file with `digest` again: a disk may have damaged it since it came.
    ///
    /// # Errors
    /// When it cannot be read, or is not what its name says.
    pub fn check(&self, digest: &Digest) -> Result<(), MirrorError> {
        let path = self.path(digest);
        let found = hash_file(&path).map_err(|source| MirrorError::file(&path, source))?;
        if found == *digest {
            return Ok(());
        }
        Err(MirrorError::CacheDamaged {
            path,
            found,
            expected: *digest,
        })
    }

    /// Where an unfinished file grows.
    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{}.partial", digest.hex()))
    }

    /// Gives a finished and checked file its name.
    pub(crate) fn keep(&self, file: &File, from: &Path, digest: &Digest) -> io::Result<()> {
        file.set_permissions(fs::Permissions::from_mode(0o444))?;
        file.sync_all()?;
        fs::rename(from, self.path(digest))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Takes in all that `reader` gives, at most `limit` bytes.
    ///
    /// # Errors
    /// When reading or writing fails, or when there is more than `limit`.
    pub fn take(&self, reader: &mut dyn Read, limit: u64) -> Result<Cached, MirrorError> {
        self.take_from(reader, limit)
            .map_err(|source| MirrorError::file(&self.folder, source))
    }

    fn take_from(&self, reader: &mut dyn Read, limit: u64) -> io::Result<Cached> {
        let mut file = tempfile::Builder::new()
            .suffix(".partial")
            .tempfile_in(&self.folder)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        let mut size = 0;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            size += count as u64;
            if size > limit {
                return Err(io::Error::other(format!("more than {limit} bytes")));
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count])?;
        }
        let digest = Digest::from_bytes(hasher.finalize().into());
        if !self.holds(&digest, size) {
            let (file, path) = file.into_parts();
            self.keep(&file, &path, &digest)?;
            // The file has another name now; there is nothing left to remove.
            let _ = path.keep();
        }
        Ok(Cached { digest, size })
    }

    /// Takes in a file of this machine.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn take_file(&self, path: &Path) -> Result<Cached, MirrorError> {
        let mut file = File::open(path).map_err(|source| MirrorError::file(path, source))?;
        self.take(&mut file, u64::MAX).map_err(|error| match error {
            MirrorError::File { source, .. } => MirrorError::file(path, source),
            other => other,
        })
    }
}

pub(crate) fn hash_file(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_bytes(hasher.finalize().into())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
