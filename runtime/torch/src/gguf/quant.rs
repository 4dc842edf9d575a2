//! Number formats of GGUF, widened to `f32`.
//!
//! ```text
//! Q4_0  f16 scale,             16 bytes: value i in the low half of byte i, value i + 16 in the high half; (q - 8) * scale
//! Q4_1  f16 scale, f16 lowest, 16 bytes, same order;                                                        q * scale + lowest
//! Q8_0  f16 scale,             32 signed bytes;                                                             q * scale
//! ```

use half::{bf16, f16};

/// The formats, as error messages name them.
pub(crate) const KNOWN: &str = "F32, F16, BF16, Q4_0, Q4_1, Q8_0";

/// Values in a quantised block.
const BLOCK: usize = 32;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    F32,
    F16,
    Bf16,
    Q4Zero,
    Q4One,
    Q8Zero,
}

impl Format {
    /// The format with GGML's number `kind`.
    pub(crate) fn of(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4Zero,
            3 => Self::Q4One,
            8 => Self::Q8Zero,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Values that are stored together.
    pub(crate) fn block(self) -> u64 {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4Zero | Self::Q4One | Self::Q8Zero => BLOCK as u64,
        }
    }

    /// Bytes of that many values.
    pub(crate) fn block_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4Zero => 18,
            Self::Q4One => 20,
            Self::Q8Zero => 34,
        }
    }

    /// The values of whole blocks; a rest shorter than a block is ignored.
    pub(crate) fn widen(self, bytes: &[u8]) -> Vec<f32> {
        let blocks = bytes.chunks_exact(self.block_bytes() as usize);
        let mut values = Vec::with_capacity(blocks.len() * self.block() as usize);
        for block in blocks {
            let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
            match self {
                Self::F32 => {
                    values.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]]));
                }
                Self::F16 => values.push(half(0)),
                Self::Bf16 => values.push(bf16::from_le_bytes([block[0], block[1]]).to_f32()),
                Self::Q4Zero => {
                    let scale = half(0);
                    values.extend(nibbles(&block[2..]).map(|q| (f32::from(q) - 8.0) * scale));
                }
                Self::Q4One => {
                    let (scale, lowest) = (half(0), half(2));
                    values.extend(nibbles(&block[4..]).map(|q| f32::from(q) * scale + lowest));
                }
                Self::Q8Zero => {
                    let scale = half(0);
                    let signed = block[2..].iter().map(|q| i8::from_le_bytes([*q]));
                    values.extend(signed.map(|q| f32::from(q) * scale));
                }
            }
        }
        values
    }
}

fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let low = bytes.iter().map(|byte| byte & 15);
    low.chain(bytes.iter().map(|byte| byte >> 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_widen_to_the_values_that_were_packed() {
        let scale = f16::from_f32(0.5).to_le_bytes();
        let lowest = f16::from_f32(-3.0).to_le_bytes();
        // Byte i holds i in the low half and 15 - i in the high half.
        let packed: Vec<u8> = (0..16).map(|i| i | (15 - i) << 4).collect();
        let q4_zero = Format::Q4Zero.widen(&[&scale[..], &packed].concat());
        assert_eq!((q4_zero[0], q4_zero[15], q4_zero[16]), (-4.0, 3.5, 3.5));
        let q4_one = Format::Q4One.widen(&[&scale[..], &lowest, &packed].concat());
        assert_eq!((q4_one[0], q4_one[2], q4_one[31]), (-3.0, -2.0, -3.0));
        let signed: Vec<u8> = (0..32).map(|i| (i - 16_i8).cast_unsigned()).collect();
        let q8 = Format::Q8Zero.widen(&[&scale[..], &signed].concat());
        assert_eq!((q8[0], q8[16], q8[31]), (-8.0, 0.0, 7.5));
        for format in [Format::Q4Zero, Format::Q4One, Format::Q8Zero] {
            let blocks = vec![0; 3 * format.block_bytes() as usize];
            assert_eq!(format.widen(&blocks).len(), 96);
        }
    }
}
