//! Container images: names, platforms, and which blobs make one.
//!
//! ```text
//! root ──▶ an index, or the only manifest          what the name stood for upstream, byte for byte
//!   └─ platforms[] ─▶ manifest ─▶ config, layers
//! attached[] ─▶ manifest ─▶ blobs                  signatures, bills of materials, attestations of a subject
//! ```

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::ids::checked_text;
use crate::{Arch, BackendName, ByteSize, Digest, IdError};

checked_text! {
    /// Name of an image with its registry, such as `docker.io/library/debian`.
    ImageName, "an image name with its registry (such as `docker.io/library/debian`)",
    "^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$", is_image_name
}

checked_text! {
    /// Tag of an image.
    ImageTag, "a tag (letters, digits, `_`, `.` and `-`, at most 128)",
    "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", is_tag
}

checked_text! {
    /// Platform of an image: `os/architecture` or `os/architecture/variant`, as registries write it.
    Platform, "a platform (such as `linux/arm64`)", "^[a-z0-9._-]+/[a-z0-9._-]+(/[a-z0-9._-]+)?$", is_platform
}

impl ImageName {
    /// The registry: a host, with its port where it names one.
    pub fn registry(&self) -> &str {
        self.as_str()
            .split_once('/')
            .map_or("", |(registry, _)| registry)
    }

    /// The name within the registry.
    pub fn repository(&self) -> &str {
        self.as_str()
            .split_once('/')
            .map_or("", |(_, repository)| repository)
    }
}

impl Platform {
    /// Operating system, architecture, and variant where there is one.
    pub fn parts(&self) -> (&str, &str, Option<&str>) {
        let mut parts = self.as_str().split('/');
        let mut next = || parts.next();
        (
            next().unwrap_or_default(),
            next().unwrap_or_default(),
            next(),
        )
    }

    /// The architecture, where Ferry installs on it.
    pub fn arch(&self) -> Option<Arch> {
        match self.parts() {
            ("linux", "amd64", _) => Some(Arch::X86_64),
            ("linux", "arm64", _) => Some(Arch::Aarch64),
            _ => None,
        }
    }

    /// Whether `self`, as a person wrote it, means `found`: a variant that is not named may be any, and the one
    /// variant of 64-bit Arm, `v8`, need not be.
    pub fn means(&self, found: &Self) -> bool {
        let ((os, arch, variant), (found_os, found_arch, found_variant)) =
            (self.parts(), found.parts());
        let usual = (found_arch == "arm64").then_some("v8");
        (os, arch) == (found_os, found_arch)
            && (variant.is_none() || variant == found_variant.or(usual))
    }
}

/// A blob of an image, as a manifest names it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Descriptor {
    /// What its bytes are.
    pub media_type: String,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: ByteSize,
}

/// A container image.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Image {
    /// Its name with its registry.
    pub name: ImageName,
    /// Its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<ImageTag>,
    /// SPDX licence expression.
    pub license: String,
    /// Backends that need it; every one when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendName>,
    /// What the name stood for: an index, or the only manifest.
    pub root: Descriptor,
    /// What was taken of it, one for each platform.
    pub platforms: Vec<PlatformImage>,
    /// Signatures, bills of materials and attestations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<Attached>,
}

/// An image for one platform.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PlatformImage {
    /// The platform.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// A manifest that says something of another one.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Attached {
    /// The manifest or index that it speaks of.
    pub subject: Digest,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The tag by which it is found, where it is by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<ImageTag>,
    /// Its manifest.
    pub manifest: Descriptor,
    /// What the manifest names.
    pub blobs: Vec<Descriptor>,
}

impl Image {
    /// Name and tag, or digest, as container programs write it.
    pub fn reference(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.name),
            None => format!("{}@{}", self.name, self.root.digest),
        }
    }

    /// Tag, or digest where there is none.
    pub fn version(&self) -> String {
        let tag = self.tag.as_ref().map(ToString::to_string);
        tag.unwrap_or_else(|| self.root.digest.to_string())
    }

    /// Every blob, some more than once.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let platforms = self.platforms.iter().flat_map(PlatformImage::blobs);
        let attached = self.attached.iter();
        let attached =
            attached.flat_map(|one| std::iter::once(&one.manifest).chain(one.blobs.iter()));
        std::iter::once(&self.root).chain(platforms).chain(attached)
    }

    /// The image as a machine needs it: what is for its architecture, and what speaks of that. `None` where it is for
    /// other machines, or for other backends.
    pub fn for_machine(&self, arch: Arch, backend: Option<&BackendName>) -> Option<Self> {
        let needed = self.backends.is_empty() || backend.is_some_and(|b| self.backends.contains(b));
        let here = |one: &PlatformImage| one.platform.arch() == Some(arch);
        needed.then(|| self.with_platforms(here)).flatten()
    }

    /// The image with some of its platforms; `None` when none is left.
    pub fn with_platforms(&self, wanted: impl Fn(&PlatformImage) -> bool) -> Option<Self> {
        let mut image = self.clone();
        image.platforms.retain(wanted);
        let mut known: Vec<Digest> = vec![image.root.digest];
        known.extend(image.platforms.iter().map(|one| one.manifest.digest));
        // What is attached stands behind what it speaks of.
        image.attached.retain(|one| {
            let kept = known.contains(&one.subject);
            if kept {
                known.push(one.manifest.digest);
            }
            kept
        });
        (!image.platforms.is_empty()).then_some(image)
    }
}

impl PlatformImage {
    /// Manifest, configuration and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        [&self.manifest, &self.config]
            .into_iter()
            .chain(&self.layers)
    }
}

fn is_image_name(text: &str) -> bool {
    let Some((registry, repository)) = text.split_once('/') else {
        return false;
    };
    let (host, port) = match registry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    // A first part without a dot or a port is part of a short name, which means something else on every machine.
    let explicit = host.contains('.') || port.is_some() || host == "localhost";
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let port_is_one = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    text.len() <= 255
        && explicit
        && port_is_one
        && host.split('.').all(label)
        && repository.split('/').all(is_component)
}

/// Lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(inner) && text.bytes().last().is_some_and(inner);
    let mut runs = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && runs.all(|run| {
        matches!(run, "" | "." | "_" | "__") || (run.bytes().all(|b| b == b'-') && !run.is_empty())
    })
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_platform(text: &str) -> bool {
    let part = |part: &str| {
        (1..=32).contains(&part.len())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    (2..=3).contains(&text.split('/').count()) && text.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_registry_and_a_tag_its_letters() {
        for (name, good) in [
            ("docker.io/library/debian", true),
            ("localhost:5000/a", true),
            ("quay.io/ascend/vllm-ascend", true),
            ("a.b/c__d/e--f.g", true),
            ("library/debian", false),
            ("debian", false),
            ("docker.io/Library/debian", false),
            ("docker.io/a/../b", false),
            ("docker.io/a..b", false),
            ("docker.io//a", false),
            ("docker.io/a:1", false),
            ("docker.io:99999/a", false),
            ("user@docker.io/a", false),
        ] {
            assert_eq!(ImageName::parse(name).is_ok(), good, "{name}");
        }
        for (tag, good) in [
            ("v1.0-rc_1", true),
            ("", false),
            (".a", false),
            ("a/b", false),
        ] {
            assert_eq!(ImageTag::parse(tag).is_ok(), good, "{tag}");
        }
    }

    #[test]
    fn a_platform_means_those_that_it_does_not_rule_out() {
        for (wanted, found, same) in [
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm/v7", "linux/arm", false),
            ("linux/arm", "linux/arm/v6", true),
            ("linux/amd64", "windows/amd64", false),
        ] {
            let of = |text: &str| Platform::parse(text).unwrap();
            assert_eq!(of(wanted).means(&of(found)), same, "{wanted} {found}");
        }
    }

    #[test]
    fn a_machine_gets_its_platform_and_what_speaks_of_it() {
        let blob = |text: &str| Descriptor {
            media_type: "x".to_owned(),
            digest: Digest::of(text.as_bytes()),
            size: ByteSize(1),
        };
        let platform = |arch: &str| PlatformImage {
            platform: format!("linux/{arch}").parse().unwrap(),
            manifest: blob(arch),
            config: blob("config"),
            layers: vec![blob("layer")],
        };
        let attached = |subject: &str, name: &str| Attached {
            subject: Digest::of(subject.as_bytes()),
            artifact_type: None,
            tag: None,
            manifest: blob(name),
            blobs: Vec::new(),
        };
        let image = Image {
            name: "a.b/c".parse().unwrap(),
            tag: None,
            license: "MIT".to_owned(),
            backends: vec!["ascend".parse().unwrap()],
            root: blob("index"),
            platforms: vec![platform("amd64"), platform("arm64"), platform("s390x")],
            attached: vec![
                attached("index", "a"),
                attached("arm64", "b"),
                attached("amd64", "c"),
                attached("b", "d"),
            ],
        };
        let backend = "ascend".parse().unwrap();
        let here = image.for_machine(Arch::Aarch64, Some(&backend)).unwrap();
        assert_eq!(here.platforms, [platform("arm64")]);
        let names: Vec<_> = here.attached.iter().map(|one| &one.manifest).collect();
        assert_eq!(names, [&blob("a"), &blob("b"), &blob("d")]);
        assert_eq!(image.for_machine(Arch::Aarch64, None), None);
        let other = "cpu".parse().unwrap();
        assert_eq!(image.for_machine(Arch::X86_64, Some(&other)), None);
    }
}
