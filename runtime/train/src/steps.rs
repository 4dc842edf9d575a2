//! How many optimizer steps a job takes, counted as transformers counts them.

use crate::job::Job;

/// Steps of a run. The last micro-batch and the last step of an epoch may be smaller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Steps {
    /// Micro-batches of a process in an epoch.
    pub micro_in_epoch: usize,
    /// Optimizer steps in an epoch.
    pub in_epoch: u64,
    /// Optimizer steps in all.
    pub total: u64,
    /// Of these, warmup.
    pub warmup: u64,
}

impl Steps {
    /// Counts the steps of `job` over `examples` examples.
    pub fn of(job: &Job, examples: usize) -> Self {
        Self::over(job, examples, 1)
    }

    /// The same where each of several processes computes a part.
    pub fn over(job: &Job, examples: usize, processes: usize) -> Self {
        let micro_in_epoch = examples.div_ceil((job.batch_size * processes).max(1));
        let in_epoch = micro_in_epoch.div_ceil(job.gradient_accumulation_steps.max(1));
        let in_epoch = in_epoch.max(1) as u64;
        let by_epochs = (job.epochs * in_epoch as f64).ceil() as u64;
        let total = job.max_steps.unwrap_or(by_epochs);
        Self {
            micro_in_epoch,
            in_epoch,
            total,
            warmup: warmup(job, total),
        }
    }

    /// The steps of `job` over examples that nobody has counted: all of them are one epoch.
    pub fn streamed(job: &Job) -> Self {
        let total = job.max_steps.unwrap_or(1);
        Self {
            micro_in_epoch: total as usize * job.gradient_accumulation_steps.max(1),
            in_epoch: total.max(1),
            total,
            warmup: warmup(job, total),
        }
    }
}

fn warmup(job: &Job, total: u64) -> u64 {
    match job.warmup_steps {
        0 => (total as f64 * job.warmup_ratio).ceil() as u64,
        steps => steps,
    }
}
