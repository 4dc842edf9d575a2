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
    /// A chip cannot do what the job asks for.
    #[error("`{key}: {value}` cannot be done on {chip}: {cause}")]
    ChipRefuses {
        key: String,
        value: String,
        chip: String,
        cause: String,
        source_of: String,
    },
    /// A chip that one does not train on.
    #[error("{chip} is made for inference only")]
    ChipForInference { chip: String, source_of: String },
    /// The memory of a device ran out.
    #[cfg(feature = "native")]
    #[error("the memory of {chip} ran out: {reason}")]
    DeviceFull {
        chip: String,
        reason: String,
        /// The job may hold its weights in four bits there, and does not.
        packable: bool,
    },
    /// Another process of the run ended.
    #[cfg(feature = "native")]
    #[error("process {rank} of {count} ended with {how}{}", after(.said))]
    ProcessEnded {
        rank: usize,
        count: usize,
        how: String,
        said: String,
    },
    /// The processes of a run cannot be started.
    #[cfg(feature = "native")]
    #[error("the processes of the run cannot be started")]
    NotStarted { source: std::io::Error },
    /// A variable that tells a process its place is wrong.
    #[cfg(feature = "native")]
    #[error("the variable {name} is `{value}`")]
    BadVariable { name: &'static str, value: String },
    /// A run over several machines.
    #[cfg(feature = "native")]
    #[error("{name}={value} means another machine")]
    OtherHost { name: &'static str, value: String },
    /// A model was to be exported over something else.
    #[cfg(feature = "native")]
    #[error("`{path}` holds something that an export does not replace")]
    ExportTaken { path: PathBuf },
    /// The results of an exam were to go where something is.
    #[cfg(feature = "native")]
    #[error("`{path}` exists already")]
    SaveTaken { path: PathBuf },
    /// Neither a job nor a model was named.
    #[cfg(feature = "native")]
    #[error("neither a job file nor a model is named")]
    NothingNamed,
    /// The messages of a chat come in an order that its template has no place for.
    #[cfg(feature = "native")]
    #[error("message {number} is by `{found}`; the template has a place for `{expected}` there")]
    Order {
        number: usize,
        found: String,
        expected: &'static str,
    },
    /// The address cannot be listened on.
    #[cfg(feature = "native")]
    #[error("cannot listen on `{address}`")]
    Listen {
        address: String,
        source: std::io::Error,
    },
    /// The file with the token cannot be used.
    #[cfg(feature = "native")]
    #[error("the token file `{path}` cannot be used: {reason}")]
    TokenFile { path: PathBuf, reason: String },
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
            Self::ChipRefuses { .. } => "runtime.chip-refuses",
            Self::ChipForInference { .. } => "runtime.chip-for-inference",
            #[cfg(feature = "native")]
            Self::DeviceFull { packable: true, .. } => "runtime.device-full-packable",
            #[cfg(feature = "native")]
            Self::DeviceFull { .. } => "runtime.device-full",
            #[cfg(feature = "native")]
            Self::ProcessEnded { .. } => "runtime.process-ended",
            #[cfg(feature = "native")]
            Self::NotStarted { .. } => "runtime.not-started",
            #[cfg(feature = "native")]
            Self::BadVariable { .. } => "runtime.bad-variable",
            #[cfg(feature = "native")]
            Self::OtherHost { .. } => "runtime.other-host",
            #[cfg(feature = "native")]
            Self::ExportTaken { .. } => "runtime.export-taken",
            #[cfg(feature = "native")]
            Self::SaveTaken { .. } => "runtime.save-taken",
            #[cfg(feature = "native")]
            Self::NothingNamed => "runtime.nothing-named",
            #[cfg(feature = "native")]
            Self::Order { .. } => "runtime.order",
            #[cfg(feature = "native")]
            Self::Listen { .. } => "runtime.listen",
            #[cfg(feature = "native")]
            Self::TokenFile { .. } => "runtime.token-file",
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
            Self::ExportTaken { path } | Self::SaveTaken { path } => {
                vec![("path", path.display().to_string())]
            }
            #[cfg(feature = "native")]
            Self::NothingNamed => Args::new(),
            #[cfg(feature = "native")]
            Self::Order {
                number,
                found,
                expected,
            } => vec![
                ("number", number.to_string()),
                ("found", found.clone()),
                ("expected", (*expected).to_owned()),
            ],
            #[cfg(feature = "native")]
            Self::Listen { address, .. } => vec![("address", address.clone())],
            #[cfg(feature = "native")]
            Self::TokenFile { path, reason } => vec![
                ("path", path.display().to_string()),
                ("reason", reason.clone()),
            ],
            #[cfg(feature = "native")]
            Self::DeviceFull { chip, reason, .. } => {
                vec![("chip", chip.clone()), ("reason", reason.clone())]
            }
            #[cfg(feature = "native")]
            Self::ProcessEnded {
                rank,
                count,
                how,
                said,
            } => vec![
                ("rank", rank.to_string()),
                ("count", count.to_string()),
                ("how", how.clone()),
                ("said", after(said)),
            ],
            #[cfg(feature = "native")]
            Self::NotStarted { .. } => Args::new(),
            #[cfg(feature = "native")]
            Self::BadVariable { name, value } | Self::OtherHost { name, value } => {
                vec![("name", (*name).to_owned()), ("value", value.clone())]
            }
            Self::ChipRefuses {
                key,
                value,
                chip,
                cause,
                source_of,
            } => vec![
                ("key", key.clone()),
                ("value", value.clone()),
                ("chip", chip.clone()),
                ("cause", cause.clone()),
                ("source", source_of.clone()),
            ],
            Self::ChipForInference { chip, source_of } => {
                vec![("chip", chip.clone()), ("source", source_of.clone())]
            }
            Self::NoSuchModel { name } => vec![("name", name.clone())],
            #[cfg(not(feature = "native"))]
            Self::NotNative => Args::new(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::RunUnreadable { .. } | Self::CannotAsk { .. } => Outcome::HostFault,
            #[cfg(feature = "native")]
            Self::DeviceFull { .. } | Self::ProcessEnded { .. } | Self::NotStarted { .. } => {
                Outcome::HostFault
            }
            _ => Outcome::Usage,
        }
    }
}

/// What a process said, to follow upon a sentence.
#[cfg(feature = "native")]
fn after(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(": {said}")
    }
}
