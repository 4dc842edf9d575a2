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

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use report::{Sink, Step};
use serde_json::{Value, json};
use tch::{Kind, Tensor};
use train::ExportNumbers;

use crate::files::{self, Head, TensorFiles};
use crate::four_bit::Packed;
use crate::gptq::Grid;
use crate::load::is_finite;
use crate::lora::Linear;
use crate::model::Model;
use crate::settings::Quantization;
use crate::source::ModelFiles;
use crate::{BackendError, adapter, cache, gptq, output, prequantized, value_head};

/// What an export makes of a model.
#[derive(Clone, Copy, Debug)]
pub struct ExportOptions<'a> {
    /// Name that the record of the export gives the base model.
    pub base: &'a str,
    /// Folders of the adapters, added one after the other.
    pub adapters: &'a [PathBuf],
    /// Number format of the result; none: the one that the model's configuration names.
    pub numbers: Option<ExportNumbers>,
    /// How the matrices are packed.
    pub quantization: Quantization,
    /// Texts by which they are rounded instead.
    pub calibration: Option<Calibration<'a>>,
    /// Bytes of a file, at most, unless a single tensor is larger.
    pub shard_size: u64,
}

/// Texts by which matrices are rounded to few bits (GPTQ).
#[derive(Clone, Copy, Debug)]
pub struct Calibration<'a> {
    /// Bits of a number: 2, 3, 4 or 8.
    pub bits: u32,
    /// Tokens of the texts, all as many.
    pub texts: &'a [Vec<i64>],
    /// Where they come from, for the record of the export.
    pub origin: &'a Value,
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
    /// Bits of a number of the packed matrices, if any are packed.
    pub bits: Option<u32>,
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
        let config = self.shape()?;
        let mut model = Model::load_stored(config, &mut TensorFiles::open_folder(self.folder())?)?;
        if model.is_packed() {
            return Err(BackendError::NotOnPacked { what: "an export" });
        }
        let bits = match options.calibration {
            Some(calibration) => Some(calibration.bits),
            None => (options.quantization != Quantization::None).then_some(4),
        };
        if bits.is_some() && model.config.mixture.is_some() {
            // transformers keeps experts in one tensor, which neither bitsandbytes nor its GPTQ packs.
            return Err(BackendError::NoPackedExperts);
        }
        if let Some((last, first)) = options.adapters.split_last() {
            model.merge_adapters(first)?;
            model.load_adapter(last, 0.0)?;
        }
        let kind = match (options.numbers, options.calibration) {
            (Some(numbers), _) => kind_of(numbers),
            // What computes with such matrices is made for this format; so the original names it whatever the model's was.
            (None, Some(_)) => Kind::Half,
            (None, None) => self.named_kind()?,
        };
        let grids = match options.calibration {
            Some(Calibration { bits, texts, .. }) => {
                tch::no_grad(|| gptq::calibrate(&mut model, bits, texts, sink))?
            }
            None => BTreeMap::new(),
        };
        let packing = Packing {
            plain: options.quantization,
            grids: &grids,
        };
        let tensors = tensors(&model, kind, &packing)?;
        let shards = shards(&tensors, options.shard_size);
        // An adapter that brings an output layer unties the model.
        let unties = model.is_untied();
        let mut exported = Exported {
            files: Vec::new(),
            bytes: 0,
            tensors: tensors.iter().map(|part| part.heads.len()).sum(),
            numbers: name_of(kind),
            bits,
        };
        output::placed_folder(folder, |fresh| {
            tch::no_grad(|| exported.write_shards(&tensors, &shards, kind, fresh, sink))?;
            let packed = options.packed(kind);
            if options.calibration.is_some() {
                // Programs older than the entry in `config.json` look for it here.
                output::json(&fresh.join("quantize_config.json"), &json!(packed))?;
            }
            self.write_config(fresh, name_of(kind), unties, packed)?;
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
            "quantization": options.packed(kind),
            "calibration": options.calibration.map(|calibration| calibration.origin),
        }))
    }
}

impl ExportOptions<'_> {
    /// What `config.json` says of packed matrices.
    fn packed(&self, kind: Kind) -> Option<Value> {
        match self.calibration {
            Some(calibration) => Some(gptq::config(calibration.bits)),
            None => prequantized::config(self.quantization, name_of(kind)),
        }
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
        let total: u64 = tensors.iter().map(Part::bytes).sum();
        let step = Step::start(sink, "step.export", "", Some(total), "bytes");
        let mut places = BTreeMap::new();
        for (number, shard) in shards.iter().enumerate() {
            let name = shard_name(number, shards.len());
            let parts = &tensors[shard.clone()];
            let heads: Vec<&Head> = parts.iter().flat_map(|part| &part.heads).collect();
            // A part that becomes several tensors is computed once, when the first of them is due.
            let (mut coming, mut due) = (parts.iter(), VecDeque::new());
            files::write_as(&folder.join(&name), &heads, |at| {
                if due.is_empty()
                    && let Some(part) = coming.next()
                {
                    due.extend(part.values(kind)?);
                }
                self.bytes += heads[at].bytes();
                step.progress(self.bytes);
                due.pop_front().ok_or_else(|| {
                    BackendError::Library(format!("`{}` has no value", heads[at].name))
                })
            })?;
            places.extend(heads.iter().map(|head| (head.name.clone(), name.clone())));
            self.files.push(name);
        }
        if shards.len() > 1 {
            let count: u64 = tensors.iter().map(|part| part.numbers).sum();
            let index = json!({
                "metadata": {"total_parameters": count, "total_size": total}, "weight_map": places,
            });
            output::json(&folder.join(files::INDEX), &index)?;
        }
        step.finish();
        Ok(())
    }
}

/// One tensor of the model, and the tensors of the result that it becomes.
struct Part<'a> {
    name: String,
    /// How many numbers it has.
    numbers: u64,
    heads: Vec<Head>,
    content: Content<'a>,
    packing: Quantization,
}

enum Content<'a> {
    /// As the model has it.
    Own(&'a Tensor),
    /// A matrix to which a correction is added.
    Corrected(&'a Linear),
    /// A matrix that was rounded.
    Rounded(&'a Grid),
}

/// What becomes of the matrices.
struct Packing<'a> {
    plain: Quantization,
    /// By the names of their layers.
    grids: &'a BTreeMap<String, Grid>,
}

impl Part<'_> {
    fn bytes(&self) -> u64 {
        self.heads.iter().map(Head::bytes).sum()
    }

    fn values(&self, kind: Kind) -> Result<Vec<Tensor>, BackendError> {
        let value = match self.content {
            Content::Own(tensor) => tensor.f_to_kind(kind)?,
            Content::Corrected(linear) => linear.merged()?.f_to_kind(kind)?,
            Content::Rounded(grid) => return gptq::values(grid),
        };
        if !is_finite(&value)? {
            return Err(BackendError::NotFinite {
                tensor: self.name.clone(),
                numbers: name_of(kind),
            });
        }
        match self.packing {
            Quantization::None => Ok(vec![value]),
            Quantization::FourBit { code, double } => {
                prequantized::values(&Packed::of(&value, code, double)?, name_of(kind))
            }
        }
    }
}

/// Every tensor of the model, in the order of its files.
fn tensors<'a>(
    model: &'a Model,
    kind: Kind,
    packing: &Packing<'a>,
) -> Result<Vec<Part<'a>>, BackendError> {
    let linears: BTreeMap<String, &Linear> = model
        .linears()
        .map(|layer| (format!("{}.weight", layer.name), layer))
        .collect();
    let own = model.own_tensors().into_iter();
    own.map(|(name, tensor)| {
        let layer = linears.get(&name).copied();
        let grid = layer.and_then(|layer| Some((layer, packing.grids.get(&layer.name)?)));
        if let Some((layer, grid)) = grid {
            return Ok(Part {
                numbers: tensor.numel() as u64,
                content: Content::Rounded(grid),
                heads: gptq::heads(&layer.name, layer.weight.size()?, grid.bits),
                packing: Quantization::None,
                name,
            });
        }
        let (packing, heads) =
            if let (Quantization::FourBit { code, double }, Some(layer)) = (packing.plain, layer) {
                let size = layer.weight.size()?;
                (
                    packing.plain,
                    prequantized::heads(&name, size, code, double),
                )
            } else {
                let head = Head {
                    name: name.clone(),
                    shape: tensor.size(),
                    kind,
                };
                (Quantization::None, vec![head])
            };
        Ok(Part {
            numbers: tensor.numel() as u64,
            content: match layer.filter(|layer| layer.correction.is_some()) {
                Some(layer) => Content::Corrected(layer),
                None => Content::Own(tensor),
            },
            heads,
            packing,
            name,
        })
    })
    .collect()
}

/// Runs of tensors that fit into a file each.
fn shards(tensors: &[Part], limit: u64) -> Vec<std::ops::Range<usize>> {
    let (mut shards, mut start, mut size) = (Vec::new(), 0, 0);
    for (at, tensor) in tensors.iter().enumerate() {
        let bytes = tensor.bytes();
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
    use std::collections::BTreeSet;
    use std::fs;

    use report::Silent;

    use super::*;
    use crate::model::Pass;
    use crate::settings::{FourBitCode, Holding, LoraSettings, Method};
    use crate::source::open;
    use crate::{AdamSettings, LibtorchTrainer};

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
            quantization: Quantization::None,
            calibration: None,
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

    fn export_packed(code: FourBitCode, double: bool, folder: &Path) -> Exported {
        let options = ExportOptions {
            base: "golden",
            adapters: &[],
            numbers: Some(ExportNumbers::Float32),
            quantization: Quantization::FourBit { code, double },
            calibration: None,
            shard_size: 40_000,
        };
        golden().export(&options, folder, &Silent).unwrap()
    }

    fn code_of<T: std::fmt::Debug>(result: Result<T, BackendError>) -> &'static str {
        report::Diagnose::code(&result.unwrap_err())
    }

    #[test]
    fn four_bits_are_read_back_as_they_were_packed() {
        let place = tempfile::tempdir().unwrap();
        let whole = export(
            u64::MAX,
            ExportNumbers::Float32,
            &place.path().join("whole"),
        );
        for (code, double) in [
            (FourBitCode::Nf4, true),
            (FourBitCode::Nf4, false),
            (FourBitCode::Fp4, true),
        ] {
            let folder = place.path().join(format!("{code:?}{double}"));
            let exported = export_packed(code, double, &folder);
            assert!(exported.bytes < whole.bytes / 2 && exported.files.len() > 1);
            let again = open(&folder, Path::new("unused"), &Silent).unwrap();
            let held = Holding {
                quantization: Quantization::FourBit { code, double },
                ..Holding::default()
            };
            let pass = Pass::of_text(&[5, 17, 300, 9]);
            let model = golden().load_as(held).unwrap();
            let wanted = tch::no_grad(|| model.logits(&pass, false).unwrap());
            assert_eq!(logits(&again), wanted, "{code:?} {double}");

            // An adapter is trained beside it; the packed weights themselves are neither trained nor written anew.
            let train = |method: Method| {
                let adam = AdamSettings::default();
                LibtorchTrainer::new(again.clone(), "packed", method.into(), adam, 1)
            };
            let lora = train(Method::Lora {
                settings: LoraSettings::of_rank(2),
                merge_first: Vec::new(),
                start_from: None,
            });
            lora.unwrap();
            assert_eq!(code_of(train(Method::Full)), "torch.not-on-packed");
            let options = ExportOptions {
                base: "packed",
                adapters: &[],
                numbers: None,
                quantization: Quantization::None,
                calibration: None,
                shard_size: u64::MAX,
            };
            let twice = again.export(&options, &place.path().join("twice"), &Silent);
            assert_eq!(code_of(twice), "torch.not-on-packed");
        }
    }

    #[test]
    fn packed_weights_that_lie_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("packed");
        export_packed(FourBitCode::Nf4, true, &folder);
        let index = fs::read(folder.join(files::INDEX)).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let matrix = "model.layers.0.mlp.up_proj.weight";
        for (tensor, from, to, wanted) in [
            (
                "quant_state.bitsandbytes__nf4",
                "\"blocksize\":64",
                "\"blocksize\":32",
                "torch.malformed",
            ),
            (
                "quant_state.bitsandbytes__nf4",
                "[192,64]",
                "[64,192]",
                "torch.malformed",
            ),
            ("quant_state.bitsandbytes__nf4", "{", "x", "torch.malformed"),
            ("quant_map", "", "", "torch.unsupported-setting"),
            ("nested_absmax", "", "", "torch.malformed"),
        ] {
            let name = format!("{matrix}.{tensor}");
            let path = folder.join(index["weight_map"][&name].as_str().unwrap());
            let right = fs::read(&path).unwrap();
            let length = u64::from_le_bytes(right[..8].try_into().unwrap()) as usize;
            let header: Value = serde_json::from_slice(&right[8..8 + length]).unwrap();
            let at = |side: usize| header[&name]["data_offsets"][side].as_u64().unwrap() as usize;
            let range = 8 + length + at(0)..8 + length + at(1);
            let mut wrong = right.clone();
            if from.is_empty() {
                wrong[range.start..range.start + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
                if tensor == "quant_map" {
                    wrong[range.start..range.start + 4].copy_from_slice(&0.5_f32.to_le_bytes());
                }
            } else {
                let text = String::from_utf8(right[range.clone()].to_vec()).unwrap();
                let text = text.replacen(from, to, 1);
                assert_eq!(text.len(), range.len(), "{from}");
                wrong[range].copy_from_slice(text.as_bytes());
            }
            fs::write(&path, wrong).unwrap();
            let again = open(&folder, Path::new("unused"), &Silent).unwrap();
            assert_eq!(code_of(again.load()), wanted, "{tensor}: {from}");
            fs::write(&path, right).unwrap();
        }
    }

    #[test]
    fn experts_are_written_one_by_one_and_not_in_four_bits() {
        let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/families");
        let files = open(&families.join("qwen3_moe"), Path::new("unused"), &Silent).unwrap();
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("out");
        let mut options = ExportOptions {
            base: "experts",
            adapters: &[],
            numbers: None,
            quantization: Quantization::FourBit {
                code: FourBitCode::Nf4,
                double: true,
            },
            calibration: None,
            shard_size: u64::MAX,
        };
        let packed = files.export(&options, &folder, &Silent);
        assert_eq!(code_of(packed), "torch.no-packed-experts");
        assert!(!folder.exists());
        options.quantization = Quantization::None;
        files.export(&options, &folder, &Silent).unwrap();
        let names = |folder: &Path| -> BTreeSet<String> {
            let file = Tensor::read_safetensors(folder.join("model.safetensors")).unwrap();
            file.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&folder), names(files.folder()));
    }
}
