//! Copies the blobs to their places: each byte is read once, hashed, and written once.
//!
//! The places are known before the digests are, since sizes alone decide them. So a blob is checked against its name,
//! its pieces and parts are hashed and its bytes are written in one pass over its file. The first of several pieces and
//! the whole begin alike and are hashed as one; the whole and every later piece are hashed in step.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use manifest_schema::{Blob, Digest};
use report::{Sink, Step};
use twin_digest::{Hash, update_same};

use crate::BuildOptions;
use crate::build::Payload;
use crate::build_error::BuildError;
use crate::extract::Extent;
use crate::layout;
use crate::parallel::{CHUNK, RUN, for_each, pump};
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
    let (any_order, direct) = (archive.has_holes(), archive.is_direct());
    let turns = turns(blobs, options.threads, any_order, direct);
    let done = AtomicU64::new(0);
    let progress = |bytes: u64| step.progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes);
    let found: Mutex<BTreeMap<usize, Found>> = Mutex::default();
    for_each(turns.threads, blobs.len(), |turn| {
        let (number, apart) = turns.order[turn];
        let blob = &blobs[number];
        let mut work = Work {
            archive,
            runs: runs(blob),
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

/// In which order blobs are copied.
struct Turns {
    /// Blobs at a time.
    threads: usize,
    /// Numbers of blobs, and whether each has a thread that reads and hashes and one that writes.
    order: Vec<(usize, bool)>,
}

/// The largest first, so that all threads end at about the same time, each blob on one thread: what was read is still
/// in that core's cache when it is hashed and written. Only where blobs are too few for the threads has one two of them, and
/// where bytes go straight to the disk: its other thread waits for that.
fn turns(blobs: &[Blob], asked: usize, any_order: bool, direct: bool) -> Turns {
    let threads = if any_order { asked.clamp(1, 256) } else { 1 };
    let mut order: Vec<usize> = (0..blobs.len()).collect();
    if any_order {
        order.sort_by_key(|number| Reverse(blobs[*number].stored_size()));
    }
    let is_large = |blob: &Blob| blob.stored.is_none() && blob.pieces.len() > 1;
    let total: u64 = blobs.iter().map(Blob::stored_size).sum();
    let mut left = blobs.iter().filter(|blob| is_large(blob)).count();
    let apart = |number: usize| {
        let blob = &blobs[number];
        let few = left < threads || blob.size.0 > total / threads as u64 || !any_order;
        left -= usize::from(is_large(blob));
        (number, asked > 1 && is_large(blob) && (few || direct))
    };
    Turns {
        threads,
        order: order.into_iter().map(apart).collect(),
    }
}

/// Digests of consecutive runs of bytes, where anybody wants them.
struct Hashes {
    wanted: bool,
    open: Hash,
    done: Vec<Digest>,
}

impl Hashes {
    fn of(wanted: bool) -> Self {
        Self {
            wanted,
            open: Hash::new(),
            done: Vec::new(),
        }
    }

    /// Takes bytes of the open run; `ends` says whether they are its last.
    fn take(&mut self, bytes: &[u8], ends: bool) {
        if self.wanted {
            self.open.update(bytes);
            if ends {
                self.done.push(finish(&mut self.open));
            }
        }
    }
}

/// The digests of a blob and of its pieces, of one pass over its bytes.
struct Digests {
    size: u64,
    piece_size: u64,
    taken: u64,
    whole: Hash,
    /// Of the open piece, from the second on.
    piece: Hash,
    pieces: Vec<Digest>,
}

impl Digests {
    fn of(size: u64, piece_size: u64) -> Self {
        Self {
            size,
            piece_size,
            taken: 0,
            whole: Hash::new(),
            piece: Hash::new(),
            pieces: Vec::new(),
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let left = self.piece_size - self.taken % self.piece_size;
            let (now, later) = bytes.split_at(left.min(bytes.len() as u64) as usize);
            let is_first = self.taken < self.piece_size;
            self.taken += now.len() as u64;
            let ends = self.taken == self.size || self.taken.is_multiple_of(self.piece_size);
            if is_first {
                // The first piece is the beginning of the whole, so it need not be hashed again.
                self.whole.update(now);
                if ends {
                    self.pieces.push(finish(&mut self.whole.clone()));
                }
            } else {
                update_same(&mut self.whole, &mut self.piece, now);
                if ends {
                    self.pieces.push(finish(&mut self.piece));
                }
            }
            bytes = later;
        }
    }

    fn finish(mut self) -> (Digest, Vec<Digest>) {
        (finish(&mut self.whole), self.pieces)
    }
}

/// The digest of what was taken until now; another begins.
fn finish(hash: &mut Hash) -> Digest {
    Digest::from_bytes(std::mem::take(hash).finish())
}

/// A blob on its way.
struct Work<'a> {
    archive: &'a Archive,
    runs: Vec<Run<'a>>,
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
        let mut digests = Digests::of(size, piece_size);
        let (archive, runs, shared) = (self.archive, &self.runs, self.shared);
        let parts = &mut self.parts;
        let large = size >= LARGE;
        let direct = large && archive.is_direct();
        let mut begun = 0;
        let read = |buffer: &mut [u8], mut at: u64| {
            // Few enough at a time to be still in the core's cache when they are hashed.
            for bytes in buffer.chunks_mut(CHUNK as usize) {
                let read = if shared {
                    let (file, offset) = archive.place(run_at(runs, at), at);
                    file.read_exact_at(bytes, offset)
                } else {
                    source.file.read_exact_at(bytes, at)
                };
                read.map_err(|error| source.failed(error))?;
                digests.take(bytes);
                at += bytes.len() as u64;
            }
            Ok::<(), BuildError>(())
        };
        let take = |at: u64, bytes: &[u8]| {
            let run = run_at(runs, at);
            let end = at + bytes.len() as u64;
            if !shared {
                let written = archive.write(run, at, bytes, large);
                written.map_err(archive.failed(run.volume))?;
                begun = begun.max(run.start);
                if !direct && end - begun >= SPELL {
                    archive.begin(run, begun, end);
                    begun = end;
                }
            }
            parts.take(bytes, end == run.start + run.size);
            progress(bytes.len() as u64);
            Ok(())
        };
        // Chunks end at multiples of their size in the archive, so that they are whole blocks of the disk.
        let chunk = if direct { RUN } else { CHUNK };
        let length = |at: u64| {
            let run = run_at(runs, at);
            let (_, offset) = archive.place(run, at);
            (chunk - offset % chunk).min(run.start + run.size - at)
        };
        pump(size, chunk, length, apart, read, take)?;
        let (found, pieces) = digests.finish();
        if found != source.digest {
            return Err(BuildError::BlobDiffers {
                path: source.path.clone(),
                expected: source.digest,
                found,
            });
        }
        Ok(pieces)
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

/// Bytes of a blob that is worth its own way to the disk.
const LARGE: u64 = 4 << 20;

/// Bytes after which the disk begins to write them.
const SPELL: u64 = 16 << 20;

/// The run that holds the blob's stored byte `at`.
fn run_at<'a, 'b>(runs: &'a [Run<'b>], at: u64) -> &'a Run<'b> {
    let after = runs.partition_point(|run| run.start <= at);
    &runs[after.saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A raw blob of that many pieces of one byte.
    fn blob(size: u64) -> Blob {
        let digest = Digest::of(&size.to_le_bytes());
        let pieces = vec![digest; size as usize];
        let member = format!("blobs/sha256/{}", digest.hex());
        let blob = json!({ "digest": digest, "size": size, "codec": "raw", "pieces": pieces, "member": member,
            "volume": 1, "offset": 0 });
        serde_json::from_value(blob).unwrap()
    }

    #[test]
    fn every_thread_has_work_to_the_end_and_a_stick_is_written_from_its_beginning() {
        for (sizes, threads, any_order, expected) in [
            // The last has the other thread to itself.
            (
                &[2, 3, 3, 2][..],
                2,
                true,
                &[(1, false), (2, false), (0, false), (3, true)][..],
            ),
            // One alone would take longer than all others together.
            (
                &[9, 2, 2, 1],
                2,
                true,
                &[(0, true), (1, false), (2, true), (3, false)],
            ),
            (&[5, 4], 16, true, &[(0, true), (1, true)]),
            (&[1, 3], 1, true, &[(1, false), (0, false)]),
            (&[2, 3, 1], 2, false, &[(0, true), (1, true), (2, false)]),
        ] {
            let blobs: Vec<Blob> = sizes.iter().copied().map(blob).collect();
            let turns = turns(&blobs, threads, any_order, false);
            assert_eq!(turns.order, expected, "{sizes:?} {threads} {any_order}");
            assert_eq!(turns.threads, if any_order { threads } else { 1 });
        }
    }
}
