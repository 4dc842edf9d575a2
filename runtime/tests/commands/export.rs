//! Models written anew with their adapters.

use std::fs;

use serde_json::Value;

use crate::bench::Bench;

const EXPORT: &str = "model_name_or_path: model\nadapter_name_or_path: out\ntemplate: qwen\n\
                      finetuning_type: lora\nexport_dir: merged\nexport_size: 2\nexport_device: cpu\n";

/// A model with an adapter in `out` that has learned something, and the job that exports it.
fn trained() -> Bench {
    let bench = Bench::new();
    let output = bench.run(&[
        "train",
        "job.yaml",
        "learning_rate=0.05",
        "num_train_epochs=6",
    ]);
    assert!(output.status.success(), "{output:?}");
    bench.write("export.yaml", EXPORT);
    bench
}

fn json(bench: &Bench, name: &str) -> Value {
    serde_json::from_slice(&fs::read(bench.path(name)).unwrap()).unwrap()
}

/// The answer of a model, with the given words for `chat`.
fn answer(bench: &Bench, model: &[&str]) -> String {
    let mut words = vec!["--json", "chat", "--template", "qwen", "--max-tokens", "12"];
    words.extend(["--prompt", "What is the capital of France?"]);
    words.extend(model);
    let output = bench.run(&words);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let result: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    result["answer"].as_str().unwrap().to_owned()
}

#[test]
fn an_exported_model_answers_as_the_base_with_its_adapter() {
    let bench = trained();
    let output = bench.run(&["--json", "export", "export.yaml"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let result: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(result["files"], serde_json::json!(["model.safetensors"]));

    let with_adapter = answer(&bench, &["--model", "model", "--adapter", "out"]);
    assert_ne!(with_adapter, answer(&bench, &["--model", "model"]));
    assert_eq!(answer(&bench, &["--model", "merged"]), with_adapter);
    let record = json(&bench, "merged/export.json");
    assert_eq!(record["base"], "model");
    assert_eq!(record["adapters"][0]["path"], "out");
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ] {
        assert!(bench.path(&format!("merged/{name}")).is_file(), "{name}");
    }
    assert_eq!(
        json(&bench, "merged/config.json"),
        json(&bench, "model/config.json")
    );
}

#[test]
fn an_export_replaces_nothing_but_an_export() {
    let bench = trained();
    bench.write("merged/thesis.txt", "ten years of work");
    let refused = |settings: &[&str]| {
        let mut words = vec!["export", "export.yaml"];
        words.extend(settings);
        let output = bench.run(&words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("runtime.export-taken"), "{said}");
    };
    refused(&[]);
    refused(&["overwrite_output_dir=true"]);
    refused(&["overwrite_output_dir=true", "export_dir=."]);
    assert!(bench.path("merged/thesis.txt").is_file());

    assert!(
        bench
            .run(&["export", "export.yaml", "export_dir=deep/again"])
            .status
            .success()
    );
    refused(&["export_dir=deep/again"]);
    let over = [
        "export_dir=deep/again",
        "overwrite_output_dir=true",
        "infer_dtype=bfloat16",
    ];
    let mut words = vec!["export", "export.yaml"];
    words.extend(over);
    assert!(bench.run(&words).status.success());
    assert_eq!(json(&bench, "deep/again/config.json")["dtype"], "bfloat16");
    assert_eq!(json(&bench, "deep/again/export.json")["dtype"], "bfloat16");
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(bench.path("deep")).unwrap().count(), 1);
}

#[test]
fn a_broken_adapter_leaves_the_earlier_export_as_it_was() {
    let bench = trained();
    assert!(bench.run(&["export", "export.yaml"]).status.success());
    let before = fs::read(bench.path("merged/model.safetensors")).unwrap();
    let path = bench.path("out/adapter_model.safetensors");
    let whole = fs::read(&path).unwrap();
    let over = ["export", "export.yaml", "overwrite_output_dir=true"];
    let mut broken = whole.clone();
    let end = broken.len();
    broken[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    for (bytes, code) in [
        (&broken[..], "torch.malformed"),
        (&whole[..end - 1], "torch.malformed"),
    ] {
        fs::write(&path, bytes).unwrap();
        let output = bench.run(&over);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(code), "{said}");
        assert_eq!(
            fs::read(bench.path("merged/model.safetensors")).unwrap(),
            before
        );
    }
    let names = fs::read_dir(bench.path("")).unwrap();
    let left = names.filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.')
    });
    assert_eq!(left.count(), 0, "an unfinished export was left");
}

#[test]
fn a_model_in_four_bits_speaks_and_learns_an_adapter() {
    let bench = trained();
    let output = bench.run(&[
        "--json",
        "export",
        "export.yaml",
        "export_quantization_bit=4",
    ]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let result: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(result["bits"], 4);
    let config = json(&bench, "merged/config.json");
    assert_eq!(config["quantization_config"]["bnb_4bit_quant_type"], "nf4");
    // Near enough to the numbers it was made of to have kept what the adapter learned.
    let with_adapter = answer(&bench, &["--model", "model", "--adapter", "out"]);
    assert_eq!(answer(&bench, &["--model", "merged"]), with_adapter);
    let train = |more: &[&str]| {
        let mut words = vec![
            "--json",
            "train",
            "job.yaml",
            "model_name_or_path=merged",
            "output_dir=more",
        ];
        words.extend(more);
        bench.run(&words)
    };
    let full = train(&["finetuning_type=full", "lora_rank=null"]);
    let said = String::from_utf8(full.stdout).unwrap();
    assert!(said.contains("torch.not-on-packed"), "{said}");
    assert!(!bench.path("more").exists());
    let lora = train(&[]);
    assert!(lora.status.success(), "{lora:?}");
    answer(&bench, &["--model", "merged", "--adapter", "more"]);
}
