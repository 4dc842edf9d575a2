//! Small models with random weights of each family: their logits are those of transformers 5.6.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test says what it expects by unwrapping"
)]

use std::fs;
use std::path::Path;

use report::Silent;
use tch::{Kind, Tensor};
use torch_backend::{
    AdamSettings, Continuation, FourBitCode, FreezeSettings, Holding, LibtorchTrainer,
    LoraSettings, Method, Pass, Quantization, Sampling, Targets, Tuning, generate, open,
};
use train::Trainer as _;
use train_data::{Batch, IGNORED};

fn family(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/families")
        .join(name)
}

const FAMILIES: [&str; 8] = [
    "qwen3",
    "mistral",
    "llama3",
    "yarn",
    "linear",
    "dynamic",
    "qwen3_moe",
    "qwen3_moe_mixed",
];

/// What is kept of the original beside a model.
fn kept(name: &str) -> std::collections::BTreeMap<String, Tensor> {
    let saved = Tensor::read_safetensors(family(name).join("logits.safetensors"));
    saved.unwrap().into_iter().collect()
}

fn logits(folder: &Path, tokens: &[i64]) -> Tensor {
    let files = open(folder, Path::new("unused"), &Silent).unwrap();
    let model = files.load().unwrap();
    tch::no_grad(|| model.logits(&Pass::of_text(tokens), false)).unwrap()
}

#[test]
fn logits_are_those_of_the_original() {
    for name in FAMILIES {
        let folder = family(name);
        let model = open(&folder, Path::new("unused"), &Silent)
            .unwrap()
            .load()
            .unwrap();
        let kept = kept(name);
        let tokens = Vec::<i64>::try_from(&kept["tokens"]).unwrap();
        let found = tch::no_grad(|| model.logits(&Pass::of_text(&tokens), false)).unwrap();
        let gap = (&found - &kept["logits"]).abs().max().double_value(&[]);
        assert!(gap < 1e-4, "{name}: logits off by {gap}");
        if name == "dynamic" {
            // Its steps depend on the length of the text, so that what was remembered of a shorter one differs.
            continue;
        }

        // One token at a time, with remembered keys, goes on as the whole text would.
        let text = Continuation {
            prompt: tokens[..10].to_vec(),
            limit: 3,
            ends: Vec::new(),
            sampling: Sampling::greedy(),
            beams: None,
        };
        let made = generate(&model, text, |_| true).unwrap();
        let mut text = tokens[..10].to_vec();
        for token in made {
            let all = tch::no_grad(|| model.logits(&Pass::of_text(&text), false)).unwrap();
            let last = all.get(text.len() as i64 - 1);
            assert_eq!(token, last.argmax(-1, false).int64_value(&[]), "{name}");
            text.push(token);
        }
    }
}

/// Files as older programs wrote them say the same in other words.
#[test]
fn older_and_newer_forms_of_a_model_are_the_same_model() {
    let place = tempfile::tempdir().unwrap();
    let read = |name: &str| -> serde_json::Value {
        let text = fs::read(family(name).join("config.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let write = |config: &serde_json::Value, weights: &Path| {
        fs::write(place.path().join("config.json"), config.to_string()).unwrap();
        fs::copy(weights, place.path().join("model.safetensors")).unwrap();
    };
    // Without `layer_types`, `max_window_layers` says which layers have a window; rope_scaling stands by itself.
    let mut config = read("yarn");
    let fields = config.as_object_mut().unwrap();
    fields.remove("layer_types").unwrap();
    let mut rule = fields.remove("rope_parameters").unwrap();
    let rule = rule.as_object_mut().unwrap();
    fields.insert("rope_theta".to_owned(), rule.remove("rope_theta").unwrap());
    let kind = rule.remove("rope_type").unwrap();
    rule.insert("type".to_owned(), kind);
    fields.insert("rope_scaling".to_owned(), serde_json::json!(rule));
    write(&config, &family("yarn").join("model.safetensors"));
    let tokens = Vec::<i64>::try_from(&kept("yarn")["tokens"]).unwrap();
    assert_eq!(
        logits(place.path(), &tokens),
        logits(&family("yarn"), &tokens)
    );
    // All experts of a layer in one tensor, as transformers 5 has them in memory.
    write(
        &read("qwen3_moe"),
        &family("qwen3_moe").join("fused.safetensors"),
    );
    let tokens = Vec::<i64>::try_from(&kept("qwen3_moe")["tokens"]).unwrap();
    assert_eq!(
        logits(place.path(), &tokens),
        logits(&family("qwen3_moe"), &tokens)
    );
    // Packed, both forms hold the same four bits.
    let packed = |folder: &Path| {
        let quantization = Quantization::FourBit {
            code: FourBitCode::Nf4,
            double: true,
        };
        let holding = Holding {
            quantization,
            ..Holding::default()
        };
        let files = open(folder, Path::new("unused"), &Silent).unwrap();
        let model = files.load_as(holding).unwrap();
        tch::no_grad(|| model.logits(&Pass::of_text(&tokens), false)).unwrap()
    };
    let whole = packed(place.path());
    assert_eq!(whole, packed(&family("qwen3_moe")));
    assert!(whole != logits(place.path(), &tokens));
}

/// Read by transformers 5, which keeps experts in one tensor, and by this crate: the same adapter.
#[test]
fn an_adapter_on_experts_is_the_originals() {
    let folder = family("qwen3_moe");
    let files = open(&folder, Path::new("unused"), &Silent).unwrap();
    let mut model = files.load().unwrap();
    let settings = model.load_adapter(&folder.join("adapter"), 0.0).unwrap();
    let tokens = Vec::<i64>::try_from(&kept("qwen3_moe")["tokens"]).unwrap();
    let pass = Pass::of_text(&tokens);
    let saved = Tensor::read_safetensors(folder.join("adapter/logits.safetensors")).unwrap();
    let gap = |model: &torch_backend::Model| {
        let found = tch::no_grad(|| model.logits(&pass, false)).unwrap();
        (found - &saved[0].1).abs().max().double_value(&[])
    };
    assert!(gap(&model) < 1e-4, "{}", gap(&model));
    // Saved again it is the same file.
    let place = tempfile::tempdir().unwrap();
    model.save_adapter(place.path(), &settings, "base").unwrap();
    let read = |folder: &Path| {
        let file = Tensor::read_safetensors(folder.join("adapter_model.safetensors")).unwrap();
        file.into_iter()
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(read(place.path()), read(&folder.join("adapter")));
    model.merge().unwrap();
    assert!(gap(&model) < 1e-4, "{}", gap(&model));
}

#[test]
fn the_loss_of_uneven_experts_is_the_originals() {
    let name = "qwen3_moe_mixed";
    let kept = kept(name);
    let tokens = Vec::<i64>::try_from(&kept["tokens"]).unwrap();
    let mut labels = tokens.clone();
    labels[0] = IGNORED;
    let batch = Batch {
        rows: 1,
        columns: tokens.len(),
        labels,
        attention_mask: vec![1; tokens.len()],
        input_ids: tokens,
        ..Batch::default()
    };
    let source = || open(&family(name), Path::new("unused"), &Silent).unwrap();
    let trainer = |weight: Option<f64>| {
        let adam = AdamSettings::default();
        let trainer = LibtorchTrainer::new(source(), name, Method::Full.into(), adam, 3);
        trainer.unwrap().with_router_loss(weight)
    };
    let number = |name: &str| kept[name].double_value(&[0]);
    let found = trainer(None).evaluate(&batch).unwrap();
    assert!((found - number("loss")).abs() < 1e-5, "{found}");
    // Another weight counts as often as it is greater.
    let more = trainer(Some(0.12)).evaluate(&batch).unwrap();
    assert!((more - found - 0.1 * number("aux")).abs() < 1e-5, "{more}");
    // A step's loss has it, too, for all tokens of the batch.
    let step = trainer(None).step(&[batch], 0.0).unwrap();
    assert!((step.loss - found).abs() < 1e-5, "{}", step.loss);
}

#[test]
fn gradients_are_those_of_libtorchs_own_graph() {
    let experts = ["q_proj", "gate", "gate_proj", "up_proj", "down_proj"].map(str::to_owned);
    let mut cases = Vec::new();
    for name in FAMILIES {
        for dora in [false, true] {
            let settings = LoraSettings {
                dora,
                rank_stabilised: dora,
                ..LoraSettings::of_rank(2)
            };
            cases.push((name, settings));
        }
        if name.contains("moe") {
            let targets = Targets::Named(experts.to_vec());
            for dora in [false, true] {
                let settings = LoraSettings {
                    dora,
                    targets: targets.clone(),
                    ..LoraSettings::of_rank(2)
                };
                cases.push((name, settings));
            }
        }
    }
    for (name, settings) in cases {
        let dora = settings.dora;
        let method = Method::Lora {
            settings,
            merge_first: Vec::new(),
            start_from: None,
        };
        let holding = Holding {
            quantization: if dora {
                Quantization::FourBit {
                    code: FourBitCode::Fp4,
                    double: false,
                }
            } else {
                Quantization::None
            },
            ..Holding::default()
        };
        assert_gradients(name, Tuning { method, holding });
    }
    for name in ["qwen3", "qwen3_moe", "qwen3_moe_mixed"] {
        assert_gradients(name, Method::Full.into());
    }
}

/// The gradients of this crate's own backward pass are those of libtorch's.
fn assert_gradients(name: &str, tuning: Tuning) {
    let source = open(&family(name), Path::new("unused"), &Silent).unwrap();
    let adam = AdamSettings::default();
    let trainer = LibtorchTrainer::new(source, name, tuning, adam, 3).unwrap();
    let pass = Pass {
        segments: vec![9, 4],
        wanted: vec![3, 8, 11],
        ..Pass::of_text(&[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9])
    };
    let weight = |logits: &Tensor| {
        let scale = Tensor::arange(96, (Kind::Float, tch::Device::Cpu)).view([3, 32]);
        (logits.log_softmax(-1, Kind::Float) * scale.sin()).sum(Kind::Float)
    };
    let model = trainer.model();
    // The first backward pass fills the buffers by hand, the second takes the same away by libtorch's.
    let value = model.learn_from_logits(&pass, |l| Ok(weight(l))).unwrap();
    let norm = |scale: f64| {
        let loss = weight(&model.logits(&pass, false).unwrap()) * scale;
        loss.backward();
        loss.double_value(&[])
    };
    let before = trainer.gradient_length().unwrap();
    let other = norm(-1.0);
    let left = trainer.gradient_length().unwrap();
    assert!((value + other).abs() < 1e-3, "{name}: {value} and {other}");
    assert!(before > 1e-2, "{name}: {before}");
    assert!(left < 1e-4 * before, "{name}: {left} of {before} is left");
}

#[test]
fn extra_modules_are_found_by_a_part_of_their_name() {
    let source = open(&family("qwen3"), Path::new("unused"), &Silent).unwrap();
    let freeze = |extra: &[&str]| {
        let method = Method::Freeze(FreezeSettings {
            layers: 1,
            modules: vec!["mlp".to_owned()],
            extra_modules: extra.iter().map(|name| (*name).to_owned()).collect(),
        });
        let adam = AdamSettings::default();
        let trainer = LibtorchTrainer::new(source.clone(), "m", method.into(), adam, 3);
        trainer.unwrap().parameter_counts().0
    };
    // Two layers with two norms of 16 and two of a head's 8, and the last norm: the original frees all of them.
    let config = source.load().unwrap().config().clone();
    let norms = config.layers * 2 * (config.hidden + config.head_width) + config.hidden;
    assert_eq!(freeze(&["norm"]) - freeze(&[]), norms as usize);
}
