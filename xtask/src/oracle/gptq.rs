//! Models rounded by texts: gptqmodel must read them as Ferry does, and the original must make nearly the same.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{libtorch, paths, programs, shell};

/// What transformers rounds and reads such models with, and what those packages need beside LLaMA-Factory's.
const PACKAGES: [&str; 8] = [
    "optimum==2.3.0",
    "device-smi==0.5.7",
    "defuser==0.0.28",
    "logbar==0.4.15",
    "pypcre==0.6.4",
    "setuptools==84.2.1",
    "threadpoolctl==3.8.0",
    "tokenicer==0.0.14",
];
const LIBRARY: &str = "gptqmodel==7.7.0";

const TEXTS: &str = "data/golden_pt.jsonl";
const WINDOWS: &str = "48";
const LENGTH: &str = "16";

/// Exports the golden model in every width, and has each read and made again.
pub(super) fn agree(python: &Path, place: &Path) -> Result<()> {
    let libtorch = libtorch::obtain()?;
    let runtime = programs::runtime(&libtorch)?;
    let library = library(python)?;
    let golden = paths::root().join("tests/golden");
    let ferry = |words: &[&str], job: &Path| -> Result<String> {
        let mut ferry = shell::command(&runtime);
        ferry.envs(libtorch.environment()).current_dir(&golden);
        shell::output(ferry.args(words).arg(job))
    };
    let mut folders = Vec::new();
    for bits in ["8", "4", "3", "2"] {
        let folder = place.join(format!("rounded-{bits}"));
        let job = place.join(format!("rounded-{bits}.yaml"));
        let text = format!(
            "model_name_or_path: model\nexport_dir: {}\nexport_quantization_bit: {bits}\n\
             export_quantization_dataset: {TEXTS}\nexport_quantization_nsamples: {WINDOWS}\n\
             export_quantization_maxlen: {LENGTH}\n",
            folder.display()
        );
        fs::write(&job, text)?;
        ferry(&["export"], &job)?;
        let text = format!(
            "model_name_or_path: {}\nstage: pt\ndo_eval: true\neval_dataset: golden_pt\ncutoff_len: 64\n\
             output_dir: {}\n",
            folder.display(),
            place.join(format!("loss-{bits}")).display()
        );
        fs::write(&job, text)?;
        let said = ferry(&["--json", "eval"], &job)?;
        let last = said.lines().last().context("eval said nothing")?;
        let said: Value = serde_json::from_str(last)?;
        let loss = said["results"]["eval_token_loss"].as_f64();
        let loss = loss.context("eval has no loss")?;
        folders.push(format!("{}={loss}", folder.display()));
    }
    let mut reader = shell::command(python);
    reader.arg("tests/oracles/gptq_reads.py");
    reader.arg(golden.join("model")).arg(golden.join(TEXTS));
    reader.args([WINDOWS, LENGTH]).args(&folders);
    shell::run(reader.env("PYTHONPATH", &library))
}

/// gptqmodel and its like in a folder of their own, beside the environment that they go with.
fn library(python: &Path) -> Result<PathBuf> {
    let library = paths::cache()?.join("gptqmodel-7.7.0");
    if library.join("gptqmodel").exists() {
        return Ok(library);
    }
    let install = |words: &[&str]| {
        let mut install = shell::command(&libtorch::uv()?);
        install
            .args(["pip", "install", "--no-deps", "--python"])
            .arg(python);
        install.arg("--target").arg(&library).args(words);
        shell::run(install.env("PYTHONPATH", &library))
    };
    install(&PACKAGES)?;
    // It comes as source, which asks the torch that it is installed beside.
    install(&["--no-build-isolation", LIBRARY])?;
    Ok(library)
}
