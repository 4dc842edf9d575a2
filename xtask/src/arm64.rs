//! The end-to-end tests as an aarch64 machine runs them: all programs are aarch64, `uname -m` says so, and nothing
//! of this machine is in reach but its kernel.
//!
//! ```text
//! mmdebstrap --variant=extract ─▶ ~/.cache/ferry/arm64-bookworm-merged.tar ─▶ target/arm64-merged ─┐
//! cross: static installer, static test program ────────────────────────────────────────────────────┴▶ unshare, chroot, qemu
//! ```
//!
//! The kernel starts aarch64 programs through qemu's user emulation, registered with `binfmt_misc`: flag `F` opens qemu
//! beforehand, so that it needs no place in the root. Registering, mounting and chroot need root.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{cross, paths, shell};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the tests whose names hold one of these words; all when none is given
    words: Vec<String>,
}

/// Runs the tests, and says how it went.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !cross::is_root()? {
        bail!(
            "mounting and chroot need root: run `cargo xtask arm64` as root, in a container at will"
        );
    }
    let (Some(installer), Some(tests)) = (cross::installer()?, cross::tests()?) else {
        bail!("no aarch64 toolchain: this needs Debian, or rustup with a network");
    };
    emulate()?;
    let root = root()?;
    let inside = root.join("ferry");
    fs::create_dir_all(&inside)?;
    fs::copy(&installer, inside.join("ferry-installer"))?;
    fs::copy(&tests, inside.join("e2e"))?;
    let mut enter = shell::command("unshare");
    enter
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-euc",
            ENTER,
        ])
        .arg(&root)
        .arg(paths::root())
        .args(BUNDLER.map(|test| ["--skip", test]).as_flattened())
        .args(&args.words);
    shell::run(&mut enter)
}

/// Makes the kernel start aarch64 programs, where it does not yet.
fn emulate() -> Result<()> {
    if std::env::consts::ARCH == "aarch64" {
        return Ok(());
    }
    if !shell::is_there("qemu-aarch64-static") && !cross::install(&["qemu-user-static"])? {
        bail!("no qemu-aarch64-static: Debian's qemu-user-static has it");
    }
    let folder = Path::new("/proc/sys/fs/binfmt_misc");
    if !folder.join("register").exists() {
        let mut mount = shell::command("mount");
        shell::run(mount.args(["-t", "binfmt_misc", "binfmt_misc"]).arg(folder))?;
    }
    if !folder.join("qemu-aarch64").exists() {
        let rule = fs::read(RULE).with_context(|| format!("cannot read `{RULE}`"))?;
        fs::write(folder.join("register"), rule)
            .context("this kernel lets nobody register an emulator")?;
    }
    Ok(())
}

/// An arm64 Debian with what any server has, unpacked anew where its list of packages changed.
fn root() -> Result<PathBuf> {
    let archive = paths::cache()?.join("arm64-bookworm-merged.tar");
    if !archive.is_file() {
        if !shell::is_there("mmdebstrap") && !cross::install(&["mmdebstrap"])? {
            bail!("no mmdebstrap: Debian has it");
        }
        fs::create_dir_all(paths::cache()?)?;
        let fresh = archive.with_extension("partial");
        let mut make = shell::command("mmdebstrap");
        // Only unpacked: no maintainer's script runs, so nothing is emulated while it is made.
        make.args([
            "--quiet",
            "--architectures=arm64",
            "--variant=extract",
            "--format=tar",
            MERGED,
        ]);
        make.arg(format!("--include={}", PACKAGES.join(",")));
        shell::run(make.arg("bookworm").arg(&fresh))?;
        fs::rename(fresh, &archive)?;
    }
    let root = paths::target().join("arm64-merged");
    if !root.join("usr/bin/sh").exists() {
        fs::create_dir_all(&root)?;
        let mut unpack = shell::command("tar");
        shell::run(unpack.arg("-C").arg(&root).arg("-xf").arg(&archive))?;
        // What the packages' scripts would have made.
        std::os::unix::fs::symlink("mawk", root.join("usr/bin/awk"))?;
        for name in ["passwd", "group"] {
            let made = root.join(format!("usr/share/base-passwd/{name}.master"));
            fs::copy(made, root.join("etc").join(name))?;
        }
    }
    Ok(root)
}

/// Inside a mount namespace of its own: nothing is left mounted, however it ends.
const ENTER: &str = r#"
root=$0 checkout=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root$checkout/tests"
mount --bind "$checkout/tests" "$root$checkout/tests"
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    FERRY_STATIC_INSTALLER=/ferry/ferry-installer INSTA_WORKSPACE_ROOT="$checkout" INSTA_UPDATE=no \
    sh -euc 'test "$(uname -m)" = aarch64; exec /ferry/e2e "$@"' e2e "$@"
"#;

/// `/bin` and the like are links into `/usr`, as on every system that the installer knows.
const MERGED: &str = "--setup-hook=/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh";
/// Tests that start the bundler itself, which is no program of the target.
const BUNDLER: [&str; 2] = ["code_on_load::", "mistakes::the_bundler_"];

/// How Debian's qemu wants to be registered.
const RULE: &str = "/usr/lib/binfmt.d/qemu-aarch64.conf";
/// What any server has, and Python.
const PACKAGES: [&str; 17] = [
    "base-passwd",
    "bash",
    "bzip2",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "libc-bin",
    "mawk",
    "openssl",
    "python3-venv",
    "sed",
    "tar",
    "util-linux",
    "xz-utils",
];
