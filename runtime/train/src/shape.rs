//! The shape of a model as its `config.json` tells it: enough to foresee what a run needs, without its weights.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use report::{Args, Diagnose, Outcome};
use serde_json::Value;

use crate::stretch::made_for;

/// The shape of a decoder model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ModelShape {
    /// Such as `qwen2`.
    pub family: String,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Width inside the feed-forward block of layers without experts.
    pub feed_forward: u64,
    /// Blocks.
    pub layers: u64,
    /// The experts of layers that have some.
    pub mixture: Option<Mixture>,
    /// Width of all query heads together.
    pub queries: u64,
    /// Width of all key heads together.
    pub keys: u64,
    /// Rows of the embedding.
    pub vocabulary: u64,
    /// Longest text that the model was made for.
    pub positions: u64,
    /// The same before its positions were stretched, if they were.
    pub made_for: u64,
    /// The output layer is the embedding.
    pub tied: bool,
    /// The files hold 16 bits a number or less, in which frozen matrices stay.
    pub narrow: bool,
    /// Numbers of each block beside its matrices: norms and biases.
    pub(crate) small: u64,
    /// Those of the norms of queries' and keys' heads.
    pub(crate) head_norms: u64,
}

/// Experts, of which each token is sent to some.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mixture {
    /// Experts of a layer.
    pub experts: u64,
    /// Experts that each token is sent to.
    pub chosen: u64,
    /// Width inside an expert.
    pub feed_forward: u64,
    /// For each layer, whether it has experts.
    pub layers: Vec<bool>,
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

/// No side of a model is longer.
const LONGEST_SIDE: u64 = 1 << 24;
/// No model has more layers.
const MOST_LAYERS: u64 = 1 << 12;

impl ModelShape {
    /// Reads `config.json` in a model's folder.
    pub fn read(folder: &Path) -> Result<Self, ShapeError> {
        let path = folder.join("config.json");
        let text = bounded(&path).map_err(|source| ShapeError::Unreadable {
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
        let head_norms = if matches!(family.as_str(), "qwen3" | "qwen3_moe") {
            2 * width
        } else {
            0
        };
        let layers = needed("num_hidden_layers")?;
        if layers > MOST_LAYERS {
            let found = format!("`num_hidden_layers`: {layers}");
            return Err(malformed(found, "a number from 1 to 4096"));
        }
        let mixture = if family == "qwen3_moe" {
            let sparse = sparse_layers(&config, layers, side("decoder_sparse_step")?.unwrap_or(1));
            let experts = match side("num_experts")? {
                Some(experts) => experts,
                None => side("num_local_experts")?.unwrap_or(128),
            };
            Some(Mixture {
                experts,
                chosen: side("num_experts_per_tok")?.unwrap_or(8),
                feed_forward: side("moe_intermediate_size")?.unwrap_or(768),
                layers: sparse,
            })
        } else {
            None
        };
        let mut shape = Self {
            hidden,
            feed_forward: needed("intermediate_size")?,
            layers,
            mixture,
            queries,
            keys,
            vocabulary: needed("vocab_size")?,
            positions: side("max_position_embeddings")?.unwrap_or(2048),
            made_for: made_for(&config),
            tied: config["tie_word_embeddings"].as_bool().unwrap_or(false),
            narrow: false,
            small: 2 * hidden + biases + head_norms,
            head_norms,
            family,
        };
        // What the configuration says of the number format need not be so.
        let stored = stored(folder);
        shape.narrow = stored > 0 && stored < shape.parameters().saturating_mul(3);
        Ok(shape)
    }

    /// Whether layer `number` has experts.
    pub(crate) fn has_experts(&self, number: u64) -> bool {
        let layers = self.mixture.as_ref().map(|mixture| &mixture.layers);
        layers.is_some_and(|layers| layers.get(number as usize) == Some(&true))
    }

    /// Width inside of the feed-forward half of layer `number`, as wide as one token's work is.
    pub(crate) fn width(&self, number: u64) -> u64 {
        match &self.mixture {
            Some(mixture) if self.has_experts(number) => {
                mixture.chosen.saturating_mul(mixture.feed_forward)
            }
            _ => self.feed_forward,
        }
    }
}

/// The content of a configuration: a few kilobytes, and more than the largest is none.
fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    const LARGEST: u64 = 4 << 20;
    let mut text = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// Bytes of the weights in a model's folder; none where they cannot be told.
fn stored(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let weights = files.filter(|file| {
        let path = file.path();
        path.extension().is_some_and(|end| end == "safetensors")
    });
    let sizes = weights.filter_map(|file| Some(fs::metadata(file.path()).ok()?.len()));
    sizes.fold(0, u64::saturating_add)
}

/// Which layers have experts: each that `step` hits, but for those named as dense.
fn sparse_layers(config: &Value, layers: u64, step: u64) -> Vec<bool> {
    let dense = config["mlp_only_layers"].as_array();
    let is_dense = |layer: u64| {
        let mut named = dense.into_iter().flatten();
        named.any(|number| number.as_u64() == Some(layer))
    };
    let sparse = |layer: u64| (layer + 1).is_multiple_of(step) && !is_dense(layer);
    (0..layers).map(sparse).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::job::{FineTuning, FreezeSettings, LoraSettings};

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
        let FineTuning::Lora(plain) = lora(None) else {
            panic!("not LoRA");
        };
        let whole = FineTuning::Lora(LoraSettings {
            whole_modules: vec!["embed_tokens".to_owned(), "norm".to_owned()],
            ..plain
        });
        let trained = shape.trainable(&whole).unwrap();
        assert_eq!(trained, counted("sft_additional_target"));
        let some = shape.trainable(&lora(Some(&["q_proj", "v_proj"]))).unwrap();
        assert_eq!(some, 4 * 8 * (64 + 64 + 64 + 32));
        let error = shape.trainable(&lora(Some(&["query"]))).unwrap_err();
        assert!(error.to_string().contains("q_proj, k_proj"), "{error}");
    }

    #[test]
    fn a_configuration_without_end_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("config.json")).unwrap();
        // Takes no room on the disk.
        file.set_len(1 << 40).unwrap();
        let error = ModelShape::read(folder.path()).unwrap_err();
        assert!(matches!(error, ShapeError::Unreadable { .. }), "{error}");
    }

    #[test]
    fn counts_with_experts_are_those_of_the_original() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/model_moe");
        let shape = ModelShape::read(Path::new(root)).unwrap();
        assert_eq!(shape.parameters(), counted("moe_full"));
        assert_eq!(
            shape.trainable(&FineTuning::Full).unwrap(),
            counted("moe_full")
        );
        assert_eq!(shape.trainable(&lora(None)).unwrap(), counted("moe_lora"));
        let freeze = FreezeSettings {
            layers: 2,
            modules: vec!["all".to_owned()],
            extra_modules: Vec::new(),
        };
        let trained = shape.trainable(&FineTuning::Freeze(freeze)).unwrap();
        assert_eq!(trained, counted("moe_freeze"));
        // By name, experts and their router are meant, too: two layers of eight, and the dense one.
        let named = shape
            .trainable(&lora(Some(&["gate_proj", "gate"])))
            .unwrap();
        assert_eq!(named, 8 * (2 * 8 * (32 + 16) + (32 + 48) + 2 * (32 + 8)));
    }

    #[test]
    fn the_largest_sides_there_can_be_overflow_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "hidden_size",
            "intermediate_size",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "vocab_size",
            "num_experts",
            "num_experts_per_tok",
            "moe_intermediate_size",
        ];
        let mut config =
            serde_json::json!({"model_type": "qwen3_moe", "num_hidden_layers": MOST_LAYERS});
        for name in names {
            config[name] = LONGEST_SIDE.into();
        }
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let shape = ModelShape::read(folder.path()).unwrap();
        assert_eq!(shape.parameters(), u64::MAX);
        assert!(shape.trainable(&lora(None)).unwrap() > 1 << 50);
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
            (
                r#"{"hidden_size": 8, "num_attention_heads": 0}"#,
                "`num_attention_heads`: 0",
            ),
            (
                r#"{"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 16777216}"#,
                "from 1 to 4096",
            ),
        ] {
            fs::write(folder.path().join("config.json"), text).unwrap();
            assert!(read().contains(expected), "{}", read());
        }
    }
}
