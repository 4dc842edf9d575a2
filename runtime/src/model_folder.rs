//! The folder with a model's configuration and tokenizer, where nothing is computed with its weights.

#[cfg(not(feature = "native"))]
use std::path::Path;
use std::path::PathBuf;

use console::View;
use report::Trouble;

use crate::error::RuntimeError;
use crate::home::Home;

/// The folder of the model that a job names; a GGUF file is converted first, as a run would do.
#[cfg(feature = "native")]
pub(crate) fn find(name: &str, home: &Home, view: &View) -> Result<PathBuf, Trouble> {
    let model = home.model(name).ok_or_else(|| RuntimeError::NoSuchModel {
        name: name.to_owned(),
    })?;
    let files = torch_backend::open(&model, &home.cache, view)?;
    files.shape()?;
    Ok(files.folder().to_owned())
}

/// The folder of the model that a job names.
#[cfg(not(feature = "native"))]
pub(crate) fn find(name: &str, home: &Home, _view: &View) -> Result<PathBuf, Trouble> {
    let model = home.model(name).ok_or_else(|| RuntimeError::NoSuchModel {
        name: name.to_owned(),
    })?;
    // Only libtorch's part of the program converts other kinds of model.
    if Path::new(&model).is_file() {
        return Err(RuntimeError::NotNative.into());
    }
    Ok(model)
}
