//! A fresh adapter is the one that LLaMA-Factory starts from after the same seed, bit for bit.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping"
)]

use std::path::Path;

use report::Silent;
use tch::Tensor;
use torch_backend::{AdamSettings, LibtorchTrainer, LoraSettings, Method, open};
use train::Trainer as _;

#[test]
fn a_fresh_adapter_is_the_originals_after_the_same_seed() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let source = open(&golden.join("model"), Path::new("unused"), &Silent).unwrap();
    let tuning = Method::Lora {
        settings: LoraSettings::of_rank(8),
        merge_first: Vec::new(),
        start_from: None,
    };
    let adam = AdamSettings::default();
    let mut trainer = LibtorchTrainer::new(source, "model", tuning.into(), adam, 42).unwrap();
    let folder = tempfile::tempdir().unwrap();
    trainer.save(folder.path()).unwrap();

    let read = |folder: &Path| -> Vec<(String, Tensor)> {
        Tensor::read_safetensors(folder.join("adapter_model.safetensors")).unwrap()
    };
    let (ours, theirs) = (read(folder.path()), read(&golden.join("adapter_init")));
    assert_eq!(ours.len(), theirs.len());
    for (name, tensor) in &theirs {
        let (_, made) = ours.iter().find(|(made, _)| made == name).unwrap();
        assert!(made.equal(tensor), "{name} differs");
    }
}
