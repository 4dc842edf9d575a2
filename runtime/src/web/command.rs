//! Commands of this program as processes of their own: asked and waited for, or left to themselves.

use std::env;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::error::WebError;

/// The most that a command may say when it is asked something.
const LARGEST: u64 = 16 << 20;
/// How often a lock is asked for.
const TRIES: usize = 10;
/// Between two looks at a command that is waited for.
const PAUSE: Duration = Duration::from_millis(20);

/// This program, to be told what to do.
pub(super) fn program() -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("--json").stdin(Stdio::null());
    Ok(command)
}

/// What a command answered: the lines of its `--json`.
pub(super) fn ask(
    arguments: &[&str],
    folder: &Path,
    patience: Duration,
) -> Result<Vec<Value>, WebError> {
    let name = arguments.first().copied().unwrap_or_default();
    let not_started = |source| WebError::NotStarted {
        command: name.to_owned(),
        source,
    };
    let no_answer = || WebError::NoAnswer {
        command: name.to_owned(),
    };
    let mut child = program()
        .map_err(not_started)?
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(not_started)?;
    let output = child.stdout.take().ok_or_else(no_answer)?;
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        output.take(LARGEST).read_to_end(&mut bytes).map(|_| bytes)
    });
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if began.elapsed() < patience => sleep(PAUSE),
            _ => {
                let _ended = child.kill();
                let _status = child.wait();
                return Err(WebError::TooSlow {
                    command: name.to_owned(),
                    seconds: patience.as_secs(),
                });
            }
        }
    }
    let bytes = reader.join().map_err(|_| no_answer())?;
    let bytes = bytes.map_err(|_| no_answer())?;
    let lines: Vec<Value> = String::from_utf8_lossy(&bytes)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    if lines.is_empty() {
        return Err(no_answer());
    }
    Ok(lines)
}

/// Starts a command that outlives this program. What it says is added to the file `said`, which it keeps locked as long as
/// it lives: [`lives`] tells.
pub(super) fn leave(arguments: &[&str], folder: &Path, said: &Path) -> Result<(), WebError> {
    let name = arguments.first().copied().unwrap_or_default();
    let not_started = |source| WebError::NotStarted {
        command: name.to_owned(),
        source,
    };
    let write = |source| WebError::Write {
        path: said.to_owned(),
        source,
    };
    let file = OpenOptions::new().create(true).append(true).open(said);
    let file = file.map_err(write)?;
    if !is_locked(&file) {
        return Err(WebError::Works {
            name: said.display().to_string(),
        });
    }
    // Both are the file that is locked, so the lock is the child's.
    let (output, errors) = (file.try_clone(), file.try_clone());
    let mut child = program()
        .map_err(not_started)?
        .args(arguments)
        .current_dir(folder)
        .stdout(output.map_err(write)?)
        .stderr(errors.map_err(write)?)
        .spawn()
        .map_err(not_started)?;
    // Whoever starts a process takes note of its end.
    thread::spawn(move || child.wait());
    Ok(())
}

/// Locks it, or says that a command has. Whoever asks whether one lives holds the lock for a moment.
fn is_locked(file: &File) -> bool {
    for _ in 0..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => sleep(PAUSE),
            Ok(()) | Err(TryLockError::Error(_)) => return true,
        }
    }
    false
}

/// Whether a command that was left to itself still works. Where files cannot be locked nobody can tell, and it is no.
pub(super) fn lives(said: &Path) -> bool {
    let Ok(file) = File::open(said) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}
