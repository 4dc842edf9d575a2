//! Checkpoints: whole or not there, and enough to go on as if nothing had happened.
//!
//! ```text
//! <output_dir>/checkpoint-<step>/           complete: renamed only after each file was flushed
//!     <weights>  <optimizer state>          what the trainer writes
//!     trainer_state.json                    as the original writes it
//!     ferry_state.json                      the run so far, and the sizes of the other files
//! <output_dir>/.checkpoint-<step>.partial   unfinished; removed by the next run
//! <output_dir>/.checkpoint-<step>.old       replaced by one of the same step; put back if that did not come about
//! ```
//!
//! What is drawn by chance depends on seed and step alone, and the order of the examples on seed and epoch, so the
//! number of the step is all that has to be kept of either.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use train_data::Item;

use crate::job::{Job, Resume};
use crate::trainer::{StepReport, TrainError};

/// Start of a checkpoint's name; its step follows.
pub(crate) const PREFIX: &str = "checkpoint-";

/// The run so far, in a checkpoint.
const STATE: &str = "ferry_state.json";

/// A newer program may write what this one does not understand.
const VERSION: u32 = 1;

/// A run so far.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Progress {
    /// Optimizer steps done.
    pub(crate) step: u64,
    /// Of these, steps in which nothing was learnt because gradients overflowed; the schedule does not count them.
    #[serde(default)]
    pub(crate) skipped: u64,
    /// Epochs done.
    pub(crate) epoch: f64,
    /// Tokens seen, padding included.
    pub(crate) tokens: u64,
    /// Seconds that it took.
    pub(crate) seconds: f64,
    /// Loss of every step.
    pub(crate) losses: Vec<f64>,
    /// Loss of every evaluation with its step.
    pub(crate) evaluations: Vec<(u64, f64)>,
    /// Steps that a log line has covered.
    pub(crate) logged: usize,
    /// Log points as the original keeps them.
    pub(crate) history: Vec<Value>,
    /// The least evaluation loss, and its step.
    pub(crate) best: Option<(u64, f64)>,
    /// Evaluations since then.
    pub(crate) misses: u64,
    /// Sums of the steps' other figures since the last log line, with their counts.
    pub(crate) figures: Vec<(String, f64, u64)>,
    /// Where a stream is: its epoch, and how many items of that were dealt.
    #[serde(default)]
    pub(crate) stream: Option<(u64, usize)>,
}

impl Progress {
    /// Adds a point with the figures of step `step` to the history.
    pub(crate) fn note(&mut self, figures: &Map<String, Value>, step: u64) {
        let mut point = Map::new();
        point.insert("epoch".into(), self.epoch.into());
        point.extend(figures.clone());
        point.insert("step".into(), step.into());
        self.history.push(Value::Object(point));
    }

    /// Adds a step's figures to those of the next log line.
    pub(crate) fn gather(&mut self, report: &StepReport) {
        for (name, value) in &report.metrics {
            match self.figures.iter_mut().find(|(known, _, _)| known == name) {
                Some((_, sum, count)) => {
                    *sum += value;
                    *count += 1;
                }
                None => self.figures.push(((*name).to_owned(), *value, 1)),
            }
        }
    }

    /// Takes note of an evaluation. As in the original the first of equals is the best.
    pub(crate) fn judge(&mut self, loss: f64) {
        if self.best.is_none_or(|(_, least)| loss < least) {
            self.best = Some((self.step, loss));
            self.misses = 0;
        } else {
            self.misses += 1;
        }
    }

    /// The means of the gathered figures; starts over.
    pub(crate) fn means(&mut self) -> Vec<(String, f64)> {
        let gathered = self.figures.drain(..);
        gathered
            .map(|(name, sum, count)| (name, sum / count as f64))
            .collect()
    }
}

/// What must be the same for a run to go on where it was.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Order {
    examples: usize,
    content: String,
    batch_size: usize,
    gradient_accumulation_steps: usize,
    data_seed: u64,
    disable_shuffling: bool,
    seed: u64,
    /// A checkpoint that does not say was written by one.
    #[serde(default = "one")]
    processes: usize,
}

fn one() -> usize {
    1
}

impl Order {
    pub(crate) fn of(job: &Job, items: &[Item], processes: usize) -> Self {
        Self {
            examples: items.len(),
            content: format!("{:016x}", digest(items)),
            batch_size: job.batch_size,
            gradient_accumulation_steps: job.gradient_accumulation_steps,
            data_seed: job.data_seed,
            disable_shuffling: job.disable_shuffling,
            seed: job.seed,
            processes,
        }
    }

    /// Of examples that nobody has counted, and that `content` stands for.
    pub(crate) fn streamed(job: &Job, content: String) -> Self {
        Self {
            content,
            ..Self::of(job, &[], 1)
        }
    }

    /// The first difference: what it is, what the checkpoint has, what the job has.
    fn difference(&self, now: &Self) -> Option<(&'static str, String, String)> {
        let pair = |name, then: &dyn ToString, now: &dyn ToString| {
            (name, then.to_string(), now.to_string())
        };
        [
            pair("examples", &self.examples, &now.examples),
            pair("content of the examples", &self.content, &now.content),
            pair(
                "per_device_train_batch_size",
                &self.batch_size,
                &now.batch_size,
            ),
            pair(
                "gradient_accumulation_steps",
                &self.gradient_accumulation_steps,
                &now.gradient_accumulation_steps,
            ),
            pair("data_seed", &self.data_seed, &now.data_seed),
            pair(
                "disable_shuffling",
                &self.disable_shuffling,
                &now.disable_shuffling,
            ),
            pair("seed", &self.seed, &now.seed),
            pair("number of processes", &self.processes, &now.processes),
        ]
        .into_iter()
        .find(|(_, then, now)| then != now)
    }
}

/// FNV-1a over every token and label: enough to notice other data, not to resist forgery.
fn digest(items: &[Item]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |number: u64| {
        hash = (hash ^ number).wrapping_mul(0x0000_0100_0000_01b3);
    };
    for item in items {
        let rows = match item {
            Item::Single(example) => [Some(example), None],
            Item::Pair { chosen, rejected } => [Some(chosen), Some(rejected)],
            Item::Judged {
                example,
                mismatched,
                desirable,
            } => {
                add(u64::from(*desirable));
                [Some(example), Some(mismatched)]
            }
        };
        for row in rows.into_iter().flatten() {
            add(row.input_ids.len() as u64);
            for (id, label) in row.input_ids.iter().zip(&row.labels) {
                add(u64::from(*id) ^ (*label as u64).rotate_left(32));
            }
        }
    }
    hash
}

#[derive(Deserialize, Serialize)]
struct State {
    version: u32,
    threads: usize,
    order: Order,
    progress: Progress,
    files: BTreeMap<String, u64>,
}

/// A checkpoint to go on from.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its folder.
    pub path: PathBuf,
    /// Threads that computed it. Sums come out the same to the last bit only with as many.
    pub threads: usize,
    pub(crate) order: Order,
    pub(crate) progress: Progress,
}

impl Point {
    /// Finds the checkpoint that `job` goes on from, if it goes on from one.
    pub fn of(job: &Job) -> Result<Option<Self>, TrainError> {
        match &job.resume {
            Resume::From(path) => Self::read(path).map(Some),
            Resume::Newest => match newest(&job.output_dir) {
                Some(path) => Self::read(&path).map(Some),
                None => Err(TrainError::NoCheckpoint {
                    path: job.output_dir.clone(),
                }),
            },
            Resume::IfThere if job.overwrite_output_dir => Ok(None),
            Resume::IfThere => match newest(&job.output_dir) {
                Some(path) => Self::read(&path).map(Some),
                None => Ok(None),
            },
        }
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// Whether it lies in `folder`.
    pub(crate) fn is_in(&self, folder: &Path) -> bool {
        let parent = self.path.parent().and_then(|path| path.canonicalize().ok());
        parent.is_some_and(|parent| folder.canonicalize().is_ok_and(|folder| folder == parent))
    }

    fn read(path: &Path) -> Result<Self, TrainError> {
        let unfit = |found: String, expected: &str| TrainError::BadCheckpoint {
            path: path.to_owned(),
            found,
            expected: expected.to_owned(),
        };
        let text = fs::read(path.join(STATE)).map_err(|error| {
            let whole = format!("a checkpoint with {STATE}, as this program writes it");
            unfit(error.to_string(), &whole)
        })?;
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| unfit(format!("{STATE}: {error}"), "the state of a run"))?;
        if state.version != VERSION {
            return Err(unfit(format!("version {}", state.version), "version 1"));
        }
        for (name, size) in &state.files {
            let found = fs::metadata(path.join(name)).map_or(0, |file| file.len());
            if found != *size {
                let expected = format!("`{name}` of {size} bytes");
                return Err(unfit(format!("`{name}` of {found} bytes"), &expected));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            threads: state.threads,
            order: state.order,
            progress: state.progress,
        })
    }

    /// Whether the run that `order` describes may go on from here.
    pub(crate) fn check(&self, order: &Order) -> Result<(), TrainError> {
        match self.order.difference(order) {
            None => Ok(()),
            Some((what, then, now)) => Err(TrainError::ResumeMismatch {
                path: self.path.clone(),
                what: what.to_owned(),
                found: now,
                expected: then,
            }),
        }
    }
}

/// Steps of the checkpoints in `folder`, oldest first.
pub(crate) fn steps(folder: &Path) -> Vec<u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut steps: Vec<u64> = names
        .filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok())
        .collect();
    steps.sort_unstable();
    steps
}

fn newest(folder: &Path) -> Option<PathBuf> {
    let last = steps(folder).pop()?;
    Some(folder.join(format!("{PREFIX}{last}")))
}

/// Removes what an interrupted run left half-done, and puts back what it had moved away.
pub(crate) fn tidy(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.strip_prefix('.')) else {
            continue;
        };
        if name.ends_with(".partial") && path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if let Some(whole) = name.strip_suffix(".old") {
            let place = folder.join(whole);
            if place.exists() {
                fs::remove_dir_all(&path)?;
            } else {
                fs::rename(&path, &place)?;
            }
        }
    }
    Ok(())
}

/// Makes `write` fill a folder and puts it in the place of `checkpoint-<step>`, in one step that a kill cannot halve.
pub(crate) fn place(
    output: &Path,
    step: u64,
    write: impl FnOnce(&Path) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let name = format!("{PREFIX}{step}");
    let path = output.join(&name);
    let beside = output.join(format!(".{name}.partial"));
    let fault = |source| TrainError::Write {
        path: path.clone(),
        source,
    };
    remove_if_there(&beside)
        .and_then(|()| fs::create_dir(&beside))
        .map_err(fault)?;
    write(&beside)?;
    let old = output.join(format!(".{name}.old"));
    let placed = || -> io::Result<()> {
        flush(&beside)?;
        remove_if_there(&old)?;
        if path.exists() {
            fs::rename(&path, &old)?;
        }
        fs::rename(&beside, &path)?;
        File::open(output)?.sync_all()?;
        remove_if_there(&old)
    };
    placed().map_err(fault)
}

/// Writes the state beside the files that are already in `folder`.
pub(crate) fn write_state(
    folder: &Path,
    progress: &Progress,
    order: &Order,
    threads: usize,
) -> io::Result<()> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            files.insert(name, entry.metadata()?.len());
        }
    }
    let state = State {
        version: VERSION,
        threads,
        order: order.clone(),
        progress: progress.clone(),
        files,
    };
    let text = serde_json::to_vec(&state).map_err(io::Error::from)?;
    fs::write(folder.join(STATE), text)
}

/// Flushes every file of a folder, and the folder.
fn flush(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(folder)?.sync_all()
}

pub(crate) fn remove_if_there(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interrupted_run_left_is_put_right() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "checkpoint-2",
            ".checkpoint-2.old",
            ".checkpoint-4.old",
            ".checkpoint-6.partial",
        ] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at(".trainer_state.json.partial"), "").unwrap();
        tidy(folder.path()).unwrap();
        assert_eq!(steps(folder.path()), [2, 4]);
        assert!(!at(".checkpoint-6.partial").exists() && !at(".checkpoint-2.old").exists());
    }

    #[test]
    fn steps_are_numbers_not_words() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["checkpoint-10", "checkpoint-9", "checkpoint-best", "other"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(steps(folder.path()), [9, 10]);
        assert_eq!(
            newest(folder.path()),
            Some(folder.path().join("checkpoint-10"))
        );
    }

    #[test]
    fn a_write_that_fails_leaves_the_checkpoint_that_was_there() {
        let folder = tempfile::tempdir().unwrap();
        place(folder.path(), 3, |at| {
            fs::write(at.join("weights"), "old").unwrap();
            Ok(())
        })
        .unwrap();
        let error = place(folder.path(), 3, |at| {
            fs::write(at.join("weights"), "half").unwrap();
            Err(TrainError::NoExamples)
        });
        assert!(error.is_err());
        let weights = folder.path().join("checkpoint-3/weights");
        assert_eq!(fs::read_to_string(weights).unwrap(), "old");
        assert_eq!(steps(folder.path()), [3]);
    }
}
