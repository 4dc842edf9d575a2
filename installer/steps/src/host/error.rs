//! What can go wrong on the machine itself.

use std::io;
use std::path::PathBuf;

use bundle_format::VerifyError;
use manifest_schema::HostKind;
use manifest_schema::plan::ManifestError;
use report::{Args, Diagnose, Outcome};

use crate::disk::DiskError;
use crate::journal::JournalError;

/// The machine's own layer could not be planned or brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A switch asks for what the backend does not bring.
    #[error("`{flag}` was given, and the bundle brings nothing for it")]
    NothingBrought {
        /// The switch.
        flag: &'static str,
    },
    /// The signed profiles describe an installer that cannot be one.
    #[error("the bundle describes an installer that cannot be run: {problem}")]
    Item {
        /// What was found and expected, where.
        problem: ManifestError,
    },
    /// Somebody else could change what is run.
    #[error("`{}` can be changed by somebody else than the one who runs this", path.display())]
    Place {
        /// The folder.
        path: PathBuf,
    },
    /// The machine was not started anew yet.
    #[error(
        "the machine must be started anew first: {kinds} was installed and does not count before"
    )]
    RebootFirst {
        /// What was installed.
        kinds: String,
    },
    /// The vendor's signature does not hold.
    #[error("`{file}` is not what its vendor signed")]
    VendorSignature {
        /// The vendor's file.
        file: String,
        /// Why.
        source: Box<vendor_signature::VendorSignatureError>,
    },
    /// The archive does not hold the installer that the bundle names.
    #[error("`{archive}` holds no installer `{member}`")]
    Member {
        /// The archive.
        archive: String,
        /// The name that was looked for.
        member: String,
        /// Why it cannot be taken.
        source: io::Error,
    },
    /// A command could not be started.
    #[error("cannot run `{command}`")]
    Start {
        /// Its words.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A command ended with an error.
    #[error("{}: `{}` ended with {status}: {said}", run.what, run.command)]
    Failed {
        /// Which.
        run: Box<FailedRun>,
        /// How it ended.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// A command came to no end.
    #[error("{}: `{}` came to no end within {minutes} minutes and was stopped", run.what, run.command)]
    TimedOut {
        /// Which.
        run: Box<FailedRun>,
        /// The limit.
        minutes: u64,
    },
    /// It ended well, and the machine does not show it.
    #[error("{kind} {wanted} was installed without an error, and the machine shows {found}")]
    NotThere {
        /// What was installed.
        kind: HostKind,
        /// The version.
        wanted: String,
        /// What the version file says.
        found: String,
    },
    /// A person asked to stop; the work can be taken up again.
    #[error("stopped before {next}, as was asked")]
    Stopped {
        /// The step that did not begin.
        next: String,
    },
    /// There is nothing to take up again.
    #[error("no unfinished install is below `{prefix}`")]
    NothingToResume {
        /// Where.
        prefix: PathBuf,
    },
    /// The bundle's bytes are not what was signed.
    #[error(transparent)]
    Bundle(#[from] VerifyError),
    /// The log could not be continued.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A command that did not end well.
#[derive(Debug)]
pub struct FailedRun {
    /// What it was for.
    pub what: String,
    /// Its words.
    pub command: String,
    /// Where all that it said is.
    pub log: PathBuf,
    /// What became of what it did.
    pub after: After,
}

impl FailedRun {
    fn args(&self) -> Args {
        vec![
            ("what", self.what.clone()),
            ("command", self.command.clone()),
            ("log", self.log.display().to_string()),
            ("after", self.after.word().to_owned()),
        ]
    }
}

/// What became of what a failed command did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum After {
    /// The vendor's own way back was taken.
    Undone,
    /// The vendor's own way back was taken and failed too.
    UndoFailed,
    /// There is no way back: an upgrade, or firmware.
    CannotUndo,
}

impl After {
    fn word(self) -> &'static str {
        match self {
            Self::Undone => "undone",
            Self::UndoFailed => "undo-failed",
            Self::CannotUndo => "cannot-undo",
        }
    }
}

impl Diagnose for HostError {
    fn code(&self) -> &'static str {
        match self {
            Self::NothingBrought { .. } => "install.host-nothing-brought",
            Self::Item { .. } => "install.host-item",
            Self::Place { .. } => "install.host-place",
            Self::RebootFirst { .. } => "install.host-reboot-first",
            Self::VendorSignature { .. } => "install.host-vendor-signature",
            Self::Member { .. } => "install.host-member",
            Self::Start { .. } => "install.host-not-started",
            Self::Failed { run, .. } => match run.after {
                After::Undone => "install.host-failed-undone",
                After::UndoFailed => "install.host-failed-undo-failed",
                After::CannotUndo => "install.host-failed",
            },
            Self::TimedOut { .. } => "install.host-timed-out",
            Self::NotThere { .. } => "install.host-not-there",
            Self::Stopped { .. } => "install.host-stopped",
            Self::NothingToResume { .. } => "install.nothing-to-resume",
            Self::Bundle(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Disk(error) => error.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::NothingBrought { flag } => vec![("flag", (*flag).to_owned())],
            Self::Item { problem } => vec![("problem", problem.to_string())],
            Self::Place { path } => vec![("path", path.display().to_string())],
            Self::RebootFirst { kinds } => vec![("kinds", kinds.clone())],
            Self::VendorSignature { file, .. } => vec![("file", file.clone())],
            Self::Member {
                archive, member, ..
            } => vec![("archive", archive.clone()), ("member", member.clone())],
            Self::Start { command, .. } => vec![("command", command.clone())],
            Self::Failed { run, status, said } => {
                let mut args = run.args();
                args.extend([("status", status.clone()), ("said", said.clone())]);
                args
            }
            Self::TimedOut { run, minutes } => {
                let mut args = run.args();
                args.push(("minutes", minutes.to_string()));
                args
            }
            Self::NotThere {
                kind,
                wanted,
                found,
            } => vec![
                ("kind", kind.to_string()),
                ("wanted", wanted.clone()),
                ("found", found.clone()),
            ],
            Self::Stopped { next } => vec![("next", next.clone())],
            Self::NothingToResume { prefix } => vec![("prefix", prefix.display().to_string())],
            Self::Bundle(error) => error.args(),
            Self::Journal(error) => error.args(),
            Self::Disk(error) => error.args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::NothingBrought { .. } | Self::NothingToResume { .. } => Outcome::Usage,
            Self::Item { .. } | Self::VendorSignature { .. } | Self::Member { .. } => {
                Outcome::Untrusted
            }
            Self::Place { .. } | Self::Start { .. } => Outcome::HostFault,
            Self::RebootFirst { .. } => Outcome::Unfinished,
            Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::NotThere { .. }
            | Self::Stopped { .. } => Outcome::Failed,
            Self::Bundle(error) => error.outcome(),
            Self::Journal(error) => error.outcome(),
            Self::Disk(error) => error.outcome(),
        }
    }
}
