//! What the loop asks of a numeric library.

use std::error::Error;
use std::path::{Path, PathBuf};

use report::{Args, Diagnose, Outcome};
use train_data::{Batch, DataError};

/// What one optimizer step gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepReport {
    /// Sum of the token losses over all micro-batches, divided by their label tokens.
    pub loss: f64,
    /// Global L2 norm of the gradients before clipping.
    pub grad_norm: f64,
    /// The gradients overflowed in 16 bits, and nothing was learnt. The schedule stays where it is.
    pub skipped: bool,
    /// Tokens seen, padding included, as the original counts them.
    pub tokens: u64,
    /// Other figures by the names that the original logs them under, such as `rewards/chosen`.
    pub metrics: Vec<(&'static str, f64)>,
}

/// A model under training: all that the loop asks of libtorch.
///
/// What is drawn by chance in a step, such as dropout, depends on the job's seed and the number of the step alone.
pub trait Trainer {
    /// Runs forward and backward over `batches`, clips, and updates with `learning_rate`.
    fn step(&mut self, batches: &[Batch], learning_rate: f64) -> Result<StepReport, TrainError>;
    /// The loss of one micro-batch, from which nothing is learnt.
    fn evaluate(&mut self, batch: &Batch) -> Result<f64, TrainError>;
    /// Writes the trained weights into the existing folder `folder`.
    fn save(&mut self, folder: &Path) -> Result<(), TrainError>;
    /// Writes what the next step needs beside the weights, such as the optimizer's means, into `folder`.
    fn save_state(&mut self, folder: &Path) -> Result<(), TrainError>;
    /// Takes back the weights that [`Self::save`] wrote into `folder`, and the state beside them if `state`.
    fn load(&mut self, folder: &Path, state: bool) -> Result<(), TrainError>;
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
    /// Memory ran out.
    #[error("memory ran out: cannot {action}")]
    OutOfMemory {
        /// What was tried.
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
    /// Another run works in the output folder.
    #[error("another run works in `{path}`")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The job goes on from a checkpoint, and there is none.
    #[error("`{path}` holds no checkpoint to go on from")]
    NoCheckpoint {
        /// The output folder.
        path: PathBuf,
    },
    /// A checkpoint that cannot be gone on from.
    #[error("`{path}` cannot be gone on from: found {found}, expected {expected}")]
    BadCheckpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// The job differs from the one that wrote the checkpoint in what decides the order of the examples.
    #[error("the run in `{path}` had another {what}: {expected}; the job has {found}")]
    ResumeMismatch {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        what: String,
        /// What the job has.
        found: String,
        /// What the checkpoint has.
        expected: String,
    },
    /// Data that is read while it is trained on cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Another process of the run is gone.
    #[error("another process of this run is gone")]
    PeerLost {
        /// What was seen of it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is nothing to train on.
    #[error("the datasets hold no example to train on")]
    NoExamples,
}

impl Diagnose for TrainError {
    fn code(&self) -> &'static str {
        match self {
            Self::Data(error) => error.code(),
            Self::Diverged { .. } => "train.diverged",
            Self::Backend { .. } => "train.backend",
            Self::OutOfMemory { .. } => "train.out-of-memory",
            Self::Write { .. } => "train.write",
            Self::OutputTaken { .. } => "train.output-taken",
            Self::InUse { .. } => "train.in-use",
            Self::NoCheckpoint { .. } => "train.no-checkpoint",
            Self::BadCheckpoint { .. } => "train.bad-checkpoint",
            Self::ResumeMismatch { .. } => "train.resume-mismatch",
            Self::PeerLost { .. } => "train.peer-lost",
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
            Self::Backend { action, .. } | Self::OutOfMemory { action, .. } => {
                vec![("action", action.clone())]
            }
            Self::Write { path, .. }
            | Self::OutputTaken { path }
            | Self::InUse { path }
            | Self::NoCheckpoint { path } => vec![("path", path.display().to_string())],
            Self::BadCheckpoint {
                path,
                found,
                expected,
            } => vec![
                ("path", path.display().to_string()),
                ("found", found.clone()),
                ("expected", expected.clone()),
            ],
            Self::ResumeMismatch {
                path,
                what,
                found,
                expected,
            } => vec![
                ("path", path.display().to_string()),
                ("what", what.clone()),
                ("found", found.clone()),
                ("expected", expected.clone()),
            ],
            Self::Data(error) => error.args(),
            Self::PeerLost { .. } | Self::NoExamples => Args::new(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Data(error) => error.outcome(),
            Self::Diverged { .. } => Outcome::Failed,
            Self::Backend { .. }
            | Self::OutOfMemory { .. }
            | Self::Write { .. }
            | Self::PeerLost { .. } => Outcome::HostFault,
            Self::OutputTaken { .. }
            | Self::InUse { .. }
            | Self::NoCheckpoint { .. }
            | Self::BadCheckpoint { .. }
            | Self::ResumeMismatch { .. }
            | Self::NoExamples => Outcome::Usage,
        }
    }
}
