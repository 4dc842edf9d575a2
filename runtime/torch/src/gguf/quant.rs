//! Number formats of GGUF, widened to `f32`.
//!
//! ```text
//! 32 values in a block
//! Q4_0  f16 scale,              16 bytes of nibbles;                 (q - 8) * scale
//! Q4_1  f16 scale, f16 lowest,  16 bytes of nibbles;                 q * scale + lowest
//! Q5_0  f16 scale,              u32 fifth bits, 16 bytes of nibbles; (q - 16) * scale
//! Q5_1  f16 scale, f16 lowest,  u32 fifth bits, 16 bytes of nibbles; q * scale + lowest
//! Q8_0  f16 scale,              32 signed bytes;                     q * scale
//! ```
//!
//! Byte i of nibbles holds value i in its low half and value i + 16 in its high half. The blocks of 256 values are
//! drawn in [`super::quant_k`].

use half::{bf16, f16};

use super::quant_k;

/// The formats, as error messages name them.
pub(crate) const KNOWN: &str =
    "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K";

/// Values in a block of the older formats.
const BLOCK: usize = 32;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    F32,
    F16,
    Bf16,
    Q4Zero,
    Q4One,
    Q5Zero,
    Q5One,
    Q8Zero,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

impl Format {
    /// The format with GGML's number `kind`.
    pub(crate) fn of(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4Zero,
            3 => Self::Q4One,
            6 => Self::Q5Zero,
            7 => Self::Q5One,
            8 => Self::Q8Zero,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Values that are stored together.
    pub(crate) fn block(self) -> u64 {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4Zero | Self::Q4One | Self::Q5Zero | Self::Q5One | Self::Q8Zero => BLOCK as u64,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => quant_k::BLOCK as u64,
        }
    }

    /// Bytes of that many values.
    pub(crate) fn block_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4Zero => 18,
            Self::Q4One => 20,
            Self::Q5Zero => 22,
            Self::Q5One => 24,
            Self::Q8Zero => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Fills `values` from whole blocks. The caller has checked that `bytes` holds as many values as there is room for.
    pub(crate) fn widen(self, bytes: &[u8], values: &mut [f32]) {
        let blocks = bytes
            .chunks_exact(self.block_bytes() as usize)
            .zip(values.chunks_exact_mut(self.block() as usize));
        match self {
            Self::F32 => {
                blocks.for_each(|(b, v)| v[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            }
            Self::F16 => blocks.for_each(|(b, v)| v[0] = half(b, 0)),
            Self::Bf16 => {
                blocks.for_each(|(b, v)| v[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32());
            }
            Self::Q4Zero => blocks.for_each(|(b, v)| nibbles(&b[2..], half(b, 0), -8.0, 0.0, v)),
            Self::Q4One => {
                blocks.for_each(|(b, v)| nibbles(&b[4..], half(b, 0), 0.0, half(b, 2), v));
            }
            Self::Q5Zero => blocks.for_each(|(b, v)| fives(&b[2..], half(b, 0), -16.0, 0.0, v)),
            Self::Q5One => blocks.for_each(|(b, v)| fives(&b[4..], half(b, 0), 0.0, half(b, 2), v)),
            Self::Q8Zero => blocks.for_each(|(b, v)| {
                let scale = half(b, 0);
                for (value, byte) in v.iter_mut().zip(&b[2..]) {
                    *value = f32::from(i8::from_le_bytes([*byte])) * scale;
                }
            }),
            Self::Q2K => blocks.for_each(|(b, v)| quant_k::two(b, v)),
            Self::Q3K => blocks.for_each(|(b, v)| quant_k::three(b, v)),
            Self::Q4K => blocks.for_each(|(b, v)| quant_k::four(b, v)),
            Self::Q5K => blocks.for_each(|(b, v)| quant_k::five(b, v)),
            Self::Q6K => blocks.for_each(|(b, v)| quant_k::six(b, v)),
        }
    }
}

/// The `f16` at byte `at`.
pub(super) fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// `(q + shift) * scale + lowest` of 16 bytes of nibbles.
fn nibbles(bytes: &[u8], scale: f32, shift: f32, lowest: f32, values: &mut [f32]) {
    let (low, high) = values.split_at_mut(BLOCK / 2);
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = (f32::from(byte & 15) + shift) * scale + lowest;
        *high = (f32::from(byte >> 4) + shift) * scale + lowest;
    }
}

/// The same with a fifth bit of each value in front.
fn fives(bytes: &[u8], scale: f32, shift: f32, lowest: f32, values: &mut [f32]) {
    let fifth = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let (low, high) = values.split_at_mut(BLOCK / 2);
    for (at, ((byte, low), high)) in bytes[4..].iter().zip(low).zip(high).enumerate() {
        let bit = |place: usize| ((fifth >> place & 1) << 4) as u8;
        *low = (f32::from(byte & 15 | bit(at)) + shift) * scale + lowest;
        *high = (f32::from(byte >> 4 | bit(at + BLOCK / 2)) + shift) * scale + lowest;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Two blocks of each format and what the `gguf` package 0.19 makes of them.
    const VECTORS: &str = include_str!("../../../../tests/golden/vectors/gguf.json");

    #[test]
    fn every_format_widens_to_the_values_of_the_reference() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let cases = vectors["formats"].as_array().unwrap();
        assert_eq!(cases.len(), 13);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let format = Format::of(case["type"].as_u64().unwrap() as u32).unwrap();
            let bytes: Vec<u8> = case["bytes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|byte| byte.as_u64().unwrap() as u8)
                .collect();
            let wanted: Vec<u32> = case["bits"]
                .as_array()
                .unwrap()
                .iter()
                .map(|bits| bits.as_u64().unwrap() as u32)
                .collect();
            assert_eq!(
                bytes.len() as u64 / format.block_bytes() * format.block(),
                wanted.len() as u64,
                "{name}"
            );
            let mut found = vec![f32::NAN; wanted.len()];
            format.widen(&bytes, &mut found);
            for (at, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                let wanted = f32::from_bits(*wanted);
                let gap = (found - wanted).abs();
                // The reference may round a product before it subtracts; one unit in the last place is allowed.
                assert!(
                    gap <= wanted.abs() * f32::EPSILON * 2.0 + 1e-7,
                    "{name}[{at}]: {found} against {wanted}"
                );
            }
        }
    }

    #[test]
    fn a_format_that_is_not_known_has_no_size() {
        for kind in [4, 5, 9, 15, 16, 31, 255] {
            assert_eq!(Format::of(kind), None, "{kind}");
        }
    }
}
