//! Small models with random weights of each family: their logits are those of transformers 5.6.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test says what it expects by unwrapping"
)]

use std::path::Path;

use report::Silent;
use tch::{Kind, Tensor};
use torch_backend::{FourBitCode, Holding, Pass, Quantization, Sampling, generate, open};

fn family(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/families")
        .join(name)
}

#[test]
fn logits_are_those_of_the_original() {
    for name in ["qwen3", "mistral", "llama3", "yarn"] {
        let folder = family(name);
        let model = open(&folder, Path::new("unused"), &Silent)
            .unwrap()
            .load()
            .unwrap();
        let saved = Tensor::read_safetensors(folder.join("logits.safetensors")).unwrap();
        let at = |wanted: &str| &saved.iter().find(|(key, _)| key == wanted).unwrap().1;
        let tokens = Vec::<i64>::try_from(at("tokens")).unwrap();
        let found = tch::no_grad(|| model.logits(&Pass::of_text(&tokens), false)).unwrap();
        let gap = (&found - at("logits")).abs().max().double_value(&[]);
        assert!(gap < 1e-4, "{name}: logits off by {gap}");

        // One token at a time, with remembered keys, goes on as the whole text would.
        let made = generate(&model, &tokens[..10], 3, &[], Sampling::Greedy, |_| true).unwrap();
        let mut text = tokens[..10].to_vec();
        for token in made {
            let all = tch::no_grad(|| model.logits(&Pass::of_text(&text), false)).unwrap();
            let last = all.get(text.len() as i64 - 1);
            assert_eq!(token, last.argmax(-1, false).int64_value(&[]), "{name}");
            text.push(token);
        }
    }
}

#[test]
fn gradients_are_those_of_libtorchs_own_graph() {
    use torch_backend::{AdamSettings, LibtorchTrainer, LoraSettings, Method, Tuning};
    for name in ["qwen3", "mistral", "llama3", "yarn"] {
        for dora in [false, true] {
            let settings = LoraSettings {
                dora,
                rank_stabilised: dora,
                ..LoraSettings::of_rank(2)
            };
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
            let source = open(&family(name), Path::new("unused"), &Silent).unwrap();
            let tuning = Tuning { method, holding };
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
    }
}
