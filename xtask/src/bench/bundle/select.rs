//! One backend of five: what is read, and what is written.

use anyhow::Result;
use serde_json::Value;

use super::{Bench, backend};
use crate::bench::noise::Noise;

const BACKENDS: u64 = 5;

pub(super) fn measure(bench: &Bench) -> Result<()> {
    let mut noise = Noise::new(3);
    let mut backends = Vec::new();
    for number in 0..BACKENDS {
        let source = format!("source/{number}.bin");
        let size = bench.mib * (1 << 20) / BACKENDS;
        noise.write(&bench.place.join(&source), size)?;
        let files = [("lib/libtorch.so".to_owned(), source)];
        backends.push(backend(&format!("cpu-{number}"), &files));
    }
    let name = "model.txt".to_owned();
    std::fs::write(bench.place.join("source").join(&name), "small\n")?;
    bench.lock(&[name], &Value::Array(backends))?;
    let bundle = bench.place.join("bench.ferry");
    bench.build(&bundle, &[])?;
    let size = std::fs::metadata(&bundle)?.len() as f64 / 1e6;
    let prefix = bench.place.join("prefix");
    let install = bench.many(|bench| bench.install(&bundle, &prefix, &["--backend", "cpu-2"]))?;
    println!("\n| one backend of {BACKENDS} | |\n| --- | --- |");
    println!("| bundle, MB | {size:.0} |");
    println!("| read by the installer, MB | {:.0} |", install.read_mb);
    println!("| ratio | {:.3} |", install.read_mb / size);
    println!("| s | {:.2} |", install.seconds);
    Ok(())
}
