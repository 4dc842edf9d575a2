//! What a job trains and in which number format.

use std::path::PathBuf;

use super::error::JobError;
use super::fields::Fields;

/// Keys that this module reads.
pub(super) const KEYS: [&str; 23] = [
    "adapter_name_or_path",
    "additional_target",
    "bf16",
    "create_new_adapter",
    "double_quantization",
    "finetuning_type",
    "fp16",
    "freeze_extra_modules",
    "freeze_trainable_layers",
    "freeze_trainable_modules",
    "lora_alpha",
    "lora_dropout",
    "lora_rank",
    "lora_target",
    "loraplus_lr_ratio",
    "pissa_init",
    "pissa_iter",
    "pure_bf16",
    "quantization_bit",
    "quantization_method",
    "quantization_type",
    "use_dora",
    "use_rslora",
];

/// What is trained.
#[derive(Clone, Debug, PartialEq)]
pub enum FineTuning {
    /// Two small matrices beside each chosen weight.
    Lora(LoraSettings),
    /// Some layers, whole.
    Freeze(FreezeSettings),
    /// Every weight.
    Full,
}

/// Shape of `LoRA` adapters.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one switch of the job file"
)]
pub struct LoraSettings {
    /// Inner width.
    pub rank: usize,
    /// The adapter's output is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Chance that an input of the adapter is dropped.
    pub dropout: f64,
    /// Names of the linear layers, such as `q_proj`; none: all but the output head.
    pub targets: Option<Vec<String>>,
    /// The scale is `alpha / sqrt(rank)`.
    pub rank_stabilised: bool,
    /// The length of each weight's rows is trained by itself (`DoRA`).
    pub dora: bool,
    /// LoRA+: the learning rate of B over that of A.
    pub b_rate: f64,
    /// The adapter starts as the weight's strongest directions (`PiSSA`).
    pub pissa: bool,
    /// Rounds of `PiSSA`'s approximation; none: a full decomposition.
    pub pissa_rounds: Option<u32>,
    /// Modules trained whole beside the adapter, such as `embed_tokens`.
    pub whole_modules: Vec<String>,
    /// Adapters of earlier runs, in order.
    pub adapters: Vec<PathBuf>,
    /// All of them are merged and a fresh one is trained; else the last one is gone on with.
    pub fresh: bool,
    /// Number format of the frozen weights.
    pub quantization: Option<Quantization>,
}

/// Which layers are trained whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FreezeSettings {
    /// So many last layers; negative: first layers.
    pub layers: i64,
    /// Modules in them; `all`: every one.
    pub modules: Vec<String>,
    /// Modules outside of the layers.
    pub extra_modules: Vec<String>,
}

/// Frozen weights in four bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quantization {
    /// FP4 instead of NF4.
    pub fp4: bool,
    /// The scales are quantised too.
    pub double: bool,
}

/// Number format of the computation.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Numeric {
    /// 32-bit floating point.
    #[default]
    Float32,
    /// bfloat16 where it is exact enough, 32-bit elsewhere.
    Bfloat16,
    /// bfloat16 everywhere.
    PureBfloat16,
    /// 16-bit floating point where it is exact enough, 32-bit elsewhere.
    Float16,
}

pub(super) fn fine_tuning(fields: &Fields) -> Result<FineTuning, JobError> {
    let quantization = quantization(fields)?;
    match fields.text("finetuning_type")?.as_deref() {
        None | Some("lora") => lora(fields, quantization).map(FineTuning::Lora),
        Some(whole @ ("full" | "freeze")) => {
            if !fields.words("adapter_name_or_path")?.is_empty() {
                let reason = "full and freeze tuning start from a whole model";
                return Err(fields.unsupported("adapter_name_or_path", reason));
            }
            if quantization.is_some() {
                let reason =
                    "weights in four bits cannot be trained, only a LoRA adapter beside them";
                return Err(fields.unsupported("quantization_bit", reason));
            }
            if whole == "full" {
                return Ok(FineTuning::Full);
            }
            freeze(fields).map(FineTuning::Freeze)
        }
        Some(_) => {
            let reason = "only `lora`, `freeze` and `full` are there";
            Err(fields.unsupported("finetuning_type", reason))
        }
    }
}

fn lora(fields: &Fields, quantization: Option<Quantization>) -> Result<LoraSettings, JobError> {
    let rank = fields.whole("lora_rank", 1)?.unwrap_or(8);
    let targets = fields.words("lora_target")?;
    let all = targets.is_empty() || targets == ["all"];
    let pissa = fields.flag("pissa_init")?;
    let dora = fields.flag("use_dora")?;
    if pissa && quantization.is_some() {
        let reason = "PiSSA splits weights, which cannot be done in four bits";
        return Err(fields.unsupported("pissa_init", reason));
    }
    if pissa && dora {
        let reason = "PiSSA and DoRA are not there together";
        return Err(fields.unsupported("pissa_init", reason));
    }
    let adapters = fields.words("adapter_name_or_path")?;
    let fresh = fields.flag("create_new_adapter")?;
    if quantization.is_some() && (adapters.len() > 1 || (fresh && !adapters.is_empty())) {
        let reason = "adapters cannot be merged into weights in four bits";
        return Err(fields.unsupported("adapter_name_or_path", reason));
    }
    let b_rate = fields.number("loraplus_lr_ratio", 1.0, 1e6)?;
    Ok(LoraSettings {
        rank: rank as usize,
        alpha: fields.number("lora_alpha", 2.0 * rank as f64, 1e6)?,
        dropout: fields.number("lora_dropout", 0.0, 0.999)?,
        targets: (!all).then_some(targets),
        rank_stabilised: fields.flag("use_rslora")?,
        dora,
        b_rate: if b_rate > 0.0 { b_rate } else { 1.0 },
        pissa,
        pissa_rounds: pissa_rounds(fields)?,
        whole_modules: fields.words("additional_target")?,
        adapters: adapters.into_iter().map(Into::into).collect(),
        fresh,
        quantization,
    })
}

/// The original's default is 16 rounds; minus one asks for the full decomposition.
fn pissa_rounds(fields: &Fields) -> Result<Option<u32>, JobError> {
    match signed(fields, "pissa_iter")? {
        None => Ok(Some(16)),
        Some(-1) => Ok(None),
        Some(rounds) => match u32::try_from(rounds) {
            Ok(rounds) if rounds <= 1000 => Ok(Some(rounds)),
            _ => Err(fields.wrong("pissa_iter", "-1, or a whole number from 0 to 1000")),
        },
    }
}

fn freeze(fields: &Fields) -> Result<FreezeSettings, JobError> {
    let layers = signed(fields, "freeze_trainable_layers")?.unwrap_or(2);
    if layers == 0 || layers.unsigned_abs() > 1 << 12 {
        return Err(fields.wrong("freeze_trainable_layers", "a whole number but zero"));
    }
    let mut modules = fields.words("freeze_trainable_modules")?;
    if modules.is_empty() {
        modules.push("all".to_owned());
    }
    Ok(FreezeSettings {
        layers,
        modules,
        extra_modules: fields.words("freeze_extra_modules")?,
    })
}

/// A whole number that may be negative.
pub(super) fn signed(fields: &Fields, key: &str) -> Result<Option<i64>, JobError> {
    let Some(text) = fields.text(key)? else {
        return Ok(None);
    };
    let number = text.trim().parse().ok();
    number
        .map(Some)
        .ok_or_else(|| fields.wrong(key, "a whole number"))
}

pub(super) fn quantization(fields: &Fields) -> Result<Option<Quantization>, JobError> {
    let method = fields.text("quantization_method")?;
    match fields.whole("quantization_bit", 0)?.unwrap_or(0) {
        0 => return Ok(None),
        4 => {}
        _ => {
            let reason = "only four bits are there";
            return Err(fields.unsupported("quantization_bit", reason));
        }
    }
    if !matches!(
        method.as_deref(),
        None | Some("bnb" | "bitsandbytes" | "BNB")
    ) {
        let reason = "only the format of bitsandbytes (`bnb`) is there";
        return Err(fields.unsupported("quantization_method", reason));
    }
    four_bit(fields).map(Some)
}

/// Which four bits are meant.
pub(super) fn four_bit(fields: &Fields) -> Result<Quantization, JobError> {
    let fp4 = match fields.text("quantization_type")?.as_deref() {
        None | Some("nf4") => false,
        Some("fp4") => true,
        Some(_) => return Err(fields.wrong("quantization_type", "nf4 or fp4")),
    };
    let given = fields.text_of_flag("double_quantization")?;
    Ok(Quantization {
        fp4,
        double: given.unwrap_or(true),
    })
}

pub(super) fn numeric(fields: &Fields) -> Result<Numeric, JobError> {
    let formats = [
        ("bf16", Numeric::Bfloat16),
        ("pure_bf16", Numeric::PureBfloat16),
        ("fp16", Numeric::Float16),
    ];
    let mut chosen = Numeric::Float32;
    for (key, numeric) in formats {
        if fields.flag(key)? {
            let both = matches!(
                (chosen, numeric),
                (Numeric::Bfloat16, Numeric::PureBfloat16)
            );
            if chosen != Numeric::Float32 && !both {
                return Err(fields.wrong(key, "false where `bf16` is true"));
            }
            chosen = numeric;
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::super::Job;
    use super::*;

    fn parse(more: &str) -> Result<Job, JobError> {
        let least =
            "model_name_or_path: m\ndataset: a\ntemplate: qwen\noutput_dir: o\nreport_to: none\n";
        Job::parse("job.yaml", &format!("{least}{more}"), &[])
    }

    fn lora(more: &str) -> LoraSettings {
        match parse(more).unwrap().fine_tuning {
            FineTuning::Lora(lora) => lora,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_ways_to_tune_are_read_with_the_defaults_of_the_original() {
        let plain = lora("");
        assert!(!plain.dora && !plain.pissa && plain.quantization.is_none());
        let all = lora(
            "use_dora: true\nuse_rslora: true\nloraplus_lr_ratio: 16\nadditional_target: embed_tokens,lm_head\n\
             adapter_name_or_path: a,b\ncreate_new_adapter: true",
        );
        assert!(all.dora && all.rank_stabilised && all.fresh);
        assert_eq!(all.whole_modules, ["embed_tokens", "lm_head"]);
        assert_eq!(all.adapters.len(), 2);
        assert!((all.b_rate - 16.0).abs() < 1e-12);
        assert_eq!(lora("pissa_init: true").pissa_rounds, Some(16));
        assert_eq!(lora("pissa_init: true\npissa_iter: -1").pissa_rounds, None);
        let four = lora("quantization_bit: 4").quantization.unwrap();
        assert!(!four.fp4 && four.double);
        let four = lora("quantization_bit: 4\nquantization_type: fp4\ndouble_quantization: false");
        assert_eq!(
            four.quantization,
            Some(Quantization {
                fp4: true,
                double: false
            })
        );
        let freeze = parse("finetuning_type: freeze\nfreeze_trainable_layers: -3").unwrap();
        let FineTuning::Freeze(freeze) = freeze.fine_tuning else {
            panic!("not freeze");
        };
        assert_eq!(
            (freeze.layers, freeze.modules),
            (-3, vec!["all".to_owned()])
        );
        let pure = parse("bf16: true\npure_bf16: true").unwrap();
        assert_eq!(pure.numeric, Numeric::PureBfloat16);
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_the_reason() {
        for (more, expected) in [
            ("quantization_bit: 8", "only four bits"),
            (
                "quantization_bit: 4\nfinetuning_type: full",
                "cannot be trained",
            ),
            ("quantization_bit: 4\npissa_init: true", "PiSSA splits"),
            (
                "quantization_bit: 4\nadapter_name_or_path: a,b",
                "cannot be merged",
            ),
            ("quantization_bit: 4\nquantization_type: int4", "nf4 or fp4"),
            (
                "quantization_bit: 4\nquantization_method: hqq",
                "bitsandbytes",
            ),
            ("use_dora: true\npissa_init: true", "not there together"),
            ("pissa_init: true\npissa_iter: -7", "-1, or a whole number"),
            (
                "finetuning_type: freeze\nfreeze_trainable_layers: 0",
                "but zero",
            ),
            (
                "finetuning_type: freeze\nadapter_name_or_path: a",
                "whole model",
            ),
            ("finetuning_type: oft", "`lora`, `freeze` and `full`"),
            ("pure_bf16: true\nfp16: true", "`fp16` must be false"),
        ] {
            let error = parse(more).unwrap_err().to_string();
            assert!(error.contains(expected), "{more}: {error}");
        }
    }
}
