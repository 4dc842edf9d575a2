//! Copies the blobs to their places: each byte is read once, hashed, and written once.
//!
//! The places are known before the digests are, since sizes alone decide them. So a blob is checked against its name,
//! its pieces and parts are hashed and its bytes are written in one pass over its file.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use manifest_schema::{Blob, Digest};
use report::{Sink, Step};
use sha2::{Digest as _, Sha256};

use crate::BuildOptions;
use crate::build::Payload;
use crate::build_error::BuildError;
use crate::extract::Extent;
use crate::layout;
use crate::parallel::{Budget, CHUNK, for_each, pump};
use crate::share::share_blocks;
use crate::source::Source;
use crate::write::{Archive, Run, runs};

/// What became known while a blob was copied.
struct Found {
    pieces: Vec<Digest>,
    parts: Vec<Digest>,
}

/// Writes all blobs to their places in `archive`, and notes the digests of pieces and parts.
pub(crate) fn fill(
    archive: &Archive,
    payload: &Payload,
    blobs: &mut [Blob],
    options: BuildOptions,
    sink: &dyn Sink,
) -> Result<(), BuildError> {
    let total = blobs.iter().map(Blob::stored_size).sum();
    let name = archive.name();
    let step = Step::start(sink, "step.bundle-write", name, Some(total), "bytes");
    let threads = archive.threads(options.threads);
    // A large blob has one thread that reads and one that writes; both hash.
    let workers = Budget::new(threads as u64);
    let done = AtomicU64::new(0);
    let progress = |bytes: u64| step.progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes);
    let found: Mutex<BTreeMap<usize, Found>> = Mutex::default();
    for_each(threads, blobs.len(), |number| {
        let blob = &blobs[number];
        let apart = blob.pieces.len() > 1 && threads > 1;
        let _worker = workers.take(1 + u64::from(apart));
        let mut work = Work {
            archive,
            runs: runs(blob),
            pieces: Hashes::of(blob.pieces.len() > 1),
            parts: Hashes::of(!blob.parts.is_empty()),
            shared: false,
        };
        let pieces = if blob.stored.is_none() {
            let source = &payload.sources[number];
            let aligned = options.align && layout::is_aligned(blob.codec, blob.size.0);
            work.shared = aligned && work.share(source);
            work.copy(source, options.piece_size, apart, &progress)?
        } else {
            work.frames(payload, number, &progress)?;
            blob.pieces.clone()
        };
        let parts = work.parts.done;
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(number, Found { pieces, parts });
        Ok::<(), BuildError>(())
    })?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (number, found) in found {
        let blob = &mut blobs[number];
        blob.pieces = found.pieces;
        for (part, digest) in blob.parts.iter_mut().zip(found.parts) {
            part.digest = digest;
        }
    }
    step.finish();
    Ok(())
}

/// Digests of consecutive runs of bytes, where anybody wants them.
struct Hashes {
    wanted: bool,
    open: Sha256,
    done: Vec<Digest>,
}

impl Hashes {
    fn of(wanted: bool) -> Self {
        Self {
            wanted,
            open: Sha256::new(),
            done: Vec::new(),
        }
    }

    /// Takes bytes of the open run; `ends` says whether they are its last.
    fn take(&mut self, bytes: &[u8], ends: bool) {
        if self.wanted {
            self.open.update(bytes);
            if ends {
                let digest = self.open.finalize_reset();
                self.done.push(Digest::from_bytes(digest.into()));
            }
        }
    }
}

/// A blob on its way.
struct Work<'a> {
    archive: &'a Archive,
    runs: Vec<Run<'a>>,
    pieces: Hashes,
    parts: Hashes,
    /// Whether its bytes are in the archive already, as the source's own blocks.
    shared: bool,
}

impl Work<'_> {
    /// Lets the archive have the source's blocks, where the file system can. They are read from the archive then.
    fn share(&self, source: &Source) -> bool {
        self.runs.iter().all(|run| {
            let extent = Extent {
                file: &source.file,
                offset: run.start,
                size: run.size,
            };
            share_blocks(&[extent], self.archive.file(run.volume), run.offset)
        })
    }

    /// Copies a blob as it is, on two threads where `apart`; returns the digests of its pieces.
    fn copy(
        &mut self,
        source: &Source,
        piece_size: u64,
        apart: bool,
        progress: &(impl Fn(u64) + Sync),
    ) -> Result<Vec<Digest>, BuildError> {
        let size = source.size;
        let mut whole = Sha256::new();
        let (archive, runs, shared) = (self.archive, &self.runs, self.shared);
        let (pieces, parts) = (&mut self.pieces, &mut self.parts);
        let read = |buffer: &mut [u8], at: u64| {
            let read = if shared {
                let (file, offset) = archive.place(run_at(runs, at), at);
                file.read_exact_at(buffer, offset)
            } else {
                source.file.read_exact_at(buffer, at)
            };
            whole.update(&*buffer);
            read.map_err(|error| source.failed(error))
        };
        let take = |at: u64, bytes: &[u8]| {
            let run = run_at(runs, at);
            let end = at + bytes.len() as u64;
            if !shared {
                let (file, offset) = archive.place(run, at);
                let written = file.write_all_at(bytes, offset);
                written.map_err(archive.failed(run.volume))?;
            }
            pieces.take(bytes, end == size || end.is_multiple_of(piece_size));
            parts.take(bytes, end == run.start + run.size);
            progress(bytes.len() as u64);
            Ok(())
        };
        // Pieces and parts end where a chunk does.
        pump(size, CHUNK.min(piece_size), apart, read, take)?;
        let found = Digest::from_bytes(whole.finalize().into());
        if found != source.digest {
            return Err(BuildError::BlobDiffers {
                path: source.path.clone(),
                expected: source.digest,
                found,
            });
        }
        if size == 0 || self.pieces.wanted {
            return Ok(std::mem::take(&mut self.pieces.done));
        }
        Ok(vec![found])
    }

    /// Writes the frames of a blob, and gives the room back that they took until now.
    fn frames(
        &mut self,
        payload: &Payload,
        number: usize,
        progress: &impl Fn(u64),
    ) -> Result<(), BuildError> {
        let content = &payload.contents[number];
        let mut at = 0;
        for piece in 0..content.pieces.len() {
            let run = run_at(&self.runs, at);
            let failed = self.archive.failed(run.volume);
            let written = payload.frames.read(content, piece, |bytes| {
                let (file, offset) = self.archive.place(run, at);
                file.write_all_at(bytes, offset)?;
                at += bytes.len() as u64;
                self.parts.take(bytes, at == run.start + run.size);
                progress(bytes.len() as u64);
                Ok(())
            });
            written.map_err(failed)?;
            payload.frames.release(content, piece);
        }
        Ok(())
    }
}

/// The run that holds the blob's stored byte `at`.
fn run_at<'a, 'b>(runs: &'a [Run<'b>], at: u64) -> &'a Run<'b> {
    let after = runs.partition_point(|run| run.start <= at);
    &runs[after.saturating_sub(1)]
}
