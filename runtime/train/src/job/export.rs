//! An export job: what a LLaMA-Factory file for its `export` command asks for.

use std::path::PathBuf;

use serde_json::Value;

use super::error::JobError;
use super::fields::Fields;
use super::parse::key_faults;
use super::positions::{cutoff_of_export, stretch};
use super::tuning::{self, Quantization};
use crate::stretch::Stretch;

/// Adapters to add to a model for good, and the folder that the result goes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExportJob {
    /// Folder of the base model, a GGUF file, or an installed model's name.
    pub model: String,
    /// Folders of the adapters, added one after the other; none: the model is only written anew.
    pub adapters: Vec<PathBuf>,
    /// Where the result goes.
    pub folder: PathBuf,
    /// A folder that is not empty may be replaced.
    pub overwrite: bool,
    /// Largest file, in bytes; a tensor that is larger gets a file of its own.
    pub shard_size: u64,
    /// Number format of the result; none: the one that the model's configuration names.
    pub numbers: Option<ExportNumbers>,
    /// The matrices are packed into four bits, as bitsandbytes keeps them.
    pub four_bit: Option<Quantization>,
    /// The matrices are rounded to few bits by what they do to texts (GPTQ).
    pub calibration: Option<Calibration>,
    /// How the model's positions are stretched, for good.
    pub stretch: Option<Stretch>,
}

/// Texts by which matrices are rounded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Calibration {
    /// Bits of a number: 2, 3, 4 or 8.
    pub bits: u32,
    /// The file or folder of the texts.
    pub dataset: PathBuf,
    /// Windows that are drawn from them.
    pub windows: usize,
    /// Tokens of a window.
    pub length: usize,
    /// What the draws follow from.
    pub seed: u64,
}

/// Number format of exported weights.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExportNumbers {
    /// 32 bits.
    Float32,
    /// 16 bits, eight of them the exponent.
    Bfloat16,
    /// 16 bits, five of them the exponent.
    Float16,
}

impl ExportJob {
    /// Reads an export job in YAML or JSON, with `key=value` overrides. `origin` names the file in messages.
    ///
    /// # Errors
    /// The first key that is unknown, not supported, or has a value that does not fit it.
    pub fn parse(origin: &str, text: &str, overrides: &[String]) -> Result<Self, JobError> {
        let fields = Fields::read(origin, text, overrides)?;
        if let Some(fault) = export_faults(&fields).into_iter().next() {
            return Err(fault);
        }
        let numbers = match fields.text("infer_dtype")?.as_deref() {
            None | Some("auto") => None,
            Some("float32") => Some(ExportNumbers::Float32),
            Some("bfloat16") => Some(ExportNumbers::Bfloat16),
            Some("float16") => Some(ExportNumbers::Float16),
            Some(_) => {
                return Err(fields.wrong("infer_dtype", "auto, float32, bfloat16 or float16"));
            }
        };
        let adapters = fields.words("adapter_name_or_path")?;
        let gigabytes = fields.whole("export_size", 1)?.unwrap_or(5);
        let bits = fields.whole("export_quantization_bit", 0)?.unwrap_or(0);
        let calibration = match bits {
            0 => None,
            bits => calibration(&fields, bits)?,
        };
        Ok(Self {
            model: fields.required("model_name_or_path")?,
            adapters: adapters.into_iter().map(Into::into).collect(),
            folder: fields.required("export_dir")?.into(),
            overwrite: fields.flag("overwrite_output_dir")?,
            shard_size: gigabytes.saturating_mul(1_000_000_000),
            numbers,
            stretch: stretch(&fields, cutoff_of_export(&fields)?)?,
            four_bit: if bits == 4 && calibration.is_none() {
                Some(tuning::four_bit(&fields)?)
            } else {
                None
            },
            calibration,
        })
    }

    /// Every key that [`Self::parse`] would stop at, one by one.
    ///
    /// # Errors
    /// When the text is no list of keys.
    pub fn key_faults(
        origin: &str,
        text: &str,
        overrides: &[String],
    ) -> Result<Vec<JobError>, JobError> {
        Ok(export_faults(&Fields::read(origin, text, overrides)?))
    }
}

fn export_faults(fields: &Fields) -> Vec<JobError> {
    let mut faults = key_faults(fields);
    // What a training job must not ask for is what this one is for.
    faults
        .retain(|fault| !matches!(fault, JobError::Unsupported { key, .. } if key == "export_dir"));
    let asked = |key: &str| {
        let mut given = fields.iter().filter(|(name, _, _)| *name == key);
        given.any(|(_, _, value)| !matches!(value, Value::Null | Value::Bool(false)))
    };
    for (key, reason) in REFUSED {
        if asked(key) {
            faults.push(fields.unsupported(key, reason));
        }
    }
    faults
}

/// Without texts four bits are those of bitsandbytes, which need none; the original always asks for texts.
fn calibration(fields: &Fields, bits: u64) -> Result<Option<Calibration>, JobError> {
    if !matches!(bits, 2 | 3 | 4 | 8) {
        return Err(fields.wrong("export_quantization_bit", "2, 3, 4 or 8"));
    }
    let Some(dataset) = fields.text("export_quantization_dataset")? else {
        let reason = "these bits are rounded by what they do to texts: name some in `export_quantization_dataset`";
        return match bits {
            4 => Ok(None),
            _ => Err(fields.unsupported("export_quantization_bit", reason)),
        };
    };
    let count = |key, usual: u64| -> Result<usize, JobError> {
        Ok(fields.whole(key, 1)?.unwrap_or(usual) as usize)
    };
    Ok(Some(Calibration {
        bits: bits as u32,
        dataset: dataset.into(),
        windows: count("export_quantization_nsamples", 128)?,
        length: count("export_quantization_maxlen", 1024)?,
        seed: fields.whole("seed", 0)?.unwrap_or(42),
    }))
}

/// What an export alone cannot do.
const REFUSED: [(&str, &str); 2] = [
    (
        "export_legacy_format",
        "that format runs code when it is loaded; safetensors are written",
    ),
    (
        "quantization_bit",
        "an adapter is added to the model's own numbers, not to four-bit ones",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "model_name_or_path: org/model\nadapter_name_or_path: a, b\ntemplate: qwen\n\
                       finetuning_type: lora\nexport_dir: merged\n";

    fn parse(more: &str) -> Result<ExportJob, JobError> {
        ExportJob::parse("export.yaml", &format!("{JOB}{more}"), &[])
    }

    #[test]
    fn the_originals_file_is_read() {
        let more = "export_size: 2\nexport_device: cpu\nexport_legacy_format: false\ninfer_dtype: bfloat16";
        let job = parse(more).unwrap();
        assert_eq!(
            job,
            ExportJob {
                model: "org/model".into(),
                adapters: vec!["a".into(), "b".into()],
                folder: "merged".into(),
                overwrite: false,
                shard_size: 2_000_000_000,
                numbers: Some(ExportNumbers::Bfloat16),
                four_bit: None,
                calibration: None,
                stretch: None,
            }
        );
        let (nf4, fp4) = (
            Quantization {
                fp4: false,
                double: true,
            },
            Quantization {
                fp4: true,
                double: false,
            },
        );
        assert_eq!(
            parse("export_quantization_bit: 4").unwrap().four_bit,
            Some(nf4)
        );
        let other =
            "export_quantization_bit: 4\nquantization_type: fp4\ndouble_quantization: false";
        assert_eq!(parse(other).unwrap().four_bit, Some(fp4));
        let texts = "export_quantization_bit: 8\nexport_quantization_dataset: data/c4_demo.jsonl";
        let usual = Calibration {
            bits: 8,
            dataset: "data/c4_demo.jsonl".into(),
            windows: 128,
            length: 1024,
            seed: 42,
        };
        let job = parse(texts).unwrap();
        assert_eq!((job.calibration, job.four_bit), (Some(usual), None));
        let more = "export_quantization_bit: 4\nexport_quantization_dataset: t.txt\nseed: 7\n\
                    export_quantization_nsamples: 3\nexport_quantization_maxlen: 64";
        let job = parse(more).unwrap();
        let own = Calibration {
            bits: 4,
            dataset: "t.txt".into(),
            windows: 3,
            length: 64,
            seed: 7,
        };
        assert_eq!((job.calibration, job.four_bit), (Some(own), None));
        let idle = parse("export_quantization_dataset: t.txt").unwrap();
        assert_eq!((idle.calibration, idle.four_bit), (None, None));
        let plain = ExportJob::parse("x", "model_name_or_path: m\nexport_dir: out", &[]).unwrap();
        assert_eq!((plain.shard_size, plain.numbers), (5_000_000_000, None));
        assert!(plain.adapters.is_empty());
    }

    #[test]
    fn what_cannot_be_exported_is_named_with_its_line() {
        for (more, expected) in [
            (
                "export_quantization_bit: 8",
                "line 6: `export_quantization_bit: 8` is not supported",
            ),
            ("export_legacy_format: true", "safetensors are written"),
            (
                "export_quantization_bit: 5\nexport_quantization_dataset: c4.jsonl",
                "2, 3, 4 or 8",
            ),
            (
                "export_quantization_bit: 4\nexport_quantization_dataset: c4.jsonl\nexport_quantization_nsamples: 0",
                "a whole number from 1",
            ),
            ("quantization_bit: 4", "the model's own numbers"),
            ("infer_dtype: int8", "auto, float32, bfloat16 or float16"),
            ("export_size: 0", "a whole number from 1"),
            ("exprot_dir: x", "the nearest known key is `export_dir`"),
        ] {
            let error = parse(more).unwrap_err().to_string();
            assert!(error.contains(expected), "{more}: {error}");
        }
        let error = ExportJob::parse("x", "model_name_or_path: m", &[]).unwrap_err();
        assert!(
            matches!(&error, JobError::Missing { key, .. } if key == "export_dir"),
            "{error}"
        );
    }
}
