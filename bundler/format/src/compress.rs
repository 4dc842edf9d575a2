//! Text and weights are stored in frames, one for each piece, so that a piece can be read and checked alone.
//!
//! Text is compressed with zstd, weights are stored in planes where somebody asked for it; wheels and images are
//! stored as they are: they would save little and cost much. What is what is told by the names that the profiles give
//! a file. A blob that does not become enough smaller stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use manifest_schema::{ByteSize, Codec, Digest, Frame, Profiles, Stored};
use report::Sink;
use sha2::{Digest as _, Sha256};

use crate::BuildOptions;
use crate::build_error::BuildError;
use crate::parallel::{Budget, for_each, hash_range};
use crate::place::Content;
use crate::planes::{self, Numbers};
use crate::source::{Source, hash_blobs, unreadable};
use crate::spill::{Extent, Spill};
use crate::tensors::numbers_of;
use crate::verify::placed_files;

/// Part of the format's promise of equal bytes: another level would give other bytes.
const LEVEL: i32 = 9;

/// Below this a frame saves less than the padding takes.
const SMALLEST: u64 = 1024;

const TEXT: [&str; 20] = [
    "c", "cfg", "csv", "h", "html", "jinja", "json", "jsonl", "md", "mlir", "po", "py", "pyi",
    "rst", "sh", "toml", "tsv", "txt", "xml", "yaml",
];

const WEIGHTS: [&str; 1] = ["safetensors"];

/// Compressing text takes some 16 MiB a thread.
const TEXT_THREADS: usize = 6;

/// Bytes of a frame that are gathered before they are spilled.
const GATHERED: usize = 1 << 20;

/// Frames, until they are written to the archive.
pub(crate) struct Frames {
    spill: Spill,
    /// Where the frames of a blob are, in the order of its pieces.
    places: BTreeMap<Digest, Vec<Vec<Extent>>>,
}

/// How the pieces of a blob become frames.
enum Kind {
    Text,
    Weights(Vec<Numbers>),
}

/// A frame, and where it is.
type Made = (Vec<Extent>, Frame);

impl Frames {
    /// Makes frames of the text and, where that was asked for, of the weights among `sources`, notes them and the digests
    /// of their pieces in `contents`, and keeps them in files without a name in `folder`.
    pub(crate) fn make(
        profiles: &Profiles,
        sources: &[Source],
        contents: &mut [Content],
        options: BuildOptions,
        folder: &Path,
        sink: &dyn Sink,
    ) -> Result<Self, BuildError> {
        let spilled = |source| BuildError::Output {
            path: folder.to_owned(),
            source,
        };
        let mut frames = Self {
            spill: Spill::new(folder),
            places: BTreeMap::new(),
        };
        let kinds = kinds(profiles, sources, contents, options);
        if kinds.is_empty() {
            return Ok(frames);
        }
        let numbers: Vec<usize> = kinds.iter().map(|(number, _)| *number).collect();
        let hashed = hash_blobs(sources, &numbers, options, sink)?;
        for (number, pieces) in numbers.into_iter().zip(hashed) {
            contents[number].pieces = pieces;
        }
        let mut text = Vec::new();
        let mut weights = Vec::new();
        for (number, kind) in kinds {
            match kind {
                Kind::Text => text.push((number, kind)),
                Kind::Weights(_) => weights.push((number, kind)),
            }
        }
        for (list, threads) in [
            (text, options.threads.min(TEXT_THREADS)),
            (weights, options.threads),
        ] {
            let made = frames.frames_of(&list, sources, contents, options, threads, &spilled)?;
            let kept = Mutex::new(BTreeMap::new());
            for_each(threads, list.len(), |job| {
                let (number, kind) = &list[job];
                let content = &contents[*number];
                if let Some(stored) = frames.worth(content, kind, &made[job]).map_err(spilled)? {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.insert(job, stored);
                }
                Ok::<(), BuildError>(())
            })?;
            let mut kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
            for (job, made) in made.into_iter().enumerate() {
                let (number, kind) = &list[job];
                let (places, _): (Vec<_>, Vec<_>) = made.into_iter().unzip();
                let Some(stored) = kept.remove(&job) else {
                    for place in &places {
                        frames.spill.release(place);
                    }
                    continue;
                };
                let content = &mut contents[*number];
                content.codec = kind.codec();
                content.stored = Some(stored);
                frames.places.insert(content.digest, places);
            }
        }
        Ok(frames)
    }

    /// The frames of each blob of `list`.
    fn frames_of(
        &self,
        list: &[(usize, Kind)],
        sources: &[Source],
        contents: &[Content],
        options: BuildOptions,
        threads: usize,
        spilled: &(impl Fn(io::Error) -> BuildError + Sync),
    ) -> Result<Vec<Vec<Made>>, BuildError> {
        let mut jobs = Vec::new();
        for (blob, (number, _)) in list.iter().enumerate() {
            jobs.extend((0..contents[*number].pieces.len()).map(|piece| (blob, piece)));
        }
        let made: Mutex<BTreeMap<(usize, usize), Made>> = Mutex::default();
        for_each(threads, jobs.len(), |job| {
            let (blob, piece) = jobs[job];
            let (number, kind) = &list[blob];
            let (source, content) = (&sources[*number], &contents[*number]);
            let start = piece as u64 * options.piece_size;
            let size = options.piece_size.min(source.size - start);
            let mut work = Piece {
                spill: &self.spill,
                gathered: Vec::new(),
                extents: Vec::new(),
            };
            let frame = match kind {
                Kind::Text => work.text(source, start, size, &content.pieces[piece]),
                Kind::Weights(numbers) => {
                    work.weights(source, start, size, numbers, &content.pieces[piece])
                }
            };
            let frame = frame.map_err(|halt| match halt {
                Halt::Changed => BuildError::BlobChanged {
                    path: source.path.clone(),
                },
                Halt::Reading(error) => unreadable(&source.path)(error),
                Halt::Spilling(error) => spilled(error),
            })?;
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            made.insert((blob, piece), (work.extents, frame));
            Ok::<(), BuildError>(())
        })?;
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut by_blob: Vec<Vec<Made>> = list.iter().map(|_| Vec::new()).collect();
        for ((blob, _), frame) in made {
            by_blob[blob].push(frame);
        }
        Ok(by_blob)
    }

    /// What the index says of a blob's frames, where they save enough.
    fn worth(&self, content: &Content, kind: &Kind, made: &[Made]) -> io::Result<Option<Stored>> {
        let size: u64 = made.iter().map(|(_, frame)| frame.size.0).sum();
        if size > kind.worth(content.size) {
            return Ok(None);
        }
        let mut hasher = Sha256::new();
        for (extents, _) in made {
            self.spill.read(extents, |bytes| {
                hasher.update(bytes);
                Ok(())
            })?;
        }
        Ok(Some(Stored {
            digest: Digest::from_bytes(hasher.finalize().into()),
            size: ByteSize(size),
            frames: made.iter().map(|(_, frame)| frame.clone()).collect(),
        }))
    }

    /// Hands out the frame of a piece.
    pub(crate) fn read(
        &self,
        content: &Content,
        piece: usize,
        take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.spill.read(self.extents(content, piece)?, take)
    }

    /// Gives the room of a frame back: it will not be read again.
    pub(crate) fn release(&self, content: &Content, piece: usize) {
        if let Ok(extents) = self.extents(content, piece) {
            self.spill.release(extents);
        }
    }

    fn extents(&self, content: &Content, piece: usize) -> io::Result<&[Extent]> {
        let places = self.places.get(&content.digest);
        let place = places.and_then(|places| places.get(piece));
        place
            .map(Vec::as_slice)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Kind {
    fn codec(&self) -> Codec {
        match self {
            Self::Text => Codec::Zstd,
            Self::Weights(_) => Codec::Planes,
        }
    }

    /// Most bytes that the frames of a blob of `size` bytes may have, or it stays as it is.
    fn worth(&self, size: u64) -> u64 {
        match self {
            Self::Text => size / 8 * 7,
            Self::Weights(_) => size / 16 * 15,
        }
    }
}

/// The blobs that may become smaller, and how.
fn kinds(
    profiles: &Profiles,
    sources: &[Source],
    contents: &[Content],
    options: BuildOptions,
) -> Vec<(usize, Kind)> {
    let (text, weights) = (named(profiles, &TEXT), named(profiles, &WEIGHTS));
    let mut found = Vec::new();
    for (number, content) in contents.iter().enumerate() {
        if content.size < SMALLEST {
            continue;
        }
        if options.squeeze.any() && weights.contains(&content.digest) {
            let numbers = numbers_of(&sources[number].file, content.size, options.squeeze);
            if !numbers.is_empty() {
                found.push((number, Kind::Weights(numbers)));
            }
        } else if options.compress && text.contains(&content.digest) {
            found.push((number, Kind::Text));
        }
    }
    found
}

/// Blobs that some file with one of these endings is made of.
fn named(profiles: &Profiles, endings: &[&str]) -> BTreeSet<Digest> {
    let fits = |path: &str| {
        let ending = path
            .rsplit_once('.')
            .map(|(_, ending)| ending.to_ascii_lowercase());
        ending.is_some_and(|ending| endings.contains(&ending.as_str()))
    };
    let files = placed_files(profiles).filter(|file| fits(file.path.as_str()));
    let mut blobs: BTreeSet<Digest> = files.map(|file| *file.blob()).collect();
    // Programs that read images read their blobs as they are.
    for blob in profiles.image_blobs() {
        blobs.remove(&blob.digest);
    }
    blobs
}

/// Why no frame was made.
enum Halt {
    Changed,
    Reading(io::Error),
    Spilling(io::Error),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The file was longer when its size was taken.
            io::ErrorKind::UnexpectedEof => Self::Changed,
            _ => Self::Reading(error),
        }
    }
}

/// A piece that becomes a frame. Its bytes were hashed before; they must be the same now.
struct Piece<'a> {
    spill: &'a Spill,
    gathered: Vec<u8>,
    extents: Vec<Extent>,
}

impl Piece<'_> {
    fn text(
        &mut self,
        source: &Source,
        start: u64,
        size: u64,
        expected: &Digest,
    ) -> Result<Frame, Halt> {
        let mut encoder =
            zstd::stream::write::Encoder::new(Vec::new(), LEVEL).map_err(Halt::Spilling)?;
        encoder
            .set_pledged_src_size(Some(size))
            .map_err(Halt::Spilling)?;
        let (mut hasher, mut length) = (Sha256::new(), 0);
        let found = hash_range(&source.file, start, size, |_, run| -> Result<(), Halt> {
            encoder.write_all(run).map_err(Halt::Spilling)?;
            let ready = encoder.get_mut();
            hasher.update(&*ready);
            length += ready.len() as u64;
            self.gather(ready)?;
            ready.clear();
            Ok(())
        })?;
        let last = encoder.finish().map_err(Halt::Spilling)?;
        hasher.update(&last);
        self.gather(&last)?;
        self.flush()?;
        if found != *expected {
            return Err(Halt::Changed);
        }
        Ok(Frame {
            digest: Digest::from_bytes(hasher.finalize().into()),
            size: ByteSize(length + last.len() as u64),
        })
    }

    fn weights(
        &mut self,
        source: &Source,
        start: u64,
        size: u64,
        numbers: &[Numbers],
        expected: &Digest,
    ) -> Result<Frame, Halt> {
        let mut encoder = planes::Encoder::new().map_err(Halt::Spilling)?;
        let (mut head, mut block, mut length) = (Vec::new(), Vec::new(), 0);
        let mut plain = Vec::new();
        let found = hash_range(&source.file, start, size, |at, run| -> Result<(), Halt> {
            plain.extend_from_slice(run);
            let read = at + run.len() as u64;
            while plain.len() >= planes::BLOCK || (read == size && !plain.is_empty()) {
                let count = plain.len().min(planes::BLOCK);
                block.clear();
                let begin = start + read - plain.len() as u64;
                let entry = encoder.block(&plain[..count], begin, numbers, &mut block);
                head.extend(entry.map_err(Halt::Spilling)?);
                length += block.len() as u64;
                self.gather(&block)?;
                plain.drain(..count);
            }
            Ok(())
        })?;
        self.flush()?;
        if found != *expected {
            return Err(Halt::Changed);
        }
        let kept = self.spill.keep(&head).map_err(Halt::Spilling)?;
        self.extents.insert(0, kept);
        Ok(planes::frame(&head, length))
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<(), Halt> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHERED {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Halt> {
        if !self.gathered.is_empty() {
            let kept = self.spill.keep(&self.gathered).map_err(Halt::Spilling)?;
            self.extents.push(kept);
            self.gathered.clear();
        }
        Ok(())
    }
}

/// Bytes of all frames that are held in memory at a time, with what their decoders need.
static HELD: Budget = Budget::new(96 << 20);

/// What a decoder of a frame of text needs, apart from the frame.
const DECODER: u64 = 8 << 20;

/// Reads one zstd frame at `offset` of `file`, hands out the at most `limit` bytes that it holds, and returns their digest.
///
/// A frame that is not as its digest says is not decompressed: nothing unsigned reaches the decoder. It then has the
/// digest of nothing, which no piece has, since pieces are never empty.
pub(crate) fn read_frame<E: From<io::Error>>(
    file: &File,
    offset: u64,
    frame: &Frame,
    limit: u64,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<Digest, E> {
    let _held = HELD.take(frame.size.0 + DECODER);
    let mut stored = vec![0; frame.size.0 as usize];
    file.read_exact_at(&mut stored, offset)?;
    let mut hasher = Sha256::new();
    if Digest::of(&stored) == frame.digest {
        let mut decoder =
            zstd::stream::read::Decoder::with_buffer(stored.as_slice())?.single_frame();
        let mut buffer = vec![0; 1 << 18];
        let mut done = 0;
        // A decoder that stumbles over a signed frame ends the piece early, which its digest then shows.
        while let Ok(count @ 1..) = decoder.read(&mut buffer) {
            let count = (count as u64).min(limit - done) as usize;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            take(done, &buffer[..count])?;
            done += count as u64;
        }
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}
