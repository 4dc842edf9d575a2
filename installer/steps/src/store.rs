//! The content store: every blob once. [`fill`](crate::fill) puts them there.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bundle_format::open_plain;
use manifest_schema::{Digest, MadeFrom};
use report::{Sink, Step};
use sha2::{Digest as _, Sha256};

use crate::disk::{Disk, DiskError};
use crate::install::InstallError;
use crate::plan::StoredBlob;
use crate::prefix::Prefix;

/// Fills the template `source`, and checks that the result is the signed file.
pub(crate) fn fill_template(
    blob: &StoredBlob,
    made: &MadeFrom,
    source: &[u8],
) -> Result<Vec<u8>, InstallError> {
    let wrong = || InstallError::WrongFill {
        blob: made.blob,
        expected: blob.digest,
    };
    let source = std::str::from_utf8(source).map_err(|_| wrong())?;
    let filled = made.fill_within(source, blob.size).ok_or_else(wrong)?;
    let bytes = filled.into_bytes();
    if bytes.len() as u64 != blob.size || Digest::of(&bytes) != blob.digest {
        return Err(wrong());
    }
    Ok(bytes)
}

/// What of a store is whole.
#[derive(Debug, Default)]
pub struct Stored {
    /// The blobs whose bytes are those that their names say.
    pub blobs: Vec<Digest>,
    /// Why others could not be read.
    pub unread: Vec<DiskError>,
}

/// Every blob of the store that is whole: each is read. One that is not is left out.
///
/// # Errors
/// When the store cannot be listed.
pub fn stored_blobs(prefix: &Prefix, sink: &dyn Sink) -> Result<Stored, DiskError> {
    let store = prefix.store();
    let mut names = crate::environment::walk(&store)?;
    names.retain(|name| Digest::parse_hex(name).is_ok());
    let step = Step::start(
        sink,
        "install.working.check",
        "",
        Some(names.len() as u64),
        "files",
    );
    let mut stored = Stored::default();
    for (count, name) in names.iter().enumerate() {
        match hash_file(&store.join(name)) {
            Ok(found) if found.hex() == *name => stored.blobs.push(found),
            Ok(_) => {}
            Err(error) => stored.unread.push(error),
        }
        step.progress(count as u64 + 1);
    }
    step.finish();
    Ok(stored)
}

/// Removes blobs that no release links to any more. Returns how many.
pub(crate) fn collect_garbage(disk: &dyn Disk, prefix: &Prefix) -> Result<usize, DiskError> {
    let store = prefix.store();
    let entries = match fs::read_dir(&store) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(DiskError::of("list", &store)(error)),
    };
    let mut removed = 0;
    for entry in entries {
        let path: PathBuf = entry.map_err(DiskError::of("list", &store))?.path();
        let named = path.file_name().and_then(|name| name.to_str());
        let is_blob = named.is_some_and(|name| Digest::parse_hex(name).is_ok());
        let links = fs::symlink_metadata(&path)
            .map_err(DiskError::of("read", &path))?
            .nlink();
        if is_blob && links == 1 {
            disk.remove_file(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// SHA-256 of a file.
pub(crate) fn hash_file(path: &Path) -> Result<Digest, DiskError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1024 * 1024];
    let mut file = open_plain(path).map_err(DiskError::of("read", path))?;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_bytes(hasher.finalize().into())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DiskError::of("read", path)(error)),
        }
    }
}

/// Configuration and chat templates are kilobytes; a tokenizer may be some megabytes.
pub(crate) const LONGEST_TEMPLATE: usize = 256 * 1024 * 1024;
