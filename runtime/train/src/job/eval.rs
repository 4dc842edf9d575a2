//! An evaluation job: an exam of multiple choice, or the loss on datasets.

use std::path::PathBuf;

use train_data::{ExamLanguage, Split, Stage};

use super::data::{self, DataSettings};
use super::error::JobError;
use super::fields::Fields;
use super::parse::key_faults;
use super::used::{Asked, UsedModel, Wording, asked, used_model, wording};

/// What a model is tried on.
#[derive(Clone, Debug, PartialEq)]
pub enum EvalJob {
    /// An exam (`task`).
    Exam(ExamJob),
    /// The loss on datasets.
    Loss(LossJob),
}

/// An exam of multiple choice.
#[derive(Clone, Debug, PartialEq)]
pub struct ExamJob {
    /// The model.
    pub used: UsedModel,
    /// How questions are written.
    pub wording: Wording,
    /// The folder of the exam.
    pub folder: PathBuf,
    /// The questions that count.
    pub split: Split,
    /// The language of the questions.
    pub language: ExamLanguage,
    /// Questions that are shown with their answers before each.
    pub shots: usize,
    /// Questions that are computed at a time.
    pub batch_size: usize,
    /// Where the results go; none: they are only shown.
    pub save_dir: Option<PathBuf>,
    /// Seed of which questions are shown.
    pub seed: u64,
}

/// The loss on datasets.
#[derive(Clone, Debug, PartialEq)]
pub struct LossJob {
    /// The model.
    pub used: UsedModel,
    /// What the loss is computed on.
    pub asked: Asked,
    /// How records are read.
    pub data: DataSettings,
    /// Examples in a micro-batch.
    pub batch_size: usize,
    /// Where the results go.
    pub output_dir: PathBuf,
    /// Seed of what is held out.
    pub seed: u64,
}

impl EvalJob {
    /// Reads an evaluation job in YAML or JSON, with `key=value` overrides: the original's file for `eval`, which names a
    /// `task`, or one for training, whose evaluation data are taken. `origin` names the file in messages.
    ///
    /// # Errors
    /// The first key that is unknown, not supported, or has a value that does not fit it.
    pub fn parse(origin: &str, text: &str, overrides: &[String]) -> Result<Self, JobError> {
        let mut fields = Fields::read(origin, text, overrides)?;
        if let Some(fault) = key_faults(&fields).into_iter().next() {
            return Err(fault);
        }
        if fields.text("task")?.is_some() {
            return exam(&fields).map(Self::Exam);
        }
        let asked = asked(&fields)?;
        fields.stand_in("dataset", "eval_dataset");
        let data = data::settings(&fields)?;
        if !matches!(data.stage, Stage::Pretrain | Stage::Supervised) {
            let reason = "perplexity is that of texts or answers: `pt` or `sft`";
            return Err(fields.unsupported("stage", reason));
        }
        Ok(Self::Loss(LossJob {
            used: used_model(&fields, Some(data.cutoff_len))?,
            asked,
            data,
            batch_size: fields.whole("per_device_eval_batch_size", 1)?.unwrap_or(8) as usize,
            output_dir: fields.required("output_dir")?.into(),
            seed: fields.whole("seed", 0)?.unwrap_or(42),
        }))
    }
}

fn exam(fields: &Fields) -> Result<ExamJob, JobError> {
    let task = fields.required("task")?;
    let expected = "an exam and its part, such as `mmlu_test`, `ceval_validation` or `cmmlu_test`";
    // As in the original, what stands after a second underline does not count.
    let mut parts = task.split('_');
    let (name, split) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let plain = !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('.');
    let split = Split::named(split).filter(|_| plain);
    let language = match fields.text("lang")?.as_deref() {
        None | Some("en") => ExamLanguage::English,
        Some("zh") => ExamLanguage::Chinese,
        Some(_) => return Err(fields.wrong("lang", "en or zh")),
    };
    let folder = PathBuf::from(fields.text("task_dir")?.unwrap_or("evaluation".into()));
    let seed = fields.whole("seed", 0)?.unwrap_or(42);
    if seed > u64::from(u32::MAX) {
        return Err(fields.wrong("seed", "a whole number below 2^32"));
    }
    Ok(ExamJob {
        used: used_model(fields, None)?,
        wording: wording(fields)?,
        folder: folder.join(name),
        split: split.ok_or_else(|| fields.wrong("task", expected))?,
        language,
        shots: fields.whole("n_shot", 0)?.unwrap_or(5) as usize,
        batch_size: fields.whole("batch_size", 1)?.unwrap_or(4) as usize,
        save_dir: fields.text("save_dir")?.map(Into::into),
        seed,
    })
}
