//! Are model files what their names say, and which of them run code when they are loaded?
//!
//! ```text
//! name ────▶ by_name      pickles by their endings
//! content ─▶ check        pickle, zip with a pickle, NumPy objects, Keras lambda, remote code;
//!                         safetensors and GGUF headers against the file's size
//! index ───▶ check_shards every tensor is in the shard that the index names
//! ```
//!
//! Every file is foreign: each count and length is compared with a bound or with the file's size before anything is
//! allocated or skipped, nothing is decompressed without a limit, and nothing is ever run.

mod check;
mod code;
mod error;
mod gguf;
mod head;
mod keras;
mod numpy;
mod pickle;
mod safetensors;
mod shards;
mod zipped;

pub use check::{Checked, check};
pub use code::by_name;
pub use error::{Flaw, ModelFileError};
pub use gguf::{Gguf, GgufTensor, GgufValue};
pub use safetensors::{Safetensors, SafetensorsTensor};
pub use shards::{check_shards, is_shard_index};
pub use zipped::{Member as ZipMember, Zip};
