//! A Python environment: made by the installer from a bundle, and by pip from the same wheels.

use std::fs;

use anyhow::Result;
use serde_json::json;

use super::{Bench, backend, remove};
use crate::{libtorch, shell};

/// What a fine-tuning environment has, without a torch.
const REQUIREMENTS: [&str; 5] = [
    "transformers==4.57.1",
    "datasets==3.6.0",
    "pandas==2.2.3",
    "scipy==1.15.3",
    "gradio==5.49.1",
];

pub(super) fn measure(bench: &Bench) -> Result<()> {
    let uv = libtorch::uv()?;
    fs::create_dir_all(bench.place.join("source"))?;
    fs::write(bench.place.join("source/model.txt"), "small\n")?;
    let uv_file = [("bin/uv".to_owned(), uv.display().to_string())];
    let mut backend = backend("cpu", &uv_file);
    backend["files"][1]["executable"] = true.into();
    backend["glibc"] = "2.28".into();
    backend["python"] = json!({ "version": version()?, "requirements": REQUIREMENTS });
    bench.lock(&["model.txt".to_owned()], &json!([backend]))?;
    let bundle = bench.place.join("bench.ferry");
    bench.build(&bundle, &[])?;
    let prefix = bench.place.join("prefix");
    let install = bench.many(|bench| bench.install(&bundle, &prefix, &[]))?;
    let script = "python3 -m venv copy && \
        copy/bin/pip install -q --no-index prefix/current/wheels/*.whl && sync -f copy";
    let pip = bench.shell(&bench.place, script)?;
    let wheels = fs::read_dir(prefix.join("current/wheels"))?.count();
    println!("\n| Python environment, {wheels} wheels | s | peak MB |\n| --- | --- | --- |");
    for (name, cost) in [
        (
            "ferry-installer install: verify, copy, make, check",
            &install,
        ),
        ("python -m venv, pip install --no-index", &pip),
    ] {
        println!("| {name} | {:.2} | {:.0} |", cost.seconds, cost.peak_mb);
    }
    println!(
        "| ratio of speeds | {:.2} | |",
        pip.seconds / install.seconds
    );
    remove(&prefix)
}

/// The version of this machine's Python, such as `3.11`.
fn version() -> Result<String> {
    let print = "import sys; print('%d.%d' % sys.version_info[:2])";
    let said = shell::output(shell::command("python3").args(["-c", print]))?;
    Ok(said.trim().to_owned())
}
