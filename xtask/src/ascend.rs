//! The environment of an Ascend 910B on aarch64, from the real package index: what a plan of two requirements becomes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{paths, programs, shell};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The bundler to try; built where none is given
    #[arg(long)]
    bundler: Option<PathBuf>,
    /// The uv that resolves [default: $`FERRY_UV`, else uv on the path]
    #[arg(long, default_value_os_t = std::env::var_os("FERRY_UV").unwrap_or_else(|| "uv".into()).into())]
    uv: PathBuf,
}

/// Locks, builds twice, lets uv install the wheels for the target, and deletes everything again.
pub(crate) fn run(args: &Args) -> Result<()> {
    let bundler = match &args.bundler {
        Some(bundler) => bundler.canonicalize()?,
        None => programs::bundler()?,
    };
    let place = paths::root().join(".ferry/ascend");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    let done = prove(&bundler, &args.uv, &place);
    fs::remove_dir_all(&place)?;
    done
}

fn prove(bundler: &Path, uv: &Path, place: &Path) -> Result<()> {
    fs::write(place.join("passphrase"), "a key of this folder\n")?;
    let ferry = |words: &[&str]| {
        let mut ferry = shell::command(bundler);
        ferry.current_dir(place).args(words);
        ferry
            .env("FERRY_CACHE", place.join("cache"))
            .env("FERRY_UV", uv);
        shell::run(&mut ferry)
    };
    let passphrase = ["--passphrase-file", "passphrase"];
    let plan = paths::root().join("tests/plans/ascend-910b.json");
    let plan = plan.to_str().context("the checkout's path is UTF-8")?;
    ferry(&[&["keygen", "key"], &passphrase[..]].concat())?;
    ferry(&["lock", plan, "-o", "ferry.lock"])?;
    let wheels = wheels(&place.join("ferry.lock"))?;
    let build = ["build", "ferry.lock", "--key", "key"];
    ferry(&[&build, &passphrase[..], &["-o", "one.ferry"]].concat())?;
    ferry(
        &[
            &build,
            &passphrase[..],
            &["-o", "two.ferry", "--threads", "1"],
        ]
        .concat(),
    )?;
    let size = fs::metadata(place.join("one.ferry"))?.len();
    shell::run(
        shell::command("cmp")
            .current_dir(place)
            .args(["one.ferry", "two.ferry"]),
    )?;
    fs::remove_file(place.join("two.ferry"))?;
    let installed = installed(uv, place, &wheels)?;
    println!(
        "ascend: {} wheels, {size} bytes, the same twice; uv installs {installed} of them for {PLATFORM}",
        wheels.len(),
    );
    Ok(())
}

const PLATFORM: &str = "aarch64-manylinux_2_28";

/// The wheels of the lock, by digest and name, none of which may be for CUDA.
fn wheels(lock: &Path) -> Result<Vec<(String, String)>> {
    let lock: Value = serde_json::from_slice(&fs::read(lock)?)?;
    let python = &lock["backends"][0]["python"];
    let mut wheels = Vec::new();
    for wheel in python["wheels"].as_array().context("no wheels")? {
        let text = |key: &str| wheel[key].as_str().map(str::to_owned).context("no text");
        let (digest, name) = (text("artifact")?, text("path")?);
        if ["nvidia", "triton", "cuda"]
            .iter()
            .any(|word| name.starts_with(word))
        {
            bail!("`{name}` is for CUDA");
        }
        wheels.push((digest.replace("sha256:", ""), name));
    }
    let projects: BTreeSet<_> = wheels
        .iter()
        .filter_map(|(_, name)| name.split('-').next())
        .collect();
    if projects.len() != wheels.len() {
        bail!("a project has two wheels");
    }
    for wanted in [
        "torch==2.7.1",
        "torch-npu==2.7.1.post4",
        "torchaudio==2.7.1",
        "llamafactory==0.9.5",
    ] {
        let pins = python["requirements"]
            .as_array()
            .context("no requirements")?;
        if !pins.iter().any(|pin| pin == wanted) {
            bail!("the lock has no {wanted}");
        }
    }
    Ok(wheels)
}

/// Lets uv install the wheels as the installer does, for the target: it refuses a wheel that does not suit it.
fn installed(uv: &Path, place: &Path, wheels: &[(String, String)]) -> Result<usize> {
    let folder = place.join("wheels");
    fs::create_dir(&folder)?;
    for (digest, name) in wheels {
        fs::hard_link(place.join("cache/sha256").join(digest), folder.join(name))?;
    }
    let lock: Value = serde_json::from_slice(&fs::read(place.join("ferry.lock"))?)?;
    let pins = lock["backends"][0]["python"]["requirements"]
        .as_array()
        .context("no requirements")?;
    let mut install = shell::command(uv);
    install.current_dir(place).args([
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-index",
        "--no-deps",
        "--no-config",
    ]);
    install.args([
        "--python-platform",
        PLATFORM,
        "--python-version",
        "3.11",
        "--find-links",
    ]);
    install.arg(&folder).arg("--target").arg(place.join("env"));
    install.arg("--cache-dir").arg(place.join("uv"));
    shell::run(install.args(pins.iter().filter_map(Value::as_str)))?;
    let infos = fs::read_dir(place.join("env"))?.filter_map(Result::ok);
    let info = |name: &std::ffi::OsStr| name.to_string_lossy().ends_with(".dist-info");
    Ok(infos.filter(|entry| info(&entry.file_name())).count())
}
