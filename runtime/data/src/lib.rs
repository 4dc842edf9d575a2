//! Datasets, templates and tokens to batches.

mod batch;
mod example;

pub use batch::{Batch, IGNORED};
pub use example::Example;
