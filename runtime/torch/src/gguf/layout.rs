//! Names, shapes and settings of a GGUF model as a model folder has them.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::{Gguf, Value};
use crate::BackendError;
use crate::rope;

/// Kinds of model that GGUF names and this program computes. Mistral's files call themselves llama.
const KNOWN: &str = "llama, qwen2, qwen3, qwen3moe";

/// A tensor to be converted.
#[derive(Debug)]
pub(super) struct Piece {
    /// Its name in the GGUF file.
    pub(super) from: String,
    /// Its name in a model folder.
    pub(super) to: String,
    /// The heads whose rows [`in_halves`] puts in order.
    pub(super) heads: Option<i64>,
    /// Which of the matrices in the GGUF file's tensor it is; none: all of it.
    pub(super) part: Option<usize>,
}

impl Piece {
    /// Bytes that it has in the GGUF file.
    pub(super) fn stored_bytes(&self, file: &Gguf) -> u64 {
        let whole = file.stored_bytes(&self.from);
        let parts = file.shape(&self.from).map_or(1, |shape| shape[0].max(1));
        match self.part {
            None => whole,
            Some(_) => whole / parts as u64,
        }
    }

    /// The shape of the tensor that it becomes.
    pub(super) fn shape<'a>(&self, file: &'a Gguf) -> Result<&'a [i64], BackendError> {
        let whole = file.shape(&self.from)?;
        Ok(match self.part {
            None => whole,
            Some(_) => whole.get(1..).unwrap_or_default(),
        })
    }
}

/// Builds the content of `config.json`.
pub(super) fn config(file: &Gguf) -> Result<Json, BackendError> {
    let kind = file.text("general.architecture")?;
    let (class, model_type) = match kind {
        "llama" => ("LlamaForCausalLM", kind),
        "qwen2" => ("Qwen2ForCausalLM", kind),
        "qwen3" => ("Qwen3ForCausalLM", kind),
        "qwen3moe" => ("Qwen3MoeForCausalLM", "qwen3_moe"),
        other => {
            return Err(BackendError::UnknownArchitecture {
                path: file.path().to_owned(),
                found: other.to_owned(),
                known: KNOWN,
            });
        }
    };
    let key = |name: &str| format!("{kind}.{name}");
    let whole = |name: &str| file.integer(&key(name));
    if let Some(Value::Integer(2..)) = file.setting("split.count") {
        return Err(refused(file, "split.count"));
    }
    let heads = whole("attention.head_count")?;
    let key_heads = match file.setting(&key("attention.head_count_kv")) {
        Some(_) => whole("attention.head_count_kv")?,
        None => heads,
    };
    let base = match file.setting(&key("rope.freq_base")) {
        Some(_) => shortest(file.number(&key("rope.freq_base"))?),
        None => 10_000.0,
    };
    let epsilon = file.number(&key("attention.layer_norm_rms_epsilon"))?;
    let optional = |key: &str| file.integer(key).ok();
    let hidden = whole("embedding_length")?;
    let width = whole("attention.key_length").unwrap_or(hidden / heads.max(1));
    let mut config = json!({
        "architectures": [class], "model_type": model_type, "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": whole("feed_forward_length")?,
        "num_hidden_layers": whole("block_count")?,
        "num_attention_heads": heads, "num_key_value_heads": key_heads, "head_dim": width,
        "max_position_embeddings": whole("context_length")?,
        // The file keeps an f32; the digits beyond it are noise that readers would copy.
        "rms_norm_eps": shortest(epsilon), "rope_theta": base,
        "rope_scaling": scaling(file, kind, width, base)?,
        "vocab_size": file.texts("tokenizer.ggml.tokens")?.len(),
        "tie_word_embeddings": !file.has("output.weight"),
        "bos_token_id": optional("tokenizer.ggml.bos_token_id"),
        "eos_token_id": optional("tokenizer.ggml.eos_token_id"),
        "pad_token_id": optional("tokenizer.ggml.padding_token_id"),
        "torch_dtype": "float32",
    });
    if model_type == "qwen3_moe" {
        for (name, key) in [
            ("num_experts", "expert_count"),
            ("num_experts_per_tok", "expert_used_count"),
            ("moe_intermediate_size", "expert_feed_forward_length"),
        ] {
            config[name] = whole(key)?.into();
        }
        // Not in the file: readers of the format always scale the shares of this kind of model to one.
        config["norm_topk_prob"] = true.into();
    }
    Ok(config)
}

fn refused(file: &Gguf, key: &str) -> BackendError {
    let value = match file.setting(key) {
        Some(Value::Text(text)) => text.clone(),
        Some(other) => format!("{other:?}"),
        None => "a tensor".to_owned(),
    };
    BackendError::UnsupportedSetting {
        path: file.path().to_owned(),
        name: key.to_owned(),
        value,
    }
}

/// How positions are stretched. Llama 3 is not named in the file: its factors lie there as a tensor, and are used only
/// if they are those of the published rule.
fn scaling(file: &Gguf, kind: &str, width: i64, base: f64) -> Result<Json, BackendError> {
    const FACTORS: &str = "rope_freqs.weight";
    let key = |name: &str| format!("{kind}.rope.scaling.{name}");
    if file.has(FACTORS) {
        let found = file.read(FACTORS)?;
        let factor = found.iter().copied().fold(1.0, f32::max);
        let rule = json!({
            "rope_type": "llama3", "factor": shortest(f64::from(factor)), "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192
        });
        let same = rope::Scaling::from_json(&rule, 8192).is_ok_and(|rule| {
            let plain = rope::Scaling::Plain.steps(width, base, 1).0;
            let stretched = rule.steps(width, base, 1).0;
            plain.len() == found.len()
                && plain
                    .iter()
                    .zip(&stretched)
                    .zip(&found)
                    .all(|((plain, step), factor)| (plain / step / factor - 1.0).abs() < 1e-3)
        });
        return if same {
            Ok(rule)
        } else {
            Err(refused(file, FACTORS))
        };
    }
    match file.setting(&key("type")) {
        None => Ok(Json::Null),
        Some(Value::Text(name)) if name == "none" => Ok(Json::Null),
        Some(Value::Text(name)) if name == "linear" => {
            Ok(json!({"rope_type": "linear", "factor": shortest(file.number(&key("factor"))?)}))
        }
        Some(Value::Text(name)) if name == "yarn" => Ok(json!({
            "rope_type": "yarn", "factor": shortest(file.number(&key("factor"))?),
            "original_max_position_embeddings": file.integer(&key("original_context_length"))?
        })),
        Some(_) => Err(refused(file, &key("type"))),
    }
}

/// The shortest decimal that is the same `f32`.
fn shortest(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}

/// Every tensor of the model, in the order of a model folder. A tensor that has no place there is refused: leaving it
/// out would give wrong results silently.
pub(super) fn pieces(file: &Gguf, config: &Json) -> Result<Vec<Piece>, BackendError> {
    let count = |name: &str| config[name].as_i64().unwrap_or(0);
    let turned = |heads: &str| (config["model_type"] == "llama").then(|| count(heads));
    let (heads, key_heads) = (turned("num_attention_heads"), turned("num_key_value_heads"));
    let mixed = config["model_type"] == "qwen3_moe";
    let head_norms = mixed || config["model_type"] == "qwen3";
    let mut pieces = Vec::new();
    let mut add = |from: String, to: String, heads: Option<i64>| {
        pieces.push(Piece {
            from,
            to,
            heads,
            part: None,
        });
    };
    add(
        "token_embd.weight".into(),
        "model.embed_tokens.weight".into(),
        None,
    );
    for number in 0..count("num_hidden_layers") {
        for (from, to, heads) in [
            ("attn_norm", "input_layernorm", None),
            ("attn_q", "self_attn.q_proj", heads),
            ("attn_k", "self_attn.k_proj", key_heads),
            ("attn_v", "self_attn.v_proj", None),
            ("attn_output", "self_attn.o_proj", None),
            ("attn_q_norm", "self_attn.q_norm", None),
            ("attn_k_norm", "self_attn.k_norm", None),
            ("ffn_norm", "post_attention_layernorm", None),
            ("ffn_gate", "mlp.gate_proj", None),
            ("ffn_up", "mlp.up_proj", None),
            ("ffn_down", "mlp.down_proj", None),
        ] {
            let of_heads = from.ends_with("_q_norm") || from.ends_with("_k_norm");
            for part in ["weight", "bias"] {
                let from = format!("blk.{number}.{from}.{part}");
                let dense = from.contains(".ffn_") && !from.contains("_norm.");
                let must = part == "weight" && (!of_heads || head_norms) && !(mixed && dense);
                if must || file.has(&from) {
                    add(from, format!("model.layers.{number}.{to}.{part}"), heads);
                }
            }
        }
    }
    add(
        "output_norm.weight".into(),
        "model.norm.weight".into(),
        None,
    );
    if file.has("output.weight") {
        add("output.weight".into(), "lm_head.weight".into(), None);
    }
    if mixed {
        for number in 0..count("num_hidden_layers") {
            pieces.extend(experts(file, number, count("num_experts"))?);
        }
    }
    for piece in &pieces {
        file.shape(&piece.from)?;
    }
    let used =
        |name: &str| name == "rope_freqs.weight" || pieces.iter().any(|piece| piece.from == name);
    match file.names().find(|name| !used(name)) {
        None => Ok(pieces),
        Some(name) => Err(BackendError::malformed(
            file.path(),
            format!("the tensor `{name}`"),
            "only tensors that a model of its kind has",
        )),
    }
}

/// The router of a layer, and its experts, whose matrices share a tensor in the file.
fn experts(file: &Gguf, layer: i64, count: i64) -> Result<Vec<Piece>, BackendError> {
    let place = |from: &str| format!("blk.{layer}.{from}.weight");
    let mut pieces = vec![Piece {
        from: place("ffn_gate_inp"),
        to: format!("model.layers.{layer}.mlp.gate.weight"),
        heads: None,
        part: None,
    }];
    for (from, to) in [
        ("ffn_gate_exps", "gate_proj"),
        ("ffn_up_exps", "up_proj"),
        ("ffn_down_exps", "down_proj"),
    ] {
        let from = place(from);
        let shape = file.shape(&from)?;
        if shape.len() != 3 || shape[0] != count {
            return Err(BackendError::malformed(
                file.path(),
                format!("`{from}` of {shape:?}"),
                format!("{count} matrices"),
            ));
        }
        pieces.extend((0..count).map(|number| Piece {
            from: from.clone(),
            to: format!("model.layers.{layer}.mlp.experts.{number}.{to}.weight"),
            heads: None,
            part: Some(number as usize),
        }));
    }
    Ok(pieces)
}

/// Undoes the row order that GGUF gives Llama's queries and keys: pairs that turn together lie side by side there, and
/// half a head apart here.
pub(super) fn in_halves(
    values: &[f32],
    shape: &[i64],
    heads: i64,
    path: &Path,
    name: &str,
) -> Result<Vec<f32>, BackendError> {
    let rows = shape[0];
    if heads < 1 || rows % (2 * heads) != 0 || values.is_empty() {
        return Err(BackendError::malformed(
            path,
            format!("`{name}` of {shape:?}"),
            format!("rows for {heads} heads of even width"),
        ));
    }
    let half = (rows / heads / 2) as usize;
    let columns = values.len() / rows as usize;
    let mut ordered = Vec::with_capacity(values.len());
    for head in values.chunks_exact(2 * half * columns) {
        for side in 0..2 {
            for pair in 0..half {
                let row = 2 * pair + side;
                ordered.extend_from_slice(&head[row * columns..(row + 1) * columns]);
            }
        }
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_turn_together_end_half_a_head_apart() {
        // Two heads of width four and two columns: GGUF keeps rows 0 2 1 3.
        let head = |from: f32| [0.0, 2.0, 1.0, 3.0].map(|row| from + row);
        let stored: Vec<f32> = head(0.0)
            .into_iter()
            .chain(head(10.0))
            .flat_map(|row| [row, row + 0.5])
            .collect();
        let rows = in_halves(&stored, &[8, 2], 2, Path::new("m.gguf"), "q").unwrap();
        let first: Vec<f32> = rows.chunks(2).map(|row| row[0]).collect();
        assert_eq!(first, [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]);
        for (values, shape, heads) in [(&stored[..], [8, 2], 3), (&[], [0, 2], 2), (&[], [8, 0], 2)]
        {
            let ordered = in_halves(values, &shape, heads, Path::new("m.gguf"), "q");
            assert!(ordered.is_err(), "{shape:?}");
        }
    }

    #[test]
    fn an_f32_is_written_without_noise() {
        assert!((shortest(f64::from(1e-5_f32)) - 1e-5).abs() < f64::EPSILON * 1e-5);
    }
}
