//! What a job trains and in which number format.

use std::path::PathBuf;

use super::error::JobError;
use super::fields::Fields;

/// Keys that this module reads.
pub(super) const KEYS: [&str; 8] = [
    "adapter_name_or_path",
    "bf16",
    "finetuning_type",
    "fp16",
    "lora_alpha",
    "lora_dropout",
    "lora_rank",
    "lora_target",
];

/// What is trained.
#[derive(Clone, Debug, PartialEq)]
pub enum FineTuning {
    /// Two small matrices beside each chosen weight.
    Lora(LoraSettings),
    /// Every weight.
    Full,
}

/// Shape of `LoRA` adapters.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSettings {
    /// Inner width.
    pub rank: usize,
    /// The adapter's output is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Chance that an input of the adapter is dropped.
    pub dropout: f64,
    /// Names of the linear layers, such as `q_proj`; none: all but the output head.
    pub targets: Option<Vec<String>>,
    /// An adapter to go on from, or to start from for a repeatable run.
    pub start_from: Option<PathBuf>,
}

/// Number format of the computation.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Numeric {
    /// 32-bit floating point.
    #[default]
    Float32,
    /// bfloat16 where it is exact enough, 32-bit elsewhere.
    Bfloat16,
    /// 16-bit floating point where it is exact enough, 32-bit elsewhere.
    Float16,
}

pub(super) fn fine_tuning(fields: &Fields) -> Result<FineTuning, JobError> {
    let start_from = fields.text("adapter_name_or_path")?;
    match fields.text("finetuning_type")?.as_deref() {
        None | Some("lora") => {}
        Some("full") if start_from.is_some() => {
            let reason = "full fine-tuning starts from a whole model";
            return Err(fields.unsupported("adapter_name_or_path", reason));
        }
        Some("full") => return Ok(FineTuning::Full),
        Some(_) => {
            let reason = "only `lora` and `full` are there";
            return Err(fields.unsupported("finetuning_type", reason));
        }
    }
    let rank = fields.whole("lora_rank", 1)?.unwrap_or(8);
    let targets = fields.words("lora_target")?;
    let all = targets.is_empty() || targets == ["all"];
    Ok(FineTuning::Lora(LoraSettings {
        rank: rank as usize,
        alpha: fields.number("lora_alpha", 2.0 * rank as f64, 1e6)?,
        dropout: fields.number("lora_dropout", 0.0, 0.999)?,
        targets: (!all).then_some(targets),
        start_from: start_from.map(Into::into),
    }))
}

pub(super) fn numeric(fields: &Fields) -> Result<Numeric, JobError> {
    match (fields.flag("bf16")?, fields.flag("fp16")?) {
        (false, false) => Ok(Numeric::Float32),
        (true, false) => Ok(Numeric::Bfloat16),
        (false, true) => Ok(Numeric::Float16),
        (true, true) => Err(fields.wrong("fp16", "false where `bf16` is true")),
    }
}
