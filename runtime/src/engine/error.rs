//! Why the other engine cannot take a job, and how its runs fail.

use std::io;
use std::path::PathBuf;

use report::{Args, Diagnose, Outcome};

use super::ending::Ended;

/// Why LLaMA-Factory cannot take a job, or why a run of it failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// There is no Python to ask.
    #[error("no Python environment was found; looked at {looked}")]
    NoPython { looked: String },
    /// The Python does not answer.
    #[error("`{python}` does not answer: {reason}")]
    PythonFails { python: PathBuf, reason: String },
    /// The Python has no LLaMA-Factory.
    #[error("`{python}` has no LLaMA-Factory")]
    NoLlamaFactory { python: PathBuf },
    /// A LLaMA-Factory whose keys are not known.
    #[error("LLaMA-Factory {version} is not known; known is {known}")]
    Version { version: String, known: String },
    /// A package that a key of the job asks for is not there.
    #[error("`{key}` needs the package `{package}`, which `{python}` lacks")]
    PackageMissing {
        key: String,
        package: &'static str,
        python: PathBuf,
    },
    /// A key that LLaMA-Factory's training does not have.
    #[error("{place}: LLaMA-Factory does not know `{key}` in training")]
    NotItsKey { place: String, key: String },
    /// A template that it does not have.
    #[error("{place}: LLaMA-Factory has no template `{name}`; the nearest is `{nearest}`")]
    NoTemplate {
        place: String,
        name: String,
        nearest: String,
    },
    /// A key that would have something fetched.
    #[error("{place}: `{key}: {value}` is about another machine")]
    NotLocal {
        place: String,
        key: String,
        value: String,
    },
    /// A file that the job names is not there.
    #[error("{place}: `{key}` names `{path}`, which is not there")]
    FileMissing {
        place: String,
        key: String,
        path: PathBuf,
    },
    /// The model is a file that only the native engine can unfold.
    #[cfg(not(feature = "native"))]
    #[error("`{path}` is a file; LLaMA-Factory reads folders")]
    ModelIsFile { path: PathBuf },
    /// torchrun's command line would fall apart.
    #[error("`{path}` has a blank in it")]
    Blank { path: PathBuf },
    /// Several machines, and nobody says where they meet.
    #[error("{nodes} machines need `--master-addr`")]
    NoMaster { nodes: u16 },
    /// A machine's number is beyond how many there are.
    #[error("machine {rank} of {nodes}, counted from 0")]
    NodeRank { rank: u16, nodes: u16 },
    /// Another program started this one as one process of several.
    #[error("RANK is set: another program started this one as one process of several")]
    UnderTorchrun,
    /// The native engine was asked to do what only the other one does.
    #[error("`{flag}` is for LLaMA-Factory")]
    FlagOfOther { flag: &'static str },
    /// The newest checkpoint was written by the native engine.
    #[error("the checkpoint `{path}` was written by the native engine")]
    CheckpointOfNative { path: PathBuf },
    /// Processes of an earlier run in the folder still live.
    #[error("processes of an earlier run still work in `{path}`: {pids}")]
    StillRunning { path: PathBuf, pids: String },
    /// The program cannot be started.
    #[error("cannot start `{program}`")]
    NotStarted { program: PathBuf, source: io::Error },
    /// The run ended badly.
    #[error("LLaMA-Factory: {}", .ended.said)]
    Ended { ended: Ended, log: PathBuf },
}

impl Diagnose for EngineError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoPython { .. } => "engine.no-python",
            Self::PythonFails { .. } => "engine.python-fails",
            Self::NoLlamaFactory { .. } => "engine.no-llamafactory",
            Self::Version { .. } => "engine.version",
            Self::PackageMissing { .. } => "engine.package-missing",
            Self::NotItsKey { .. } => "engine.not-its-key",
            Self::NoTemplate { .. } => "engine.no-template",
            Self::NotLocal { .. } => "engine.not-local",
            Self::FileMissing { .. } => "engine.file-missing",
            #[cfg(not(feature = "native"))]
            Self::ModelIsFile { .. } => "engine.model-is-file",
            Self::Blank { .. } => "engine.blank",
            Self::NoMaster { .. } => "engine.no-master",
            Self::NodeRank { .. } => "engine.node-rank",
            Self::UnderTorchrun => "engine.under-torchrun",
            Self::FlagOfOther { .. } => "engine.flag-of-other",
            Self::CheckpointOfNative { .. } => "engine.checkpoint-of-native",
            Self::StillRunning { .. } => "engine.still-running",
            Self::NotStarted { .. } => "engine.not-started",
            Self::Ended { ended, .. } => ended.kind.code(),
        }
    }

    fn args(&self) -> Args {
        let shown = |path: &PathBuf| path.display().to_string();
        match self {
            Self::NoPython { looked } => vec![("looked", looked.clone())],
            Self::PythonFails { python, reason } => {
                vec![("python", shown(python)), ("reason", reason.clone())]
            }
            Self::NoLlamaFactory { python } => vec![("python", shown(python))],
            Self::Version { version, known } => {
                vec![("version", version.clone()), ("known", known.clone())]
            }
            Self::PackageMissing {
                key,
                package,
                python,
            } => vec![
                ("key", key.clone()),
                ("package", (*package).to_owned()),
                ("python", shown(python)),
            ],
            Self::NotItsKey { place, key } => vec![("place", place.clone()), ("key", key.clone())],
            Self::NoTemplate {
                place,
                name,
                nearest,
            } => vec![
                ("place", place.clone()),
                ("name", name.clone()),
                ("nearest", nearest.clone()),
            ],
            Self::NotLocal { place, key, value } => vec![
                ("place", place.clone()),
                ("key", key.clone()),
                ("value", value.clone()),
            ],
            Self::FileMissing { place, key, path } => vec![
                ("place", place.clone()),
                ("key", key.clone()),
                ("path", shown(path)),
            ],
            #[cfg(not(feature = "native"))]
            Self::ModelIsFile { path } => vec![("path", shown(path))],
            Self::Blank { path } | Self::CheckpointOfNative { path } => {
                vec![("path", shown(path))]
            }
            Self::NoMaster { nodes } => vec![("nodes", nodes.to_string())],
            Self::NodeRank { rank, nodes } => {
                vec![("rank", rank.to_string()), ("nodes", nodes.to_string())]
            }
            Self::UnderTorchrun => Args::new(),
            Self::FlagOfOther { flag } => vec![("flag", (*flag).to_owned())],
            Self::StillRunning { path, pids } => {
                vec![("path", shown(path)), ("pids", pids.clone())]
            }
            Self::NotStarted { program, .. } => vec![("program", shown(program))],
            Self::Ended { ended, log } => vec![
                ("subject", ended.subject.clone()),
                ("how", ended.how.clone()),
                ("said", ended.said.clone()),
                ("log", shown(log)),
            ],
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::NotStarted { .. } | Self::PythonFails { .. } => Outcome::HostFault,
            Self::Ended { ended, .. } => ended.kind.outcome(),
            _ => Outcome::Usage,
        }
    }
}
