//! Where a model lies: a folder in the layout of the Hub, a GGUF file, or a folder with nothing but one.

use std::fs;
use std::path::{Path, PathBuf};

use report::Sink;
use serde_json::Value;
use train::{Reach, Stretch};

use crate::config::ModelConfig;
use crate::files::{TensorFiles, bounded};
use crate::model::Model;
use crate::settings::Holding;
use crate::{BackendError, gguf, output};

/// Files of a tokenizer, copied along with what is trained so that the result can be used by itself.
const TOKENIZER_FILES: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
];

/// A configuration file is a few kilobytes; more is not one.
const LARGEST_CONFIG: u64 = 4 << 20;

/// A folder with `config.json`, weights in safetensors and a tokenizer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ModelFiles {
    folder: PathBuf,
    stretch: Option<Stretch>,
}

/// Finds the model at `path`. A GGUF file is converted into `cache` first, unless that was done before.
pub fn open(path: &Path, cache: &Path, sink: &dyn Sink) -> Result<ModelFiles, BackendError> {
    let folder = if path.is_file() {
        gguf::convert(path, cache, sink)?
    } else if path.join("config.json").is_file() {
        path.to_owned()
    } else {
        gguf::convert(&only_gguf(path)?, cache, sink)?
    };
    Ok(ModelFiles {
        folder,
        stretch: None,
    })
}

fn only_gguf(folder: &Path) -> Result<PathBuf, BackendError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(BackendError::reading(folder))? {
        let path = entry.map_err(BackendError::reading(folder))?.path();
        if path.extension().is_some_and(|e| e == "gguf") {
            found.push(path);
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        _ => Err(BackendError::NoModel {
            path: folder.to_owned(),
        }),
    }
}

impl ModelFiles {
    /// The folder that holds `config.json` and the tokenizer.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same model with its positions stretched, and how far they reach.
    pub fn stretched(mut self, stretch: Stretch) -> Result<(Self, Reach), BackendError> {
        let reach = stretch.apply(&mut self.config()?);
        self.stretch = Some(stretch);
        Ok((self, reach))
    }

    /// The shape of the model.
    pub fn shape(&self) -> Result<ModelConfig, BackendError> {
        ModelConfig::from_json(&self.config_path(), &self.config()?)
    }

    /// Reads the model into memory, in `f32`.
    pub fn load(&self) -> Result<Model, BackendError> {
        self.load_as(Holding::default())
    }

    /// Reads the model into memory in other number formats.
    pub fn load_as(&self, holding: Holding) -> Result<Model, BackendError> {
        Model::load(
            self.shape()?,
            &mut TensorFiles::open_folder(&self.folder)?,
            holding,
        )
    }

    /// Copies the tokenizer into `folder`.
    pub(crate) fn copy_tokenizer(&self, folder: &Path) -> Result<(), BackendError> {
        for name in TOKENIZER_FILES {
            let from = self.folder.join(name);
            if from.is_file() {
                output::copy(&from, &folder.join(name))?;
            }
        }
        Ok(())
    }

    /// What `config.json` says, its positions stretched where they are to be.
    pub(crate) fn config(&self) -> Result<Value, BackendError> {
        let path = self.config_path();
        let text = bounded(&path, LARGEST_CONFIG)?;
        let mut config = serde_json::from_slice(&text)
            .map_err(|e| BackendError::malformed(&path, e.to_string(), "JSON"))?;
        if let Some(stretch) = self.stretch {
            stretch.apply(&mut config);
        }
        Ok(config)
    }

    fn config_path(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    /// Writes `config.json` for weights in the named number format, with an output layer of its own where it is `untied`,
    /// and what it says of `packed` ones, and copies the generation settings.
    pub(crate) fn write_config(
        &self,
        folder: &Path,
        numbers: &str,
        untied: bool,
        packed: Option<Value>,
    ) -> Result<(), BackendError> {
        let mut config = self.config()?;
        for name in ["dtype", "torch_dtype"] {
            if config.get(name).is_some() {
                config[name] = numbers.into();
            }
        }
        if untied {
            config["tie_word_embeddings"] = false.into();
        }
        if let Some(packed) = packed {
            config["quantization_config"] = packed;
        }
        output::json(&folder.join("config.json"), &config)?;
        let generation = self.folder.join("generation_config.json");
        if generation.is_file() {
            output::copy(&generation, &folder.join("generation_config.json"))?;
        }
        Ok(())
    }
}
