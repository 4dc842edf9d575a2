//! Reads blobs of a verified bundle: each byte once, each piece checked.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use manifest_schema::{Blob, ByteSize, Codec, Digest, Frame};
use report::{Sink, Step};

use crate::direct::Direct;
use crate::frame;
use crate::layout::{MAX_METADATA, is_aligned};
use crate::parallel::{CHUNK, Lane, RUN, for_each, hash_lanes, in_twos};
use crate::planes;
use crate::verify::Verified;
use crate::verify_error::{Fault, VerifyError};
use crate::volume::Volume;

impl Verified {
    /// Reads a blob in order and hands each run of bytes to `take`.
    ///
    /// A run is handed over before the piece that it belongs to is checked: on an error the caller throws away
    /// what it was given.
    ///
    /// # Errors
    /// When the blob is unknown, cannot be read, or is damaged.
    pub fn read_blob(
        &self,
        digest: &Digest,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), VerifyError> {
        let blob = self.known(digest)?;
        for piece in 0..blob.pieces.len() {
            self.read_piece(blob, piece, |_, run| {
                take(run);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// How many pieces a blob has; none where it is empty.
    ///
    /// # Errors
    /// When the blob is unknown.
    pub fn pieces(&self, digest: &Digest) -> Result<usize, VerifyError> {
        Ok(self.known(digest)?.pieces.len())
    }

    /// Reads pieces of blobs, two of them side by side, and hands out each run before its piece is checked: with the place of
    /// its piece in `pieces`, and its offset in the blob. On an error the caller throws away what it was given.
    ///
    /// # Errors
    /// When a blob is unknown, or a piece cannot be read or is damaged, and those of `take`.
    pub fn copy_pieces(
        &self,
        pieces: &[(&Digest, usize)],
        mut take: impl FnMut(usize, u64, &[u8]) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        let known = |(digest, piece): &(&Digest, usize)| Ok((self.known(digest)?, *piece));
        let known: Vec<_> = pieces.iter().map(known).collect::<Result<_, _>>()?;
        self.read_pieces(&known, RUN, |which, within, run| {
            let start = pieces[which].1 as u64 * self.index.piece_size;
            take(which, start + within, run)
        })
    }

    /// Writes a blob to `out`. On an error the caller throws away what was written.
    ///
    /// # Errors
    /// When the blob is unknown, cannot be read, or is damaged, or `out` fails.
    pub fn copy_blob(&self, digest: &Digest, out: &mut dyn Write) -> Result<(), VerifyError> {
        let blob = self.known(digest)?;
        for piece in 0..blob.pieces.len() {
            self.read_piece(blob, piece, |_, run| {
                out.write_all(run)
                    .map_err(|cause| Fault::Unwritable.because(self.at(), cause))
            })?;
        }
        Ok(())
    }

    /// A small blob, whole and checked.
    ///
    /// # Errors
    /// When the blob is unknown, larger than 64 MiB, cannot be read, or is damaged.
    pub fn blob_bytes(&self, digest: &Digest) -> Result<Vec<u8>, VerifyError> {
        let ByteSize(size) = self.known(digest)?.size;
        if size > MAX_METADATA {
            let fault = Fault::TooLarge {
                member: digest.to_string(),
                size,
                limit: MAX_METADATA,
            };
            return Err(fault.of(self.at()));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        self.copy_blob(digest, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes blobs to new files, their pieces on several threads, and syncs each file.
    ///
    /// Each byte is read once and written once, at its final offset. On an error the files are left for the
    /// caller to remove.
    ///
    /// # Errors
    /// When a blob is unknown or damaged, or a file exists already or cannot be written.
    pub fn extract_many(
        &self,
        jobs: &[(Digest, PathBuf)],
        threads: usize,
        sink: &dyn Sink,
    ) -> Result<(), VerifyError> {
        let mut pieces = Vec::new();
        let mut left = Vec::new();
        let mut total = 0;
        for (number, (digest, path)) in jobs.iter().enumerate() {
            let blob = self.known(digest)?;
            let made = OpenOptions::new().write(true).create_new(true).open(path);
            made.and_then(|file| {
                file.set_len(blob.size.0)?;
                if blob.pieces.is_empty() {
                    file.sync_all()
                } else {
                    Ok(())
                }
            })
            .map_err(|cause| Fault::Unwritable.because(path, cause))?;
            pieces.extend((0..blob.pieces.len()).map(|piece| (number, blob, piece)));
            left.push(AtomicUsize::new(blob.pieces.len()));
            total += blob.size.0;
        }
        let step = Step::start(sink, "step.bundle-extract", "", Some(total), "bytes");
        let done = AtomicU64::new(0);
        for_each(threads, pieces.len(), |job| {
            let (number, blob, piece) = pieces[job];
            let path = &jobs[number].1;
            let unwritable = |cause: io::Error| Fault::Unwritable.because(path, cause);
            // Opened for each piece: a bundle may have more blobs than a process may have files.
            let file = OpenOptions::new()
                .write(true)
                .open(path)
                .map_err(unwritable)?;
            let start = piece as u64 * self.index.piece_size;
            self.read_piece(blob, piece, |within, run| {
                file.write_all_at(run, start + within).map_err(unwritable)?;
                let run = run.len() as u64;
                step.progress(done.fetch_add(run, Ordering::Relaxed) + run);
                Ok(())
            })?;
            if left[number].fetch_sub(1, Ordering::AcqRel) == 1 {
                file.sync_all().map_err(unwritable)?;
            }
            Ok(())
        })?;
        step.finish();
        Ok(())
    }

    /// Where the bytes of an aligned blob lie, for a file system that can share them; `None` for any other blob.
    ///
    /// Nothing is checked: what is made of them is, with [`Verified::check_pieces`].
    pub fn extents(&self, digest: &Digest) -> Option<Vec<Extent<'_>>> {
        let blob = self.blob(digest)?;
        let aligned = self.index.align.is_some() && is_aligned(blob.codec, blob.size.0);
        let mut runs: Vec<_> = blob
            .parts
            .iter()
            .map(|part| (part.volume, part.offset, part.size.0))
            .collect();
        if runs.is_empty() {
            runs.push((blob.volume, blob.offset, blob.size.0));
        }
        let extent = |(number, offset, size)| {
            let mut volumes = self.sealed.volumes.iter();
            let volume = volumes.find(|volume| volume.number == number)?;
            Some(Extent {
                file: &volume.file,
                offset,
                size,
            })
        };
        aligned.then(|| runs.into_iter().map(extent).collect())?
    }

    /// Checks pieces of copies of blobs, two of them side by side; `read` is told how many bytes were read. They are read
    /// from the disk where the file system allows that.
    ///
    /// # Errors
    /// When a copy cannot be read, or its piece is damaged; the error names the piece's place in the bundle.
    pub fn check_pieces(
        &self,
        pieces: &[(&Digest, usize, &File)],
        mut read: impl FnMut(u64),
    ) -> Result<(), VerifyError> {
        match pieces {
            [one, other] => self.check([*one, *other], &mut read),
            _ => pieces
                .iter()
                .try_for_each(|one| self.check([*one], &mut read)),
        }
    }

    fn check<const N: usize>(
        &self,
        pieces: [(&Digest, usize, &File); N],
        mut read: impl FnMut(u64),
    ) -> Result<(), VerifyError> {
        let (mut known, mut paths) = (Vec::new(), Vec::new());
        for (digest, piece, _) in pieces {
            let blob = self.known(digest)?;
            paths.push(&self.place(blob, piece)?.0.path);
            known.push((blob, piece));
        }
        let direct = pieces.map(|(_, _, file)| Direct::reading(file));
        let lanes: [_; N] = std::array::from_fn(|which| {
            let ((blob, piece), file) = (known[which], pieces[which].2);
            let extent = Extent {
                file,
                offset: piece as u64 * self.index.piece_size,
                size: self.piece_len(blob, piece),
            };
            Lane::of(extent, RUN).past_cache(direct[which].as_ref())
        });
        let failed = |which: usize, cause| Fault::Unreadable.because(paths[which], cause);
        let found = hash_lanes(lanes, RUN, failed, |_, _, run| {
            read(run.len() as u64);
            Ok(())
        })?;
        let mut found = known.into_iter().zip(found);
        found.try_for_each(|((blob, piece), found)| self.judge(blob, piece, found))
    }

    /// Reads and checks every byte of every blob, or of those whose volumes are at hand.
    ///
    /// # Errors
    /// With the first damaged piece.
    pub fn verify_all(&self, threads: usize, sink: &dyn Sink) -> Result<(), VerifyError> {
        let pieces: Vec<(&Blob, usize)> = self
            .index
            .blobs
            .iter()
            .flat_map(|blob| (0..blob.pieces.len()).map(move |piece| (blob, piece)))
            .filter(|(blob, piece)| !self.sealed.alone || self.place(blob, *piece).is_ok())
            .collect();
        let total = pieces
            .iter()
            .map(|(blob, piece)| self.piece_len(blob, *piece))
            .sum();
        let step = Step::start(sink, "step.bundle-verify", "", Some(total), "bytes");
        let done = AtomicU64::new(0);
        let is_raw = |(blob, _): &(&Blob, usize)| blob.stored.is_none();
        let jobs = in_twos(pieces, threads, |one, other| is_raw(one) && is_raw(other));
        for_each(threads, jobs.len(), |job| {
            let (one, other) = jobs[job];
            let pieces = [one, other.unwrap_or(one)];
            let count = 1 + usize::from(other.is_some());
            self.read_pieces(&pieces[..count], CHUNK, |_, _, run| {
                let run = run.len() as u64;
                step.progress(done.fetch_add(run, Ordering::Relaxed) + run);
                Ok(())
            })
        })?;
        step.finish();
        Ok(())
    }

    pub(crate) fn known(&self, digest: &Digest) -> Result<&Blob, VerifyError> {
        let blob = *digest;
        self.blob(digest).ok_or_else(|| {
            if self.requires().contains_key(digest) {
                Fault::BlobRequired { blob }.of(self.at())
            } else {
                Fault::BlobUnknown { blob }.of(self.at())
            }
        })
    }

    /// Bytes of a piece.
    fn piece_len(&self, blob: &Blob, piece: usize) -> u64 {
        let start = piece as u64 * self.index.piece_size;
        self.index.piece_size.min(blob.size.0 - start)
    }

    /// Number of the volume that holds a piece, and the offset of its first stored byte there.
    pub(crate) fn spot(&self, blob: &Blob, piece: usize) -> (u32, u64) {
        let mut start = match &blob.stored {
            None => piece as u64 * self.index.piece_size,
            Some(stored) => stored.frames[..piece]
                .iter()
                .map(|frame| frame.size.0)
                .sum(),
        };
        let (mut number, mut offset) = (blob.volume, blob.offset);
        for part in &blob.parts {
            (number, offset) = (part.volume, part.offset);
            if start < part.size.0 {
                break;
            }
            start -= part.size.0;
        }
        (number, offset + start)
    }

    /// The volume that holds a piece, where it is at hand, and the offset of its first stored byte there.
    pub(crate) fn place(&self, blob: &Blob, piece: usize) -> Result<(&Volume, u64), VerifyError> {
        let (number, offset) = self.spot(blob, piece);
        let mut volumes = self.sealed.volumes.iter();
        let volume = volumes.find(|volume| volume.number == number);
        let (missing, of) = (number.to_string(), self.index.volumes);
        volume
            .map(|volume| (volume, offset))
            .ok_or_else(|| Fault::VolumesMissing { missing, of }.of(self.at()))
    }

    /// Reads one piece, handing out each run with its offset in the piece, and checks it at the end.
    pub(crate) fn read_piece(
        &self,
        blob: &Blob,
        piece: usize,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        self.read_pieces(&[(blob, piece)], CHUNK, |_, within, run| take(within, run))
    }

    /// Reads pieces as [`Verified::read_piece`] does, in runs of at most `run` bytes where they are stored as they are; two
    /// of those side by side.
    fn read_pieces(
        &self,
        pieces: &[(&Blob, usize)],
        run: u64,
        mut take: impl FnMut(usize, u64, &[u8]) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        let is_raw = |(blob, _): &(&Blob, usize)| blob.stored.is_none();
        match pieces {
            [one, other] if is_raw(one) && is_raw(other) => {
                self.read_raw([*one, *other], run, take)
            }
            _ => pieces.iter().enumerate().try_for_each(|(which, one)| {
                let (blob, piece) = *one;
                let mut hand = |within: u64, run: &[u8]| take(which, within, run);
                match &blob.stored {
                    None => self.read_raw([*one], run, |_, within, run| hand(within, run)),
                    Some(stored) => self.read_frame(blob, piece, &stored.frames[piece], hand),
                }
            }),
        }
    }

    fn read_raw<const N: usize>(
        &self,
        pieces: [(&Blob, usize); N],
        run: u64,
        take: impl FnMut(usize, u64, &[u8]) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        let place = |(blob, piece): &(&Blob, usize)| self.place(blob, *piece);
        let places: Vec<_> = pieces.iter().map(place).collect::<Result<_, _>>()?;
        let lanes: [_; N] = std::array::from_fn(|which| {
            let ((volume, offset), (blob, piece)) = (places[which], pieces[which]);
            let extent = Extent {
                file: &volume.file,
                offset,
                size: self.piece_len(blob, piece),
            };
            Lane::of(extent, run)
        });
        let failed = |which: usize, cause| {
            let (volume, _) = places[which];
            Fault::Unreadable.because(&volume.path, cause)
        };
        let found = hash_lanes(lanes, run, failed, take)?;
        let mut found = pieces.into_iter().zip(found);
        found.try_for_each(|((blob, piece), found)| self.judge(blob, piece, found))
    }

    fn read_frame(
        &self,
        blob: &Blob,
        piece: usize,
        frame: &Frame,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        let size = self.piece_len(blob, piece);
        let (volume, offset) = self.place(blob, piece)?;
        let mut hand = |within: u64, run: &[u8]| take(within, run).map_err(Stop::Taker);
        let found = match blob.codec {
            Codec::Planes => planes::read_frame(&volume.file, offset, frame, size, &mut hand),
            _ => frame::read_frame(&volume.file, offset, frame, size, &mut hand),
        };
        match found {
            Ok(found) => self.judge(blob, piece, found),
            Err(Stop::Taker(error)) => Err(error),
            Err(Stop::Reader(cause)) => Err(Fault::Unreadable.because(&volume.path, cause)),
        }
    }

    /// Whether a piece is as it was signed; the error names its place in the bundle.
    fn judge(&self, blob: &Blob, piece: usize, found: Digest) -> Result<(), VerifyError> {
        if found == blob.pieces[piece] {
            return Ok(());
        }
        let (volume, offset) = self.place(blob, piece)?;
        let size = match &blob.stored {
            None => self.piece_len(blob, piece),
            Some(stored) => stored.frames[piece].size.0,
        };
        let blob = blob.digest;
        Err(Fault::PieceDiffers { blob, offset, size }.of(&volume.path))
    }
}

/// A run of a bundle's bytes in one of its files.
#[derive(Clone, Copy, Debug)]
pub struct Extent<'a> {
    /// The bundle, or a volume.
    pub file: &'a File,
    /// Of the first byte.
    pub offset: u64,
    /// How many.
    pub size: u64,
}

/// Who stopped the reading of a piece.
enum Stop {
    Reader(io::Error),
    Taker(VerifyError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Reader(error)
    }
}
