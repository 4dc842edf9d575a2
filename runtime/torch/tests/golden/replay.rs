//! Runs of the original, computed again step by step.

use std::fs;
use std::path::{Path, PathBuf};

use report::Silent;
use serde_json::Value;
use tch::Tensor;
use torch_backend::{
    AdamSettings, Continuation, Holding, LibtorchTrainer, LoraSettings, Method, Model, ModelFiles,
    Sampling, Threads, Tuning, generate, open, use_threads,
};
use train::Trainer as _;
use train_data::Batch;

pub(crate) fn golden(rest: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(rest)
}

pub(crate) fn json(rest: &str) -> Value {
    let text = fs::read(golden(rest)).unwrap_or_else(|e| panic!("{rest}: {e}"));
    serde_json::from_slice(&text).unwrap()
}

pub(crate) fn source() -> ModelFiles {
    source_of(&golden("model"))
}

pub(crate) fn source_of(folder: &Path) -> ModelFiles {
    // One thread, as the traces were made, so that sums are added in the same order.
    use_threads(Threads::Exactly(1));
    open(folder, Path::new("unused"), &Silent).unwrap()
}

pub(crate) fn batches(run: &str) -> Vec<Batch> {
    let flat = |rows: &Value| -> Vec<i64> {
        let rows = rows.as_array().unwrap().iter();
        rows.flat_map(|row| row.as_array().unwrap())
            .map(|n| n.as_i64().unwrap())
            .collect()
    };
    // Runs on the same data share one file.
    let own = format!("traces/{run}/batches.json");
    let file = if golden(&own).exists() {
        json(&own)
    } else {
        json("traces/sft_lora/batches.json")
    };
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

/// How a run is replayed, and how far it may be off: losses in nats, gradient norms as a share.
pub(crate) struct Replay {
    pub(crate) run: &'static str,
    pub(crate) model: PathBuf,
    pub(crate) method: Method,
    pub(crate) holding: Holding,
    pub(crate) loss: f64,
    pub(crate) norm: f64,
}

impl Replay {
    pub(crate) fn exact(run: &'static str, method: Method) -> Self {
        Self {
            run,
            model: golden("model"),
            method,
            holding: Holding::default(),
            loss: 1e-5,
            norm: 1e-4,
        }
    }
}

/// Replays a run step by step and returns the trainer as it is after the last.
pub(crate) fn replay(replay: Replay) -> LibtorchTrainer {
    let Replay {
        run,
        model,
        method,
        holding,
        loss,
        norm,
    } = replay;
    let trace = json(&format!("traces/{run}/trace.json"));
    let config = &trace["config"];
    let adam = AdamSettings {
        weight_decay: config["weight_decay"].as_f64().unwrap(),
        b_rate: config["loraplus_lr_ratio"].as_f64().unwrap_or(1.0),
        ..AdamSettings::default()
    };
    let tuning = Tuning { method, holding };
    let mut trainer = LibtorchTrainer::new(source_of(&model), "model", tuning, adam, 42)
        .unwrap()
        .with_router_loss(config["moe_aux_loss_coef"].as_f64());
    let counts = trainer.parameter_counts();
    assert_eq!(
        counts.0 as u64,
        trace["meta"]["n_trainable"].as_u64().unwrap()
    );
    let batches = batches(run);
    let mut next = batches.chunks(2);
    let steps = trace["steps"].as_array().unwrap();
    assert_eq!(steps.len() as u64, config["max_steps"].as_u64().unwrap());
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
            loss_off < loss,
            "{run} step {number}: loss off by {loss_off}"
        );
        assert!(
            norm_off < norm,
            "{run} step {number}: norm off by {norm_off}"
        );
    }
    trainer
}

/// Compares saved tensors with the lengths and first numbers of the trace's. Its names may say `default` in between.
pub(crate) fn assert_final(run: &str, saved: &[(String, Tensor)], tolerance: f64) {
    let stats = json(&format!("traces/{run}/final_stats.json"));
    let stats = stats.as_object().unwrap();
    for (name, wanted) in stats {
        let name = name.replace(".default", "");
        let (_, tensor) = saved
            .iter()
            .find(|(saved, _)| *saved == name)
            .unwrap_or_else(|| panic!("{name} was not saved"));
        let length = tensor.norm().double_value(&[]);
        let off = (length / wanted["l2"].as_f64().unwrap() - 1.0).abs();
        assert!(off < tolerance, "{name}: length off by {off}");
        let first = Vec::<f32>::try_from(tensor.reshape([-1]).narrow(0, 0, 4)).unwrap();
        for (found, wanted) in first.iter().zip(wanted["first4"].as_array().unwrap()) {
            let gap = (f64::from(*found) - wanted.as_f64().unwrap()).abs();
            assert!(gap < tolerance, "{name}: {found} against {wanted}");
        }
    }
}

/// Saves an adapter and compares its files with those of the original.
pub(crate) fn assert_adapter(
    run: &str,
    trainer: &mut LibtorchTrainer,
    folder: &Path,
) -> Vec<(String, Tensor)> {
    trainer.save(folder).unwrap();
    let saved = Tensor::read_safetensors(folder.join("adapter_model.safetensors")).unwrap();
    let keys = json(&format!("traces/{run}/adapter_model.keys.json"));
    let keys = keys["keys"].as_object().unwrap();
    assert_eq!(saved.len(), keys.len());
    for (name, tensor) in &saved {
        let shape = keys
            .get(name)
            .unwrap_or_else(|| panic!("PEFT has no key {name}"));
        assert_eq!(shape[1], serde_json::json!(tensor.size()), "{name}");
    }
    let config = fs::read(folder.join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let original = json(&format!("traces/{run}/adapter_config.json"));
    for (name, value) in original.as_object().unwrap() {
        if name == "peft_version" {
            continue;
        }
        let found = config
            .get(name)
            .unwrap_or_else(|| panic!("{name} is missing"));
        // The order of targets is not fixed; the path of the base is each one's own.
        if !matches!(name.as_str(), "target_modules" | "base_model_name_or_path") {
            assert_eq!(found, value, "{name}");
        }
    }
    saved
}

pub(crate) fn lora() -> Method {
    going_on_from(golden("adapter_init"))
}

pub(crate) fn going_on_from(folder: PathBuf) -> Method {
    Method::Lora {
        settings: LoraSettings::of_rank(8),
        merge_first: Vec::new(),
        start_from: Some(folder),
    }
}

pub(crate) fn fresh(settings: LoraSettings) -> Method {
    Method::Lora {
        settings: LoraSettings {
            alpha: 16.0,
            ..settings
        },
        merge_first: Vec::new(),
        start_from: None,
    }
}

pub(crate) fn largest_gap(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

pub(crate) fn assert_greedy(model: &Model, name: &str) {
    for case in json("vectors/generate.json")[name].as_array().unwrap() {
        let tokens = |name: &str| -> Vec<i64> {
            let list = case[name].as_array().unwrap().iter();
            list.map(|n| n.as_i64().unwrap()).collect()
        };
        let wanted = tokens("new_ids");
        let text = Continuation {
            prompt: tokens("prompt_ids"),
            limit: wanted.len(),
            ends: model.config().end_tokens.clone(),
            sampling: Sampling::greedy(),
            beams: None,
        };
        let made = generate(model, text, |_| true).unwrap();
        assert_eq!(made, wanted, "{}", case["prompt"]);
    }
}
