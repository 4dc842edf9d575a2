//! The files that blobs come from: opened once, and read through the open file ever after.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use manifest_schema::Digest;
use report::{Sink, Step};

use crate::build::{BuildOptions, BundleInput};
use crate::build_error::BuildError;
use crate::parallel::{for_each, hash_range};

/// A blob's file.
pub(crate) struct Source {
    pub(crate) digest: Digest,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) size: u64,
}

impl Source {
    fn open(digest: Digest, path: &Path) -> Result<Self, BuildError> {
        let file = File::open(path).map_err(unreadable(path))?;
        let size = file.metadata().map_err(unreadable(path))?.len();
        Ok(Self {
            digest,
            path: path.to_owned(),
            file,
            size,
        })
    }

    /// Why the file cannot be read.
    pub(crate) fn failed(&self, error: io::Error) -> BuildError {
        match error.kind() {
            // It was longer when its size was taken.
            io::ErrorKind::UnexpectedEof => BuildError::BlobChanged {
                path: self.path.clone(),
            },
            _ => unreadable(&self.path)(error),
        }
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

/// Hashes every piece of the blobs `numbers`, and those of more than one piece as a whole, and checks their names.
/// Returns the digests of the pieces of each.
pub(crate) fn hash_blobs(
    sources: &[Source],
    numbers: &[usize],
    options: BuildOptions,
    sink: &dyn Sink,
) -> Result<Vec<Vec<Digest>>, BuildError> {
    let piece_size = options.piece_size;
    let jobs = jobs(sources, numbers, piece_size);
    let found: Mutex<BTreeMap<(usize, u64), Digest>> = Mutex::default();
    let done = AtomicU64::new(0);
    let total = numbers.iter().map(|number| sources[*number].size).sum();
    let step = Step::start(sink, "step.bundle-hash", "", Some(total), "bytes");
    for_each(options.threads, jobs.len(), |job| {
        let (place, piece) = jobs[job];
        let source = &sources[numbers[place]];
        let offset = piece.map_or(0, |piece| piece * piece_size);
        let size = piece.map_or(source.size, |_| piece_size.min(source.size - offset));
        let digest = hash_range(&source.file, offset, size, |_, _| Ok::<(), io::Error>(()))
            .map_err(|error| source.failed(error))?;
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
            found.insert((place, piece), digest);
            step.progress(done.fetch_add(size, Ordering::Relaxed) + size);
        }
        Ok(())
    })?;
    step.finish();
    let mut pieces = vec![Vec::new(); numbers.len()];
    for ((place, _), digest) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
        pieces[place].push(digest);
    }
    Ok(pieces)
}

/// What to hash: whole blobs (`None`) and pieces. The long jobs stand first, so that no thread is left alone with
/// one at the end.
fn jobs(sources: &[Source], numbers: &[usize], piece_size: u64) -> Vec<(usize, Option<u64>)> {
    let mut jobs = Vec::new();
    let size = |place: usize| sources[numbers[place]].size;
    for place in 0..numbers.len() {
        if size(place) > piece_size {
            jobs.push((place, None));
        }
    }
    jobs.sort_by_key(|(place, _)| std::cmp::Reverse(size(*place)));
    for place in 0..numbers.len() {
        jobs.extend((0..size(place).div_ceil(piece_size)).map(|piece| (place, Some(piece))));
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
