//! A training job: what a LLaMA-Factory YAML or JSON file asks for.

use std::path::PathBuf;

mod data;
mod error;
mod eval;
mod export;
mod fields;
mod generation;
mod keys;
mod moments;
mod objective;
mod other_file;
mod parse;
mod positions;
mod predict;
mod rate;
mod tuning;
mod used;

pub use data::DataSettings;
pub use error::JobError;
pub use eval::{EvalJob, ExamJob, LossJob};
pub use export::{Calibration, ExportJob, ExportNumbers};
pub use fields::{number_in, switch};
pub use generation::{Generation, Length};
pub use moments::{Evaluation, Every, Resume, Saving, When};
pub use objective::{FeedbackSettings, Objective, PreferenceLoss, PreferenceSettings};
pub use parse::asks_for_nothing;
pub use predict::PredictJob;
pub use tuning::{FineTuning, FreezeSettings, LoraSettings, Numeric, Quantization};
pub use used::{Asked, ChatJob, UsedModel, Wording};

use crate::schedule::Scheduler;
use crate::stretch::Stretch;

/// A job that can run as it stands: every key was known, supported and in range.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one switch of the job file"
)]
pub struct Job {
    /// Folder of the base model, a GGUF file, or an installed model's name.
    pub model: String,
    /// How its positions are stretched.
    pub stretch: Option<Stretch>,
    /// What the loss compares.
    pub objective: Objective,
    /// What is trained.
    pub fine_tuning: FineTuning,
    /// Number format of the computation.
    pub numeric: Numeric,
    /// Weight of the loss that keeps a model's experts equally busy, where it is not the model's own.
    pub router_loss: Option<f64>,
    /// What is read, and how it becomes rows.
    pub data: DataSettings,
    /// When and on what the model is evaluated.
    pub evaluation: Evaluation,
    /// How the evaluation data are answered in the end; none: they are not.
    pub prediction: Option<Generation>,
    /// When and how checkpoints are kept.
    pub saving: Saving,
    /// Where the results go.
    pub output_dir: PathBuf,
    /// An `output_dir` that is not empty may be replaced.
    pub overwrite_output_dir: bool,
    /// Examples in a micro-batch.
    pub batch_size: usize,
    /// Micro-batches in an optimizer step.
    pub gradient_accumulation_steps: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Passes over the data, unless `max_steps` says otherwise.
    pub epochs: f64,
    /// Optimizer steps; overrides `epochs`.
    pub max_steps: Option<u64>,
    /// Shape of the learning rate.
    pub scheduler: Scheduler,
    /// Warmup in steps; zero: a part of them.
    pub warmup_steps: u64,
    /// Warmup as a part of all steps.
    pub warmup_ratio: f64,
    /// AdamW beta 1.
    pub adam_beta1: f64,
    /// AdamW beta 2.
    pub adam_beta2: f64,
    /// AdamW epsilon.
    pub adam_epsilon: f64,
    /// Decoupled weight decay; biases and norms get none.
    pub weight_decay: f64,
    /// Gradients are clipped to this global norm; zero: never.
    pub max_grad_norm: f64,
    /// Seed of weights and dropout.
    pub seed: u64,
    /// Seed of the example order.
    pub data_seed: u64,
    /// Examples keep the order of the files.
    pub disable_shuffling: bool,
    /// Optimizer steps between two log lines.
    pub logging_steps: Every,
    /// The first step is logged, too.
    pub logging_first_step: bool,
    /// Whether the run goes on from a checkpoint.
    pub resume: Resume,
    /// The loss curve is drawn.
    pub plot_loss: bool,
    /// Log lines carry token counts.
    pub include_num_input_tokens_seen: bool,
    /// Activations are recomputed in the backward pass to save memory.
    pub gradient_checkpointing: bool,
    /// The job says so itself; else it is the original's default.
    pub recomputation_asked: bool,
    /// No accelerator is used even if there is one.
    pub use_cpu: bool,
    /// Every key as it was given, overrides included; written beside the results.
    pub settings: serde_json::Value,
}
