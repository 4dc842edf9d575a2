//! Answers to datasets: the original's rows and figures, and what stops them.

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, golden, with_golden_data};

fn predict(bench: &Bench, settings: &[&str]) -> Value {
    let mut arguments = vec!["--json", "predict", "job.yaml"];
    arguments.extend(settings);
    let output = bench.run(&arguments);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

fn rows(bench: &Bench, folder: &str) -> String {
    fs::read_to_string(bench.path(&format!("{folder}/generated_predictions.jsonl"))).unwrap()
}

/// The job that LLaMA-Factory made `tests/golden/predict` of.
fn golden_job() -> Bench {
    let bench = with_golden_data();
    bench.write("job.yaml", fs::read(golden("predict/job.yaml")).unwrap());
    bench
}

#[test]
fn rows_and_figures_are_the_originals() {
    let bench = golden_job();
    let wanted = fs::read_to_string(golden("predict/generated_predictions.jsonl")).unwrap();
    let figures = fs::read(golden("predict/predict_results.json")).unwrap();
    let figures: Value = serde_json::from_slice(&figures).unwrap();
    // One after another as there, and side by side: the rows stay the same.
    for size in ["1", "5"] {
        let setting = format!("per_device_eval_batch_size={size}");
        let found = predict(&bench, &[&setting]);
        assert_eq!(rows(&bench, "predicted"), wanted, "{size} at a time");
        for name in ["bleu-4", "rouge-1", "rouge-2", "rouge-l"] {
            let name = format!("predict_{name}");
            assert_eq!(found["results"][&name], figures[&name], "{name}");
        }
    }
    let all = fs::read(bench.path("predicted/all_results.json")).unwrap();
    let all: Value = serde_json::from_slice(&all).unwrap();
    assert_eq!(all["predict_bleu-4"], figures["predict_bleu-4"]);
    assert!(all["predict_runtime"].is_number());
}

#[test]
fn a_seed_draws_the_same_answers_whatever_is_beside_them() {
    let bench = golden_job();
    let drawn = |settings: &[&str]| {
        let mut all = vec!["do_sample=true", "temperature=1.5", "top_p=1", "top_k=0"];
        all.extend(settings);
        predict(&bench, &all);
        rows(&bench, "predicted")
    };
    let first = drawn(&[]);
    assert_eq!(drawn(&["per_device_eval_batch_size=4"]), first);
    assert_ne!(drawn(&["seed=7"]), first);
}

#[test]
fn training_may_end_with_answers() {
    let bench = Bench::new();
    bench.job("do_predict: true\npredict_with_generate: true\neval_dataset: capitals\nmax_new_tokens: 8\nval_size: 0\n");
    let output = bench.run(&["--json", "train", "job.yaml", "do_sample=false"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let result: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert!(
        result["prediction"]["predict_bleu-4"].is_number(),
        "{result}"
    );
    let all = fs::read(bench.path("out/all_results.json")).unwrap();
    let all: Value = serde_json::from_slice(&all).unwrap();
    assert!(all["train_loss"].is_number() && all["predict_rouge-l"].is_number());
    // The same by itself, from the adapter that was saved.
    let settings = [
        "adapter_name_or_path=out",
        "output_dir=again",
        "do_sample=false",
    ];
    predict(&bench, &settings);
    assert_eq!(rows(&bench, "again"), rows(&bench, "out"));
}

#[test]
fn what_cannot_be_answered_is_said_and_nothing_is_written() {
    let bench = golden_job();
    for (settings, code) in [
        (&["num_beams=0"][..], "job.value"),
        (&["eval_num_beams=4"], "job.unsupported"),
        (&["stage=dpo"], "job.unsupported"),
        (&["eval_dataset=none"], "data.unknown-dataset"),
        (&["eval_dataset=golden_dpo"], "data.wrong-stage"),
        (&["adapter_name_or_path=none"], "torch.unreadable"),
        (&["top_p=0"], "job.value"),
        (&["eval_dataset=null"], "job.missing-key"),
    ] {
        let mut arguments = vec!["--json", "predict", "job.yaml"];
        arguments.extend(settings);
        let output = bench.run(&arguments);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!output.status.success(), "{settings:?}");
        assert!(said.contains(code), "{settings:?}: {said}");
        assert!(!bench.path("predicted").exists(), "{settings:?}");
    }
}
