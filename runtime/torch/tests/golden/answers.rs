//! What a model says: logits and greedy text.

use std::fs;

use tch::Tensor;
use torch_backend::{AdamSettings, LibtorchTrainer, LoraSettings, Method, Pass};
use train::Trainer as _;

use crate::replay::{assert_greedy, batches, golden, largest_gap, source, source_of};

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
fn an_output_layer_beside_a_tied_embedding_counts_where_it_differs() {
    let place = tempfile::tempdir().unwrap();
    fs::copy(
        golden("model/config.json"),
        place.path().join("config.json"),
    )
    .unwrap();
    let weights = Tensor::read_safetensors(golden("model/model.safetensors")).unwrap();
    let (_, table) = &weights[weights
        .iter()
        .position(|(name, _)| name == "model.embed_tokens.weight")
        .unwrap()];
    let pass = Pass::of_text(&[766, 305, 198]);
    let logits = |factor: f64| {
        let mut all: Vec<(&str, Tensor)> = weights
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor.shallow_clone()))
            .collect();
        all.push(("lm_head.weight", table * factor));
        Tensor::write_safetensors(&all, place.path().join("model.safetensors")).unwrap();
        let model = source_of(place.path()).load().unwrap();
        tch::no_grad(|| model.logits(&pass, false)).unwrap()
    };
    let plain = source().load().unwrap();
    let plain = tch::no_grad(|| plain.logits(&pass, false)).unwrap();
    assert_eq!(logits(1.0), plain);
    assert!(largest_gap(&logits(2.0), &(&plain * 2.0)) < 1e-4);
    // Trained whole, such a model says that it is not tied.
    let adam = AdamSettings::default();
    let trainer = LibtorchTrainer::new(source_of(place.path()), "m", Method::Full.into(), adam, 1);
    let saved = tempfile::tempdir().unwrap();
    trainer.unwrap().save(saved.path()).unwrap();
    let config = fs::read_to_string(saved.path().join("config.json")).unwrap();
    assert!(
        config.contains("\"tie_word_embeddings\": false"),
        "{config}"
    );
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
