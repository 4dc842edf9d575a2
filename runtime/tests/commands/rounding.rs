//! Models exported with few bits, rounded by texts.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, with_golden_data};

const EXPORT: &str = "model_name_or_path: model\ntemplate: qwen\nexport_dir: four\nexport_quantization_bit: 4\n\
                      export_quantization_dataset: data/golden_pt.jsonl\nexport_quantization_nsamples: 24\n\
                      export_quantization_maxlen: 16\n";

fn bench() -> Bench {
    let bench = with_golden_data();
    bench.write("export.yaml", EXPORT);
    bench
}

fn result(bench: &Bench, words: &[&str]) -> Value {
    let output = bench.run(words);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

/// The loss on the golden texts of the model in `folder`.
fn loss(bench: &Bench, folder: &str) -> f64 {
    let job = format!(
        "model_name_or_path: {folder}\nstage: pt\ndo_eval: true\neval_dataset: golden_pt\ncutoff_len: 64\n\
         output_dir: loss-{folder}\nper_device_eval_batch_size: 4\n"
    );
    bench.write("eval.yaml", job);
    let result = result(bench, &["--json", "eval", "eval.yaml"]);
    result["results"]["eval_token_loss"].as_f64().unwrap()
}

#[test]
fn a_rounded_model_is_written_used_and_tuned_with_an_adapter() {
    let bench = bench();
    let exported = result(&bench, &["--json", "export", "export.yaml"]);
    assert_eq!(exported["bits"], 4);
    let record: Value =
        serde_json::from_slice(&fs::read(bench.path("four/export.json")).unwrap()).unwrap();
    let drawn = json!({"dataset": "data/golden_pt.jsonl", "texts": 24, "tokens": 16, "seed": 42});
    assert_eq!(record["calibration"], drawn);
    let (whole, four) = (loss(&bench, "model"), loss(&bench, "four"));
    assert!((four - whole).abs() < 0.15, "{whole} {four}");

    let train = |more: &[&str]| {
        let mut words = vec!["--json", "train", "job.yaml", "model_name_or_path=four"];
        words.extend(["dataset=golden_alpaca", "max_samples=2"]);
        words.extend(more);
        bench.run(&words)
    };
    let lora = train(&["output_dir=adapter", "learning_rate=0.01"]);
    assert!(lora.status.success(), "{lora:?}");
    let chat = [
        "--json",
        "chat",
        "--model",
        "four",
        "--adapter",
        "adapter",
        "--template",
        "qwen",
    ];
    let mut words = chat.to_vec();
    words.extend([
        "--max-tokens",
        "5",
        "--prompt",
        "What is the capital of France?",
    ]);
    assert!(!result(&bench, &words)["answer"].is_null());
    let full = train(&["output_dir=full", "finetuning_type=full"]);
    let said = String::from_utf8(full.stdout).unwrap();
    assert!(
        !full.status.success() && said.contains("torch.not-on-packed"),
        "{said}"
    );
}

#[test]
fn the_same_job_gives_the_same_bytes_and_another_seed_gives_others() {
    let bench = bench();
    let weights = |folder: &str, more: &str| {
        let into = format!("export_dir={folder}");
        result(&bench, &["--json", "export", "export.yaml", &into, more]);
        fs::read(bench.path(&format!("{folder}/model.safetensors"))).unwrap()
    };
    let first = weights("one", "seed=42");
    assert!(first == weights("two", "export_size=5"));
    assert!(first != weights("three", "seed=43"));
}

#[test]
fn texts_that_do_not_do_are_refused_and_nothing_is_written() {
    let bench = bench();
    bench.write("data/empty.json", "[]");
    bench.write("data/other.json", "[{\"content\": \"a\"}]");
    for (more, code) in [
        ("export_quantization_maxlen=64", "data.no-long-text"),
        ("export_quantization_dataset=data/none.json", "data.read"),
        ("export_quantization_dataset=data/empty.json", "data.empty"),
        ("export_quantization_dataset=data/other.json", "data.shape"),
        ("export_quantization_bit=5", "job.value"),
    ] {
        let output = bench.run(&["--json", "export", "export.yaml", more]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            !output.status.success() && said.contains(code),
            "{more}: {said}"
        );
        assert!(!bench.path("four").exists(), "{more}");
    }
}
