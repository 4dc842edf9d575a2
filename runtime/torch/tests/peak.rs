//! How much memory loading a model takes. A test of its own, in a process of its own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it expects by unwrapping"
)]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use report::Silent;
use serde_json::{Value, json};
use torch_backend::{FourBitCode, Holding, Quantization, open};

/// Writes a model whose weights are zeros, as holes of a file: large, and on the disk next to nothing.
fn hollow(folder: &Path, layers: u64, hidden: u64, feed: u64, vocabulary: u64) -> u64 {
    let config = json!({
        "model_type": "llama", "num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": feed,
        "vocab_size": vocabulary, "num_attention_heads": 8, "num_key_value_heads": 8, "tie_word_embeddings": true,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut tensors = vec![
        (
            "model.embed_tokens.weight".to_owned(),
            vec![vocabulary, hidden],
        ),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for layer in 0..layers {
        let mut add = |name: &str, shape: Vec<u64>| {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        };
        for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(&format!("self_attn.{name}"), vec![hidden, hidden]);
        }
        add("mlp.gate_proj", vec![feed, hidden]);
        add("mlp.up_proj", vec![feed, hidden]);
        add("mlp.down_proj", vec![hidden, feed]);
        add("input_layernorm", vec![hidden]);
        add("post_attention_layernorm", vec![hidden]);
    }
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let from = end;
        end += 2 * shape.iter().product::<u64>();
        header.insert(
            name,
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [from, end]}),
        );
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(64) + 56, b' ');
    let mut file = File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(text.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&text).unwrap();
    file.set_len(8 + text.len() as u64 + end).unwrap();
    end
}

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = field.unwrap().trim().trim_end_matches("kB").trim();
    kilobytes.parse::<u64>().unwrap() * 1024
}

#[test]
fn four_bits_are_loaded_matrix_by_matrix() {
    let place = tempfile::tempdir().unwrap();
    // 34 million numbers in matrices, and a small embedding.
    let numbers = hollow(place.path(), 9, 512, 1800, 1024) / 2;
    let four_bits = Quantization::FourBit {
        code: FourBitCode::Nf4,
        double: true,
    };
    // What the library itself takes when it first computes is there beforehand.
    let small = tempfile::tempdir().unwrap();
    hollow(small.path(), 1, 64, 64, 64);
    let load = |folder: &Path, quantization| {
        let holding = Holding {
            quantization,
            ..Holding::default()
        };
        let files = open(folder, Path::new("unused"), &Silent).unwrap();
        let before = peak();
        let model = files.load_as(holding).unwrap();
        let grown = peak() - before;
        drop(model);
        grown
    };
    load(small.path(), four_bits);
    load(small.path(), Quantization::None);
    let packed = load(place.path(), four_bits);
    let wide = load(place.path(), Quantization::None);
    println!(
        "{numbers} numbers: {packed} bytes in four bits, {wide} more for the model as numbers"
    );
    // Half a byte a number and its scales, one matrix of 4 MB a few times, and what the allocator keeps back. All numbers at
    // once, even in the file's own 16 bits, would be more.
    assert!(packed < numbers * 9 / 16 + (40 << 20), "{packed}");
    // The measure measures: the model as numbers is more, though what was freed is used again.
    assert!(wide > 4 * numbers - packed - (8 << 20), "{wide}");
}
