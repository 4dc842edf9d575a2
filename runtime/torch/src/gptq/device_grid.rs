//! A matrix on a grid that lies on a device, and is widened there by libtorch's general operations, which every vendor's
//! library has.
//!
//! Each byte is looked up in a table of the numbers in it. Three bits lie across bytes, so there each number has one.

use tch::{Kind, Tensor};
use torch_device::Place;

use super::grid::{Grid, unpacked};
use crate::BackendError;
use crate::weight::Compact;

/// A matrix on a grid on a device.
#[derive(Debug)]
pub(crate) struct DeviceGrid {
    rows: i64,
    columns: i64,
    /// `u8`, `[rows * columns / numbers in a byte]`.
    bytes: Tensor,
    /// The numbers in each byte, `f32`, `[256, numbers in a byte]`.
    table: Tensor,
    /// The group of each column.
    groups: Tensor,
    /// `f32`, `[rows, groups]`.
    scales: Tensor,
    zeros: Tensor,
}

impl DeviceGrid {
    /// Takes a matrix to `place`.
    pub(crate) fn of(grid: &Grid, place: Place) -> Result<Self, BackendError> {
        let (rows, columns) = grid.size();
        let across = 8 % grid.bits != 0;
        let bytes: Vec<u8> = if across {
            let rows = grid.words.chunks(grid.width());
            rows.flat_map(|row| unpacked(row, grid.bits)).collect()
        } else {
            grid.words
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect()
        };
        let table: Vec<f32> = (0..=u8::MAX)
            .flat_map(|byte| {
                let bits = if across { 8 } else { grid.bits };
                let word = [u32::from(byte)];
                let numbers = unpacked(&word, bits).take(8 / bits as usize);
                numbers.map(f32::from).collect::<Vec<_>>()
            })
            .collect();
        let groups: Vec<i64> = grid.groups.iter().map(|group| i64::from(*group)).collect();
        let zeros: Vec<f32> = grid.zeros.iter().map(|zero| f32::from(*zero)).collect();
        Ok(Self {
            rows,
            columns,
            bytes: place.of_slice(&bytes)?,
            table: place.of_slice(&table)?.f_view([256, -1])?,
            groups: place.of_slice(&groups)?,
            scales: place.of_slice(&grid.scales)?.f_view([rows, -1])?,
            zeros: place.of_slice(&zeros)?.f_view([rows, -1])?,
        })
    }
}

impl Compact for DeviceGrid {
    fn size(&self) -> (i64, i64) {
        (self.rows, self.columns)
    }

    fn place(&self) -> Place {
        Place::of(&self.bytes)
    }

    fn widen(&self) -> Result<Tensor, BackendError> {
        let places = self.bytes.f_to_kind(Kind::Int)?;
        let numbers = Tensor::f_embedding(&self.table, &places, -1, false, false)?;
        let mut numbers = numbers.f_view([self.rows, self.columns])?;
        let each = |of_group: &Tensor| of_group.f_index_select(1, &self.groups);
        Ok(numbers
            .f_sub_(&each(&self.zeros)?)?
            .f_mul_(&each(&self.scales)?)?)
    }
}

#[cfg(test)]
mod tests {
    use torch_device::{Library, Registers};

    use super::*;
    use crate::gptq::grid::packed;

    #[test]
    fn a_matrix_lies_on_the_device_and_is_widened_to_the_same_bits() {
        let npu = Library {
            file: "libtorch_npu.so",
            first: &[],
            registers: Registers::Private("npu"),
            script: "",
        };
        let npu = npu.load(&[host_npu::folder()]).unwrap().choose(1).unwrap();
        for bits in [2, 3, 4, 8] {
            let (rows, columns) = (3, 64);
            let top = (1_usize << bits) - 1;
            let row = |row: usize| -> Vec<u8> {
                let numbers = (0..columns).map(|n| (n * 29 + row * 7) % (top + 1));
                numbers.map(|number| number as u8).collect()
            };
            let grid = Grid {
                rows,
                columns,
                bits,
                words: (0..rows).flat_map(|n| packed(&row(n), bits)).collect(),
                groups: (0..64).map(|column| column / 32).collect(),
                scales: vec![0.5, 0.013, 7.0, 1e-3, 0.25, 3.0],
                zeros: vec![0, 1, 2, 3, 1, 0],
            };
            let there = DeviceGrid::of(&grid, npu).unwrap();
            assert_eq!((there.place(), there.size()), (npu, (3, 64)));
            let wide = Place::PROCESSOR.put(&there.widen().unwrap()).unwrap();
            assert_eq!(wide, grid.widen().unwrap(), "{bits}");
        }
    }
}
