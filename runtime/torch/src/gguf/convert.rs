//! A GGUF file turned into a model folder, once, and kept.
//!
//! ```text
//! <cache>/converted/<SHA-256 of the GGUF file>/
//!     model.safetensors  config.json  tokenizer.json  tokenizer_config.json
//!     origin.json        source digest, converter, version, digests of the four
//! ```
//!
//! The folder is written beside its place and renamed, so one with an `origin.json` is whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use report::{Sink, Step};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tch::Tensor;

use super::{Gguf, tokenizer};
use crate::config::KNOWN;
use crate::{BackendError, files, output};

/// Raised when the same file would convert to other bytes.
const CONVERTER_VERSION: u32 = 1;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Origin {
    format: u32,
    source: String,
    converter: String,
    version: u32,
    files: BTreeMap<String, FileOrigin>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct FileOrigin {
    digest: String,
    size: u64,
}

/// Returns the folder made from `path`, making it first if the cache has none.
pub(crate) fn convert(path: &Path, cache: &Path, sink: &dyn Sink) -> Result<PathBuf, BackendError> {
    let (source, size) = digest(path)?;
    let home = cache.join("converted");
    let folder = home.join(source.trim_start_matches("sha256:"));
    if is_whole(&folder, &source) {
        return Ok(folder);
    }
    let step = Step::start(
        sink,
        "step.convert-gguf",
        path.display().to_string(),
        Some(size),
        "bytes",
    );
    fs::create_dir_all(&home).map_err(BackendError::writing(&home))?;
    let fresh = output::beside(&folder);
    remove(&fresh)?;
    fs::create_dir(&fresh).map_err(BackendError::writing(&fresh))?;
    let made = fill(path, &source, &fresh, &step).and_then(|()| place(&fresh, &folder, &source));
    if made.is_err() {
        // Best effort: the first error is the one to tell.
        let _ = fs::remove_dir_all(&fresh);
    }
    made?;
    step.finish();
    Ok(folder)
}

/// Moves the finished folder in place. Another process may have been faster: its folder is as good.
fn place(fresh: &Path, folder: &Path, source: &str) -> Result<(), BackendError> {
    if is_whole(folder, source) {
        return remove(fresh);
    }
    remove(folder)?;
    fs::rename(fresh, folder).map_err(BackendError::writing(folder))?;
    let home = folder.parent().unwrap_or(folder);
    File::open(home)
        .and_then(|home| home.sync_all())
        .map_err(BackendError::writing(home))
}

fn remove(folder: &Path) -> Result<(), BackendError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(BackendError::writing(folder)(e)),
        _ => Ok(()),
    }
}

/// Whether `folder` is a finished conversion of `source` by this converter. Sizes are compared, not digests: the
/// digests in `origin.json` are for audits, and hashing half a gigabyte at each start would cost more than loading it.
fn is_whole(folder: &Path, source: &str) -> bool {
    let Ok(text) = fs::read(folder.join("origin.json")) else {
        return false;
    };
    let Ok(origin) = serde_json::from_slice::<Origin>(&text) else {
        return false;
    };
    origin.source == source
        && origin.version == CONVERTER_VERSION
        && origin.files.contains_key("model.safetensors")
        && origin.files.iter().all(|(name, file)| {
            fs::metadata(folder.join(name)).is_ok_and(|found| found.len() == file.size)
        })
}

fn fill(path: &Path, source: &str, folder: &Path, step: &Step<'_>) -> Result<(), BackendError> {
    let mut file = Gguf::open(path)?;
    let kind = file.text("general.architecture")?.to_owned();
    if !matches!(kind.as_str(), "llama" | "qwen2") {
        return Err(BackendError::UnknownArchitecture {
            path: path.to_owned(),
            found: kind,
            known: KNOWN,
        });
    }
    let config = config(&file, &kind)?;
    output::json(&folder.join("config.json"), &config)?;
    output::json(
        &folder.join("tokenizer.json"),
        &tokenizer::tokenizer(&file)?,
    )?;
    let positions = config["max_position_embeddings"].as_i64().unwrap_or(2048);
    let settings = tokenizer::settings(&file, positions)?;
    output::json(&folder.join("tokenizer_config.json"), &settings)?;
    let tensors = tensors(&mut file, &kind, &config, step)?;
    files::write(
        &folder.join("model.safetensors"),
        tensors.iter().map(|(name, t)| (name.as_str(), t)),
    )?;
    drop(tensors);
    let mut made = BTreeMap::new();
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        let (digest, size) = digest(&folder.join(name))?;
        made.insert(name.to_owned(), FileOrigin { digest, size });
    }
    let origin = Origin {
        format: 1,
        source: source.to_owned(),
        converter: "ferry-runtime gguf".to_owned(),
        version: CONVERTER_VERSION,
        files: made,
    };
    let origin = serde_json::to_value(&origin).expect("strings and numbers always become JSON");
    output::json(&folder.join("origin.json"), &origin)
}

fn config(file: &Gguf, kind: &str) -> Result<serde_json::Value, BackendError> {
    let key = |name: &str| format!("{kind}.{name}");
    let whole = |name: &str| file.integer(&key(name));
    if let Some(super::Value::Text(scaling)) = file.setting(&key("rope.scaling.type"))
        && scaling != "none"
    {
        return Err(BackendError::UnsupportedSetting {
            path: file.path().to_owned(),
            name: key("rope.scaling.type"),
            value: scaling.clone(),
        });
    }
    let heads = whole("attention.head_count")?;
    let key_heads = match file.setting(&key("attention.head_count_kv")) {
        Some(_) => whole("attention.head_count_kv")?,
        None => heads,
    };
    let base = match file.setting(&key("rope.freq_base")) {
        Some(_) => file.number(&key("rope.freq_base"))?,
        None => 10_000.0,
    };
    let epsilon = file.number(&key("attention.layer_norm_rms_epsilon"))?;
    let optional = |key: &str| file.integer(key).ok();
    let class = if kind == "llama" {
        "LlamaForCausalLM"
    } else {
        "Qwen2ForCausalLM"
    };
    let mut config = json!({
        "architectures": [class], "model_type": kind, "hidden_act": "silu",
        "hidden_size": whole("embedding_length")?,
        "intermediate_size": whole("feed_forward_length")?,
        "num_hidden_layers": whole("block_count")?,
        "num_attention_heads": heads, "num_key_value_heads": key_heads,
        "max_position_embeddings": whole("context_length")?,
        // The file keeps an f32; the digits beyond it are noise that readers would copy.
        "rms_norm_eps": shortest(epsilon), "rope_theta": shortest(base),
        "vocab_size": file.texts("tokenizer.ggml.tokens")?.len(),
        "tie_word_embeddings": !file.has("output.weight"),
        "bos_token_id": optional("tokenizer.ggml.bos_token_id"),
        "eos_token_id": optional("tokenizer.ggml.eos_token_id"),
        "pad_token_id": optional("tokenizer.ggml.padding_token_id"),
        "torch_dtype": "float32",
    });
    if let Ok(width) = whole("attention.key_length") {
        config["head_dim"] = width.into();
    }
    Ok(config)
}

/// The shortest decimal that is the same `f32`.
fn shortest(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}

/// Reads all tensors under the names of a model folder.
fn tensors(
    file: &mut Gguf,
    kind: &str,
    config: &serde_json::Value,
    step: &Step<'_>,
) -> Result<Vec<(String, Tensor)>, BackendError> {
    let count = |name: &str| config[name].as_i64().unwrap_or(0);
    let (heads, key_heads) = (count("num_attention_heads"), count("num_key_value_heads"));
    let mut read = Vec::new();
    let mut done = 0;
    let mut add = |file: &mut Gguf, from: &str, to: String, heads: Option<i64>| {
        let mut tensor = file.read(from)?;
        if let Some(heads) = heads.filter(|_| kind == "llama") {
            tensor = in_halves(&tensor, heads, file.path(), from)?;
        }
        done += file.stored_bytes(from);
        step.progress(done);
        read.push((to, tensor));
        Ok::<(), BackendError>(())
    };
    add(
        file,
        "token_embd.weight",
        "model.embed_tokens.weight".into(),
        None,
    )?;
    for number in 0..count("num_hidden_layers") {
        for (from, to, heads) in [
            ("attn_norm", "input_layernorm", None),
            ("attn_q", "self_attn.q_proj", Some(heads)),
            ("attn_k", "self_attn.k_proj", Some(key_heads)),
            ("attn_v", "self_attn.v_proj", None),
            ("attn_output", "self_attn.o_proj", None),
            ("ffn_norm", "post_attention_layernorm", None),
            ("ffn_gate", "mlp.gate_proj", None),
            ("ffn_up", "mlp.up_proj", None),
            ("ffn_down", "mlp.down_proj", None),
        ] {
            let at = |part: &str| format!("blk.{number}.{from}.{part}");
            let to = format!("model.layers.{number}.{to}");
            add(file, &at("weight"), format!("{to}.weight"), heads)?;
            if file.has(&at("bias")) {
                add(file, &at("bias"), format!("{to}.bias"), heads)?;
            }
        }
    }
    add(file, "output_norm.weight", "model.norm.weight".into(), None)?;
    if file.has("output.weight") {
        add(file, "output.weight", "lm_head.weight".into(), None)?;
    }
    Ok(read)
}

/// Undoes the row order that GGUF gives Llama's queries and keys: pairs that turn together lie side by side there, and
/// half a head apart here.
fn in_halves(tensor: &Tensor, heads: i64, path: &Path, name: &str) -> Result<Tensor, BackendError> {
    let size = tensor.size();
    if heads < 1 || size[0] % (2 * heads) != 0 {
        return Err(BackendError::malformed(
            path,
            format!("`{name}` with {} rows", size[0]),
            format!("rows for {heads} heads of even width"),
        ));
    }
    Ok(tensor
        .f_reshape([heads, size[0] / heads / 2, 2, -1])?
        .f_transpose(1, 2)?
        .f_reshape(size.as_slice())?)
}

fn digest(path: &Path) -> Result<(String, u64), BackendError> {
    let mut file = File::open(path).map_err(BackendError::reading(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let read = file
            .read(&mut buffer)
            .map_err(BackendError::reading(path))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
    let mut digest = String::from("sha256:");
    for byte in hasher.finalize() {
        let _ = write!(digest, "{byte:02x}");
    }
    Ok((digest, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_turn_together_end_half_a_head_apart() {
        // One head of width four: GGUF keeps rows 0 2 1 3.
        let stored = Tensor::from_slice(&[0.0_f32, 2.0, 1.0, 3.0]).view([4, 1]);
        let rows = in_halves(&stored, 1, Path::new("m.gguf"), "q").unwrap();
        assert_eq!(
            Vec::<f32>::try_from(&rows.view([4])).unwrap(),
            [0.0, 1.0, 2.0, 3.0]
        );
        assert!(in_halves(&stored, 3, Path::new("m.gguf"), "q").is_err());
    }

    #[test]
    fn an_f32_is_written_without_noise() {
        assert!((shortest(f64::from(1e-5_f32)) - 1e-5).abs() < f64::EPSILON * 1e-5);
    }
}
