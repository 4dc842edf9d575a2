//! Whether a run of LLaMA-Factory goes on from a checkpoint, and whether it may have its folder.

use std::fs;
use std::path::{Path, PathBuf};

use report::Trouble;
use serde_json::Value;
use train::{RunFolder, TrainError, is_taken};

use super::error::EngineError;
use super::handed::Handed;

/// A checkpoint to go on from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct From {
    pub(crate) path: PathBuf,
    /// Steps done.
    pub(crate) step: u64,
    /// A newer one was cut off while it was written.
    pub(crate) skips: Option<PathBuf>,
}

/// Where the job begins. Writes nothing. Machines beyond the first find the folder as the first one has it, and leave it.
pub(crate) fn begin(handed: &Handed, is_first: bool) -> Result<Option<From>, Trouble> {
    let folder = Path::new(handed.text("output_dir").unwrap_or_default());
    if is_first && RunFolder::is_in_use(folder) {
        return Err(TrainError::InUse {
            path: folder.to_owned(),
        }
        .into());
    }
    let asked = handed.job.get("resume_from_checkpoint");
    if let Some(Value::String(path)) = asked.filter(|value| !train::asks_for_nothing(value)) {
        let path = PathBuf::from(path);
        let step = step_of(&path).unwrap_or(0);
        check(&path)?;
        return Ok(Some(From {
            path,
            step,
            skips: None,
        }));
    }
    let over = handed.job.get("overwrite_output_dir") == Some(&Value::Bool(true));
    let found = if over { None } else { newest(folder) };
    if let Some(found) = &found {
        check(&found.path)?;
    }
    let demanded = asked == Some(&Value::Bool(true));
    match found {
        None if demanded => Err(TrainError::NoCheckpoint {
            path: folder.to_owned(),
        }
        .into()),
        None if is_first && !over && is_taken(folder) => Err(TrainError::OutputTaken {
            path: folder.to_owned(),
        }
        .into()),
        found => Ok(found),
    }
}

/// The newest whole checkpoint in a folder.
fn newest(folder: &Path) -> Option<From> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut all: Vec<(u64, PathBuf)> = paths
        .filter_map(|path| Some((step_of(&path)?, path)))
        .collect();
    all.sort();
    let newest = all.last().map(|(_, path)| path.clone());
    let whole = all.into_iter().rev().find(|(_, path)| is_whole(path));
    whole.map(|(step, path)| From {
        skips: newest.filter(|newest| *newest != path),
        path,
        step,
    })
}

fn step_of(path: &Path) -> Option<u64> {
    path.file_name()?
        .to_str()?
        .strip_prefix("checkpoint-")?
        .parse()
        .ok()
}

/// transformers writes a checkpoint in its place: `trainer_state.json` last, or a note beside it until all is done.
fn is_whole(path: &Path) -> bool {
    path.join("trainer_state.json").is_file() && !path.join("checkpoint-is-incomplete.txt").exists()
}

/// The other engine keeps its state in files of its own.
fn check(path: &Path) -> Result<(), EngineError> {
    if path.join("ferry_state.json").exists() {
        return Err(EngineError::CheckpointOfNative {
            path: path.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_that_was_cut_off_is_not_gone_on_from() {
        let home = tempfile::tempdir().unwrap();
        let make = |name: &str, file: &str| {
            let folder = home.path().join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(file), "{}").unwrap();
        };
        assert_eq!(newest(home.path()), None);
        make("checkpoint-9", "trainer_state.json");
        make("checkpoint-10", "trainer_state.json");
        make("checkpoint-x", "trainer_state.json");
        let found = newest(home.path()).unwrap();
        assert_eq!((found.step, found.skips), (10, None));
        make("checkpoint-10", "checkpoint-is-incomplete.txt");
        make("checkpoint-11", "adapter_model.safetensors");
        let found = newest(home.path()).unwrap();
        assert_eq!(
            (found.step, found.path),
            (9, home.path().join("checkpoint-9"))
        );
        assert_eq!(found.skips, Some(home.path().join("checkpoint-11")));
    }
}
