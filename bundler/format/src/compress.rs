//! Text is stored in zstd frames, one for each piece, so that a piece can be read and checked alone.
//!
//! Weights, wheels and images are stored as they are: they would save little and cost much. What is text is told by
//! the names that the profiles give a file, and only stays compressed where that saves an eighth.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use manifest_schema::{ByteSize, Digest, Frame, Profiles, Stored};
use sha2::{Digest as _, Sha256};

use crate::build_error::BuildError;
use crate::parallel::for_each;
use crate::place::Content;
use crate::source::{Source, unreadable};
use crate::verify::placed_files;

/// Part of the format's promise of equal bytes: another level would give other bytes.
const LEVEL: i32 = 9;

/// Below this a frame saves less than the padding takes.
const SMALLEST: u64 = 1024;

const TEXT: [&str; 20] = [
    "c", "cfg", "csv", "h", "html", "jinja", "json", "jsonl", "md", "mlir", "po", "py", "pyi",
    "rst", "sh", "toml", "tsv", "txt", "xml", "yaml",
];

/// Compressed frames, until they are written to the archive.
pub(crate) struct Frames {
    file: File,
    /// Where the frames of a blob begin in the file, in the order of its pieces.
    places: BTreeMap<Digest, Vec<u64>>,
}

impl Frames {
    /// Compresses the text among `sources`, notes it in `contents`, and keeps the frames in a file without a name
    /// in `folder`.
    pub(crate) fn make(
        profiles: &Profiles,
        sources: &[Source],
        contents: &mut [Content],
        options: crate::BuildOptions,
        folder: &std::path::Path,
    ) -> Result<Self, BuildError> {
        let spilled = |source| BuildError::Output {
            path: folder.to_owned(),
            source,
        };
        let mut frames = Self {
            file: tempfile::tempfile_in(folder).map_err(spilled)?,
            places: BTreeMap::new(),
        };
        let text = text_of(profiles);
        let mut jobs = Vec::new();
        for (number, content) in contents.iter().enumerate() {
            if content.size >= SMALLEST && text.contains(&content.digest) {
                jobs.extend((0..content.pieces.len()).map(|piece| (number, piece)));
            }
        }
        let end = AtomicU64::new(0);
        let made: Mutex<BTreeMap<(usize, usize), (u64, Frame)>> = Mutex::default();
        for_each(options.threads, jobs.len(), |job| {
            let (number, piece) = jobs[job];
            let expected = &contents[number].pieces[piece];
            let bytes = frame_of(
                &sources[number],
                piece as u64 * options.piece_size,
                options,
                expected,
            )?;
            let offset = end.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            frames.file.write_all_at(&bytes, offset).map_err(spilled)?;
            let frame = Frame {
                digest: Digest::of(&bytes),
                size: ByteSize(bytes.len() as u64),
            };
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            made.insert((number, piece), (offset, frame));
            Ok::<(), BuildError>(())
        })?;
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut by_blob: BTreeMap<usize, Vec<(u64, Frame)>> = BTreeMap::new();
        for ((number, _), frame) in made {
            by_blob.entry(number).or_default().push(frame);
        }
        for (number, made) in by_blob {
            frames.keep(&mut contents[number], made).map_err(spilled)?;
        }
        Ok(frames)
    }

    /// Notes a blob's frames where they save enough.
    fn keep(&mut self, content: &mut Content, made: Vec<(u64, Frame)>) -> io::Result<()> {
        let size: u64 = made.iter().map(|(_, frame)| frame.size.0).sum();
        if size > content.size / 8 * 7 {
            return Ok(());
        }
        let mut hasher = Sha256::new();
        let (mut places, mut list) = (Vec::new(), Vec::new());
        for (offset, frame) in made {
            let mut bytes = vec![0; frame.size.0 as usize];
            self.file.read_exact_at(&mut bytes, offset)?;
            hasher.update(&bytes);
            places.push(offset);
            list.push(frame);
        }
        self.places.insert(content.digest, places);
        content.stored = Some(Stored {
            digest: Digest::from_bytes(hasher.finalize().into()),
            size: ByteSize(size),
            frames: list,
        });
        Ok(())
    }

    /// The frame of a piece.
    pub(crate) fn read(&self, content: &Content, piece: usize) -> io::Result<Vec<u8>> {
        let frame = content
            .stored
            .as_ref()
            .and_then(|stored| stored.frames.get(piece));
        let place = self
            .places
            .get(&content.digest)
            .and_then(|places| places.get(piece));
        let (Some(frame), Some(place)) = (frame, place) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut bytes = vec![0; frame.size.0 as usize];
        self.file.read_exact_at(&mut bytes, *place)?;
        Ok(bytes)
    }
}

/// Blobs that some file with the name of a text is made of.
fn text_of(profiles: &Profiles) -> BTreeSet<Digest> {
    let text = |path: &str| {
        let ending = path
            .rsplit_once('.')
            .map(|(_, ending)| ending.to_ascii_lowercase());
        ending.is_some_and(|ending| TEXT.contains(&ending.as_str()))
    };
    placed_files(profiles)
        .filter(|file| text(file.path.as_str()))
        .map(|file| *file.blob())
        .collect()
}

/// One piece as a frame. The bytes were hashed before; they must be the same now.
fn frame_of(
    source: &Source,
    offset: u64,
    options: crate::BuildOptions,
    expected: &Digest,
) -> Result<Vec<u8>, BuildError> {
    let failed = unreadable(&source.path);
    let size = options.piece_size.min(source.size - offset);
    let mut plain = vec![0; size as usize];
    source
        .file
        .read_exact_at(&mut plain, offset)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(source),
            _ => failed(error),
        })?;
    if Digest::of(&plain) != *expected {
        return Err(changed(source));
    }
    zstd::bulk::compress(&plain, LEVEL).map_err(&failed)
}

fn changed(source: &Source) -> BuildError {
    BuildError::BlobChanged {
        path: source.path.clone(),
    }
}

/// Reads one frame at `offset` of `file`, hands out the at most `limit` bytes that it holds, and returns their digest.
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
