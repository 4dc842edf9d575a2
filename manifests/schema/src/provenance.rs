//! `meta/provenance.json`: where every blob came from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// The origin of every blob of a bundle.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Provenance {
    /// Version of this format: 1.
    pub format: u32,
    /// By blob.
    pub blobs: BTreeMap<Digest, Origin>,
}

/// Where a blob came from.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Origin {
    /// Kind of place.
    pub kind: OriginKind,
    /// What was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Project on a package index, or repository on a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Version of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Commit of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The archive that the blob is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveMember>,
    /// SPDX licence expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
}

impl Origin {
    /// The origin in one line, for people.
    pub fn line(&self) -> String {
        let mut line = self
            .url
            .clone()
            .or_else(|| self.project.clone())
            .unwrap_or_default();
        if let Some(archive) = &self.archive {
            line.push('#');
            line.push_str(&archive.member);
        }
        if let Some(revision) = &self.revision {
            line.push('@');
            line.push_str(revision);
        }
        line
    }
}

/// Kind of an [`Origin`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OriginKind {
    /// A Python package index.
    Pypi,
    /// A web address with a pinned digest.
    Https,
    /// The Hugging Face Hub, or a mirror of it.
    HuggingFace,
    /// ModelScope.
    #[serde(rename = "modelscope")]
    ModelScope,
    /// A file on the builder's machine.
    File,
    /// A file that whoever built the bundle got from its vendor.
    Own,
    /// Made while the bundle was built.
    Built,
}

/// A member of a wheel or a source archive.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ArchiveMember {
    /// Name of the archive.
    pub file_name: String,
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// Name of the member in it.
    pub member: String,
}
