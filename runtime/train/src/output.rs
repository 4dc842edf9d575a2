//! What a run leaves, in the original's form.
//!
//! ```text
//! <output_dir>/trainer_log.jsonl    one line a log point, as it happens
//!              trainer_state.json   all of them, replaced whole
//!              train_results.json, all_results.json
//!              training_loss.svg, training_loss.png
//!              job.json             the keys the job ran with
//!              checkpoint-<step>/   the weights after that step
//! ```
//!
//! Every file but the log is written beside its place and renamed, so a reader sees a whole one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::trainer::{TrainError, Trainer};

/// The output folder of one run.
pub(crate) struct Output {
    folder: PathBuf,
    log: File,
    /// Steps of this run's checkpoints, oldest first. Those of an overwritten run are left alone.
    checkpoints: Vec<u64>,
}

impl Output {
    /// Makes the folder. One that holds something is taken only if `overwrite` is set.
    pub(crate) fn open(folder: &Path, overwrite: bool) -> Result<Self, TrainError> {
        let write = |source| TrainError::Write {
            path: folder.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(write)?;
        let mut entries = fs::read_dir(folder).map_err(write)?;
        if !overwrite && entries.next().is_some() {
            return Err(TrainError::OutputTaken {
                path: folder.to_owned(),
            });
        }
        let path = folder.join("trainer_log.jsonl");
        let log = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(&path)
            .map_err(|source| TrainError::Write { path, source })?;
        Ok(Self {
            folder: folder.to_owned(),
            log,
            checkpoints: Vec::new(),
        })
    }

    /// Adds one line to the log.
    pub(crate) fn log(&mut self, line: &Value) -> Result<(), TrainError> {
        let text = format!("{line}\n");
        let written = self.log.write_all(text.as_bytes());
        written.map_err(|source| TrainError::Write {
            path: self.folder.join("trainer_log.jsonl"),
            source,
        })
    }

    /// Writes a JSON file, indented by `indent` blanks as the original does.
    pub(crate) fn json(&self, name: &str, value: &Value, indent: usize) -> Result<(), TrainError> {
        let blanks = " ".repeat(indent);
        let mut bytes = Vec::new();
        let formatter = PrettyFormatter::with_indent(blanks.as_bytes());
        value
            .serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
            .map_err(|error| TrainError::Write {
                path: self.folder.join(name),
                source: error.into(),
            })?;
        bytes.push(b'\n');
        self.file(name, &bytes)
    }

    /// Writes a file beside its place and renames it.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        let path = self.folder.join(name);
        let beside = self.folder.join(format!(".{name}.partial"));
        let written = File::create(&beside).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(|source| TrainError::Write { path, source })
    }

    /// Saves the weights as `checkpoint-<step>` and deletes the oldest beyond `limit`.
    pub(crate) fn checkpoint(
        &mut self,
        trainer: &mut dyn Trainer,
        step: u64,
        limit: Option<usize>,
        state: &Value,
    ) -> Result<(), TrainError> {
        let path = self.folder.join(format!("{CHECKPOINT}{step}"));
        let beside = self.save_beside(trainer)?;
        let fault = |source| TrainError::Write {
            path: path.clone(),
            source,
        };
        let state = format!("{state:#}\n");
        fs::write(beside.join("trainer_state.json"), state).map_err(fault)?;
        remove_if_there(&path).map_err(fault)?;
        fs::rename(&beside, &path).map_err(fault)?;
        self.checkpoints.push(step);
        while self.checkpoints.len() > limit.unwrap_or(usize::MAX) {
            let oldest = self.checkpoints.remove(0);
            remove_if_there(&self.folder.join(format!("{CHECKPOINT}{oldest}"))).map_err(fault)?;
        }
        Ok(())
    }

    /// Saves the weights into the folder itself.
    pub(crate) fn weights(&self, trainer: &mut dyn Trainer) -> Result<(), TrainError> {
        let beside = self.save_beside(trainer)?;
        let moved = fs::read_dir(&beside).and_then(|entries| {
            for entry in entries {
                let entry = entry?;
                fs::rename(entry.path(), self.folder.join(entry.file_name()))?;
            }
            fs::remove_dir(&beside)
        });
        moved.map_err(|source| TrainError::Write {
            path: self.folder.clone(),
            source,
        })
    }

    fn save_beside(&self, trainer: &mut dyn Trainer) -> Result<PathBuf, TrainError> {
        let beside = self.folder.join(".weights.partial");
        let made = remove_if_there(&beside).and_then(|()| fs::create_dir(&beside));
        made.map_err(|source| TrainError::Write {
            path: beside.clone(),
            source,
        })?;
        trainer.save(&beside)?;
        Ok(beside)
    }
}

const CHECKPOINT: &str = "checkpoint-";

fn remove_if_there(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
