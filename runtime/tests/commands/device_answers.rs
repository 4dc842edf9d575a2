//! Predictions, exams and losses on a device: what the processor makes of the same.

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, golden, result, with_golden_data};
use crate::devices::{command, said};

/// Runs a command on a device, or on the processor, and returns its result.
fn run(bench: &Bench, arguments: &[&str], device: Option<&str>) -> Value {
    let mut all = [&["--json"], arguments].concat();
    all.extend(device.iter().flat_map(|device| ["--device", device]));
    let result = result(&mut command(bench, &all));
    assert_eq!(result["device"], device.unwrap_or("cpu"));
    result
}

#[test]
fn rows_are_those_of_the_processor() {
    let bench = with_golden_data();
    bench.write("job.yaml", fs::read(golden("predict/job.yaml")).unwrap());
    let rows = || fs::read_to_string(bench.path("predicted/generated_predictions.jsonl")).unwrap();
    for drawn in [
        &["do_sample=false"][..],
        &["do_sample=true", "temperature=1.5", "top_k=0"],
    ] {
        let predict = [
            &["predict", "job.yaml", "per_device_eval_batch_size=3"],
            drawn,
        ]
        .concat();
        let wanted = run(&bench, &predict, None);
        let (here, figures) = (rows(), &wanted["results"]["predict_rouge-l"]);
        let found = run(&bench, &predict, Some("npu:1"));
        assert_eq!(rows(), here);
        assert_eq!(&found["results"]["predict_rouge-l"], figures);
    }
}

#[test]
fn choices_are_those_of_the_processor() {
    let bench = Bench::new();
    bench.write(
        "job.yaml",
        "model_name_or_path: model\ntemplate: qwen\ntask: tiny_validation\nlang: zh\nn_shot: 3\n",
    );
    bench.copy(&golden("exam/tiny"), "evaluation/tiny");
    let mut saved = Vec::new();
    for (device, folder) in [(None, "here"), (Some("npu:0"), "there")] {
        let save = format!("save_dir={folder}");
        run(&bench, &["eval", "job.yaml", &save], device);
        saved.push(fs::read_to_string(bench.path(&format!("{folder}/results.json"))).unwrap());
    }
    assert_eq!(saved[0], saved[1]);
}

#[test]
fn losses_are_those_of_the_processor() {
    let bench = with_golden_data();
    for (stage, data) in [("pt", "golden_pt"), ("sft", "golden_sharegpt")] {
        let job = format!(
            "model_name_or_path: model\nstage: {stage}\ndo_eval: true\neval_dataset: {data}\ntemplate: qwen\n\
             cutoff_len: 64\nmax_samples: 9\noutput_dir: out\nper_device_eval_batch_size: 2\n"
        );
        bench.write("job.yaml", job);
        let loss = |device| {
            let result = run(&bench, &["eval", "job.yaml"], device);
            ["eval_loss", "eval_token_loss"].map(|name| result["results"][name].as_f64().unwrap())
        };
        for (found, wanted) in loss(Some("npu:0")).into_iter().zip(loss(None)) {
            assert!((found - wanted).abs() < 1e-6, "{stage}: {found} {wanted}");
        }
    }
}

#[test]
fn a_chips_rules_hold_for_a_model_that_is_used() {
    let bench = with_golden_data();
    bench.write("job.yaml", fs::read(golden("predict/job.yaml")).unwrap());
    let chat = [
        "chat",
        "--model",
        "model",
        "--template",
        "qwen",
        "--max-tokens",
        "2",
        "--prompt",
        "Hi",
    ];
    let predict = ["predict", "job.yaml"];
    let eval = ["eval", "job.yaml"];
    for arguments in [&chat[..], &predict, &eval] {
        let on = |chip: &str, setting: &str| {
            let chosen = ["--device", "npu", "--chip", chip];
            let mut all = [&["--json"], arguments, &chosen[..]].concat();
            // Settings follow the job; a chat has none.
            all.insert(if arguments == chat { 2 } else { 3 }, setting);
            said(command(&bench, &all).output().unwrap())
        };
        let refused = on("ascend-910b", "quantization_bit=4");
        assert!(refused.contains("runtime.chip-refuses"), "{refused}");
        let replaced = on("ascend-910a", "infer_dtype=bfloat16");
        assert!(replaced.contains("runtime.chip-replaces"), "{replaced}");
        assert!(!replaced.contains("\"error\""), "{replaced}");
        // A chip that one does not train on may answer.
        let answered = on("ascend-310", "seed=1");
        assert!(!answered.contains("\"error\""), "{answered}");
    }
}
