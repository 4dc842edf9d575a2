//! `plan.json`: what a bundle should hold, in the words of the person who wants it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Arch, BackendName, BundleName, BundlePath, Eula, GlibcVersion, HostItem, ImageName, ImageTag,
    KeyId, Platform, Port, RepoName, VendorSignature,
};

mod check;
mod error;
mod image;
mod packages;
mod source;

pub use error::ManifestError;
pub(crate) use error::{Other, read, read_not};
pub use image::{ImageSource, LocalImage, Login, OciSource};
pub use packages::{
    DebRepository, InstalledSource, KeySource, PlanOsPackages, Repository, RpmRepository,
};
pub use source::{
    ArchiveKind, FileSource, FolderSource, HttpsSource, HubSource, OwnSource, PypiSource, Source,
    WheelTarget,
};

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
    /// SPDX expressions of the licences that were read and accepted. Of an `OR`, one side is enough.
    #[serde(default)]
    pub accept_licenses: Vec<String>,
    /// Whether the licences of wheels must be among them too.
    #[serde(default, skip_serializing_if = "WheelLicenses::is_recorded")]
    pub wheel_licenses: WheelLicenses,
    /// Key that an inventory must be signed with, for a delta to be made from it or a system's packages to be chosen
    /// by it: what `ferry-installer inventory` showed on site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_key: Option<KeyId>,
    /// Models to carry.
    #[serde(default)]
    pub models: Vec<PlanComponent>,
    /// Datasets to carry.
    #[serde(default)]
    pub datasets: Vec<PlanComponent>,
    /// Backends to carry; a machine installs the one that fits it.
    #[serde(default)]
    pub backends: Vec<PlanBackend>,
    /// Container images to carry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<PlanImage>,
    /// The installer of each architecture.
    #[serde(default)]
    pub installers: BTreeMap<Arch, Source>,
    /// Packages of operating systems, such as what a driver is built with; a machine gets the set for its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub os_packages: Vec<PlanOsPackages>,
}

/// What is asked of the licences of wheels.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WheelLicenses {
    /// They are read and recorded.
    #[default]
    Recorded,
    /// Each must be known and accepted.
    Accepted,
}

impl WheelLicenses {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(crate) fn is_recorded(&self) -> bool {
        *self == Self::Recorded
    }
}

/// A container image.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanImage {
    /// Its name with its registry, such as `quay.io/ascend/cann`: what it is called here and on the target.
    pub name: ImageName,
    /// Its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<ImageTag>,
    /// SPDX licence expression.
    pub license: String,
    /// Backends that need it; a machine with any backend gets it when this is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendName>,
    /// Platforms to take, such as `linux/arm64`; all that there are when this is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// Take signatures, bills of materials and attestations too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub referrers: bool,
    /// Where it comes from.
    pub source: ImageSource,
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
    /// A repository on ModelScope. Beside `hub` it is a second place for the files that are the same there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modelscope: Option<HubSource>,
    /// Patterns of files that may run code when they are loaded (pickles, Keras lambdas): whoever made such a file can
    /// run anything on the machines that load it. Others of the kind are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_code_on_load: Vec<String>,
    /// Placeholders `{{key}}` to fill in the files, and their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fill: BTreeMap<String, String>,
    /// A dataset's entry in `dataset_info.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_info: Option<serde_json::Value>,
    /// Terms that a person must accept before it is installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eulas: Vec<Eula<PlanFile>>,
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
    /// Signatures that vendors put beside their packages, all of them among `files`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<VendorSignature>,
    /// Terms that a person must accept before it is installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eulas: Vec<Eula<PlanFile>>,
    /// The vendor's installers for the machine itself, in any order: the chip tables know the vendor's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<HostItem<PlanFile>>,
    /// Ports that its services listen on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// A Python environment, before its requirements are resolved.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanPython {
    /// Python's version, such as `3.11`.
    pub version: String,
    /// Requirements as pip writes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<String>,
    /// Files of requirements, relative to the plan: `requirements.txt`, `pylock.toml` or `uv.lock`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirement_files: Vec<String>,
    /// Wheels that no index has, such as a vendor's or your own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wheels: Vec<Source>,
    /// Patterns of projects that must not come in, such as `nvidia-*`. The chip's table adds its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbid: Vec<String>,
    /// Rules of the chip's table to leave aside, word for word as the error names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub override_rules: Vec<String>,
    /// An archive with a Python for the target, such as one of python-build-standalone. Without it the machine's own
    /// Python is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<Source>,
    /// Exact version of the uv that makes the environment on site [default: the newest]. A file `bin/uv` of the
    /// backend is used instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uv: Option<String>,
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

fn stable() -> String {
    "stable".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

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
                "`hub` or `modelscope`",
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
    fn a_web_address_shows_no_secret_and_its_headers_are_headers() {
        type Edit = fn(&mut serde_json::Value);
        let cases: [(Edit, &str, &str); 7] = [
            (
                |h| h["url"] = "ftp://example.org/a".into(),
                "https.url",
                "https://",
            ),
            (
                |h| h["url"] = "https://me:hush@example.org/a".into(),
                "https.url",
                "without",
            ),
            (
                |h| h["mirrors"] = serde_json::json!(["https://hush@b.org/@x"]),
                "https.url",
                "without",
            ),
            (
                |h| h["headers"]["Authorization"] = "hush".into(),
                "https.headers",
                "secret_headers",
            ),
            (
                |h| h["headers"]["Range"] = "bytes=1-".into(),
                "https.headers",
                "transfer",
            ),
            (
                |h| h["headers"]["A"] = "b\r\nC: d".into(),
                "https.headers",
                "printable",
            ),
            (
                |h| h["secret_headers"]["X"] = "hush".into(),
                "https.secret_headers",
                "VENDOR_TOKEN",
            ),
        ];
        for (edit, at, expected) in cases {
            let mut https = serde_json::json!({ "url": "https://example.org/a?b@c", "digest": Digest::of(b"a"),
                "headers": { "Referer": "https://example.org/" }, "secret_headers": { "X-Token": "TOKEN" } });
            let with = |https: &serde_json::Value| {
                plan(|p| {
                    p["models"][0]["files"][0]["source"] = serde_json::json!({ "https": https });
                })
            };
            with(&https).unwrap();
            edit(&mut https);
            let error = with(&https).unwrap_err().to_string();
            assert!(
                error.contains(at) && error.contains(expected),
                "{at}: {error}"
            );
            assert!(!error.contains("hush"), "{error}");
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
