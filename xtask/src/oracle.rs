//! What Ferry writes, read by the programs that its users read it with.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{bench, libtorch, paths, programs, shell};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Python with LLaMA-Factory in it; made from `PyPI` (6 GB) where none is given
    #[arg(long)]
    python: Option<PathBuf>,
}

/// Trains an adapter on the golden model; PEFT must load it and answer the same.
pub(crate) fn run(args: &Args) -> Result<()> {
    let python = bench::python(args.python.as_deref())?;
    let libtorch = libtorch::obtain()?;
    let runtime = programs::runtime(&libtorch)?;
    let golden = paths::root().join("tests/golden");
    let place = paths::root().join(".ferry/oracle");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
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

    let mut reader = shell::command(&python);
    reader.arg("tests/oracles/peft_reads.py");
    reader.arg(golden.join("model")).arg(&adapter);
    shell::run(reader.arg(&generate).arg(&answers))
}

/// The user's words in a rendered prompt.
fn question(prompt: &str) -> Result<&str> {
    let (_, rest) = prompt
        .rsplit_once("<|im_start|>user\n")
        .context("a prompt without a question")?;
    let (question, _) = rest.split_once("<|im_end|>").context("an open question")?;
    Ok(question)
}
