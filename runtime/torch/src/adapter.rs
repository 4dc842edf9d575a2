//! Adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tch::Tensor;
use torch_device::Place;

use crate::files::{self, TensorFiles, bounded};
use crate::model::Model;
use crate::settings::{LoraSettings, Targets};
use crate::trainable::{PREFIX, is_of};
use crate::{BackendError, output};

pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";
const SETTINGS: &str = "adapter_config.json";
/// An adapter's configuration is a few kilobytes; more is not one.
const LARGEST: u64 = 4 << 20;

#[derive(Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one switch of the file"
)]
struct Saved {
    peft_type: String,
    r: i64,
    lora_alpha: f64,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    rank_pattern: Value,
    #[serde(default)]
    alpha_pattern: Value,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    use_qalora: bool,
    #[serde(default)]
    lora_bias: bool,
    #[serde(default)]
    init_lora_weights: Value,
    #[serde(default)]
    alora_invocation_tokens: Value,
    #[serde(default)]
    arrow_config: Value,
    #[serde(default)]
    layer_replication: Value,
}

/// Starts that change the base model's weights, too, so that the adapter fits the changed ones alone.
const CHANGES_BASE: [&str; 4] = ["pissa", "corda", "olora", "loftq"];

impl Saved {
    fn read(path: &Path) -> Result<Self, BackendError> {
        let text = bounded(path, LARGEST)?;
        let saved: Self = serde_json::from_slice(&text).map_err(|e| {
            BackendError::malformed(path, e.to_string(), "a PEFT LoRA configuration")
        })?;
        if saved.peft_type != "LORA"
            || !(1..=65536).contains(&saved.r)
            || !saved.lora_alpha.is_finite()
        {
            let found = format!(
                "{} of rank {} and strength {}",
                saved.peft_type, saved.r, saved.lora_alpha
            );
            return Err(BackendError::malformed(
                path,
                found,
                "LORA of rank 1 to 65536",
            ));
        }
        let empty = |value: &Value| {
            value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
        };
        let given = |value: &Value| (!value.is_null()).then(|| value.to_string());
        let unusual = [
            (
                "rank_pattern",
                (!empty(&saved.rank_pattern)).then(|| saved.rank_pattern.to_string()),
            ),
            (
                "alpha_pattern",
                (!empty(&saved.alpha_pattern)).then(|| saved.alpha_pattern.to_string()),
            ),
            (
                "fan_in_fan_out",
                saved.fan_in_fan_out.then(|| "true".to_owned()),
            ),
            ("use_qalora", saved.use_qalora.then(|| "true".to_owned())),
            ("lora_bias", saved.lora_bias.then(|| "true".to_owned())),
            ("bias", saved.bias.clone().filter(|bias| bias != "none")),
            (
                "init_lora_weights",
                saved
                    .init_lora_weights
                    .as_str()
                    .map(str::to_owned)
                    .filter(|start| {
                        let start = start.to_ascii_lowercase();
                        CHANGES_BASE.iter().any(|name| start.starts_with(name))
                    }),
            ),
            (
                "alora_invocation_tokens",
                given(&saved.alora_invocation_tokens),
            ),
            ("arrow_config", given(&saved.arrow_config)),
            ("layer_replication", given(&saved.layer_replication)),
        ];
        match unusual
            .into_iter()
            .find_map(|(name, value)| Some((name, value?)))
        {
            None => Ok(saved),
            Some((name, value)) => Err(BackendError::UnsupportedSetting {
                path: path.to_owned(),
                name: name.to_owned(),
                value,
            }),
        }
    }

    fn settings(&self, dropout: f64) -> LoraSettings {
        LoraSettings {
            rank: self.r,
            alpha: self.lora_alpha,
            dropout,
            targets: Targets::All,
            rank_stabilised: self.use_rslora,
            dora: self.use_dora,
            pissa: None,
            whole_modules: self.modules_to_save.clone().unwrap_or_default(),
        }
    }
}

impl Model {
    /// Puts the adapter in `folder` onto the model. `dropout` is for further training.
    pub fn load_adapter(
        &mut self,
        folder: &Path,
        dropout: f64,
    ) -> Result<LoraSettings, BackendError> {
        let mut settings = Saved::read(&folder.join(SETTINGS))?.settings(dropout);
        let mut weights = TensorFiles::open_file(&folder.join(WEIGHTS))?;
        let (names, mut used) = self.read_corrections(&mut weights, &settings)?;
        used += self.read_whole_modules(&mut weights, &settings)?;
        // A tensor left over means that the adapter was made for another model.
        let count = weights.names().count();
        if used != count || names.is_empty() {
            return Err(BackendError::malformed(
                weights.path(),
                format!("{count} tensors, of which {used} fit the model"),
                "an adapter made for this model",
            ));
        }
        settings.targets = Targets::Named(names);
        Ok(settings)
    }

    fn read_corrections(
        &mut self,
        weights: &mut TensorFiles,
        settings: &LoraSettings,
    ) -> Result<(Vec<String>, usize), BackendError> {
        let mut names = Vec::new();
        let mut used = 0;
        for layer in self.linears_mut() {
            let name = |part: &str| format!("{PREFIX}{}.{part}", layer.name);
            let (a, b) = (name("lora_A.weight"), name("lora_B.weight"));
            if !weights.has(&a) {
                continue;
            }
            let (rows, columns) = layer.weight.size()?;
            let a = weights.read_finite(&a, &[settings.rank, columns])?;
            let b = weights.read_finite(&b, &[rows, settings.rank])?;
            used += 2;
            let lengths = if settings.dora {
                used += 1;
                let name = name("lora_magnitude_vector");
                Some(weights.read_finite(&name, &[rows])?)
            } else {
                None
            };
            layer.set_correction(&a, &b, lengths, settings)?;
            if !names.iter().any(|n| n == layer.short_name()) {
                names.push(layer.short_name().to_owned());
            }
        }
        Ok((names, used))
    }

    fn read_whole_modules(
        &mut self,
        weights: &mut TensorFiles,
        settings: &LoraSettings,
    ) -> Result<usize, BackendError> {
        if settings.whole_modules.is_empty() {
            return Ok(0);
        }
        let names = self.whole_modules(&settings.whole_modules)?;
        self.visit_own(&mut |name, tensor| {
            if names.contains(name) {
                let shape = tensor.size();
                let saved = format!("{PREFIX}{name}");
                let read = weights.read_as(&saved, &shape, tensor.kind())?;
                *tensor = Place::of(tensor).put(&read)?;
            }
            Ok(())
        })?;
        Ok(names.len())
    }

    /// Writes the adapter into `folder`. `base` is the name of the model it belongs to.
    pub fn save_adapter(
        &self,
        folder: &Path,
        settings: &LoraSettings,
        base: &str,
    ) -> Result<(), BackendError> {
        self.save_adapter_from(folder, settings, base, None)
    }

    /// The same; `start` holds A and B of each layer as `PiSSA` made them, without which its adapter fits no unchanged
    /// base model.
    pub(crate) fn save_adapter_from(
        &self,
        folder: &Path,
        settings: &LoraSettings,
        base: &str,
        start: Option<&[(Tensor, Tensor)]>,
    ) -> Result<(), BackendError> {
        let rank = if start.is_some() {
            2 * settings.rank
        } else {
            settings.rank
        };
        let mut tensors: Vec<(String, Tensor)> = match start {
            None => {
                let own = self.adapter_tensors().into_iter();
                own.map(|(name, tensor)| (name, tensor.shallow_clone()))
                    .collect()
            }
            Some(start) => self.differences(start)?,
        };
        if !settings.whole_modules.is_empty() {
            let fits = |name: &str| settings.whole_modules.iter().any(|m| is_of(name, m));
            let whole = self
                .own_tensors()
                .into_iter()
                .filter(|(name, _)| fits(name));
            tensors.extend(whole.map(|(name, t)| (format!("{PREFIX}{name}"), t.shallow_clone())));
        }
        output::placed(&folder.join(WEIGHTS), |fresh| {
            files::write(fresh, tensors.iter().map(|(name, t)| (name.as_str(), t)))
        })?;
        let mut targets: Vec<&str> = self
            .linears()
            .filter(|layer| layer.correction.is_some())
            .map(crate::lora::Linear::short_name)
            .collect();
        targets.sort_unstable();
        targets.dedup();
        let whole = &settings.whole_modules;
        // Twice the rank at the same factor is twice the strength, or the root of two where the factor has the root.
        let alpha = if start.is_none() {
            settings.alpha
        } else if settings.rank_stabilised {
            settings.alpha * 2.0_f64.sqrt()
        } else {
            2.0 * settings.alpha
        };
        let config = json!({
            "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null, "base_model_name_or_path": base, "bias": "none",
            "corda_config": null, "ensure_weight_tying": false, "eva_config": null,
            "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
            "layer_replication": null, "layers_pattern": null, "layers_to_transform": null, "loftq_config": {},
            "lora_alpha": whole_number(alpha), "lora_bias": false, "lora_dropout": settings.dropout,
            "megatron_config": null, "megatron_core": "megatron.core",
            "modules_to_save": if whole.is_empty() { Value::Null } else { json!(whole) },
            "peft_type": "LORA", "qalora_group_size": 16, "r": rank, "rank_pattern": {}, "revision": null,
            "target_modules": targets, "target_parameters": null, "task_type": "CAUSAL_LM",
            "trainable_token_indices": null, "use_dora": settings.dora, "use_qalora": false,
            "use_rslora": settings.rank_stabilised
        });
        output::json(&folder.join(SETTINGS), &config)
    }

    /// What training changed, as an adapter of twice the rank on the unchanged base: `B A - B0 A0 = [B B0] [A; -A0]`.
    fn differences(
        &self,
        start: &[(Tensor, Tensor)],
    ) -> Result<Vec<(String, Tensor)>, BackendError> {
        let layers = self
            .linears()
            .filter_map(|layer| Some((layer, layer.correction.as_ref()?)));
        let mut tensors = Vec::new();
        for ((layer, now), (a, b)) in layers.zip(start) {
            let name = |part: &str| format!("{PREFIX}{}.{part}", layer.name);
            let kind = now.a.kind();
            let a = Tensor::f_cat(&[&now.a, &a.f_neg()?.f_to_kind(kind)?], 0)?;
            let b = Tensor::f_cat(&[&now.b, &b.f_to_kind(kind)?], 1)?;
            tensors.push((name("lora_A.weight"), a.f_detach()?));
            tensors.push((name("lora_B.weight"), b.f_detach()?));
        }
        Ok(tensors)
    }

    /// A and B of each layer as they are now.
    pub(crate) fn corrections(&self) -> Result<Vec<(Tensor, Tensor)>, BackendError> {
        let all = self.linears().filter_map(|layer| layer.correction.as_ref());
        all.map(|c| Ok((c.a.f_detach_copy()?, c.b.f_detach_copy()?)))
            .collect()
    }

    /// Adds the adapters in `folders`, one after the other, to the weights for good.
    pub fn merge_adapters(&mut self, folders: &[PathBuf]) -> Result<(), BackendError> {
        for folder in folders {
            self.load_adapter(folder, 0.0)?;
            self.merge()?;
        }
        Ok(())
    }
}

/// A or B as training had it, from a file of [`Model::differences`]: the half before what `PiSSA` made.
pub(crate) fn read_now(
    weights: &mut TensorFiles,
    name: &str,
    shape: &[i64],
) -> Result<Tensor, BackendError> {
    let side = usize::from(name.ends_with("lora_B.weight"));
    let (mut both, rank) = (shape.to_vec(), shape[side]);
    both[side] = 2 * rank;
    let both = weights.read_finite(name, &both)?;
    Ok(both.f_narrow(side as i64, 0, rank)?)
}

/// PEFT writes whole strengths as integers, and readers of other languages expect them so.
fn whole_number(alpha: f64) -> Value {
    if alpha.fract() == 0.0 {
        json!(alpha as i64)
    } else {
        json!(alpha)
    }
}
