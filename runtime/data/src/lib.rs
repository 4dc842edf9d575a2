//! Datasets, templates and tokens to batches.
//!
//! ```text
//! dataset_info.json, data files --source, record--> Conversation --mixing--> in order --Template, Tokenizer--> Item --> Batch
//!                                                                                    Item <--cache-->
//! ```
//!
//! What comes out is, id by id, what LLaMA-Factory 0.9.5 makes of the same files; the golden traces
//! under `tests/golden` hold the two together.

mod batch;
mod cache;
mod calibration;
mod chat_template;
mod columns;
mod dataset;
mod dropped;
mod encode;
mod error;
mod exam;
mod example;
mod item_file;
mod jinja;
mod listing;
mod mixing;
mod numpy;
mod packing;
mod parsed_template;
mod prepare;
mod pretrain;
mod python_text;
mod question;
mod record;
mod record_turns;
mod sampler;
mod shuffle;
mod shuffle_seeds;
mod similar;
mod source;
mod stage;
mod stream;
mod stream_order;
mod streamed;
mod template;
mod templates;
#[cfg(test)]
mod testing;
mod thought;
mod tokenizer;
mod tool_calls;
mod tools;
#[cfg(test)]
mod tools_tests;
mod twister;
mod windows;

pub use batch::{Batch, IGNORED};
pub use cache::Cache;
pub use calibration::calibration;
pub use chat_template::{ChatTemplate, Message};
pub use dropped::{Dropped, Fault, Origin, Tally, tally};
pub use error::DataError;
pub use exam::{CATEGORIES, CHOICES, Exam, ExamLanguage, ExamQuestion, Split, Subject, exam_chat};
pub use example::{Conversation, EncodeSettings, Example, Item, Packed};
pub use listing::Datasets;
pub use mixing::{Mix, Shares};
pub use numpy::Generator as Chance;
pub use packing::Packing;
pub use prepare::{HeldOut, Prepared, Request, prepare};
pub use question::{Question, questions};
pub use sampler::{dealt, file_order, shuffled};
pub use shuffle_seeds::ShuffleSeeds;
pub use similar::similar;
pub use stage::Stage;
pub use stream::TextStream;
pub use streamed::{Drawn, Share, Streamed, Streaming};
pub use template::{Opening, Template, Turn};
pub use tokenizer::Tokenizer;
pub use tool_calls::{Calls, ToolCall};
pub use tools::ToolFormat;
