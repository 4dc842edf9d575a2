//! What a job needs of LLaMA-Factory and of this machine: its template, packages and files.

use std::path::Path;

use report::Trouble;
use train::asks_for_nothing;

use super::error::EngineError;
use super::handing::Handing;
use super::keys::{has_template, nearest_template};

impl Handing<'_> {
    pub(super) fn need_template(&self) -> Result<(), EngineError> {
        let name = self.text("template").filter(|name| !has_template(name));
        match name.filter(|_| self.around.python.is_known()) {
            Some(name) => Err(EngineError::NoTemplate {
                place: self.place("template"),
                name: name.to_owned(),
                nearest: nearest_template(name).to_owned(),
            }),
            None => Ok(()),
        }
    }

    pub(super) fn need_packages(&self) -> Result<(), Trouble> {
        let python = self.around.python;
        for (key, package) in PACKAGES {
            let asks = self
                .job
                .get(key)
                .is_some_and(|value| !asks_for_nothing(value));
            let other_way = key == "quantization_bit"
                && self
                    .text("quantization_method")
                    .is_some_and(|way| way != "bnb");
            if asks && !other_way && python.package(package).is_none() {
                return Err(EngineError::PackageMissing {
                    key: key.to_owned(),
                    package,
                    python: python.program.clone(),
                }
                .into());
            }
        }
        Ok(())
    }

    /// Files that keys name must be there: found out by LLaMA-Factory, it would take a minute.
    pub(super) fn need_files(&self) -> Result<(), Trouble> {
        for key in ["deepspeed", "fsdp_config", "new_special_tokens_config"] {
            let Some(path) = self.text(key).filter(|text| !text.starts_with('{')) else {
                continue;
            };
            if !Path::new(path).is_file() {
                return Err(EngineError::FileMissing {
                    place: self.place(key),
                    key: key.to_owned(),
                    path: path.into(),
                }
                .into());
            }
        }
        Ok(())
    }
}

/// Keys that need a package which is no part of LLaMA-Factory itself.
const PACKAGES: [(&str, &str); 14] = [
    ("deepspeed", "deepspeed"),
    ("enable_liger_kernel", "liger-kernel"),
    ("plot_loss", "matplotlib"),
    ("predict_with_generate", "jieba"),
    ("predict_with_generate", "nltk"),
    ("predict_with_generate", "rouge-chinese"),
    ("quantization_bit", "bitsandbytes"),
    ("report_to", "tensorboard"),
    ("use_adam_mini", "adam-mini"),
    ("use_apollo", "apollo-torch"),
    ("use_badam", "badam"),
    ("use_galore", "galore-torch"),
    ("use_liger_kernel", "liger-kernel"),
    ("use_unsloth", "unsloth"),
];
