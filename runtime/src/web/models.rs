//! The models of the local repository.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use console::Language;
use report::Trouble;
use serde_json::{Value, json};
use train::ModelShape;

use super::words;
use crate::home::Home;

/// Models that are listed.
const MOST: usize = 2000;
/// Folders below the repository in which models lie: `org/name`.
const DEPTH: usize = 2;
/// Bytes of a file that are looked at.
const LARGEST: u64 = 64 << 20;

/// All models below `folder`, by name.
pub(super) fn list(folder: Option<&Path>, home: &Home, language: Language) -> Value {
    let Some(folder) = folder else {
        return json!([]);
    };
    let mut found = Vec::new();
    search(folder, DEPTH, &mut found);
    found.sort();
    found.truncate(MOST);
    let licences = licences(home);
    let models = found.iter().map(|path| {
        let name = path.strip_prefix(folder).unwrap_or(path);
        let name = name.display().to_string();
        let mut model = describe(path, language);
        let licence = licences.get(&name).cloned();
        model["license"] = licence.or_else(|| stated(path)).into();
        model["name"] = name.into();
        model["path"] = path.display().to_string().into();
        model["bytes"] = bytes(path).into();
        model
    });
    Value::Array(models.collect())
}

/// Folders with a `config.json`, and GGUF files.
fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden || found.len() > MOST {
            continue;
        }
        let gguf = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        if path.is_file() && gguf || path.join("config.json").is_file() {
            found.push(path);
        } else if depth > 0 && path.is_dir() {
            search(&path, depth - 1, found);
        }
    }
}

/// Family and size, or why the native engine does not train it. What is in a GGUF file shows when it is opened.
fn describe(path: &Path, language: Language) -> Value {
    if path.is_file() {
        return json!({"kind": "gguf", "native": true});
    }
    let config = read(&path.join("config.json")).unwrap_or_default();
    let config: Value = serde_json::from_slice(&config).unwrap_or_default();
    let family = config["model_type"].as_str().unwrap_or_default();
    let shape = ModelShape::read(path);
    let parameters = shape.as_ref().ok().map(ModelShape::parameters);
    let why = shape.err();
    let why = why.map(|error| words::trouble(language, &Trouble::from(error)));
    let known = torch_backend::is_known_family(family);
    json!({
        "kind": "folder", "family": family, "parameters": parameters, "native": known && why.is_none(),
        "why": why,
    })
}

/// Bytes of its files.
fn bytes(path: &Path) -> u64 {
    let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    if path.is_file() {
        return size(path);
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .map(|path| size(&path))
        .sum()
}

/// Licences by the models' names, as the release states them.
fn licences(home: &Home) -> BTreeMap<String, String> {
    let profiles = home.release.as_ref();
    let profiles = profiles.and_then(|release| read(&release.join("meta/profiles.json")));
    let profiles: Value = serde_json::from_slice(&profiles.unwrap_or_default()).unwrap_or_default();
    let models = profiles["models"].as_array().into_iter().flatten();
    let pair = |model: &Value| {
        let (name, licence) = (model["name"].as_str()?, model["license"].as_str()?);
        Some((name.to_owned(), licence.to_owned()))
    };
    models.filter_map(pair).collect()
}

/// The licence that the model's own page states at its head.
fn stated(path: &Path) -> Option<String> {
    let text = read(&path.join("README.md"))?;
    let text = String::from_utf8_lossy(&text);
    let head = text.strip_prefix("---")?.split("\n---").next()?;
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("license:"))?;
    let word = line.trim().trim_matches(['"', '\'']);
    (!word.is_empty()).then(|| word.chars().take(80).collect())
}

fn read(path: &Path) -> Option<Vec<u8>> {
    // Opening a pipe would wait for whoever writes into it.
    if !path.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let mut file = File::open(path).ok()?.take(LARGEST);
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
