//! Puts blobs into the store: each byte is read once, checked while it is written, and written once.
//!
//! ```text
//! blob, small or made from a template    one job: a whole file
//! blob that is large                      a job for each piece, each written at its place by whatever core is free
//! ```
//!
//! Jobs come in the order in which the medium has their bytes; where there are many, a core has two pieces at a time, which
//! it hashes side by side. A large file is written past the cache of the system, whose copies would cost as much as the
//! hashing. It waits for its own bytes to be on the disk, so that a disk which fails says so here; small ones are many, and
//! wait together when the release is published. What power cuts off before that is found by its digest, as any other damage.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};
use std::thread;

use bundle_format::{Fault, Verified, VerifyError, in_twos};
use manifest_schema::{Digest, MadeFrom};
use report::{Sink, Step};

use crate::disk::{Disk, DiskError, NewFile};
use crate::install::InstallError;
use crate::plan::{StoredBlob, is_stored};
use crate::prefix::Prefix;
use crate::store::{LONGEST_TEMPLATE, fill_template, hash_file};

/// Puts every blob that the store lacks into it, and checks the ones it has.
///
/// Returns the blobs that this call wrote, also when it fails: the caller may take them back. They are on the disk when
/// the file system was synced.
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
    work.run_all(blobs);
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

/// Something that one core does.
#[derive(Clone, Copy)]
enum Job<'l, 'a> {
    Whole(&'l StoredBlob),
    Piece(&'l Large<'a>, usize),
}

/// A blob whose pieces are written apart from each other.
struct Large<'a> {
    blob: &'a StoredBlob,
    pieces: usize,
    left: AtomicUsize,
    /// Made by whoever comes first; nothing where that failed.
    file: OnceLock<Option<Target<'a>>>,
}

impl<'a> Large<'a> {
    fn of((blob, pieces): (&'a StoredBlob, usize)) -> Self {
        Self {
            blob,
            pieces,
            left: AtomicUsize::new(pieces),
            file: OnceLock::new(),
        }
    }
}

/// The file that a large blob is written to.
struct Target<'a> {
    /// Taken out when the last piece is there.
    file: RwLock<Option<Box<dyn NewFile + 'a>>>,
    path: PathBuf,
    /// It has the bundle's own blocks: its pieces are read back and checked.
    shared: bool,
}

impl<'a> Work<'a> {
    fn run_all(&self, blobs: &'a [StoredBlob]) {
        let pieces = blobs.iter().map(|blob| self.pieces_apart(blob));
        let large: Vec<Large<'a>> = blobs.iter().zip(pieces).map(Large::of).collect();
        let cores = thread::available_parallelism().map_or(2, usize::from);
        let threads = cores.min(CORES) + WAITING;
        let jobs = in_twos(self.jobs(&large), threads, |one, other| {
            self.is_raw(one) && self.is_raw(other)
        });
        thread::scope(|scope| {
            for _ in 0..threads.min(jobs.len()) {
                scope.spawn(|| self.run(&jobs));
            }
        });
    }

    /// How many jobs a blob's pieces are; none where it is one job as a whole.
    fn pieces_apart(&self, blob: &StoredBlob) -> usize {
        let whole = blob.made_from.is_some() || is_stored(self.prefix, blob);
        let pieces = self.bundle.pieces(&blob.digest).unwrap_or(0);
        let apart = pieces > 1 || blob.size >= LARGE;
        if apart && !whole { pieces } else { 0 }
    }

    /// Every job, in the order in which the medium has the bytes.
    fn jobs<'l>(&self, blobs: &'l [Large<'a>]) -> Vec<Job<'l, 'a>> {
        let mut ordered: Vec<&Large<'a>> = blobs.iter().collect();
        ordered.sort_by_key(|one| {
            let source = one
                .blob
                .made_from
                .as_ref()
                .map_or(one.blob.digest, |made| made.blob);
            let blob = self.bundle.blob(&source)?;
            let first = blob.parts.first();
            Some(first.map_or((blob.volume, blob.offset), |part| {
                (part.volume, part.offset)
            }))
        });
        let jobs = ordered.into_iter().flat_map(|one| {
            let whole = (one.pieces == 0).then_some(Job::Whole(one.blob));
            let pieces = (0..one.pieces).map(move |piece| Job::Piece(one, piece));
            whole.into_iter().chain(pieces)
        });
        jobs.collect()
    }

    /// Whether a job is a piece that the bundle has as it is: two of them gain by being done side by side.
    fn is_raw(&self, job: &Job<'_, 'a>) -> bool {
        let Job::Piece(large, _) = job else {
            return false;
        };
        let blob = self.bundle.blob(&large.blob.digest);
        blob.is_some_and(|blob| blob.stored.is_none())
    }

    fn run(&self, jobs: &[(Job<'_, 'a>, Option<Job<'_, 'a>>)]) {
        while !self.stop.load(Ordering::Relaxed) {
            let Some(job) = jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            let ended = match *job {
                (Job::Whole(blob), _) => self.whole(blob),
                (Job::Piece(one, piece), Some(Job::Piece(other, its))) => {
                    self.pieces(&[(one, piece), (other, its)])
                }
                (Job::Piece(large, piece), _) => self.pieces(&[(large, piece)]),
            };
            if let Err(error) = ended {
                self.fail(error);
            }
        }
    }

    fn fail(&self, error: InstallError) {
        self.stop.store(true, Ordering::Relaxed);
        lock(&self.failed).get_or_insert(error);
    }

    fn whole(&self, blob: &StoredBlob) -> Result<(), InstallError> {
        let target = self.prefix.blob(&blob.digest);
        if self.is_there(blob, &target)? {
            let found = fs::metadata(&target).map_err(DiskError::of("read", &target))?;
            if blob.executable && found.mode() & 0o111 == 0 {
                self.disk.set_mode(&target, mode(blob))?;
            }
            return Ok(());
        }
        let (mut file, unfinished) = self.create(blob)?;
        if let Some(template) = &blob.made_from {
            let bytes = self.make(blob, template)?;
            file.write_all(&bytes)
                .map_err(DiskError::of("write", &unfinished))?;
            self.advance(bytes.len() as u64);
        } else {
            let shared = self.share(blob, &mut *file)?;
            for piece in 0..self.bundle.pieces(&blob.digest)? {
                let part = Part {
                    blob,
                    piece,
                    file: &*file,
                    shared,
                    path: &unfinished,
                };
                self.fill_parts(&[part])?;
            }
        }
        self.keep(blob, file, &unfinished)
    }

    /// Writes one piece, or two side by side; a file whose last piece it is gets its name.
    fn pieces(&self, pieces: &[(&Large<'a>, usize)]) -> Result<(), InstallError> {
        let mut targets = Vec::new();
        for (large, _) in pieces {
            let target = large.file.get_or_init(|| match self.target(large.blob) {
                Ok(target) => Some(target),
                Err(error) => {
                    self.fail(error);
                    None
                }
            });
            let Some(target) = target else { return Ok(()) };
            targets.push(target);
        }
        {
            let files: Vec<_> = targets
                .iter()
                .map(|target| target.file.read().unwrap_or_else(PoisonError::into_inner))
                .collect();
            let mut parts = Vec::new();
            for ((large, piece), (target, file)) in pieces.iter().zip(targets.iter().zip(&files)) {
                let Some(file) = file.as_deref() else {
                    return Ok(());
                };
                parts.push(Part {
                    blob: large.blob,
                    piece: *piece,
                    file,
                    shared: target.shared,
                    path: &target.path,
                });
            }
            self.fill_parts(&parts)?;
        }
        for ((large, _), target) in pieces.iter().zip(targets) {
            if large.left.fetch_sub(1, Ordering::AcqRel) > 1 {
                continue;
            }
            let mut file = target.file.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(file) = file.take() {
                self.keep(large.blob, file, &target.path)?;
            }
        }
        Ok(())
    }

    fn target(&self, blob: &StoredBlob) -> Result<Target<'a>, InstallError> {
        let (mut file, path) = self.create(blob)?;
        let shared = self.share(blob, &mut *file)?;
        Ok(Target {
            file: RwLock::new(Some(file)),
            path,
            shared,
        })
    }

    fn create(&self, blob: &StoredBlob) -> Result<(Box<dyn NewFile + 'a>, PathBuf), DiskError> {
        self.disk.remove_file(&self.prefix.blob(&blob.digest))?;
        let unfinished = self.prefix.unfinished_blob(&blob.digest);
        self.disk.remove_file(&unfinished)?;
        Ok((self.disk.create(&unfinished)?, unfinished))
    }

    /// Lets the file have the bundle's own blocks, where the file system can, and says whether it did. Otherwise makes it ready
    /// for its bytes.
    ///
    /// What is read back and checked is the file: whatever the disk gives for it is what will be used.
    fn share(&self, blob: &StoredBlob, file: &mut dyn NewFile) -> Result<bool, InstallError> {
        if let Some(extents) = self.bundle.extents(&blob.digest)
            && file.share(&extents)?
        {
            return Ok(true);
        }
        if blob.size >= LARGE {
            file.expect(blob.size)?;
        }
        Ok(false)
    }

    /// Writes pieces to their places, or reads them back where they are there already, and checks them.
    fn fill_parts(&self, parts: &[Part<'_>]) -> Result<(), InstallError> {
        let (shared, written): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.shared);
        let shared: Vec<_> = shared
            .iter()
            .map(|part| (&part.blob.digest, part.piece, part.file.file()))
            .collect();
        self.bundle
            .check_pieces(&shared, |bytes| self.advance(bytes))?;
        let pieces: Vec<_> = written
            .iter()
            .map(|part| (&part.blob.digest, part.piece))
            .collect();
        let mut failed = None;
        let copied = self.bundle.copy_pieces(&pieces, |which, offset, run| {
            let part = written[which];
            part.file.write_at(offset, run).map_err(|cause| {
                failed = Some((part.path, cause));
                VerifyError {
                    path: part.path.to_owned(),
                    fault: Fault::Unwritable,
                    cause: None,
                }
            })?;
            self.advance(run.len() as u64);
            Ok(())
        });
        // A full disk is the disk's fault, not the bundle's.
        if let Some((path, source)) = failed {
            return Err(DiskError::of("write", path)(source).into());
        }
        Ok(copied?)
    }

    /// Gives a blob that is whole its name.
    fn keep(
        &self,
        blob: &StoredBlob,
        file: Box<dyn NewFile + 'a>,
        unfinished: &Path,
    ) -> Result<(), InstallError> {
        if blob.size >= LARGE {
            file.settle(mode(blob))?;
        } else {
            file.close(mode(blob))?;
        }
        self.disk
            .rename(unfinished, &self.prefix.blob(&blob.digest))?;
        lock(&self.written).push(blob.digest);
        Ok(())
    }

    /// Makes a file from a template. The result is pinned by the signed profiles like any other.
    fn make(&self, blob: &StoredBlob, made: &MadeFrom) -> Result<Vec<u8>, InstallError> {
        let mut source = Bounded(Vec::new());
        self.bundle.copy_blob(&made.blob, &mut source)?;
        fill_template(blob, made, &source.0)
    }

    fn is_there(&self, blob: &StoredBlob, target: &Path) -> Result<bool, DiskError> {
        if !is_stored(self.prefix, blob) || hash_file(target)? != blob.digest {
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

/// A piece, and the file that it belongs into.
struct Part<'f> {
    blob: &'f StoredBlob,
    piece: usize,
    file: &'f dyn NewFile,
    /// It is there already.
    shared: bool,
    path: &'f Path,
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

fn mode(blob: &StoredBlob) -> u32 {
    if blob.executable { 0o555 } else { 0o444 }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Threads beside one a core: while they wait for the disk, others compute.
const WAITING: usize = 2;
/// Cores that are used: each thread holds two megabytes, and no disk is faster than so many of them.
const CORES: usize = 16;
/// From this many bytes on a file goes its own way to the disk and waits for itself: what is written then takes longer than
/// the waiting.
const LARGE: u64 = 4 * 1024 * 1024;
