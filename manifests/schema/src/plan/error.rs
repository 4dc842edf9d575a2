//! What is wrong in a manifest, and where.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

/// What is wrong in a plan or a lock, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not of the right shape.
    #[error("line {line}, column {column}, at `{at}`: {problem}")]
    Shape {
        /// Line, counted from 1.
        line: usize,
        /// Column, counted from 1.
        column: usize,
        /// JSON path, such as `models[0].license`.
        at: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// It is a manifest, and of the other kind.
    #[error("this is a {found}")]
    Other {
        /// `plan` or `lock`.
        found: &'static str,
    },
    /// A value of the right shape that cannot be.
    #[error("at `{at}`: found {found}, expected {expected}")]
    Value {
        /// JSON path, such as `models[0].license`.
        at: String,
        /// The value.
        found: String,
        /// What it should be.
        expected: String,
    },
}

impl ManifestError {
    pub(crate) fn value(
        at: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Value {
            at: at.into(),
            found: found.into(),
            expected: expected.into(),
        }
    }
}

/// The manifest that a person may name by mistake, and by which fields of its own it is known.
pub(crate) struct Other {
    /// What it is called.
    pub(crate) name: &'static str,
    /// A field that it has.
    pub(crate) has: &'static str,
    /// A field that it has not.
    pub(crate) lacks: &'static str,
}

/// Reads a manifest; where it is the other one, the error says so rather than what is wrong with it.
pub(crate) fn read_not<T: serde::de::DeserializeOwned>(
    other: &Other,
    text: &[u8],
) -> Result<T, ManifestError> {
    read(text).map_err(|error| {
        #[expect(
            clippy::zero_sized_map_values,
            reason = "a set cannot pass over the values"
        )]
        let fields = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(text);
        let is_other = fields.is_ok_and(|fields| {
            fields.contains_key(other.has) && !fields.contains_key(other.lacks)
        });
        if is_other {
            ManifestError::Other { found: other.name }
        } else {
            error
        }
    })
}

/// Reads JSON into a manifest and keeps where it went wrong.
pub(crate) fn read<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, ManifestError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let at = error.path().to_string();
        shape(at, error.inner())
    })?;
    reader
        .end()
        .map_err(|error| shape(".".to_owned(), &error))?;
    Ok(value)
}

fn shape(at: String, error: &serde_json::Error) -> ManifestError {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    ManifestError::Shape {
        line: error.line(),
        column: error.column(),
        at,
        problem: text.strip_suffix(&place).unwrap_or(&text).to_owned(),
    }
}
