//! The bridges to vendors' collectives, compiled and linked against the packages that they are for.
//!
//! ```text
//! libferry_nccl.so   torch for CUDA, with the headers of nccl and of CUDA's runtime
//! libferry_hccl.so   torch and torch_npu
//! ```
//!
//! Linking shows that the real libraries have all that a bridge refers to. `cargo xtask npu` runs the one to hccl; the other needs
//! a GPU.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zip::ZipArchive;

use crate::libtorch::Libtorch;
use crate::{libtorch, paths, shell};

/// Packages with headers that torch's own name: what torch 2.13.0 for CUDA pins, and what belongs to that.
const HEADERS: [&str; 4] = [
    "nvidia-nccl-cu13==2.29.7",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-cccl==13.0.85",
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The release of `torch_npu` that `libferry_hccl.so` is for; its torch is that of the same first three numbers
    #[arg(long, default_value = libtorch::VERSION)]
    torch_npu: String,
    /// Leave `libferry_nccl.so` out: it is for the torch that the tests are built with
    #[arg(long)]
    only_hccl: bool,
    /// Where the libraries go; without it they are made and thrown away
    #[arg(long)]
    into: Option<PathBuf>,
}

/// Fetches what is needed, and builds both.
pub(crate) fn run(args: &Args) -> Result<()> {
    let place = fresh("bridges")?;
    let mut made = vec![hccl(&args.torch_npu, &place)?];
    if !args.only_hccl {
        made.push(nccl(&place)?);
    }
    for bridge in made {
        let name = bridge.file_name().context("a library has a name")?;
        let shown = name.to_string_lossy();
        println!("bridges: {shown} is compiled, and all that it refers to is there");
        if let Some(into) = &args.into {
            fs::create_dir_all(into)?;
            fs::copy(&bridge, into.join(name))?;
        }
    }
    fs::remove_dir_all(&place)?;
    Ok(())
}

/// An empty folder of the checkout's own.
pub(crate) fn fresh(name: &str) -> Result<PathBuf> {
    let place = paths::root().join(".ferry").join(name);
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    Ok(place)
}

/// Builds the bridge to hccl in `place`.
pub(crate) fn hccl(torch_npu: &str, place: &Path) -> Result<PathBuf> {
    let torch = torch_of(torch_npu)?;
    let libtorch = if torch == libtorch::VERSION {
        libtorch::obtain()?
    } else {
        libtorch::pinned(&torch)?
    };
    let (headers, libraries) = (place.join("npu/include"), place.join("npu/lib"));
    let wheel = libtorch::wheel(&format!("torch-npu=={torch_npu}"))?;
    unpack(&wheel, |member| {
        let inside = member.strip_prefix("torch_npu/")?;
        if let Some(header) = inside.strip_prefix("include/") {
            return Some(headers.join(header));
        }
        (inside == "lib/libtorch_npu.so").then(|| libraries.join("libtorch_npu.so"))
    })?;
    let bridge = Bridge {
        source: "hccl.cpp",
        headers: vec![
            headers.clone(),
            headers.join("third_party/acl/inc"),
            // Its own headers are named as if they lay at the top.
            libtorch.folder.join("include/torch/csrc/distributed"),
        ],
        vendor: libraries.join("libtorch_npu.so"),
        flags: &["-ltorch_npu"],
    };
    bridge.build(&libtorch, place.join("libferry_hccl.so"))
}

/// The torch that a release of `torch_npu` is for.
fn torch_of(torch_npu: &str) -> Result<String> {
    let numbers: Vec<&str> = torch_npu.split('.').take(3).collect();
    let whole = |part: &&str| part.chars().all(|c| c.is_ascii_digit()) && !part.is_empty();
    if numbers.len() != 3 || !numbers.iter().all(whole) {
        bail!("`{torch_npu}` is no release of torch_npu, such as 2.10.0 or 2.10.0.post4");
    }
    Ok(numbers.join("."))
}

/// Builds the bridge to nccl in `place`.
fn nccl(place: &Path) -> Result<PathBuf> {
    let libtorch = libtorch::obtain()?;
    let (headers, libraries) = (place.join("cuda/include"), place.join("cuda/lib"));
    for requirement in HEADERS {
        let wheel = libtorch::wheel(requirement)?;
        unpack(&wheel, |member| {
            let (_, header) = member.split_once("/include/")?;
            Some(headers.join(header))
        })?;
    }
    let torch = libtorch::wheel(&format!("torch=={}", libtorch::VERSION))?;
    unpack(&torch, |member| {
        let name = member.strip_prefix("torch/lib/")?;
        let wanted = ["libtorch_cuda.so", "libc10_cuda.so"].contains(&name);
        wanted.then(|| libraries.join(name))
    })?;
    let bridge = Bridge {
        source: "nccl.cpp",
        headers: vec![sources().join("cuda"), headers],
        vendor: libraries.join("libtorch_cuda.so"),
        flags: &["-DUSE_C10D_NCCL", "-ltorch_cuda", "-lc10_cuda"],
    };
    bridge.build(&libtorch, place.join("libferry_nccl.so"))
}

fn sources() -> PathBuf {
    paths::root().join("runtime/device/bridges")
}

/// What a bridge is made of.
struct Bridge {
    source: &'static str,
    headers: Vec<PathBuf>,
    /// The vendor's library.
    vendor: PathBuf,
    flags: &'static [&'static str],
}

impl Bridge {
    fn build(&self, libtorch: &Libtorch, made: PathBuf) -> Result<PathBuf> {
        let mut gcc = shell::command("g++");
        gcc.args(["-shared", "-fPIC", "-std=c++17", "-O2", "-Wall", "-Wextra"]);
        gcc.arg("-fvisibility=hidden").arg("-I");
        gcc.arg(paths::root().join("runtime/device/cpp"));
        gcc.arg(format!(
            "-DFERRY_VENDOR_SHA256=\"{}\"",
            digest_of(&self.vendor)?
        ));
        let torch = libtorch.folder.join("include");
        let of_torch = [torch.clone(), torch.join("torch/csrc/api/include")];
        for folder in of_torch.iter().chain(&self.headers) {
            gcc.arg("-isystem").arg(folder);
        }
        gcc.arg(sources().join(self.source)).arg("-o").arg(&made);
        let beside = self.vendor.parent().context("a library has a folder")?;
        for folder in [beside, &libtorch.libraries()] {
            gcc.arg("-L").arg(folder);
        }
        // The bridge itself must be whole; what a vendor's library needs of its own is not here.
        gcc.args(["-Wl,--no-undefined", "-Wl,--allow-shlib-undefined"]);
        shell::run(gcc.args(self.flags).args(["-ltorch_cpu", "-lc10"]))?;
        Ok(made)
    }
}

fn digest_of(path: &Path) -> Result<String> {
    let sums = shell::output(shell::command("sha256sum").arg(path))?;
    let digest = sums.split(' ').next().context("sha256sum said nothing")?;
    Ok(digest.to_owned())
}

/// Writes the members of a wheel to the places that `place` names.
fn unpack(wheel: &Path, place: impl Fn(&str) -> Option<PathBuf>) -> Result<()> {
    let mut archive = ZipArchive::new(File::open(wheel)?)?;
    for position in 0..archive.len() {
        let mut member = archive.by_index(position)?;
        let name = member.name();
        if name.ends_with('/') || name.contains("..") {
            continue;
        }
        let Some(path) = place(name) else { continue };
        fs::create_dir_all(path.parent().context("a member has a folder")?)?;
        io::copy(&mut member, &mut File::create(&path)?)?;
    }
    Ok(())
}
