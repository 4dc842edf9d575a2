//! What a job reads, and how it becomes rows.

use std::path::PathBuf;

use train_data::{Packing, Stage};

use super::error::JobError;
use super::fields::Fields;

/// What is read, and how it becomes rows.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSettings {
    /// What is read of a record.
    pub stage: Stage,
    /// Datasets, in order.
    pub names: Vec<String>,
    /// Folder with `dataset_info.json`.
    pub folder: PathBuf,
    /// Name of the chat template; none: the model's own.
    pub template: Option<String>,
    /// System text where an example has none, instead of the template's.
    pub default_system: Option<String>,
    /// Longest example in tokens.
    pub cutoff_len: usize,
    /// At most this many examples of each dataset.
    pub max_samples: Option<usize>,
    /// The loss counts the prompts too.
    pub train_on_prompt: bool,
    /// The loss counts only each conversation's last answer.
    pub mask_history: bool,
    /// Answers of a reasoning template begin with a thought.
    pub enable_thinking: bool,
    /// Whether examples share rows.
    pub packing: Packing,
    /// Records that are packed together.
    pub chunk: usize,
}

impl DataSettings {
    /// What ends each plain text, where the template says so.
    pub fn text_end(&self) -> Option<&'static str> {
        (self.template.as_deref() == Some("llama3")).then_some("<|end_of_text|>")
    }
}

/// Records that the original packs together if nothing is said.
const USUAL_CHUNK: u64 = 1000;

pub(super) fn settings(fields: &Fields) -> Result<DataSettings, JobError> {
    let names = fields.words("dataset")?;
    if names.is_empty() {
        fields.required("dataset")?;
        return Err(fields.wrong("dataset", "names between commas"));
    }
    let stage = match fields.text("stage")?.as_deref() {
        Some("pt") => Stage::Pretrain,
        Some("rm" | "dpo") => Stage::Pairwise,
        Some("kto") => Stage::Feedback,
        _ => Stage::Supervised,
    };
    let template = fields.text("template")?;
    if stage != Stage::Pretrain && template.as_deref().is_some_and(str::is_empty) {
        return Err(fields.wrong("template", "the name of a template"));
    }
    let (train_on_prompt, mask_history) = (
        fields.flag("train_on_prompt")?,
        fields.flag("mask_history")?,
    );
    if train_on_prompt && mask_history {
        return Err(fields.conflict("mask_history", "train_on_prompt"));
    }
    let neat = fields.flag("neat_packing")?;
    if stage != Stage::Supervised {
        for (key, on) in [
            ("neat_packing", neat),
            ("train_on_prompt", train_on_prompt),
            ("mask_history", mask_history),
        ] {
            if on {
                let stage = fields.text("stage")?.unwrap_or_default();
                return Err(fields.conflict(key, &format!("stage: {stage}")));
            }
        }
    }
    let asked = fields.text_of_flag("packing")?;
    let mut cutoff_len = fields.whole("cutoff_len", 2)?.unwrap_or(2048) as usize;
    if neat || asked == Some(true) {
        // As in the original: a packed row has one token more, and so is as long as was asked.
        cutoff_len -= 1;
    }
    let packing = match (neat, asked, stage) {
        // As in the original answers that are compared are never packed.
        (_, _, Stage::Pairwise | Stage::Feedback) => Packing::Off,
        (true, ..) => Packing::Neat,
        (_, Some(true), _) | (_, None, Stage::Pretrain) => Packing::Plain,
        _ => Packing::Off,
    };
    Ok(DataSettings {
        stage,
        names,
        folder: fields.text("dataset_dir")?.unwrap_or("data".into()).into(),
        template,
        default_system: fields.text("default_system")?,
        cutoff_len,
        max_samples: fields.whole("max_samples", 1)?.map(|limit| limit as usize),
        train_on_prompt,
        mask_history,
        enable_thinking: fields.text_of_flag("enable_thinking")?.unwrap_or(true),
        packing,
        chunk: fields
            .whole("preprocessing_batch_size", 1)?
            .unwrap_or(USUAL_CHUNK) as usize,
    })
}
