//! Weights in planes: the exponents of a tensor's numbers are alike, their mantissas are noise.
//!
//! ```text
//! frame = head, block, block …           one frame for each piece of a blob
//! head  = for each block: bytes of it (u32), SHA-256 of it          36 bytes each; the index has the head's digest
//! block = count of runs (u16)            256 KiB of the piece; the last one is shorter
//!         for each run:   width (u8: 1, 2 or 4), bytes of it (u32)
//!         for each plane: bytes stored (u32), in the order below
//!         the planes: of the first run the least significant, then the next, then those of the second run …
//! ```
//!
//! Integers are little-endian. A run of width 2 or 4 is whole numbers of that many bytes: each is read as a
//! little-endian integer and turned left by one bit, so that the exponent fills the highest byte and the sign joins the
//! mantissa; plane *n* is byte *n* of each. A run of width 1 is its own plane. A plane that is stored in as many
//! bytes as it has is stored as it is; in fewer, as one zstd frame.
//!
//! Blocks are small, so that a reader needs little memory, and nothing reaches a decoder before its digest held.

mod read;
mod write;

pub(crate) use read::read_frame;
pub(crate) use write::{Encoder, frame};

/// Bytes of a piece that one block holds. A plane of a width of 2 is then one block of zstd's own.
pub(crate) const BLOCK: usize = 256 * 1024;

/// Bytes of the head for each block.
const ENTRY: usize = 36;

/// A run of numbers shorter than this is not worth its description.
const SMALLEST_RUN: u64 = 2048;

/// Most runs of a block: of numbers, and what lies before, between and behind them.
const MAX_RUNS: usize = 2 * (BLOCK / SMALLEST_RUN as usize) + 1;

/// Most that the description of a block takes.
const MAX_DESCRIPTION: usize = 2 + MAX_RUNS * (1 + 4 + 4 * 4);

/// Numbers of one width in a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Numbers {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Bytes of each: 2 or 4.
    pub(crate) width: u8,
}

/// Consecutive bytes of a block that are split alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Run {
    width: u8,
    size: usize,
}

/// Blocks that a piece of `size` bytes has.
fn blocks(size: u64) -> usize {
    size.div_ceil(BLOCK as u64) as usize
}

/// Most bytes that the frame of a piece of `size` bytes may have.
pub(crate) fn largest_frame(size: u64) -> u64 {
    size + (blocks(size) * (ENTRY + MAX_DESCRIPTION)) as u64
}

#[cfg(test)]
mod tests;
