//! Which tensors of a model train, as LLaMA-Factory and PEFT choose them by name.

use std::collections::BTreeSet;

use tch::{Kind, Tensor};

use crate::BackendError;
use crate::load::{EMBEDDING, OUTPUT};
use crate::lora::{Linear, chosen};
use crate::model::Model;
use crate::owed::Owed;
use crate::settings::{FreezeSettings, LoraSettings, Method, Precision};

/// What PEFT puts before the names of a model's tensors.
pub(crate) const PREFIX: &str = "base_model.model.";

/// What of a model trains.
#[derive(Debug, Default)]
pub(crate) struct Trained {
    /// The adapter's settings, where there is one.
    pub(crate) lora: Option<LoraSettings>,
    /// Names of the model's own tensors that train.
    pub(crate) own: BTreeSet<String>,
    /// A and B as `PiSSA` made them.
    pub(crate) start: Option<Vec<(Tensor, Tensor)>>,
}

impl Model {
    /// Chooses what trains, and adds or loads the adapter.
    pub(crate) fn choose(&mut self, method: Method) -> Result<Trained, BackendError> {
        match method {
            Method::Full => {
                let all = self.own_tensors().into_iter();
                Ok(Trained {
                    own: all.map(|(name, _)| name).collect(),
                    ..Trained::default()
                })
            }
            Method::Freeze(settings) => Ok(Trained {
                own: self.frozen_but(&settings)?,
                ..Trained::default()
            }),
            Method::Lora {
                settings,
                merge_first,
                start_from,
            } => {
                for folder in &merge_first {
                    self.load_adapter(folder, 0.0)?;
                    self.linears().try_for_each(Linear::pass_over)?;
                    self.merge()?;
                }
                let settings = if let Some(folder) = start_from {
                    let saved = self.load_adapter(&folder, settings.dropout)?;
                    self.linears().try_for_each(Linear::pass_over)?;
                    saved
                } else {
                    self.add_lora(&settings)?;
                    settings
                };
                let own = self.whole_modules(&settings.whole_modules)?;
                let start = settings.pissa.map(|_| self.corrections()).transpose()?;
                Ok(Trained {
                    lora: Some(settings),
                    own,
                    start,
                })
            }
        }
    }

    /// Adds fresh LoRA corrections, which change no output until they are trained. Returns the names chosen.
    pub fn add_lora(&mut self, settings: &LoraSettings) -> Result<Vec<String>, BackendError> {
        let layers: Vec<&Linear> = self.linears().collect();
        let names = chosen(settings, &layers)?;
        for layer in self.linears_mut() {
            if layer.is_meant(&settings.targets) {
                layer.correct(settings)?;
            }
        }
        Ok(names)
    }

    /// The number format of what trains.
    fn trained_kind(&self) -> Kind {
        match self.holding.precision {
            Precision::PureBfloat16 => Kind::BFloat16,
            Precision::Float32 | Precision::Bfloat16 | Precision::Float16 => Kind::Float,
        }
    }

    /// Makes the tensors whose names `choose` picks ready to train: their own memory, in the number format of training.
    pub(crate) fn free(&mut self, choose: &dyn Fn(&str) -> bool) -> Result<(), BackendError> {
        let kind = self.trained_kind();
        tch::no_grad(|| {
            self.visit_own(&mut |name, tensor| {
                if choose(name) {
                    // A mapped tensor must not be written to. One of another kind is made anew anyway.
                    *tensor = if tensor.kind() == kind {
                        tensor.f_detach_copy()?
                    } else {
                        tensor.f_to_kind(kind)?.f_contiguous()?
                    };
                }
                Ok(())
            })
        })
    }

    /// Names of the layers' tensors that `settings` frees.
    pub(crate) fn frozen_but(
        &self,
        settings: &FreezeSettings,
    ) -> Result<BTreeSet<String>, BackendError> {
        let count = self.config.layers;
        let layers = if settings.layers >= 0 {
            (count - settings.layers).max(0)..count
        } else {
            0..(-settings.layers).min(count)
        };
        let all: Vec<String> = self
            .own_tensors()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let (mut inner, mut outer) = (BTreeSet::new(), BTreeSet::new());
        for name in &all {
            match in_layer(name) {
                Some((_, module)) => inner.insert(module),
                None => outer.insert(name.rsplit('.').nth(1).unwrap_or(name)),
            };
        }
        for (names, known) in [
            (&settings.modules, &inner),
            (&settings.extra_modules, &outer),
        ] {
            let unknown = names
                .iter()
                .find(|name| *name != "all" && !known.contains(name.as_str()));
            if let Some(name) = unknown {
                let known: Vec<&str> = known.iter().copied().collect();
                return Err(BackendError::NoSuchTarget {
                    name: name.clone(),
                    known: known.join(", "),
                });
            }
        }
        let chosen = |name: &&String| {
            // As the original finds them: `norm` is every tensor with that in its name, those of the layers, too.
            let extra = settings.extra_modules.iter().any(|m| name.contains(m));
            let inside = in_layer(name).is_some_and(|(layer, module)| {
                let module = settings.modules.iter().any(|m| m == "all" || m == module);
                layers.contains(&layer) && module
            });
            inside || extra
        };
        Ok(all.iter().filter(chosen).cloned().collect())
    }

    /// Names of the tensors of the modules called `names`, as PEFT's `modules_to_save` finds them. The output layer gets
    /// weights of its own where it or the embedding it was tied to is among them.
    pub(crate) fn whole_modules(
        &mut self,
        names: &[String],
    ) -> Result<BTreeSet<String>, BackendError> {
        let asked = |wanted: &str| names.iter().any(|name| name == wanted);
        if self.output.is_none() && (asked("embed_tokens") || asked("lm_head")) {
            self.output = Some(self.embedding.f_detach_copy()?);
        }
        let all: Vec<String> = self
            .own_tensors()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let mut found = BTreeSet::new();
        for wanted in names {
            let before = found.len();
            found.extend(all.iter().filter(|name| is_of(name, wanted)).cloned());
            if found.len() == before {
                let mut known: Vec<&str> = all
                    .iter()
                    .filter_map(|name| name.rsplit('.').nth(1))
                    .collect();
                known.sort_unstable();
                known.dedup();
                return Err(BackendError::NoSuchTarget {
                    name: wanted.clone(),
                    known: known.join(", "),
                });
            }
        }
        Ok(found)
    }

    /// Lets gradients of matrices be owed, or no longer. Returns who is owed them, by name.
    pub(crate) fn defer(&mut self, defer: bool) -> Vec<(String, Owed)> {
        let mut all = Vec::new();
        let mut take = |name: String, matrix: Option<&Tensor>| {
            let trains =
                matrix.is_some_and(|matrix| matrix.requires_grad() && matrix.kind() == Kind::Float);
            let owed = (defer && trains).then(Owed::default);
            all.extend(owed.clone().map(|owed| (name, owed)));
            owed
        };
        self.owed.embedding = take(EMBEDDING.to_owned(), Some(&self.embedding));
        self.owed.output = take(OUTPUT.to_owned(), self.output.as_ref());
        for layer in self.linears_mut() {
            layer.owed = take(format!("{}.weight", layer.name), layer.weight.numbers());
        }
        all
    }

    /// The tensors called `names`.
    pub(crate) fn named(&self, names: &BTreeSet<String>) -> Vec<(String, &Tensor)> {
        let mut all = self.own_tensors();
        all.retain(|(name, _)| names.contains(name));
        all
    }

    /// The corrections' tensors under the names that PEFT gives them.
    pub(crate) fn adapter_tensors(&self) -> Vec<(String, &Tensor)> {
        let mut all = Vec::new();
        for layer in self.linears() {
            if let Some(correction) = &layer.correction {
                let name = |part: &str| format!("{PREFIX}{}.{part}", layer.name);
                all.push((name("lora_A.weight"), &correction.a));
                all.push((name("lora_B.weight"), &correction.b));
                let magnitude = correction.magnitude.as_ref();
                all.extend(magnitude.map(|m| (name("lora_magnitude_vector"), &m.lengths)));
            }
        }
        all
    }

    /// Brings the corrections into the number format of training.
    pub(crate) fn free_corrections(&mut self) -> Result<(), BackendError> {
        let kind = self.trained_kind();
        for layer in self.linears_mut() {
            if let Some(correction) = &mut layer.correction {
                correction.a = correction.a.f_to_kind(kind)?;
                correction.b = correction.b.f_to_kind(kind)?;
            }
        }
        Ok(())
    }

    /// Adds the corrections to the weights for good.
    pub fn merge(&mut self) -> Result<(), BackendError> {
        tch::no_grad(|| {
            for layer in self.linears_mut() {
                if layer.correction.is_none() {
                    continue;
                }
                let Some(kind) = layer.weight.numbers().map(Tensor::kind) else {
                    return Err(BackendError::NotOnPacked { what: "merging" });
                };
                let merged = layer.merged()?.f_to_kind(kind)?;
                layer.weight = crate::weight::Weight::Numbers(merged);
                layer.correction = None;
            }
            Ok(())
        })
    }
}

/// Whether a tensor belongs to a module whose name ends with `wanted`, as PEFT compares them: `norm` is `input_layernorm`,
/// too.
pub(crate) fn is_of(name: &str, wanted: &str) -> bool {
    let module = name.rsplit_once('.').map_or("", |(module, _)| module);
    module.ends_with(wanted)
}

/// The layer and module of a tensor inside of a layer: 3 and `mlp` of `model.layers.3.mlp.up_proj.weight`.
fn in_layer(name: &str) -> Option<(i64, &str)> {
    let rest = name.strip_prefix("model.layers.")?;
    let mut parts = rest.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?))
}
