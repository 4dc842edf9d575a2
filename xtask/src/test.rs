//! Everything that must hold, cheapest first.

use std::path::PathBuf;

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

/// Licences and sources of the dependencies.
fn licences() -> Result<()> {
    let program = if shell::is_there("cargo-deny") {
        PathBuf::from("cargo-deny")
    } else {
        match libtorch::cargo_deny() {
            Ok(program) => program,
            Err(error) => {
                eprintln!("no cargo-deny, so licences and sources were not checked: {error:#}");
                return Ok(());
            }
        }
    };
    let mut deny = shell::command(program);
    deny.args([
        "--log-level",
        "error",
        "check",
        "bans",
        "licenses",
        "sources",
    ]);
    shell::run(&mut deny)
}
