//! The real `libtorch_npu.so` of the `PyPI` wheel, loaded by `ferry-runtime` over a stand-in for the vendor's runtime.
//!
//! What can be known without a chip: that the library loads beside this libtorch without Python's torch, registers its
//! devices, gives memory, and takes numbers there and back; that two processes add up and share by its `ProcessGroupHCCL`, which
//! the bridge makes, and end when one of them is killed. No operation is computed: those come from the vendor's toolkit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use zip::ZipArchive;

use crate::libtorch::Libtorch;
use crate::{bridges, libtorch, paths, programs, shell};

/// Libraries of the wheels that are loaded, in the order in which they refer back.
const LOADED: [(&str, &str); 5] = [
    ("torch", "torch/lib/libshm.so"),
    ("torch", "torch/lib/libtorch_python.so"),
    ("torch-npu", "torch_npu/lib/libnpu_profiler.so"),
    ("torch-npu", "torch_npu/lib/libtensorpipe.so"),
    ("torch-npu", "torch_npu/lib/libtorch_npu.so"),
];

/// What the vendor's libraries have that no other one is made for.
const HOME: &str = "libge_runner.so";

/// The vendor's libraries that do something here, and what they are made of.
const WRITTEN: [(&str, &str); 2] = [("libascendcl.so", "acl.c"), ("libhccl.so", "hccl.c")];

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
    let place = bridges::fresh("npu")?;
    for (project, member) in LOADED {
        let wheel = libtorch::wheel(&format!("{project}=={}", libtorch::VERSION))?;
        take(&wheel, member, &place)?;
    }
    for (library, source) in WRITTEN {
        let mut gcc = shell::command("gcc");
        gcc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"]);
        gcc.arg(place.join(library));
        gcc.arg(paths::root().join("tests/npu/cpp").join(source));
        shell::run(gcc.arg(format!("-Wl,-soname,{library}")))?;
    }
    stand_ins(&place, &libtorch.libraries(), &args.python)?;
    // What Python itself needs is the system's.
    symlink(&args.python, place.join("libpython3.11.so.1.0"))?;
    let work = bridges::fresh("bridges")?;
    let bridge = bridges::hccl(libtorch::VERSION, &work)?;
    fs::copy(bridge, place.join("libferry_hccl.so"))?;
    fs::remove_dir_all(work)?;

    let runtime = match &args.runtime {
        Some(runtime) => runtime.canonicalize()?,
        None => programs::runtime(&libtorch)?,
    };
    let bench = Bench {
        runtime,
        libtorch,
        place,
    };
    bench.one()?;
    bench.two()?;
    // Operations are handed to the device by a thread of the vendor's, or by the program's own, which is then held.
    for queue in ["1", "0"] {
        bench.killed(queue)?;
    }
    fs::remove_dir_all(&bench.place)?;
    Ok(())
}

/// The program, and what stands around it.
struct Bench {
    runtime: PathBuf,
    libtorch: Libtorch,
    place: PathBuf,
}

impl Bench {
    fn doctor(&self, words: &[&str]) -> Command {
        let mut doctor = shell::command(&self.runtime);
        doctor.envs(self.libtorch.environment());
        let libraries = self.libtorch.libraries();
        let libraries = format!("{}:{}", self.place.display(), libraries.display());
        doctor.env("LD_LIBRARY_PATH", libraries);
        doctor.env("FERRY_DEVICE_LIBRARIES", &self.place);
        // This libtorch brings a smaller one of the same name, which it would find first.
        doctor.env("LD_PRELOAD", self.place.join("libcudart.so.13"));
        doctor.args(["--json", "doctor"]).args(words);
        doctor
    }

    /// One process opens a device.
    fn one(&self) -> Result<()> {
        let said = last(&shell::output(&mut self.doctor(&["--device", "npu:1"]))?)?;
        let opened = &said["opened"];
        are(
            opened,
            &[
                ("devices", Value::from(2)),
                ("total", Value::from(64_u64 << 30)),
                ("copies", Value::from(true)),
            ],
        )?;
        println!(
            "npu: libtorch_npu.so {} opens over a stand-in: {opened}",
            libtorch::VERSION
        );
        Ok(())
    }

    /// Two processes add up on a device each.
    fn two(&self) -> Result<()> {
        let said = last(&shell::output(&mut self.doctor(&TWO))?)?;
        let together = &said["together"];
        are(
            together,
            &[
                ("processes", Value::from(2)),
                ("collective", Value::from("hccl")),
                ("sums", Value::from(true)),
                ("shares", Value::from(true)),
            ],
        )?;
        println!("npu: two processes add up by ProcessGroupHCCL over a stand-in: {together}");
        Ok(())
    }

    /// One of two processes is killed as they add up: the other ends and says so.
    fn killed(&self, queue: &str) -> Result<()> {
        let mut doctor = self.doctor(&TWO);
        doctor
            .env("HOST_HCCL_DIES", "1:3")
            .env("TASK_QUEUE_ENABLE", queue);
        let output = doctor.output()?;
        let said = last(&String::from_utf8(output.stdout)?)?;
        let error = &said["error"];
        are(error, &[("code", Value::from("runtime.process-ended"))])?;
        are(&error["args"], &[("how", Value::from("signal 9"))])?;
        ensure!(
            output.status.code() == Some(5),
            "it ended with {}",
            output.status
        );
        println!("npu: TASK_QUEUE_ENABLE={queue}: {}", error["message"]);
        Ok(())
    }
}

const TWO: [&str; 4] = ["--device", "npu", "--processes", "2"];

/// The last line of what a program said.
fn last(said: &str) -> Result<Value> {
    let line = said.lines().last().context("nothing was said")?;
    Ok(serde_json::from_str(line)?)
}

fn are(said: &Value, wanted: &[(&str, Value)]) -> Result<()> {
    for (name, expected) in wanted {
        if said[name] != *expected {
            bail!("`{name}` is {}, expected {expected}: {said}", said[name]);
        }
    }
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
