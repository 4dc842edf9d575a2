//! What is wrong with the requirements of a Python environment.

use std::io;
use std::path::PathBuf;

use report::{Args, Diagnose, Outcome};

/// What is wrong with a requirement, a file of requirements, or a lock of another tool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequirementError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line asks for what Ferry does not do.
    #[error("{place}: `{found}` {problem}")]
    Line {
        /// File and line, or the plan.
        place: String,
        /// The words.
        found: String,
        /// What is wrong with them.
        problem: &'static str,
    },
    /// A lock is not one.
    #[error("`{}` is not a lock that can be read: {problem}", path.display())]
    Lock {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A lock was made for other machines or Pythons.
    #[error("`{}` is for {needs}, and the backend is for {found}", path.display())]
    OtherTarget {
        /// Which.
        path: PathBuf,
        /// What it is for.
        needs: String,
        /// The backend's.
        found: String,
    },
    /// A distribution has no wheel for the target.
    #[error("`{}` pins {project} {version}, of which it lists no wheel for {target}", path.display())]
    NoWheel {
        /// The lock.
        path: PathBuf,
        /// The project.
        project: String,
        /// Its version.
        version: String,
        /// Python and machine.
        target: String,
    },
    /// None of the wheels that suit has a digest that was given.
    #[error("no wheel of {project} {version} for {target} has one of the digests that were given")]
    Hash {
        /// The project.
        project: String,
        /// Its version.
        version: String,
        /// Python and machine.
        target: String,
    },
    /// A file that should be a wheel for the target is none.
    #[error("`{file_name}` is not a wheel for {target}")]
    NotForTarget {
        /// Its name.
        file_name: String,
        /// Python and machine.
        target: String,
    },
    /// Two places say which version of a project.
    #[error("{project} is named twice: {one} and {other}")]
    Twice {
        /// The project.
        project: String,
        /// The one version.
        one: String,
        /// The other.
        other: String,
    },
}

impl Diagnose for RequirementError {
    fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "python.file",
            Self::Line { .. } => "python.line",
            Self::Lock { .. } => "python.lock",
            Self::OtherTarget { .. } => "python.other-target",
            Self::NoWheel { .. } => "python.no-wheel",
            Self::Hash { .. } => "python.hash",
            Self::NotForTarget { .. } => "python.not-for-target",
            Self::Twice { .. } => "python.twice",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::File { path, .. } => vec![("path", path.display().to_string())],
            Self::Line {
                place,
                found,
                problem,
            } => vec![
                ("place", place.clone()),
                ("found", found.clone()),
                ("problem", (*problem).to_owned()),
            ],
            Self::Lock { path, problem } => vec![
                ("path", path.display().to_string()),
                ("problem", problem.clone()),
            ],
            Self::OtherTarget { path, needs, found } => vec![
                ("path", path.display().to_string()),
                ("needs", needs.clone()),
                ("found", found.clone()),
            ],
            Self::NoWheel {
                path,
                project,
                version,
                target,
            } => vec![
                ("path", path.display().to_string()),
                ("project", project.clone()),
                ("version", version.clone()),
                ("target", target.clone()),
            ],
            Self::Hash {
                project,
                version,
                target,
            } => vec![
                ("project", project.clone()),
                ("version", version.clone()),
                ("target", target.clone()),
            ],
            Self::NotForTarget { file_name, target } => {
                vec![("file", file_name.clone()), ("target", target.clone())]
            }
            Self::Twice {
                project,
                one,
                other,
            } => vec![
                ("project", project.clone()),
                ("one", one.clone()),
                ("other", other.clone()),
            ],
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::File { .. } => Outcome::HostFault,
            Self::Hash { .. } => Outcome::Untrusted,
            _ => Outcome::Usage,
        }
    }
}
