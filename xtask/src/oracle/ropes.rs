//! Rules that stretch positions: LLaMA-Factory trains on a model that has each of them, and so does Ferry.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{libtorch, paths, programs, shell};

const JOB: &str = "sft_ropes";

/// How far losses and gradient norms may be apart.
const NEAR: [(&str, f64); 2] = [("loss", 1e-4), ("grad_norm", 1e-3)];

/// Trains each model with both and compares every step, also with the trace that the tests follow.
pub(super) fn agree(python: &Path, place: &Path) -> Result<()> {
    let libtorch = libtorch::obtain()?;
    let runtime = programs::runtime(&libtorch)?;
    let golden = paths::root().join("tests/golden");
    let rules = read(&golden.join("ropes.json"))?;
    let rules = rules.as_object().context("no rules")?;
    let traces = place.join("traces");
    let mut original = shell::command(python);
    original.arg(golden.join("make/trace.py"));
    original.arg("--out").arg(&traces);
    shell::run(original.args(rules.keys().map(|rule| format!("{JOB}-{rule}"))))?;
    for (rule, fields) in rules {
        let name = format!("{JOB}-{rule}");
        let theirs = traced(&traces.join(&name))?;
        near(
            &name,
            "the trace",
            &traced(&golden.join("traces").join(&name))?,
            &theirs,
        )?;
        let (model, output) = (place.join(rule), place.join(&name));
        changed(&golden.join("model"), &model, fields)?;
        let mut ferry = shell::command(&runtime);
        ferry.envs(libtorch.environment()).current_dir(&golden);
        ferry.args(["train", &format!("configs/{JOB}.yaml")]);
        ferry.args(["--device", "cpu", "--threads", "1"]);
        ferry.arg(format!("model_name_or_path={}", model.display()));
        shell::run(ferry.arg(format!("output_dir={}", output.display())))?;
        let state = read(&output.join("trainer_state.json"))?;
        let points = state["log_history"].as_array().context("no history")?;
        let ours: Vec<Value> = points
            .iter()
            .filter(|p| p["loss"].is_f64())
            .cloned()
            .collect();
        let most = near(&name, "Ferry", &ours, &theirs)?;
        println!(
            "ropes: {rule}: {} steps, losses at most {most:.1e} apart",
            ours.len()
        );
    }
    Ok(())
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// What the original logged of each step.
fn traced(folder: &Path) -> Result<Vec<Value>> {
    let trace = read(&folder.join("trace.json"))?;
    let steps = trace["steps"].as_array().context("no steps")?;
    Ok(steps.iter().map(|step| step["logged"].clone()).collect())
}

/// A copy of a model with these fields in its configuration.
fn changed(model: &Path, copy: &Path, fields: &Value) -> Result<()> {
    fs::create_dir(copy)?;
    for file in fs::read_dir(model)? {
        let file = file?;
        fs::copy(file.path(), copy.join(file.file_name()))?;
    }
    let path = copy.join("config.json");
    let mut config = read(&path)?;
    for (name, value) in fields.as_object().context("no fields")? {
        config[name] = value.clone();
    }
    fs::write(path, config.to_string())?;
    Ok(())
}

/// Returns how far the losses are apart at most.
fn near(name: &str, whose: &str, found: &[Value], wanted: &[Value]) -> Result<f64> {
    ensure!(
        found.len() == wanted.len() && found.len() > 2,
        "{name}: {} steps of {whose}, {} of the original",
        found.len(),
        wanted.len()
    );
    let mut most = [0.0_f64; NEAR.len()];
    for (found, wanted) in found.iter().zip(wanted) {
        for ((figure, near), most) in NEAR.iter().zip(&mut most) {
            let number = |point: &Value| point[*figure].as_f64().context("no number");
            let apart = (number(found)? - number(wanted)?).abs();
            ensure!(
                apart < *near,
                "{name}: {whose} is {apart} off in `{figure}`"
            );
            *most = most.max(apart);
        }
    }
    Ok(most[0])
}
