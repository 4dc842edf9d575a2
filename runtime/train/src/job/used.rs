//! Jobs that use a model as it is: what all of them read.

use std::path::PathBuf;

use serde_json::Value;
use train_data::{HeldOut, ToolFormat};

use super::data::{tool_date, tool_format};
use super::error::JobError;
use super::fields::Fields;
use super::generation::{Generation, generation};
use super::moments::held_out;
use super::parse::key_faults;
use super::positions::stretch;
use super::tuning::{self, Numeric, Quantization};
use crate::stretch::Stretch;

/// A model to be used as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UsedModel {
    /// Its folder, a GGUF file, or an installed model's name.
    pub model: String,
    /// Folders of adapters, added one after the other.
    pub adapters: Vec<PathBuf>,
    /// Number format of the computation.
    pub numeric: Numeric,
    /// Number format of the weights.
    pub quantization: Option<Quantization>,
    /// How its positions are stretched.
    pub stretch: Option<Stretch>,
    /// No accelerator is used even if there is one.
    pub use_cpu: bool,
    /// Every key as it was given, overrides included.
    pub settings: Value,
}

/// How chats are written for a model.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wording {
    /// Name of the chat template; none: the model's own.
    pub template: Option<String>,
    /// System text where there is none, instead of the template's.
    pub default_system: Option<String>,
    /// Answers of a reasoning template begin with a thought.
    pub thinking: bool,
    /// Words for tools, instead of the template's.
    pub tool_format: Option<ToolFormat>,
    /// The day that a description of tools names, where a template's does.
    pub tool_date: String,
}

/// A job for talking with a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatJob {
    /// The model.
    pub used: UsedModel,
    /// How chats are written.
    pub wording: Wording,
    /// How answers are generated.
    pub generation: Generation,
}

impl ChatJob {
    /// Reads the original's file for `chat` and `api` in YAML or JSON, with `key=value` overrides. `model` stands in for
    /// the file's `model_name_or_path`. `origin` names the file in messages.
    ///
    /// # Errors
    /// The first key that is unknown, not supported, or has a value that does not fit it.
    pub fn parse(
        origin: &str,
        text: &str,
        overrides: &[String],
        model: Option<&str>,
    ) -> Result<Self, JobError> {
        let mut fields = Fields::read(origin, text, overrides)?;
        if let Some(model) = model {
            fields.put("model_name_or_path", "`--model`", model);
        }
        if let Some(fault) = key_faults(&fields).into_iter().next() {
            return Err(fault);
        }
        supervised(
            &fields,
            "only a model that was trained to answer can be talked with",
        )?;
        Ok(Self {
            used: used_model(&fields, None)?,
            wording: wording(&fields)?,
            generation: generation(&fields)?,
        })
    }
}

/// The datasets that a model is tried on.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Their names, in order.
    pub names: Vec<String>,
    /// The part of them that a training run with the same seed would hold out; nothing: all.
    pub held_out: HeldOut,
}

/// `eval_dataset`, or what `val_size` holds out of `dataset`, or all of `dataset`.
pub(super) fn asked(fields: &Fields) -> Result<Asked, JobError> {
    let held_out = held_out(fields)?;
    let names = fields.words("eval_dataset")?;
    if names.is_empty() {
        let names = fields.words("dataset")?;
        if names.is_empty() {
            fields.required("eval_dataset")?;
        }
        return Ok(Asked { names, held_out });
    }
    if held_out != HeldOut::Nothing {
        return Err(fields.conflict("val_size", "eval_dataset"));
    }
    Ok(Asked { names, held_out })
}

/// The model that is used for texts of at most `longest` tokens, where the job says how long they are.
pub(super) fn used_model(fields: &Fields, longest: Option<usize>) -> Result<UsedModel, JobError> {
    let quantization = tuning::quantization(fields)?;
    let adapters = fields.words("adapter_name_or_path")?;
    if quantization.is_some() && adapters.len() > 1 {
        let reason = "adapters cannot be merged into weights in four bits";
        return Err(fields.unsupported("adapter_name_or_path", reason));
    }
    let numeric = match fields.text("infer_dtype")?.as_deref() {
        None | Some("auto") => tuning::numeric(fields)?,
        Some("float32") => Numeric::Float32,
        Some("bfloat16") => Numeric::Bfloat16,
        Some("float16") => Numeric::Float16,
        Some(_) => {
            return Err(fields.wrong("infer_dtype", "auto, float32, bfloat16 or float16"));
        }
    };
    Ok(UsedModel {
        model: fields.required("model_name_or_path")?,
        adapters: adapters.into_iter().map(Into::into).collect(),
        numeric,
        quantization,
        stretch: stretch(fields, longest)?,
        use_cpu: fields.flag("use_cpu")?,
        settings: fields.to_json(),
    })
}

pub(super) fn wording(fields: &Fields) -> Result<Wording, JobError> {
    Ok(Wording {
        template: fields.text("template")?.filter(|name| !name.is_empty()),
        default_system: fields.text("default_system")?,
        thinking: fields.text_of_flag("enable_thinking")?.unwrap_or(true),
        tool_format: tool_format(fields)?,
        tool_date: tool_date(fields)?,
    })
}

/// Refuses a stage other than `sft`.
pub(super) fn supervised(fields: &Fields, reason: &str) -> Result<(), JobError> {
    match fields.text("stage")?.as_deref() {
        None | Some("sft") => Ok(()),
        Some(_) => Err(fields.unsupported("stage", reason)),
    }
}
