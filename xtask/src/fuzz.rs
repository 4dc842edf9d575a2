//! libFuzzer around every reader of foreign bytes, with the stable compiler and Debian's g++.
//!
//! `-Cpasses=sancov-module` counts which edges ran; that is all that libFuzzer needs. There is no address sanitizer:
//! no reader holds `unsafe` code, and what is looked for are panics, hangs and memory without bounds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{paths, shell};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Targets; all when none is given
    targets: Vec<String>,
    /// Seconds for each target; 0 looks for nothing new
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Keep in tests/fuzz/corpus what reaches code that nothing there does
    #[arg(long)]
    keep: bool,
    /// Afterwards leave in tests/fuzz/corpus, beside what a person named, no more than it takes to reach the same code
    #[arg(long)]
    trim: bool,
}

/// Builds the driver and lets it look for inputs that make a target stumble.
pub(crate) fn run(args: &Args) -> Result<()> {
    let all = targets()?;
    if let Some(unknown) = args.targets.iter().find(|name| !all.contains(name)) {
        bail!(
            "no target is called `{unknown}`; there are {}",
            all.join(", ")
        );
    }
    let wanted = if args.targets.is_empty() {
        &all
    } else {
        &args.targets
    };
    let driver = build()?;
    let mut stumbled = Vec::new();
    for name in wanted {
        let target = Target::of(name)?;
        println!("{name}: {} seconds", args.seconds);
        if args.seconds > 0 && target.look(&driver, args.seconds).is_err() {
            stumbled.push(format!("{name}: the input is {}…", target.stumbles));
        }
        if args.keep {
            target.keep(&driver)?;
        }
        if args.trim {
            target.trim(&driver)?;
        }
    }
    if !stumbled.is_empty() {
        bail!(
            "inputs that make a target stumble:\n  {}",
            stumbled.join("\n  ")
        );
    }
    Ok(())
}

/// Where a target's inputs lie.
struct Target {
    name: String,
    /// What was found on this machine.
    found: PathBuf,
    /// What the repository keeps.
    kept: PathBuf,
    /// How the names of inputs begin that it stumbled over.
    stumbles: String,
}

impl Target {
    fn of(name: &str) -> Result<Self> {
        let folder = paths::target().join("fuzz");
        let found = folder.join("found").join(name);
        fs::create_dir_all(&found)?;
        let stumbles = folder.join("stumbles");
        fs::create_dir_all(&stumbles)?;
        Ok(Self {
            name: name.to_owned(),
            found,
            kept: corpus().join(name),
            stumbles: format!("{}/{name}-", stumbles.display()),
        })
    }

    fn driver(&self, program: &Path) -> std::process::Command {
        let mut driver = shell::command(program);
        driver
            .env("FERRY_FUZZ_TARGET", &self.name)
            .env("FERRY_FUZZ_SEEDS", &self.found)
            .args([
                "-timeout=10",
                "-rss_limit_mb=1024",
                "-max_len=65536",
                "-verbosity=0",
            ])
            .arg(format!("-artifact_prefix={}", self.stumbles));
        // Targets write small files all the time.
        if Path::new("/dev/shm").is_dir() {
            driver.env("TMPDIR", "/dev/shm");
        }
        driver
    }

    /// Looks for inputs that reach new code, and for some that make the target stumble.
    fn look(&self, driver: &Path, seconds: u64) -> Result<()> {
        shell::run(
            self.driver(driver)
                .arg(format!("-max_total_time={seconds}"))
                .arg(&self.found)
                .arg(&self.kept),
        )
    }

    /// Adds to the repository, of the small inputs, those that reach something new.
    fn keep(&self, driver: &Path) -> Result<()> {
        let small = self.empty("small")?;
        for path in files(&self.found)? {
            if !is_seed(&path) && fs::metadata(&path)?.len() <= LARGEST_KEPT {
                copy_into(&path, &small)?;
            }
        }
        shell::run(self.driver(driver).args(COVER).arg(&self.kept).arg(&small))
    }

    /// Takes out of the repository what reaches only code that seeds, named inputs and fewer others reach.
    fn trim(&self, driver: &Path) -> Result<()> {
        let (few, all) = (self.empty("few")?, self.empty("all")?);
        for path in files(&self.kept)? {
            copy_into(&path, if is_found(&path) { &all } else { &few })?;
        }
        shell::run(
            self.driver(driver)
                // Every test run replays the seeds too.
                .env("FERRY_FUZZ_SEEDS", &few)
                .args(COVER)
                .arg(&few)
                .arg(&all),
        )?;
        let before = files(&self.kept)?.len();
        for path in files(&self.kept)?.iter().filter(|path| is_found(path)) {
            fs::remove_file(path)?;
        }
        for path in files(&few)?.iter().filter(|path| !is_seed(path)) {
            copy_into(path, &self.kept)?;
        }
        let after = files(&self.kept)?.len();
        println!("{}: {after} inputs of {before} are left", self.name);
        Ok(())
    }

    /// A folder of this name for the target, empty.
    fn empty(&self, name: &str) -> Result<PathBuf> {
        let folder = paths::target().join("fuzz").join(name).join(&self.name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

fn copy_into(path: &Path, folder: &Path) -> Result<()> {
    let name = path.file_name().context("an input has a name")?;
    fs::copy(path, folder.join(name))?;
    Ok(())
}

/// The driver writes the seeds under such names.
fn is_seed(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("seed-")
}

/// libFuzzer names what it finds by its SHA-1. What a person named shows a fault that was there once, and stays.
fn is_found(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn build() -> Result<PathBuf> {
    lock()?;
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = paths::target().join("fuzz");
    let mut cargo = shell::cargo();
    // With `--target`, the flags leave build scripts and macros alone.
    cargo.args([
        "build",
        "--release",
        "--manifest-path",
        DRIVER,
        "--target",
        &host,
    ]);
    shell::run(
        cargo
            .env("CARGO_TARGET_DIR", &folder)
            .env("RUSTFLAGS", COVERAGE.join(" ")),
    )?;
    Ok(folder.join(host).join("release/fuzz-driver"))
}

/// The driver's lock is this workspace's, to which cargo adds libFuzzer: one list of versions to look after.
fn lock() -> Result<()> {
    let lock = paths::root().join(DRIVER).with_file_name("Cargo.lock");
    fs::copy(paths::root().join("Cargo.lock"), lock)?;
    Ok(())
}

/// Each target has a corpus of its name.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(corpus())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn corpus() -> PathBuf {
    paths::root().join("tests/fuzz/corpus")
}

const DRIVER: &str = "tests/fuzz/driver/Cargo.toml";
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// The fewest inputs that reach each edge; how often one ran does not count.
const COVER: [&str; 3] = ["-merge=1", "-set_cover_merge=1", "-use_counters=0"];
/// What the repository keeps stays small: all corpora together are less than two megabytes.
const LARGEST_KEPT: u64 = 4096;
