//! Datasets, templates and tokens to batches.
//!
//! ```text
//! dataset_info.json, *.json(l) --Datasets--> Conversation --Template, Tokenizer--> Example --> Batch
//! ```
//!
//! What comes out is, id by id, what LLaMA-Factory 0.9.5 makes of the same files; the golden traces
//! under `tests/golden` hold the two together.

mod batch;
mod dataset;
mod error;
mod example;
mod prepare;
mod record;
mod sampler;
mod template;
#[cfg(test)]
mod testing;
mod tokenizer;

pub use batch::{Batch, IGNORED};
pub use dataset::{Datasets, Dropped, Loaded};
pub use error::DataError;
pub use example::{Conversation, EncodeSettings, Example};
pub use prepare::{Prepared, prepare};
pub use sampler::{file_order, shuffled};
pub use template::{Template, Turn};
pub use tokenizer::{BpeTables, Tokenizer};
