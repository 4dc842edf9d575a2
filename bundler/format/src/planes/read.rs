//! Reads frames of planes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use manifest_schema::{Digest, Frame};
use sha2::{Digest as _, Sha256};
use zstd::bulk::Decompressor;

use super::{BLOCK, ENTRY, MAX_DESCRIPTION, MAX_RUNS, Run, blocks};

/// Reads blocks.
pub(super) struct Decoder {
    zstd: Decompressor<'static>,
    planes: Vec<u8>,
}

impl Decoder {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            zstd: Decompressor::new()?,
            planes: Vec::with_capacity(BLOCK),
        })
    }

    /// Decodes a block that holds exactly the bytes of `out`; `None` where it does not.
    ///
    /// Every size is compared with what is there before it is used, so no block can ask for more memory than `out`.
    pub(super) fn block(&mut self, block: &[u8], out: &mut [u8]) -> Option<()> {
        let mut rest = block;
        let count = usize::from(u16::from_le_bytes(take(&mut rest)?));
        if count > MAX_RUNS {
            return None;
        }
        let mut runs = Vec::with_capacity(count);
        let mut left = out.len();
        for _ in 0..count {
            let [width] = take(&mut rest)?;
            let size = u32::from_le_bytes(take(&mut rest)?) as usize;
            let sound =
                matches!(width, 1 | 2 | 4) && size > 0 && size.is_multiple_of(usize::from(width));
            left = left.checked_sub(size).filter(|_| sound)?;
            runs.push(Run { width, size });
        }
        if left > 0 {
            return None;
        }
        let planes: usize = runs.iter().map(|run| usize::from(run.width)).sum();
        let (sizes, mut stored) = rest.split_at_checked(planes * 4)?;
        let mut sizes = sizes.as_chunks().0.iter();
        let mut out = out;
        for run in runs {
            let (bytes, after) = out.split_at_mut(run.size);
            self.planes.resize(run.size, 0);
            for plane in self
                .planes
                .chunks_exact_mut(run.size / usize::from(run.width))
            {
                let size = u32::from_le_bytes(*sizes.next()?) as usize;
                let packed;
                (packed, stored) = stored.split_at_checked(size)?;
                if size == plane.len() {
                    plane.copy_from_slice(packed);
                } else if size > plane.len()
                    || self.zstd.decompress_to_buffer(packed, plane).ok()? != plane.len()
                {
                    return None;
                }
            }
            join(&self.planes, run.width, bytes);
            out = after;
        }
        stored.is_empty().then_some(())
    }
}

/// Takes the first bytes of `rest`.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
}

/// Reads one frame at `offset` of `file`, hands out the `size` bytes of the piece that it holds, and returns their digest.
///
/// A head or a block that is not as it was signed is not decoded. The piece then ends early, which its digest shows.
pub(crate) fn read_frame<E: From<io::Error>>(
    file: &File,
    offset: u64,
    frame: &Frame,
    size: u64,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<Digest, E> {
    let mut hasher = Sha256::new();
    let mut head = vec![0; blocks(size) * ENTRY];
    let end = offset + frame.size.0;
    let mut at = offset + head.len() as u64;
    if at <= end {
        file.read_exact_at(&mut head, offset)?;
    }
    if Digest::of(&head) != frame.digest {
        return Ok(Digest::of(b""));
    }
    let mut decoder = Decoder::new()?;
    let (mut stored, mut plain) = (Vec::new(), vec![0; size.min(BLOCK as u64) as usize]);
    let mut done = 0;
    for entry in head.as_chunks::<ENTRY>().0 {
        let (length, digest) = entry.split_at(4);
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        if length as usize > BLOCK + MAX_DESCRIPTION || at + u64::from(length) > end {
            break;
        }
        stored.resize(length as usize, 0);
        file.read_exact_at(&mut stored, at)?;
        let out = &mut plain[..(size - done).min(BLOCK as u64) as usize];
        if Digest::of(&stored).as_bytes() != digest || decoder.block(&stored, out).is_none() {
            break;
        }
        hasher.update(&*out);
        take(done, out)?;
        done += out.len() as u64;
        at += u64::from(length);
    }
    if at != end {
        return Ok(Digest::of(b""));
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// Puts planes together again.
fn join(planes: &[u8], width: u8, out: &mut [u8]) {
    let count = out.len() / usize::from(width);
    match width {
        2 => {
            let (low, high) = planes.split_at(count);
            let numbers = out.as_chunks_mut().0.iter_mut();
            for ((number, low), high) in numbers.zip(low).zip(high) {
                *number = u16::from_le_bytes([*low, *high])
                    .rotate_right(1)
                    .to_le_bytes();
            }
        }
        4 => {
            let (a, rest) = planes.split_at(count);
            let (b, rest) = rest.split_at(count);
            let (c, d) = rest.split_at(count);
            let numbers = out.as_chunks_mut().0.iter_mut();
            for ((((number, a), b), c), d) in numbers.zip(a).zip(b).zip(c).zip(d) {
                *number = u32::from_le_bytes([*a, *b, *c, *d])
                    .rotate_right(1)
                    .to_le_bytes();
            }
        }
        _ => out.copy_from_slice(planes),
    }
}
