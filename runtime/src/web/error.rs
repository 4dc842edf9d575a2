//! Why the page is not given what it asks for.

use std::io;
use std::path::PathBuf;

use hyper::StatusCode;
use report::{Args, Diagnose, Outcome};

/// Why the page is not given what it asks for.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebError {
    /// A request was meant for another machine.
    #[error("this server does not answer to the name in the request's `Host`")]
    ForeignHost,
    /// A page of another server asks.
    #[error("the request comes from a page of another server")]
    ForeignPage,
    /// The token is missing or wrong.
    #[error("the right token is needed")]
    NoToken,
    /// There is no such path.
    #[error("there is nothing at `{path}`")]
    NotFound { path: String },
    /// A body is too large.
    #[error("at most {limit} bytes are taken")]
    TooLarge { limit: u64 },
    /// A body did not come whole.
    #[error("the upload was cut off")]
    Cut,
    /// The request is not what the page sends.
    #[error("the request is not understood: {reason}")]
    Malformed { reason: String },
    /// A name that no folder or file gets.
    #[error("`{name}` cannot be a name")]
    BadName { name: String },
    /// Something of this name is there already.
    #[error("`{name}` is there already")]
    NameTaken { name: String },
    /// A job refers to what lies outside of the folders.
    #[error("`{key}` leads out of the folders of this page: `{path}`")]
    Outside { key: String, path: String },
    /// A job does not write where its run belongs.
    #[error("`output_dir` must be `{expected}`")]
    OutputElsewhere { expected: String },
    /// There is no run of this name.
    #[error("there is no run `{name}`")]
    NoRun { name: String },
    /// It works at the moment.
    #[error("the run `{name}` works at the moment")]
    Works { name: String },
    /// The name was not repeated.
    #[error("the name was not repeated")]
    NotConfirmed,
    /// A file cannot be written.
    #[error("cannot write `{path}`")]
    Write { path: PathBuf, source: io::Error },
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    /// A command of this program cannot be started.
    #[error("cannot start `{command}`")]
    NotStarted { command: String, source: io::Error },
    /// A command took too long to answer.
    #[error("`{command}` did not answer within {seconds} seconds")]
    TooSlow { command: String, seconds: u64 },
    /// A command ended without an answer.
    #[error("`{command}` ended without an answer")]
    NoAnswer { command: String },
    /// Enough is going on.
    #[error("too many requests are being worked on")]
    Busy,
    /// A file of a kind that is not taken.
    #[error("`{file}` is neither .json, .jsonl nor .csv")]
    UnknownKind { file: String },
    /// A data file whose columns say nothing of what they hold.
    #[error(
        "`{file}` has the columns {found}; which of them is the question and which the answer is not known"
    )]
    UnknownColumns { file: String, found: String },
    /// The list of datasets cannot be changed.
    #[error("`{path}` cannot be added to: {reason}")]
    List { path: PathBuf, reason: String },
    /// No model is loaded.
    #[error("no model is loaded")]
    NoModel,
    /// The model did not answer.
    #[error("the model did not answer: {reason}")]
    ChatFailed { reason: String },
}

/// An error as a status of HTTP: one of the page, or of what it stands on.
pub(super) fn status(error: &dyn Diagnose) -> StatusCode {
    match error.code() {
        "web.foreign-host" | "web.foreign-page" | "web.outside" => StatusCode::FORBIDDEN,
        "web.no-token" => StatusCode::UNAUTHORIZED,
        "web.not-found" | "web.no-run" => StatusCode::NOT_FOUND,
        "web.too-large" => StatusCode::PAYLOAD_TOO_LARGE,
        "web.name-taken" | "web.works" | "web.no-model" => StatusCode::CONFLICT,
        "web.busy" => StatusCode::TOO_MANY_REQUESTS,
        _ if error.outcome() == Outcome::HostFault => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

impl Diagnose for WebError {
    fn code(&self) -> &'static str {
        match self {
            Self::ForeignHost => "web.foreign-host",
            Self::ForeignPage => "web.foreign-page",
            Self::NoToken => "web.no-token",
            Self::NotFound { .. } => "web.not-found",
            Self::TooLarge { .. } => "web.too-large",
            Self::Cut => "web.cut",
            Self::Malformed { .. } => "web.malformed",
            Self::BadName { .. } => "web.bad-name",
            Self::NameTaken { .. } => "web.name-taken",
            Self::Outside { .. } => "web.outside",
            Self::OutputElsewhere { .. } => "web.output-elsewhere",
            Self::NoRun { .. } => "web.no-run",
            Self::Works { .. } => "web.works",
            Self::NotConfirmed => "web.not-confirmed",
            Self::Write { .. } => "web.write",
            Self::Read { .. } => "web.read",
            Self::NotStarted { .. } => "web.not-started",
            Self::TooSlow { .. } => "web.too-slow",
            Self::NoAnswer { .. } => "web.no-answer",
            Self::Busy => "web.busy",
            Self::UnknownKind { .. } => "web.unknown-kind",
            Self::UnknownColumns { .. } => "web.unknown-columns",
            Self::List { .. } => "web.list",
            Self::NoModel => "web.no-model",
            Self::ChatFailed { .. } => "web.chat-failed",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::NotFound { path } => vec![("path", path.clone())],
            Self::TooLarge { limit } => vec![("limit", limit.to_string())],
            Self::Malformed { reason } | Self::ChatFailed { reason } => {
                vec![("reason", reason.clone())]
            }
            Self::BadName { name }
            | Self::NameTaken { name }
            | Self::NoRun { name }
            | Self::Works { name } => vec![("name", name.clone())],
            Self::Outside { key, path } => vec![("key", key.clone()), ("path", path.clone())],
            Self::OutputElsewhere { expected } => vec![
                ("key", "output_dir".to_owned()),
                ("folder", expected.clone()),
            ],
            Self::Write { path, .. } | Self::Read { path, .. } => {
                vec![("path", path.display().to_string())]
            }
            Self::NotStarted { command, .. } | Self::NoAnswer { command } => {
                vec![("command", command.clone())]
            }
            Self::TooSlow { command, seconds } => vec![
                ("command", command.clone()),
                ("seconds", seconds.to_string()),
            ],
            Self::UnknownKind { file } => vec![("file", file.clone())],
            Self::UnknownColumns { file, found } => {
                vec![("file", file.clone()), ("columns", found.clone())]
            }
            Self::List { path, reason } => vec![
                ("path", path.display().to_string()),
                ("reason", reason.clone()),
            ],
            _ => Args::new(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Write { .. }
            | Self::Read { .. }
            | Self::NotStarted { .. }
            | Self::TooSlow { .. }
            | Self::NoAnswer { .. }
            | Self::ChatFailed { .. } => Outcome::HostFault,
            _ => Outcome::Usage,
        }
    }
}
