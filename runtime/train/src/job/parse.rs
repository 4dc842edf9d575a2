//! A job file's keys into a [`Job`].

use serde_json::Value;

use super::error::JobError;
use super::fields::Fields;
use super::keys::{REFUSED, SUPPORTED, WITHOUT_EFFECT, nearest};
use super::{Job, tuning};
use crate::schedule::Scheduler;

impl Job {
    /// Reads a job as LLaMA-Factory writes it, in YAML or JSON, with `key=value` overrides.
    ///
    /// Defaults are the original's, but for `do_train`, which is taken as true where it is missing.
    /// `origin` names the file in messages.
    pub fn parse(origin: &str, text: &str, overrides: &[String]) -> Result<Self, JobError> {
        let fields = Fields::read(origin, text, overrides)?;
        check_keys(&fields)?;
        check_choices(&fields)?;
        let seed = fields.whole("seed", 0)?.unwrap_or(42);
        let (warmup_steps, warmup_ratio) = warmup(&fields)?;
        let count = |key, usual: u64| -> Result<usize, JobError> {
            Ok(fields.whole(key, 1)?.unwrap_or(usual) as usize)
        };
        let datasets = fields.words("dataset")?;
        if datasets.is_empty() {
            fields.required("dataset")?;
            return Err(fields.wrong("dataset", "names between commas"));
        }
        Ok(Self {
            model: fields.required("model_name_or_path")?,
            fine_tuning: tuning::fine_tuning(&fields)?,
            numeric: tuning::numeric(&fields)?,
            datasets,
            dataset_dir: fields.text("dataset_dir")?.unwrap_or("data".into()).into(),
            template: fields.required("template")?,
            default_system: fields.text("default_system")?,
            cutoff_len: count("cutoff_len", 2048)?,
            max_samples: fields.whole("max_samples", 1)?.map(|limit| limit as usize),
            train_on_prompt: fields.flag("train_on_prompt")?,
            mask_history: fields.flag("mask_history")?,
            output_dir: fields.required("output_dir")?.into(),
            overwrite_output_dir: fields.flag("overwrite_output_dir")?,
            batch_size: count("per_device_train_batch_size", 8)?,
            gradient_accumulation_steps: count("gradient_accumulation_steps", 1)?,
            learning_rate: fields.number("learning_rate", 5e-5, 1e3)?,
            epochs: fields.number("num_train_epochs", 3.0, 1e6)?,
            max_steps: max_steps(&fields)?,
            scheduler: scheduler(&fields)?,
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
            logging_steps: fields.whole("logging_steps", 1)?.unwrap_or(500),
            save_steps: save_steps(&fields)?,
            save_total_limit: fields
                .whole("save_total_limit", 1)?
                .map(|limit| limit as usize),
            plot_loss: fields.flag("plot_loss")?,
            include_num_input_tokens_seen: fields.flag("include_num_input_tokens_seen")?,
            gradient_checkpointing: !fields.flag("disable_gradient_checkpointing")?,
            use_cpu: fields.flag("use_cpu")?,
            settings: fields.to_json(),
        })
    }
}

fn check_keys(fields: &Fields) -> Result<(), JobError> {
    for (key, place, value) in fields.iter() {
        let name = key.as_str();
        let known = SUPPORTED.contains(&name) || tuning::KEYS.contains(&name);
        if known || WITHOUT_EFFECT.contains(&name) {
            continue;
        }
        let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) else {
            return Err(JobError::Unknown {
                place: place.clone(),
                key: key.clone(),
                nearest: nearest(key).to_owned(),
            });
        };
        if !is_off(name, value) {
            return Err(fields.unsupported(key, reason));
        }
    }
    Ok(())
}

/// Whether a key is given, but asks for nothing.
fn is_off(key: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => {
            text.is_empty() || text == "no" || (key == "mix_strategy" && text == "concat")
        }
        _ => false,
    }
}

/// Keys of which one choice is there.
fn check_choices(fields: &Fields) -> Result<(), JobError> {
    let choices: [(&str, &[&str], &str); 3] = [
        (
            "stage",
            &["sft"],
            "only supervised fine-tuning (`sft`) is there",
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
        return Err(fields.unsupported("do_train", "a job that does not train does nothing"));
    }
    Ok(())
}

impl Fields {
    fn text_of_flag(&self, key: &str) -> Result<Option<bool>, JobError> {
        let given = self
            .iter()
            .any(|(name, _, value)| name == key && !value.is_null());
        given.then(|| self.flag(key)).transpose()
    }
}

/// Warmup as steps and as a part; a number of steps under one is a part, as in transformers 5.
fn warmup(fields: &Fields) -> Result<(u64, f64), JobError> {
    let ratio = fields.number("warmup_ratio", 0.0, 1.0)?;
    let steps = fields.number("warmup_steps", 0.0, 1e12)?;
    if steps > 0.0 && steps < 1.0 {
        return Ok((0, steps));
    }
    Ok((steps as u64, ratio))
}

/// A negative number means none, which is the original's default.
fn max_steps(fields: &Fields) -> Result<Option<u64>, JobError> {
    let given = fields
        .iter()
        .find(|(key, _, _)| key.as_str() == "max_steps");
    match given.and_then(|(_, _, value)| value.as_i64()) {
        Some(..=0) => Ok(None),
        _ => fields.whole("max_steps", 1),
    }
}

fn scheduler(fields: &Fields) -> Result<Scheduler, JobError> {
    let Some(name) = fields.text("lr_scheduler_type")? else {
        return Ok(Scheduler::default());
    };
    let found = Scheduler::NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, scheduler)| *scheduler).ok_or_else(|| {
        let known = Scheduler::NAMES.map(|(known, _)| known).join(", ");
        fields.wrong("lr_scheduler_type", &format!("one of {known}"))
    })
}

fn save_steps(fields: &Fields) -> Result<Option<u64>, JobError> {
    let steps = fields.whole("save_steps", 1)?.unwrap_or(500);
    match fields.text("save_strategy") {
        Ok(None) => Ok(Some(steps)),
        Ok(Some(name)) if name == "steps" => Ok(Some(steps)),
        Ok(Some(name)) if name == "no" => Ok(None),
        // YAML 1.1 writers leave `no` bare, which reads as false.
        Err(_) if !fields.flag("save_strategy")? => Ok(None),
        _ => Err(fields.unsupported("save_strategy", "only `steps` and `no` are there")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::FineTuning;
    use super::*;

    const LEAST: &str =
        "model_name_or_path: m\ndataset: a, b\ntemplate: qwen\noutput_dir: o\nreport_to: none\n";

    fn parse(more: &str, overrides: &[&str]) -> Result<Job, JobError> {
        let overrides: Vec<String> = overrides.iter().map(|&o| o.to_owned()).collect();
        Job::parse("job.yaml", &format!("{LEAST}{more}"), &overrides)
    }

    #[test]
    fn the_golden_jobs_are_understood() {
        let text = include_str!("../../../../tests/golden/configs/sft_lora.yaml");
        let job = Job::parse("sft_lora.yaml", text, &[]).unwrap();
        assert_eq!(job.datasets.len(), 3);
        assert_eq!(
            (job.cutoff_len, job.max_steps, job.save_steps),
            (192, Some(20), None)
        );
        assert_eq!((job.scheduler, job.warmup_steps), (Scheduler::Cosine, 2));
        let FineTuning::Lora(lora) = &job.fine_tuning else {
            panic!("not LoRA");
        };
        assert_eq!((lora.rank, &lora.targets), (8, &None));
        let text = include_str!("../../../../tests/golden/configs/sft_full.yaml");
        let job = Job::parse("sft_full.yaml", text, &[]).unwrap();
        assert_eq!(job.fine_tuning, FineTuning::Full);
    }

    #[test]
    fn defaults_are_the_originals() {
        let job = parse("", &[]).unwrap();
        assert_eq!((job.batch_size, job.cutoff_len, job.seed), (8, 2048, 42));
        assert_eq!((job.logging_steps, job.save_steps), (500, Some(500)));
        assert!((job.learning_rate - 5e-5).abs() < 1e-12 && (job.epochs - 3.0).abs() < 1e-12);
        assert_eq!(
            (job.scheduler, job.gradient_checkpointing),
            (Scheduler::Linear, true)
        );
        assert_eq!(job.datasets, ["a", "b"]);
    }

    #[test]
    fn json_and_overrides_are_read_too() {
        let text = r#"{"model_name_or_path": "m", "dataset": "a", "template": "qwen",
            "output_dir": "o"}"#;
        let overrides = [
            "learning_rate=1e-4",
            "--lora_rank=4",
            "lora_target=q_proj,v_proj",
        ];
        let overrides = overrides.map(str::to_owned);
        let job = Job::parse("job.json", text, &overrides).unwrap();
        assert!((job.learning_rate - 1e-4).abs() < 1e-12);
        let FineTuning::Lora(lora) = job.fine_tuning else {
            panic!("not LoRA");
        };
        assert_eq!((lora.rank, lora.alpha as u64), (4, 8));
        assert_eq!(lora.targets.unwrap(), ["q_proj", "v_proj"]);
    }

    #[test]
    fn a_wrong_job_names_line_key_and_reason() {
        for (more, expected) in [
            (
                "lora_rnak: 4",
                "line 6: unknown key `lora_rnak`; the nearest known key is `lora_rank`",
            ),
            (
                "seed: 1\npacking: true",
                "line 7: `packing: true` is not supported: each example",
            ),
            (
                "packing: false\nlora_rank: zero",
                "line 7: `lora_rank` must be a whole number from 1",
            ),
            ("lora_rank: 0", "must be a whole number"),
            (
                "learning_rate: -1",
                "`learning_rate` must be a number from 0",
            ),
            (
                "learning_rate: .nan",
                "line 6: `learning_rate` must be a number",
            ),
            ("stage: dpo", "`stage: dpo` is not supported"),
            ("finetuning_type: freeze", "only `lora` and `full`"),
            ("bf16: true\nfp16: true", "`fp16` must be false"),
            ("lr_scheduler_type: wobbly", "one of linear, cosine"),
            ("plot_loss: 7", "`plot_loss` must be true or false"),
            ("do_train: false", "does nothing"),
            ("save_strategy: epoch", "only `steps` and `no`"),
            ("quantization_bit: 4", "quantised training"),
            ("a: [", "not a YAML or JSON job"),
        ] {
            let error = parse(more, &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{more}: {error}");
        }
        let error = Job::parse("job.yaml", "", &[]).unwrap_err().to_string();
        assert!(error.contains("`dataset` is missing"), "{error}");
        let error = parse("", &["loose"]).unwrap_err().to_string();
        assert!(error.contains("key=value"), "{error}");
        let error = parse("", &["lora_rank=x"]).unwrap_err().to_string();
        assert!(error.contains("argument `lora_rank=x`"), "{error}");
    }
}
