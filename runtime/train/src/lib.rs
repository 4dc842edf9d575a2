//! Job files, the training loop, schedules and checkpoints; no libtorch.
//!
//! ```text
//! job file --Job::parse--> Job --run(Material, Trainer)--> output_dir
//! ```

mod job;
mod output;
mod plot;
mod run;
mod schedule;
mod steps;
mod trainer;

pub use job::{FineTuning, Job, JobError, LoraSettings, Numeric};
pub use plot::{png, smoothed, svg};
pub use run::{Material, Summary, run};
pub use schedule::Scheduler;
pub use steps::Steps;
pub use trainer::{StepReport, TrainError, Trainer};
