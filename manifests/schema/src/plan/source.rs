//! The places that files come from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Arch, ByteSize, Digest, GlibcVersion, RepoName};

/// A place that a file comes from.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// A Python package index.
    Pypi(PypiSource),
    /// A web address whose digest is known beforehand.
    Https(HttpsSource),
    /// A file on this machine.
    File(FileSource),
    /// The files of a folder on this machine.
    Folder(FolderSource),
    /// A file that may not be passed on: whoever builds brings the copy that they got from its vendor.
    Own(OwnSource),
}

impl Source {
    /// Whether the source stands for a group of files rather than for one.
    pub fn is_group(&self) -> bool {
        matches!(self, Self::Folder(_)) || !self.taken().1.is_empty()
    }

    /// The same source with all of its archive's members, where it names none.
    #[must_use]
    pub fn with_all_members(mut self) -> Self {
        let members = match &mut self {
            Self::Pypi(source) => &mut source.members,
            Self::Https(source) => &mut source.members,
            Self::File(source) => &mut source.members,
            Self::Own(source) => &mut source.members,
            Self::Folder(_) => return self,
        };
        if members.is_empty() {
            members.push("*".to_owned());
        }
        self
    }

    /// What to take out of an archive: one member, patterns of members, and what to cut off their names.
    pub fn taken(&self) -> (Option<&str>, &[String], &str) {
        let (member, members, strip) = match self {
            Self::Pypi(source) => (&source.member, &source.members, &source.strip),
            Self::Https(source) => (&source.member, &source.members, &source.strip),
            Self::File(source) => (&source.member, &source.members, &source.strip),
            Self::Own(source) => (&source.member, &source.members, &source.strip),
            Self::Folder(_) => return (None, &[], ""),
        };
        (member.as_deref(), members, strip)
    }
}

/// A file of one release of a project on a Python package index, or members of that file.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PypiSource {
    /// The project.
    pub project: String,
    /// Its exact version.
    pub version: String,
    /// Which kind of file.
    #[serde(default)]
    pub kind: ArchiveKind,
    /// The machine that a wheel is for. Not needed for a wheel that suits every machine, nor inside a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<WheelTarget>,
    /// The one member to take. A source archive's own top folder is not part of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Patterns of the members to take, each to its own file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// What to cut off the front of the members' names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strip: String,
}

/// Kind of a file on a package index.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArchiveKind {
    /// Built.
    #[default]
    Wheel,
    /// The source archive.
    Sdist,
}

/// The machine and the Python that a wheel must suit.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WheelTarget {
    /// Its architecture.
    pub arch: Arch,
    /// Python's version, such as `3.11`.
    pub python: String,
    /// Its glibc.
    pub glibc: GlibcVersion,
}

/// A pinned file on the web.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HttpsSource {
    /// Its address.
    pub url: String,
    /// Other addresses of the same bytes, tried in this order after the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// SHA-256 that the bytes must have.
    pub digest: Digest,
    /// Headers that the server asks for, such as `Referer`. They stand in the lock: no secrets here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers with a secret: the name of the environment variable that holds the value. Only the name is written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_headers: BTreeMap<String, String>,
    /// The one member of the archive to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Patterns of the members to take, each to its own file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// What to cut off the front of the members' names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strip: String,
}

/// A file on the builder's machine.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// Its path, relative to the plan.
    pub path: String,
    /// The one member of the archive to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Patterns of the members to take, each to its own file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// What to cut off the front of the members' names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strip: String,
}

/// A folder on the builder's machine. Each of its files goes below the path that the plan gives.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FolderSource {
    /// Its path, relative to the plan.
    pub path: String,
    /// Patterns of the files to take; all of them when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Patterns of the files to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

/// A slot for a file that its vendor does not let others pass on.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OwnSource {
    /// Its name at the vendor.
    pub file_name: String,
    /// Exact number of its bytes.
    pub size: ByteSize,
    /// SHA-256 that its bytes must have.
    pub digest: Digest,
    /// Where to get it, for the person who brings it: a page, an order number.
    pub from: String,
    /// The one member of the archive to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Patterns of the members to take, each to its own file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// What to cut off the front of the members' names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strip: String,
}

/// A repository on a hub.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HubSource {
    /// Its name there.
    pub repo: RepoName,
    /// Branch, tag or commit [default: `main` on Hugging Face, `master` on ModelScope].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Patterns of the files to take; all of them when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Patterns of the files to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}
