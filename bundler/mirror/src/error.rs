//! What can go wrong between an address and a file.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use manifest_schema::Digest;
use report::{Args, Diagnose, Outcome};

use crate::RequirementError;

/// A file could not be found, fetched or taken out of its archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// A server answered with an error.
    #[error("{url} answered {status}{}", in_brackets(reason.as_deref()))]
    Status {
        /// The address, without its query.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the server says of it, such as `GatedRepo`.
        reason: Option<String>,
        /// How long the server asked to wait.
        wait: Option<Duration>,
    },
    /// No connection, or it broke.
    #[error("the connection to {url} failed")]
    Connection {
        /// The address, without its query.
        url: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A secret cannot stand in a header.
    #[error("the secret for the header `{header}` of {url} has letters that no header may have")]
    Credential {
        /// The address, without its query.
        url: String,
        /// The header.
        header: String,
    },
    /// A variable that should hold a secret is not set.
    #[error("`{file_name}` needs the header `{header}`, and the variable {variable} is not set")]
    NoSecret {
        /// The file.
        file_name: String,
        /// The header.
        header: String,
        /// The environment variable.
        variable: String,
    },
    /// A repository whose terms must be accepted, or that is private.
    #[error("{wanted} is not open to this token: {problem}")]
    Gated {
        /// The repository.
        wanted: String,
        /// What the hub said.
        problem: String,
    },
    /// The answer ended early.
    #[error("{url} ended after {found} of {expected} bytes")]
    CutShort {
        /// The address, without its query.
        url: String,
        /// Bytes that came.
        found: u64,
        /// Bytes of the file.
        expected: u64,
    },
    /// The answer has another length than the lock pins.
    #[error("{url} has {found} bytes, not {expected}")]
    SizeDiffers {
        /// The address, without its query.
        url: String,
        /// Bytes on offer.
        found: u64,
        /// Bytes of the file.
        expected: u64,
    },
    /// The bytes are others than the lock pins.
    #[error("{url} has digest {found}, not {expected}")]
    DigestDiffers {
        /// The address, without its query.
        url: String,
        /// Digest of what came.
        found: String,
        /// Digest of the file.
        expected: String,
        /// Whether the file was begun before: then its beginning may be what is wrong.
        resumed: bool,
    },
    /// A redirect that must not be followed.
    #[error("{url} redirects to where Ferry does not follow: {problem}")]
    Redirect {
        /// The address, without its query.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No place gave the file.
    #[error("cannot fetch `{file_name}` ({digest}): {}", failures.join("; "))]
    EveryPlaceFailed {
        /// The file.
        file_name: String,
        /// Its digest.
        digest: Digest,
        /// What each place did.
        failures: Vec<String>,
    },
    /// The disk failed.
    #[error("cannot use `{}`", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file of the cache is no longer what its name says.
    #[error("`{}` is damaged: found {found}, expected {expected}", path.display())]
    CacheDamaged {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: Digest,
        /// What it should hold.
        expected: Digest,
    },
    /// An answer is not what its protocol says.
    #[error("cannot understand the answer of {url}: {problem}")]
    Answer {
        /// The address, without its query.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// A package index has no file that suits.
    #[error("{index} has no {wanted} of {project} {version}")]
    NoFile {
        /// The index.
        index: String,
        /// The project.
        project: String,
        /// Its version.
        version: String,
        /// What was looked for.
        wanted: String,
    },
    /// A hub does not know a repository, a revision or a file, or wants a token.
    #[error("the hub has no {wanted} that may be read: {problem}")]
    Hub {
        /// What was looked for.
        wanted: String,
        /// What the hub said.
        problem: String,
    },
    /// A registry does not let us in.
    #[error("{registry} does not let us in: {problem}")]
    Login {
        /// The address, without its query.
        registry: String,
        /// What it said, or what it wants.
        problem: String,
    },
    /// No registry has an image.
    #[error("no registry gives {wanted}: {problem}")]
    NoImage {
        /// Name and tag, or digest.
        wanted: String,
        /// What each place said.
        problem: String,
    },
    /// An image is not there for a platform.
    #[error("`{image}` is not there for {wanted}; it is for {known}")]
    NoPlatform {
        /// Its name.
        image: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// Something is no image, or lies about itself, or may not be handed on.
    #[error("`{image}` cannot be taken: {problem}")]
    Image {
        /// Its name.
        image: String,
        /// What is wrong.
        problem: String,
    },
    /// `uv` is not there.
    #[error("cannot run `{}`", program.display())]
    NoResolver {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Requirements have no solution.
    #[error("the requirements cannot be met on {target}: {problem}")]
    Unsolvable {
        /// The target platform.
        target: String,
        /// What the resolver said.
        problem: String,
    },
    /// Requirements, or a lock of another tool, cannot be taken.
    #[error(transparent)]
    Requirement(#[from] RequirementError),
    /// A requirement brings in what the plan forbids.
    #[error("{project} is needed, but `{pattern}` is forbidden")]
    Forbidden {
        /// The project.
        project: String,
        /// The pattern.
        pattern: String,
    },
    /// A pattern is not one.
    #[error("`{pattern}` is not a pattern")]
    Pattern {
        /// The text.
        pattern: String,
        /// The cause.
        source: globset::Error,
    },
    /// An archive cannot be read, or lies about itself.
    #[error("cannot read the archive `{archive}`: {problem}")]
    Archive {
        /// Its name.
        archive: String,
        /// What is wrong.
        problem: String,
    },
    /// An archive lacks a member.
    #[error("`{archive}` has no member `{member}`")]
    NoMember {
        /// Its name.
        archive: String,
        /// The member, or the pattern.
        member: String,
    },
}

impl MirrorError {
    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File {
            path: path.into(),
            source,
        }
    }

    /// Whether the same request may do better a little later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Connection { .. } | Self::CutShort { .. } => true,
            Self::DigestDiffers { resumed, .. } => *resumed,
            _ => false,
        }
    }

    /// The values of what can go wrong on the way from a server.
    fn transfer_args(&self) -> Args {
        match self {
            Self::Status {
                url,
                status,
                reason,
                ..
            } => vec![
                ("url", url.clone()),
                (
                    "status",
                    format!("{status}{}", in_brackets(reason.as_deref())),
                ),
            ],
            Self::Credential { url, header } => {
                vec![("url", url.clone()), ("header", header.clone())]
            }
            Self::NoSecret {
                file_name,
                header,
                variable,
            } => vec![
                ("file", file_name.clone()),
                ("header", header.clone()),
                ("variable", variable.clone()),
            ],
            Self::Connection { url, .. } => vec![("url", url.clone())],
            Self::CutShort {
                url,
                found,
                expected,
            }
            | Self::SizeDiffers {
                url,
                found,
                expected,
            } => vec![
                ("url", url.clone()),
                ("found", found.to_string()),
                ("expected", expected.to_string()),
            ],
            Self::DigestDiffers {
                url,
                found,
                expected,
                ..
            } => vec![
                ("url", url.clone()),
                ("found", found.clone()),
                ("expected", expected.clone()),
            ],
            Self::Redirect { url, problem } | Self::Answer { url, problem } => {
                vec![("url", url.clone()), ("problem", problem.clone())]
            }
            Self::EveryPlaceFailed {
                file_name,
                digest,
                failures,
            } => vec![
                ("file", file_name.clone()),
                ("digest", digest.to_string()),
                ("failures", failures.join("; ")),
            ],
            _ => Args::new(),
        }
    }

    /// The error and its causes on one line.
    pub(crate) fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}

impl Diagnose for MirrorError {
    fn code(&self) -> &'static str {
        match self {
            Self::Status { .. } => "mirror.status",
            Self::Connection { .. } => "mirror.connection",
            Self::Credential { .. } => "mirror.credential",
            Self::NoSecret { .. } => "mirror.no-secret",
            Self::Gated { .. } => "mirror.gated",
            Self::CutShort { .. } => "mirror.cut-short",
            Self::SizeDiffers { .. } => "mirror.size-differs",
            Self::DigestDiffers { .. } => "mirror.digest-differs",
            Self::Redirect { .. } => "mirror.redirect",
            Self::EveryPlaceFailed { .. } => "mirror.every-place-failed",
            Self::File { .. } => "mirror.file",
            Self::CacheDamaged { .. } => "mirror.cache-damaged",
            Self::Answer { .. } => "mirror.answer",
            Self::NoFile { .. } => "mirror.no-file",
            Self::Hub { .. } => "mirror.hub",
            Self::Login { .. } => "mirror.login",
            Self::NoImage { .. } => "mirror.no-image",
            Self::NoPlatform { .. } => "mirror.no-platform",
            Self::Image { .. } => "mirror.image",
            Self::NoResolver { .. } => "mirror.no-resolver",
            Self::Unsolvable { .. } => "mirror.unsolvable",
            Self::Requirement(error) => error.code(),
            Self::Forbidden { .. } => "mirror.forbidden",
            Self::Pattern { .. } => "mirror.pattern",
            Self::Archive { .. } => "mirror.archive",
            Self::NoMember { .. } => "mirror.no-member",
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::File { path, .. } => vec![("path", path.display().to_string())],
            Self::CacheDamaged {
                path,
                found,
                expected,
            } => vec![
                ("path", path.display().to_string()),
                ("found", found.to_string()),
                ("expected", expected.to_string()),
            ],
            Self::NoFile {
                index,
                project,
                version,
                wanted,
            } => vec![
                ("index", index.clone()),
                ("project", project.clone()),
                ("version", version.clone()),
                ("wanted", wanted.clone()),
            ],
            Self::Hub { wanted, problem }
            | Self::Gated { wanted, problem }
            | Self::NoImage { wanted, problem } => {
                vec![("wanted", wanted.clone()), ("problem", problem.clone())]
            }
            Self::Login { registry, problem } => {
                vec![("registry", registry.clone()), ("problem", problem.clone())]
            }
            Self::NoPlatform {
                image,
                wanted,
                known,
            } => vec![
                ("image", image.clone()),
                ("wanted", wanted.clone()),
                ("known", known.clone()),
            ],
            Self::Image { image, problem } => {
                vec![("image", image.clone()), ("problem", problem.clone())]
            }
            Self::NoResolver { program, .. } => vec![("program", program.display().to_string())],
            Self::Unsolvable { target, problem } => {
                vec![("target", target.clone()), ("problem", problem.clone())]
            }
            Self::Forbidden { project, pattern } => {
                vec![("project", project.clone()), ("pattern", pattern.clone())]
            }
            Self::Requirement(error) => error.args(),
            Self::Pattern { pattern, .. } => vec![("pattern", pattern.clone())],
            Self::Archive { archive, problem } => {
                vec![("archive", archive.clone()), ("problem", problem.clone())]
            }
            Self::NoMember { archive, member } => {
                vec![("archive", archive.clone()), ("member", member.clone())]
            }
            _ => self.transfer_args(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Requirement(error) => error.outcome(),
            Self::Pattern { .. }
            | Self::NoPlatform { .. }
            | Self::Forbidden { .. }
            | Self::NoResolver { .. }
            | Self::Credential { .. }
            | Self::NoSecret { .. } => Outcome::Usage,
            Self::DigestDiffers { .. } | Self::SizeDiffers { .. } | Self::CacheDamaged { .. } => {
                Outcome::Untrusted
            }
            Self::Connection { .. }
            | Self::CutShort { .. }
            | Self::Status { .. }
            | Self::EveryPlaceFailed { .. }
            | Self::File { .. } => Outcome::HostFault,
            _ => Outcome::Failed,
        }
    }
}

fn in_brackets(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(" ({reason})"))
}
