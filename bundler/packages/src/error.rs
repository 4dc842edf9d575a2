//! What can be wrong with packages and their repositories.

use report::{Args, Diagnose, Outcome};

/// A repository's metadata or a package cannot be used, or no set of packages works.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// Metadata is not what its format says.
    #[error("cannot understand `{file}`: {problem}")]
    Metadata {
        /// The file.
        file: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// A file of metadata is not the one that the signed list names.
    #[error("`{file}` is not what the repository's list says: found {found}, expected {expected}")]
    Differs {
        /// The file.
        file: String,
        /// Its size or digest.
        found: String,
        /// What the list says.
        expected: String,
    },
    /// A package's file is damaged, or is not the package that the metadata said.
    #[error("cannot use the package `{file}`: {problem}")]
    Package {
        /// The file.
        file: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// No repository has a package that is wanted.
    #[error("no repository has the package `{wanted}`{}", there_is(known))]
    NoSuchPackage {
        /// What was asked for.
        wanted: String,
        /// The versions that there are.
        known: String,
    },
    /// A package is in streams of modules only that are off.
    #[error("the package `{wanted}` is in {streams} alone, and no such stream is on")]
    ModuleOff {
        /// What was asked for.
        wanted: String,
        /// The streams that have it.
        streams: String,
    },
    /// No repository has a stream of a module that is wanted.
    #[error("no repository has the module `{wanted}`{}", there_is(known))]
    NoSuchModule {
        /// What was asked for.
        wanted: String,
        /// The streams that there are.
        known: String,
    },
    /// No set of packages has all that is needed and nothing that conflicts.
    #[error("the packages cannot be installed together: {problem}")]
    Unsolvable {
        /// Who needs or excludes what.
        problem: String,
    },
    /// The list of installed packages cannot be read.
    #[error("cannot understand the list of installed packages: {problem}")]
    Installed {
        /// What was found and what was expected.
        problem: String,
    },
}

impl PackageError {
    pub(crate) fn metadata(file: &str, problem: impl std::fmt::Display) -> Self {
        Self::Metadata {
            file: file.to_owned(),
            problem: problem.to_string(),
        }
    }

    pub(crate) fn package(file: &str, problem: impl std::fmt::Display) -> Self {
        Self::Package {
            file: file.to_owned(),
            problem: problem.to_string(),
        }
    }
}

impl Diagnose for PackageError {
    fn code(&self) -> &'static str {
        match self {
            Self::Metadata { .. } => "packages.metadata",
            Self::Differs { .. } => "packages.metadata-differs",
            Self::Package { .. } => "packages.package",
            Self::NoSuchPackage { .. } => "packages.no-such-package",
            Self::ModuleOff { .. } => "packages.module-off",
            Self::NoSuchModule { .. } => "packages.no-such-module",
            Self::Unsolvable { .. } => "packages.unsolvable",
            Self::Installed { .. } => "packages.installed-list",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Metadata { file, problem } | Self::Package { file, problem } => {
                vec![("file", file.clone()), ("problem", problem.clone())]
            }
            Self::Differs {
                file,
                found,
                expected,
            } => vec![
                ("file", file.clone()),
                ("found", found.clone()),
                ("expected", expected.clone()),
            ],
            Self::NoSuchPackage { wanted, known } | Self::NoSuchModule { wanted, known } => {
                vec![("wanted", wanted.clone()), ("known", there_is(known))]
            }
            Self::ModuleOff { wanted, streams } => {
                vec![("wanted", wanted.clone()), ("streams", streams.clone())]
            }
            Self::Unsolvable { problem } | Self::Installed { problem } => {
                vec![("problem", problem.clone())]
            }
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Differs { .. } => Outcome::Untrusted,
            Self::NoSuchPackage { .. }
            | Self::NoSuchModule { .. }
            | Self::ModuleOff { .. }
            | Self::Installed { .. } => Outcome::Usage,
            _ => Outcome::Failed,
        }
    }
}

fn there_is(versions: &str) -> String {
    if versions.is_empty() {
        return String::new();
    }
    format!("; there is {versions}")
}
