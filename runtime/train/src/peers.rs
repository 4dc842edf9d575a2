//! The processes of a run.
//!
//! Each process computes its own part of a step and of an evaluation; sums are the same in all of them, so all decide alike.
//! Only the first one writes. Every call is made by all processes, in the same order.

use crate::trainer::TrainError;

/// The processes of a run, as one of them sees them.
pub trait Peers {
    /// This one, counted from 0; the first one writes.
    fn rank(&self) -> usize;
    /// How many there are.
    fn count(&self) -> usize;
    /// Puts the sums over all processes in the place of the numbers. Returns when all have called it.
    fn sum(&self, numbers: &mut [f64]) -> Result<(), TrainError>;

    /// Whether this process writes.
    fn writes(&self) -> bool {
        self.rank() == 0
    }

    /// Returns when all processes have come here.
    fn meet(&self) -> Result<(), TrainError> {
        self.sum(&mut [0.0])
    }

    /// Whether it is so in any process.
    fn any(&self, so: bool) -> Result<bool, TrainError> {
        let mut count = [f64::from(so)];
        self.sum(&mut count)?;
        Ok(count[0] > 0.0)
    }
}

/// A run of one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Peers for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn count(&self) -> usize {
        1
    }

    fn sum(&self, _numbers: &mut [f64]) -> Result<(), TrainError> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
