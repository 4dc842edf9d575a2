//! `ferry.lock`: a plan with every file pinned to an address, a size and a SHA-256.
//!
//! The lock pins whole files as their upstreams publish them (artifacts). What is taken out of an archive is
//! pinned by the archive's digest and the member's name, so that locking fetches nothing large.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{Login, ManifestError, Other, WheelLicenses, read_not};
use crate::{
    Arch, ArchiveMember, BackendName, BundleName, BundlePath, ByteSize, ComponentKind, Digest,
    Eula, GlibcVersion, HostItem, Image, KeyId, OriginKind, PackageFormat, PackageName,
    PackageSetName, PackageVersion, Port, RepoName, VendorSignature, Wanted, check_host_items,
};

/// A plan whose every file is pinned.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Version of this format: 1.
    pub format: u32,
    /// SHA-256 of the plan.
    pub plan_digest: Digest,
    /// Name of the bundle.
    pub name: BundleName,
    /// Release number; it only grows within a channel.
    pub release: u64,
    /// What the release numbers count in.
    pub channel: String,
    /// Key that an inventory must be signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_key: Option<KeyId>,
    /// SPDX expressions of the licences that were accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept_licenses: Vec<String>,
    /// Whether the licences of wheels must be among them.
    #[serde(default, skip_serializing_if = "WheelLicenses::is_recorded")]
    pub wheel_licenses: WheelLicenses,
    /// Models and datasets.
    pub components: Vec<LockedComponent>,
    /// Backends.
    pub backends: Vec<LockedBackend>,
    /// The installer of each architecture.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub installers: BTreeMap<Arch, LockedFile>,
    /// Container images, as they were when they were locked. Each of their blobs is an artifact.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Registries that want a login, by address, and the environment variables that hold it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logins: BTreeMap<String, Login>,
    /// Packages of operating systems.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub os_packages: Vec<LockedOsPackages>,
    /// Every file to fetch, once, ordered by digest.
    pub artifacts: Vec<LockedArtifact>,
}

/// A model or a dataset.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LockedComponent {
    /// Which of the two.
    pub kind: ComponentKind,
    /// Its name, as users write it in a job file.
    pub name: RepoName,
    /// SPDX licence expression.
    pub license: String,
    /// Commit of its upstream repository, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Its files.
    pub files: Vec<LockedFile>,
    /// Patterns of files that may run code when they are loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_code_on_load: Vec<String>,
    /// Placeholders to fill in the files, and their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fill: BTreeMap<String, String>,
    /// A dataset's entry in `dataset_info.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_info: Option<serde_json::Value>,
    /// Terms that a person must accept before it is installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eulas: Vec<Eula<LockedFile>>,
}

/// A backend.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LockedBackend {
    /// Its name.
    pub name: BackendName,
    /// The chip's name in the chip tables.
    pub chip: String,
    /// Architecture that its programs are for.
    pub arch: Arch,
    /// Oldest glibc that its programs run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glibc: Option<GlibcVersion>,
    /// Versions that must fit the machine's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
    /// Files below `backend/`.
    pub files: Vec<LockedFile>,
    /// Its Python environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<LockedPython>,
    /// Signatures that vendors put beside their packages, all of them among `files`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<VendorSignature>,
    /// Terms that a person must accept before it is installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eulas: Vec<Eula<LockedFile>>,
    /// The vendor's installers for the machine itself, in any order: the chip tables know the vendor's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<HostItem<LockedFile>>,
    /// Ports that its services listen on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// A resolved Python environment.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPython {
    /// Python's version, such as `3.11`.
    pub version: String,
    /// Every distribution, as `name==version`.
    pub requirements: Vec<String>,
    /// The one wheel of each, in the same order.
    pub wheels: Vec<LockedFile>,
}

/// A set of packages of an operating system, with all that they need and the machine has not.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LockedOsPackages {
    /// Its name.
    pub name: PackageSetName,
    /// The system's name in the system tables.
    pub os: String,
    /// Its service pack or flavour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
    /// Architecture of the machines that it is for.
    pub arch: Arch,
    /// Which package manager it is for.
    pub format: PackageFormat,
    /// The kernel release that some of the packages are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// SHA-256 of the list of installed packages that was counted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<Digest>,
    /// Where the packages were found.
    pub repositories: Vec<LockedRepository>,
    /// What to install.
    pub wanted: Vec<Wanted>,
    /// What of it the machine has already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub present: Vec<Wanted>,
    /// Every package to carry, ordered by name.
    pub packages: Vec<LockedPackage>,
    /// The keys of the repositories, below the set's folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<LockedFile>,
}

/// A repository as it was when the lock was made.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LockedRepository {
    /// Its address.
    pub url: String,
    /// SHA-256 of its `repomd.xml`, `InRelease` or `Release`.
    pub metadata: Digest,
    /// Fingerprint of the key that signed that; absent where the plan accepts what nobody signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
}

/// One package of a set.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// Its architecture, as its package manager calls it.
    pub arch: String,
    /// Licence, in the packager's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The file.
    pub file: LockedFile,
}

/// One file, or a group of files out of one archive.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Where the file goes; for a group, the folder that its files go to.
    pub path: BundlePath,
    /// Whether it may be run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
    /// The artifact that it is, or is taken out of.
    pub artifact: Digest,
    /// The one member of the artifact to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Patterns of the members to take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// What to cut off the front of the members' names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strip: String,
}

/// A file as its upstream publishes it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LockedArtifact {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: ByteSize,
    /// Its name upstream.
    pub file_name: String,
    /// Kind of place.
    pub kind: OriginKind,
    /// Where it is, in the order to try.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Headers that the addresses ask for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers with a secret, and the environment variable that holds each. Only the first address's host sees them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_headers: BTreeMap<String, String>,
    /// A file that whoever builds must bring: where to get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bring_from: Option<String>,
    /// A file of this machine: its path, relative to the lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Project on a package index, or repository on a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Version of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Commit of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// SPDX licence expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Git's name of the bytes (SHA-1 of the blob), where the hub gives no SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_sha1: Option<String>,
    /// The tar at `path` that it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_of: Option<ArchiveMember>,
    /// The bytes themselves: a small text that was made while locking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Lock {
    /// Reads a lock and checks that every file names an artifact that it pins.
    ///
    /// # Errors
    /// Names the place, what was found there and what was expected.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let plan = Other {
            name: "plan",
            has: "name",
            lacks: "plan_digest",
        };
        let lock: Self = read_not(&plan, text)?;
        if lock.format != 1 {
            return Err(ManifestError::value("format", lock.format.to_string(), "1"));
        }
        let mut pinned = BTreeSet::new();
        for (position, artifact) in lock.artifacts.iter().enumerate() {
            let at = format!("artifacts[{position}]");
            if !pinned.insert(artifact.digest) {
                return Err(ManifestError::value(
                    format!("{at}.digest"),
                    format!("{} a second time", artifact.digest),
                    "each artifact once",
                ));
            }
            let placed = [&artifact.path, &artifact.bring_from, &artifact.text];
            if artifact.urls.is_empty() && placed.iter().all(|place| place.is_none()) {
                let expected = "`urls`, `path`, `bring_from` or `text`";
                return Err(ManifestError::value(at, "no place", expected));
            }
        }
        for (position, backend) in lock.backends.iter().enumerate() {
            let at = format!("backends[{position}].host");
            check_host_items(&backend.host, &backend.chip, &at, |file| &file.path)?;
        }
        for (at, file) in lock.files() {
            if !pinned.contains(&file.artifact) {
                return Err(ManifestError::value(
                    format!("{at}.artifact"),
                    file.artifact.to_string(),
                    "the digest of one of `artifacts`",
                ));
            }
        }
        for (position, image) in lock.images.iter().enumerate() {
            let missing = image.blobs().find(|blob| !pinned.contains(&blob.digest));
            if let Some(blob) = missing {
                return Err(ManifestError::value(
                    format!("images[{position}]"),
                    blob.digest.to_string(),
                    "the digest of one of `artifacts`",
                ));
            }
        }
        Ok(lock)
    }

    /// The lock as the bytes that are written: equal locks give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Its maps have texts as keys and its numbers are whole, so there is nothing that JSON cannot say.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Every file with its JSON path.
    fn files(&self) -> Vec<(String, &LockedFile)> {
        let mut files = Vec::new();
        for (position, component) in self.components.iter().enumerate() {
            for (number, eula) in component.eulas.iter().enumerate() {
                let at = format!("components[{position}].eulas[{number}].text");
                files.push((at, &eula.text));
            }
            for (number, file) in component.files.iter().enumerate() {
                files.push((format!("components[{position}].files[{number}]"), file));
            }
        }
        for (position, backend) in self.backends.iter().enumerate() {
            for (number, file) in backend.files.iter().enumerate() {
                files.push((format!("backends[{position}].files[{number}]"), file));
            }
            for (number, eula) in backend.eulas.iter().enumerate() {
                let at = format!("backends[{position}].eulas[{number}].text");
                files.push((at, &eula.text));
            }
            for (number, item) in backend.host.iter().enumerate() {
                let at = format!("backends[{position}].host[{number}]");
                let each = item.files();
                files.extend(each.map(|(field, file)| (format!("{at}.{field}"), file)));
            }
            for (number, file) in backend.python.iter().flat_map(|p| &p.wheels).enumerate() {
                files.push((
                    format!("backends[{position}].python.wheels[{number}]"),
                    file,
                ));
            }
        }
        for (arch, file) in &self.installers {
            files.push((format!("installers.{arch}"), file));
        }
        for (position, set) in self.os_packages.iter().enumerate() {
            let at =
                |list: &str, number: usize| format!("os_packages[{position}].{list}[{number}]");
            for (number, package) in set.packages.iter().enumerate() {
                files.push((at("packages", number), &package.file));
            }
            for (number, key) in set.keys.iter().enumerate() {
                files.push((at("keys", number), key));
            }
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_an_unpinned_artifact_is_named() {
        let pinned = Digest::of(b"pinned");
        let mut lock = serde_json::json!({
            "format": 1, "plan_digest": Digest::of(b"plan"), "name": "demo", "release": 1, "channel": "stable",
            "components": [{ "kind": "model", "name": "org/model", "license": "MIT",
                "files": [{ "path": "a", "artifact": pinned }] }],
            "backends": [],
            "artifacts": [{ "digest": pinned, "size": 6, "file_name": "a", "kind": "https",
                "urls": ["https://example.org/a"] }],
        });
        let text = serde_json::to_vec(&lock).unwrap();
        let read = Lock::parse(&text).unwrap();
        assert_eq!(Lock::parse(&read.to_bytes()).unwrap(), read);

        lock["components"][0]["files"][0]["artifact"] = Digest::of(b"other").to_string().into();
        let error = Lock::parse(&serde_json::to_vec(&lock).unwrap()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("components[0].files[0].artifact"),
            "{error}"
        );
    }
}
