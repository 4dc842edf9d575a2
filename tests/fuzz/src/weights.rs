//! Files of models: safetensors, GGUF, pickles and their zips.

use std::fs;

use crate::{Target, choose, chosen, scratch};

/// What a bundler checks before it packs a model.
pub(crate) const WEIGHTS: Target = Target {
    name: "weights",
    run: |bytes| {
        let Some((number, bytes)) = choose(bytes, NAMES.len() as u8) else {
            return;
        };
        scratch::with(|folder| {
            let name = NAMES[usize::from(number)];
            let path = folder.join(name);
            fs::write(&path, bytes).expect("the scratch folder can be written");
            drop(model_files::check(&path, name));
        });
    },
    seeds: || {
        let header = br#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  "#;
        let length = (header.len() as u64).to_le_bytes();
        let safetensors = [&length[..], header, &[0; 8]].concat();
        let gguf = [&b"GGUF"[..], &[3, 0, 0, 0], &[0; 16]].concat();
        vec![
            chosen(0, &safetensors),
            chosen(1, &gguf),
            chosen(2, b"\x80\x02cos\nsystem\nq\x00."),
            chosen(3, br#"{"weight_map":{"w":"model.safetensors"}}"#),
            chosen(4, br#"{"auto_map":{"AutoModel":"a.B"}}"#),
        ]
    },
};

const NAMES: [&str; 5] = [
    "model.safetensors",
    "model.gguf",
    "pytorch_model.bin",
    "model.safetensors.index.json",
    "config.json",
];
