//! What a bundle says of itself, read by the programs that define how it is said.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{MODEL, build, python_with, registry};
use crate::{paths, programs, shell};

/// What the checks are made with. `model-signing` needs `pyOpenSSL` without saying so.
const CHECKERS: [&str; 3] = [
    "model-signing==1.1.1",
    "pyopenssl==26.4.0",
    "cyclonedx-python-lib[json-validation]==11.12.0",
];

/// `model_signing` must verify the installed model with the bundle's public key, and refuse it once it is changed.
pub(super) fn signature(place: &Path) -> Result<()> {
    let python = python_with("oracle-papers", &CHECKERS)?;
    let release = place.join("prefix/current");
    let keys = fs::read_dir(release.join("meta/keys"))?;
    let key = keys.last().context("a bundle has a key")??.path();
    let verify = |model: &Path| {
        let mut tool = shell::command(python.with_file_name("model_signing"));
        tool.args(["verify", "key", "--signature"]);
        tool.arg(model.join("model.sig"))
            .arg("--public_key")
            .arg(&key);
        shell::run(tool.arg(model))
    };
    let model = release.join("models").join(MODEL);
    verify(&model)?;
    let copy = place.join("changed");
    fs::create_dir(&copy)?;
    for file in fs::read_dir(&model)? {
        let file = file?;
        fs::write(copy.join(file.file_name()), fs::read(file.path())?)?;
    }
    verify(&copy).context("a copy verifies where it lies")?;
    fs::write(copy.join("config.json"), "{}")?;
    if verify(&copy).is_ok() {
        bail!("model_signing took a changed model");
    }
    println!("model_signing verifies the installed model and refuses a changed one");
    Ok(())
}

/// The bill of materials and the provenance of a bundle with models, data, wheels and an image must follow their schemas.
pub(super) fn bill(place: &Path) -> Result<()> {
    let python = python_with("oracle-papers", &CHECKERS)?;
    let golden = paths::root().join("tests/golden");
    let file = |path: &str| json!({ "file": { "path": golden.join(path) } });
    let plan = json!({
        "format": 1, "name": "papers", "release": 1, "accept_licenses": ["Apache-2.0"],
        "models": [{ "name": MODEL, "license": "Apache-2.0",
            "files": [{ "path": "model.safetensors", "source": file("model/model.safetensors") }] }],
        "datasets": [{ "name": "alpaca", "license": "Apache-2.0",
            "files": [{ "path": "alpaca.json", "source": file("data/golden_alpaca.json") }] }],
        "images": [{ "name": "example.org/papers/app", "tag": "1", "license": "Apache-2.0",
            "source": { "oci-layout": { "path": "layout" } } }],
        "backends": [{ "name": "cpu", "chip": "cpu", "arch": "x86_64", "glibc": "2.28",
            "files": [{ "path": "bin/uv", "executable": true, "source": { "pypi": {
                "project": "uv", "version": "0.13.9", "member": "uv-0.13.9.data/scripts/uv" } } }],
            "python": { "version": "3.11", "requirements": ["safetensors", "numpy", "jinja2", "typing_extensions"] } }],
    });
    registry::layout(&place.join("layout"))?;
    fs::write(place.join("papers.json"), plan.to_string())?;
    build(
        &programs::bundler()?,
        place,
        "papers-key",
        "papers.json",
        "papers.ferry",
    )?;
    let mut reader = shell::command(&python);
    reader.arg("tests/oracles/papers_validate.py");
    shell::run(reader.arg(place.join("papers.ferry")))
}
