//! Job files, the training loop, schedules and checkpoints; no libtorch.

mod job;
mod schedule;
mod trainer;

pub use job::{FineTuning, Job, LoraSettings, Numeric};
pub use schedule::Scheduler;
pub use trainer::{StepReport, TrainError, Trainer};
