//! The processes of a run, for its loop and its trainer.

use std::sync::Arc;

use torch_device::Group;
use train::TrainError;

use crate::BackendError;

/// A joined group, shared by the loop and the trainer of this process.
#[derive(Clone, Debug)]
pub struct Peers(pub(crate) Arc<Group>);

impl Peers {
    /// Wraps a joined group.
    pub fn of(group: Group) -> Self {
        Self(Arc::new(group))
    }

    /// The mean of a number over all processes.
    pub(crate) fn mean(&self, number: f64) -> Result<f64, BackendError> {
        let mut sum = [number];
        self.0.sum_numbers(&mut sum)?;
        Ok(sum[0] / self.0.count() as f64)
    }
}

impl train::Peers for Peers {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn count(&self) -> usize {
        self.0.count()
    }

    fn sum(&self, numbers: &mut [f64]) -> Result<(), TrainError> {
        self.0
            .sum_numbers(numbers)
            .map_err(|source| TrainError::PeerLost {
                source: Box::new(source),
            })
    }
}
