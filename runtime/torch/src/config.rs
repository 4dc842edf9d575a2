//! `config.json`: the shape of a model.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::BackendError;

/// The kinds of model that [`crate::Model`] computes, as error messages name them.
pub(crate) const KNOWN: &str = "llama, qwen2";

/// A configuration file is a few kilobytes; more is not one.
const LARGEST: u64 = 4 << 20;

/// The shape of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// `llama` or `qwen2`.
    pub kind: String,
    /// Width of the residual stream.
    pub hidden: i64,
    /// Width inside the feed-forward block.
    pub feed_forward: i64,
    /// Number of blocks.
    pub layers: i64,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads; each serves `heads / key_heads` query heads.
    pub key_heads: i64,
    /// Width of a head.
    pub head_width: i64,
    /// Rows of the embedding.
    pub vocabulary: i64,
    /// Added to the mean square before its root.
    pub norm_epsilon: f64,
    /// Base of the rotary angles.
    pub rope_base: f64,
    /// Longest text that the model was made for.
    pub positions: i64,
    /// The output layer is the embedding.
    pub tied: bool,
    /// Query, key and value projections add a bias.
    pub qkv_bias: bool,
    /// The attention's output projection adds a bias.
    pub output_bias: bool,
    /// Tokens that end a text.
    pub end_tokens: Vec<i64>,
}

impl ModelConfig {
    /// Reads and checks `config.json`.
    pub fn read(path: &Path) -> Result<Self, BackendError> {
        let size = fs::metadata(path)
            .map_err(BackendError::reading(path))?
            .len();
        if size > LARGEST {
            return Err(BackendError::malformed(
                path,
                format!("{size} bytes"),
                format!("at most {LARGEST} bytes"),
            ));
        }
        let text = fs::read(path).map_err(BackendError::reading(path))?;
        let value = serde_json::from_slice(&text)
            .map_err(|e| BackendError::malformed(path, e.to_string(), "JSON"))?;
        Self::from_json(path, &value)
    }

    /// Checks the fields of a parsed `config.json`; `path` is for messages.
    pub fn from_json(path: &Path, value: &Value) -> Result<Self, BackendError> {
        let fields = Fields { path, value };
        let kind = value["model_type"].as_str().unwrap_or("none").to_owned();
        if !matches!(kind.as_str(), "llama" | "qwen2") {
            return Err(BackendError::UnknownArchitecture {
                path: path.to_owned(),
                found: kind,
                known: KNOWN,
            });
        }
        fields.must_be("hidden_act", |v| v.is_null() || v == "silu")?;
        fields.must_be("mlp_bias", |v| v != &Value::Bool(true))?;
        fields.must_be("use_sliding_window", |v| v != &Value::Bool(true))?;
        fields.must_be("quantization_config", Value::is_null)?;
        let plain = |v: &Value| {
            v.is_null()
                || ["rope_type", "type"]
                    .iter()
                    .all(|k| v.get(k).is_none_or(|t| t == "default"))
        };
        fields.must_be("rope_scaling", plain)?;
        fields.must_be("rope_parameters", plain)?;

        let hidden = fields.count("hidden_size", 1 << 20)?;
        let heads = fields.count("num_attention_heads", 1 << 14)?;
        let key_heads = fields
            .optional_count("num_key_value_heads", 1 << 14)?
            .unwrap_or(heads);
        let head_width = match fields.optional_count("head_dim", 1 << 14)? {
            Some(width) => width,
            None if hidden % heads == 0 => hidden / heads,
            None => {
                return Err(fields.wrong("num_attention_heads", "a divisor of hidden_size"));
            }
        };
        if heads % key_heads != 0 || head_width % 2 != 0 {
            return Err(fields.wrong(
                "num_key_value_heads",
                "a divisor of num_attention_heads, and heads of even width",
            ));
        }
        let rope_base = value["rope_parameters"]["rope_theta"]
            .as_f64()
            .or(value["rope_theta"].as_f64())
            .unwrap_or(10_000.0);
        let norm_epsilon = value["rms_norm_eps"].as_f64().unwrap_or(1e-6);
        if !(rope_base > 0.0 && norm_epsilon >= 0.0) {
            return Err(fields.wrong("rope_theta", "a number above zero"));
        }
        let end_tokens = match &value["eos_token_id"] {
            Value::Array(many) => many.iter().filter_map(Value::as_i64).collect(),
            one => one.as_i64().into_iter().collect(),
        };
        let attention_bias = value["attention_bias"].as_bool().unwrap_or(false);
        Ok(Self {
            hidden,
            feed_forward: fields.count("intermediate_size", 1 << 22)?,
            layers: fields.count("num_hidden_layers", 1 << 12)?,
            heads,
            key_heads,
            head_width,
            vocabulary: fields.count("vocab_size", 1 << 24)?,
            norm_epsilon,
            rope_base,
            positions: fields
                .optional_count("max_position_embeddings", 1 << 24)?
                .unwrap_or(2048),
            tied: value["tie_word_embeddings"].as_bool().unwrap_or(false),
            qkv_bias: kind == "qwen2" || attention_bias,
            output_bias: kind == "llama" && attention_bias,
            end_tokens,
            kind,
        })
    }
}

struct Fields<'a> {
    path: &'a Path,
    value: &'a Value,
}

impl Fields<'_> {
    fn count(&self, name: &str, most: i64) -> Result<i64, BackendError> {
        self.optional_count(name, most)?
            .ok_or_else(|| self.wrong(name, &format!("a number from 1 to {most}")))
    }

    fn optional_count(&self, name: &str, most: i64) -> Result<Option<i64>, BackendError> {
        match &self.value[name] {
            Value::Null => Ok(None),
            number => match number.as_i64() {
                Some(count) if (1..=most).contains(&count) => Ok(Some(count)),
                _ => Err(self.wrong(name, &format!("a number from 1 to {most}"))),
            },
        }
    }

    fn must_be(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Result<(), BackendError> {
        let value = &self.value[name];
        if holds(value) {
            return Ok(());
        }
        Err(BackendError::UnsupportedSetting {
            path: self.path.to_owned(),
            name: name.to_owned(),
            value: value.to_string(),
        })
    }

    fn wrong(&self, name: &str, expected: &str) -> BackendError {
        let found = format!("`{name}`: {}", self.value[name]);
        BackendError::malformed(self.path, found, format!("`{name}`: {expected}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn small() -> Value {
        json!({
            "model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 32, "eos_token_id": [1, 2]
        })
    }

    #[test]
    fn defaults_fill_what_old_files_leave_out() {
        let config = ModelConfig::from_json(Path::new("config.json"), &small()).unwrap();
        assert_eq!((config.key_heads, config.head_width), (2, 4));
        assert_eq!(config.end_tokens, [1, 2]);
        assert!(!config.qkv_bias);
    }

    #[test]
    fn a_setting_that_changes_the_computation_is_refused_by_name() {
        for (name, value, code) in [
            ("model_type", json!("gemma3"), "torch.unknown-architecture"),
            ("hidden_act", json!("gelu"), "torch.unsupported-setting"),
            (
                "rope_scaling",
                json!({"type": "yarn"}),
                "torch.unsupported-setting",
            ),
            ("num_hidden_layers", json!(-1), "torch.malformed"),
            ("num_attention_heads", json!(0), "torch.malformed"),
            ("num_attention_heads", json!(3), "torch.malformed"),
            ("vocab_size", json!(1_u64 << 60), "torch.malformed"),
        ] {
            let mut config = small();
            config[name] = value;
            let error = ModelConfig::from_json(Path::new("config.json"), &config).unwrap_err();
            assert_eq!(report::Diagnose::code(&error), code, "{name}");
        }
    }
}
