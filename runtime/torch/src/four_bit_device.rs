//! Four-bit weights that lie on a device, and are widened there by libtorch's general operations, which every vendor's
//! library has.
//!
//! ```text
//! bytes    u8, [blocks * 32]          --embedding--> [bytes, 2] numbers of the code
//! scales   f32, [blocks]; doubly quantised: u8, [blocks] --embedding--> [nested, 256] * [nested, 1] + offset
//! ```
//!
//! The last block of each kind is filled up, so that every one is whole. The products are those that the processor makes, to
//! the last bit.

use tch::{Kind, Tensor};
use torch_device::Place;

use crate::BackendError;
use crate::four_bit::{BLOCK, Packed, SCALE_VALUES, SCALES, Scales};
use crate::weight::Compact;

/// A matrix in four bits on a device.
#[derive(Debug)]
pub(crate) struct DevicePacked {
    rows: i64,
    columns: i64,
    bytes: Tensor,
    /// The two numbers that each byte stands for, `[256, 2]`.
    pairs: Tensor,
    scales: DeviceScales,
}

#[derive(Debug)]
enum DeviceScales {
    Plain(Tensor),
    Double {
        numbers: Tensor,
        /// What each of the numbers stands for, `[256]`.
        values: Tensor,
        scales: Tensor,
        offset: f64,
    },
}

impl DevicePacked {
    /// Takes a matrix to `place`.
    pub(crate) fn of(packed: &Packed, place: Place) -> Result<Self, BackendError> {
        let (rows, columns) = packed.size();
        let blocks = ((rows * columns) as usize).div_ceil(BLOCK);
        let code = packed.code.values();
        let pairs: Vec<f32> = (0..=u8::MAX)
            .flat_map(|byte| [code[usize::from(byte >> 4)], code[usize::from(byte & 15)]])
            .collect();
        Ok(Self {
            rows,
            columns,
            bytes: place.of_slice(&filled(&packed.bytes, blocks * BLOCK / 2))?,
            pairs: place.of_slice(&pairs)?.f_view([-1, 2])?,
            scales: match &packed.scales {
                Scales::Plain(scales) => DeviceScales::Plain(place.of_slice(scales)?),
                Scales::Double {
                    numbers,
                    scales,
                    offset,
                } => DeviceScales::Double {
                    numbers: place.of_slice(&filled(numbers, scales.len() * SCALES))?,
                    values: place.of_slice(&SCALE_VALUES)?.f_view([-1, 1])?,
                    scales: place.of_slice(scales)?,
                    offset: f64::from(*offset),
                },
            },
        })
    }
}

impl Compact for DevicePacked {
    fn place(&self) -> Place {
        Place::of(&self.bytes)
    }

    fn size(&self) -> (i64, i64) {
        (self.rows, self.columns)
    }

    fn widen(&self) -> Result<Tensor, BackendError> {
        let scales = match &self.scales {
            DeviceScales::Plain(scales) => scales.shallow_clone(),
            DeviceScales::Double {
                numbers,
                values,
                scales,
                offset,
            } => looked_up(values, numbers)?
                .f_view([-1, SCALES as i64])?
                .f_mul_(&scales.f_unsqueeze(1)?)?
                .f_add_scalar_(*offset)?
                .f_view([-1])?,
        };
        let blocks = (self.bytes.numel() * 2 / BLOCK) as i64;
        let values = looked_up(&self.pairs, &self.bytes)?
            .f_view([blocks, BLOCK as i64])?
            .f_mul_(&scales.f_narrow(0, 0, blocks)?.f_unsqueeze(1)?)?;
        Ok(values
            .f_view([-1])?
            .f_narrow(0, 0, self.rows * self.columns)?
            .f_view([self.rows, self.columns])?)
    }
}

/// The row of `table` for each of `numbers`.
fn looked_up(table: &Tensor, numbers: &Tensor) -> Result<Tensor, BackendError> {
    let places = numbers.f_to_kind(Kind::Int)?;
    Ok(Tensor::f_embedding(table, &places, -1, false, false)?)
}

/// The bytes, with zeros behind them up to `length`.
fn filled(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut filled = bytes.to_vec();
    filled.resize(length.max(bytes.len()), 0);
    filled
}

#[cfg(test)]
mod tests {
    use tch::Device;
    use torch_device::{Library, Registers};

    use super::*;
    use crate::settings::FourBitCode;

    #[test]
    fn a_matrix_lies_on_the_device_and_is_widened_to_the_same_bits() {
        let npu = Library {
            file: "libtorch_npu.so",
            first: &[],
            registers: Registers::Private("npu"),
            script: "",
        };
        let npu = npu.load(&[host_npu::folder()]).unwrap().choose(1).unwrap();
        tch::manual_seed(1);
        // Whole blocks, a last block in part, an odd number of numbers, and more scales than share one of theirs.
        for (rows, columns) in [(64, 64), (3, 50), (1, 1), (5, 13), (300, 65)] {
            let options = (Kind::Float, Device::Cpu);
            let matrix = Tensor::randn([rows, columns], options);
            for (code, double) in [
                (FourBitCode::Nf4, true),
                (FourBitCode::Nf4, false),
                (FourBitCode::Fp4, true),
            ] {
                let packed = Packed::of(&matrix, code, double).unwrap();
                let wanted = packed.widen().unwrap();
                let before = npu.memory().unwrap().free;
                let there = DevicePacked::of(&packed, npu).unwrap();
                assert!(before - npu.memory().unwrap().free >= packed.bytes.len() as u64);
                assert_eq!((there.place(), there.size()), (npu, (rows, columns)));
                let wide = there.widen().unwrap();
                assert_eq!(Place::of(&wide), npu);
                let wide = Place::PROCESSOR.put(&wide).unwrap();
                assert_eq!(wide, wanted, "{rows} x {columns}, {code:?}, {double}");
            }
        }
    }
}
