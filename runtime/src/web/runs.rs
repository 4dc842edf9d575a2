//! Runs as folders: listed, looked at, started, gone on with, ended and deleted.
//!
//! ```text
//! <runs>/<name>/job.yaml     what `ferry-runtime train` was given
//!               said.jsonl   what it said; locked as long as it lives
//!               run.json, trainer_log.jsonl, checkpoint-<step>/ …   the run's own, see the module of run folders
//!               exports/     see the module of exports
//! ```

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use console::Language;
use report::Trouble;
use serde_json::{Value, json};
use train::{FRONT_JOB, FRONT_SAID, Record, State};

use super::error::WebError;
use super::folders::Folders;
use super::{command, exports, job, words};
use crate::home::Home;
use crate::watch;

/// Begins the name of a folder in which a job is checked, and of a run that is being deleted.
pub(super) const CHECK: &str = ".check-";
const DELETED: &str = ".deleted-";

/// Runs that are listed.
const MOST: usize = 2000;
/// Bytes of a file that are looked at whole.
const LARGEST: u64 = 32 << 20;
/// Bytes at the end of a log.
const END: u64 = 64 << 10;

/// All runs, the newest first.
pub(super) fn list(folders: &Folders, language: Language) -> Value {
    let entries = fs::read_dir(&folders.runs).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut runs: Vec<Value> = names
        .filter_map(|name| {
            let folder = folders.run(&name).ok()?;
            is_run(&folder).then(|| summary(&name, &folder, language))
        })
        .take(MOST)
        .collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run["started"].as_u64()));
    Value::Array(runs)
}

/// Whether a run was ever in this folder.
fn is_run(folder: &Path) -> bool {
    folder.join("run.json").is_file() || folder.join(FRONT_SAID).is_file()
}

/// How a run stands.
pub(super) fn summary(name: &str, folder: &Path, language: Language) -> Value {
    let record = Record::of(folder);
    let alive = command::lives(&folder.join(FRONT_SAID));
    let last = last_lines(&folder.join("trainer_log.jsonl"));
    let last = last.iter().rev().find(|line| line["loss"].is_number());
    let last = last.cloned().unwrap_or_default();
    let step = last["current_steps"].as_u64().unwrap_or(0);
    let path = folder.display().to_string();
    let mut shown = match &record {
        Ok(Some(record)) => json!({
            "state": record.state, "said": words::standing(language, record, step, &path),
            "started": record.started, "ended": record.ended, "pid": record.pid,
            "total_steps": record.total_steps, "resumed_at": record.resumed_at, "program": record.program,
        }),
        Ok(None) => json!({"state": "failed"}),
        Err(_) => json!({"state": "unreadable"}),
    };
    let works = matches!(&record, Ok(Some(record)) if record.state == State::Running);
    let ended_before = !works && !alive;
    if alive && !works {
        // What has written how it ended may take a while to go; anything else is a new beginning.
        let goes = matches!(&record, Ok(Some(record)) if is_process(record.pid));
        shown["state"] = if goes { "ending" } else { "starting" }.into();
    } else if ended_before && let Some(error) = refusal(folder) {
        // It ended before it was a run, or a second time before it was one again.
        shown["error"] = words::explained(language, error);
    }
    if shown["started"].is_null() {
        let made = fs::metadata(folder.join(FRONT_JOB)).and_then(|found| found.modified());
        let made = made
            .ok()
            .and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
        shown["started"] = made.map(|made| made.as_secs()).into();
    }
    shown["name"] = name.into();
    shown["path"] = path.into();
    shown["last"] = last;
    shown["asked_to_stop"] = train::is_asked_to_stop(folder).into();
    shown
}

fn is_process(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The error that the command ended with, where that is the last thing that it said.
fn refusal(folder: &Path) -> Option<Value> {
    let last = last_lines(&folder.join(FRONT_SAID));
    last.last()?.get("error").cloned()
}

/// Everything about a run that does not change from moment to moment.
pub(super) fn detail(name: &str, folder: &Path, language: Language) -> Value {
    let job = text(&folder.join(FRONT_JOB)).unwrap_or_default();
    let given = text(&folder.join("job.json")).unwrap_or_default();
    let ran: Value = serde_json::from_str(&given).unwrap_or_default();
    let key = |key: &str| job::word(&job, key).or_else(|| ran[key].as_str().map(str::to_owned));
    let mut shown = summary(name, folder, language);
    shown["job"] = job.clone().into();
    shown["model"] = key("model_name_or_path").into();
    shown["dataset"] = key("dataset").into();
    shown["method"] = key("finetuning_type")
        .unwrap_or_else(|| "lora".to_owned())
        .into();
    shown["template"] = key("template").into();
    shown["adapter"] = folder.join("adapter_config.json").is_file().into();
    shown["whole"] = folder.join("config.json").is_file().into();
    shown["checkpoints"] = checkpoints(folder).into();
    shown["exports"] = exports::list(folder, language);
    shown["results"] = results(folder);
    shown
}

/// Steps of the checkpoints.
fn checkpoints(folder: &Path) -> Vec<u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let steps = names.filter_map(|name| name.strip_prefix("checkpoint-")?.parse().ok());
    let mut steps: Vec<u64> = steps.collect();
    steps.sort_unstable();
    steps
}

/// `all_results.json`, and the gradient norms of the newest `trainer_state.json`.
fn results(folder: &Path) -> Value {
    let parsed = |path: &Path| -> Value {
        serde_json::from_str(&text(path).unwrap_or_default()).unwrap_or_default()
    };
    let newest = checkpoints(folder).pop();
    let newest = newest.map(|step| folder.join(format!("checkpoint-{step}/trainer_state.json")));
    let whole = folder.join("trainer_state.json");
    let path = Some(whole).filter(|path| path.is_file()).or(newest);
    let state = path.map(|path| parsed(&path)).unwrap_or_default();
    let points = state["log_history"].as_array().into_iter().flatten();
    let norms = points.filter_map(|point| {
        let (step, norm) = (point["step"].as_u64()?, point["grad_norm"].as_f64()?);
        Some(json!([step, norm]))
    });
    json!({
        "all": parsed(&folder.join("all_results.json")), "grad_norms": norms.collect::<Vec<_>>(),
    })
}

/// Starts a run of the name `name` with the job `text`.
pub(super) fn start(
    folders: &Folders,
    home: &Home,
    name: &str,
    text: &str,
) -> Result<Value, Trouble> {
    let folder = folders.new_run(name)?;
    job::confine(text, folders, home)?;
    job::writes_to(text, &folder)?;
    fs::create_dir(&folder).map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => WebError::NameTaken {
            name: name.to_owned(),
        },
        _ => WebError::Write {
            path: folder.clone(),
            source,
        },
    })?;
    train::save_file(&folder, FRONT_JOB, text.as_bytes())?;
    train_on(folders, &folder, &[])?;
    Ok(json!({"name": name}))
}

/// Starts a run's job again: from its newest checkpoint, or the one of `step`.
pub(super) fn resume(
    folders: &Folders,
    home: &Home,
    name: &str,
    step: Option<u64>,
) -> Result<Value, Trouble> {
    let folder = folders.run(name)?;
    let path = folder.join(FRONT_JOB);
    let text = fs::read_to_string(&path).map_err(|source| WebError::Read { path, source })?;
    // Somebody else may have written it.
    job::confine(&text, folders, home)?;
    job::writes_to(&text, &folder)?;
    if is_working(&folder) {
        return Err(WebError::Works {
            name: name.to_owned(),
        }
        .into());
    }
    let from = step.map(|step| {
        let folder = folder.join(format!("checkpoint-{step}"));
        format!("resume_from_checkpoint={}", folder.display())
    });
    let results = ["adapter_model.safetensors", "config.json"];
    let nothing =
        checkpoints(&folder).is_empty() && !results.iter().any(|file| folder.join(file).exists());
    // A run that left neither checkpoint nor result begins anew; else a job that says so would delete what there is.
    let on = format!("overwrite_output_dir={nothing}");
    let settings: Vec<String> = from.into_iter().chain([on]).collect();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    train_on(folders, &folder, &settings)?;
    Ok(json!({"name": name}))
}

fn train_on(folders: &Folders, folder: &Path, settings: &[&str]) -> Result<(), WebError> {
    let job = folder.join(FRONT_JOB).display().to_string();
    let mut arguments = vec!["train", "--own-session", job.as_str()];
    arguments.extend(settings);
    command::leave(&arguments, &folders.runs, &folder.join(FRONT_SAID))
}

/// Removes what a server that was killed left: checks, and runs that were being deleted.
pub(super) fn tidy(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let passing = name.starts_with(CHECK) || name.starts_with(DELETED);
        if passing && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _gone = fs::remove_dir_all(entry.path());
        }
    }
}

/// Asks a run to end after its step and save.
pub(super) fn stop(folders: &Folders, name: &str) -> Result<Value, Trouble> {
    let folder = folders.run(name)?;
    Ok(json!({"asked": watch::ask_to_end(&folder)?}))
}

/// Deletes a run that does not work, once its name was repeated.
pub(super) fn delete(folders: &Folders, name: &str, again: &str) -> Result<Value, Trouble> {
    let folder = folders.run(name)?;
    if !is_run(&folder) {
        return Err(WebError::NoRun {
            name: name.to_owned(),
        }
        .into());
    }
    if again != name {
        return Err(WebError::NotConfirmed.into());
    }
    if is_working(&folder) || exports::any_works(&folder) {
        return Err(WebError::Works {
            name: name.to_owned(),
        }
        .into());
    }
    // It is gone at once, and however long deleting takes no half of it looks like a run.
    let beside = folders.runs.join(format!("{DELETED}{name}"));
    let gone = fs::remove_dir_all(&beside).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    let gone = gone.and_then(|()| fs::rename(&folder, &beside));
    gone.and_then(|()| fs::remove_dir_all(&beside))
        .map_err(|source| WebError::Write {
            path: folder,
            source,
        })?;
    Ok(json!({"deleted": name}))
}

fn is_working(folder: &Path) -> bool {
    let record = Record::of(folder);
    let running = matches!(record, Ok(Some(record)) if record.state == State::Running);
    running || command::lives(&folder.join(FRONT_SAID))
}

/// A file as text, if it is not too large.
pub(super) fn text(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    if !found.is_file() || found.len() > LARGEST {
        return None;
    }
    fs::read_to_string(path).ok()
}

/// The JSON lines at the end of a log.
pub(super) fn last_lines(path: &Path) -> Vec<Value> {
    let end = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(END)))?;
        let mut bytes = Vec::new();
        file.take(END).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = end().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines = text.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
