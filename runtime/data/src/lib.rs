//! Datasets, templates and tokens to batches.
//!
//! ```text
//! dataset_info.json, *.json(l) --Datasets--> Conversation --Template, Tokenizer--> Item --> Batch
//! ```
//!
//! What comes out is, id by id, what LLaMA-Factory 0.9.5 makes of the same files; the golden traces
//! under `tests/golden` hold the two together.

mod batch;
mod chat_template;
mod dataset;
mod dropped;
mod error;
mod example;
mod jinja;
mod packing;
mod parsed_template;
mod prepare;
mod pretrain;
mod record;
mod sampler;
mod similar;
mod stage;
mod stream;
mod table;
mod template;
mod templates;
#[cfg(test)]
mod testing;
mod tokenizer;

pub use batch::{Batch, IGNORED};
pub use chat_template::{ChatTemplate, Message};
pub use dataset::{Datasets, Loaded};
pub use dropped::{Dropped, Fault, Origin, Tally, tally};
pub use error::DataError;
pub use example::{Conversation, EncodeSettings, Example, Item, Packed};
pub use packing::Packing;
pub use prepare::{HeldOut, Prepared, Request, prepare};
pub use sampler::{file_order, shuffled};
pub use similar::similar;
pub use stage::Stage;
pub use stream::TextStream;
pub use template::{Template, Turn};
pub use tokenizer::{BpeTables, Tokenizer};
