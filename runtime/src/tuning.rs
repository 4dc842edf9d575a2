//! What a job trains, in the words of the numeric library.

use torch_backend::{AdamSettings, LoraSettings, Targets, Tuning};
use train::{FineTuning, Job};

pub(crate) fn tuning(job: &Job) -> Tuning {
    match &job.fine_tuning {
        FineTuning::Full => Tuning::Full,
        FineTuning::Lora(lora) => Tuning::Lora {
            settings: LoraSettings {
                rank: lora.rank as i64,
                alpha: lora.alpha,
                dropout: lora.dropout,
                targets: lora.targets.clone().map_or(Targets::All, Targets::Named),
            },
            start_from: lora.start_from.clone(),
        },
    }
}

pub(crate) fn adam(job: &Job) -> AdamSettings {
    AdamSettings {
        beta1: job.adam_beta1,
        beta2: job.adam_beta2,
        epsilon: job.adam_epsilon,
        weight_decay: job.weight_decay,
        max_grad_norm: job.max_grad_norm,
    }
}
