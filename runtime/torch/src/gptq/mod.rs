//! Matrices in 2, 3, 4 or 8 bits, rounded by what they do to texts (GPTQ, Frantar et al. 2022): made, written and read.
//!
//! ```text
//! texts -> embedding -> block after block:  inputs of its matrices --gram--> what a rounding error costs
//!                                           matrix --round--> grid, each column making up for the errors before it
//!                                           the block as it is now -> inputs of the next
//! ```
//!
//! `grid` is such a matrix in memory, `layout` the tensors that it is kept as in files.

mod calibrate;
mod device_grid;
mod gram;
mod grid;
mod layout;
mod round;
#[cfg(test)]
mod tests;

pub(crate) use calibrate::calibrate;
pub(crate) use device_grid::DeviceGrid;
pub(crate) use grid::Grid;
pub(crate) use layout::{Header, config, heads, read, values};

/// Columns that share a scale, as in the original.
pub(crate) const GROUP: usize = 128;

/// Columns and rows are packed into words of 32 bits, whatever the bits of a number.
pub(crate) const WORD: i64 = 32;
