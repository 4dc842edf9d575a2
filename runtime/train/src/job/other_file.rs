//! What is no job to train by, but lies beside them in the original's examples.

use super::error::JobError;
use super::fields::Fields;
use super::parse::asks_for_nothing;

/// Keys by which a file is known, and what it is.
const KINDS: [(&[&str], &str); 4] = [
    (&["compute_environment"], "a configuration of accelerate"),
    (&["zero_optimization"], "a configuration of DeepSpeed"),
    (
        &["model_class", "dist_config", "peft_config", "train_dataset"],
        "a job for the rewrite of LLaMA-Factory (`USE_V1=1`)",
    ),
    (
        &[
            "tensor_model_parallel_size",
            "pipeline_model_parallel_size",
            "expert_model_parallel_size",
        ],
        "a job for LLaMA-Factory on Megatron (`USE_MCA=1`)",
    ),
];

/// What the file is, if it is known to be no job: the names of its keys would only lead astray.
pub(super) fn told(fields: &Fields) -> Option<JobError> {
    let has = |marks: &[&str]| {
        fields
            .iter()
            .any(|(key, _, _)| marks.contains(&key.as_str()))
    };
    let (_, kind) = KINDS.iter().find(|(marks, _)| has(marks))?;
    Some(JobError::OtherFile {
        origin: fields.origin().to_owned(),
        kind: (*kind).to_owned(),
    })
}

/// The command that a job is for, if that trains nothing: the keys of the original's other examples say so.
pub(super) fn for_another_command(fields: &Fields) -> Option<JobError> {
    let has = |key: &str| {
        fields
            .value(key)
            .is_some_and(|value| !asks_for_nothing(value))
    };
    let command = if has("export_dir") {
        "export"
    } else if has("dataset") || has("do_train") {
        return None;
    } else if has("task") {
        "eval"
    } else if has("do_predict") {
        "predict"
    } else if has("model_name_or_path") && !has("output_dir") {
        "chat"
    } else {
        return None;
    };
    Some(JobError::OtherCommand {
        origin: fields.origin().to_owned(),
        command: command.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Job;
    use super::*;

    #[test]
    fn files_beside_jobs_are_named_and_not_their_keys() {
        for (text, kind) in [
            (
                "compute_environment: LOCAL_MACHINE\nnum_machines: 1",
                "accelerate",
            ),
            (
                r#"{"train_batch_size": "auto", "zero_optimization": {"stage": 3}}"#,
                "DeepSpeed",
            ),
            (
                "model: Qwen/Qwen3-4B\nmodel_class: llm\nmicro_batch_size: 1",
                "USE_V1",
            ),
            (
                "model_name_or_path: m\ntensor_model_parallel_size: 4",
                "USE_MCA",
            ),
        ] {
            let faults = Job::key_faults("job.yaml", text, &[]).unwrap();
            let [fault] = &faults[..] else {
                panic!("{faults:?}");
            };
            assert!(fault.to_string().contains(kind), "{fault}");
        }
    }

    #[test]
    fn jobs_of_other_commands_are_sent_there() {
        let chat = "model_name_or_path: m\ntemplate: qwen\ninfer_backend: huggingface\n";
        for (text, command) in [
            (chat.to_owned(), Some("chat")),
            (
                format!("{chat}adapter_name_or_path: a\nexport_dir: e\n"),
                Some("export"),
            ),
            (
                format!("{chat}eval_dataset: a\ndo_predict: true\noutput_dir: o\n"),
                Some("predict"),
            ),
            (format!("{chat}task: mmlu_test\n"), Some("eval")),
            (format!("{chat}output_dir: o\n"), None),
            (format!("{chat}dataset: a\n"), None),
        ] {
            let error = Job::parse("job.yaml", &text, &[]);
            let sent = match error {
                Err(JobError::OtherCommand { command, .. }) => Some(command),
                _ => None,
            };
            assert_eq!(sent.as_deref(), command, "{text}");
        }
    }
}
