//! Building the three programs as they ship.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::libtorch::Libtorch;
use crate::{paths, shell};

/// The three programs, built for release.
pub(crate) struct Programs {
    /// `ferry-bundler`.
    pub(crate) bundler: PathBuf,
    /// `ferry-installer`, static.
    pub(crate) installer: PathBuf,
    /// `ferry-runtime` with its native engine.
    pub(crate) runtime: PathBuf,
}

/// Builds all three.
pub(crate) fn build(libtorch: &Libtorch) -> Result<Programs> {
    let installer = installer()?;
    let bundler = bundler()?;
    let runtime = runtime(libtorch)?;
    Ok(Programs {
        bundler,
        installer,
        runtime,
    })
}

/// Builds the bundler.
pub(crate) fn bundler() -> Result<PathBuf> {
    shell::run(shell::cargo().args(["build", "--release", "-p", "ferry-bundler"]))?;
    Ok(paths::target().join("release/ferry-bundler"))
}

/// Builds the runtime with its native engine.
pub(crate) fn runtime(libtorch: &Libtorch) -> Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--release", "-p", "ferry-runtime"]);
    cargo.args(["--features", "native"]);
    shell::run(cargo.envs(libtorch.environment()))?;
    Ok(paths::target().join("release/ferry-runtime"))
}

/// Builds the installer for this machine's architecture as one static file, and proves it static and small.
pub(crate) fn installer() -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = shell::cargo();
    cargo.args([
        "build",
        "--release",
        "-p",
        "ferry-installer",
        "--target",
        &target,
    ]);
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    shell::run(&mut cargo)?;
    let program = paths::target()
        .join(&target)
        .join("release/ferry-installer");
    prove_static(&program)?;
    Ok(program)
}

/// Fails unless `program` is static and small enough to travel in every bundle and volume.
pub(crate) fn prove_static(program: &Path) -> Result<()> {
    let headers = shell::output(
        shell::command("readelf")
            .args(["-ld", "--wide"])
            .arg(program),
    )?;
    if headers.contains("INTERP") || headers.contains("(NEEDED)") {
        bail!("{} is not static", program.display());
    }
    let size = std::fs::metadata(program)?.len();
    if size > INSTALLER_LIMIT {
        bail!(
            "{} has {size} bytes, more than {INSTALLER_LIMIT}",
            program.display()
        );
    }
    Ok(())
}

const INSTALLER_LIMIT: u64 = 15 * 1024 * 1024;
