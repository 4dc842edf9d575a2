//! Which blobs become smaller: text and weights are stored in frames, one for each piece, so that a piece can be read
//! and checked alone.
//!
//! Text is compressed with zstd, weights are stored in planes where somebody asked for it; wheels and images are
//! stored as they are: they would save little and cost much. What is what is told by the names that the profiles give
//! a file. A blob that does not become enough smaller stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use manifest_schema::{ByteSize, Codec, Digest, Frame, Profiles, Stored};
use report::Sink;
use sha2::{Digest as _, Sha256};

use crate::BuildOptions;
use crate::build_error::BuildError;
use crate::frame::{Halt, Piece};
use crate::parallel::for_each;
use crate::place::Content;
use crate::planes::Numbers;
use crate::source::{Source, hash_blobs, unreadable};
use crate::spill::{Extent, Spill};
use crate::tensors::numbers_of;
use crate::verify::placed_files;

/// Below this a frame saves less than the padding takes.
const SMALLEST: u64 = 1024;

const TEXT: [&str; 20] = [
    "c", "cfg", "csv", "h", "html", "jinja", "json", "jsonl", "md", "mlir", "po", "py", "pyi",
    "rst", "sh", "toml", "tsv", "txt", "xml", "yaml",
];

const WEIGHTS: [&str; 1] = ["safetensors"];

/// Compressing text takes some 16 MiB a thread.
const TEXT_THREADS: usize = 6;

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
            let mut work = Piece::new(&self.spill);
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
