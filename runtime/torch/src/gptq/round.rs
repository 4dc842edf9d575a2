//! A matrix rounded column by column, each column's error made up for by those that follow.
//!
//! ```text
//! for each column i, in order:  q = nearest on the grid of w_i;  e = (w_i - q) / u_ii;  w_j -= e u_ij for all j > i
//! ```
//!
//! Rows do not see each other, so threads share them. A block of columns, which is a group, is rounded where it lies in
//! the processor's nearest memory; what it leaves to the columns behind it is one product of matrices.

use half::f16;
use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::GROUP;
use super::gram::Factor;
use super::grid::{Grid, packed};
use crate::BackendError;

/// Rows that one thread works on at a time.
const PIECE: usize = 16;

impl Factor {
    /// Rounds a matrix of `f32` in the processor's memory to `bits`. None where a scale is too large for 16 bits.
    pub(super) fn round(&self, matrix: &Tensor, bits: u32) -> Result<Option<Grid>, BackendError> {
        let (rows, columns) = matrix.size2()?;
        let left = matrix
            .f_index_select(1, &self.places)?
            .f_mul_(&self.alive)?;
        let (height, width) = (rows as usize, columns as usize);
        let count = width.div_ceil(GROUP);
        let mut numbers = vec![0_u8; height * width];
        let mut scales = vec![0.0_f32; height * count];
        let mut start = 0;
        while start < columns {
            let block = (columns - start).min(GROUP as i64);
            let end = start + block;
            let part = left.f_narrow(1, start, block)?;
            let mut values = floats(&part)?;
            let own = self.upper.f_narrow(0, start, block)?;
            let passed = floats(&own.f_narrow(1, start, block)?)?;
            let block = block as usize;
            // A group's columns come together, if in another order: that of its first is that of all.
            let group = self.order[start as usize] / GROUP;
            values
                .par_chunks_mut(PIECE * block)
                .zip(numbers.par_chunks_mut(PIECE * width))
                .zip(scales.par_chunks_mut(PIECE * count))
                .for_each(|((values, numbers), scales)| {
                    let rows = values.chunks_mut(block).zip(numbers.chunks_mut(width));
                    for ((values, numbers), scales) in rows.zip(scales.chunks_mut(count)) {
                        let numbers = &mut numbers[start as usize..end as usize];
                        scales[group] = scale(values, bits);
                        round_row(values, &passed, scales[group], bits, numbers);
                    }
                });
            if end < columns {
                let errors = Tensor::f_from_slice(&values)?.f_view([rows, -1])?;
                let rest = own.f_narrow(1, end, columns - end)?;
                let _same = left
                    .f_narrow(1, end, columns - end)?
                    .f_addmm_(&errors, &rest)?;
            }
            start = end;
        }
        if scales.iter().any(|scale| !scale.is_finite()) {
            return Ok(None);
        }
        let order = &self.order;
        let words = numbers.par_chunks(width).map(|row| {
            let mut straight = vec![0; width];
            for (number, column) in row.iter().zip(order) {
                straight[*column] = *number;
            }
            packed(&straight, bits)
        });
        let words: Vec<Vec<u32>> = words.collect();
        Ok(Some(Grid {
            rows: height,
            columns: width,
            bits,
            words: words.concat(),
            groups: (0..width).map(|column| (column / GROUP) as u32).collect(),
            zeros: vec![middle(bits) as u8; scales.len()],
            scales,
        }))
    }
}

/// The number that stands for zero.
fn middle(bits: u32) -> f32 {
    (1_u32 << (bits - 1)) as f32
}

/// The scale of a row's group: its largest magnitude over half of the numbers, as 16 bits hold it.
fn scale(values: &[f32], bits: u32) -> f32 {
    let most = values
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let most = if most > 0.0 { most } else { 1.0 };
    let scale = f16::from_f32(2.0 * most / (2.0 * middle(bits) - 1.0));
    // What is smaller than any number of 16 bits has the smallest.
    scale.max(f16::from_bits(1)).to_f32()
}

/// Rounds a row of a block, whose part of the factor is `passed`, and leaves in `values` what is added to the rest of the
/// row in return: the errors, their sign turned.
fn round_row(values: &mut [f32], passed: &[f32], scale: f32, bits: u32, numbers: &mut [u8]) {
    let (middle, count) = (middle(bits), values.len());
    for at in 0..count {
        let (before, rest) = values.split_at_mut(at + 1);
        let value = before[at];
        let nearest = (value / scale).round_ties_even() + middle;
        let nearest = nearest.clamp(0.0, 2.0 * middle - 1.0);
        numbers[at] = nearest as u8;
        let along = &passed[at * count..(at + 1) * count];
        let error = (scale * (nearest - middle) - value) / along[at];
        for (value, share) in rest.iter_mut().zip(&along[at + 1..]) {
            *value += error * share;
        }
        before[at] = error;
    }
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>, BackendError> {
    let flat = tensor
        .f_contiguous()?
        .f_view([-1])?
        .f_to_kind(Kind::Float)?;
    let mut values = vec![0.0; flat.numel()];
    flat.f_copy_data(&mut values, flat.numel())?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use tch::Device;
    use torch_device::Place;

    use super::super::gram::Gram;
    use super::*;
    use crate::weight::Compact as _;

    const OPTIONS: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// Inputs that go together, as those of a real layer do.
    fn inputs(columns: i64) -> Tensor {
        let hidden = Tensor::randn([400, columns / 4], OPTIONS);
        let spread = Tensor::randn([columns / 4, columns], OPTIONS);
        hidden.matmul(&spread) + Tensor::randn([400, columns], OPTIONS) * 0.1
    }

    fn factor(inputs: &Tensor) -> Factor {
        let mut gram = Gram::new(inputs.size()[1], Place::PROCESSOR).unwrap();
        gram.add(inputs).unwrap();
        Factor::of(&gram.sum().unwrap().unwrap()).unwrap().unwrap()
    }

    /// Each number by itself.
    fn nearest(matrix: &Tensor, bits: u32) -> Tensor {
        let (middle, columns) = (f64::from(middle(bits)), matrix.size()[1]);
        let groups = (0..columns).step_by(GROUP).map(|start| {
            let part = matrix.narrow(1, start, (columns - start).min(GROUP as i64));
            let scale = part.abs().amax(1, true) * (2.0 / (2.0 * middle - 1.0));
            (&part / &scale).round().clamp(-middle, middle - 1.0) * scale
        });
        Tensor::cat(&groups.collect::<Vec<_>>(), 1)
    }

    #[test]
    fn outputs_are_nearer_than_those_of_numbers_rounded_by_themselves() {
        tch::manual_seed(3);
        for (rows, columns) in [(48, 256), (33, 320), (5, 96)] {
            let (inputs, matrix) = (inputs(columns), Tensor::randn([rows, columns], OPTIONS));
            let factor = factor(&inputs);
            for (bits, better) in [(2, 0.8), (3, 0.7), (4, 0.7), (8, 0.7)] {
                let grid = factor.round(&matrix, bits).unwrap().unwrap();
                let error = |rounded: &Tensor| {
                    let gap = inputs.matmul(&(rounded - &matrix).tr());
                    gap.square().mean(Kind::Float).double_value(&[]).sqrt()
                };
                let (ours, plain) = (
                    error(&grid.widen().unwrap()),
                    error(&nearest(&matrix, bits)),
                );
                assert!(
                    ours < better * plain,
                    "{rows} {columns} {bits}: {ours} {plain}"
                );
            }
        }
    }

    #[test]
    fn inputs_that_do_not_go_together_change_nothing() {
        tch::manual_seed(4);
        let matrix = Tensor::randn([7, 200], OPTIONS);
        let grid = factor(&Tensor::eye(200, OPTIONS))
            .round(&matrix, 8)
            .unwrap()
            .unwrap();
        let gap = (grid.widen().unwrap() - nearest(&matrix, 8)).abs().max();
        // But for the scales, which have 16 bits.
        assert!(gap.double_value(&[]) < 0.03, "{gap}");
    }

    #[test]
    fn columns_without_inputs_are_zero_and_scales_beyond_16_bits_are_not_there() {
        tch::manual_seed(5);
        let (inputs, matrix) = (inputs(160), Tensor::randn([4, 160], OPTIONS));
        let dead = inputs.index_fill(1, &Tensor::from_slice(&[3_i64, 150]), 0.0);
        let wide = factor(&dead)
            .round(&matrix, 4)
            .unwrap()
            .unwrap()
            .widen()
            .unwrap();
        for (column, zero) in [(3, true), (150, true), (4, false)] {
            let most = wide.select(1, column).abs().max().double_value(&[]);
            assert_eq!(most == 0.0, zero, "{column}");
        }
        let empty = factor(&inputs)
            .round(&Tensor::zeros([4, 160], OPTIONS), 3)
            .unwrap();
        let empty = empty.unwrap().widen().unwrap();
        assert_eq!(empty, Tensor::zeros([4, 160], OPTIONS));
        assert!(factor(&inputs).round(&(matrix * 1e9), 4).unwrap().is_none());
    }
}
