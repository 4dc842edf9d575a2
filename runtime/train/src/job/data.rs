//! What a job reads, and how it becomes rows.

use std::path::PathBuf;

use serde_json::Value;
use train_data::{Mix, Packing, Shares, Stage, Streaming, ToolFormat};

use super::error::JobError;
use super::fields::Fields;

/// What is read, and how it becomes rows.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one switch of the job file"
)]
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
    /// The original's workers, each of which packs a stretch of the records by itself.
    pub workers: usize,
    /// How several datasets become one.
    pub mix: Mix,
    /// Texts that are too long become several examples, which overlap by so many tokens; none: they are cut off.
    pub overlap: Option<usize>,
    /// The datasets are read while they are trained on; none: before that.
    pub streaming: Option<Streaming>,
    /// Folder of the tokenized examples, read instead of the data if it has any.
    pub tokenized: Option<PathBuf>,
    /// Examples are made anew even if they are kept from an earlier run.
    pub renews_cache: bool,
    /// Words for tools, instead of the template's.
    pub tool_format: Option<ToolFormat>,
    /// The day that a description of tools names, where a template's does.
    pub tool_date: String,
}

impl DataSettings {
    /// How much the mean loss of a batch of `rows` weighs in an evaluation with batches of `size`. In the original a
    /// last batch that is not full weighs as much as a full one where answers are learnt, and its share elsewhere.
    pub fn batch_weight(&self, rows: usize, size: usize) -> usize {
        match self.stage {
            Stage::Supervised => size,
            Stage::Pretrain | Stage::Pairwise | Stage::Feedback => rows,
        }
    }

    /// What ends each plain text, where the template says so.
    pub fn text_end(&self) -> Option<&'static str> {
        (self.template.as_deref() == Some("llama3")).then_some("<|end_of_text|>")
    }
}

/// Records that the original packs together if nothing is said.
const USUAL_CHUNK: u64 = 1000;

/// Records that the original shuffles a stream through if nothing is said.
const USUAL_BUFFER: u64 = 16384;

/// The day in Llama 3.1's own template. The original writes today's, so that its tokens change from day to day.
const USUAL_DATE: &str = "26 Jul 2024";

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
    let overlap = overlap(fields, stage, cutoff_len)?;
    let packing = match (neat, asked, stage) {
        // As in the original answers that are compared are never packed.
        (_, _, Stage::Pairwise | Stage::Feedback) => Packing::Off,
        (true, ..) => Packing::Neat,
        (_, Some(true), _) => Packing::Plain,
        (_, None, Stage::Pretrain) if overlap.is_none() => Packing::Plain,
        _ => Packing::Off,
    };
    let mix = mix(fields, names.len())?;
    let tokenized = fields
        .text("tokenized_path")?
        .filter(|path| !path.is_empty());
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
        workers: fields.whole("preprocessing_num_workers", 1)?.unwrap_or(1) as usize,
        mix,
        overlap,
        streaming: streaming(fields)?,
        tokenized: tokenized.map(PathBuf::from),
        renews_cache: fields.flag("overwrite_cache")?,
        tool_format: tool_format(fields)?,
        tool_date: tool_date(fields)?,
    })
}

/// Tokens that the windows over a long text have in common. The key is this program's own.
fn overlap(fields: &Fields, stage: Stage, cutoff_len: usize) -> Result<Option<usize>, JobError> {
    const KEY: &str = "long_text_overlap";
    let Some(overlap) = fields.whole(KEY, 0)? else {
        return Ok(None);
    };
    if matches!(stage, Stage::Pairwise | Stage::Feedback) {
        let stage = fields.text("stage")?.unwrap_or_default();
        return Err(fields.conflict(KEY, &format!("stage: {stage}")));
    }
    if stage == Stage::Pretrain && fields.text_of_flag("packing")? == Some(true) {
        // Joined texts are cut into rows anyway, and nothing of them is left out.
        return Err(fields.conflict(KEY, "packing"));
    }
    if fields.flag("train_on_prompt")? {
        // The prompt stands in every window, and would be learnt in each.
        return Err(fields.conflict(KEY, "train_on_prompt"));
    }
    if overlap * 2 >= cutoff_len as u64 {
        return Err(fields.wrong(KEY, "a whole number below half of `cutoff_len`"));
    }
    Ok(Some(overlap as usize))
}

fn mix(fields: &Fields, datasets: usize) -> Result<Mix, JobError> {
    let shares = shares(fields, datasets)?;
    match fields.text("mix_strategy")?.as_deref() {
        None | Some("concat") if shares.is_some() => {
            Err(fields.conflict("interleave_probs", "mix_strategy: concat"))
        }
        None | Some("concat") => Ok(Mix::Concat),
        Some("interleave_under") => Ok(Mix::Under(shares)),
        Some("interleave_over") => Ok(Mix::Over(shares)),
        Some("interleave_once") => {
            let reason = "LLaMA-Factory 0.9.5 fails with it too: use `interleave_under`, `interleave_over` or `concat`";
            Err(fields.unsupported("mix_strategy", reason))
        }
        Some(_) => Err(fields.wrong(
            "mix_strategy",
            "`concat`, `interleave_under` or `interleave_over`",
        )),
    }
}

/// How likely each dataset comes next in a mix.
fn shares(fields: &Fields, datasets: usize) -> Result<Shares, JobError> {
    const KEY: &str = "interleave_probs";
    let words = fields.words(KEY)?;
    if words.is_empty() {
        return Ok(None);
    }
    let numbers: Option<Vec<f64>> = words.iter().map(|word| word.parse().ok()).collect();
    let fits = numbers.filter(|shares| {
        let sum: f64 = shares.iter().sum();
        // As near as numpy wants it.
        shares.iter().all(|share| *share > 0.0) && (sum - 1.0).abs() < 1.5e-8
    });
    let shares = fits.ok_or_else(|| {
        fields.wrong(
            KEY,
            "numbers above zero between commas, which add up to one",
        )
    })?;
    let eval = fields.words("eval_dataset")?.len();
    if shares.len() != datasets || (eval > 0 && shares.len() != eval) {
        return Err(fields.wrong(
            KEY,
            "one number for each dataset, to train and to evaluate on",
        ));
    }
    Ok(Some(shares))
}

fn streaming(fields: &Fields) -> Result<Option<Streaming>, JobError> {
    const KEY: &str = "streaming";
    if !fields.flag(KEY)? {
        return Ok(None);
    }
    for other in ["max_samples", "tokenized_path", "eval_on_each_dataset"] {
        let given = fields.iter().any(|(key, _, value)| {
            key == other && !matches!(value, Value::Null | Value::Bool(false))
        });
        if given {
            return Err(fields.conflict(KEY, other));
        }
    }
    if fields.number("val_size", 0.0, 1e12)?.fract() != 0.0 {
        return Err(fields.wrong("val_size", "a whole number where `streaming` is on"));
    }
    let buffer = fields.whole("buffer_size", 1)?.unwrap_or(USUAL_BUFFER) as usize;
    Ok(Some(Streaming { buffer }))
}

pub(super) fn tool_date(fields: &Fields) -> Result<String, JobError> {
    let given = fields.text("tool_date")?;
    Ok(given.unwrap_or_else(|| USUAL_DATE.to_owned()))
}

pub(super) fn tool_format(fields: &Fields) -> Result<Option<ToolFormat>, JobError> {
    let Some(name) = fields.text("tool_format")? else {
        return Ok(None);
    };
    let found = ToolFormat::NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, format)| Some(*format)).ok_or_else(|| {
        let known = ToolFormat::NAMES.map(|(known, _)| known).join(", ");
        fields.wrong("tool_format", &format!("one of {known}"))
    })
}
