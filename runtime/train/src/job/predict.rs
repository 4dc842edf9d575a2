//! A prediction job: what a LLaMA-Factory file with `do_predict: true` asks for.

use std::path::PathBuf;

use train_data::HeldOut;

use super::data::{self, DataSettings};
use super::error::JobError;
use super::fields::Fields;
use super::generation::{Generation, generation};
use super::moments::held_out;
use super::parse::key_faults;
use super::used::{Asked, UsedModel, asked, supervised, used_model};

/// Questions to answer, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictJob {
    /// The model.
    pub used: UsedModel,
    /// What is answered.
    pub asked: Asked,
    /// How records are read.
    pub data: DataSettings,
    /// How answers are generated.
    pub generation: Generation,
    /// Answers that are generated at a time.
    pub batch_size: usize,
    /// Where the results go.
    pub output_dir: PathBuf,
    /// Seed of what is drawn.
    pub seed: u64,
}

impl PredictJob {
    /// Reads a prediction job in YAML or JSON, with `key=value` overrides. `origin` names the file in messages.
    ///
    /// # Errors
    /// The first key that is unknown, not supported, or has a value that does not fit it.
    pub fn parse(origin: &str, text: &str, overrides: &[String]) -> Result<Self, JobError> {
        let mut fields = Fields::read(origin, text, overrides)?;
        if let Some(fault) = key_faults(&fields).into_iter().next() {
            return Err(fault);
        }
        let reason = "only a model that was trained to answer (`sft`) can be asked";
        supervised(&fields, reason)?;
        let asked = asked(&fields)?;
        fields.stand_in("dataset", "eval_dataset");
        let data = data::settings(&fields)?;
        Ok(Self {
            used: used_model(&fields, Some(data.cutoff_len))?,
            asked,
            data,
            generation: generation(&fields)?,
            batch_size: fields.whole("per_device_eval_batch_size", 1)?.unwrap_or(8) as usize,
            output_dir: fields.required("output_dir")?.into(),
            seed: fields.whole("seed", 0)?.unwrap_or(42),
        })
    }
}

/// How a training job answers its evaluation data in the end; none: it does not.
pub(super) fn at_end(fields: &Fields) -> Result<Option<Generation>, JobError> {
    let generates = fields.flag("predict_with_generate")?;
    if !fields.flag("do_predict")? {
        if generates {
            let reason = "evaluation is by loss; set `do_predict: true` to have answers generated in the end";
            return Err(fields.unsupported("predict_with_generate", reason));
        }
        return Ok(None);
    }
    let reason = "only a model that is trained to answer (`sft`) can be asked";
    match fields.text("stage")?.as_deref() {
        None | Some("sft") => {}
        Some(_) => return Err(fields.unsupported("do_predict", reason)),
    }
    if !generates {
        let reason = "set `predict_with_generate: true` as well, so that answers are generated";
        return Err(fields.unsupported("do_predict", reason));
    }
    if held_out(fields)? == HeldOut::Nothing && fields.words("eval_dataset")?.is_empty() {
        let reason = "set `val_size` or `eval_dataset`: what was learnt should not be asked";
        return Err(fields.unsupported("do_predict", reason));
    }
    generation(fields).map(Some)
}

#[cfg(test)]
#[path = "predict_tests.rs"]
mod tests;
