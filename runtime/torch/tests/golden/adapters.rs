//! Kinds of adapters, and adapters that are merged or gone on with.

use std::fs;
use std::path::{Path, PathBuf};

use tch::Tensor;
use torch_backend::{LoraSettings, Method, Model, Pass};
use train::Trainer as _;

use crate::replay::{
    Replay, assert_adapter, assert_final, fresh, going_on_from, golden, json, largest_gap, replay,
    source,
};

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
fn an_adapter_that_would_mean_something_else_here_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = ended(place.path(), "odd", 1.0);
    let usual = json("traces/sft_lora/adapter_config.json");
    for (name, value, refused) in [
        // They fit a base whose weights PEFT changes as it loads them.
        ("init_lora_weights", "pissa_niter_16".into(), true),
        ("init_lora_weights", "OLoRA".into(), true),
        ("init_lora_weights", "gaussian".into(), false),
        ("init_lora_weights", false.into(), false),
        // At work only behind these tokens.
        ("alora_invocation_tokens", vec![3, 4].into(), true),
        (
            "layer_replication",
            serde_json::json!([[0, 2], [1, 4]]),
            true,
        ),
        ("somebody_elses_field", 7.into(), false),
    ] {
        let mut config = usual.clone();
        config[name] = value;
        fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
        let loaded = source().load().unwrap().load_adapter(&folder, 0.0);
        match loaded {
            Err(error) => {
                assert!(refused, "{name}: {error}");
                let code = report::Diagnose::code(&error);
                assert_eq!(code, "torch.unsupported-setting", "{error}");
                assert!(error.to_string().contains(name), "{error}");
            }
            Ok(_) => assert!(!refused, "{name}"),
        }
    }
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
