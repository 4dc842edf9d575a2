//! The files that blobs come from: opened once, hashed, and watched until they are copied.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use manifest_schema::{Blob, Codec, Digest, Part};
use report::{Sink, Step};
use sha2::{Digest as _, Sha256};

use crate::build::{BuildOptions, BundleInput, Payload};
use crate::build_error::BuildError;
use crate::parallel::{for_each, hash_range};
use crate::place::Content;

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
) -> Result<Vec<Content>, BuildError> {
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
    let contents = sources.iter().zip(pieces).map(|(source, pieces)| Content {
        digest: source.digest,
        size: source.size,
        pieces,
        codec: Codec::Raw,
        stored: None,
    });
    Ok(contents.collect())
}

/// Hashes the parts of blobs. `known` keeps what an earlier layout had hashed: by blob, first stored byte and size.
pub(crate) fn hash_parts(
    payload: &Payload,
    blobs: &mut [Blob],
    known: &mut BTreeMap<(Digest, u64, u64), Digest>,
    threads: usize,
) -> Result<(), BuildError> {
    let mut jobs = Vec::new();
    for (number, blob) in blobs.iter().enumerate() {
        for (start, size) in runs(blob) {
            if !known.contains_key(&(blob.digest, start, size)) {
                jobs.push((number, start, size));
            }
        }
    }
    let found = Mutex::new(&mut *known);
    for_each(threads, jobs.len(), |job| {
        let (number, start, size) = jobs[job];
        let source = &payload.sources[number];
        let digest = match &payload.contents[number].stored {
            None => hash_range(&source.file, start, size, |_, _| Ok(()))
                .map_err(unreadable(&source.path))?,
            Some(_) => {
                hash_frames(payload, number, start, size).map_err(unreadable(&source.path))?
            }
        };
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert((source.digest, start, size), digest);
        Ok::<(), BuildError>(())
    })?;
    for blob in blobs {
        let runs = runs(blob);
        for (part, (start, size)) in blob.parts.iter_mut().zip(runs) {
            part.digest = known[&(blob.digest, start, size)];
        }
    }
    Ok(())
}

/// First stored byte and size of each part.
fn runs(blob: &Blob) -> Vec<(u64, u64)> {
    let mut start = 0;
    let run = |part: &Part| {
        let run = (start, part.size.0);
        start += part.size.0;
        run
    };
    blob.parts.iter().map(run).collect()
}

fn hash_frames(payload: &Payload, number: usize, start: u64, size: u64) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let content = &payload.contents[number];
    for piece in content.pieces_in(start, size) {
        payload.frames.read(content, piece, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
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
