//! A job file's keys into a [`Job`].

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::JobError;
use super::fields::{Fields, plain};
use super::keys::{Usage, nearest, usage};
use super::{
    FineTuning, Job, Objective, When, data, moments, objective, other_file, positions, predict,
    rate, tuning,
};

impl Job {
    /// Reads a job as LLaMA-Factory writes it, in YAML or JSON, with `key=value` overrides.
    ///
    /// Defaults are the original's, but for `do_train`, which is taken as true where it is missing.
    /// `origin` names the file in messages.
    pub fn parse(origin: &str, text: &str, overrides: &[String]) -> Result<Self, JobError> {
        let fields = Fields::read(origin, text, overrides)?;
        if let Some(other) = other_file::for_another_command(&fields) {
            return Err(other);
        }
        if let Some(fault) = key_faults(&fields).into_iter().next() {
            return Err(fault);
        }
        check_choices(&fields)?;
        let seed = fields.whole("seed", 0)?.unwrap_or(42);
        let (warmup_steps, warmup_ratio) = warmup(&fields)?;
        let count = |key, usual: u64| -> Result<usize, JobError> {
            Ok(fields.whole(key, 1)?.unwrap_or(usual) as usize)
        };
        let data = data::settings(&fields)?;
        let evaluation = moments::evaluation(&fields)?;
        let saving = moments::saving(&fields, &evaluation)?;
        let prediction = predict::at_end(&fields)?;
        let objective = objective::objective(&fields)?;
        let fine_tuning = tuning::fine_tuning(&fields)?;
        reference_is_left(&fields, objective, &fine_tuning)?;
        let router_loss = fields.number("moe_aux_loss_coef", 0.0, 1e3)?;
        let max_steps = max_steps(&fields)?;
        let learning_rate = fields.number("learning_rate", 5e-5, 1e3)?;
        let scheduler = rate::scheduler(&fields, learning_rate, evaluation.when != When::Never)?;
        if data.streaming.is_some() && max_steps.is_none() {
            let reason =
                "set `max_steps`: nobody knows how many records there are before they are read";
            return Err(fields.unsupported("streaming", reason));
        }
        Ok(Self {
            model: fields.required("model_name_or_path")?,
            stretch: positions::stretch(&fields, Some(data.cutoff_len))?,
            objective,
            fine_tuning,
            numeric: tuning::numeric(&fields)?,
            router_loss: (router_loss > 0.0).then_some(router_loss),
            data,
            evaluation,
            prediction,
            saving,
            output_dir: fields.required("output_dir")?.into(),
            overwrite_output_dir: fields.flag("overwrite_output_dir")?,
            batch_size: count("per_device_train_batch_size", 8)?,
            gradient_accumulation_steps: count("gradient_accumulation_steps", 1)?,
            learning_rate,
            epochs: fields.number("num_train_epochs", 3.0, 1e6)?,
            max_steps,
            scheduler,
            warmup_steps,
            warmup_ratio,
            adam_beta1: fields.number("adam_beta1", 0.9, 1.0)?,
            adam_beta2: fields.number("adam_beta2", 0.999, 1.0)?,
            adam_epsilon: fields.number("adam_epsilon", 1e-8, 1.0)?,
            weight_decay: fields.number("weight_decay", 0.0, 1e3)?,
            max_grad_norm: fields.number("max_grad_norm", 1.0, 1e9)?,
            seed,
            data_seed: fields.whole("data_seed", 0)?.unwrap_or(seed),
            disable_shuffling: fields.flag("disable_shuffling")?,
            logging_steps: moments::every(&fields, "logging_steps")?.unwrap_or_default(),
            logging_first_step: fields.flag("logging_first_step")?,
            resume: moments::resume(&fields)?,
            plot_loss: fields.flag("plot_loss")?,
            include_num_input_tokens_seen: counts_tokens(&fields)?,
            gradient_checkpointing: !fields.flag("disable_gradient_checkpointing")?,
            recomputation_asked: recomputation_asked(&fields)?,
            use_cpu: fields.flag("use_cpu")?,
            settings: fields.to_json(),
        })
    }
}

impl Job {
    /// Every key of a job that is unknown, or known but not supported: what [`Self::parse`] would stop at, one by one.
    pub fn key_faults(
        origin: &str,
        text: &str,
        overrides: &[String],
    ) -> Result<Vec<JobError>, JobError> {
        Ok(key_faults(&Fields::read(origin, text, overrides)?))
    }

    /// The keys of this job that change nothing here: they are about the original's Python, or refine what is off.
    pub fn without_effect(&self) -> Vec<&str> {
        let given = self.settings.as_object().into_iter().flatten();
        let given =
            given.filter(|(key, value)| usage(key) == Some(Usage::Idle) && !value.is_null());
        given.map(|(key, _)| key.as_str()).collect()
    }

    /// Every key as it is given, overrides applied, with its place for messages; neither known nor judged.
    pub fn given(
        origin: &str,
        text: &str,
        overrides: &[String],
    ) -> Result<BTreeMap<String, (String, Value)>, JobError> {
        let fields = Fields::read(origin, text, overrides)?;
        let all = fields.iter();
        Ok(all
            .map(|(key, place, value)| (key.clone(), (place.clone(), value.clone())))
            .collect())
    }
}

pub(super) fn key_faults(fields: &Fields) -> Vec<JobError> {
    if let Some(fault) = other_file::told(fields) {
        return vec![fault];
    }
    let fault = |(key, place, value): (&String, &String, &Value)| match usage(key) {
        Some(Usage::Read | Usage::Idle) => None,
        Some(Usage::Refused(reason)) => {
            (!is_off(key, value)).then(|| fields.unsupported(key, reason))
        }
        None => Some(unknown(place.clone(), key)),
    };
    let mut faults: Vec<JobError> = fields.iter().filter_map(fault).collect();
    // As they stand in the file; what nobody knows comes last, since then no other engine helps.
    faults.sort_by_key(|fault| {
        let known = matches!(fault, JobError::Unsupported { .. });
        (!known, line(fault))
    });
    faults
}

/// A key that nobody knows, with the nearest that is known.
fn unknown(place: String, key: &str) -> JobError {
    let nearest = nearest(key);
    let key = key.to_owned();
    match nearest {
        Some(nearest) => JobError::Unknown {
            place,
            key,
            nearest: nearest.to_owned(),
        },
        None => JobError::Foreign { place, key },
    }
}

/// The line that an error names; what the command line says stands behind all.
fn line(fault: &JobError) -> usize {
    match fault {
        JobError::Unsupported { place, .. }
        | JobError::Unknown { place, .. }
        | JobError::Foreign { place, .. } => {
            let number = place.rsplit(' ').next();
            number
                .and_then(|number| number.parse().ok())
                .unwrap_or(usize::MAX)
        }
        _ => usize::MAX,
    }
}

/// The model before training is the one without its adapter; so nothing else of it may be trained.
fn reference_is_left(
    fields: &Fields,
    objective: Objective,
    fine_tuning: &FineTuning,
) -> Result<(), JobError> {
    let FineTuning::Lora(lora) = fine_tuning else {
        return Ok(());
    };
    let reason = "this stage compares with the model without its adapter, which would not be the model before training";
    match (objective.needs_reference(), lora) {
        (true, lora) if lora.pissa => Err(fields.unsupported("pissa_init", reason)),
        (true, lora) if !lora.whole_modules.is_empty() => {
            Err(fields.unsupported("additional_target", reason))
        }
        _ => Ok(()),
    }
}

/// Whether the job says in so many words that activations shall be recomputed, which is also the default.
fn recomputation_asked(fields: &Fields) -> Result<bool, JobError> {
    let kept = fields.text_of_flag("disable_gradient_checkpointing")?;
    Ok(kept == Some(false) || fields.text_of_flag("gradient_checkpointing")? == Some(true))
}

/// Whether a key is given, but asks for nothing.
fn is_off(key: &str, value: &Value) -> bool {
    match USUAL.iter().find(|(known, _)| *known == key) {
        Some((_, usual)) => value.is_null() || plain(value).eq_ignore_ascii_case(usual),
        None => asks_for_nothing(value),
    }
}

/// Keys whose usual value is not off, and that value.
const USUAL: [(&str, &str); 5] = [
    ("ignore_pad_token_for_loss", "true"),
    ("logging_strategy", "steps"),
    ("ray_num_workers", "1"),
    ("reward_model_type", "lora"),
    ("train_sampling_strategy", "random"),
];

/// Whether a value of a job is as good as none.
pub fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => {
            let text = text.trim().to_ascii_lowercase();
            ["", "no", "false", "none", "null", "off", "{}", "[]"].contains(&text.as_str())
        }
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    }
}

/// Keys of which one choice is there.
fn check_choices(fields: &Fields) -> Result<(), JobError> {
    let choices: [(&str, &[&str], &str); 3] = [
        (
            "stage",
            &["pt", "sft", "rm", "dpo", "kto"],
            "only `pt`, `sft`, `rm`, `dpo` and `kto` are there",
        ),
        (
            "optim",
            &["adamw_torch", "adamw_torch_fused", "adamw_hf"],
            "only AdamW (`adamw_torch`) is there",
        ),
        (
            "report_to",
            &["none"],
            "no outside service is told; set `report_to: none`",
        ),
    ];
    for (key, allowed, reason) in choices {
        let chosen = fields.words(key)?;
        if !chosen
            .iter()
            .all(|choice| allowed.contains(&choice.as_str()))
        {
            return Err(fields.unsupported(key, reason));
        }
    }
    // The original's `stage` is sft where it is missing; `do_train: false` would do nothing.
    if fields.text_of_flag("do_train")? == Some(false) {
        return Err(fields.unsupported(
            "do_train",
            "this command trains; `predict` and `eval` use a model as it is",
        ));
    }
    Ok(())
}

impl Fields {
    pub(super) fn text_of_flag(&self, key: &str) -> Result<Option<bool>, JobError> {
        let given = self
            .iter()
            .any(|(name, _, value)| name == key && !value.is_null());
        given.then(|| self.flag(key)).transpose()
    }
}

/// transformers 5 has words beside true and false, of which `all` is true.
fn counts_tokens(fields: &Fields) -> Result<bool, JobError> {
    const KEY: &str = "include_num_input_tokens_seen";
    match fields.value(KEY).and_then(Value::as_str) {
        Some("all") => Ok(true),
        Some("non_padding") => Err(fields.unsupported(KEY, "padding is counted, as `all` has it")),
        _ => fields.flag(KEY),
    }
}

/// Warmup as steps or as a part. As in transformers 5 the part counts where both are given, and a number of steps under one
/// is a part.
fn warmup(fields: &Fields) -> Result<(u64, f64), JobError> {
    let ratio = fields.number("warmup_ratio", 0.0, 1.0)?;
    let steps = fields.number("warmup_steps", 0.0, 1e12)?;
    if fields.text("warmup_ratio")?.is_some() {
        return Ok((0, ratio));
    }
    if steps < 1.0 {
        return Ok((0, steps));
    }
    Ok((steps as u64, 0.0))
}

/// A negative number means none, which is the original's default.
fn max_steps(fields: &Fields) -> Result<Option<u64>, JobError> {
    let given = fields.text("max_steps")?;
    match given.and_then(|text| text.trim().parse::<f64>().ok()) {
        Some(..=0.0) => Ok(None),
        _ => fields.whole("max_steps", 1),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
