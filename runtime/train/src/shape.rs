//! The shape of a model as its `config.json` tells it: enough to foresee what a run needs, without its weights.

use std::fs;
use std::path::{Path, PathBuf};

use report::{Args, Diagnose, Outcome};
use serde_json::Value;

use crate::job::{FineTuning, FreezeSettings};

/// The shape of a decoder model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ModelShape {
    /// Such as `qwen2`.
    pub family: String,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Width inside the feed-forward block.
    pub feed_forward: u64,
    /// Blocks.
    pub layers: u64,
    /// Width of all query heads together.
    pub queries: u64,
    /// Width of all key heads together.
    pub keys: u64,
    /// Rows of the embedding.
    pub vocabulary: u64,
    /// Longest text that the model was made for.
    pub positions: u64,
    /// The output layer is the embedding.
    pub tied: bool,
    /// Numbers of each block beside its matrices: norms and biases.
    small: u64,
}

/// A model's folder that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// `config.json` cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `config.json` does not describe a model.
    #[error("`{path}` does not describe a model: found {found}, expected {expected}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// `lora_target` names no layer of the model.
    #[error("no layer of the model is called `{name}`; there are {known}")]
    NoSuchTarget {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
}

impl Diagnose for ShapeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "model.unreadable",
            Self::Malformed { .. } => "model.malformed",
            Self::NoSuchTarget { .. } => "model.no-such-target",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Unreadable { path, .. } => vec![("path", path.display().to_string())],
            Self::Malformed {
                path,
                found,
                expected,
            } => vec![
                ("path", path.display().to_string()),
                ("found", found.clone()),
                ("expected", expected.clone()),
            ],
            Self::NoSuchTarget { name, known } => {
                vec![("name", name.clone()), ("known", known.clone())]
            }
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Unreadable { .. } => Outcome::HostFault,
            Self::Malformed { .. } | Self::NoSuchTarget { .. } => Outcome::Usage,
        }
    }
}

/// No side of a model is longer; keeps every product below 64 bits.
const LONGEST_SIDE: u64 = 1 << 24;

impl ModelShape {
    /// Reads `config.json` in a model's folder.
    pub fn read(folder: &Path) -> Result<Self, ShapeError> {
        let path = folder.join("config.json");
        let text = fs::read(&path).map_err(|source| ShapeError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let malformed = |found: String, expected: &str| ShapeError::Malformed {
            path: path.clone(),
            found,
            expected: expected.to_owned(),
        };
        let config: Value =
            serde_json::from_slice(&text).map_err(|error| malformed(error.to_string(), "JSON"))?;
        let side = |name: &str| -> Result<Option<u64>, ShapeError> {
            let value = &config[name];
            let fits = value.as_u64().filter(|n| (1..=LONGEST_SIDE).contains(n));
            match (value.is_null(), fits) {
                (true, _) => Ok(None),
                (_, Some(number)) => Ok(Some(number)),
                _ => Err(malformed(
                    format!("`{name}`: {value}"),
                    "a number from 1 to 16777216",
                )),
            }
        };
        let needed = |name: &str| {
            side(name)?.ok_or_else(|| malformed(format!("no `{name}`"), "the sides of a model"))
        };
        let family = config["model_type"].as_str().unwrap_or("").to_owned();
        let (hidden, heads) = (needed("hidden_size")?, needed("num_attention_heads")?);
        let key_heads = side("num_key_value_heads")?.unwrap_or(heads);
        let width = side("head_dim")?.unwrap_or(hidden / heads);
        let (queries, keys) = (heads * width, key_heads * width);
        let biases = if family == "qwen2" || config["attention_bias"] == true {
            queries + 2 * keys
        } else {
            0
        };
        let head_norms = if family == "qwen3" { 2 * width } else { 0 };
        Ok(Self {
            hidden,
            feed_forward: needed("intermediate_size")?,
            layers: needed("num_hidden_layers")?,
            queries,
            keys,
            vocabulary: needed("vocab_size")?,
            positions: side("max_position_embeddings")?.unwrap_or(2048),
            tied: config["tie_word_embeddings"].as_bool().unwrap_or(false),
            small: 2 * hidden + biases + head_norms,
            family,
        })
    }

    /// The matrices of a block: name, inputs, outputs.
    fn matrices(&self) -> [(&'static str, u64, u64); 7] {
        let (hidden, feed) = (self.hidden, self.feed_forward);
        [
            ("q_proj", hidden, self.queries),
            ("k_proj", hidden, self.keys),
            ("v_proj", hidden, self.keys),
            ("o_proj", self.queries, hidden),
            ("gate_proj", hidden, feed),
            ("up_proj", hidden, feed),
            ("down_proj", feed, hidden),
        ]
    }

    /// Numbers that the model consists of.
    pub fn parameters(&self) -> u64 {
        let tables = if self.tied { 1 } else { 2 };
        let block: u64 = self.matrices().iter().map(|(_, i, o)| i * o).sum();
        tables * self.vocabulary * self.hidden + self.layers * (block + self.small) + self.hidden
    }

    /// Numbers that `tuning` trains.
    pub fn trainable(&self, tuning: &FineTuning) -> Result<u64, ShapeError> {
        let lora = match tuning {
            FineTuning::Full => return Ok(self.parameters()),
            FineTuning::Freeze(freeze) => return Ok(self.freed(freeze)),
            FineTuning::Lora(lora) => lora,
        };
        let matrices = self.matrices();
        for name in lora.targets.iter().flatten() {
            if !matrices.iter().any(|(known, _, _)| known == name) {
                return Err(ShapeError::NoSuchTarget {
                    name: name.clone(),
                    known: matrices.map(|(known, _, _)| known).join(", "),
                });
            }
        }
        let chosen = |name: &str| {
            let targets = lora.targets.as_ref();
            targets.is_none_or(|targets| targets.iter().any(|target| target == name))
        };
        let rank = lora.rank as u64;
        let lengths = u64::from(lora.dora);
        let sides = matrices.iter().filter(|(name, _, _)| chosen(name));
        let each = sides.map(|(_, inputs, outputs)| rank * (inputs + outputs) + lengths * outputs);
        let whole = lora.whole_modules.iter().map(|name| self.outside(name));
        Ok(self.layers * each.sum::<u64>() + whole.sum::<u64>())
    }

    /// Numbers of the layers and modules that freeze tuning trains.
    fn freed(&self, freeze: &FreezeSettings) -> u64 {
        let sizes = self.matrices().map(|(_, inputs, outputs)| inputs * outputs);
        let (attention, feed) = sizes.split_at(4);
        let (attention, feed): (u64, u64) = (attention.iter().sum(), feed.iter().sum());
        let module = |name: &String| match name.as_str() {
            "all" => attention + feed + self.small,
            "self_attn" => attention + self.small - 2 * self.hidden,
            "mlp" => feed,
            _ => self.hidden,
        };
        let layer: u64 = freeze.modules.iter().map(module).sum();
        let extra = freeze.extra_modules.iter().map(|name| self.outside(name));
        freeze.layers.unsigned_abs().min(self.layers) * layer + extra.sum::<u64>()
    }

    /// Numbers of a module outside of the layers: a table, or a norm.
    fn outside(&self, name: &str) -> u64 {
        match name {
            "embed_tokens" | "lm_head" => self.vocabulary * self.hidden,
            _ => self.hidden,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::LoraSettings;

    fn golden() -> ModelShape {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/model");
        ModelShape::read(Path::new(root)).unwrap()
    }

    fn lora(targets: Option<&[&str]>) -> FineTuning {
        let text = "model_name_or_path: m\ndataset: d\noutput_dir: o\nlora_rank: 8\n";
        let job = crate::Job::parse("job.yaml", text, &[]).unwrap();
        let FineTuning::Lora(settings) = job.fine_tuning else {
            panic!("not LoRA");
        };
        FineTuning::Lora(LoraSettings {
            targets: targets.map(|names| names.iter().map(|&n| n.to_owned()).collect()),
            ..settings
        })
    }

    /// What a golden run trained.
    fn counted(run: &str) -> u64 {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/traces");
        let text = fs::read(Path::new(root).join(run).join("trace.json")).unwrap();
        let trace: Value = serde_json::from_slice(&text).unwrap();
        trace["meta"]["n_trainable"].as_u64().unwrap()
    }

    #[test]
    fn counts_are_those_of_the_original() {
        // Of `meta` in the golden traces: n_all less n_trainable, and n_trainable.
        let shape = golden();
        assert_eq!(shape.parameters(), 285_760 - 38_912);
        assert_eq!(shape.trainable(&lora(None)).unwrap(), 38_912);
        assert_eq!(shape.trainable(&FineTuning::Full).unwrap(), 246_848);
        let freeze = FreezeSettings {
            layers: 2,
            modules: vec!["all".to_owned()],
            extra_modules: Vec::new(),
        };
        let trained = shape.trainable(&FineTuning::Freeze(freeze)).unwrap();
        assert_eq!(trained, counted("sft_freeze"));
        let FineTuning::Lora(plain) = lora(None) else {
            panic!("not LoRA");
        };
        let dora = FineTuning::Lora(LoraSettings {
            dora: true,
            ..plain
        });
        assert_eq!(shape.trainable(&dora).unwrap(), counted("sft_dora"));
        let some = shape.trainable(&lora(Some(&["q_proj", "v_proj"]))).unwrap();
        assert_eq!(some, 4 * 8 * (64 + 64 + 64 + 32));
        let error = shape.trainable(&lora(Some(&["query"]))).unwrap_err();
        assert!(error.to_string().contains("q_proj, k_proj"), "{error}");
    }

    #[test]
    fn what_is_no_model_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let read = || ModelShape::read(folder.path()).unwrap_err().to_string();
        assert!(read().contains("cannot read"), "{}", read());
        for (text, expected) in [
            ("[", "expected JSON"),
            ("{}", "no `hidden_size`"),
            (r#"{"hidden_size": -1}"#, "`hidden_size`: -1"),
            (r#"{"hidden_size": 99999999999}"#, "from 1 to 16777216"),
        ] {
            fs::write(folder.path().join("config.json"), text).unwrap();
            assert!(read().contains(expected), "{}", read());
        }
    }
}
