//! Jobs that use a model: keys, defaults and refusals.

use train_data::{ExamLanguage, Split, Stage};

use super::*;
use crate::job::{ChatJob, EvalJob, Job, Length, Numeric};

/// The original's example for predictions, but for its names.
const PREDICT: &str = "model_name_or_path: org/model\nadapter_name_or_path: out\ntrust_remote_code: true\n\
    stage: sft\ndo_predict: true\nfinetuning_type: lora\neval_dataset: identity,alpaca\ntemplate: llama3\n\
    cutoff_len: 512\nmax_samples: 50\npreprocessing_num_workers: 16\noutput_dir: predicted\n\
    overwrite_output_dir: true\nreport_to: none\nper_device_eval_batch_size: 1\npredict_with_generate: true\n";

fn predict(more: &str) -> Result<PredictJob, JobError> {
    PredictJob::parse("job.yaml", &format!("{PREDICT}{more}"), &[])
}

#[test]
fn the_originals_prediction_file_is_read() {
    let job = predict("").unwrap();
    assert_eq!(job.asked.names, ["identity", "alpaca"]);
    assert_eq!(job.asked.held_out, HeldOut::Nothing);
    assert_eq!(
        (job.batch_size, job.data.cutoff_len, job.seed),
        (1, 512, 42)
    );
    assert_eq!(job.used.adapters, [PathBuf::from("out")]);
    assert_eq!(job.generation, Generation::default());
    let more = "do_sample: false\nmax_new_tokens: 16\ntop_k: -1\nrepetition_penalty: 1.1\nlength_penalty: -0.5\n";
    let job = predict(more).unwrap();
    assert_eq!((job.generation.draws, job.generation.top_k), (false, 0));
    assert_eq!(job.generation.limit(100), 16);
    let job = predict("max_new_tokens: -1\nmax_length: 120\n").unwrap();
    assert_eq!(job.generation.length, Length::Whole(120));
    assert_eq!(
        (job.generation.limit(100), job.generation.limit(500)),
        (20, 1)
    );
}

#[test]
fn a_training_file_can_be_predicted_with() {
    let text = PREDICT.replace("eval_dataset", "dataset");
    let job = PredictJob::parse("job.yaml", &text, &["val_size=0.1".to_owned()]).unwrap();
    assert_eq!(job.asked.names.len(), 2);
    assert_eq!(job.asked.held_out, HeldOut::Part(0.1));
    let text = PREDICT.replace("eval_dataset: identity,alpaca\n", "");
    let error = PredictJob::parse("job.yaml", &text, &[]).unwrap_err();
    assert!(
        error.to_string().contains("`eval_dataset` is missing"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_generated_is_named_with_its_line() {
    for (more, expected) in [
        (
            "num_beams: 65\n",
            "line 17: `num_beams` must be a whole number from 1 to 64",
        ),
        ("top_p: 0\n", "a number above 0, up to 1"),
        ("top_p: 1.5\n", "from 0 to 1"),
        ("temperature: hot\n", "`temperature` must be"),
        ("repetition_penalty: 0\n", "a number above 0"),
        ("top_k: many\n", "`top_k` must be"),
        ("length_penalty: long\n", "`length_penalty` must be"),
        ("val_size: 0.1\n", "cannot be used with `eval_dataset`"),
        ("infer_dtype: int8\n", "auto, float32"),
        (
            "max_new_token: 3\n",
            "the nearest known key is `max_new_tokens`",
        ),
    ] {
        let error = predict(more).unwrap_err().to_string();
        assert!(error.contains(expected), "{more}: {error}");
    }
    let text = PREDICT.replace("stage: sft", "stage: dpo");
    let error = PredictJob::parse("x", &text, &[]).unwrap_err();
    assert!(error.to_string().contains("trained to answer"), "{error}");
}

#[test]
fn training_ends_with_predictions_where_the_job_says_so() {
    let train = |more: &str| {
        let text =
            format!("model_name_or_path: m\ndataset: d\ntemplate: qwen\noutput_dir: out\n{more}");
        Job::parse("job.yaml", &text, &[])
    };
    assert_eq!(train("").unwrap().prediction, None);
    let both = "do_predict: true\npredict_with_generate: true\n";
    let job = train(&format!("{both}val_size: 2\ntemperature: 0.5\n")).unwrap();
    assert!((job.prediction.unwrap().temperature - 0.5).abs() < 1e-12);
    for (more, expected) in [
        (both.to_owned(), "set `val_size` or `eval_dataset`"),
        ("do_predict: true\nval_size: 2\n".to_owned(), "as well"),
        ("predict_with_generate: true\n".to_owned(), "by loss"),
        (format!("{both}val_size: 2\nstage: pt\n"), "`sft`"),
    ] {
        let error = train(&more).unwrap_err().to_string();
        assert!(error.contains(expected), "{more}: {error}");
    }
}

#[test]
fn the_originals_exam_file_is_read() {
    let text = "model_name_or_path: m\nadapter_name_or_path: a\nfinetuning_type: lora\ntask: mmlu_test\n\
                template: fewshot\nlang: en\nn_shot: 5\nbatch_size: 4\n";
    let text = text.replace("fewshot", "qwen");
    let EvalJob::Exam(job) = EvalJob::parse("e.yaml", &text, &[]).unwrap() else {
        panic!("not an exam");
    };
    assert_eq!(job.folder, PathBuf::from("evaluation/mmlu"));
    assert_eq!(
        (job.split, job.language),
        (Split::Test, ExamLanguage::English)
    );
    assert_eq!((job.shots, job.batch_size, job.save_dir), (5, 4, None));
    for (setting, expected) in [
        ("task=mmlu", "such as `mmlu_test`"),
        ("task=mmlu_some", "such as `mmlu_test`"),
        ("task=../../etc_test", "such as `mmlu_test`"),
        ("lang=fr", "en or zh"),
        ("batch_size=0", "from 1"),
        ("seed=4294967296", "below 2^32"),
    ] {
        let error = EvalJob::parse("e.yaml", &text, &[setting.to_owned()]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{setting}: {error}");
    }
}

#[test]
fn without_a_task_the_loss_is_computed() {
    let text = "model_name_or_path: m\nstage: pt\neval_dataset: d\noutput_dir: out\nbf16: true\n";
    let EvalJob::Loss(job) = EvalJob::parse("e.yaml", text, &[]).unwrap() else {
        panic!("not a loss");
    };
    assert_eq!(job.data.stage, Stage::Pretrain);
    assert_eq!(job.used.numeric, Numeric::Bfloat16);
    let error = EvalJob::parse("e.yaml", text, &["stage=dpo".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("`pt` or `sft`"), "{error}");
}

#[test]
fn the_originals_chat_file_is_read() {
    let text = "model_name_or_path: m\nadapter_name_or_path: a\ntemplate: qwen3\ninfer_backend: huggingface\n\
                trust_remote_code: true\nenable_thinking: false\n";
    let job = ChatJob::parse("c.yaml", text, &["top_p=0.5".to_owned()], None).unwrap();
    assert_eq!(job.wording.template.as_deref(), Some("qwen3"));
    assert!(!job.wording.thinking);
    assert_eq!(
        (job.generation.top_p, job.used.numeric),
        (0.5, Numeric::Float32)
    );
    let job = ChatJob::parse("c.yaml", text, &[], Some("other")).unwrap();
    assert_eq!(job.used.model, "other");
    let error = ChatJob::parse("", "", &[], None).unwrap_err();
    assert!(error.to_string().contains("model_name_or_path"), "{error}");
}
