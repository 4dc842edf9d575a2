//! Bytes that nothing makes smaller, as wheels and images are: packed, verified, installed.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::Result;
use serde_json::json;

use super::{Bench, backend, head, ratio, ratios, row};
use crate::bench::noise::Noise;
use crate::shell;

const FILES: u64 = 8;

pub(super) fn measure(bench: &Bench) -> Result<()> {
    let mut noise = Noise::new(1);
    let names: Vec<String> = (0..FILES).map(|n| format!("part-{n}.noise")).collect();
    for name in &names {
        let path = bench.place.join("source").join(name);
        noise.write(&path, bench.mib * (1 << 20) / FILES)?;
    }
    bench.lock(&names, &json!([backend("cpu", &[])]))?;
    let (place, bundle) = (bench.place.as_path(), bench.place.join("bench.ferry"));
    // What it takes into the cache is taken once, whoever carries it then.
    bench.build(&bundle, &[])?;
    let build = bench.many(|bench| bench.build(&bundle, &[]))?;
    let verify = bench.many(|bench| bench.verify(&bundle))?;
    let prefix = place.join("prefix");
    let install = bench.many(|bench| bench.install(&bundle, &prefix, &[]))?;
    fs::remove_dir_all(prefix)?;
    let copy = bench.shell(place, "cp -r source copy && sync -f copy")?;
    let script = "tar c source | zstd -q -T0 -o copy && sync -f copy";
    let archive = bench.shell(place, script)?;
    let mut sums = bench.command(Path::new("sh"), &["-c", "cd source && sha256sum *"]);
    fs::write(
        place.join("sums"),
        shell::output(sums.stdout(Stdio::piped()))?,
    )?;
    let sums = bench.shell(place, "cd source && sha256sum --quiet -c ../sums")?;
    let openssl = bench.shell(place, "cd source && openssl dgst -sha256 *")?;
    let mut tar = bench.command(Path::new("tar"), &["cf", "bench.tar", "source"]);
    shell::run(&mut tar)?;
    let script = "mkdir copy && tar -xf bench.tar -C copy && sync -f copy";
    let unpack = bench.shell(place, script)?;

    head("carrying");
    for (name, cost) in [
        ("ferry-bundler build", &build),
        ("cp, sync", &copy),
        ("tar, zstd -T0, sync", &archive),
        ("ferry-bundler verify", &verify),
        ("sha256sum -c, one core", &sums),
        ("openssl dgst -sha256, one core", &openssl),
        ("ferry-installer install", &install),
        ("tar -x, sync", &unpack),
    ] {
        row(name, bench.mib, cost);
    }
    let cores = std::thread::available_parallelism()?.get() as f64;
    let hashes = openssl.seconds / cores;
    ratios("ratio of speeds");
    ratio("build : cp", copy.seconds, &build);
    ratio("build : tar and zstd", archive.seconds, &build);
    let both = archive.seconds + sums.seconds;
    ratio("build : tar and zstd, then sha256sum", both, &build);
    ratio("verify : cores x one-core SHA-256", hashes, &verify);
    ratio("verify : sha256sum -c", sums.seconds, &verify);
    ratio("install : cp", copy.seconds, &install);
    ratio("install : tar -x", unpack.seconds, &install);
    let slower = copy.seconds.max(hashes);
    ratio("install : the slower of cp and SHA-256", slower, &install);
    Ok(())
}
