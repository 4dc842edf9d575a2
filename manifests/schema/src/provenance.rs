//! `meta/provenance.json`: where every blob came from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BundlePath, ComponentKind, Digest, RepoName};

/// The origin of every blob of a bundle.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Provenance {
    /// Version of this format: 1.
    pub format: u32,
    /// By blob.
    pub blobs: BTreeMap<Digest, Origin>,
    /// Files of models and datasets that can run code when they are loaded, and by what right each is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub code_on_load: Vec<CodeOnLoad>,
    /// Under which licences each model and dataset was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<LicenseDecision>,
    /// The texts in `meta/licenses/`, and what brought them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub license_texts: Vec<LicenseText>,
}

/// What was accepted for one model or dataset.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct LicenseDecision {
    /// Kind of what it is about.
    pub kind: ComponentKind,
    /// Its name.
    pub component: RepoName,
    /// Its licence, as an SPDX expression.
    pub expression: String,
    /// The licences out of `accept_licenses` that are enough for it.
    pub accepted: Vec<String>,
}

/// A text in `meta/licenses/<hex>.txt`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub struct LicenseText {
    /// The model, dataset or wheel that brings it.
    pub of: String,
    /// Its name there.
    pub path: String,
    /// SHA-256 of the text, which is its name.
    pub digest: Digest,
}

impl Provenance {
    /// What is known of a file that can run code when it is loaded.
    pub fn code_of(
        &self,
        kind: ComponentKind,
        name: &RepoName,
        path: &BundlePath,
    ) -> Option<&CodeOnLoad> {
        self.code_on_load
            .iter()
            .find(|code| code.kind == kind && code.component == *name && code.path == *path)
    }
}

/// A file that can run code when it is loaded.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct CodeOnLoad {
    /// Kind of what it belongs to.
    pub kind: ComponentKind,
    /// Name of what it belongs to.
    pub component: RepoName,
    /// The file.
    pub path: BundlePath,
    /// In which form the code is there.
    pub form: CodeForm,
    /// The pattern of the plan that allows it. A form that only warns needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_by: Option<String>,
}

/// How a file runs code when it is loaded.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum CodeForm {
    /// A Python pickle: it names functions to call.
    Pickle,
    /// A zip archive with a pickle in it, as `torch.save` writes it.
    PickleInZip,
    /// A `NumPy` array of Python objects, which is a pickle.
    NumpyObjects,
    /// A Keras model with a `Lambda` layer, which is Python bytecode.
    KerasLambda,
    /// A name that pickles have; its content was not recognised.
    NameOnly,
    /// A Python program. It runs where someone passes `trust_remote_code`.
    Python,
    /// A configuration that names a Python program to run with `trust_remote_code`.
    RemoteCode,
}

impl CodeForm {
    /// Whether loading the file is enough. Otherwise someone must also ask for the code to be run.
    pub fn runs_unasked(self) -> bool {
        !matches!(self, Self::Python | Self::RemoteCode)
    }

    /// The name that JSON has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pickle => "pickle",
            Self::PickleInZip => "pickle-in-zip",
            Self::NumpyObjects => "numpy-objects",
            Self::KerasLambda => "keras-lambda",
            Self::NameOnly => "name-only",
            Self::Python => "python",
            Self::RemoteCode => "remote-code",
        }
    }
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
    /// What a wheel or a package of a system says of its licence, where that is no SPDX expression: then the licence is
    /// not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_stated: Option<String>,
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
    /// A container registry.
    Oci,
    /// A repository of an operating system's packages.
    OsRepository,
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
