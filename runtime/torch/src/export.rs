//! A model written anew: adapters added for good, in another number format, in files of a bounded size.
//!
//! ```text
//! <folder>/config.json, generation_config.json, the tokenizer
//!          model.safetensors, or model-00001-of-0000N.safetensors … and model.safetensors.index.json
//!          export.json          what it was made from
//! ```
//!
//! One matrix at a time is in memory beside the mapped base, so a model is exported in little more than its largest
//! tensor. The folder is made beside its place and renamed: nobody sees half of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use report::{Sink, Step};
use serde_json::{Value, json};
use tch::{Kind, Tensor};
use train::ExportNumbers;

use crate::config::ModelConfig;
use crate::files::{self, TensorFiles};
use crate::lora::Linear;
use crate::model::Model;
use crate::source::ModelFiles;
use crate::{BackendError, adapter, cache, output, value_head};

/// What an export makes of a model.
#[derive(Clone, Copy, Debug)]
pub struct ExportOptions<'a> {
    /// Name that the record of the export gives the base model.
    pub base: &'a str,
    /// Folders of the adapters, added one after the other.
    pub adapters: &'a [PathBuf],
    /// Number format of the result; none: the one that the model's configuration names.
    pub numbers: Option<ExportNumbers>,
    /// Bytes of a file, at most, unless a single tensor is larger.
    pub shard_size: u64,
}

/// What an export wrote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exported {
    /// Names of the weight files.
    pub files: Vec<String>,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Number format, as configurations name it.
    pub numbers: &'static str,
}

impl ModelFiles {
    /// Writes the model with its adapters to `folder`, whose old content, if any, is replaced.
    ///
    /// # Errors
    /// When model and adapters do not belong together, a weight is not finite in the number format, or a file cannot be
    /// read or written. `folder` is then as it was.
    pub fn export(
        &self,
        options: &ExportOptions,
        folder: &Path,
        sink: &dyn Sink,
    ) -> Result<Exported, BackendError> {
        let config = ModelConfig::read(&self.folder().join("config.json"))?;
        let tied = config.tied;
        let mut model = Model::load_stored(config, &mut TensorFiles::open_folder(self.folder())?)?;
        if let Some((last, first)) = options.adapters.split_last() {
            model.merge_adapters(first)?;
            model.load_adapter(last, 0.0)?;
        }
        let kind = match options.numbers {
            Some(numbers) => kind_of(numbers),
            None => self.named_kind()?,
        };
        let tensors = tensors(&model);
        let shards = shards(&tensors, kind, options.shard_size);
        // An adapter that brings an output layer unties the model.
        let unties = tied && model.output.is_some();
        let mut exported = Exported {
            files: Vec::new(),
            bytes: 0,
            tensors: tensors.len(),
            numbers: name_of(kind),
        };
        output::placed_folder(folder, |fresh| {
            tch::no_grad(|| exported.write_shards(&tensors, &shards, kind, fresh, sink))?;
            self.write_config(fresh, name_of(kind), unties)?;
            self.copy_tokenizer(fresh)?;
            self.copy_value_head(options, fresh)?;
            output::json(&fresh.join("export.json"), &self.record(options, kind)?)
        })?;
        Ok(exported)
    }

    /// The number format that `config.json` names, `f32` where it names none that is known.
    fn named_kind(&self) -> Result<Kind, BackendError> {
        let config = self.config()?;
        let named = ["dtype", "torch_dtype"].map(|key| config[key].as_str());
        Ok(match named.into_iter().flatten().next() {
            Some("bfloat16") => Kind::BFloat16,
            Some("float16") => Kind::Half,
            _ => Kind::Float,
        })
    }

    /// A reward model's head belongs to the last adapter, or to the model itself.
    fn copy_value_head(&self, options: &ExportOptions, to: &Path) -> Result<(), BackendError> {
        let places = options.adapters.last().map(PathBuf::as_path);
        let places = places.into_iter().chain([self.folder()]);
        let mut heads = places.map(|folder| folder.join(value_head::FILE));
        match heads.find(|head| head.is_file()) {
            None => Ok(()),
            Some(head) => output::copy(&head, &to.join(value_head::FILE)),
        }
    }

    /// What the result was made from, so that an auditor need not ask.
    fn record(&self, options: &ExportOptions, kind: Kind) -> Result<Value, BackendError> {
        let adapters = options.adapters.iter().map(|folder| {
            let (digest, _) = cache::digest(&folder.join(adapter::WEIGHTS))?;
            Ok(json!({"path": folder, "weights": digest}))
        });
        let adapters = adapters.collect::<Result<Vec<_>, BackendError>>()?;
        let (config, _) = cache::digest(&self.folder().join("config.json"))?;
        Ok(json!({
            "format": 1, "program": concat!("ferry-runtime ", env!("CARGO_PKG_VERSION")),
            "base": options.base, "base_config": config, "adapters": adapters, "dtype": name_of(kind),
        }))
    }
}

impl Exported {
    fn write_shards(
        &mut self,
        tensors: &[Part],
        shards: &[std::ops::Range<usize>],
        kind: Kind,
        folder: &Path,
        sink: &dyn Sink,
    ) -> Result<(), BackendError> {
        let total: u64 = tensors.iter().map(|part| part.bytes(kind)).sum();
        let step = Step::start(sink, "step.export", "", Some(total), "bytes");
        let mut places = BTreeMap::new();
        for (number, shard) in shards.iter().enumerate() {
            let name = shard_name(number, shards.len());
            let parts = &tensors[shard.clone()];
            let heads: Vec<_> = parts
                .iter()
                .map(|part| (part.name.as_str(), part.shape.as_slice()))
                .collect();
            files::write_as(&folder.join(&name), &heads, kind, |at| {
                let value = parts[at].value(kind)?;
                self.bytes += parts[at].bytes(kind);
                step.progress(self.bytes);
                Ok(value)
            })?;
            places.extend(parts.iter().map(|part| (part.name.clone(), name.clone())));
            self.files.push(name);
        }
        if shards.len() > 1 {
            let count: u64 = tensors.iter().map(|part| part.bytes(kind)).sum::<u64>()
                / kind.elt_size_in_bytes() as u64;
            let index = json!({
                "metadata": {"total_parameters": count, "total_size": total}, "weight_map": places,
            });
            output::json(&folder.join(files::INDEX), &index)?;
        }
        step.finish();
        Ok(())
    }
}

/// One tensor of the result.
struct Part<'a> {
    name: String,
    shape: Vec<i64>,
    content: Content<'a>,
}

enum Content<'a> {
    /// As the model has it.
    Own(&'a Tensor),
    /// A matrix to which a correction is added.
    Corrected(&'a Linear),
}

impl Part<'_> {
    fn bytes(&self, kind: Kind) -> u64 {
        self.shape.iter().product::<i64>() as u64 * kind.elt_size_in_bytes() as u64
    }

    fn value(&self, kind: Kind) -> Result<Tensor, BackendError> {
        let value = match self.content {
            Content::Own(tensor) => tensor.f_to_kind(kind)?,
            Content::Corrected(linear) => linear.merged()?.f_to_kind(kind)?,
        };
        if value.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(BackendError::NotFinite {
                tensor: self.name.clone(),
                numbers: name_of(kind),
            });
        }
        Ok(value)
    }
}

/// Every tensor of the model, in the order of its files.
fn tensors(model: &Model) -> Vec<Part<'_>> {
    let corrected = model.linears().filter(|layer| layer.correction.is_some());
    let corrected: BTreeMap<String, &Linear> = corrected
        .map(|layer| (format!("{}.weight", layer.name), layer))
        .collect();
    let own = model.own_tensors().into_iter();
    own.map(|(name, tensor)| Part {
        shape: tensor.size(),
        content: match corrected.get(&name) {
            Some(layer) => Content::Corrected(layer),
            None => Content::Own(tensor),
        },
        name,
    })
    .collect()
}

/// Runs of tensors that fit into a file each.
fn shards(tensors: &[Part], kind: Kind, limit: u64) -> Vec<std::ops::Range<usize>> {
    let (mut shards, mut start, mut size) = (Vec::new(), 0, 0);
    for (at, tensor) in tensors.iter().enumerate() {
        let bytes = tensor.bytes(kind);
        if at > start && size + bytes > limit {
            shards.push(start..at);
            (start, size) = (at, 0);
        }
        size += bytes;
    }
    shards.push(start..tensors.len());
    shards
}

/// As transformers names the files.
fn shard_name(number: usize, of: usize) -> String {
    match of {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{of:05}.safetensors", number + 1),
    }
}

fn kind_of(numbers: ExportNumbers) -> Kind {
    match numbers {
        ExportNumbers::Float32 => Kind::Float,
        ExportNumbers::Bfloat16 => Kind::BFloat16,
        ExportNumbers::Float16 => Kind::Half,
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bfloat16",
        Kind::Half => "float16",
        _ => "float32",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use report::Silent;

    use super::*;
    use crate::model::Pass;
    use crate::source::open;

    fn golden() -> ModelFiles {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/model");
        open(&folder, Path::new("unused"), &Silent).unwrap()
    }

    fn logits(files: &ModelFiles) -> Tensor {
        let pass = Pass::of_text(&[5, 17, 300, 9]);
        tch::no_grad(|| files.load().unwrap().logits(&pass, false).unwrap())
    }

    fn export(shard_size: u64, numbers: ExportNumbers, folder: &Path) -> Exported {
        let options = ExportOptions {
            base: "golden",
            adapters: &[],
            numbers: Some(numbers),
            shard_size,
        };
        golden().export(&options, folder, &Silent).unwrap()
    }

    #[test]
    fn shards_hold_the_same_model() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("shards");
        let exported = export(300_000, ExportNumbers::Float32, &folder);
        assert!(exported.files.len() > 2, "{:?}", exported.files);
        for name in &exported.files {
            let size = fs::metadata(folder.join(name)).unwrap().len();
            assert!(size < 300_000 + 10_000, "{name}: {size}");
        }
        let index = fs::read(folder.join(files::INDEX)).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        assert_eq!(index["metadata"]["total_size"], exported.bytes);
        assert_eq!(
            index["weight_map"].as_object().unwrap().len(),
            exported.tensors
        );
        let again = open(&folder, Path::new("unused"), &Silent).unwrap();
        assert_eq!(logits(&again), logits(&golden()));
    }

    #[test]
    fn a_tensor_above_the_bound_has_a_file_of_its_own() {
        let place = tempfile::tempdir().unwrap();
        let exported = export(1, ExportNumbers::Float32, &place.path().join("one"));
        assert_eq!(exported.files.len(), exported.tensors);
    }

    #[test]
    fn sixteen_bits_take_half_the_room_and_say_nearly_the_same() {
        let place = tempfile::tempdir().unwrap();
        let whole = export(
            u64::MAX,
            ExportNumbers::Float32,
            &place.path().join("whole"),
        );
        for (numbers, name) in [
            (ExportNumbers::Bfloat16, "bfloat16"),
            (ExportNumbers::Float16, "float16"),
        ] {
            let folder = place.path().join(name);
            let exported = export(u64::MAX, numbers, &folder);
            assert_eq!((exported.bytes * 2, exported.numbers), (whole.bytes, name));
            let again = open(&folder, Path::new("unused"), &Silent).unwrap();
            let gap = (logits(&again) - logits(&golden()))
                .abs()
                .max()
                .double_value(&[]);
            assert!(gap < 0.1, "{name}: {gap}");
        }
    }
}
