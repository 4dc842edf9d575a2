//! Numbers that LLaMA-Factory computed, computed again: losses, gradient norms, final weights, logits, greedy text.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping"
)]

use std::fs;
use std::path::{Path, PathBuf};

use report::Silent;
use serde_json::Value;
use tch::Tensor;
use torch_backend::{
    AdamSettings, LibtorchTrainer, LoraSettings, Model, ModelFiles, Pass, Sampling, Threads,
    Tuning, generate, open, use_threads,
};
use train::Trainer as _;
use train_data::Batch;

fn golden(rest: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(rest)
}

fn json(rest: &str) -> Value {
    let text = fs::read(golden(rest)).unwrap_or_else(|e| panic!("{rest}: {e}"));
    serde_json::from_slice(&text).unwrap()
}

fn source() -> ModelFiles {
    // One thread, as the traces were made, so that sums are added in the same order.
    use_threads(Threads::Exactly(1));
    open(&golden("model"), Path::new("unused"), &Silent).unwrap()
}

fn batches(run: &str) -> Vec<Batch> {
    let flat = |rows: &Value| -> Vec<i64> {
        let rows = rows.as_array().unwrap().iter();
        rows.flat_map(|row| row.as_array().unwrap())
            .map(|n| n.as_i64().unwrap())
            .collect()
    };
    let file = json(&format!("traces/{run}/batches.json"));
    let all = file.as_array().unwrap().iter();
    all.map(|batch| {
        let rows = batch["input_ids"].as_array().unwrap().len();
        let input_ids = flat(&batch["input_ids"]);
        Batch {
            rows,
            columns: input_ids.len() / rows,
            labels: flat(&batch["labels"]),
            attention_mask: flat(&batch["attention_mask"]),
            input_ids,
            ..Batch::default()
        }
    })
    .collect()
}

/// Replays a run step by step and returns the trainer as it is after the last.
fn replay(run: &str, tuning: Tuning) -> LibtorchTrainer {
    let adam = AdamSettings {
        weight_decay: 0.01,
        ..AdamSettings::default()
    };
    let mut trainer = LibtorchTrainer::new(source(), "model", tuning, adam, 42).unwrap();
    let trace = json(&format!("traces/{run}/trace.json"));
    let counts = trainer.parameter_counts();
    assert_eq!(
        counts.0 as u64,
        trace["meta"]["n_trainable"].as_u64().unwrap()
    );
    let batches = batches(run);
    let mut next = batches.chunks(2);
    let steps = trace["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 20);
    for (number, step) in steps.iter().enumerate() {
        let logged = |name: &str| step["logged"][name].as_f64().unwrap();
        let report = trainer
            .step(next.next().unwrap(), logged("learning_rate"))
            .unwrap();
        let loss_off = (report.loss - logged("loss")).abs();
        let norm_off = (report.grad_norm / logged("grad_norm") - 1.0).abs();
        println!(
            "{run} {number:2} loss {:.6} off {loss_off:.1e} norm off {norm_off:.1e}",
            report.loss
        );
        assert!(
            loss_off < 1e-5,
            "{run} step {number}: loss off by {loss_off}"
        );
        assert!(
            norm_off < 1e-4,
            "{run} step {number}: norm off by {norm_off}"
        );
    }
    trainer
}

fn lora() -> Tuning {
    Tuning::Lora {
        settings: LoraSettings::of_rank(8),
        start_from: Some(golden("adapter_init")),
    }
}

fn largest_gap(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn lora_follows_the_trace_and_ends_at_the_same_adapter() {
    let mut trainer = replay("sft_lora", lora());
    let folder = tempfile::tempdir().unwrap();
    trainer.save(folder.path()).unwrap();
    let saved = Tensor::read_safetensors(folder.path().join("adapter_model.safetensors")).unwrap();
    let keys = json("traces/sft_lora/adapter_model.keys.json");
    let expected =
        Tensor::read_safetensors(golden("traces/sft_lora/final_trainable.safetensors")).unwrap();
    assert_eq!(saved.len(), expected.len());
    for (name, tensor) in &saved {
        assert!(keys["keys"].get(name).is_some(), "PEFT has no key {name}");
        let (_, wanted) = expected
            .iter()
            .find(|(key, _)| key.replace(".default.", ".") == *name)
            .unwrap_or_else(|| panic!("{name}"));
        let gap = largest_gap(tensor, wanted);
        assert!(gap < 1e-4, "{name} off by {gap}");
    }
    let config: Value =
        serde_json::from_slice(&fs::read(folder.path().join("adapter_config.json")).unwrap())
            .unwrap();
    let original = json("traces/sft_lora/adapter_config.json");
    for name in [
        "peft_type",
        "r",
        "lora_alpha",
        "bias",
        "task_type",
        "use_dora",
    ] {
        assert_eq!(config[name], original[name], "{name}");
    }

    let mut again = source().load().unwrap();
    again.load_adapter(folder.path(), 0.0).unwrap();
    assert_greedy(&again, "sft_lora");
}

#[test]
fn full_tuning_follows_the_trace_and_ends_at_the_same_weights() {
    let mut trainer = replay("sft_full", Tuning::Full);
    let folder = tempfile::tempdir().unwrap();
    trainer.save(folder.path()).unwrap();
    let saved = Tensor::read_safetensors(folder.path().join("model.safetensors")).unwrap();
    let stats = json("traces/sft_full/final_stats.json");
    assert_eq!(saved.len(), stats.as_object().unwrap().len());
    for (name, tensor) in &saved {
        let wanted = &stats[name.as_str()];
        let length = tensor.norm().double_value(&[]);
        let off = (length / wanted["l2"].as_f64().unwrap() - 1.0).abs();
        assert!(off < 1e-4, "{name}: length off by {off}");
        let first = Vec::<f32>::try_from(tensor.reshape([-1]).narrow(0, 0, 4)).unwrap();
        for (found, wanted) in first.iter().zip(wanted["first4"].as_array().unwrap()) {
            let gap = (f64::from(*found) - wanted.as_f64().unwrap()).abs();
            assert!(gap < 1e-4, "{name}: {found} against {wanted}");
        }
    }
    // What was saved is a whole model.
    open(folder.path(), Path::new("unused"), &Silent)
        .unwrap()
        .load()
        .unwrap();
}

#[test]
fn logits_are_the_original_ones() {
    let model = source().load().unwrap();
    let batch = &batches("sft_lora")[0];
    let vectors = Tensor::read_safetensors(golden("vectors/forward_batch0.safetensors")).unwrap();
    let (_, logits) = vectors.iter().find(|(name, _)| name == "logits").unwrap();
    for row in 0..batch.rows {
        let cells = row * batch.columns..(row + 1) * batch.columns;
        let length = batch.attention_mask[cells.clone()].iter().sum::<i64>();
        let tokens = &batch.input_ids[cells][..length as usize];
        let found = tch::no_grad(|| model.logits(&Pass::of_text(tokens), false)).unwrap();
        let gap = largest_gap(&found, &logits.get(row as i64).narrow(0, 0, length));
        println!("row {row}: logits off by {gap:.1e}");
        assert!(gap < 1e-4, "row {row}: logits off by {gap}");
    }
}

#[test]
fn a_fresh_adapter_changes_no_output() {
    let mut model = source().load().unwrap();
    let pass = Pass::of_text(&[766, 305, 198, 266, 267]);
    let before = model.logits(&pass, false).unwrap();
    model.add_lora(&LoraSettings::of_rank(4)).unwrap();
    assert!(largest_gap(&before, &model.logits(&pass, false).unwrap()) < 1e-6);
    let unknown = LoraSettings {
        targets: torch_backend::Targets::Named(vec!["query".to_owned()]),
        ..LoraSettings::of_rank(4)
    };
    let error = model.add_lora(&unknown).unwrap_err().to_string();
    assert!(error.contains("q_proj"), "{error}");
}

#[test]
fn greedy_text_of_the_base_model_is_the_original_one() {
    assert_greedy(&source().load().unwrap(), "base");
}

fn assert_greedy(model: &Model, name: &str) {
    for case in json("vectors/generate.json")[name].as_array().unwrap() {
        let tokens = |name: &str| -> Vec<i64> {
            let list = case[name].as_array().unwrap().iter();
            list.map(|n| n.as_i64().unwrap()).collect()
        };
        let wanted = tokens("new_ids");
        let end = model.config().end_tokens.clone();
        let made = generate(
            model,
            &tokens("prompt_ids"),
            wanted.len(),
            &end,
            Sampling::Greedy,
            |_| true,
        )
        .unwrap();
        assert_eq!(made, wanted, "{}", case["prompt"]);
    }
}
