//! Weights in four bits, byte for byte as bitsandbytes packs them (QLoRA, Dettmers et al. 2023). One thing may differ: a
//! scale within a hundred-thousandth of the middle between two of the 256 values, which bitsandbytes' CPU code rounds
//! now up, now down; here the nearer one is taken.
//!
//! ```text
//! numbers   in blocks of 64 along the rows, each over its block's largest magnitude: the nearest of sixteen values;
//!           two to a byte, the first in the high half
//! scales    that magnitude, f32; doubly quantised: minus the mean of all, in blocks of 256, each over its block's
//!           largest magnitude: the nearest of 256 values, one byte
//! ```
//!
//! 4.5 bits a number; 4.13 when doubly quantised. A matrix is widened each time it is used, and not kept.

use std::cmp::Ordering;
use std::sync::LazyLock;

use rayon::prelude::*;
use tch::{Kind, Tensor};

use crate::BackendError;
use crate::dynamic_map::DYNAMIC;
use crate::settings::FourBitCode;
use crate::weight::Compact;

/// Numbers that share a scale.
pub(crate) const BLOCK: usize = 64;
/// Scales that share a scale of theirs.
pub(crate) const SCALES: usize = 256;
/// Blocks that one thread works on at a time.
const PIECE: usize = 1024;

impl FourBitCode {
    /// The value that each four-bit number stands for.
    pub(crate) fn values(self) -> [f32; 16] {
        match self {
            // QLoRA's published table: bitsandbytes `create_normal_map`.
            Self::Nf4 => [
                -1.0,
                -0.696_192_8,
                -0.525_073_05,
                -0.394_917_5,
                -0.284_441_38,
                -0.184_773_43,
                -0.091_050_036,
                0.0,
                0.079_580_3,
                0.160_930_2,
                0.246_112_3,
                0.337_915_24,
                0.440_709_83,
                0.562_617,
                0.722_956_84,
                1.0,
            ],
            // One sign, two exponent, one fraction bit; the table of bitsandbytes over its largest, 12.
            Self::Fp4 => [
                0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0, -0.0, -0.0625, -8.0, -12.0, -4.0, -6.0,
                -2.0, -3.0,
            ]
            .map(|value| value / 12.0),
        }
    }
}

/// The nearest of some values, found by the bounds between them.
struct Nearest {
    bounds: Vec<f32>,
    /// The number of the value below each bound, and of the one above all.
    numbers: Vec<u8>,
}

impl Nearest {
    fn of(values: &[f32]) -> Self {
        let mut order: Vec<u8> = (0..=(values.len() - 1) as u8).collect();
        // Zero stands twice in FP4. The sort leaves plus before minus, as that of bitsandbytes does, so that the smallest
        // numbers above zero become minus zero; both mean the same.
        order.sort_by(|a, b| {
            let [a, b] = [a, b].map(|number| values[usize::from(*number)]);
            a.partial_cmp(&b).unwrap_or(Ordering::Equal)
        });
        let bounds = order
            .windows(2)
            .map(|pair| f32::midpoint(values[usize::from(pair[0])], values[usize::from(pair[1])]));
        Self {
            bounds: bounds.collect(),
            numbers: order,
        }
    }

    fn number(&self, value: f32) -> u8 {
        self.numbers[self.bounds.partition_point(|bound| *bound < value)]
    }
}

/// The 256 values of the scales' numbers: those of the table, the same below zero, zero and one.
pub(crate) static SCALE_VALUES: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let below = DYNAMIC.iter().rev().map(|value| -value);
    below.chain([0.0]).chain(DYNAMIC).chain([1.0]).collect()
});

/// The scale of each block.
#[derive(Debug)]
pub(crate) enum Scales {
    Plain(Vec<f32>),
    Double {
        numbers: Vec<u8>,
        scales: Vec<f32>,
        offset: f32,
    },
}

/// A matrix in four bits, in the processor's memory.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) rows: i64,
    pub(crate) columns: i64,
    pub(crate) code: FourBitCode,
    pub(crate) bytes: Vec<u8>,
    pub(crate) scales: Scales,
}

impl Packed {
    /// Packs a matrix.
    pub(crate) fn of(
        matrix: &Tensor,
        code: FourBitCode,
        double: bool,
    ) -> Result<Self, BackendError> {
        let (rows, columns) = matrix.size2()?;
        let flat = matrix
            .f_to_kind(Kind::Float)?
            .f_contiguous()?
            .f_view([-1])?;
        let mut values = vec![0.0_f32; flat.numel()];
        flat.f_copy_data(&mut values, flat.numel())?;
        let nearest = Nearest::of(&code.values());
        let mut bytes = vec![0_u8; values.len().div_ceil(2)];
        let mut scales = vec![0.0_f32; values.len().div_ceil(BLOCK)];
        bytes
            .par_chunks_mut(PIECE * BLOCK / 2)
            .zip(values.par_chunks(PIECE * BLOCK))
            .zip(scales.par_chunks_mut(PIECE))
            .for_each(|((bytes, values), scales)| {
                let blocks = bytes.chunks_mut(BLOCK / 2).zip(values.chunks(BLOCK));
                for ((bytes, values), scale) in blocks.zip(scales) {
                    *scale = values.iter().fold(0.0, |most, value| most.max(value.abs()));
                    pack_block(&nearest, values, *scale, bytes);
                }
            });
        let scales = if double {
            Scales::double(&scales)?
        } else {
            Scales::Plain(scales)
        };
        Ok(Self {
            rows,
            columns,
            code,
            bytes,
            scales,
        })
    }
}

impl Compact for Packed {
    fn size(&self) -> (i64, i64) {
        (self.rows, self.columns)
    }

    fn widen(&self) -> Result<Tensor, BackendError> {
        let count = (self.rows * self.columns) as usize;
        let mut values = vec![0.0_f32; count];
        let codes = self.code.values();
        let scales = self.scales.widen();
        values
            .par_chunks_mut(PIECE * BLOCK)
            .zip(self.bytes.par_chunks(PIECE * BLOCK / 2))
            .zip(scales.par_chunks(PIECE))
            .for_each(|((values, bytes), scales)| {
                let blocks = values.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK / 2));
                for ((values, bytes), scale) in blocks.zip(scales) {
                    let wide = codes.map(|code| code * scale);
                    for (pair, byte) in values.chunks_mut(2).zip(bytes) {
                        pair[0] = wide[usize::from(byte >> 4)];
                        if let Some(second) = pair.get_mut(1) {
                            *second = wide[usize::from(byte & 15)];
                        }
                    }
                }
            });
        Ok(Tensor::f_from_slice(&values)?.f_view([self.rows, self.columns])?)
    }
}

fn pack_block(nearest: &Nearest, values: &[f32], scale: f32, bytes: &mut [u8]) {
    // A block of zeros has no scale; its numbers are the code of zero.
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let number = |value: f32| nearest.number((value * inverse).clamp(-1.0, 1.0));
    for (pair, byte) in values.chunks(2).zip(bytes) {
        let second = pair.get(1).copied().unwrap_or(0.0);
        *byte = number(pair[0]) << 4 | number(second);
    }
}

impl Scales {
    fn double(scales: &[f32]) -> Result<Self, BackendError> {
        // libtorch's mean, so that the sum is rounded as the original rounds it.
        let offset = Tensor::f_from_slice(scales)?
            .f_mean(Kind::Float)?
            .f_double_value(&[])? as f32;
        let nearest = Nearest::of(&SCALE_VALUES);
        let mut numbers = Vec::with_capacity(scales.len());
        let mut largest = Vec::with_capacity(scales.len().div_ceil(SCALES));
        for block in scales.chunks(SCALES) {
            let most = block
                .iter()
                .fold(0.0_f32, |most, scale| most.max((scale - offset).abs()));
            let number = |scale: &f32| {
                let share = if most > 0.0 {
                    (scale - offset) / most
                } else {
                    0.0
                };
                nearest.number(share)
            };
            numbers.extend(block.iter().map(number));
            largest.push(most);
        }
        Ok(Self::Double {
            numbers,
            scales: largest,
            offset,
        })
    }

    fn widen(&self) -> Vec<f32> {
        match self {
            Self::Plain(scales) => scales.clone(),
            Self::Double {
                numbers,
                scales,
                offset,
            } => {
                let blocks = numbers.chunks(SCALES).zip(scales);
                blocks
                    .flat_map(|(numbers, scale)| {
                        numbers
                            .iter()
                            .map(move |number| SCALE_VALUES[usize::from(*number)] * scale + offset)
                    })
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn vectors(name: &str) -> BTreeMap<String, Tensor> {
        let path = format!(
            "{}/../../tests/golden/vectors/{name}.safetensors",
            env!("CARGO_MANIFEST_DIR")
        );
        Tensor::read_safetensors(path)
            .unwrap()
            .into_iter()
            .collect()
    }

    fn bytes(tensor: &Tensor) -> Vec<u8> {
        Vec::<u8>::try_from(&tensor.reshape([-1])).unwrap()
    }

    fn floats(tensor: &Tensor) -> Vec<f32> {
        Vec::<f32>::try_from(&tensor.reshape([-1])).unwrap()
    }

    fn gap(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn the_codes_are_bitsandbytes_codes() {
        let nf4 = vectors("nf4");
        assert_eq!(*SCALE_VALUES, floats(&nf4["absmax_code"]));
    }

    #[test]
    fn matrices_pack_to_the_bytes_of_bitsandbytes() {
        for (file, code, least) in [("nf4", FourBitCode::Nf4, 5), ("fp4", FourBitCode::Fp4, 3)] {
            let all = vectors(file);
            let inputs: Vec<&String> = all
                .keys()
                .filter(|key| key.strip_suffix(".input").is_some())
                .collect();
            assert!(inputs.len() >= least, "{file}");
            for input in inputs {
                let name = input.trim_end_matches(".input");
                let at = |rest: &str| &all[&format!("{name}.{rest}")];
                let packed = Packed::of(&all[input], code, false).unwrap();
                assert!(
                    packed.bytes == bytes(at("single.qweight")),
                    "{file}: {name}"
                );
                let Scales::Plain(scales) = &packed.scales else {
                    panic!("{name}");
                };
                assert_eq!(*scales, floats(at("single.absmax")), "{name}");
                let off = gap(&packed.widen().unwrap(), at("single.dequant"));
                assert!(off == 0.0, "{name}: {off}");

                let packed = Packed::of(&all[input], code, true).unwrap();
                assert!(
                    packed.bytes == bytes(at("double.qweight")),
                    "{file}: {name}"
                );
                let Scales::Double {
                    numbers,
                    scales,
                    offset,
                } = &packed.scales
                else {
                    panic!("{name}");
                };
                let wanted = floats(at("double.absmax_offset"))[0];
                assert_eq!(offset.to_bits(), wanted.to_bits(), "{name}");
                assert_eq!(*scales, floats(at("double.absmax2")), "{name}");
                let (bare, wanted) = (floats(at("single.absmax")), bytes(at("double.absmax")));
                assert_eq!(numbers.len(), wanted.len(), "{name}");
                for (place, (found, wanted)) in numbers.iter().zip(&wanted).enumerate() {
                    let share = (bare[place] - offset) / scales[place / SCALES];
                    let [found, wanted] = [found, wanted].map(|n| SCALE_VALUES[usize::from(*n)]);
                    let tie = (share - f32::midpoint(found, wanted)).abs() < 1e-5;
                    assert!(
                        (found - wanted).abs() == 0.0 || tie,
                        "{name}, scale {place}"
                    );
                }
                let wanted = at("double.dequant");
                let off = gap(&packed.widen().unwrap(), wanted);
                let most = wanted.abs().max().double_value(&[]);
                assert!(off <= 1e-2 * most, "{name}: {off}");
            }
        }
    }

    #[test]
    fn every_code_survives_packing() {
        for code in [FourBitCode::Nf4, FourBitCode::Fp4] {
            let values: Vec<f32> = code.values().into_iter().cycle().take(130).collect();
            let matrix = Tensor::from_slice(&values).view([2, 65]);
            let back = Packed::of(&matrix, code, false).unwrap().widen().unwrap();
            assert!(gap(&back, &matrix) == 0.0, "{code:?}");
        }
    }
}
