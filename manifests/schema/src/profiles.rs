//! `meta/profiles.json`: which files make which model, dataset and backend once they are installed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Arch, BackendName, BundleName, BundlePath, ByteSize, Descriptor, Digest, Eula, GlibcVersion,
    HostItem, Image, OsPackages, Port, RepoName,
};

/// What a bundle can install.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Profiles {
    /// Version of this format: 1.
    pub format: u32,
    /// Name of the bundle.
    pub name: BundleName,
    /// Release number; it only grows within a channel.
    pub release: u64,
    /// What the release numbers count in, such as `stable`.
    pub channel: String,
    /// Models and datasets: installed whatever the backend.
    pub components: Vec<Component>,
    /// Backends: one of them is installed.
    pub backends: Vec<Backend>,
    /// Container images: those of the machine's architecture and backend are installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Packages of operating systems: the set for the machine's own is installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub os_packages: Vec<OsPackages>,
}

impl Profiles {
    /// The images that belong on a machine, each with what is for its architecture.
    pub fn images_for(&self, arch: Arch, backend: Option<&BackendName>) -> Vec<Image> {
        let images = self.images.iter();
        images
            .filter_map(|image| image.for_machine(arch, backend))
            .collect()
    }

    /// The blobs of all images, some more than once.
    pub fn image_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.images.iter().flat_map(Image::blobs)
    }
}

/// A model or a dataset.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Component {
    /// Which of the two.
    pub kind: ComponentKind,
    /// Its name, as users write it in a job file.
    pub name: RepoName,
    /// SPDX licence expression.
    pub license: String,
    /// Commit of its upstream repository, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Its files, below its own folder.
    pub files: Vec<PlacedFile>,
    /// The one of its files that is a model signature over the others (`OpenSSF` model signing 1.0). It lies in the
    /// plain folder alone, not in the Hugging Face cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<BundlePath>,
    /// A dataset's entry in `dataset_info.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_info: Option<serde_json::Value>,
    /// Terms that a person must accept before it is installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eulas: Vec<Eula<PlacedFile>>,
}

/// Kind of a [`Component`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComponentKind {
    /// Weights, tokenizer, configuration.
    Model,
    /// Examples to train on.
    Dataset,
}

/// What a chip needs to train: the runtime, its libraries, a Python environment.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Backend {
    /// Its name.
    pub name: BackendName,
    /// The chip's name in the chip tables, such as `cpu` or `ascend-910b`.
    pub chip: String,
    /// Architecture that its programs are for.
    pub arch: Arch,
    /// Oldest glibc that its programs run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glibc: Option<GlibcVersion>,
    /// Versions that must fit the machine's, such as `torch_npu` and `cann`.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// Its files, below `backend/`.
    pub files: Vec<PlacedFile>,
    /// Its Python environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<PythonEnvironment>,
    /// Signatures that vendors put beside their packages, all of them among `files`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<VendorSignature>,
    /// Terms that a person must accept before it is installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eulas: Vec<Eula<PlacedFile>>,
    /// The vendor's installers for the machine itself, in any order: the chip tables know the vendor's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<HostItem<PlacedFile>>,
    /// Ports that its services listen on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// A vendor's detached CMS signature over one of a backend's files. Checked where the bundle is built, and again on
/// site before the package is used.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VendorSignature {
    /// The file that was signed.
    pub package: BundlePath,
    /// The signature, as `.cms`.
    pub signature: BundlePath,
    /// Revocation lists, as `.crl`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<BundlePath>,
    /// The vendor's root certificate.
    pub root: BundlePath,
    /// SHA-256 of that certificate in DER: what `openssl x509 -noout -fingerprint -sha256` prints, without colons.
    pub root_digest: Digest,
}

/// Wheels from which the environment is made on site.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct PythonEnvironment {
    /// Python's version, such as `3.11`.
    pub version: String,
    /// Every distribution of the environment, as `name==version`.
    pub requirements: Vec<String>,
    /// Exactly the wheels of those distributions.
    pub wheels: Vec<PlacedFile>,
}

/// One file at its place.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PlacedFile {
    /// Where it goes, below the folder of what it belongs to.
    pub path: BundlePath,
    /// Whether it may be run.
    #[serde(default)]
    pub executable: bool,
    /// Bytes of the installed file.
    pub size: ByteSize,
    /// SHA-256 of the installed file.
    pub digest: Digest,
    /// How it is made, where it is not a blob as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_from: Option<MadeFrom>,
}

impl PlacedFile {
    /// The blob that the installed file is, or is made from.
    pub fn blob(&self) -> &Digest {
        self.made_from
            .as_ref()
            .map_or(&self.digest, |made| &made.blob)
    }
}

/// A file made from a blob by filling in its placeholders.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct MadeFrom {
    /// The blob.
    pub blob: Digest,
    /// Each `{{key}}` becomes its value.
    pub fill: BTreeMap<String, String>,
}

impl MadeFrom {
    /// Fills `source` in one pass: what a value brings in is not filled again.
    pub fn fill(&self, source: &str) -> String {
        self.fill_within(source, u64::MAX).unwrap_or_default()
    }

    /// Fills `source` like [`MadeFrom::fill`]. `None` where the result would be
    /// longer than `limit` bytes: a few placeholders can ask for more than a machine has.
    pub fn fill_within(&self, source: &str, limit: u64) -> Option<String> {
        let mut filled = String::new();
        let mut rest = source;
        let mut add = |text: &str| {
            let fits = (filled.len() + text.len()) as u64 <= limit;
            if fits {
                filled.push_str(text);
            }
            fits.then_some(())
        };
        while let Some(open) = rest.find("{{") {
            add(&rest[..open])?;
            let after = &rest[open + 2..];
            let value = after
                .find("}}")
                .and_then(|close| Some((close, self.fill.get(after[..close].trim())?)));
            if let Some((close, value)) = value {
                add(value)?;
                rest = &after[close + 2..];
            } else {
                add("{{")?;
                rest = after;
            }
        }
        add(rest)?;
        Some(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_once_and_strangers_are_left() {
        let fill = [("name", "{{author}}"), ("author", "渡")];
        let fill = fill
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let made = MadeFrom {
            blob: Digest::of(b""),
            fill,
        };
        let source = "I am {{name}} by {{author}}, {{x}} {{";
        let filled = "I am {{author}} by 渡, {{x}} {{";
        let length = filled.len() as u64;
        assert_eq!(made.fill(source), filled);
        assert_eq!(made.fill_within(source, length).as_deref(), Some(filled));
        assert_eq!(made.fill_within(source, length - 1), None);
    }
}
