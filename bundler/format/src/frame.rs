//! Frames: a piece of text or weights as it is stored, and text as it comes back.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt;

use manifest_schema::{ByteSize, Digest, Frame};
use sha2::{Digest as _, Sha256};

use crate::parallel::{Budget, hash_range};
use crate::planes::{self, Numbers};
use crate::source::Source;
use crate::spill::{Extent, Spill};

/// Part of the format's promise of equal bytes: another level would give other bytes.
const LEVEL: i32 = 9;

/// Bytes of a frame that are gathered before they are spilled.
const GATHERED: usize = 1 << 20;

/// Why no frame was made.
pub(crate) enum Halt {
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
pub(crate) struct Piece<'a> {
    spill: &'a Spill,
    gathered: Vec<u8>,
    /// Where its frame is, once it is made.
    pub(crate) extents: Vec<Extent>,
}

impl<'a> Piece<'a> {
    /// A piece whose frame is kept in `spill`.
    pub(crate) fn new(spill: &'a Spill) -> Self {
        Self {
            spill,
            gathered: Vec::new(),
            extents: Vec::new(),
        }
    }

    /// Compresses the piece of `size` bytes from `start` on.
    pub(crate) fn text(
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

    /// Takes it apart into planes.
    pub(crate) fn weights(
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
