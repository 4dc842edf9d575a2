//! Models and optimizer steps on libtorch: the only crate that names tch.
//!
//! ```text
//! folder or .gguf --files/gguf--> weights --model--> logits --trainer--> loss, gradients, AdamW
//!                                             ^ adapter (PEFT layout) in and out   --generate--> text
//! ```
//!
//! Files are foreign bytes: every count, offset and length is checked before it is used. Weights are computed in
//! `f32` whatever the file holds, because CPUs without half-precision units are several times slower in `bf16`.

mod adapter;
mod config;
mod error;
mod files;
mod generate;
mod gguf;
mod lora;
mod model;
mod optimizer;
mod output;
mod preference;
mod source;
mod threads;
mod trainer;

pub use config::ModelConfig;
pub use error::BackendError;
pub use generate::{Sampling, generate};
pub use lora::{LoraSettings, Targets};
pub use model::{Model, Pass};
pub use optimizer::AdamSettings;
pub use source::{ModelFiles, open};
pub use threads::{Threads, library_environment, use_threads};
pub use trainer::{LibtorchTrainer, Tuning};
