//! The content store: every blob once, verified while it is written.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use bundle_format::Verified;
use manifest_schema::{Digest, MadeFrom};
use report::{Sink, Step};
use sha2::{Digest as _, Sha256};

use crate::disk::{Disk, DiskError, NewFile};
use crate::install::InstallError;
use crate::plan::StoredBlob;
use crate::prefix::Prefix;

/// Puts every blob that the store lacks into it, and checks the ones it has.
///
/// Returns the blobs that this call wrote, also when it fails: the caller may take them back.
pub(crate) fn fill(
    disk: &dyn Disk,
    bundle: &Verified,
    prefix: &Prefix,
    blobs: &[StoredBlob],
    sink: &dyn Sink,
) -> (Vec<Digest>, Result<(), InstallError>) {
    if let Err(error) = disk.create_dir(&prefix.store()) {
        return (Vec::new(), Err(error.into()));
    }
    let total = blobs.iter().map(|blob| blob.size).sum();
    let step = Step::start(sink, "install.working.store", "", Some(total), "bytes");
    let work = Work {
        disk,
        bundle,
        prefix,
        step: &step,
        next: AtomicUsize::new(0),
        done: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        written: Mutex::new(Vec::new()),
        failed: Mutex::new(None),
    };
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads.min(blobs.len()) {
            scope.spawn(|| work.run(blobs));
        }
    });
    let written = into_inner(work.written);
    let result = match into_inner(work.failed) {
        Some(error) => Err(error),
        None => disk.sync_dir(&prefix.store()).map_err(Into::into),
    };
    if result.is_ok() {
        step.finish();
    }
    (written, result)
}

struct Work<'a> {
    disk: &'a dyn Disk,
    bundle: &'a Verified,
    prefix: &'a Prefix,
    step: &'a Step<'a>,
    next: AtomicUsize,
    done: AtomicU64,
    stop: AtomicBool,
    written: Mutex<Vec<Digest>>,
    failed: Mutex<Option<InstallError>>,
}

impl Work<'_> {
    fn run(&self, blobs: &[StoredBlob]) {
        while !self.stop.load(Ordering::Relaxed) {
            let Some(blob) = blobs.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            if let Err(error) = self.place(blob) {
                self.stop.store(true, Ordering::Relaxed);
                lock(&self.failed).get_or_insert(error);
            }
        }
    }

    fn place(&self, blob: &StoredBlob) -> Result<(), InstallError> {
        let target = self.prefix.blob(&blob.digest);
        let mode = if blob.executable { 0o555 } else { 0o444 };
        if self.is_there(blob, &target)? {
            let found = fs::metadata(&target).map_err(DiskError::of("read", &target))?;
            if blob.executable && found.mode() & 0o111 == 0 {
                self.disk.set_mode(&target, mode)?;
            }
            return Ok(());
        }
        self.disk.remove_file(&target)?;
        let unfinished = self.prefix.unfinished_blob(&blob.digest);
        self.disk.remove_file(&unfinished)?;
        let mut file = self.disk.create(&unfinished)?;
        if let Some(template) = &blob.made_from {
            let bytes = self.make(blob, template)?;
            file.write_all(&bytes)
                .map_err(DiskError::of("write", &unfinished))?;
            self.advance(bytes.len() as u64);
        } else if !self.share(blob, &mut *file)? {
            let mut counted = Counted {
                inner: &mut file,
                work: self,
                failed: None,
            };
            let copied = self.bundle.copy_blob(&blob.digest, &mut counted);
            // A full disk is the disk's fault, not the bundle's.
            if let Some(source) = counted.failed {
                return Err(DiskError::of("write", &unfinished)(source).into());
            }
            copied?;
        }
        file.settle(mode)?;
        self.disk.rename(&unfinished, &target)?;
        lock(&self.written).push(blob.digest);
        Ok(())
    }

    /// Lets the file have the bundle's own blocks, where the file system can, and says whether it did.
    ///
    /// What is read back and checked is the file: whatever the disk gives for it is what will be used.
    fn share(&self, blob: &StoredBlob, file: &mut dyn NewFile) -> Result<bool, InstallError> {
        let Some(extents) = self.bundle.extents(&blob.digest) else {
            return Ok(false);
        };
        let Some(shared) = file.share(&extents)? else {
            return Ok(false);
        };
        let read = |bytes| self.advance(bytes);
        self.bundle.check_copy(&blob.digest, shared, read)?;
        Ok(true)
    }

    /// Makes a file from a template. The result is pinned by the signed profiles like any other.
    fn make(&self, blob: &StoredBlob, made: &MadeFrom) -> Result<Vec<u8>, InstallError> {
        let mut source = Bounded(Vec::new());
        self.bundle.copy_blob(&made.blob, &mut source)?;
        fill_template(blob, made, &source.0)
    }

    fn is_there(&self, blob: &StoredBlob, target: &Path) -> Result<bool, DiskError> {
        let right_size = fs::symlink_metadata(target)
            .is_ok_and(|found| found.is_file() && found.len() == blob.size);
        if !right_size || hash_file(target)? != blob.digest {
            return Ok(false);
        }
        self.advance(blob.size);
        Ok(true)
    }

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.step.progress(done);
    }
}

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

/// Counts what is written, and keeps the disk's own error.
struct Counted<'a> {
    inner: &'a mut dyn Write,
    work: &'a Work<'a>,
    failed: Option<io::Error>,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.inner.write(bytes) {
            Ok(written) => {
                self.work.advance(written as u64);
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A template in memory, which a hostile bundle cannot make large.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST_TEMPLATE {
            return Err(io::Error::other(format!(
                "a template of more than {LONGEST_TEMPLATE} bytes"
            )));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Every blob of the store that is whole, by its digest: each is read. One that is not is left out.
///
/// # Errors
/// When the store cannot be listed or read.
pub fn stored_blobs(prefix: &Prefix, sink: &dyn Sink) -> Result<Vec<Digest>, DiskError> {
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
    let mut blobs = Vec::new();
    for (count, name) in names.iter().enumerate() {
        let found = hash_file(&store.join(name))?;
        if found.hex() == *name {
            blobs.push(found);
        }
        step.progress(count as u64 + 1);
    }
    step.finish();
    Ok(blobs)
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
    let mut file = File::open(path).map_err(DiskError::of("read", path))?;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_bytes(hasher.finalize().into())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DiskError::of("read", path)(error)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Configuration and chat templates are kilobytes; a tokenizer may be some megabytes.
pub(crate) const LONGEST_TEMPLATE: usize = 256 * 1024 * 1024;
