//! A run as a folder that any front end can watch: who works in it, how it ended, and a way to ask it to end.
//!
//! ```text
//! <output_dir>/run.lock   locked as long as the run lives, however it dies
//!              run.json   how the run stands; `running` without the lock means that it was cut off
//!              stop       whoever makes it asks the run to end after its step and save
//!              job.yaml, said.jsonl   of a run that a front end started: its job, and what the command said
//!              llamafactory.yaml, llamafactory.log   of a run that another program does: its job, and what it said
//! ```
//!
//! Nobody has to stay connected: a front end reads files, and may come and go.

use std::fs::{self, DirEntry, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use report::Diagnose;
use serde::{Deserialize, Serialize};

use crate::run::{Ending, Summary};
use crate::trainer::TrainError;

const LOCK: &str = "run.lock";
const RECORD: &str = "run.json";
const RECORD_PARTIAL: &str = ".run.json.partial";
const STOP: &str = "stop";

/// The job as a run of LLaMA-Factory has it, in the run's folder.
pub const HANDED_JOB: &str = "llamafactory.yaml";

/// The job of a run that a front end started, in the run's folder.
pub const FRONT_JOB: &str = "job.yaml";

/// What the command of that run said, a line of JSON each.
pub const FRONT_SAID: &str = "said.jsonl";

/// Start of the name of a folder that another machine of a run has in the first one's; its number follows.
pub const OTHER_MACHINE: &str = "node-";

/// What that run said.
pub const HANDED_LOG: &str = "llamafactory.log";

/// More than any record takes.
const LARGEST: u64 = 64 << 10;

/// Whoever asks whether a run lives holds its lock for a moment; so a run asks a few times.
const PATIENCE: [Duration; 4] = [Duration::from_millis(50); 4];

/// How a run stands: the content of `run.json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// Whether it works, and how it ended.
    pub state: State,
    /// The process.
    pub pid: u32,
    /// The program and its version.
    pub program: String,
    /// When it started, in seconds since 1970.
    pub started: u64,
    /// When it ended.
    pub ended: Option<u64>,
    /// Optimizer steps that earlier runs in this folder had done.
    pub resumed_at: u64,
    /// Optimizer steps planned.
    pub total_steps: u64,
    /// What went wrong.
    pub failure: Option<Failure>,
}

/// Whether a run works, and how it ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It works.
    Running,
    /// It was killed, or the machine went down; only said to who asks, never written.
    CutOff,
    /// All steps are done.
    Done,
    /// It was asked to end, and saved.
    Stopped,
    /// The evaluation loss had not fallen for as long as the job waits.
    NoProgress,
    /// An error ended it.
    Failed,
}

/// An error by its catalogue code.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Failure {
    /// The code.
    pub code: String,
    /// The values for its text.
    pub args: Vec<(String, String)>,
}

impl Record {
    /// How the run in `folder` stands; nothing where there never was one.
    pub fn of(folder: &Path) -> io::Result<Option<Self>> {
        // In this order: a run that ends in between has written its record before it lets go of the lock.
        let lives = RunFolder::is_in_use(folder);
        let mut text = String::new();
        let path = folder.join(RECORD);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            // Opening a pipe would wait for whoever writes into it.
            Ok(found) if !found.is_file() => return Err(io::ErrorKind::InvalidData.into()),
            Ok(_) => File::open(path)?.take(LARGEST).read_to_string(&mut text)?,
        };
        let mut record: Self = serde_json::from_str(&text).map_err(io::Error::from)?;
        if record.state == State::Running && !lives {
            record.state = State::CutOff;
        }
        Ok(Some(record))
    }
}

/// Asks the run in `folder` to end after its step and save.
pub fn ask_to_stop(folder: &Path) -> io::Result<()> {
    File::create(folder.join(STOP)).map(drop)
}

/// Whether somebody asked the run in `folder` to end.
pub fn is_asked_to_stop(folder: &Path) -> bool {
    folder.join(STOP).exists()
}

/// The output folder of the run that this process does: locked until dropped.
pub struct RunFolder {
    folder: PathBuf,
    record: Record,
    lock: File,
}

impl RunFolder {
    /// Whether a run works in `folder`. Where files cannot be locked, nobody can tell, and it is no.
    pub fn is_in_use(folder: &Path) -> bool {
        let Ok(lock) = File::open(folder.join(LOCK)) else {
            return false;
        };
        matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Makes the folder and takes it. `resumed_at` and `total_steps` are for who watches.
    ///
    /// # Errors
    ///
    /// [`TrainError::InUse`] where another run works in it.
    pub fn take(folder: &Path, resumed_at: u64, total_steps: u64) -> Result<Self, TrainError> {
        let program = concat!("ferry-runtime ", env!("CARGO_PKG_VERSION"));
        Self::take_for(program, folder, resumed_at, total_steps)
    }

    /// The same for a run that `program` does.
    ///
    /// # Errors
    ///
    /// [`TrainError::InUse`] where another run works in it.
    pub fn take_for(
        program: &str,
        folder: &Path,
        resumed_at: u64,
        total_steps: u64,
    ) -> Result<Self, TrainError> {
        let fault = |source| TrainError::Write {
            path: folder.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(fault)?;
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join(LOCK))
            .map_err(fault)?;
        if !is_locked(&lock) {
            return Err(TrainError::InUse {
                path: folder.to_owned(),
            });
        }
        let taken = Self {
            folder: folder.to_owned(),
            record: Record {
                state: State::Running,
                pid: std::process::id(),
                program: program.to_owned(),
                started: now(),
                ended: None,
                resumed_at,
                total_steps,
                failure: None,
            },
            lock,
        };
        taken.forget_request().map_err(fault)?;
        taken.write().map_err(fault)?;
        Ok(taken)
    }

    /// Whether somebody asked this run to end.
    pub fn is_asked_to_stop(&self) -> bool {
        is_asked_to_stop(&self.folder)
    }

    /// The lock. A process that inherits it holds the folder, too.
    pub fn lock(&self) -> &File {
        &self.lock
    }

    /// Writes down how many steps are planned, where that is found out late.
    pub fn plan(&mut self, total_steps: u64) -> Result<(), TrainError> {
        if self.record.total_steps == total_steps {
            return Ok(());
        }
        self.record.total_steps = total_steps;
        self.write().map_err(|source| TrainError::Write {
            path: self.folder.join(RECORD),
            source,
        })
    }

    /// Writes down how the run ended, and lets go of the folder.
    pub fn leave(self, ended: &Result<Summary, TrainError>) -> Result<(), TrainError> {
        match ended {
            Ok(summary) => self.end(summary.ending.into(), None),
            Err(error) => self.end(State::Failed, Some(error)),
        }
    }

    /// Writes down in what state the run ended, and because of what, and lets go of the folder.
    pub fn end(mut self, state: State, error: Option<&dyn Diagnose>) -> Result<(), TrainError> {
        let record = &mut self.record;
        record.ended = Some(now());
        record.state = state;
        record.failure = error.map(|error| {
            let args = error.args().into_iter();
            Failure {
                code: error.code().to_owned(),
                args: args.map(|(name, value)| (name.to_owned(), value)).collect(),
            }
        });
        let path = self.folder.join(RECORD);
        self.write()
            .and_then(|()| self.forget_request())
            .map_err(|source| TrainError::Write { path, source })
    }

    /// So that what was asked of one run is not asked of the next.
    fn forget_request(&self) -> io::Result<()> {
        match fs::remove_file(self.folder.join(STOP)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Replaces the record whole.
    fn write(&self) -> io::Result<()> {
        let beside = self.folder.join(RECORD_PARTIAL);
        let mut file = File::create(&beside)?;
        serde_json::to_writer_pretty(&mut file, &self.record)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(beside, self.folder.join(RECORD))
    }
}

impl From<Ending> for State {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Done => Self::Done,
            Ending::Stopped => Self::Stopped,
            Ending::NoProgress => Self::NoProgress,
        }
    }
}

/// Whether an entry of an output folder only says how a run stands, or stood: no result that could be lost.
pub(crate) fn is_record(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let files = [
        LOCK,
        RECORD,
        RECORD_PARTIAL,
        STOP,
        HANDED_JOB,
        HANDED_LOG,
        FRONT_JOB,
        FRONT_SAID,
    ];
    let machine = name
        .to_str()
        .and_then(|name| name.strip_prefix(OTHER_MACHINE));
    files.iter().any(|file| name == *file)
        || machine.is_some_and(|number| number.parse::<u16>().is_ok())
}

/// Locks it, or says that another run has. Some network file systems know no locks: there, who starts two runs in one
/// folder is not stopped.
fn is_locked(lock: &File) -> bool {
    for pause in PATIENCE {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => sleep(pause),
            Ok(()) | Err(TryLockError::Error(_)) => return true,
        }
    }
    false
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(folder: &Path) -> Option<State> {
        Record::of(folder).unwrap().map(|record| record.state)
    }

    #[test]
    fn a_run_is_seen_to_work_and_to_end() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("out");
        assert_eq!(state(&folder), None);
        let taken = RunFolder::take(&folder, 0, 10).unwrap();
        assert_eq!(state(&folder), Some(State::Running));
        assert!(matches!(
            RunFolder::take(&folder, 0, 10),
            Err(TrainError::InUse { .. })
        ));
        assert!(!crate::output::is_taken(&folder));
        assert!(!taken.is_asked_to_stop());
        ask_to_stop(&folder).unwrap();
        assert!(taken.is_asked_to_stop());
        let diverged = TrainError::Diverged {
            step: 3,
            loss: f64::NAN,
            grad_norm: 1.0,
        };
        taken.leave(&Err(diverged)).unwrap();
        assert!(!folder.join(STOP).exists());
        let record = Record::of(&folder).unwrap().unwrap();
        assert_eq!(record.state, State::Failed);
        let failure = record.failure.unwrap();
        assert_eq!(failure.code, "train.diverged");
        assert!(failure.args.contains(&("step".to_owned(), "3".to_owned())));
        // What was asked of that run is not asked of the next.
        assert!(!RunFolder::take(&folder, 3, 10).unwrap().is_asked_to_stop());
    }

    #[test]
    fn a_run_that_lets_go_without_a_word_was_cut_off() {
        let place = tempfile::tempdir().unwrap();
        drop(RunFolder::take(place.path(), 0, 10).unwrap());
        assert_eq!(state(place.path()), Some(State::CutOff));
    }

    #[test]
    fn a_record_that_is_none_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(RECORD), "{\"state\":").unwrap();
        assert!(Record::of(place.path()).is_err());
        fs::remove_file(place.path().join(RECORD)).unwrap();
        fs::create_dir(place.path().join(RECORD)).unwrap();
        assert!(Record::of(place.path()).is_err());
    }
}
