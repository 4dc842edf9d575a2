//! One job file through both engines: the same losses, and nothing asked of the network.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{demo, libtorch, paths, programs, shell};

/// Golden jobs, and what the command line adds to each.
const JOBS: [(&str, &[&str]); 3] = [
    ("sft_lora", &[]),
    ("dpo_lora", &[]),
    (
        "sft_lora",
        &["--processes", "2", "gradient_accumulation_steps=1"],
    ),
];

/// How far two losses may be apart: LLaMA-Factory logs four decimals.
const NEAR: f64 = 2e-4;

/// Trains each job with both engines and compares every step.
pub(super) fn agree(python: &Path, place: &Path) -> Result<()> {
    let libtorch = libtorch::obtain()?;
    let runtime = programs::runtime(&libtorch)?;
    for (name, more) in JOBS {
        let train = |engine: &str| -> Result<Vec<f64>> {
            let output = place.join(format!("{name}-{}-{engine}", more.len()));
            // Processes that train together meet at the loopback, which a namespace without a network lacks.
            let mut ferry = if more.is_empty() {
                demo::beyond_the_gap(&runtime)
            } else {
                shell::command(&runtime)
            };
            ferry.envs(libtorch.environment());
            ferry.current_dir(paths::root().join("tests/golden"));
            ferry.arg("train").arg(format!("configs/{name}.yaml"));
            ferry
                .args(["--engine", engine, "--device", "cpu"])
                .args(more);
            if engine == "llamafactory" {
                ferry.arg("--python").arg(python);
            }
            shell::run(ferry.arg(format!("output_dir={}", output.display())))?;
            losses(&output.join("trainer_log.jsonl"))
        };
        let (ours, theirs) = (train("native")?, train("llamafactory")?);
        if ours.len() != theirs.len() || ours.len() < 2 {
            bail!("{name}: {} steps here, {} there", ours.len(), theirs.len());
        }
        let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
        let most = apart.fold(0.0, f64::max);
        if most > NEAR {
            bail!("{name} {more:?}: losses are {most} apart: {ours:?} {theirs:?}");
        }
        println!(
            "engines: {name} {more:?}: {} losses, at most {most:.1e} apart",
            ours.len()
        );
    }
    Ok(())
}

/// The losses of a run's log.
fn losses(log: &Path) -> Result<Vec<f64>> {
    let text = fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let losses = lines.filter_map(|line| line.ok()?["loss"].as_f64());
    Ok(losses.collect())
}
