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
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::job::{Job, Resume};
use crate::order::Order;
use crate::progress::Progress;
use crate::trainer::TrainError;

/// Start of a checkpoint's name; its step follows.
pub(crate) const PREFIX: &str = "checkpoint-";

/// What is filled with the weights of the run's end before they are moved out of it.
pub(crate) const WEIGHTS_PARTIAL: &str = ".weights.partial";

/// The run so far, in a checkpoint.
const STATE: &str = "ferry_state.json";

/// A run of millions of steps writes less.
const LARGEST: u64 = 1 << 30;

/// No machine has more processors for one process.
const MOST_THREADS: usize = 1 << 12;

/// A newer program may write what this one does not understand.
const VERSION: u32 = 1;

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
        let mut text = Vec::new();
        File::open(path.join(STATE))
            .and_then(|file| file.take(LARGEST).read_to_end(&mut text))
            .map_err(|error| {
                let whole = format!("a checkpoint with {STATE}, as this program writes it");
                unfit(error.to_string(), &whole)
            })?;
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| unfit(format!("{STATE}: {error}"), "the state of a run"))?;
        if state.version != VERSION {
            return Err(unfit(format!("version {}", state.version), "version 1"));
        }
        let so_far = &state.progress;
        let counts = so_far.logged <= so_far.losses.len() && so_far.skipped <= so_far.step;
        if !counts || !(1..=MOST_THREADS).contains(&state.threads) {
            return Err(unfit(
                format!("{STATE}: counts that contradict each other"),
                "the state of a run",
            ));
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
    let mut steps: Vec<u64> = names.filter_map(|name| step_of(&name)).collect();
    steps.sort_unstable();
    steps
}

/// The step of the checkpoint that is called so.
fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

fn newest(folder: &Path) -> Option<PathBuf> {
    let last = steps(folder).pop()?;
    Some(folder.join(format!("{PREFIX}{last}")))
}

/// Removes what an interrupted run left half-done, and puts back what it had moved away. Other hidden files are not its.
pub(crate) fn tidy(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let checkpoint = |end: &str| {
            let whole = name.strip_prefix('.')?.strip_suffix(end)?;
            step_of(whole).map(|_| whole)
        };
        let partial = name == WEIGHTS_PARTIAL || checkpoint(".partial").is_some();
        if partial && path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if let Some(whole) = checkpoint(".old") {
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
        // The user's own.
        for name in [".cache.partial", ".git.old", ".checkpoint-best.old"] {
            fs::create_dir(at(name)).unwrap();
        }
        tidy(folder.path()).unwrap();
        assert!(at(".cache.partial").exists() && at(".git.old").exists());
        assert!(at(".checkpoint-best.old").exists());
        assert_eq!(steps(folder.path()), [2, 4]);
        assert!(!at(".checkpoint-6.partial").exists() && !at(".checkpoint-2.old").exists());
    }

    #[test]
    fn a_state_that_no_run_has_is_refused() {
        type Change = fn(&mut Progress);
        let folder = tempfile::tempdir().unwrap();
        let text = "model_name_or_path: m\ndataset: d\ntemplate: qwen\noutput_dir: o\n";
        let job = Job::parse("job.yaml", text, &[]).unwrap();
        let order = Order::of(&job, &[], 1);
        let progress = Progress {
            step: 2,
            losses: vec![1.0, 1.0],
            logged: 2,
            ..Progress::default()
        };
        let read = |change: &dyn Fn(&mut Progress), threads: usize| {
            let mut progress = progress.clone();
            change(&mut progress);
            let _ = fs::remove_file(folder.path().join(STATE));
            write_state(folder.path(), &progress, &order, threads).unwrap();
            Point::read(folder.path())
        };
        assert_eq!(read(&|_| {}, 4).unwrap().step(), 2);
        let wrong: [(Change, usize); 4] = [
            (|progress| progress.logged = 3, 4),
            (|progress| progress.skipped = 3, 4),
            (|_| {}, 0),
            (|_| {}, usize::MAX),
        ];
        for (change, threads) in wrong {
            let error = read(&change, threads).unwrap_err();
            assert!(matches!(error, TrainError::BadCheckpoint { .. }), "{error}");
        }
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
