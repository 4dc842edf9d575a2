//! The content-addressed cache: a file has its name only after its bytes matched it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use manifest_schema::Digest;
use report::{Sink, Step};
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

/// What lies in a cache's folder.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The file.
    pub path: PathBuf,
    /// What its name says it is; `None` for a leftover without such a name.
    pub digest: Option<Digest>,
    /// Its bytes.
    pub size: u64,
    /// Whether it is a whole file rather than the beginning of one.
    pub complete: bool,
    /// Since it was last written.
    pub age: Duration,
}

/// The size of a large file.
const LARGE: u64 = 4 << 20;

impl Cache {
    /// The cache below `root`, to look into. Nothing is made.
    pub fn at(root: &Path) -> Self {
        Self {
            folder: root.join("sha256"),
        }
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything in the cache, ordered by name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, MirrorError> {
        let failed = |source| MirrorError::file(&self.folder, source);
        let mut entries = Vec::new();
        for found in fs::read_dir(&self.folder).map_err(failed)? {
            let found = found.map_err(failed)?;
            let metadata = match found.metadata() {
                Ok(metadata) if metadata.is_file() => metadata,
                // Another run may have given it its name meanwhile.
                _ => continue,
            };
            let name = found.file_name().to_string_lossy().into_owned();
            let stem = name.strip_suffix(".partial");
            let modified = metadata.modified().map_err(failed)?;
            entries.push(Entry {
                path: found.path(),
                digest: Digest::parse_hex(stem.unwrap_or(&name)).ok(),
                size: metadata.len(),
                complete: stem.is_none(),
                age: modified.elapsed().unwrap_or_default(),
            });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Removes a file, unless a run is writing it now; says whether it did.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(&self, entry: &Entry) -> Result<bool, MirrorError> {
        let failed = |source| MirrorError::file(&entry.path, source);
        if !entry.complete {
            let file = match File::open(&entry.path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(failed(error)),
            };
            if file.try_lock().is_err() {
                return Ok(false);
            }
        }
        match fs::remove_file(&entry.path) {
            // It has its own name since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true).map_err(failed),
        }
    }

    /// Hashes every whole file again on `threads` threads; returns those that are not what their names say.
    ///
    /// # Errors
    /// When the folder or a file cannot be read.
    pub fn verify(&self, threads: usize, sink: &dyn Sink) -> Result<Vec<Entry>, MirrorError> {
        let mut entries = self.entries()?;
        entries.retain(|entry| entry.complete);
        let total = entries.iter().map(|entry| entry.size).sum();
        let step = Step::start(sink, "step.cache-verify", "", Some(total), "bytes");
        let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
        let bad: Mutex<Result<Vec<usize>, MirrorError>> = Mutex::new(Ok(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..threads.clamp(1, entries.len().max(1)) {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(entry) = entries.get(number) else {
                            return;
                        };
                        let found = hash_file(&entry.path);
                        let mut bad = bad.lock().unwrap_or_else(PoisonError::into_inner);
                        match (found, &mut *bad) {
                            (Ok(found), Ok(bad)) if Some(found) != entry.digest => bad.push(number),
                            (Err(source), Ok(_)) => {
                                *bad = Err(MirrorError::file(&entry.path, source));
                            }
                            _ => {}
                        }
                        drop(bad);
                        step.progress(done.fetch_add(entry.size, Ordering::Relaxed) + entry.size);
                    }
                });
            }
        });
        let mut bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        bad.sort_unstable();
        step.finish();
        Ok(bad
            .into_iter()
            .map(|number| entries[number].clone())
            .collect())
    }

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

    /// Gives a finished and checked file its name. A large one waits for its own bytes, so that a disk which fails says
    /// so at once; the many small ones wait together, in [`Cache::settle`].
    pub(crate) fn keep(&self, file: &File, from: &Path, digest: &Digest) -> io::Result<()> {
        file.set_permissions(fs::Permissions::from_mode(0o444))?;
        if file.metadata()?.len() >= LARGE {
            file.sync_all()?;
        }
        fs::rename(from, self.path(digest))
    }

    /// Waits until all that was taken in lies on the disk. What power cuts off before that is found by its size, or by
    /// its digest when it is packed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn settle(&self) -> Result<(), MirrorError> {
        let failed = |source| MirrorError::file(&self.folder, source);
        let folder = File::open(&self.folder).map_err(failed)?;
        rustix::fs::syncfs(folder).map_err(|error| failed(error.into()))
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
        // So that a clean-up can tell it from what a dead run left.
        file.as_file().lock()?;
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

    /// Takes in the file with `digest` from whoever can write it, unless it is there.
    ///
    /// # Errors
    /// Those of `write`; when the disk fails, or what was written is another file.
    pub fn fill<E: From<MirrorError>>(
        &self,
        digest: &Digest,
        size: u64,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.holds(digest, size) {
            return Ok(());
        }
        let failed = |source| MirrorError::file(&self.folder, source);
        let unnamed = tempfile::Builder::new()
            .suffix(".partial")
            .tempfile_in(&self.folder)
            .map_err(failed)?;
        unnamed.as_file().lock().map_err(failed)?;
        write(&mut unnamed.as_file())?;
        let found = hash_file(unnamed.path()).map_err(failed)?;
        if found != *digest {
            let (path, expected) = (self.path(digest), *digest);
            let error = MirrorError::CacheDamaged {
                path,
                found,
                expected,
            };
            return Err(error.into());
        }
        let (file, path) = unnamed.into_parts();
        self.keep(&file, &path, digest).map_err(failed)?;
        // The file has another name now; there is nothing left to remove.
        let _ = path.keep();
        Ok(())
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

/// The digest and the size of a file of this machine.
///
/// # Errors
/// When it cannot be read.
pub fn measure(path: &Path) -> Result<Cached, MirrorError> {
    let failed = |source| MirrorError::file(path, source);
    let digest = hash_file(path).map_err(failed)?;
    let size = fs::metadata(path).map_err(failed)?.len();
    Ok(Cached { digest, size })
}

fn hash_file(path: &Path) -> io::Result<Digest> {
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
