//! `config.json`: the shape of a model.

use std::path::Path;

use serde_json::Value;

use crate::BackendError;
use crate::gptq::Header;
use crate::mixture::Mixture;
use crate::rope::Scaling;

/// The kinds of model that [`crate::Model`] computes, as error messages name them.
pub(crate) const KNOWN: &str = "llama, mistral, qwen2, qwen3, qwen3_moe";

/// Whether a model of this `model_type` can be computed at all.
pub fn is_known_family(kind: &str) -> bool {
    KNOWN.split(", ").any(|known| known == kind)
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one switch of the file"
)]
pub struct ModelConfig {
    /// `llama`, `mistral`, `qwen2`, `qwen3` or `qwen3_moe`.
    pub kind: String,
    /// Width of the residual stream.
    pub hidden: i64,
    /// Width inside the feed-forward block of layers without experts.
    pub feed_forward: i64,
    /// The experts of layers that have some.
    pub mixture: Option<Mixture>,
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
    /// How the angles are stretched for longer texts.
    pub(crate) rope: Scaling,
    /// For each layer, how far its attention looks back.
    pub(crate) windows: Vec<Option<i64>>,
    /// The heads of queries and keys have norms.
    pub(crate) head_norms: bool,
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
    /// How matrices on grids are kept, where there are such.
    pub(crate) grids: Option<Header>,
}

impl ModelConfig {
    /// Checks the fields of a parsed `config.json`; `path` is for messages.
    pub fn from_json(path: &Path, value: &Value) -> Result<Self, BackendError> {
        let fields = Fields { path, value };
        let kind = value["model_type"].as_str().unwrap_or("none").to_owned();
        if !is_known_family(&kind) {
            return Err(BackendError::UnknownArchitecture {
                path: path.to_owned(),
                found: kind,
                known: KNOWN,
            });
        }
        fields.must_be("hidden_act", |v| v.is_null() || v == "silu")?;
        fields.must_be("mlp_bias", |v| v != &Value::Bool(true))?;
        fields.must_be("quantization_config", |v| {
            v.is_null()
                || (v["quant_method"] == "bitsandbytes" && v["load_in_4bit"] == true)
                || Header::of(v).is_some()
        })?;
        let positions = fields
            .optional_count("max_position_embeddings", 1 << 24)?
            .unwrap_or(2048);
        let rope = fields.rope(positions)?;

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
        let layers = fields.count("num_hidden_layers", 1 << 12)?;
        let attention_bias = value["attention_bias"].as_bool().unwrap_or(false);
        Ok(Self {
            hidden,
            feed_forward: fields.count("intermediate_size", 1 << 22)?,
            mixture: if kind == "qwen3_moe" {
                Some(Mixture::read(&fields, layers)?)
            } else {
                None
            },
            layers,
            heads,
            key_heads,
            head_width,
            vocabulary: fields.count("vocab_size", 1 << 24)?,
            norm_epsilon,
            rope_base,
            rope,
            windows: fields.windows(&kind, layers)?,
            head_norms: matches!(kind.as_str(), "qwen3" | "qwen3_moe"),
            positions,
            tied: value["tie_word_embeddings"].as_bool().unwrap_or(false),
            qkv_bias: kind == "qwen2" || attention_bias,
            output_bias: matches!(kind.as_str(), "llama" | "qwen3" | "qwen3_moe") && attention_bias,
            end_tokens,
            grids: Header::of(&value["quantization_config"]),
            kind,
        })
    }
}

/// The fields of a configuration, read one by one; `path` is for messages.
pub(crate) struct Fields<'a> {
    pub(crate) path: &'a Path,
    pub(crate) value: &'a Value,
}

impl Fields<'_> {
    fn count(&self, name: &str, most: i64) -> Result<i64, BackendError> {
        self.optional_count(name, most)?
            .ok_or_else(|| self.wrong(name, &format!("a number from 1 to {most}")))
    }

    pub(crate) fn optional_count(
        &self,
        name: &str,
        most: i64,
    ) -> Result<Option<i64>, BackendError> {
        match &self.value[name] {
            Value::Null => Ok(None),
            number => match number.as_i64() {
                Some(count) if (1..=most).contains(&count) => Ok(Some(count)),
                _ => Err(self.wrong(name, &format!("a number from 1 to {most}"))),
            },
        }
    }

    /// The rule for positions: `rope_parameters`, or `rope_scaling` of older files.
    fn rope(&self, positions: i64) -> Result<Scaling, BackendError> {
        let name = ["rope_parameters", "rope_scaling"]
            .into_iter()
            .find(|name| !self.value[*name].is_null());
        let Some(name) = name else {
            return Ok(Scaling::Plain);
        };
        Scaling::from_json(&self.value[name], positions).map_err(|reason| {
            BackendError::UnsupportedSetting {
                path: self.path.to_owned(),
                name: name.to_owned(),
                value: format!("{} ({reason})", self.value[name]),
            }
        })
    }

    /// How far each layer looks back: Mistral's layers alike, Qwen's dense ones where `layer_types` or the older switches say so.
    fn windows(&self, kind: &str, layers: i64) -> Result<Vec<Option<i64>>, BackendError> {
        let usual = |window: i64| self.value.get("sliding_window").is_none().then_some(window);
        let window = self.optional_count("sliding_window", 1 << 24)?;
        let window = match kind {
            "mistral" => window.or(usual(4096)),
            _ => window.filter(|_| self.value["use_sliding_window"] == true),
        };
        let slides: Box<dyn Fn(i64) -> bool> = match (kind, &self.value["layer_types"]) {
            // Qwen3-MoE has one mask for all layers.
            ("mistral" | "qwen3_moe", _) => Box::new(|_| true),
            ("qwen2" | "qwen3", Value::Array(types)) => {
                let known = ["full_attention", "sliding_attention"];
                if types.len() as i64 != layers
                    || !types.iter().all(|t| known.iter().any(|k| t == k))
                {
                    return Err(self.wrong(
                        "layer_types",
                        "full_attention or sliding_attention, one a layer",
                    ));
                }
                Box::new(|layer| types[layer as usize] == "sliding_attention")
            }
            ("qwen2" | "qwen3", _) => {
                let first = self.value["max_window_layers"].as_i64().unwrap_or(28);
                Box::new(move |layer| layer >= first)
            }
            _ => Box::new(|_| false),
        };
        let windows = (0..layers).map(|layer| window.filter(|_| slides(layer)));
        Ok(windows.collect())
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

    pub(crate) fn wrong(&self, name: &str, expected: &str) -> BackendError {
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
    fn windows_are_those_of_each_family() {
        for (kind, more, expected) in [
            ("llama", json!({}), [None, None]),
            ("mistral", json!({}), [Some(8), Some(8)]),
            ("mistral", json!({"sliding_window": null}), [None, None]),
            ("qwen2", json!({"max_window_layers": 1}), [None, None]),
            (
                "qwen2",
                json!({"max_window_layers": 1, "use_sliding_window": true}),
                [None, Some(8)],
            ),
            (
                "qwen3",
                json!({"use_sliding_window": true, "layer_types": ["sliding_attention", "full_attention"]}),
                [Some(8), None],
            ),
        ] {
            let mut config = small();
            config["num_hidden_layers"] = 2.into();
            config["model_type"] = kind.into();
            config["sliding_window"] = 8.into();
            for (name, value) in more.as_object().unwrap() {
                config[name.as_str()] = value.clone();
            }
            let found = ModelConfig::from_json(Path::new("config.json"), &config).unwrap();
            assert_eq!(found.windows, expected, "{kind} {more}");
            assert_eq!(found.head_norms, kind == "qwen3");
        }
    }

    #[test]
    fn a_setting_that_changes_the_computation_is_refused_by_name() {
        for (name, value, code) in [
            ("model_type", json!("gemma3"), "torch.unknown-architecture"),
            ("hidden_act", json!("gelu"), "torch.unsupported-setting"),
            (
                "rope_scaling",
                json!({"type": "longrope", "factor": 4.0}),
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
