//! GGUF's blocks of 256 values ("K-quants"), widened to `f32`.
//!
//! ```text
//! Q2_K  16 bytes: 4-bit scale, 4-bit lowest of each 16 values;  64 bytes of 2 bits;  f16 scale, f16 lowest
//! Q3_K  32 bytes of third bits;  64 bytes of 2 bits;  12 bytes: 16 scales of 6 bits;  f16 scale
//! Q4_K  f16 scale, f16 lowest;  12 bytes: 8 scales and 8 lowest of 6 bits, for 32 values each;  128 bytes of nibbles
//! Q5_K  as Q4_K, with 32 bytes of fifth bits before the nibbles
//! Q6_K  128 bytes of low nibbles;  64 bytes of high 2 bits;  16 signed scales;  f16 scale
//! ```
//!
//! The order of values inside a block is that of ggml's `dequantize_row_*` (llama.cpp, ggml-quants.c).

use super::quant::half;

/// Values in a block.
pub(super) const BLOCK: usize = 256;

pub(super) fn two(block: &[u8], values: &mut [f32]) {
    let (scales, packed) = (&block[..16], &block[16..80]);
    let (scale, lowest) = (half(block, 80), half(block, 82));
    for (at, run) in values.chunks_exact_mut(16).enumerate() {
        let factor = scale * f32::from(scales[at] & 15);
        let below = lowest * f32::from(scales[at] >> 4);
        let (bytes, shift) = quarter(packed, at);
        for (value, byte) in run.iter_mut().zip(bytes) {
            *value = factor * f32::from(byte >> shift & 3) - below;
        }
    }
}

pub(super) fn three(block: &[u8], values: &mut [f32]) {
    let (third, packed, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let scale = half(block, 108);
    for (at, run) in values.chunks_exact_mut(16).enumerate() {
        // The low nibbles of 16 scales, then their high pairs, four to a byte.
        let low = if at < 8 {
            scales[at] & 15
        } else {
            scales[at - 8] >> 4
        };
        let high = scales[8 + at % 4] >> (at / 4 * 2) & 3;
        let factor = scale * (f32::from(high << 4 | low) - 32.0);
        let (bytes, shift) = quarter(packed, at);
        let bits = &third[at % 2 * 16..];
        for ((value, byte), bit) in run.iter_mut().zip(bytes).zip(bits) {
            let lowered = if bit >> (at / 2) & 1 == 0 { 4.0 } else { 0.0 };
            *value = factor * (f32::from(byte >> shift & 3) - lowered);
        }
    }
}

/// The 16 bytes that hold run `at` of 16 two-bit values, and how far to shift them: four runs share their bytes.
fn quarter(packed: &[u8], at: usize) -> (&[u8], usize) {
    let start = at / 8 * 32 + at % 2 * 16;
    (&packed[start..start + 16], at % 8 / 2 * 2)
}

pub(super) fn four(block: &[u8], values: &mut [f32]) {
    let (scale, lowest) = (half(block, 0), half(block, 2));
    for (at, run) in values.chunks_exact_mut(32).enumerate() {
        let (factor, below) = six_bits(&block[4..16], at);
        let (factor, below) = (scale * factor, lowest * below);
        let bytes = &block[16 + at / 2 * 32..];
        for (value, byte) in run.iter_mut().zip(bytes) {
            *value = factor * f32::from(byte >> (at % 2 * 4) & 15) - below;
        }
    }
}

pub(super) fn five(block: &[u8], values: &mut [f32]) {
    let (scale, lowest) = (half(block, 0), half(block, 2));
    let fifth = &block[16..48];
    for (at, run) in values.chunks_exact_mut(32).enumerate() {
        let (factor, below) = six_bits(&block[4..16], at);
        let (factor, below) = (scale * factor, lowest * below);
        let bytes = &block[48 + at / 2 * 32..];
        for ((value, byte), bits) in run.iter_mut().zip(bytes).zip(fifth) {
            let q = byte >> (at % 2 * 4) & 15 | (bits >> at & 1) << 4;
            *value = factor * f32::from(q) - below;
        }
    }
}

/// Scale and lowest number `at` of eight, six bits each: the first four of each lie whole, the top pairs of those bytes
/// complete the last four.
fn six_bits(packed: &[u8], at: usize) -> (f32, f32) {
    let (scale, lowest) = if at < 4 {
        (packed[at] & 63, packed[at + 4] & 63)
    } else {
        (
            packed[at + 4] & 15 | packed[at - 4] >> 6 << 4,
            packed[at + 4] >> 4 | packed[at] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(lowest))
}

pub(super) fn six(block: &[u8], values: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half(block, 208);
    for (at, run) in values.chunks_exact_mut(16).enumerate() {
        let factor = scale * f32::from(i8::from_le_bytes([scales[at]]));
        // Each half of the block has four runs of 32: two in the low nibbles of 64 bytes, two in the high ones.
        let (part, row, column) = (at / 8, at % 8 / 2, at % 2 * 16);
        let bytes = &low[part * 64 + row % 2 * 32 + column..];
        let pairs = &high[part * 32 + column..];
        for ((value, byte), pair) in run.iter_mut().zip(bytes).zip(pairs) {
            let q = byte >> (row / 2 * 4) & 15 | (pair >> (row * 2) & 3) << 4;
            *value = factor * (f32::from(q) - 32.0);
        }
    }
}
