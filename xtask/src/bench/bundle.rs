//! The same bytes through Ferry and through the tools that a person would carry them with.
//!
//! Each writer ends with its bytes on the disk; what is read lies in the page cache.

mod carry;
mod python;
mod select;
mod share;
mod weights;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;
use serde_json::{Value, json};

use super::watch::{Cost, median, watched};
use crate::{libtorch, paths, programs, shell};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Size of the input in MiB
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Runs of each program; the medians are shown
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// A folder on the disk to be measured
    #[arg(long)]
    place: Option<PathBuf>,
    /// Measure only this (can be repeated)
    #[arg(long)]
    only: Vec<Part>,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Part {
    /// Packing, verifying and installing bytes that nothing makes smaller
    Carry,
    /// Weights in planes beside zstd and zipnn
    Weights,
    /// One backend of five
    Select,
    /// An aligned bundle on XFS; needs root
    Share,
    /// A Python environment beside pip; needs a package index
    Python,
}

/// Runs everything and prints tables in Markdown.
pub(crate) fn run(args: &Args) -> Result<()> {
    let installer = programs::installer()?;
    let bundler = programs::bundler()?;
    for (part, measure) in [
        (Part::Carry, carry::measure as fn(&Bench) -> Result<()>),
        (Part::Weights, weights::measure),
        (Part::Select, select::measure),
        (Part::Share, share::measure),
        (Part::Python, python::measure),
    ] {
        if !args.only.is_empty() && !args.only.contains(&part) {
            continue;
        }
        let place = match &args.place {
            Some(place) => place.join("ferry-bench"),
            None => paths::root().join(".ferry/bench"),
        };
        let mut bench = Bench {
            place: fresh(place)?,
            bundler: bundler.clone(),
            installer: installer.clone(),
            fingerprint: String::new(),
            mib: args.mib,
            runs: args.runs.max(1),
            uv: match part {
                Part::Python => Some(libtorch::uv()?),
                _ => None,
            },
        };
        bench.keygen()?;
        measure(&bench)?;
        fs::remove_dir_all(&bench.place)?;
    }
    Ok(())
}

/// An empty folder at `place`.
fn fresh(place: PathBuf) -> Result<PathBuf> {
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    Ok(place)
}

/// A folder with a key, and the programs.
struct Bench {
    place: PathBuf,
    bundler: PathBuf,
    installer: PathBuf,
    fingerprint: String,
    mib: u64,
    runs: usize,
    /// Resolves the requirements of Python environments.
    uv: Option<PathBuf>,
}

impl Bench {
    fn keygen(&mut self) -> Result<()> {
        let script = self.place.join("ferry-runtime");
        fs::write(&script, "#!/bin/sh\n")?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        fs::write(self.place.join("passphrase"), "measured\n")?;
        let keygen = ["keygen", "key", "--passphrase-file", "passphrase"];
        shell::run(&mut self.command(&self.bundler, &keygen))?;
        let fingerprint = fs::read_to_string(self.place.join("key/fingerprint"))?;
        fingerprint.trim().clone_into(&mut self.fingerprint);
        Ok(())
    }

    /// Locks a plan of these files, each `source/NAME`, in one model; `backends` are whole.
    fn lock(&self, files: &[String], backends: &Value) -> Result<()> {
        let parts: Vec<_> = files
            .iter()
            .map(|name| json!({ "path": name, "source": file(&format!("source/{name}")) }))
            .collect();
        let plan = json!({
            "format": 1, "name": "bench", "release": 1, "channel": "bench",
            "accept_licenses": ["CC0-1.0"],
            "models": [{ "name": "bench/model", "license": "CC0-1.0", "files": parts }],
            "backends": backends,
            "installers": { std::env::consts::ARCH: file(&self.installer.display().to_string()) },
        });
        fs::write(self.place.join("plan.json"), plan.to_string())?;
        let lock = ["lock", "plan.json", "--output", "ferry.lock"];
        let mut lock = self.command(&self.bundler, &lock);
        if let Some(uv) = &self.uv {
            lock.arg("--uv").arg(uv);
        }
        shell::run(lock.stderr(Stdio::inherit()))
    }

    fn command(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = shell::command(program);
        command.args(words).current_dir(&self.place);
        command.env("FERRY_CACHE", self.place.join("cache"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn build(&self, out: &Path, words: &[&str]) -> Result<Cost> {
        remove(out)?;
        let own = ["build", "ferry.lock", "--key", "key"];
        let own = [&own[..], &["--passphrase-file", "passphrase"], words].concat();
        let mut build = self.command(&self.bundler, &own);
        let cost = watched(build.arg("--output").arg(out), |_, _| ())?;
        // It went past the page cache; who reads it is to find it there.
        io::copy(&mut File::open(out)?, &mut io::sink())?;
        Ok(cost)
    }

    fn verify(&self, bundle: &Path) -> Result<Cost> {
        let mut verify = self.command(&self.bundler, &["verify"]);
        verify.arg(bundle);
        watched(verify.args(["--trust-root", &self.fingerprint]), |_, _| ())
    }

    fn install(&self, bundle: &Path, prefix: &Path, words: &[&str]) -> Result<Cost> {
        remove(prefix)?;
        let mut install = self.command(&self.installer, &["install", "--yes"]);
        install.arg(bundle).arg("--prefix").arg(prefix).args(words);
        watched(install.args(["--trust-root", &self.fingerprint]), |_, _| ())
    }

    /// Runs `script` in `folder`, as often as the rest; it leaves `copy`.
    fn shell(&self, folder: &Path, script: &str) -> Result<Cost> {
        self.many(|bench| {
            remove(&folder.join("copy"))?;
            let mut sh = bench.command(Path::new("sh"), &["-c", script]);
            watched(sh.current_dir(folder), |_, _| ())
        })
    }

    fn many(&self, run: impl Fn(&Self) -> Result<Cost>) -> Result<Cost> {
        let costs = (0..self.runs)
            .map(|_| run(self))
            .collect::<Result<Vec<_>>>()?;
        let of = |value: fn(&Cost) -> f64| median(costs.iter().map(value).collect());
        Ok(Cost {
            seconds: of(|cost| cost.seconds),
            peak_mb: of(|cost| cost.peak_mb),
            read_mb: of(|cost| cost.read_mb),
        })
    }
}

fn file(path: &str) -> Value {
    json!({ "file": { "path": path } })
}

/// The backend that every machine has, with these files beside its program.
fn backend(name: &str, files: &[(String, String)]) -> Value {
    let mut placed = vec![
        json!({ "path": "bin/ferry-runtime", "executable": true, "source": file("ferry-runtime") }),
    ];
    for (path, source) in files {
        placed.push(json!({ "path": path, "source": file(source) }));
    }
    json!({ "name": name, "chip": "cpu", "arch": std::env::consts::ARCH, "files": placed })
}

fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)?;
    } else if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Prints the head of a table of costs.
fn head(title: &str) {
    println!("\n| {title} | s | MB/s | peak MB |");
    println!("| --- | --- | --- | --- |");
}

/// Prints a line of it: `mib` went through.
fn row(name: &str, mib: u64, cost: &Cost) {
    let rate = mib as f64 * 1.048_576 / cost.seconds;
    println!(
        "| {name} | {:.2} | {rate:.0} | {:.0} |",
        cost.seconds, cost.peak_mb
    );
}

/// Prints the head of a table of ratios.
fn ratios(title: &str) {
    println!("\n| {title} | |\n| --- | --- |");
}

/// Prints how many times as fast as theirs ours is.
fn ratio(name: &str, theirs: f64, ours: &Cost) {
    println!("| {name} | {:.2} |", theirs / ours.seconds);
}
