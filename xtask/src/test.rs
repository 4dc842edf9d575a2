//! Everything that must hold, cheapest first.

use anyhow::Result;

use crate::{arrows, cross, libtorch, programs, shell};

/// Runs every check. Offline once the downloads of the first run are cached.
pub(crate) fn run() -> Result<()> {
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?;
    shell::run(shell::cargo().args(["fetch", "--locked"]))?;
    arrows::check()?;
    licences()?;
    let libtorch = libtorch::obtain()?;
    let all = [
        "--workspace",
        "--all-targets",
        "--features",
        "ferry-runtime/native",
    ];
    let mut clippy = shell::cargo();
    clippy
        .arg("clippy")
        .args(all)
        .args(["--", "-D", "warnings"]);
    shell::run(clippy.envs(libtorch.environment()))?;
    let installer = programs::installer()?;
    let mut tests = shell::cargo();
    if shell::is_there("cargo-nextest") {
        tests.args(["nextest", "run", "--no-fail-fast"]);
    } else {
        tests.args(["test", "--no-fail-fast"]);
    }
    tests
        .args(all)
        .envs(libtorch.environment())
        .env("FERRY_STATIC_INSTALLER", installer);
    match cross::installer()? {
        Some(aarch64) => {
            tests.env("FERRY_AARCH64_INSTALLER", aarch64);
        }
        None => eprintln!("no aarch64 toolchain: the aarch64 installer was neither built nor run"),
    }
    shell::run(&mut tests)
}

/// Licences, advisories and sources of the dependencies, where cargo-deny is installed.
fn licences() -> Result<()> {
    if !shell::is_there("cargo-deny") {
        eprintln!("cargo-deny is not installed: licences and advisories were not checked");
        return Ok(());
    }
    shell::run(shell::cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}
