//! Number formats of weights and products.

use std::fs;

use tch::Tensor;
use torch_backend::{FourBitCode, Holding, LoraSettings, Precision, Quantization};

use crate::replay::{Replay, assert_adapter, fresh, golden, lora, replay};

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
