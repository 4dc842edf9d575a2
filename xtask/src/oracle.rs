//! What Ferry writes and installs, read by the programs that its users read it with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{bench, demo, libtorch, paths, programs, shell};

mod client;
mod data;
mod engines;
mod gptq;
mod papers;
mod registry;
mod ropes;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Python with LLaMA-Factory in it; made from `PyPI` (6 GB) where none is given
    #[arg(long)]
    python: Option<PathBuf>,
    /// Only this check (can be repeated)
    #[arg(long, value_enum)]
    only: Vec<Check>,
    /// Made-up jobs whose data is compared
    #[arg(long, value_name = "COUNT", default_value_t = 300)]
    cases: u32,
    /// What the made-up jobs are drawn from
    #[arg(long, default_value_t = 0)]
    seed: u32,
}

/// One program that reads what Ferry makes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Check {
    /// PEFT loads an adapter and answers as Ferry does.
    Peft,
    /// Made-up datasets become LLaMA-Factory's own token ids and labels.
    Data,
    /// One job through both engines gives the same losses.
    Engines,
    /// A model with each rule for stretched positions trains to the same losses in both engines.
    Ropes,
    /// The `openai` client talks with `api`.
    Openai,
    /// transformers loads a model exported in four bits, with bitsandbytes' own bytes.
    Packed,
    /// gptqmodel reads models rounded by texts as Ferry does, and the original makes nearly the same.
    Gptq,
    /// transformers finds an installed model by its hub name.
    Hub,
    /// `model_signing` verifies an installed model, and refuses a changed one.
    Signature,
    /// The bill of materials and the provenance follow their schemas.
    Papers,
    /// skopeo finds the images of a registry in what Ferry writes.
    Images,
}

/// Runs the checks that were asked for, or all.
pub(crate) fn run(args: &Args) -> Result<()> {
    let asked = |check| args.only.is_empty() || args.only.contains(&check);
    let place = paths::root().join(".ferry/oracle");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    if asked(Check::Peft) {
        peft(&bench::python(args.python.as_deref())?, &place)?;
    }
    if asked(Check::Data) {
        data::agree(
            &bench::python(args.python.as_deref())?,
            &place,
            args.cases,
            args.seed,
        )?;
    }
    if asked(Check::Engines) {
        engines::agree(&bench::python(args.python.as_deref())?, &place)?;
    }
    if asked(Check::Ropes) {
        ropes::agree(&bench::python(args.python.as_deref())?, &place)?;
    }
    if asked(Check::Openai) {
        client::asks(&place)?;
    }
    if asked(Check::Packed) {
        packed(&bench::python(args.python.as_deref())?, &place)?;
    }
    if asked(Check::Gptq) {
        gptq::agree(&bench::python(args.python.as_deref())?, &place)?;
    }
    if asked(Check::Hub) || asked(Check::Signature) {
        install(&place)?;
    }
    if asked(Check::Hub) {
        hub(&bench::python(args.python.as_deref())?, &place)?;
    }
    if asked(Check::Signature) {
        papers::signature(&place)?;
    }
    if asked(Check::Papers) {
        papers::bill(&place)?;
    }
    if asked(Check::Images) {
        registry::images(&place)?;
    }
    Ok(())
}

/// A Python of the cache by this name, with these packages.
fn python_with(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let uv = libtorch::uv()?;
    let place = paths::cache()?.join(name);
    let python = place.join("bin/python");
    if place.join("complete").exists() {
        return Ok(python);
    }
    let mut venv = shell::command(&uv);
    shell::run(
        venv.args(["venv", "--clear", "--python", "3.11"])
            .arg(&place),
    )?;
    let mut install = shell::command(&uv);
    install.args(["pip", "install", "--python"]).arg(&python);
    shell::run(install.args(packages))?;
    fs::write(place.join("complete"), "")?;
    Ok(python)
}

/// Trains an adapter on the golden model; PEFT must load it and answer the same.
fn peft(python: &Path, place: &Path) -> Result<()> {
    let libtorch = libtorch::obtain()?;
    let runtime = programs::runtime(&libtorch)?;
    let golden = paths::root().join("tests/golden");
    let adapter = place.join("adapter");
    let ferry = || {
        let mut ferry = shell::command(&runtime);
        ferry.envs(libtorch.environment()).current_dir(&golden);
        ferry
    };
    let mut train = ferry();
    train.args(["train", "configs/sft_lora.yaml"]);
    shell::run(train.arg(format!("output_dir={}", adapter.display())))?;

    let generate = golden.join("vectors/generate.json");
    let vectors: Value = serde_json::from_slice(&fs::read(&generate)?)?;
    let prompts = vectors["sft_lora"].as_array().context("no prompts")?;
    let mut chat = ferry();
    chat.args(["--json", "chat", "--model", "model", "--template", "qwen"]);
    chat.args(["--max-tokens", "64", "--adapter"]).arg(&adapter);
    for prompt in prompts {
        let text = prompt["prompt"].as_str().context("no prompt")?;
        chat.arg("--prompt").arg(question(text)?);
    }
    let answers = place.join("answers.jsonl");
    fs::write(&answers, shell::output(&mut chat)?)?;

    let mut reader = shell::command(python);
    reader.arg("tests/oracles/peft_reads.py");
    reader.arg(golden.join("model")).arg(&adapter);
    shell::run(reader.arg(&generate).arg(&answers))
}

/// Exports the golden model in four bits and as numbers; transformers with bitsandbytes must see the same in both.
fn packed(python: &Path, place: &Path) -> Result<()> {
    let libtorch = libtorch::obtain()?;
    let runtime = programs::runtime(&libtorch)?;
    let library = paths::cache()?.join("bitsandbytes-0.50.2");
    if !library.join("bitsandbytes").exists() {
        let mut install = shell::command(&libtorch::uv()?);
        install
            .args(["pip", "install", "--no-deps", "--python"])
            .arg(python);
        install.arg("--target").arg(&library);
        shell::run(install.arg("bitsandbytes==0.50.2"))?;
    }
    let golden = paths::root().join("tests/golden");
    let mut folders = Vec::new();
    for (name, more) in [
        ("numbers", "export_quantization_bit: 0"),
        (
            "packed",
            "export_quantization_bit: 4\ndouble_quantization: false",
        ),
        ("packed-twice", "export_quantization_bit: 4"),
    ] {
        let (folder, job) = (place.join(name), place.join(format!("{name}.yaml")));
        let text = format!(
            "model_name_or_path: {}\nexport_dir: {}\n{more}\n",
            golden.join("model").display(),
            folder.display()
        );
        fs::write(&job, text)?;
        let mut export = shell::command(&runtime);
        shell::run(export.envs(libtorch.environment()).arg("export").arg(&job))?;
        folders.push(folder);
    }
    let mut reader = shell::command(python);
    reader.arg("tests/oracles/packed_reads.py").args(&folders);
    shell::run(reader.env("PYTHONPATH", &library))
}

/// Packs and installs the golden model.
fn install(place: &Path) -> Result<()> {
    let (bundler, installer) = (programs::bundler()?, programs::installer()?);
    let model = paths::root().join("tests/golden/model");
    let mut files = Vec::new();
    for entry in fs::read_dir(&model)? {
        let path = entry?.path();
        let name = path.file_name().context("a file has a name")?;
        files.push(
            json!({ "path": name.to_string_lossy(), "source": { "file": { "path": path } } }),
        );
    }
    let plan = json!({
        "format": 1, "name": "oracle", "release": 1, "channel": "oracle", "accept_licenses": ["Apache-2.0"],
        "models": [{ "name": MODEL, "license": "Apache-2.0", "files": files }],
        "backends": [{ "name": "cpu", "chip": "cpu", "arch": std::env::consts::ARCH, "files": [] }],
        "installers": { std::env::consts::ARCH: { "file": { "path": installer } } },
    });
    fs::write(place.join("plan.json"), plan.to_string())?;
    let fingerprint = build(&bundler, place, "key", "plan.json", "oracle.ferry")?;
    let mut install = shell::command(&installer);
    install.args(["install", "oracle.ferry", "--yes", "--prefix", "prefix"]);
    install.args(["--trust-root", &fingerprint]);
    shell::run(install.current_dir(place))
}

/// Makes a key, locks a plan and builds it; returns the fingerprint.
fn build(bundler: &Path, place: &Path, key: &str, plan: &str, out: &str) -> Result<String> {
    fs::write(place.join("passphrase"), "a key of this folder\n")?;
    let ferry = |words: &[&str]| {
        let mut ferry = shell::command(bundler);
        ferry.env("FERRY_UV", libtorch::uv()?);
        ferry.current_dir(place).args(words);
        shell::run(&mut ferry)
    };
    let passphrase = ["--passphrase-file", "passphrase"];
    ferry(&[&["keygen", key], &passphrase[..]].concat())?;
    ferry(&["lock", plan, "-o", "ferry.lock"])?;
    let build = ["build", "ferry.lock", "--key", key, "-o", out];
    ferry(&[&build, &passphrase[..]].concat())?;
    let fingerprint = fs::read_to_string(place.join(key).join("fingerprint"))?;
    Ok(fingerprint.trim().to_owned())
}

/// transformers must load the installed model by its hub name without a network.
fn hub(python: &Path, place: &Path) -> Result<()> {
    let mut reader = demo::beyond_the_gap(python);
    reader.arg(paths::root().join("tests/oracles/hub_reads.py"));
    reader.env("HF_HUB_CACHE", place.join("prefix/current/hub"));
    shell::run(reader.env("HF_HUB_OFFLINE", "1").arg(MODEL))
}

const MODEL: &str = "ferry/golden";

/// The user's words in a rendered prompt.
fn question(prompt: &str) -> Result<&str> {
    let (_, rest) = prompt
        .rsplit_once("<|im_start|>user\n")
        .context("a prompt without a question")?;
    let (question, _) = rest.split_once("<|im_end|>").context("an open question")?;
    Ok(question)
}
