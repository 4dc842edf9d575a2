//! The model of a job, in memory.

use std::path::Path;

use console::View;
use report::Trouble;
use torch_backend::{Model, ModelFiles, Place};
use train::{Stretch, UsedModel};

use crate::error::RuntimeError;
use crate::home::Home;
use crate::positions;
use crate::tuning::holding;

/// Finds the files of the model that a job uses.
pub(crate) fn find(used: &UsedModel, home: &Home, view: &View) -> Result<ModelFiles, Trouble> {
    let path = home.model(&used.model);
    let path = path.ok_or_else(|| RuntimeError::NoSuchModel {
        name: used.model.clone(),
    })?;
    open(&path, used.stretch, home, view)
}

/// Opens the model at `path`, its positions stretched where they are to be.
pub(crate) fn open(
    path: &Path,
    stretch: Option<Stretch>,
    home: &Home,
    view: &View,
) -> Result<ModelFiles, Trouble> {
    let files = torch_backend::open(path, &home.cache, view)?;
    let Some(stretch) = stretch else {
        return Ok(files);
    };
    let (files, reach) = files.stretched(stretch)?;
    positions::tell(stretch, reach, view);
    Ok(files)
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
