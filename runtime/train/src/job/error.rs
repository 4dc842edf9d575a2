//! Why a job file cannot run.

use report::{Args, Diagnose, Outcome};

/// A job file that cannot run as it stands. `place` is such as `job.yaml, line 3`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The text is neither YAML nor JSON, or not a list of keys.
    #[error("{place}: not a YAML or JSON job: {reason}")]
    Syntax {
        /// File and line.
        place: String,
        /// What the parser said.
        reason: String,
    },
    /// A key stands in the file twice.
    #[error("{place}: `{key}` stands in the file a second time")]
    Twice {
        /// File and line.
        place: String,
        /// The key.
        key: String,
    },
    /// A value does not fit its key.
    #[error("{place}: `{key}` must be {expected}, found {found}")]
    Value {
        /// File and line, or the argument.
        place: String,
        /// The key.
        key: String,
        /// What fits.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The original knows this, this program does not.
    #[error("{place}: `{key}: {value}` is not supported: {reason}")]
    Unsupported {
        /// File and line, or the argument.
        place: String,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is missing.
        reason: String,
    },
    /// Neither this program nor the original knows the key.
    #[error("{place}: unknown key `{key}`; the nearest known key is `{nearest}`")]
    Unknown {
        /// File and line, or the argument.
        place: String,
        /// The key.
        key: String,
        /// The known key most like it.
        nearest: String,
    },
    /// Neither this program nor the original knows the key, nor one like it.
    #[error("{place}: unknown key `{key}`")]
    Foreign {
        /// File and line, or the argument.
        place: String,
        /// The key.
        key: String,
    },
    /// The file is no job, but something that lies beside jobs.
    #[error("{origin} is {kind}")]
    OtherFile {
        /// The file.
        origin: String,
        /// What it is.
        kind: String,
    },
    /// The job is for another command than those that train.
    #[error("{origin} is a job for `ferry-runtime {command}`")]
    OtherCommand {
        /// The file.
        origin: String,
        /// The command.
        command: String,
    },
    /// Two keys that cannot be used together.
    #[error("{place}: `{key}` cannot be used with `{other}`")]
    Conflict {
        /// File and line, or the argument.
        place: String,
        /// The key.
        key: String,
        /// What excludes it.
        other: String,
    },
    /// A key that every job needs is not there.
    #[error("{origin}: `{key}` is missing")]
    Missing {
        /// The file.
        origin: String,
        /// The key.
        key: String,
    },
    /// An override is not `key=value`.
    #[error("`{argument}` is not of the form key=value")]
    Override {
        /// The argument.
        argument: String,
    },
}

impl Diagnose for JobError {
    fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "job.syntax",
            Self::Twice { .. } => "job.twice",
            Self::Value { .. } => "job.value",
            Self::Unsupported { .. } => "job.unsupported",
            Self::Unknown { .. } => "job.unknown-key",
            Self::Foreign { .. } => "job.foreign-key",
            Self::OtherFile { .. } => "job.other-file",
            Self::OtherCommand { .. } => "job.other-command",
            Self::Conflict { .. } => "job.conflict",
            Self::Missing { .. } => "job.missing-key",
            Self::Override { .. } => "job.override",
        }
    }

    fn args(&self) -> Args {
        let pairs: Vec<(&'static str, &String)> = match self {
            Self::Syntax { place, reason } => vec![("place", place), ("reason", reason)],
            Self::Value {
                place,
                key,
                expected,
                found,
            } => vec![
                ("place", place),
                ("key", key),
                ("expected", expected),
                ("found", found),
            ],
            Self::Unsupported {
                place,
                key,
                value,
                reason,
            } => vec![
                ("place", place),
                ("key", key),
                ("value", value),
                ("reason", reason),
            ],
            Self::Unknown {
                place,
                key,
                nearest,
            } => vec![("place", place), ("key", key), ("nearest", nearest)],
            Self::Foreign { place, key } | Self::Twice { place, key } => {
                vec![("place", place), ("key", key)]
            }
            Self::OtherCommand { origin, command } => {
                vec![("origin", origin), ("command", command)]
            }
            Self::OtherFile { origin, kind } => vec![("origin", origin), ("kind", kind)],
            Self::Conflict { place, key, other } => {
                vec![("place", place), ("key", key), ("other", other)]
            }
            Self::Missing { origin, key } => vec![("origin", origin), ("key", key)],
            Self::Override { argument } => vec![("argument", argument)],
        };
        pairs.into_iter().map(|(k, v)| (k, v.clone())).collect()
    }

    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}
