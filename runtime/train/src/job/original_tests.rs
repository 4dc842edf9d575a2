//! Every key of the original, with its default and with other values: none is unknown, and none is silently passed over.

use serde_json::Value;

use super::super::{ChatJob, EvalJob, ExportJob, Job, JobError, PredictJob};
use super::*;

/// `[key, default, [other values]]`, as `tests/golden/make/keys.py` finds them.
fn original() -> Vec<(String, Value, Vec<Value>)> {
    let text = include_str!("../../../../tests/golden/vectors/keys.json");
    serde_json::from_str(text).unwrap()
}

/// Jobs that a key may matter to.
const JOBS: [&str; 11] = [
    "",
    "finetuning_type: freeze",
    "quantization_bit: 4",
    "pissa_init: true",
    "stage: dpo",
    "stage: dpo\npref_loss: simpo",
    "stage: kto",
    "val_size: 2\neval_strategy: steps\nload_best_model_at_end: true",
    "eval_dataset: a, b\neval_strategy: steps",
    "streaming: true\nmax_steps: 5",
    "max_new_tokens: -1",
];

/// A job with a line for `key` in place of its own.
fn job(more: &str, key: &str, value: &Value) -> (Vec<String>, String) {
    let least = "model_name_or_path: m\ndataset: a, b\ntemplate: qwen\noutput_dir: o\n";
    let text = format!("{least}{more}\n");
    (vec![format!("{key}={value}")], text)
}

fn parse(more: &str, key: &str, value: &Value) -> Result<Job, JobError> {
    let (overrides, text) = job(more, key, value);
    Job::parse("job.yaml", &text, &overrides)
}

/// What a job reads as, whatever it is for, without the values as they were given.
fn read(more: &str, key: &str, value: &Value) -> Vec<String> {
    let (overrides, text) = job(more, key, value);
    let with = |more: &str| format!("{text}{more}");
    let shown = |found: Result<String, JobError>| found.unwrap_or_else(|error| error.to_string());
    let without = |text: String| {
        let start = text.find("settings: Object").unwrap_or(text.len());
        text[..start].to_owned()
    };
    let eval = |text: &str| {
        EvalJob::parse("", text, &overrides).map(|job| match job {
            EvalJob::Exam(mut job) => {
                job.used.settings = Value::Null;
                format!("{job:?}")
            }
            EvalJob::Loss(mut job) => {
                job.used.settings = Value::Null;
                format!("{job:?}")
            }
        })
    };
    vec![
        shown(Job::parse("", &text, &overrides).map(|job| without(format!("{job:?}")))),
        shown(ChatJob::parse("", &text, &overrides, None).map(|mut job| {
            job.used.settings = Value::Null;
            format!("{job:?}")
        })),
        shown(PredictJob::parse("", &text, &overrides).map(|mut job| {
            job.used.settings = Value::Null;
            format!("{job:?}")
        })),
        shown(eval(&with("task: mmlu_test\n"))),
        shown(eval(&text)),
        shown(
            ExportJob::parse("", &with("export_dir: e\n"), &overrides)
                .map(|job| format!("{job:?}")),
        ),
    ]
}

/// Whether an error is about this key: named, and by a value or a reason.
fn names(error: &JobError, key: &str) -> bool {
    match error {
        // Some shapes of the rate need settings.
        JobError::Value { key: named, .. } if named == "lr_scheduler_kwargs" => {
            key == named || key == "lr_scheduler_type"
        }
        JobError::Unsupported { key: named, .. } | JobError::Value { key: named, .. } => {
            named == key
        }
        JobError::Conflict {
            key: named, other, ..
        } => named == key || other.starts_with(key),
        JobError::Missing { key: named, .. } => named == key,
        JobError::OtherCommand { .. } => key == "export_dir",
        _ => false,
    }
}

#[test]
fn every_key_of_the_original_is_known() {
    for (key, ..) in original() {
        assert!(usage(&key).is_some(), "{key}");
    }
}

#[test]
fn what_the_original_has_anyway_is_no_fault() {
    // A job must name these; the original's default is nothing.
    let needed = ["dataset", "model_name_or_path", "output_dir"];
    for (key, default, _) in original() {
        if needed.contains(&key.as_str()) || default.is_null() && key == "task" {
            continue;
        }
        // Nothing is trained without it, which is what the command is for.
        let found = parse("", &key, &default);
        assert!(
            found.is_ok() || key == "do_train",
            "{key}: {default}: {found:?}"
        );
    }
}

#[test]
fn what_is_refused_is_named_and_what_has_no_effect_is_said() {
    for (key, _, others) in original() {
        for value in others {
            let found = parse("", &key, &value);
            match usage(&key) {
                Some(Usage::Idle) => {
                    let job = found.unwrap_or_else(|error| panic!("{key}: {value}: {error}"));
                    assert_eq!(job.without_effect(), [key.as_str()], "{value}");
                }
                Some(Usage::Refused(_)) if !value.is_boolean() || value == true => {
                    let error = found.unwrap_err();
                    assert!(names(&error, &key), "{key}: {value}: {error}");
                }
                _ => {
                    let right = found.as_ref().err().is_none_or(|error| names(error, &key));
                    assert!(right, "{key}: {value}: {found:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_read_changes_a_job() {
    for (key, default, others) in original() {
        if usage(&key) != Some(Usage::Read) {
            continue;
        }
        let matters = JOBS.iter().any(|more| {
            let usual = read(more, &key, &default);
            others.iter().any(|value| read(more, &key, value) != usual)
        });
        assert!(matters || others.is_empty(), "{key}");
    }
}
