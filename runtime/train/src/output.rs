//! What a run leaves, in the original's form.
//!
//! ```text
//! <output_dir>/trainer_log.jsonl    one line a log point, as it happens
//!              trainer_state.json   all of them, replaced whole
//!              train_results.json, eval_results.json, all_results.json
//!              training_loss.svg, training_loss.png
//!              job.json             the keys the job ran with
//!              run.json, run.lock   see the module of run folders
//!              checkpoint-<step>/   see the module of checkpoints
//! ```
//!
//! Every file but the log is written beside its place and renamed, so a reader sees a whole one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::checkpoint::{self, PREFIX, WEIGHTS_PARTIAL, remove_if_there};
use crate::run_folder::is_record;
use crate::trainer::{TrainError, Trainer};

/// The output folder of one run.
pub(crate) struct Output {
    folder: PathBuf,
    /// Absent in a process that writes nothing.
    log: Option<File>,
    /// Steps of this run's checkpoints, oldest first.
    checkpoints: Vec<u64>,
}

/// How a run begins in its output folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Start {
    /// In a folder that is empty or new.
    Fresh,
    /// In any folder; what an older run left is replaced.
    Over,
    /// After so many steps, whose log lines stay.
    After(u64),
}

const LOG: &str = "trainer_log.jsonl";

impl Output {
    /// Makes the folder.
    pub(crate) fn open(folder: &Path, start: Start) -> Result<Self, TrainError> {
        let write = |source| TrainError::Write {
            path: folder.to_owned(),
            source,
        };
        if start == Start::Fresh && is_taken(folder) {
            return Err(TrainError::OutputTaken {
                path: folder.to_owned(),
            });
        }
        fs::create_dir_all(folder).map_err(write)?;
        checkpoint::tidy(folder).map_err(write)?;
        let mut checkpoints = checkpoint::steps(folder);
        let kept = match start {
            Start::After(step) => {
                checkpoints.retain(|made| *made <= step);
                lines_until(&folder.join(LOG), step).map_err(write)?
            }
            Start::Fresh | Start::Over => {
                // Left there, a newer one of another run would be taken for this run's.
                for step in checkpoints.drain(..) {
                    remove_if_there(&folder.join(format!("{PREFIX}{step}"))).map_err(write)?;
                }
                String::new()
            }
        };
        let path = folder.join(LOG);
        let log = reopened(&path, &kept).map_err(|source| TrainError::Write { path, source })?;
        Ok(Self {
            folder: folder.to_owned(),
            log: Some(log),
            checkpoints,
        })
    }

    /// The folder as a process sees it that leaves all writing to another one, which has opened it.
    pub(crate) fn of_other(folder: &Path, start: Start) -> Self {
        let mut checkpoints = checkpoint::steps(folder);
        if let Start::After(step) = start {
            checkpoints.retain(|made| *made <= step);
        }
        Self {
            folder: folder.to_owned(),
            log: None,
            checkpoints,
        }
    }

    /// Adds one line to the log.
    pub(crate) fn log(&mut self, line: &Value) -> Result<(), TrainError> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        let text = format!("{line}\n");
        let written = log.write_all(text.as_bytes());
        written.map_err(|source| TrainError::Write {
            path: self.folder.join(LOG),
            source,
        })
    }

    /// Writes a JSON file, indented by `indent` blanks as the original does.
    pub(crate) fn json(&self, name: &str, value: &Value, indent: usize) -> Result<(), TrainError> {
        let bytes = indented(value, indent).map_err(|source| TrainError::Write {
            path: self.folder.join(name),
            source,
        })?;
        self.file(name, &bytes)
    }

    /// Writes a file beside its place and renames it.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
        if self.log.is_none() {
            return Ok(());
        }
        placed(&self.folder, name, bytes)
    }

    /// Lets `write` fill `checkpoint-<step>`, then deletes the oldest beyond `limit`, but never the best.
    pub(crate) fn checkpoint(
        &mut self,
        step: u64,
        limit: Option<usize>,
        best: Option<u64>,
        write: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        if self.log.is_some() {
            checkpoint::place(&self.folder, step, write)?;
        }
        self.checkpoints.retain(|made| *made != step);
        self.checkpoints.push(step);
        // The best one may be the only one beyond the newest.
        while self.checkpoints.len() > limit.unwrap_or(usize::MAX) {
            let spare = |made: &u64| Some(*made) != best && *made != step;
            let Some(oldest) = self.checkpoints.iter().position(spare) else {
                break;
            };
            let oldest = self.checkpoints.remove(oldest);
            let oldest = self.path_of(oldest);
            if self.log.is_none() {
                continue;
            }
            remove_if_there(&oldest).map_err(|source| TrainError::Write {
                path: oldest,
                source,
            })?;
        }
        Ok(())
    }

    /// The folder of the checkpoint of `step`.
    pub(crate) fn path_of(&self, step: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{step}"))
    }

    /// Whether the checkpoint of `step` is there.
    pub(crate) fn has(&self, step: u64) -> bool {
        self.checkpoints.contains(&step)
    }

    /// Saves the weights into the folder itself.
    pub(crate) fn weights(&self, trainer: &mut dyn Trainer) -> Result<(), TrainError> {
        if self.log.is_none() {
            return Ok(());
        }
        let beside = self.folder.join(WEIGHTS_PARTIAL);
        let fault = |source| TrainError::Write {
            path: self.folder.clone(),
            source,
        };
        let made = remove_if_there(&beside).and_then(|()| fs::create_dir(&beside));
        made.map_err(fault)?;
        trainer.save(&beside)?;
        let moved = fs::read_dir(&beside).and_then(|entries| {
            for entry in entries {
                let entry = entry?;
                fs::rename(entry.path(), self.folder.join(entry.file_name()))?;
            }
            fs::remove_dir(&beside)
        });
        moved.map_err(fault)
    }
}

/// Writes a file beside its place in `folder` and renames it.
pub(crate) fn placed(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), TrainError> {
    let path = folder.join(name);
    let beside = folder.join(format!(".{name}.partial"));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(|source| TrainError::Write { path, source })
}

/// Whether a folder holds something, or its place something else.
pub fn is_taken(folder: &Path) -> bool {
    match fs::read_dir(folder) {
        Ok(mut entries) => entries.any(|entry| entry.map_or(true, |entry| !is_record(&entry))),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// A value as the original indents it, with a line end.
pub(crate) fn indented(value: &Value, indent: usize) -> io::Result<Vec<u8>> {
    let blanks = " ".repeat(indent);
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(blanks.as_bytes());
    value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The lines of a log up to `step`; later ones will be written again.
fn lines_until(path: &Path, step: u64) -> io::Result<String> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        read => read?,
    };
    let mut kept = String::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        // The closing line of a run has neither kind of loss; another follows.
        let closes = value.get("loss").is_none() && value.get("eval_loss").is_none();
        if value["current_steps"].as_u64().is_some_and(|at| at <= step) && !closes {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Ok(kept)
}

/// Puts `kept` in the place of the file at `path`, to be written on.
fn reopened(path: &Path, kept: &str) -> io::Result<File> {
    let beside = path.with_extension("jsonl.partial");
    let mut file = File::create(&beside)?;
    file.write_all(kept.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    OpenOptions::new().append(true).open(path)
}
