//! What the loop asks of a numeric library.

use std::error::Error;
use std::path::{Path, PathBuf};

use report::{Args, Diagnose, Outcome};
use train_data::Batch;

/// What one optimizer step gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Sum of the token losses over all micro-batches, divided by their label tokens.
    pub loss: f64,
    /// Global L2 norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Tokens seen, padding included, as the original counts them.
    pub tokens: u64,
}

/// One optimizer step on accumulated micro-batches: all that the loop asks of libtorch.
pub trait Trainer {
    /// Runs forward and backward over `batches`, clips, and updates with `learning_rate`.
    fn step(&mut self, batches: &[Batch], learning_rate: f64) -> Result<StepReport, TrainError>;
    /// Writes the trained weights into the existing folder `folder`.
    fn save(&mut self, folder: &Path) -> Result<(), TrainError>;
}

/// Why a training run ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The loss or the gradient is not a number any more.
    #[error("step {step}: loss {loss}, gradient norm {grad_norm}: training diverged")]
    Diverged {
        /// The optimizer step, counted from one.
        step: u64,
        /// Its loss.
        loss: f64,
        /// Its gradient norm.
        grad_norm: f64,
    },
    /// The numeric library failed.
    #[error("cannot {action}")]
    Backend {
        /// What was tried, such as `run optimizer step 3`.
        action: String,
        /// What the library said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A file of the run cannot be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The output folder holds another run.
    #[error("`{path}` exists and is not empty")]
    OutputTaken {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to train on.
    #[error("the datasets hold no example to train on")]
    NoExamples,
}

impl Diagnose for TrainError {
    fn code(&self) -> &'static str {
        match self {
            Self::Diverged { .. } => "train.diverged",
            Self::Backend { .. } => "train.backend",
            Self::Write { .. } => "train.write",
            Self::OutputTaken { .. } => "train.output-taken",
            Self::NoExamples => "train.no-examples",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Diverged {
                step,
                loss,
                grad_norm,
            } => vec![
                ("step", step.to_string()),
                ("loss", loss.to_string()),
                ("grad_norm", grad_norm.to_string()),
            ],
            Self::Backend { action, .. } => vec![("action", action.clone())],
            Self::Write { path, .. } | Self::OutputTaken { path } => {
                vec![("path", path.display().to_string())]
            }
            Self::NoExamples => Args::new(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Diverged { .. } => Outcome::Failed,
            Self::Backend { .. } | Self::Write { .. } => Outcome::HostFault,
            Self::OutputTaken { .. } | Self::NoExamples => Outcome::Usage,
        }
    }
}
