//! The files that blobs come from: opened once, hashed, and watched until they are copied.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use manifest_schema::{ByteSize, Digest};
use report::{Sink, Step};

use crate::build::{BuildOptions, BundleInput};
use crate::build_error::BuildError;
use crate::parallel::{for_each, hash_range};
use crate::ustar::MAX_SIZE;

/// A blob's file.
pub(crate) struct Source {
    pub(crate) digest: Digest,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) size: u64,
    stamp: Stamp,
    settled: bool,
}

/// What the file system tells of a file without its bytes being read. Every write moves `changed`.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file that changed within these seconds may change again within the same tick of the file system's clock,
/// which the stamp would not show.
const TICK: i64 = 2;

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

impl Source {
    fn open(digest: Digest, path: &Path) -> Result<Self, BuildError> {
        let file = File::open(path).map_err(unreadable(path))?;
        let stamp = Stamp::of(&file).map_err(unreadable(path))?;
        if stamp.size > MAX_SIZE {
            return Err(BuildError::BlobTooLarge {
                path: path.to_owned(),
                size: ByteSize(stamp.size),
            });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs() as i64);
        Ok(Self {
            digest,
            path: path.to_owned(),
            file,
            size: stamp.size,
            stamp,
            settled: stamp.changed.0 + TICK < now,
        })
    }

    /// Whether the file may hold other bytes now than when it was opened. `false` is certain, `true` is not.
    pub(crate) fn may_have_changed(&self) -> bool {
        !self.settled || Stamp::of(&self.file).map_or(true, |now| now != self.stamp)
    }
}

/// Opens every blob of a bundle, ordered by digest.
pub(crate) fn open_blobs(input: &BundleInput) -> Result<Vec<Source>, BuildError> {
    let mut sources = Vec::new();
    for (digest, path) in input.blobs {
        sources.push(Source::open(*digest, path)?);
    }
    sources.sort_by_key(|source: &Source| source.digest);
    sources.dedup_by_key(|source| source.digest);
    Ok(sources)
}

/// Hashes every piece, and every blob of more than one piece as a whole, and checks the blobs' names.
pub(crate) fn hash_blobs(
    sources: &[Source],
    options: BuildOptions,
    sink: &dyn Sink,
) -> Result<Vec<Vec<Digest>>, BuildError> {
    let piece_size = options.piece_size;
    if !is_piece_size(piece_size) {
        return Err(BuildError::PieceSize { found: piece_size });
    }
    let jobs = jobs(sources, piece_size);
    let found: Mutex<BTreeMap<(usize, u64), Digest>> = Mutex::default();
    let done = AtomicU64::new(0);
    let total = sources.iter().map(|source| source.size).sum();
    let step = Step::start(sink, "step.bundle-hash", "", Some(total), "bytes");
    for_each(options.threads, jobs.len(), |job| {
        let (number, piece) = jobs[job];
        let source = &sources[number];
        let offset = piece.map_or(0, |piece| piece * piece_size);
        let size = piece.map_or(source.size, |_| piece_size.min(source.size - offset));
        let digest = hash_range(&source.file, offset, size, |_, _| Ok(()))
            .map_err(unreadable(&source.path))?;
        let whole = piece.is_none() || source.size <= piece_size;
        if whole && digest != source.digest {
            return Err(BuildError::BlobDiffers {
                path: source.path.clone(),
                expected: source.digest,
                found: digest,
            });
        }
        if let Some(piece) = piece {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.insert((number, piece), digest);
            step.progress(done.fetch_add(size, Ordering::Relaxed) + size);
        }
        Ok(())
    })?;
    step.finish();
    let mut pieces = vec![Vec::new(); sources.len()];
    for ((number, _), digest) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
        pieces[number].push(digest);
    }
    Ok(pieces)
}

/// What to hash: whole blobs (`None`) and pieces. The long jobs stand first, so that no thread is left alone with
/// one at the end.
fn jobs(sources: &[Source], piece_size: u64) -> Vec<(usize, Option<u64>)> {
    let mut jobs = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        if source.size > piece_size || source.size == 0 {
            jobs.push((number, None));
        }
    }
    jobs.sort_by_key(|(number, _)| std::cmp::Reverse(sources[*number].size));
    for (number, source) in sources.iter().enumerate() {
        jobs.extend((0..source.size.div_ceil(piece_size)).map(|piece| (number, Some(piece))));
    }
    jobs
}

/// Whether `size` may be the size of pieces.
pub(crate) fn is_piece_size(size: u64) -> bool {
    size.is_power_of_two() && (1 << 12..=1 << 30).contains(&size)
}

pub(crate) fn unreadable(path: &Path) -> impl Fn(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::Input {
        path: path.clone(),
        source,
    }
}
