//! Exports of a run: its result as a model of its own, in the run's folder.
//!
//! ```text
//! <run>/exports/<name>.yaml    what `ferry-runtime export` was given
//!               <name>.jsonl   what it said; locked as long as it lives
//!               <name>/        the model
//! ```

use std::fs;
use std::path::Path;

use console::Language;
use report::Trouble;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::WebError;
use super::folders::{Folders, checked};
use super::{command, runs, words};

/// What the page asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// Of the new folder.
    name: String,
    /// `auto`, `float32`, `bfloat16` or `float16`.
    numbers: String,
    /// Gigabytes a file.
    shard: u64,
    /// The matrices are packed into four bits.
    four_bit: bool,
}

/// Starts an export of a run.
pub(super) fn start(folders: &Folders, run: &str, wish: &Wish) -> Result<Value, Trouble> {
    let folder = folders.run(run)?;
    let name = checked(&wish.name)?;
    let place = folder.join("exports");
    let target = place.join(name);
    let job = place.join(format!("{name}.yaml"));
    if target.exists() || job.exists() {
        return Err(WebError::NameTaken {
            name: name.to_owned(),
        }
        .into());
    }
    let detail = runs::detail(run, &folder, Language::En);
    let mut keys = serde_json::Map::new();
    if folder.join("adapter_config.json").is_file() {
        keys.insert("model_name_or_path".into(), detail["model"].clone());
        keys.insert("adapter_name_or_path".into(), json!(folder));
    } else {
        keys.insert("model_name_or_path".into(), json!(folder));
    }
    if detail["template"].is_string() {
        keys.insert("template".into(), detail["template"].clone());
    }
    keys.insert("export_dir".into(), json!(target));
    keys.insert("export_size".into(), json!(wish.shard));
    keys.insert("infer_dtype".into(), json!(wish.numbers));
    if wish.four_bit {
        keys.insert("export_quantization_bit".into(), json!(4));
    }
    // One key a line, so that messages name it.
    let lines = keys.iter().map(|(key, value)| format!("{key}: {value}\n"));
    let text: String = lines.collect();
    fs::create_dir_all(&place).map_err(|source| WebError::Write {
        path: place.clone(),
        source,
    })?;
    train::save_file(&place, &format!("{name}.yaml"), text.as_bytes())?;
    let path = job.display().to_string();
    let arguments = ["export", "--own-session", path.as_str()];
    command::leave(&arguments, &folders.runs, &said(&place, name))?;
    Ok(json!({"name": name}))
}

/// The exports of a run, and how they stand.
pub(super) fn list(folder: &Path, language: Language) -> Value {
    let place = folder.join("exports");
    let mut names = names(&place);
    names.sort();
    let shown = names.into_iter().map(|name| {
        let said = said(&place, &name);
        let lines = runs::last_lines(&said);
        let last = lines.last().cloned().unwrap_or_default();
        let target = place.join(&name);
        let mut shown = json!({"name": name, "path": target});
        if command::lives(&said) {
            shown["state"] = "running".into();
            let step = lines.iter().rev().find(|line| line["event"] == "progress");
            let started = lines
                .iter()
                .rev()
                .find(|line| line["event"] == "step_started");
            shown["done"] = step.map(|step| step["done"].clone()).into();
            shown["total"] = started.map(|step| step["total"].clone()).into();
        } else if let Some(error) = last.get("error") {
            shown["state"] = "failed".into();
            shown["error"] = words::explained(language, error.clone());
        } else if target.join("export.json").is_file() {
            shown["state"] = "done".into();
            shown["bytes"] = last["bytes"].clone();
            shown["files"] = last["files"].clone();
            shown["dtype"] = last["dtype"].clone();
        } else {
            shown["state"] = "cut_off".into();
        }
        shown
    });
    Value::Array(shown.collect())
}

/// Whether one is being made.
pub(super) fn any_works(folder: &Path) -> bool {
    let place = folder.join("exports");
    let names = names(&place).into_iter();
    names
        .map(|name| said(&place, &name))
        .any(|said| command::lives(&said))
}

fn names(place: &Path) -> Vec<String> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned));
    names.filter(|name| checked(name).is_ok()).collect()
}

fn said(place: &Path, name: &str) -> std::path::PathBuf {
    place.join(format!("{name}.jsonl"))
}
