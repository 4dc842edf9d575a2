//! Made-up datasets through LLaMA-Factory's own preprocessing and ours: the same token ids and labels.

use std::path::Path;

use anyhow::Result;

use crate::{libtorch, paths, programs, shell};

/// Compares `cases` made-up jobs, drawn from `seed`. Those that differ stay in `place`.
pub(super) fn agree(python: &Path, place: &Path, cases: u32, seed: u32) -> Result<()> {
    let libtorch = libtorch::obtain()?;
    let runtime = programs::runtime(&libtorch)?;
    let mut compare = shell::command(python);
    // Python has a libtorch of its own.
    compare.env("FERRY_LIBRARIES", libtorch.libraries());
    compare.arg("tests/oracles/data_agrees.py").arg(runtime);
    compare.arg(paths::root().join("tests/golden/model"));
    compare.arg(place.join("data"));
    shell::run(compare.args([cases.to_string(), seed.to_string()]))
}
