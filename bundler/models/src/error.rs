//! What is wrong with a model file, and where.

use std::io;

use report::{Args, Diagnose, Outcome};

/// A file of a model or dataset cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFileError {
    /// It cannot be read.
    #[error("cannot read `{file}`")]
    Unreadable {
        /// Its path in the model.
        file: String,
        /// The cause.
        source: io::Error,
    },
    /// It is not what its name or its first bytes say.
    #[error("`{file}`, {at}: {}: found {found}, expected {expected}", flaw.text())]
    Flawed {
        /// Its path in the model.
        file: String,
        /// What is wrong.
        flaw: Flaw,
        /// Where: a byte, or a tensor.
        at: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
}

/// What can be wrong with a model file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Flaw {
    /// The file ends before what its header announces.
    CutShort,
    /// The file goes on after what its header announces.
    TooLong,
    /// The first bytes are those of something else.
    Magic,
    /// A version that nothing here can check.
    Version,
    /// A count or length is out of bounds.
    Bound,
    /// The header is not the JSON that it should be.
    Json,
    /// A number format that does not exist.
    Kind,
    /// Shape and number format ask for another number of bytes.
    Bytes,
    /// Data of tensors overlaps, or leaves a hole.
    Offsets,
    /// A tensor has two entries.
    Twice,
    /// The index names a shard that is not there.
    ShardMissing,
    /// The index says that a tensor is in a shard, and it is not.
    TensorMissing,
    /// A zip archive that cannot be read within bounds.
    Archive,
}

impl Flaw {
    fn text(self) -> &'static str {
        match self {
            Self::CutShort => "the file is cut short",
            Self::TooLong => "the file is too long",
            Self::Magic => "the file is of another kind",
            Self::Version => "unknown version",
            Self::Bound => "a number is out of bounds",
            Self::Json => "the header is wrong",
            Self::Kind => "unknown number format",
            Self::Bytes => "shape and bytes differ",
            Self::Offsets => "data overlaps or leaves a hole",
            Self::Twice => "two entries of one name",
            Self::ShardMissing => "a shard is missing",
            Self::TensorMissing => "a tensor is not in its shard",
            Self::Archive => "the archive cannot be read",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::CutShort => "weights.cut-short",
            Self::TooLong => "weights.too-long",
            Self::Magic => "weights.magic",
            Self::Version => "weights.version",
            Self::Bound => "weights.bound",
            Self::Json => "weights.json",
            Self::Kind => "weights.kind",
            Self::Bytes => "weights.bytes",
            Self::Offsets => "weights.offsets",
            Self::Twice => "weights.twice",
            Self::ShardMissing => "weights.shard-missing",
            Self::TensorMissing => "weights.tensor-missing",
            Self::Archive => "weights.archive",
        }
    }
}

impl ModelFileError {
    pub(crate) fn unreadable(file: &str) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Unreadable {
            file: file.to_owned(),
            source,
        }
    }

    pub(crate) fn flawed(
        file: &str,
        flaw: Flaw,
        at: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Flawed {
            file: file.to_owned(),
            flaw,
            at: at.into(),
            found: shown(&found.into()),
            expected: expected.into(),
        }
    }
}

/// A value of a foreign file, short enough for a line.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(160).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl Diagnose for ModelFileError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "weights.unreadable",
            Self::Flawed { flaw, .. } => flaw.code(),
        }
    }

    fn args(&self) -> Args {
        match self {
            Self::Unreadable { file, .. } => vec![("file", file.clone())],
            Self::Flawed {
                file,
                at,
                found,
                expected,
                ..
            } => vec![
                ("file", file.clone()),
                ("at", at.clone()),
                ("found", found.clone()),
                ("expected", expected.clone()),
            ],
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Unreadable { .. } => Outcome::HostFault,
            Self::Flawed { .. } => Outcome::Failed,
        }
    }
}
