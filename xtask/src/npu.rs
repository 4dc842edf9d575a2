//! The real `libtorch_npu.so` of the `PyPI` wheel, loaded by `ferry-runtime` over a stand-in for the vendor's runtime.
//!
//! What can be known without a chip: that the library loads beside this libtorch without Python's torch, registers its
//! devices, gives memory, and takes numbers there and back. No operation is computed: those come from the vendor's toolkit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use zip::ZipArchive;

use crate::{libtorch, paths, programs, shell};

/// Libraries of the wheels that are loaded, in the order in which they refer back.
const LOADED: [(&str, &str); 5] = [
    ("torch", "torch/lib/libshm.so"),
    ("torch", "torch/lib/libtorch_python.so"),
    ("torch-npu", "torch_npu/lib/libnpu_profiler.so"),
    ("torch-npu", "torch_npu/lib/libtensorpipe.so"),
    ("torch-npu", "torch_npu/lib/libtorch_npu.so"),
];

/// What the vendor's libraries have that no other one is made for.
const HOME: &str = "libhccl.so";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The Python library that the wheel's build asks; 3.11, as the wheels that are fetched
    #[arg(long, default_value = "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0")]
    python: PathBuf,
    /// The runtime to try; built where none is given
    #[arg(long)]
    runtime: Option<PathBuf>,
}

/// Fetches, builds what stands in, and lets the program open the device.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        args.python.is_file(),
        "there is no {}",
        args.python.display()
    );
    let libtorch = libtorch::obtain()?;
    let place = paths::root().join(".ferry/npu");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    for (project, member) in LOADED {
        let wheel = libtorch::wheel(&format!("{project}=={}", libtorch::VERSION))?;
        take(&wheel, member, &place)?;
    }
    let acl = paths::root().join("tests/npu/cpp/acl.c");
    let mut gcc = shell::command("gcc");
    gcc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"]);
    gcc.arg(place.join("libascendcl.so")).arg(&acl);
    shell::run(gcc.arg("-Wl,-soname,libascendcl.so"))?;
    stand_ins(&place, &libtorch.libraries(), &args.python)?;
    // What Python itself needs is the system's.
    symlink(&args.python, place.join("libpython3.11.so.1.0"))?;

    let runtime = match &args.runtime {
        Some(runtime) => runtime.canonicalize()?,
        None => programs::runtime(&libtorch)?,
    };
    let mut doctor = shell::command(&runtime);
    doctor.envs(libtorch.environment());
    let libraries = format!("{}:{}", place.display(), libtorch.libraries().display());
    doctor.env("LD_LIBRARY_PATH", libraries);
    doctor.env("FERRY_DEVICE_LIBRARIES", &place);
    // This libtorch brings a smaller one of the same name, which it would find first.
    doctor.env("LD_PRELOAD", place.join("libcudart.so.13"));
    let said = shell::output(doctor.args(["--json", "doctor", "--device", "npu:1"]))?;
    let said: Value = serde_json::from_str(said.lines().last().context("nothing was said")?)?;
    let opened = &said["opened"];
    for (name, expected) in [
        ("devices", Value::from(2)),
        ("total", Value::from(64_u64 << 30)),
        ("copies", Value::from(true)),
    ] {
        if opened[name] != expected {
            bail!("`{name}` is {}, expected {expected}: {said}", opened[name]);
        }
    }
    println!(
        "npu: libtorch_npu.so {} opens over a stand-in: {opened}",
        libtorch::VERSION
    );
    fs::remove_dir_all(&place)?;
    Ok(())
}

/// Writes a member of a wheel into `folder`.
fn take(wheel: &Path, member: &str, folder: &Path) -> Result<()> {
    let name = Path::new(member)
        .file_name()
        .context("a member has a name")?;
    let mut archive = ZipArchive::new(File::open(wheel)?)?;
    let mut found = archive
        .by_name(member)
        .with_context(|| format!("{} has no {member}", wheel.display()))?;
    io::copy(&mut found, &mut File::create(folder.join(name))?)?;
    Ok(())
}

/// Compiles a library for each that is needed and not there. Functions of CUDA say that there is no device, all others
/// that they succeeded.
fn stand_ins(folder: &Path, libtorch: &Path, python: &Path) -> Result<()> {
    let in_folder = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        let paths = entries.into_iter().map(|entry| entry.path());
        Ok(paths
            .filter(|path| path.to_string_lossy().contains(".so"))
            .collect())
    };
    let own = in_folder(folder)?;
    let (mut defined, mut known) = (BTreeSet::new(), BTreeSet::new());
    let mut readers = own.clone();
    readers.push(libtorch.join("libtorch_cpu.so"));
    // CUDA's two stand-ins of this libtorch have only what its processor half asks for.
    let beside = in_folder(libtorch)?
        .into_iter()
        .filter(|path| !path.to_string_lossy().contains("/libcu"));
    let system = [
        python.to_owned(),
        PathBuf::from("/usr/lib/x86_64-linux-gnu/libstdc++.so.6"),
    ];
    for path in own.iter().cloned().chain(beside).chain(system) {
        known.extend(
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned()),
        );
        let symbols = shell::output(
            shell::command("nm")
                .args(["-D", "--defined-only"])
                .arg(&path),
        )?;
        defined.extend(symbols.lines().filter_map(name_of));
    }
    let of_system = [
        "libc.",
        "libm.",
        "libdl.",
        "libpthread.",
        "librt.",
        "libgcc_s.",
        "libgomp.",
        "ld-linux",
    ];
    // Each missing library with the functions that it must have, and whether under its name as their version.
    let mut made: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut versioned, mut homeless) = (BTreeSet::new(), BTreeSet::new());
    for path in &readers {
        let dynamic = shell::output(shell::command("readelf").arg("-dW").arg(path))?;
        let needed = dynamic.lines().filter_map(libtorch::needed);
        let is_there = |name: &&str| {
            known.contains(*name) || of_system.iter().any(|start| name.starts_with(start))
        };
        let missing: Vec<&str> = needed.filter(|name| !is_there(name)).collect();
        for name in &missing {
            made.entry((*name).to_owned()).or_default();
        }
        let host = missing.iter().find(|name| !name.starts_with("libcu"));
        let symbols = shell::output(
            shell::command("nm")
                .args(["-D", "--undefined-only"])
                .arg(path),
        )?;
        for line in symbols.lines() {
            let Some(name) = name_of(line) else { continue };
            // Weak ones, such as those of a profiler, may be absent.
            if defined.contains(&name) || line.contains(" w ") {
                continue;
            }
            match line.rsplit_once('@') {
                Some((_, version)) if missing.contains(&version) => {
                    versioned.insert(version.to_owned());
                    made.entry(version.to_owned()).or_default().insert(name);
                }
                // Versions of the system's libraries.
                Some(_) => {}
                None => match host {
                    Some(host) => drop(made.entry((*host).to_owned()).or_default().insert(name)),
                    None => drop(homeless.insert(name)),
                },
            }
        }
    }
    // One library that all of them come to is as good as another.
    made.entry(HOME.to_owned()).or_default().extend(homeless);
    for (library, names) in made {
        let mut source = String::from("int ferry_stand_in;\n");
        for name in names {
            writeln!(source, "{}", definition(&name))?;
        }
        let map = versioned
            .contains(&library)
            .then(|| format!("{library} {{ global: *; }};\n"));
        libtorch::compile(folder, &library, &source, &[], map.as_deref())?;
    }
    Ok(())
}

/// C for a symbol of C or C++ that is never used for what it is.
fn definition(name: &str) -> String {
    // What `typeid` and exceptions look at.
    if let Some(class) = name.strip_prefix("_ZTI") {
        return format!(
            "extern char _ZTVN10__cxxabiv117__class_type_infoE[];\n\
             struct {{ void* is; const char* name; }} {name} = \
             {{ _ZTVN10__cxxabiv117__class_type_infoE + 16, \"{class}\" }};"
        );
    }
    if ["_ZTV", "_ZTS", "_ZGV"]
        .iter()
        .any(|start| name.starts_with(start))
        || name.ends_with("9allocatorE")
    {
        return format!("long {name}[64];");
    }
    // libtorch_python writes to where this points as it is loaded.
    if name.contains("get_gil_checker") {
        return format!("static long checker[8]; void* {name}(void) {{ return checker; }}");
    }
    // 100 is cudaErrorNoDevice.
    let answer = if name.starts_with("cu") { 100 } else { 0 };
    format!("long {name}(void) {{ return {answer}; }}")
}

/// The name in a line of `nm`, without its version.
fn name_of(line: &str) -> Option<String> {
    let word = line.split_whitespace().last()?;
    Some(word.split('@').next()?.to_owned())
}
