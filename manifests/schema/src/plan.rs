//! `plan.json`: what a bundle should hold, in the words of the person who wants it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Arch, BackendName, BundleName, BundlePath, Digest, GlibcVersion, RepoName};

/// A bundle as it was asked for. `ferry-bundler lock` turns it into a [`crate::lock::Lock`].
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this format: 1.
    pub format: u32,
    /// Name of the bundle.
    pub name: BundleName,
    /// Release number; it only grows within a channel.
    pub release: u64,
    /// What the release numbers count in.
    #[serde(default = "stable")]
    pub channel: String,
    /// SPDX expressions of the licences that were read and accepted.
    #[serde(default)]
    pub accept_licenses: Vec<String>,
    /// Models to carry.
    #[serde(default)]
    pub models: Vec<PlanComponent>,
    /// Datasets to carry.
    #[serde(default)]
    pub datasets: Vec<PlanComponent>,
    /// Backends to carry; a machine installs the one that fits it.
    #[serde(default)]
    pub backends: Vec<PlanBackend>,
    /// The installer of each architecture.
    #[serde(default)]
    pub installers: BTreeMap<Arch, Source>,
}

/// A model or a dataset.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanComponent {
    /// Its name, as users write it in a job file.
    pub name: RepoName,
    /// SPDX licence expression.
    pub license: String,
    /// Files taken one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PlanFile>,
    /// A repository on the Hugging Face Hub, taken as a whole or by patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<HubSource>,
    /// Placeholders `{{key}}` to fill in the files, and their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fill: BTreeMap<String, String>,
    /// A dataset's entry in `dataset_info.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_info: Option<serde_json::Value>,
}

/// What one chip needs to train.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanBackend {
    /// Its name.
    pub name: BackendName,
    /// The chip's name in the chip tables, such as `cpu` or `ascend-910b`.
    pub chip: String,
    /// Architecture that its programs are for.
    pub arch: Arch,
    /// Oldest glibc that its programs run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glibc: Option<GlibcVersion>,
    /// Files below `backend/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PlanFile>,
    /// A Python environment, made on site from wheels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<PlanPython>,
    /// Versions that must fit the machine's, such as `torch_npu` and `cann`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
}

/// A Python environment, before its requirements are resolved.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanPython {
    /// Python's version, such as `3.11`.
    pub version: String,
    /// Requirements as pip writes them.
    pub requirements: Vec<String>,
    /// Patterns of projects that must not come in, such as `nvidia-*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbid: Vec<String>,
}

/// One file, or a group of files out of one archive.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// Where the file goes; for a group, the folder that its files go to.
    pub path: BundlePath,
    /// Whether it may be run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
    /// Where it comes from.
    pub source: Source,
}

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
}

impl Source {
    /// Whether the source stands for a group of files rather than for one.
    pub fn is_group(&self) -> bool {
        matches!(self, Self::Pypi(pypi) if !pypi.members.is_empty())
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
}

/// A file on the builder's machine.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// Its path, relative to the plan.
    pub path: String,
}

/// A repository on the Hugging Face Hub.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HubSource {
    /// Its name there.
    pub repo: RepoName,
    /// Branch, tag or commit.
    #[serde(default = "main_branch")]
    pub revision: String,
    /// Patterns of the files to take; all of them when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Patterns of the files to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

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

impl Plan {
    /// Reads a plan and checks that it makes sense in itself.
    ///
    /// # Errors
    /// Names the place, what was found there and what was expected.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let plan: Self = read(text)?;
        plan.check()?;
        Ok(plan)
    }

    /// Checks what the types alone cannot say.
    fn check(&self) -> Result<(), ManifestError> {
        if self.format != 1 {
            return Err(ManifestError::value("format", self.format.to_string(), "1"));
        }
        for (list, components) in [("models", &self.models), ("datasets", &self.datasets)] {
            let mut names = BTreeSet::new();
            for (position, component) in components.iter().enumerate() {
                let at = format!("{list}[{position}]");
                if !names.insert(&component.name) {
                    return Err(ManifestError::value(
                        format!("{at}.name"),
                        format!("`{}` a second time", component.name),
                        "each name once",
                    ));
                }
                component.check(&at, &self.accept_licenses)?;
            }
        }
        let mut names = BTreeSet::new();
        for (position, backend) in self.backends.iter().enumerate() {
            let at = format!("backends[{position}]");
            if !names.insert(&backend.name) {
                return Err(ManifestError::value(
                    format!("{at}.name"),
                    format!("`{}` a second time", backend.name),
                    "each name once",
                ));
            }
            backend.check(&at)?;
        }
        for (arch, source) in &self.installers {
            let at = format!("installers.{arch}");
            if source.is_group() {
                return Err(ManifestError::value(at, "a group of files", "one file"));
            }
            check_source(source, &at)?;
        }
        Ok(())
    }
}

impl PlanComponent {
    fn check(&self, at: &str, accepted: &[String]) -> Result<(), ManifestError> {
        if !accepted.contains(&self.license) {
            return Err(ManifestError::value(
                format!("{at}.license"),
                format!("`{}`, which was not accepted", self.license),
                "a licence that `accept_licenses` lists",
            ));
        }
        if self.files.is_empty() && self.hub.is_none() {
            return Err(ManifestError::value(at, "no files", "`files` or `hub`"));
        }
        for key in self.fill.keys() {
            if key.is_empty() || key.trim() != key || key.contains(['{', '}']) {
                return Err(ManifestError::value(
                    format!("{at}.fill"),
                    format!("the key `{key}`"),
                    "a word without braces or spaces around it",
                ));
            }
        }
        check_files(&self.files, at)
    }
}

impl PlanBackend {
    fn check(&self, at: &str) -> Result<(), ManifestError> {
        check_files(&self.files, at)?;
        if let Some(python) = &self.python {
            check_python_version(&python.version, &format!("{at}.python.version"))?;
        }
        Ok(())
    }
}

fn check_files(files: &[PlanFile], at: &str) -> Result<(), ManifestError> {
    let mut paths = BTreeSet::new();
    for (position, file) in files.iter().enumerate() {
        let at = format!("{at}.files[{position}]");
        // A folder may take several groups; a file has one source.
        if !file.source.is_group() && !paths.insert(&file.path) {
            return Err(ManifestError::value(
                format!("{at}.path"),
                format!("`{}` a second time", file.path),
                "each path once",
            ));
        }
        check_source(&file.source, &format!("{at}.source"))?;
    }
    Ok(())
}

fn check_source(source: &Source, at: &str) -> Result<(), ManifestError> {
    match source {
        Source::Pypi(pypi) => {
            if pypi.member.is_some() && !pypi.members.is_empty() {
                return Err(ManifestError::value(
                    format!("{at}.pypi"),
                    "`member` and `members`",
                    "one of the two",
                ));
            }
            if let Some(target) = &pypi.target {
                check_python_version(&target.python, &format!("{at}.pypi.target.python"))?;
            }
            for (key, text) in [("project", &pypi.project), ("version", &pypi.version)] {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+!".contains(&b);
                if text.is_empty() || !text.bytes().all(plain) {
                    return Err(ManifestError::value(
                        format!("{at}.pypi.{key}"),
                        format!("`{text}`"),
                        format!("the exact {key}, without operators or spaces"),
                    ));
                }
            }
        }
        Source::Https(https) => {
            for url in std::iter::once(&https.url).chain(&https.mirrors) {
                // Plain HTTP is as good here: the digest is pinned.
                if !url.starts_with("https://") && !url.starts_with("http://") {
                    return Err(ManifestError::value(
                        format!("{at}.https.url"),
                        format!("`{url}`"),
                        "an address that begins with `https://`",
                    ));
                }
            }
        }
        Source::File(file) => {
            if file.path.is_empty() {
                return Err(ManifestError::value(
                    format!("{at}.file.path"),
                    "nothing",
                    "a path",
                ));
            }
        }
    }
    Ok(())
}

fn check_python_version(version: &str, at: &str) -> Result<(), ManifestError> {
    let good = version
        .split_once('.')
        .is_some_and(|(major, minor)| major == "3" && minor.parse::<u8>().is_ok());
    if good {
        return Ok(());
    }
    Err(ManifestError::value(
        at,
        format!("`{version}`"),
        "a Python version such as `3.11`",
    ))
}

fn stable() -> String {
    "stable".to_owned()
}

fn main_branch() -> String {
    "main".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(edit: impl Fn(&mut serde_json::Value)) -> Result<Plan, ManifestError> {
        let mut plan = serde_json::json!({
            "format": 1, "name": "demo", "release": 1, "accept_licenses": ["Apache-2.0"],
            "models": [{ "name": "org/model", "license": "Apache-2.0", "files": [
                { "path": "a.gguf", "source": { "pypi": { "project": "a", "version": "1.0", "member": "a" } } },
            ]}],
            "backends": [{ "name": "cpu", "chip": "cpu", "arch": "x86_64", "glibc": "2.28",
                "python": { "version": "3.11", "requirements": ["numpy"] } }],
        });
        edit(&mut plan);
        Plan::parse(&serde_json::to_vec_pretty(&plan).unwrap())
    }

    #[test]
    fn a_plan_reads_and_writes_back() {
        let read = plan(|_| ()).unwrap();
        let text = serde_json::to_vec(&read).unwrap();
        assert_eq!(Plan::parse(&text).unwrap(), read);
        assert_eq!(read.channel, "stable");
    }

    #[test]
    fn a_bad_plan_names_the_place_the_value_and_what_it_should_be() {
        type Edit = fn(&mut serde_json::Value);
        let cases: [(Edit, &str, &str); 8] = [
            (|p| p["format"] = 2.into(), "format", "expected 1"),
            (|p| p["name"] = "No!".into(), "name", "bundle name"),
            (|p| p["colour"] = "red".into(), "colour", "unknown field"),
            (
                |p| p["models"][0]["license"] = "GPL-3.0-only".into(),
                "models[0].license",
                "accept_licenses",
            ),
            (
                |p| p["models"][0]["files"][0]["path"] = "../a".into(),
                "models[0].files[0].path",
                "relative path",
            ),
            (
                |p| p["models"][0]["files"] = serde_json::json!([]),
                "models[0]",
                "`files` or `hub`",
            ),
            (
                |p| p["backends"][0]["arch"] = "riscv64".into(),
                "backends[0].arch",
                "x86_64",
            ),
            (
                |p| p["backends"][0]["python"]["version"] = "2.7".into(),
                "backends[0].python.version",
                "3.11",
            ),
        ];
        for (edit, at, expected) in cases {
            let error = plan(edit).unwrap_err().to_string();
            assert!(error.contains(&format!("`{at}`")), "{at}: {error}");
            assert!(error.contains(expected), "{at}: {error}");
        }
    }

    #[test]
    fn a_wrong_shape_names_the_line() {
        let error = Plan::parse(b"{\n \"format\": \"one\"\n}").unwrap_err();
        assert!(
            matches!(&error, ManifestError::Shape { line: 2, at, .. } if at == "format"),
            "{error}"
        );
    }
}
