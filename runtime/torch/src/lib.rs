//! Models and optimizer steps on libtorch: the only crate that names tch.
//!
//! ```text
//! folder or .gguf --files/gguf--> weights --block/model--> logits --learn--> loss, gradients --optimizer--> weights
//!                                             ^ adapter (PEFT layout) in and out   --generate--> text
//! ```
//!
//! Files are foreign bytes: every count, offset and length is checked before it is used. Weights are computed in
//! `f32` whatever the file holds unless a job asks otherwise, because CPUs without half-precision units are several
//! times slower in `bf16`.

mod adapter;
mod attention;
mod balance;
mod beams;
mod block;
mod cache;
mod change;
mod config;
mod dynamic_map;
mod error;
mod experts;
mod export;
mod feed;
mod files;
mod four_bit;
mod four_bit_device;
mod generate;
mod gguf;
mod gptq;
mod gradient;
mod head;
mod judge;
mod lay_out;
mod learn;
mod load;
mod load_experts;
mod lora;
mod mixture;
mod model;
mod norm;
mod optimizer;
mod output;
mod owed;
mod peers;
mod preference;
mod prequantized;
mod product;
mod rope;
mod sampler;
mod scaler;
mod settings;
mod source;
mod stream;
mod threads;
mod trainable;
mod trainer;
mod value_head;
mod weight;

pub use beams::Beams;
pub use config::{ModelConfig, is_known_family};
pub use error::BackendError;
pub use export::{Calibration, ExportOptions, Exported};
pub use generate::{Continuation, End, Generator, Made, generate};
pub use mixture::Mixture;
pub use model::{Model, Pass};
pub use optimizer::AdamSettings;
pub use peers::Peers;
pub use sampler::Sampling;
pub use settings::{
    FourBitCode, FreezeSettings, Holding, LoraSettings, Method, Precision, Quantization, Targets,
    Tuning,
};
pub use source::{ModelFiles, open};
pub use threads::{Threads, library_environment, use_threads};
pub use torch_device::{
    Alarm, Bridge, DeviceError, DeviceMemory, Group, Library, Loaded, Meeting, Place, Registers,
    Trial, end, end_where_devices_wait, torch_version,
};
pub use trainer::LibtorchTrainer;
