//! One source against every libtorch that a chip's vendor stack pins.

use anyhow::Result;

use crate::{libtorch, paths, shell};

/// The torch releases that `torch_npu`, the DCU build and the newest vendor stacks pair with.
const PINNED: [&str; 3] = ["2.7.1", "2.9.1", "2.10.0"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Releases to build against
    #[arg(default_values = PINNED)]
    versions: Vec<String>,
}

/// Builds the backend against each and replays the golden traces on it.
pub(crate) fn run(args: &Args) -> Result<()> {
    for version in &args.versions {
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
