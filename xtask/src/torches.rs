//! One source against every libtorch that a chip's vendor stack pins.

use anyhow::Result;

use crate::{libtorch, paths, shell};

/// The torch releases that `torch_npu`, the DCU build and the newest vendor stacks pair with.
const PINNED: [&str; 3] = ["2.7.1", "2.9.1", "2.10.0"];

/// Builds the backend against each and replays the golden traces on it.
pub(crate) fn run() -> Result<()> {
    for version in PINNED {
        eprintln!("== torch {version}");
        let libtorch = libtorch::pinned(version)?;
        let mut cargo = shell::cargo();
        cargo.args(["test", "-p", "torch-backend", "--test", "golden"]);
        cargo.envs(libtorch.environment());
        // Each keeps its build: `torch-sys` is compiled against one libtorch.
        let target = paths::target().join(format!("torch-{version}"));
        shell::run(cargo.env("CARGO_TARGET_DIR", target))?;
    }
    Ok(())
}
