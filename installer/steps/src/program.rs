//! Programs that an install runs: how long each may take, and what is told of one that fails.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use host_probe::{Ran, run_within};
use report::{Args, Diagnose, Outcome};

/// A program that the installer ran did not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The program could not be started.
    #[error("cannot run `{program}`")]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program ended with an error.
    #[error("`{program}` ended with {status}: {said}")]
    Failed {
        /// Which, with its arguments.
        program: String,
        /// Its exit status.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// The program came to no end.
    #[error("`{program}` came to no end within {minutes} minutes and was stopped")]
    TimedOut {
        /// Which, with its arguments.
        program: String,
        /// The limit.
        minutes: u64,
    },
    /// The machine has no such Python, and the bundle brings none.
    #[error("the backend needs Python {version}, and neither the bundle nor this machine has it")]
    NoPython {
        /// Such as `3.11`.
        version: String,
    },
    /// The backend has a Python environment but no uv to make it with.
    #[error("the backend brings a Python environment but not `bin/uv` to make it with")]
    NoUv,
}

impl Diagnose for ProgramError {
    fn code(&self) -> &'static str {
        match self {
            Self::Start { .. } => "install.program-not-started",
            Self::Failed { .. } => "install.program-failed",
            Self::TimedOut { .. } => "install.program-timed-out",
            Self::NoPython { .. } => "install.no-python",
            Self::NoUv => "install.no-uv",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Start { program, .. } => vec![("program", program.display().to_string())],
            Self::Failed {
                program,
                status,
                said,
            } => vec![
                ("program", program.clone()),
                ("status", status.clone()),
                ("said", said.clone()),
            ],
            Self::TimedOut { program, minutes } => vec![
                ("program", program.clone()),
                ("minutes", minutes.to_string()),
            ],
            Self::NoPython { version } => vec![("version", version.clone())],
            Self::NoUv => Args::new(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::NoPython { .. } => Outcome::HardwareUnfit,
            _ => Outcome::Failed,
        }
    }
}

/// A program that came to its end, well or not.
pub(crate) struct Ended {
    /// Its words.
    command: String,
    ran: Ran,
}

impl Ended {
    /// Runs `command`; after `limit`, where it has one, it is stopped with all that it started.
    pub(crate) fn of(
        command: &mut Command,
        limit: Option<Duration>,
        tick: &dyn Fn(),
    ) -> Result<Self, ProgramError> {
        let program = command.get_program();
        let words = std::iter::once(program).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        let (words, program) = (words.join(" "), PathBuf::from(program));
        match run_within(command, limit, tick) {
            Ok(ran) => Ok(Self {
                command: words,
                ran,
            }),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(ProgramError::TimedOut {
                program: words,
                minutes: limit.unwrap_or_default().as_secs() / 60,
            }),
            Err(source) => Err(ProgramError::Start { program, source }),
        }
    }

    /// Whether it ended well.
    pub(crate) fn is_good(&self) -> bool {
        self.ran.status.success()
    }

    /// All that it said.
    pub(crate) fn said(&self) -> String {
        self.ran.said()
    }

    /// This one, if it ended well.
    pub(crate) fn checked(self) -> Result<Self, ProgramError> {
        if self.is_good() {
            Ok(self)
        } else {
            Err(self.failed())
        }
    }

    /// What is told of it as one that failed: its words, and the end of what it said.
    pub(crate) fn failed(&self) -> ProgramError {
        let said = self.said();
        let lines: Vec<&str> = said.lines().rev().take(SAID_LINES).collect();
        ProgramError::Failed {
            program: self.command.clone(),
            status: self.ran.status.to_string(),
            said: lines.into_iter().rev().collect::<Vec<_>>().join("\n"),
        }
    }
}

const SAID_LINES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_named_with_its_limit() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 3600 & wait"]);
        let ended = Ended::of(&mut command, Some(Duration::from_millis(50)), &|| ());
        let error = ended.map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "install.program-timed-out");
        assert!(error.to_string().contains("sh -c sleep 3600"), "{error}");
    }
}
