//! What a job trains, in the words of the numeric library.

use torch_backend::{
    AdamSettings, FourBitCode, FreezeSettings, Holding, LoraSettings, Method, Place, Precision,
    Quantization, Targets, Tuning,
};
use train::{FineTuning, Job, Numeric};

pub(crate) fn tuning(job: &Job, place: Place) -> Tuning {
    let quantization = match &job.fine_tuning {
        FineTuning::Lora(lora) => lora.quantization,
        FineTuning::Freeze(_) | FineTuning::Full => None,
    };
    let holding = Holding {
        // The original recomputes by default; here only who asks for it in so many words gives a third of the speed for
        // the memory. Both give the same bits.
        recompute: job.recomputation_asked && job.gradient_checkpointing,
        ..holding(job.numeric, quantization, place)
    };
    let method = match &job.fine_tuning {
        FineTuning::Full => Method::Full,
        FineTuning::Freeze(freeze) => Method::Freeze(FreezeSettings {
            layers: freeze.layers,
            modules: freeze.modules.clone(),
            extra_modules: freeze.extra_modules.clone(),
        }),
        FineTuning::Lora(lora) => adapter(lora),
    };
    Tuning { method, holding }
}

/// How weights are packed.
pub(crate) fn packing(four_bit: Option<train::Quantization>) -> Quantization {
    four_bit.map_or(Quantization::None, |four_bit| Quantization::FourBit {
        code: if four_bit.fp4 {
            FourBitCode::Fp4
        } else {
            FourBitCode::Nf4
        },
        double: four_bit.double,
    })
}

/// How a model is held in memory and computed.
pub(crate) fn holding(
    numeric: Numeric,
    quantization: Option<train::Quantization>,
    place: Place,
) -> Holding {
    Holding {
        precision: match numeric {
            // Processors have no units for 16-bit floating point: there it is computed in 32 bits, with a warning.
            Numeric::Float16 if !place.is_processor() => Precision::Float16,
            Numeric::Float32 | Numeric::Float16 => Precision::Float32,
            Numeric::Bfloat16 => Precision::Bfloat16,
            Numeric::PureBfloat16 => Precision::PureBfloat16,
        },
        quantization: packing(quantization),
        place,
        ..Holding::default()
    }
}

/// All adapters but the last are merged; the last is gone on with, unless a fresh one is wanted.
fn adapter(lora: &train::LoraSettings) -> Method {
    let mut merge_first = lora.adapters.clone();
    let start_from = if lora.fresh { None } else { merge_first.pop() };
    Method::Lora {
        settings: LoraSettings {
            rank: lora.rank as i64,
            alpha: lora.alpha,
            dropout: lora.dropout,
            targets: lora.targets.clone().map_or(Targets::All, Targets::Named),
            rank_stabilised: lora.rank_stabilised,
            dora: lora.dora,
            pissa: lora.pissa.then_some(lora.pissa_rounds),
            whole_modules: lora.whole_modules.clone(),
        },
        merge_first,
        start_from,
    }
}

pub(crate) fn adam(job: &Job) -> AdamSettings {
    AdamSettings {
        beta1: job.adam_beta1,
        beta2: job.adam_beta2,
        epsilon: job.adam_epsilon,
        weight_decay: job.weight_decay,
        b_rate: match &job.fine_tuning {
            FineTuning::Lora(lora) => lora.b_rate,
            FineTuning::Freeze(_) | FineTuning::Full => 1.0,
        },
        max_grad_norm: job.max_grad_norm,
    }
}
