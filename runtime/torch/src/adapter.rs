//! Adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use crate::files::{self, TensorFiles};
use crate::lora::{LoraSettings, Targets};
use crate::model::Model;
use crate::{BackendError, output};

pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";
const SETTINGS: &str = "adapter_config.json";

#[derive(Deserialize)]
struct Saved {
    peft_type: String,
    r: i64,
    lora_alpha: f64,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    use_rslora: bool,
}

impl Model {
    /// Puts the adapter in `folder` onto the model. `dropout` is for further training.
    pub fn load_adapter(
        &mut self,
        folder: &Path,
        dropout: f64,
    ) -> Result<LoraSettings, BackendError> {
        let path = folder.join(SETTINGS);
        let text = fs::read(&path).map_err(BackendError::reading(&path))?;
        let saved: Saved = serde_json::from_slice(&text).map_err(|e| {
            BackendError::malformed(&path, e.to_string(), "a PEFT LoRA configuration")
        })?;
        if saved.peft_type != "LORA" || !(1..=65536).contains(&saved.r) {
            let found = format!("{} of rank {}", saved.peft_type, saved.r);
            return Err(BackendError::malformed(
                &path,
                found,
                "LORA of rank 1 to 65536",
            ));
        }
        for (name, on) in [("use_dora", saved.use_dora)] {
            if on {
                return Err(BackendError::UnsupportedSetting {
                    path,
                    name: name.to_owned(),
                    value: "true".to_owned(),
                });
            }
        }
        // Rank-stabilised adapters scale by alpha / sqrt(rank).
        let alpha = if saved.use_rslora {
            saved.lora_alpha * (saved.r as f64).sqrt()
        } else {
            saved.lora_alpha
        };
        let mut weights = TensorFiles::open_file(&folder.join(WEIGHTS))?;
        let mut settings = LoraSettings {
            rank: saved.r,
            alpha,
            dropout,
            targets: Targets::All,
        };
        let mut names = Vec::new();
        let mut used = 0;
        for layer in self.linears_mut() {
            let a = format!("base_model.model.{}.lora_A.weight", layer.name);
            let b = format!("base_model.model.{}.lora_B.weight", layer.name);
            if !weights.has(&a) {
                continue;
            }
            let (rows, columns) = layer.weight.size2()?;
            let a = weights.read(&a, &[settings.rank, columns])?;
            let b = weights.read(&b, &[rows, settings.rank])?;
            layer.set_correction(a, b, &settings);
            used += 2;
            if !names.iter().any(|n| n == layer.short_name()) {
                names.push(layer.short_name().to_owned());
            }
        }
        // A tensor left over means that the adapter was made for another model.
        let count = weights.names().count();
        if used != count {
            return Err(BackendError::malformed(
                weights.path(),
                format!("{count} tensors, of which {used} fit the model"),
                "an adapter made for this model",
            ));
        }
        settings.targets = Targets::Named(names);
        Ok(settings)
    }

    /// Writes the adapter into `folder`. `base` is the name of the model it belongs to.
    pub fn save_adapter(
        &self,
        folder: &Path,
        settings: &LoraSettings,
        base: &str,
    ) -> Result<(), BackendError> {
        let tensors = self.adapter_tensors();
        output::placed(&folder.join(WEIGHTS), |fresh| {
            files::write(fresh, tensors.iter().map(|(name, t)| (name.as_str(), *t)))
        })?;
        let targets: Vec<&str> = {
            let mut names: Vec<&str> = self
                .linears()
                .filter(|layer| layer.correction.is_some())
                .map(crate::lora::Linear::short_name)
                .collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let config = json!({
            "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": base, "bias": "none",
            "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
            "layer_replication": null, "layers_pattern": null, "layers_to_transform": null, "loftq_config": {},
            "lora_alpha": whole(settings.alpha), "lora_bias": false, "lora_dropout": settings.dropout,
            "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
            "peft_type": "LORA", "r": settings.rank, "rank_pattern": {}, "revision": null,
            "target_modules": targets, "target_parameters": null, "task_type": "CAUSAL_LM",
            "trainable_token_indices": null, "use_dora": false, "use_qalora": false, "use_rslora": false
        });
        output::json(&folder.join(SETTINGS), &config)
    }
}

/// PEFT writes whole strengths as integers, and readers of other languages expect them so.
fn whole(alpha: f64) -> serde_json::Value {
    if alpha.fract() == 0.0 {
        json!(alpha as i64)
    } else {
        json!(alpha)
    }
}
