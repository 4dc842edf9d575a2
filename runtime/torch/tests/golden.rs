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
    AdamSettings, Continuation, FourBitCode, FreezeSettings, Holding, LibtorchTrainer,
    LoraSettings, Method, Model, ModelFiles, Pass, Precision, Quantization, Sampling, Threads,
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
    source_of(&golden("model"))
}

fn source_of(folder: &Path) -> ModelFiles {
    // One thread, as the traces were made, so that sums are added in the same order.
    use_threads(Threads::Exactly(1));
    open(folder, Path::new("unused"), &Silent).unwrap()
}

fn batches(run: &str) -> Vec<Batch> {
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
struct Replay {
    run: &'static str,
    model: PathBuf,
    method: Method,
    holding: Holding,
    loss: f64,
    norm: f64,
}

impl Replay {
    fn exact(run: &'static str, method: Method) -> Self {
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
fn replay(replay: Replay) -> LibtorchTrainer {
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
fn assert_final(run: &str, saved: &[(String, Tensor)], tolerance: f64) {
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
fn assert_adapter(
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

fn lora() -> Method {
    going_on_from(golden("adapter_init"))
}

fn going_on_from(folder: PathBuf) -> Method {
    Method::Lora {
        settings: LoraSettings::of_rank(8),
        merge_first: Vec::new(),
        start_from: Some(folder),
    }
}

fn largest_gap(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn lora_follows_the_trace_and_ends_at_the_same_adapter() {
    let mut trainer = replay(Replay::exact("sft_lora", lora()));
    let folder = tempfile::tempdir().unwrap();
    let saved = assert_adapter("sft_lora", &mut trainer, folder.path());
    let expected =
        Tensor::read_safetensors(golden("traces/sft_lora/final_trainable.safetensors")).unwrap();
    assert_eq!(saved.len(), expected.len());
    for (name, tensor) in &saved {
        let (_, wanted) = expected
            .iter()
            .find(|(key, _)| key.replace(".default.", ".") == *name)
            .unwrap_or_else(|| panic!("{name}"));
        let gap = largest_gap(tensor, wanted);
        assert!(gap < 1e-4, "{name} off by {gap}");
    }

    let mut again = source().load().unwrap();
    again.load_adapter(folder.path(), 0.0).unwrap();
    assert_greedy(&again, "sft_lora");
    again.merge().unwrap();
    assert_greedy(&again, "sft_lora");
}

#[test]
fn recomputed_activations_change_no_bit() {
    let run = |recompute: bool| {
        let holding = Holding {
            recompute,
            ..Holding::default()
        };
        let adam = AdamSettings::default();
        let settings = LoraSettings {
            dropout: 0.3,
            ..LoraSettings::of_rank(4)
        };
        let method = Method::Lora {
            settings,
            merge_first: Vec::new(),
            start_from: None,
        };
        let mut trainer =
            LibtorchTrainer::new(source(), "model", Tuning { method, holding }, adam, 7).unwrap();
        let batches = batches("sft_lora");
        let steps = batches.chunks(2).take(3);
        let reports = steps.map(|part| trainer.step(part, 1e-3).unwrap());
        reports.map(|r| (r.loss, r.grad_norm)).collect::<Vec<_>>()
    };
    let (kept, recomputed) = (run(false), run(true));
    assert_eq!(kept, recomputed);
    assert!(kept[0] != kept[1]);
}

#[test]
fn full_tuning_follows_the_trace_and_ends_at_the_same_weights() {
    let mut trainer = replay(Replay::exact("sft_full", Method::Full));
    let folder = tempfile::tempdir().unwrap();
    trainer.save(folder.path()).unwrap();
    let saved = Tensor::read_safetensors(folder.path().join("model.safetensors")).unwrap();
    let stats = json("traces/sft_full/final_stats.json");
    assert_eq!(saved.len(), stats.as_object().unwrap().len());
    assert_final("sft_full", &saved, 1e-4);
    // What was saved is a whole model.
    open(folder.path(), Path::new("unused"), &Silent)
        .unwrap()
        .load()
        .unwrap();
}

#[test]
fn freeze_tuning_follows_the_trace_and_leaves_the_rest_alone() {
    let method = Method::Freeze(FreezeSettings {
        layers: 2,
        modules: vec!["all".to_owned()],
        extra_modules: Vec::new(),
    });
    let mut trainer = replay(Replay::exact("sft_freeze", method));
    let folder = tempfile::tempdir().unwrap();
    trainer.save(folder.path()).unwrap();
    let saved = Tensor::read_safetensors(folder.path().join("model.safetensors")).unwrap();
    assert_final("sft_freeze", &saved, 1e-4);
    let before = Tensor::read_safetensors(golden("model/model.safetensors")).unwrap();
    assert_eq!(saved.len(), before.len());
    for (name, tensor) in &before {
        let (_, after) = saved.iter().find(|(saved, _)| saved == name).unwrap();
        let trained = name.contains("layers.2.") || name.contains("layers.3.");
        assert_eq!(after != tensor, trained, "{name}");
    }
}

#[test]
fn dora_follows_the_trace() {
    let start = tempfile::tempdir().unwrap();
    let config = json("traces/sft_dora/adapter_config.json").to_string();
    fs::write(start.path().join("adapter_config.json"), config).unwrap();
    let weights = Tensor::read_safetensors(golden("traces/sft_dora/init_trainable.safetensors"));
    let weights: Vec<(String, Tensor)> = weights
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| {
            let name = name.replace(".default", "");
            (
                name.replace("magnitude_vector.weight", "magnitude_vector"),
                tensor,
            )
        })
        .collect();
    Tensor::write_safetensors(&weights, start.path().join("adapter_model.safetensors")).unwrap();
    let method = going_on_from(start.path().to_owned());
    let mut trainer = replay(Replay::exact("sft_dora", method));
    let folder = tempfile::tempdir().unwrap();
    let saved = assert_adapter("sft_dora", &mut trainer, folder.path());
    let saved: Vec<(String, Tensor)> = saved
        .into_iter()
        .map(|(name, tensor)| (name.replace("_vector", "_vector.weight"), tensor))
        .collect();
    assert_final("sft_dora", &saved, 1e-4);
}

#[test]
fn qlora_follows_the_trace() {
    let mut trainer = replay(Replay {
        holding: Holding {
            quantization: Quantization::FourBit {
                code: FourBitCode::Nf4,
                double: true,
            },
            ..Holding::default()
        },
        loss: 2e-3,
        norm: 2e-2,
        ..Replay::exact("sft_qlora_nf4", lora())
    });
    let folder = tempfile::tempdir().unwrap();
    assert_adapter("sft_qlora_nf4", &mut trainer, folder.path());
}

#[test]
fn bf16_follows_the_trace() {
    let mut trainer = replay(Replay {
        holding: Holding {
            precision: Precision::Bfloat16,
            ..Holding::default()
        },
        loss: 2e-2,
        norm: 5e-2,
        ..Replay::exact("sft_lora_bf16", lora())
    });
    let folder = tempfile::tempdir().unwrap();
    assert_adapter("sft_lora_bf16", &mut trainer, folder.path());
}

/// The end of the trace `sft_lora` as an adapter, its strength times `factor`: what some runs started from.
fn ended(place: &Path, name: &str, factor: f64) -> PathBuf {
    let folder = place.join(name);
    fs::create_dir(&folder).unwrap();
    let config = json("traces/sft_lora/adapter_config.json").to_string();
    fs::write(folder.join("adapter_config.json"), config).unwrap();
    let weights = golden("traces/sft_lora/final_trainable.safetensors");
    let weights = Tensor::read_safetensors(weights).unwrap().into_iter();
    let weights: Vec<(String, Tensor)> = weights
        .map(|(name, tensor)| {
            let factor = if name.contains("lora_B") { factor } else { 1.0 };
            (name.replace(".default", ""), tensor * factor)
        })
        .collect();
    Tensor::write_safetensors(&weights, folder.join("adapter_model.safetensors")).unwrap();
    folder
}

fn fresh(settings: LoraSettings) -> Method {
    Method::Lora {
        settings: LoraSettings {
            alpha: 16.0,
            ..settings
        },
        merge_first: Vec::new(),
        start_from: None,
    }
}

#[test]
fn adapters_that_are_merged_or_gone_on_with_follow_the_traces() {
    let place = tempfile::tempdir().unwrap();
    let (first, second) = (
        ended(place.path(), "first", 1.0),
        ended(place.path(), "second", 0.5),
    );
    let method = Method::Lora {
        settings: LoraSettings::of_rank(8),
        merge_first: vec![first.clone()],
        start_from: Some(second.clone()),
    };
    let mut trainer = replay(Replay::exact("sft_from_adapter", method));
    let saved = assert_adapter("sft_from_adapter", &mut trainer, place.path());
    assert_final("sft_from_adapter", &saved, 1e-4);
    let method = Method::Lora {
        settings: LoraSettings::of_rank(8),
        merge_first: vec![first, second],
        start_from: None,
    };
    let mut trainer = replay(Replay::exact("sft_merged_then_new", method));
    let saved = assert_adapter("sft_merged_then_new", &mut trainer, place.path());
    assert_final("sft_merged_then_new", &saved, 1e-4);
}

#[test]
fn rank_stabilised_lora_plus_follows_the_trace() {
    let method = fresh(LoraSettings {
        rank_stabilised: true,
        ..LoraSettings::of_rank(8)
    });
    let mut trainer = replay(Replay::exact("sft_rslora_loraplus", method));
    let place = tempfile::tempdir().unwrap();
    let saved = assert_adapter("sft_rslora_loraplus", &mut trainer, place.path());
    assert_final("sft_rslora_loraplus", &saved, 1e-4);
}

#[test]
fn modules_trained_whole_follow_the_trace() {
    let method = fresh(LoraSettings {
        whole_modules: vec!["embed_tokens".to_owned(), "norm".to_owned()],
        ..LoraSettings::of_rank(8)
    });
    let mut trainer = replay(Replay::exact("sft_additional_target", method));
    let place = tempfile::tempdir().unwrap();
    assert_adapter("sft_additional_target", &mut trainer, place.path());
    // What was saved is what PEFT saves: read back, it answers as the trained model does.
    let mut again = source().load().unwrap();
    again.load_adapter(place.path(), 0.0).unwrap();
    let pass = Pass::of_text(&[766, 305, 198, 266, 267]);
    let logits = |model: &Model| tch::no_grad(|| model.logits(&pass, false)).unwrap();
    assert!(largest_gap(&logits(&again), &logits(trainer.model())) < 1e-5);
}

#[test]
fn pissa_follows_the_trace_and_is_converted_to_the_same_adapter() {
    let method = fresh(LoraSettings {
        pissa: Some(None),
        ..LoraSettings::of_rank(8)
    });
    let mut trainer = replay(Replay {
        norm: 1e-3,
        loss: 1e-4,
        ..Replay::exact("sft_pissa", method)
    });
    let place = tempfile::tempdir().unwrap();
    trainer.save(place.path()).unwrap();
    let saved = Tensor::read_safetensors(place.path().join("adapter_model.safetensors")).unwrap();
    let wanted = json("traces/sft_pissa/pissa_converted.lengths.json");
    assert_eq!(saved.len(), wanted.as_object().unwrap().len());
    for (name, tensor) in &saved {
        // A direction and its opposite are the same one: only lengths can be compared.
        let off = tensor.norm().double_value(&[]) / wanted[name].as_f64().unwrap() - 1.0;
        assert!(off.abs() < 1e-3, "{name}: {off}");
    }
}

#[test]
fn pure_bf16_follows_the_trace() {
    let place = tempfile::tempdir().unwrap();
    let weights = Tensor::read_safetensors(golden("model/model.safetensors")).unwrap();
    let weights: Vec<(String, Tensor)> = weights
        .into_iter()
        .map(|(name, tensor)| (name, tensor.to_kind(tch::Kind::BFloat16)))
        .collect();
    Tensor::write_safetensors(&weights, place.path().join("model.safetensors")).unwrap();
    fs::copy(
        golden("model/config.json"),
        place.path().join("config.json"),
    )
    .unwrap();
    replay(Replay {
        model: place.path().to_owned(),
        holding: Holding {
            precision: Precision::PureBfloat16,
            ..Holding::default()
        },
        loss: 2e-2,
        norm: 1e-1,
        ..Replay::exact("sft_pure_bf16", fresh(LoraSettings::of_rank(8)))
    });
}

#[test]
fn a_mixture_of_experts_follows_the_traces() {
    let of_moe = |run, method| Replay {
        model: golden("model_moe"),
        loss: 2e-5,
        ..Replay::exact(run, method)
    };
    let mut trainer = replay(of_moe("moe_lora", fresh(LoraSettings::of_rank(8))));
    let place = tempfile::tempdir().unwrap();
    let saved = assert_adapter("moe_lora", &mut trainer, place.path());
    assert_final("moe_lora", &saved, 1e-4);

    replay(of_moe("moe_full", Method::Full));

    let mut trainer = replay(of_moe(
        "moe_freeze",
        Method::Freeze(FreezeSettings {
            layers: 2,
            modules: vec!["all".to_owned()],
            extra_modules: Vec::new(),
        }),
    ));
    trainer.save(place.path()).unwrap();
    let saved = Tensor::read_safetensors(place.path().join("model.safetensors")).unwrap();
    let stats = json("traces/moe_freeze/final_stats.json");
    for (name, wanted) in stats.as_object().unwrap() {
        // The original keeps all experts of a layer in one tensor, and writes them one by one as we do.
        let (layer, both) = match name.split_once(".experts.") {
            Some((layer, "gate_up_proj")) => (layer, ["gate_proj", "up_proj"]),
            Some((layer, part)) => (layer, [part, part]),
            None => (name.as_str(), [""; 2]),
        };
        let fits = |saved: &str| match both {
            ["", _] => saved == name,
            parts => {
                let inside = saved.strip_prefix(&format!("{layer}.experts."));
                inside.is_some_and(|rest| {
                    parts.iter().any(|p| rest.ends_with(&format!("{p}.weight")))
                })
            }
        };
        let parts = saved.iter().filter(|(saved, _)| fits(saved));
        let square: f64 = parts
            .map(|(_, t)| t.square().sum(tch::Kind::Double).double_value(&[]))
            .sum();
        let off = square.sqrt() / wanted["l2"].as_f64().unwrap() - 1.0;
        assert!(off.abs() < 1e-4, "{name}: {off}");
    }
}

#[test]
fn fp16_follows_the_trace_of_32_bits() {
    replay(Replay {
        holding: Holding {
            precision: Precision::Float16,
            ..Holding::default()
        },
        loss: 5e-3,
        norm: 2e-2,
        ..Replay::exact("sft_lora", lora())
    });
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
