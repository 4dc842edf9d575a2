//! Why a command cannot start.

use std::path::PathBuf;

use report::{Args, Diagnose, Outcome};

/// Why a command cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// The name is neither a path nor an installed model.
    #[error("there is no model `{name}`")]
    NoSuchModel { name: String },
    /// The job file cannot be read.
    #[error("cannot read the job `{path}`")]
    JobUnreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    /// There is no run in the folder.
    #[error("`{path}` holds no run")]
    NoRun { path: PathBuf },
    /// The files of a run cannot be read.
    #[error("cannot read the run in `{path}`")]
    RunUnreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    /// A run cannot be asked to end.
    #[error("cannot ask the run in `{path}` to end")]
    CannotAsk {
        path: PathBuf,
        source: std::io::Error,
    },
    /// A model was to be exported over something else.
    #[cfg(feature = "native")]
    #[error("`{path}` holds something that an export does not replace")]
    ExportTaken { path: PathBuf },
    /// Built without libtorch.
    #[cfg(not(feature = "native"))]
    #[error("this program was built without libtorch")]
    NotNative,
}

impl Diagnose for RuntimeError {
    fn code(&self) -> &'static str {
        match self {
            Self::JobUnreadable { .. } => "runtime.job-unreadable",
            Self::NoSuchModel { .. } => "runtime.no-such-model",
            Self::NoRun { .. } => "runtime.no-run",
            Self::RunUnreadable { .. } => "runtime.run-unreadable",
            Self::CannotAsk { .. } => "runtime.cannot-ask",
            #[cfg(feature = "native")]
            Self::ExportTaken { .. } => "runtime.export-taken",
            #[cfg(not(feature = "native"))]
            Self::NotNative => "runtime.not-native",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::JobUnreadable { path, .. }
            | Self::NoRun { path }
            | Self::RunUnreadable { path, .. }
            | Self::CannotAsk { path, .. } => vec![("path", path.display().to_string())],
            #[cfg(feature = "native")]
            Self::ExportTaken { path } => vec![("path", path.display().to_string())],
            Self::NoSuchModel { name } => vec![("name", name.clone())],
            #[cfg(not(feature = "native"))]
            Self::NotNative => Args::new(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::RunUnreadable { .. } | Self::CannotAsk { .. } => Outcome::HostFault,
            _ => Outcome::Usage,
        }
    }
}
