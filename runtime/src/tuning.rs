//! What a job trains, in the words of the numeric library.

use torch_backend::{AdamSettings, Holding, LoraSettings, Method, Targets, Tuning};
use train::{FineTuning, Job};

pub(crate) fn tuning(job: &Job) -> Tuning {
    let holding = Holding {
        // The original recomputes by default; here only who asks for it in so many words gives a third of the speed for
        // the memory. Both give the same bits.
        recompute: job.recomputation_asked,
        ..Holding::default()
    };
    let method = match &job.fine_tuning {
        FineTuning::Full => Method::Full,
        FineTuning::Lora(lora) => Method::Lora {
            settings: LoraSettings {
                rank: lora.rank as i64,
                alpha: lora.alpha,
                dropout: lora.dropout,
                targets: lora.targets.clone().map_or(Targets::All, Targets::Named),
                ..LoraSettings::of_rank(lora.rank as i64)
            },
            merge_first: Vec::new(),
            start_from: lora.start_from.clone(),
        },
    };
    Tuning { method, holding }
}

pub(crate) fn adam(job: &Job) -> AdamSettings {
    AdamSettings {
        beta1: job.adam_beta1,
        beta2: job.adam_beta2,
        epsilon: job.adam_epsilon,
        weight_decay: job.weight_decay,
        max_grad_norm: job.max_grad_norm,
        ..AdamSettings::default()
    }
}
