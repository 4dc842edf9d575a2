//! Weights in bf16: how small, and how fast, beside zstd and zipnn.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Bench, backend};
use crate::bench::noise::Noise;
use crate::{paths, shell};

/// Version of zipnn.
const ZIPNN: &str = "zipnn==0.5.4";

/// Bytes that zstd -19 gets: it takes a second for some megabytes.
const SAMPLE: u64 = 24 << 20;

pub(super) fn measure(bench: &Bench) -> Result<()> {
    let source = bench.place.join("source");
    fs::create_dir_all(&source)?;
    let size = write_weights(&source.join("model.safetensors"), bench.mib << 18)?;
    bench.lock(
        &["model.safetensors".to_owned()],
        &json!([backend("cpu", &[])]),
    )?;
    let (plain, small) = (
        bench.place.join("plain.ferry"),
        bench.place.join("small.ferry"),
    );
    bench.build(&plain, &[])?;
    let build = bench.many(|bench| bench.build(&small, &["--squeeze", "bf16"]))?;
    let verify = bench.many(|bench| bench.verify(&small))?;
    let saved = fs::metadata(&plain)?.len() - fs::metadata(&small)?.len();
    let ours = (size - saved) as f64 / size as f64;

    println!(
        "\n| bf16 weights, {} MB | size | MB/s in | MB/s out | peak MB |",
        size / 1_000_000
    );
    println!("| --- | --- | --- | --- | --- |");
    let rate = |size: u64, seconds: f64| size as f64 / 1e6 / seconds;
    let line = |name: &str, share: f64, there: f64, back: f64, peak: f64| {
        println!("| {name} | {share:.4} | {there:.1} | {back:.1} | {peak:.0} |");
    };
    let (there, back) = (rate(size, build.seconds), rate(size, verify.seconds));
    let peak = build.peak_mb.max(verify.peak_mb);
    line(
        "ferry-bundler build --squeeze bf16, verify",
        ours,
        there,
        back,
        peak,
    );
    let sample = format!("head -c {SAMPLE} source/model.safetensors > sample");
    bench.shell(&bench.place, &sample)?;
    let mut shares = Vec::new();
    for (level, input, size) in [
        ("1", "source/model.safetensors", size),
        ("19", "sample", SAMPLE.min(size)),
    ] {
        let pack = format!("zstd -q -{level} -T0 -f {input} -o packed && sync -f packed");
        let there = bench.shell(&bench.place, &pack)?;
        let back = bench.shell(&bench.place, "zstd -q -dc packed > /dev/null")?;
        let share = fs::metadata(bench.place.join("packed"))?.len() as f64 / size as f64;
        let (packing, unpacking) = (rate(size, there.seconds), rate(size, back.seconds));
        let peak = there.peak_mb.max(back.peak_mb);
        line(
            &format!("zstd -{level} -T0, zstd -d"),
            share,
            packing,
            unpacking,
            peak,
        );
        shares.push(share);
    }
    let python = zipnn().context("no zipnn")?;
    let script = bench.place.join("measure.py");
    fs::write(&script, SCRIPT)?;
    let mut run = bench.command(&python, &["measure.py", "source/model.safetensors"]);
    let said = shell::output(run.stdout(Stdio::piped()))?;
    let said: Vec<f64> = said
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [share, there, back, peak] = said[..] else {
        anyhow::bail!("zipnn said {said:?}");
    };
    line("zipnn, in memory", share, there, back, peak);

    println!("\n| ratio | |\n| --- | --- |");
    println!("| size : zstd -19 | {:.3} |", ours / shares[1]);
    println!("| size : zipnn | {:.4} |", ours / share);
    println!(
        "| speed in : zipnn | {:.2} |",
        rate(size, build.seconds) / there
    );
    println!(
        "| speed out : zipnn | {:.2} |",
        rate(size, verify.seconds) / back
    );
    Ok(())
}

/// Writes a safetensors file of about `size` bytes: tensors of normally distributed numbers of several scales, as trained
/// ones are. Returns its size.
fn write_weights(path: &Path, size: u64) -> Result<u64> {
    const TENSORS: u64 = 16;
    let each = size / TENSORS / 2 * 2;
    let mut header = serde_json::Map::new();
    for number in 0..TENSORS {
        let (begin, end) = (number * each, (number + 1) * each);
        let entry = json!({ "dtype": "BF16", "shape": [each / 2], "data_offsets": [begin, end] });
        header.insert(format!("layers.{number}.weight"), entry);
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut noise = Noise::new(2);
    for number in 0..TENSORS {
        let scale = 0.008 * (1.0 + (number % 5) as f64);
        for _ in 0..each / 4 {
            for number in noise.normal_bf16(scale) {
                file.write_all(&number)?;
            }
        }
    }
    file.into_inner()?.sync_all()?;
    Ok(header.len() as u64 + 8 + TENSORS * each)
}

/// A Python with zipnn, made on first use.
///
/// zipnn imports torch, which it does not use for bytes: a stand-in saves fetching gigabytes.
fn zipnn() -> Result<PathBuf> {
    let place = paths::cache()?.join("zipnn-0.5.4");
    let python = place.join("bin/python");
    if place.join("complete").exists() {
        return Ok(python);
    }
    let mut venv = shell::command("python3");
    shell::run(venv.args(["-m", "venv", "--clear"]).arg(&place))?;
    for words in [
        &[
            "install",
            "-q",
            "numpy",
            "safetensors",
            "packaging",
            "zstandard",
        ][..],
        &["install", "-q", "--no-deps", ZIPNN],
    ] {
        shell::run(shell::command(place.join("bin/pip")).args(words))?;
    }
    let find = [
        "-c",
        "import sysconfig; print(sysconfig.get_paths()['purelib'])",
    ];
    let packages = shell::output(shell::command(&python).args(find))?;
    let torch = Path::new(packages.trim()).join("torch");
    fs::create_dir_all(&torch)?;
    fs::write(torch.join("__init__.py"), STAND_IN)?;
    fs::write(place.join("complete"), "")?;
    Ok(python)
}

const STAND_IN: &str = r#""""Stands in for torch, which zipnn imports and does not use for bytes."""
__version__ = "2.0.0"

class _Any:
    def __init__(self, name): self.name = name
    def __getattr__(self, name): return _Any(self.name + "." + name)
    def __call__(self, *args, **options): return args[0] if len(args) == 1 and callable(args[0]) else self
    def __hash__(self): return hash(self.name)
    def __eq__(self, other): return isinstance(other, _Any) and other.name == self.name

class Tensor: pass

def __getattr__(name):
    if name.startswith("__"): raise AttributeError(name)
    return _Any("torch." + name)
"#;

const SCRIPT: &str = r#"
import os, resource, sys, time
import zipnn
data = open(sys.argv[1], "rb").read()
coder = zipnn.ZipNN(input_format="byte", bytearray_dtype="bfloat16", threads=os.cpu_count())
# It turns its input's bits in place, so it gets a copy.
own = bytearray(data)
begin = time.perf_counter()
packed = coder.compress(own)
there = time.perf_counter() - begin
size = len(packed)
begin = time.perf_counter()
again = coder.decompress(packed)
back = time.perf_counter() - begin
assert bytes(again) == data
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(size / len(data), len(data) / there / 1e6, len(data) / back / 1e6, peak)
"#;
