//! The installer for aarch64, built on `x86_64`, and run there under qemu's user emulation.
//!
//! Two ways to the target's standard library, tried in this order:
//! 1. `rustup target add aarch64-unknown-linux-gnu`, where rustup reaches its server;
//! 2. Debian's `rustc-web` and its arm64 library package, which share one version. This needs root, once.
//!
//! Both need Debian's `gcc-aarch64-linux-gnu`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{paths, programs, shell};

/// Builds the installer, proves it static and small, and lets it probe this machine under qemu.
pub(crate) fn run() -> Result<()> {
    let Some(installer) = installer()? else {
        bail!("no aarch64 toolchain, and no right to install one: run this once as root on Debian");
    };
    println!("{}", installer.display());
    Ok(())
}

/// The static aarch64 installer, or `None` where this machine has no toolchain and may not install one.
pub(crate) fn installer() -> Result<Option<PathBuf>> {
    if std::env::consts::ARCH == "aarch64" {
        return programs::installer().map(Some);
    }
    let Some(toolchain) = Toolchain::find_or_install()? else {
        return Ok(None);
    };
    let mut cargo = toolchain.builder();
    cargo.args(["build", "--release", "-p", "ferry-installer"]);
    shell::run(&mut cargo)?;
    let program = folder().join(TARGET).join("release/ferry-installer");
    programs::prove_static(&program)?;
    if shell::is_there("qemu-aarch64-static") {
        let mut probe = shell::command("qemu-aarch64-static");
        shell::output(probe.arg(&program).args(["probe", "--json"]))?;
    }
    Ok(Some(program))
}

/// The end-to-end tests as one static aarch64 program; `None` as for [`installer`].
pub(crate) fn tests() -> Result<Option<PathBuf>> {
    let Some(toolchain) = Toolchain::find_or_install()? else {
        return Ok(None);
    };
    let mut cargo = toolchain.builder();
    cargo.args(["test", "--no-run", "-p", "e2e"]);
    let messages = shell::output(cargo.args(["--message-format", "json-render-diagnostics"]))?;
    let of_tests = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let program = message["executable"].as_str()?;
        (message["target"]["kind"][0] == "test").then(|| PathBuf::from(program))
    };
    let program = messages.lines().find_map(of_tests);
    program.map(Some).context("cargo made no test program")
}

/// A compiler that has the target's standard library.
enum Toolchain {
    Rustup,
    Debian,
}

impl Toolchain {
    fn find_or_install() -> Result<Option<Self>> {
        if !shell::is_there("aarch64-linux-gnu-gcc")
            && !install(&["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"])?
        {
            return Ok(None);
        }
        if has_library("rustc") {
            return Ok(Some(Self::Rustup));
        }
        if !has_library(DEBIAN_RUSTC) && !install_debian()? {
            return Ok(None);
        }
        Ok(Some(Self::Debian))
    }

    /// Cargo with what every build for the target needs.
    fn builder(&self) -> Command {
        let mut cargo = self.cargo();
        cargo
            .env("CARGO_BUILD_TARGET", TARGET)
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env(
                "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
                "aarch64-linux-gnu-gcc",
            )
            // A release of another compiler must not take the place of this machine's.
            .env("CARGO_TARGET_DIR", folder());
        cargo
    }

    fn cargo(&self) -> Command {
        match self {
            Self::Rustup => shell::cargo(),
            Self::Debian => {
                let mut cargo = shell::command("/usr/bin/cargo");
                cargo
                    .env("RUSTC", DEBIAN_RUSTC)
                    .env_remove("RUSTUP_TOOLCHAIN");
                cargo
            }
        }
    }
}

fn folder() -> PathBuf {
    paths::target().join("cross")
}

/// Whether `rustc` has a standard library for the target.
fn has_library(rustc: &str) -> bool {
    let folder = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    folder.is_ok_and(|output| {
        let folder = String::from_utf8_lossy(&output.stdout);
        output.status.success()
            && fs::read_dir(Path::new(folder.trim())).is_ok_and(|mut files| files.next().is_some())
    })
}

/// Installs Debian's compiler and, of its arm64 library package, only the library.
fn install_debian() -> Result<bool> {
    if !is_root()? {
        return Ok(false);
    }
    shell::run(shell::command("dpkg").args(["--add-architecture", "arm64"]))?;
    if !install(&["rustc-web", "cargo-web", "qemu-user-static"])? {
        return Ok(false);
    }
    let mut query = shell::command("dpkg-query");
    let version = shell::output(query.args(["-W", "-f", "${Version}", "rustc-web"]))?;
    let folder = paths::target().join("cross-library");
    fs::create_dir_all(&folder)?;
    let mut download = shell::command("apt-get");
    download.args([
        "download",
        "-qq",
        &format!("libstd-rust-web-dev:arm64={version}"),
    ]);
    shell::run(download.current_dir(&folder))?;
    let package = fs::read_dir(&folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get left no package of the arm64 library")?;
    let library = format!("./usr/lib/rustlib/{TARGET}");
    let mut unpack = shell::command("sh");
    unpack
        .args([
            "-c",
            "dpkg-deb --fsys-tarfile \"$0\" | tar -C / -xf - \"$1\"",
        ])
        .arg(&package)
        .arg(library);
    shell::run(&mut unpack)?;
    fs::remove_dir_all(folder)?;
    Ok(has_library(DEBIAN_RUSTC))
}

/// Installs Debian packages, or says that this user may not.
pub(crate) fn install(packages: &[&str]) -> Result<bool> {
    if !is_root()? || !shell::is_there("apt-get") {
        return Ok(false);
    }
    shell::run(shell::command("apt-get").args(["update", "-qq"]))?;
    let mut apt = shell::command("apt-get");
    apt.args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages);
    shell::output(apt.env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(true)
}

pub(crate) fn is_root() -> Result<bool> {
    Ok(shell::output(shell::command("id").arg("-u"))?.trim() == "0")
}

const TARGET: &str = "aarch64-unknown-linux-gnu";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
