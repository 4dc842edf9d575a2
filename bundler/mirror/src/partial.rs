//! The beginning of a file on the disk, with the hashes of exactly those bytes.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use manifest_schema::Digest;
use sha1::{Digest as _, Sha1};
use sha2::{Digest as _, Sha256};

use crate::{Download, MirrorError};

/// A file that grows. While it is open no other process writes it.
pub(crate) struct Partial {
    pub(crate) file: File,
    length: u64,
    /// Bytes that were there before this attempt.
    resumed: u64,
    sha256: Sha256,
    /// Only where git's name of the file is known: it costs as much as the other.
    git: Option<Sha1>,
    size: u64,
}

impl Partial {
    /// Opens the file, waits for whoever else writes it, and hashes what is there.
    pub(crate) fn open(path: &Path, download: &Download) -> io::Result<Self> {
        let mut partial = Self {
            file: locked(path)?,
            length: 0,
            resumed: 0,
            sha256: Sha256::new(),
            git: download
                .git_sha1
                .as_ref()
                .map(|_| git_hasher(download.size)),
            size: download.size,
        };
        if partial.file.metadata()?.len() > download.size {
            partial.restart()?;
            return Ok(partial);
        }
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = partial.file.read(&mut buffer)?;
            if count == 0 {
                return Ok(partial);
            }
            partial.hash(&buffer[..count]);
        }
    }

    /// Bytes that are there.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Begins an attempt that goes on from what is there.
    pub(crate) fn resume(&mut self) {
        self.resumed = self.length;
    }

    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.length = 0;
        self.resumed = 0;
        self.sha256 = Sha256::new();
        self.git = self.git.as_ref().map(|_| git_hasher(self.size));
        Ok(())
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash(bytes);
        Ok(())
    }

    fn hash(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
        self.length += bytes.len() as u64;
    }

    /// Compares the digests; wrong bytes are thrown away at once.
    pub(crate) fn check(&mut self, download: &Download, url: &str) -> Result<(), MirrorError> {
        let digest = Digest::from_bytes(self.sha256.clone().finalize().into());
        let git = self.git.clone().map(|git| hex(&git.finalize()));
        let (found, expected) = if digest != download.digest {
            (digest.to_string(), download.digest.to_string())
        } else if git == download.git_sha1 {
            return Ok(());
        } else {
            let expected = download.git_sha1.clone().unwrap_or_default();
            (git.unwrap_or_default(), expected)
        };
        let resumed = self.resumed > 0;
        self.restart()
            .map_err(|source| MirrorError::file(url, source))?;
        Err(MirrorError::DigestDiffers {
            url: url.to_owned(),
            found,
            expected,
            resumed,
        })
    }
}

/// The file at `path`, and nobody else's: whoever had it may have given it another name, or removed it, while this
/// process waited.
fn locked(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.lock()?;
        let held = file.metadata()?;
        match fs::metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Git hashes `blob <size>\0` before the bytes.
pub(crate) fn git_hasher(size: u64) -> Sha1 {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {size}\0"));
    hasher
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Whether some process waits for a lock of the file.
    fn is_waited_for(file: &File) -> bool {
        let inode = format!(":{} ", file.metadata().unwrap().ino());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks
            .lines()
            .any(|line| line.contains("->") && line.contains(&inode))
    }

    #[test]
    fn a_file_that_was_finished_or_removed_meanwhile_is_not_written_to() {
        for finished in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (path, whole) = (folder.path().join("a.partial"), folder.path().join("a"));
            let first = locked(&path).unwrap();
            fs::write(&path, "whole").unwrap();
            let second = thread::spawn({
                let path = path.clone();
                move || locked(&path).unwrap()
            });
            // Some file systems give locks another number; then it is tried once without being sure.
            let mut tries = 0..3000;
            while tries.next().is_some() && !is_waited_for(&first) {
                thread::sleep(Duration::from_millis(1));
            }
            if finished {
                fs::rename(&path, &whole).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            drop(first);
            let mut second = second.join().unwrap();
            second.write_all(b"other").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"other");
            if finished {
                assert_eq!(fs::read(&whole).unwrap(), b"whole");
            }
        }
    }
}
