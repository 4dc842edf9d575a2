//! The same bytes through Ferry and through the tools that a person would carry them with.
//!
//! The input is random, as weights nearly are, and lies in the page cache; each writer ends with its bytes on the disk.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::json;

use super::watch::{Cost, median, watched};
use crate::{paths, programs, shell};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Size of the input in MiB
    #[arg(long, default_value_t = 2048)]
    mib: u64,
    /// Runs of each program; the medians are shown
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// A folder on the disk to be measured
    #[arg(long)]
    place: Option<PathBuf>,
}

/// Makes the input, runs everything, and prints a table in Markdown.
pub(crate) fn run(args: &Args) -> Result<()> {
    let place = match &args.place {
        Some(place) => place.clone(),
        None => paths::root().join(".ferry/bench"),
    };
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    let bench = Bench::prepare(args, place)?;
    let build = bench.many(Bench::build)?;
    let verify = bench.many(Bench::verify)?;
    let install = bench.many(Bench::install)?;
    let copy = bench.shell("cp -r source copy && sync -f copy", "copy")?;
    let archive = bench.shell("tar c source | zstd -q -T0 -o copy && sync -f copy", "copy")?;
    fs::write(bench.place.join("sums"), bench.sums()?)?;
    let sums = bench.shell("cd source && sha256sum --quiet -c ../sums", "none")?;
    let openssl = bench.shell("cd source && openssl dgst -sha256 *", "none")?;
    let cores = std::thread::available_parallelism()?.get() as f64;

    println!("| {} MiB | s | MB/s | peak MB |", args.mib);
    println!("| --- | --- | --- | --- |");
    let row = |name: &str, cost: &Cost| {
        let rate = args.mib as f64 * 1.048_576 / cost.seconds;
        println!(
            "| {name} | {:.2} | {rate:.0} | {:.0} |",
            cost.seconds, cost.peak_mb
        );
    };
    row("ferry-bundler build", &build);
    row("cp, sync", &copy);
    row("tar, zstd -T0, sync", &archive);
    row("ferry-bundler verify", &verify);
    row("sha256sum -c, one core", &sums);
    row("openssl dgst -sha256, one core", &openssl);
    row("ferry-installer install", &install);
    let hashes = openssl.seconds / cores;
    println!("\n| ratio of speeds | |\n| --- | --- |");
    let ratio = |name: &str, theirs: f64, ours: &Cost| {
        println!("| {name} | {:.2} |", theirs / ours.seconds);
    };
    ratio("build : cp", copy.seconds, &build);
    ratio("build : tar and zstd", archive.seconds, &build);
    ratio("verify : cores x one-core SHA-256", hashes, &verify);
    ratio("verify : sha256sum -c", sums.seconds, &verify);
    ratio(
        "install : the slower of cp and SHA-256",
        copy.seconds.max(hashes),
        &install,
    );
    Ok(())
}

struct Bench {
    place: PathBuf,
    bundler: PathBuf,
    installer: PathBuf,
    fingerprint: String,
    runs: usize,
}

impl Bench {
    fn prepare(args: &Args, place: PathBuf) -> Result<Self> {
        let installer = programs::installer()?;
        let bundler = programs::bundler()?;
        let source = place.join("source");
        fs::create_dir_all(&source)?;
        let mut state = 1;
        let files: Vec<String> = (0..FILES).map(|n| format!("part-{n:02}.bin")).collect();
        for file in &files {
            noise(&source.join(file), args.mib * (1 << 20) / FILES, &mut state)?;
        }
        let script = place.join("ferry-runtime");
        fs::write(&script, "#!/bin/sh\n")?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        fs::write(place.join("passphrase"), "measured\n")?;
        fs::write(
            place.join("plan.json"),
            plan(&files, &installer).to_string(),
        )?;
        let mut bench = Self {
            place,
            bundler,
            installer,
            fingerprint: String::new(),
            runs: args.runs.max(1),
        };
        let keygen = ["keygen", "key", "--passphrase-file", "passphrase"];
        shell::run(&mut bench.command(&bench.bundler, &keygen))?;
        let lock = ["lock", "plan.json", "--output", "ferry.lock"];
        shell::run(&mut bench.command(&bench.bundler, &lock))?;
        let fingerprint = fs::read_to_string(bench.place.join("key/fingerprint"))?;
        fingerprint.trim().clone_into(&mut bench.fingerprint);
        Ok(bench)
    }

    fn command(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = shell::command(program);
        command.args(words).current_dir(&self.place);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn build(&self) -> Result<Cost> {
        let bundle = self.place.join("bench.ferry");
        if bundle.exists() {
            fs::remove_file(&bundle)?;
        }
        let words = [
            "build",
            "ferry.lock",
            "--key",
            "key",
            "--passphrase-file",
            "passphrase",
        ];
        let mut build = self.command(&self.bundler, &words);
        watched(build.args(["--output", "bench.ferry"]), |_, _| ())
    }

    fn verify(&self) -> Result<Cost> {
        let mut verify = self.command(&self.bundler, &["verify", "bench.ferry"]);
        watched(verify.args(["--trust-root", &self.fingerprint]), |_, _| ())
    }

    fn install(&self) -> Result<Cost> {
        let prefix = self.place.join("prefix");
        if prefix.exists() {
            fs::remove_dir_all(&prefix)?;
        }
        let words = ["install", "bench.ferry", "--yes", "--prefix", "prefix"];
        let mut install = self.command(&self.installer, &words);
        watched(install.args(["--trust-root", &self.fingerprint]), |_, _| ())
    }

    /// Runs `script` and removes what it leaves.
    fn shell(&self, script: &str, leaves: &str) -> Result<Cost> {
        self.many(|bench| {
            let left = bench.place.join(leaves);
            if left.is_dir() {
                fs::remove_dir_all(&left)?;
            } else if left.exists() {
                fs::remove_file(&left)?;
            }
            watched(
                &mut bench.command(Path::new("sh"), &["-c", script]),
                |_, _| (),
            )
        })
    }

    fn many(&self, run: impl Fn(&Self) -> Result<Cost>) -> Result<Cost> {
        let costs = (0..self.runs)
            .map(|_| run(self))
            .collect::<Result<Vec<_>>>()?;
        Ok(Cost {
            seconds: median(costs.iter().map(|cost| cost.seconds).collect()),
            peak_mb: median(costs.iter().map(|cost| cost.peak_mb).collect()),
        })
    }

    fn sums(&self) -> Result<String> {
        let mut sums = self.command(Path::new("sh"), &["-c", "cd source && sha256sum *"]);
        shell::output(sums.stdout(Stdio::piped()))
    }
}

/// Writes `size` bytes that do not compress; `xorshift64*` (Vigna 2016).
fn noise(path: &Path, size: u64, state: &mut u64) -> Result<()> {
    let mut file = BufWriter::new(
        File::create(path).with_context(|| format!("cannot write {}", path.display()))?,
    );
    for _ in 0..size / 8 {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        file.write_all(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes())?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

fn plan(files: &[String], installer: &Path) -> serde_json::Value {
    let file = |path: &str| json!({ "file": { "path": path } });
    let parts: Vec<_> = files
        .iter()
        .map(|name| json!({ "path": name, "source": file(&format!("source/{name}")) }))
        .collect();
    json!({
        "format": 1, "name": "bench", "release": 1, "channel": "bench", "accept_licenses": ["CC0-1.0"],
        "models": [{ "name": "bench/noise", "license": "CC0-1.0", "files": parts }],
        "backends": [{
            "name": "cpu", "chip": "cpu", "arch": std::env::consts::ARCH,
            "files": [{ "path": "bin/ferry-runtime", "executable": true, "source": file("ferry-runtime") }],
        }],
        "installers": { std::env::consts::ARCH: file(&installer.display().to_string()) },
    })
}

const FILES: u64 = 8;
