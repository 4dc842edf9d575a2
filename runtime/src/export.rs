//! `export`: a model with its adapters added for good, in a folder that any program can load.

use std::fs;
use std::path::{Path, PathBuf};

use console::View;
use report::Trouble;
use serde_json::{Value, json};
use torch_backend::{Calibration, ExportOptions, ModelFiles, Threads, use_threads};
use train::ExportJob;
use train_data::{Tokenizer, calibration};

use crate::JobArguments;
use crate::error::RuntimeError;
use crate::home::Home;
use crate::tuning::packing;
use crate::{job_file, model};

/// What an export leaves in its folder, beside the model.
const RECORD: &str = "export.json";

pub(crate) fn run(arguments: &JobArguments, view: &View) -> Result<(), Trouble> {
    let job = job_file::read_export(&arguments.job, &arguments.settings, view)?;
    let home = Home::find();
    let path = home
        .model(&job.model)
        .ok_or_else(|| RuntimeError::NoSuchModel {
            name: job.model.clone(),
        })?;
    check_folder(&job)?;
    use_threads(Threads::Idle);
    let files = model::open(&path, job.stretch, &home, view)?;
    let texts = Texts::of(&job, &files)?;
    let options = ExportOptions {
        base: &job.model,
        adapters: &job.adapters,
        numbers: job.numbers,
        quantization: packing(job.four_bit),
        calibration: texts.as_ref().map(Texts::calibration),
        shard_size: job.shard_size,
    };
    let exported = files.export(&options, &job.folder, view)?;
    let folder = job.folder.display().to_string();
    let value = serde_json::json!({
        "export_dir": folder, "files": exported.files, "bytes": exported.bytes,
        "tensors": exported.tensors, "dtype": exported.numbers,
        "bits": exported.bits,
    });
    view.result(&value, &folder);
    Ok(())
}

/// What matrices are rounded by.
struct Texts {
    bits: u32,
    windows: Vec<Vec<i64>>,
    origin: Value,
}

impl Texts {
    /// Draws them, where the job asks for that.
    fn of(job: &ExportJob, files: &ModelFiles) -> Result<Option<Self>, Trouble> {
        let Some(asked) = &job.calibration else {
            return Ok(None);
        };
        let tokenizer = Tokenizer::from_folder(files.folder())?;
        let size = (asked.windows, asked.length);
        let windows = calibration(&asked.dataset, &tokenizer, size, asked.seed)?;
        let wide = |window: Vec<u32>| window.into_iter().map(i64::from).collect();
        Ok(Some(Self {
            bits: asked.bits,
            windows: windows.into_iter().map(wide).collect(),
            origin: json!({
                "dataset": asked.dataset, "texts": asked.windows, "tokens": asked.length, "seed": asked.seed,
            }),
        }))
    }

    fn calibration(&self) -> Calibration<'_> {
        Calibration {
            bits: self.bits,
            texts: &self.windows,
            origin: &self.origin,
        }
    }
}

/// Only an earlier export is ever replaced, and only where the job says so: the key that allows it must not cost anyone
/// a folder of other things.
fn check_folder(job: &ExportJob) -> Result<(), RuntimeError> {
    let folder = &job.folder;
    let free = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    let older = job.overwrite && folder.join(RECORD).is_file();
    let needed = job.adapters.iter().map(PathBuf::as_path);
    let needed = needed.chain([Path::new(&job.model)]);
    if free || (older && !needed.into_iter().any(|path| lies_in(path, folder))) {
        return Ok(());
    }
    Err(RuntimeError::ExportTaken {
        path: folder.clone(),
    })
}

/// Whether `path` exists in `folder` or is it.
fn lies_in(path: &Path, folder: &Path) -> bool {
    match (path.canonicalize(), folder.canonicalize()) {
        (Ok(path), Ok(folder)) => path.starts_with(folder),
        _ => false,
    }
}
