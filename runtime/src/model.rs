//! The model of a job, in memory.

use std::path::PathBuf;

use console::View;
use report::Trouble;
use torch_backend::{Model, ModelFiles, Place, open};
use train::UsedModel;

use crate::error::RuntimeError;
use crate::home::Home;
use crate::tuning::holding;

/// Finds the files of the model that `name` means.
pub(crate) fn find(name: &str, home: &Home, view: &View) -> Result<ModelFiles, Trouble> {
    let path: PathBuf = home.model(name).ok_or_else(|| RuntimeError::NoSuchModel {
        name: name.to_owned(),
    })?;
    Ok(open(&path, &home.cache, view)?)
}

/// Loads the model in `files` with its adapters: all but the last become a part of the weights.
pub(crate) fn load(files: &ModelFiles, used: &UsedModel, place: Place) -> Result<Model, Trouble> {
    let mut model = files.load_as(holding(used.numeric, used.quantization, place))?;
    if let Some((last, first)) = used.adapters.split_last() {
        model.merge_adapters(first)?;
        model.load_adapter(last, 0.0)?;
    }
    Ok(model)
}
