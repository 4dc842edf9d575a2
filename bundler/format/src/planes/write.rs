//! Makes frames of planes.

use std::io;

use manifest_schema::{ByteSize, Digest, Frame};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, Strategy, compress_bound};

use super::{BLOCK, ENTRY, Numbers, Run, SMALLEST_RUN};

/// Makes blocks.
pub(crate) struct Encoder {
    zstd: Compressor<'static>,
    plane: Vec<u8>,
    packed: Vec<u8>,
    planes: Vec<u8>,
}

impl Encoder {
    /// An encoder. Its settings are part of the format's promise of equal bytes.
    pub(crate) fn new() -> io::Result<Self> {
        let mut zstd = Compressor::new(1)?;
        // Noise has no repetitions but by chance, and those cost more than they save: short matches are not looked
        // for, and what is left is the entropy coder.
        for parameter in [
            CParameter::Strategy(Strategy::ZSTD_fast),
            CParameter::MinMatch(7),
            CParameter::HashLog(6),
        ] {
            zstd.set_parameter(parameter)?;
        }
        Ok(Self {
            zstd,
            plane: Vec::with_capacity(BLOCK),
            packed: vec![0; compress_bound(BLOCK)],
            planes: Vec::with_capacity(BLOCK),
        })
    }

    /// Encodes the block whose bytes begin at `start` of the blob, appends it to `out` and returns its entry.
    pub(crate) fn block(
        &mut self,
        plain: &[u8],
        start: u64,
        numbers: &[Numbers],
        out: &mut Vec<u8>,
    ) -> io::Result<[u8; ENTRY]> {
        let begin = out.len();
        let runs = runs(plain.len(), start, numbers);
        out.extend((runs.len() as u16).to_le_bytes());
        for run in &runs {
            out.push(run.width);
            out.extend((run.size as u32).to_le_bytes());
        }
        self.planes.clear();
        let mut rest = plain;
        for run in &runs {
            let (bytes, after) = rest.split_at(run.size);
            for plane in 0..run.width {
                self.plane.clear();
                self.plane.resize(run.size / usize::from(run.width), 0);
                split(bytes, run.width, plane, &mut self.plane);
                let size = self
                    .zstd
                    .compress_to_buffer(&self.plane, &mut self.packed)?;
                // A little saved is not worth the decoding.
                let stored = if size < self.plane.len() / 32 * 31 {
                    &self.packed[..size]
                } else {
                    &self.plane
                };
                out.extend((stored.len() as u32).to_le_bytes());
                self.planes.extend_from_slice(stored);
            }
            rest = after;
        }
        out.extend_from_slice(&self.planes);
        let block = &out[begin..];
        let mut entry = [0; ENTRY];
        entry[..4].copy_from_slice(&(block.len() as u32).to_le_bytes());
        entry[4..].copy_from_slice(Digest::of(block).as_bytes());
        Ok(entry)
    }
}

/// The frame that a head and `stored` bytes of blocks make.
pub(crate) fn frame(head: &[u8], stored: u64) -> Frame {
    Frame {
        digest: Digest::of(head),
        size: ByteSize(head.len() as u64 + stored),
    }
}

/// Cuts a block where the width of its numbers changes. What is no whole number is of width 1.
pub(super) fn runs(size: usize, start: u64, numbers: &[Numbers]) -> Vec<Run> {
    let end = start + size as u64;
    let mut runs = Vec::new();
    let mut at = start;
    let mut push = |width: u8, from: u64, to: u64| {
        if to > from {
            let size = (to - from) as usize;
            runs.push(Run { width, size });
        }
    };
    let first = numbers.partition_point(|found| found.end <= start);
    for found in numbers[first..]
        .iter()
        .take_while(|found| found.start < end)
    {
        let width = u64::from(found.width);
        let whole = |place: u64| found.start + (place - found.start).next_multiple_of(width);
        let from = whole(found.start.max(start));
        let to = found.end.min(end);
        let to = to - (to - found.start) % width;
        if to.saturating_sub(from) >= SMALLEST_RUN {
            push(1, at, from);
            push(found.width, from, to);
            at = to;
        }
    }
    push(1, at, end);
    runs
}

/// Takes one plane out of `bytes`.
fn split(bytes: &[u8], width: u8, plane: u8, out: &mut [u8]) {
    let shift = 8 * u32::from(plane);
    match width {
        2 => {
            for (number, byte) in bytes.as_chunks().0.iter().zip(out) {
                *byte = (u16::from_le_bytes(*number).rotate_left(1) >> shift) as u8;
            }
        }
        4 => {
            for (number, byte) in bytes.as_chunks().0.iter().zip(out) {
                *byte = (u32::from_le_bytes(*number).rotate_left(1) >> shift) as u8;
            }
        }
        _ => out.copy_from_slice(bytes),
    }
}
