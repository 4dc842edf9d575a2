//! What the benchmark trains: the demo's model, the same in 16 bits, and a larger one of made-up weights.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::bench::noise::Noise;

#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Model {
    /// The demo's, as the runtime converted it: 32-bit weights
    Demo,
    /// The demo's in bf16, as hubs have models
    DemoBf16,
    /// The shape of Qwen2.5-0.5B in bf16; weights drawn at random, the demo's tokenizer
    Shape,
}

impl Model {
    /// What the table is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Demo => "SmolLM2-135M, 32-bit weights",
            Self::DemoBf16 => "SmolLM2-135M, bf16 weights",
            Self::Shape => "Shape of Qwen2.5-0.5B, bf16 weights",
        }
    }

    /// Its folder, made below `place` where it is not the `demo`'s own.
    pub(super) fn folder(self, demo: &Path, place: &Path) -> Result<PathBuf> {
        let folder = match self {
            Self::Demo => return Ok(demo.to_owned()),
            Self::DemoBf16 => place.join("demo-bf16"),
            Self::Shape => place.join("shape"),
        };
        fs::create_dir_all(&folder)?;
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(demo.join(name), folder.join(name))?;
        }
        let config = match self {
            Self::Shape => {
                write_shape(&folder.join("model.safetensors"))?;
                shape()
            }
            Self::Demo | Self::DemoBf16 => {
                halve(
                    &demo.join("model.safetensors"),
                    &folder.join("model.safetensors"),
                )?;
                let mut config: Value =
                    serde_json::from_slice(&fs::read(demo.join("config.json"))?)?;
                config["torch_dtype"] = json!("bfloat16");
                config
            }
        };
        fs::write(
            folder.join("config.json"),
            serde_json::to_vec_pretty(&config)?,
        )?;
        Ok(folder)
    }
}

/// Rounds every number of a safetensors file of 32-bit floats to bf16, to the nearest, ties to even.
fn halve(from: &Path, to: &Path) -> Result<()> {
    let opened = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut from = BufReader::new(opened);
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let mut header = vec![0; usize::try_from(u64::from_le_bytes(length))?];
    from.read_exact(&mut header)?;
    let mut header: Map<String, Value> = serde_json::from_slice(&header)?;
    for (name, tensor) in header
        .iter_mut()
        .filter(|(name, _)| *name != "__metadata__")
    {
        ensure!(tensor["dtype"] == "F32", "{name} is no 32-bit tensor");
        tensor["dtype"] = json!("BF16");
        for offset in tensor["data_offsets"]
            .as_array_mut()
            .context("no offsets")?
        {
            *offset = json!(offset.as_u64().context("no offset")? / 2);
        }
    }
    let mut to = begin(to, &header)?;
    let mut number = [0; 4];
    while from.read_exact(&mut number).is_ok() {
        let bits = u32::from_le_bytes(number);
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
        to.write_all(&rounded.to_le_bytes()[2..])?;
    }
    to.into_inner()?.sync_all()?;
    Ok(())
}

/// A new safetensors file with its header.
fn begin(path: &Path, header: &Map<String, Value>) -> Result<BufWriter<File>> {
    let mut header = serde_json::to_vec(header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let made = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut file = BufWriter::with_capacity(1 << 20, made);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    Ok(file)
}

const HIDDEN: u64 = 896;
const INNER: u64 = 4864;
const LAYERS: u64 = 24;
/// Keys and values: two heads of 64.
const SHARED: u64 = 128;
const WORDS: u64 = 151_936;

/// Qwen2.5-0.5B's configuration, with the token numbers of the demo's tokenizer.
fn shape() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "use_sliding_window": false,
        "vocab_size": WORDS,
        "tie_word_embeddings": true,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "torch_dtype": "bfloat16"
    })
}

/// Writes its weights: matrices of normally distributed numbers of deviation 0.02, norms of ones, biases of zeros.
fn write_shape(path: &Path) -> Result<()> {
    let mut tensors: Vec<(String, Vec<u64>)> = vec![
        ("model.embed_tokens.weight".to_owned(), vec![WORDS, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("input_layernorm.weight", vec![HIDDEN]),
            ("self_attn.q_proj.weight", vec![HIDDEN, HIDDEN]),
            ("self_attn.q_proj.bias", vec![HIDDEN]),
            ("self_attn.k_proj.weight", vec![SHARED, HIDDEN]),
            ("self_attn.k_proj.bias", vec![SHARED]),
            ("self_attn.v_proj.weight", vec![SHARED, HIDDEN]),
            ("self_attn.v_proj.bias", vec![SHARED]),
            ("self_attn.o_proj.weight", vec![HIDDEN, HIDDEN]),
            ("post_attention_layernorm.weight", vec![HIDDEN]),
            ("mlp.gate_proj.weight", vec![INNER, HIDDEN]),
            ("mlp.up_proj.weight", vec![INNER, HIDDEN]),
            ("mlp.down_proj.weight", vec![HIDDEN, INNER]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}"), shape));
        }
    }
    let mut header = Map::new();
    // transformers reads no file that does not say this.
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut offset = 0;
    for (name, shape) in &tensors {
        let end = offset + 2 * shape.iter().product::<u64>();
        let entry = json!({ "dtype": "BF16", "shape": shape, "data_offsets": [offset, end] });
        header.insert(name.clone(), entry);
        offset = end;
    }
    let mut file = begin(path, &header)?;
    let mut noise = Noise::new(5);
    for (name, shape) in &tensors {
        let count: u64 = shape.iter().product();
        if shape.len() == 2 {
            for _ in 0..count / 2 {
                for number in noise.normal_bf16(0.02) {
                    file.write_all(&number)?;
                }
            }
        } else {
            let number: u16 = if name.ends_with("bias") { 0 } else { 0x3F80 };
            for _ in 0..count {
                file.write_all(&number.to_le_bytes())?;
            }
        }
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}
